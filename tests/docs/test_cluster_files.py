"""The cluster files of the docs are what Ray's launcher takes, and the page's figures are the plan's."""

import re

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from sweeps.config.load import load_config
from tests.conftest import CHECKOUT

DOCS = CHECKOUT / "docs"
FILES = sorted((DOCS / "cluster").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_cluster_files_are_valid_and_ask_for_the_token(path):
    content = yaml.safe_load(path.read_text())
    validate_config(prepare_config(content))
    for node in ("head", "worker"):
        (start,) = [line for line in content[f"{node}_start_ray_commands"] if "ray start" in line]
        assert "RAY_AUTH_MODE=token" in start
    assert "--dashboard-host=127.0.0.1" in " ".join(content["head_start_ray_commands"])
    assert content["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_validation_finds_a_mistake():
    content = yaml.safe_load(FILES[0].read_text())
    with pytest.raises(Exception, match="Additional properties are not allowed"):
        validate_config(prepare_config({**content, "wrokers": 3}))
    assert [path.stem for path in FILES] == ["aws", "on-premise"]


def test_the_table_of_hours_follows_from_the_presets():
    page = (DOCS / "cluster.md").read_text()
    rates = [int(text.replace(",", "")) for text in re.search(r"one GPU \| views \|(.*)\|", page)[1].split("|")]
    rows = re.findall(r"^\| (relabel|students), `(\w+)(?: --ipc (\d+))?`(.*?) \| (.*?) M \|(.*)\|$", page, re.MULTILINE)
    assert len(rows) == 5
    for kind, preset, ipc, about, views, hours in rows:
        config = load_config(preset, {"images.ipc": int(ipc)} if ipc else {})
        num_images = config.num_classes * config.images.ipc
        count = num_images * config.views_per_image
        if kind == "students":
            budgets = len(config.search.budgets)
            trainings = config.search.trials * budgets + config.confirm.seeds * (budgets + 2 + 2 * budgets)
            assert f": {trainings} trainings" in about
            count = trainings * num_images * config.student.epochs
        assert float(views.replace(",", "")) == pytest.approx(count / 1e6, rel=1e-3)
        for rate, text in zip(rates, hours.split("|"), strict=True):
            assert float(text) == pytest.approx(count / rate / 3600, rel=0.05)
