"""What the docs show runs, and the files that they name exist."""

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer.main

from cli.main import app
from lpqld.codecs.topk import TopK
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode
from lpqld.labels.label_set import Labels
from lpqld.labels.manifest import Manifest
from lpqld.labels.relabel import Labeler, specify
from lpqld.labels.shards import decode_shard
from lpqld.models.fit import fit_teacher
from lpqld.models.fit_recipe import FitRecipe
from lpqld.models.teacher import Teacher
from lpqld.storage.files import canonical_json
from lpqld.views.rule import ViewRule
from tests.conftest import CHECKOUT, command_environment

ROOT = CHECKOUT


@pytest.fixture(scope="module")
def label_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small real label set: ten digits a class, ten views each, the five largest logits in steps."""
    train = ImageSet.open("digits:train")
    teacher = Teacher(*fit_teacher(train, FitRecipe("convnet", 15), seed=0))
    images = train.sample_per_class(10, seed=0)
    rule, device = ViewRule(crop_scale=(0.6, 1.0), flip=False), torch.device("cpu")
    spec = specify(teacher, images, rule, views_per_image=10, seed=0, batch_size=100, device=device)
    labeler = Labeler(teacher, images, rule, 0, device)
    shards = [decode_shard(spec, index, labeler.shard(spec, index)) for index in range(spec.num_shards)]
    folder = tmp_path_factory.mktemp("docs") / "labels"
    encode(Labels.of_shards(spec, shards), TopK(5, step=0.25)).write(folder)
    return folder


def test_the_example_loop_trains_a_student(label_folder):
    script = ROOT / "docs" / "examples" / "own_loop.py"
    command = [sys.executable, script, label_folder, "digits:train", "digits:test", "60"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert float(re.search(r"accuracy ([\d.]+)", output)[1]) > 0.7


@pytest.mark.parametrize(
    "launcher",
    [
        ["docs/examples/lightning_loop.py"],
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "docs/examples/ddp_loop.py"],
    ],
    ids=["lightning", "ddp"],
)
def test_other_trainers_train_a_student(label_folder, launcher):
    command = [sys.executable, *launcher, label_folder, "digits:train", "digits:test", "60"]
    done = subprocess.run(
        command, cwd=ROOT, env=command_environment(), check=False, capture_output=True, text=True, timeout=1200
    )
    found = re.search(r"accuracy ([\d.]+)", done.stdout)
    assert found, done.stderr[-2000:]
    assert float(found[1]) > 0.7


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"], ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#:]+?)\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_the_manifest_that_the_format_shows_is_one(tmp_path):
    shown = re.search(r"```json\n(.*?)```", (ROOT / "docs" / "label-format.md").read_text(), re.DOTALL)[1]
    content = canonical_json(json.loads(shown))
    (tmp_path / "manifest.json").write_bytes(content)
    found = Manifest.read(tmp_path)
    assert f"one line of {len(content):,} bytes" in (ROOT / "docs" / "label-format.md").read_text()
    assert (found.spec.num_views, found.to_bytes()) == (250, content)


def test_files_that_the_architecture_names_exist():
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"\b((?:lpqld|sweeps|cli|tests)/[\w/.]+\.py)\b", text)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def walks() -> list[list[tuple[str, str]]]:
    """The walks of the architecture page, each a list of files and what to read there."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.partition("## Four walks")[2].partition("\n## ")[0]
    return [re.findall(r"^\d+\. `([\w/]+\.py)`: `(\w+)`", walk, re.MULTILINE) for walk in section.split("\n**")[1:]]


@pytest.mark.parametrize("walk", walks(), ids=lambda walk: f"to {walk[-1][0]}")
def test_a_walk_names_what_is_there_and_never_comes_back(walk):
    assert len(walk) >= 10
    for file, name in walk:
        tree = ast.walk(ast.parse((ROOT / file).read_text()))
        defined = {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert name in defined, f"{file}: {name}"
    files = [file for file, _ in walk]
    assert len(set(files)) == len(files)


def test_there_are_four_walks():
    assert len(walks()) == 4


def shown_commands(page: Path) -> list[list[str]]:
    """The `lpqld` lines of a page's code blocks, lines that go on joined, comments and what follows a pipe left out."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("lpqld ")]


@pytest.mark.parametrize("page", [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"], ids=lambda page: page.name)
def test_commands_that_a_page_shows_have_the_options_that_they_use(page):
    for words in shown_commands(page):
        command = typer.main.get_command(app)
        rest = list(words)
        while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
            name = rest.pop(0)
            assert name in command.commands, f"{page.name}: lpqld {' '.join(words)}"
            command = command.commands[name]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in rest if re.match(r"--[a-z]", word)}
        assert used <= known | {"--help"}, f"{page.name}: lpqld {' '.join(words)}"


def test_commands_are_found_in_pages():
    assert ["sweep", "mine.yaml", "--budget", "50MB", "--budget", "5MB", "--trials", "20", "--set",
            "student.epochs=300"] in shown_commands(ROOT / "README.md")  # fmt: skip
    assert len(shown_commands(ROOT / "docs" / "reproduce.md")) > 8
