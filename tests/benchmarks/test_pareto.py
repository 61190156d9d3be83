"""The tables of benchmarks/pareto: rows that can be made, results that are of rows, a page that has those results."""

import importlib
import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import CHECKOUT

FOLDER = CHECKOUT / "benchmarks" / "pareto"
RESULTS = FOLDER / "results"
TABLES = ["cifar10-10", "cifar10-25", "cifar10-50", "tiny200-10", "tiny200-10-64px", "in1k-10"]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The scripts as modules, with their neighbours."""
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("data_sets", "rows", "pareto", "report", "ideas", "explore", "search")
    return SimpleNamespace(**{name: importlib.import_module(name) for name in names})


def data_set(scripts: Any, folder: str) -> Any:
    """The data set of a table, or of a folder of results."""
    name, _, epochs = folder.partition("-e")
    (data,) = [data for data in scripts.data_sets.DATA_SETS if data.name == name]
    return replace(data, epochs=int(epochs or data.epochs))


@pytest.mark.parametrize("name", TABLES)
class TestRows:
    def test_each_has_a_file_and_follows_what_it_needs(self, scripts, name):
        data = data_set(scripts, name)
        rows = scripts.rows.rows_of(data)
        files = [scripts.pareto.result_file(data, row) for row in rows]
        assert len(set(files)) == len(files)
        for number, row in enumerate(rows):
            assert row.budget_of in (None, *(other.name for other in rows[:number]))

    @pytest.mark.parametrize("factor", [40, 80, 200])
    def test_the_papers_labels_fill_their_share_of_the_references_files(self, scripts, name, factor):
        data = replace(data_set(scripts, name), only=frozenset())
        (row,) = [row for row in scripts.rows.rows_of(data) if row.name == f"LPQLD x{factor}, the paper's setting"]
        budget = scripts.rows.all_bytes(data) // factor
        # One batch more would not fit: 100 views and a container.
        assert 0.7 * budget < row.reference_bytes <= budget


@pytest.mark.parametrize("folder", sorted(path.name for path in RESULTS.iterdir() if "-e" in path.name))
class TestResults:
    def test_each_is_a_row_of_three_seeds_at_most_of_its_budget(self, scripts, folder):
        data = data_set(scripts, folder)
        rows = {scripts.pareto.file_name(row.name): row for row in scripts.rows.rows_of(data)}
        for path in (RESULTS / folder).glob("*.json"):
            row, found = rows[path.stem], json.loads(path.read_bytes())
            assert found["row"] == row.name
            assert found["accuracy"]["n"] == found["val_accuracy"]["n"] == 3
            assert found["recipe"]["epochs"] == data.epochs
            budget = int(row.labels.get("budget", found["label_bytes"]))
            assert found["label_bytes"] <= budget
            assert row.total is None or found["label_bytes"] + found["image_bytes"] <= row.total
            assert found["reference_bytes"] == row.reference_bytes
            # Of this machine there is nothing: data are named from their folder on.
            assert not re.search(r"(^|\s)/\w", " ".join(found["commands"]))

    def test_ideas_are_those_of_the_script(self, scripts, folder):
        names = {scripts.pareto.file_name(idea.name) for idea in scripts.ideas.IDEAS}
        found = {path.stem.rpartition("-seed")[0] for path in (RESULTS / folder / "ideas").glob("*.json")}
        assert found <= names

    def test_they_are_a_sweeps_result_with_a_front(self, scripts, folder):
        data = data_set(scripts, folder)
        rows = {row.name: row for row in scripts.rows.rows_of(data)}
        there = {name: row for name, row in rows.items() if scripts.pareto.result_file(data, row).exists()}
        result = scripts.report.result_of(
            data, {name: (row, scripts.report.read(data, row)) for name, row in there.items()}
        )
        table = [name for name, row in there.items() if row.group == "table" and row.source != scripts.data_sets.TWO]
        ours = [name for name in table if name.startswith("ours")]
        assert len(result.points) == len(ours)
        assert any(point.on_front for point in result.points) == bool(ours)


def test_candidates_are_those_of_the_script_and_fit_their_part_of_the_budget(scripts):
    candidates = {scripts.explore.path_of(candidate): candidate for candidate in scripts.explore.CANDIDATES}
    assert len(candidates) == len(scripts.explore.CANDIDATES)
    (data,) = [data for data in scripts.data_sets.DATA_SETS if data.name == "tiny200-10"]
    budget = scripts.rows.all_bytes(data) // 80
    found = list(next(iter(candidates)).parent.glob("*.json"))
    assert found
    for path in found:
        candidate, result = candidates[path], json.loads(path.read_bytes())
        assert result["candidate"] == candidate.name
        assert not candidate.part or result["label_bytes"] <= candidate.part * budget


def test_the_page_has_the_committed_results(scripts):
    page = (CHECKOUT / "docs" / "findings.md").read_text()
    shown = [line for line in page.splitlines() if re.match(r"\| .* ± ", line)]
    assert shown
    made: set[str] = set()
    for folder in (path.name for path in RESULTS.iterdir() if "-e" in path.name):
        data = data_set(scripts, folder)
        made |= set(scripts.pareto.markdown(data, scripts.rows.rows_of(data)).splitlines())
        made |= set(scripts.ideas.markdown(data, scripts.ideas.IDEAS).splitlines())
    searches = set(scripts.search.markdown(scripts.search.METHODS, seeds=3).splitlines())
    assert searches <= set(page.splitlines())
    made |= searches
    assert [line for line in shown if line not in made] == []
