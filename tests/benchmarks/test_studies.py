"""The studies of benchmarks/studies.py: made by its settings, and docs/studies-findings.md has their tables."""

import importlib
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import CHECKOUT

RESULTS = sorted((CHECKOUT / "benchmarks" / "studies").glob("*/*/result.json"))
BEST_OF_TEST = sorted((CHECKOUT / "benchmarks" / "studies").glob("*/best_of_test.json"))
_SCRIPTS = ("best_of_test", "studies", "study_tables")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The scripts as modules, with their neighbours."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "benchmarks"))
    return SimpleNamespace(**{name: importlib.import_module(name) for name in _SCRIPTS})


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_results_are_of_the_scripts_settings(scripts, path):
    data, name = path.parts[-3:-1]
    result = json.loads(path.read_text())
    assert result["study"] == name
    assert result["settings"] == scripts.studies.settings_of(data, name)
    assert all(case["accuracy"]["n"] >= 3 for case in result["cases"])
    assert {file.name for file in path.parent.iterdir()} == {"result.json", "table.md", "figure.png"}


def test_the_page_has_the_committed_tables(scripts):
    page = (CHECKOUT / "docs" / "studies-findings.md").read_text()
    shown = {line for line in page.splitlines() if re.match(r"\| .* ± ", line)}
    made = {
        line for path in RESULTS for line in scripts.study_tables.pivot(json.loads(path.read_text())).splitlines()[2:]
    }
    for path in BEST_OF_TEST:
        made |= set(scripts.best_of_test.as_text(json.loads(path.read_text())["rows"]).splitlines()[2:])
    assert shown <= made
    assert shown or not RESULTS


def test_a_table_names_what_varies_and_marks_what_validation_chose(scripts):
    def case(accuracy: float, **params: Any) -> dict[str, Any]:
        found = {"mean": accuracy, "std": 0.01, "n": 3, "values": []}
        beside = None if "edit" not in params else {**found, "mean": accuracy - 0.2}
        return {"case": params, "accuracy": found, "beside_unchanged": beside}

    cases = [case(0.2, ipc=1, epoch=2), case(0.1, ipc=1, edit="hard"), case(0.3, ipc=5, epoch=2)]
    cases.append(case(0.25, ipc=1, epoch=2, edit="softened", value=4.0))
    study = {"cases": cases, "chosen": {"1": cases[0], "5": cases[2]}}
    assert scripts.study_tables.pivot(study).splitlines() == [
        "| images of a class | 1 | 5 |",
        "|---|---:|---:|",
        "| soft | **20.0 ± 1.0** | **30.0 ± 1.0** |",
        "| hard | 10.0 ± 1.0 (-10.0 ± 1.0) |  |",
        "| softened 4 | 25.0 ± 1.0 (+5.0 ± 1.0) |  |",
    ]
    cases.append(case(0.4, ipc=5, epoch=9, members=2))
    rows = scripts.study_tables.pivot(study).splitlines()[2:]
    assert rows[0].startswith("| epoch 2 |")
    assert rows[-1] == "| epoch 9, 2 experts |  | 40.0 ± 1.0 |"


def test_a_table_tells_what_became_of_the_removed_class(scripts):
    found = {"mean": 0.2, "std": 0.01, "n": 3, "values": []}
    case = {"case": {"ipc": 5, "removed": 3}, "accuracy": found, "beside_unchanged": None}
    table = scripts.study_tables.pivot({"cases": [{**case, "class_accuracy": {**found, "mean": 0.1}}], "chosen": {}})
    assert table.splitlines()[-1] == "| control | 10.0 ± 1.0 of the class, 20.0 ± 1.0 of all |"


def test_the_best_of_several_test_evaluations_stands_beside_the_last(scripts):
    row = {"ipc": 5, "last": [0.2, 0.3, 0.4], "validation chose": [0.2, 0.3, 0.4], "best of test": [0.21, 0.32, 0.43]}
    assert scripts.best_of_test.as_text([row]).splitlines()[-1] == (
        "| 5 | 30.0 ± 10.0 | 30.0 ± 10.0 (+0.0 ± 0.0) | 32.0 ± 11.0 (+2.0 ± 1.0) |"
    )
