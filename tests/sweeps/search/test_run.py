"""The search on Ray Tune: every trial once, mistakes told at once."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from lpqld.errors import ConfigError, DataError
from sweeps.cluster.resources import TrialResources
from sweeps.config.sweep import PaperConfig, SearchConfig
from sweeps.search.choice_kinds import AllLabels
from sweeps.search.confirmation import confirm
from sweeps.search.run import search
from sweeps.search.shared import Shared
from sweeps.search.spaces import spaces_for
from sweeps.search.trial import TrialResult

BUDGETS = (6000, 2600)
ONE_CPU = TrialResources(1, 0)
SEARCH = SearchConfig(trials=3, k=(2, 3, 10), bits=(3, 4, 8), lr=(0.001, 0.006))


@pytest.mark.usefixtures("ray_cluster")
class TestTune:
    def run(self, shared: Shared, folder: Path, heard: list[TrialResult]) -> list[TrialResult]:
        spaces = spaces_for(BUDGETS, SEARCH, shared)
        data = ray.put(shared)
        return search(data, spaces, SEARCH, PaperConfig(), ONE_CPU, folder, seed=0, on_result=heard.append)

    def test_search_and_search_again(self, small_shared, tmp_path):
        heard: list[TrialResult] = []
        found = self.run(small_shared, tmp_path, heard)
        assert sorted(result.choice.budget for result in found) == sorted([*BUDGETS] * SEARCH.trials)
        assert all(result.label_bytes <= result.choice.budget for result in found)
        assert {result.choice for result in heard} == {result.choice for result in found}
        assert len(heard) == len({result.choice for result in heard})
        assert all(any(r.finished for r in found if r.choice.budget == budget) for budget in BUDGETS)
        files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()}
        told = list(tmp_path.glob("tune/search/*/result.json"))
        pids = {json.loads(line)["pid"] for path in told for line in path.read_text().splitlines()}
        assert len(told) == len(found)
        assert len(pids) <= 2, "a process a trial would cost seconds of imports each"
        lost = next((tmp_path / "trials").iterdir())
        kept = lost.read_bytes()
        lost.unlink()
        with pytest.raises(DataError, match=rf"{lost.name}: a trial of this search ended .* delete .*search\.pkl"):
            self.run(small_shared, tmp_path, [])
        lost.write_bytes(kept)
        files[lost.name] = lost.stat().st_mtime_ns
        heard_again: list[TrialResult] = []
        again = self.run(small_shared, tmp_path, heard_again)
        assert {result.choice for result in heard_again} == {result.choice for result in found}
        assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "trials").iterdir()} == files
        assert {result.choice: result.val_accuracy for result in again} == {
            result.choice: result.val_accuracy for result in found
        }

    def test_a_state_that_cannot_be_kept_ends_the_search(self, small_shared, tmp_path):
        (tmp_path / "search.pkl").mkdir()
        with pytest.raises(ConfigError, match=r"cannot write .*search\.pkl: "):
            self.run(small_shared, tmp_path, [])

    def test_a_mistake_ends_the_search_at_once_and_mended_it_goes_on(self, small_shared, tmp_path):
        broken = replace(small_shared, recipe=replace(small_shared.recipe, architecture="no_such_network"))
        with pytest.raises(ConfigError, match=r"^(?!.*Traceback).*no_such_network") as caught:
            self.run(broken, tmp_path, [])
        assert type(caught.value) is ConfigError
        assert not list((tmp_path / "trials").glob("*.json"))
        quick = replace(small_shared, recipe=replace(small_shared.recipe, epochs=1))
        assert len(self.run(quick, tmp_path, [])) == len(BUDGETS) * SEARCH.trials

    def test_a_mistake_in_a_confirmation_is_that_error(self, small_shared, tmp_path):
        broken = replace(small_shared, recipe=replace(small_shared.recipe, architecture="no_such_network"))
        with pytest.raises(ConfigError, match=r"^(?!.*Traceback).*no_such_network") as caught:
            confirm([AllLabels()], range(1), ray.put(broken), ONE_CPU, tmp_path, on_result=print)
        assert type(caught.value) is ConfigError

    @pytest.mark.parametrize("wanted", [TrialResources(3, 0), TrialResources(1, 0.25)], ids=["cpus", "gpu"])
    def test_more_than_a_node_has_is_an_error_at_once(self, small_shared, tmp_path, wanted):
        spaces, data = spaces_for(BUDGETS[:1], SEARCH, small_shared), ray.put(small_shared)
        with pytest.raises(ConfigError, match=r"no node of this Ray cluster has them \(at most 2 CPUs, 0 GPUs\)"):
            search(data, spaces, SEARCH, PaperConfig(), wanted, tmp_path, seed=0, on_result=print)
        with pytest.raises(ConfigError, match=r"at most 2 CPUs"):
            confirm([AllLabels()], range(1), data, wanted, tmp_path, on_result=print)
