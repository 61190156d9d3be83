"""The search: budgets that are never exceeded, fair shares of trials, comparisons within a budget only."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from lpqld.codec import TopK
from lpqld.compress import encode
from lpqld.errors import ConfigError, DataError
from lpqld.recipe import Recipe
from lpqld.training import EpochMetrics
from sweeps.budget_scheduler import BudgetScheduler
from sweeps.budget_search import BudgetSearch
from sweeps.choice import Choice, Shared, choose_labels, smallest_budget
from sweeps.config import PaperConfig, SearchConfig
from sweeps.resources import TrialResources
from sweeps.search import confirm, search
from sweeps.spaces import choice_of, spaces_for
from sweeps.trial import TrialResult

BUDGETS = (6000, 2600)
ONE_CPU = TrialResources(1, 0)
RECIPE = Recipe(lr=0.002)
SEARCH = SearchConfig(trials=3, k=(2, 3, 10), bits=(3, 4, 8), lr=(0.001, 0.006))


def budget_search(small_shared, trials: int = 8, **changed: object) -> BudgetSearch:
    spaces = spaces_for(BUDGETS, SEARCH, small_shared)
    points = [space.first_points(PaperConfig(), 10, RECIPE) for space in spaces]
    return BudgetSearch(spaces, SEARCH.model_copy(update={"trials": trials, **changed}), points, seed=0)


class TestSpace:
    def test_codecs_of_a_budget_fit_with_any_recipe(self, small_shared):
        for space in spaces_for(BUDGETS, SEARCH, small_shared):
            for codec, k, bits in space.codecs:
                config = {"k": k, f"codec_of_{k}": codec, f"bits_of_{k}_{codec}": bits, "budget": space.budget}
                config |= {"shape": "cosine", "ca": "paper", "start": 12.3456, "end": 1.23456, "lr": 0.000123456}
                choice = choice_of(config)
                assert choose_labels(choice, small_shared).label_bytes <= space.budget

    def test_smaller_budgets_have_fewer_codecs(self, small_shared):
        large, small = spaces_for(BUDGETS, SEARCH, small_shared)
        assert set(small.codecs) <= set(large.codecs)
        needed = smallest_budget(Choice("search", k=10, bits=8), small_shared)
        (tight,) = spaces_for((needed - 1,), SEARCH, small_shared)
        assert ("topk", 2, 3) in tight.codecs
        assert ("topk", 10, 8) not in tight.codecs

    def test_impossible_budget_says_the_smallest_that_works(self, small_shared):
        with pytest.raises(ConfigError, match=r"budget 300 B is smaller than one label per image") as caught:
            spaces_for((6000, 300), SEARCH, small_shared)
        smallest = int(re.search(r"the smallest that works is (\d+) bytes", str(caught.value))[1])
        (space,) = spaces_for((smallest,), SEARCH, small_shared)
        assert len(space.codecs) == 1
        with pytest.raises(ConfigError, match=f"the smallest that works is {smallest} bytes"):
            spaces_for((smallest - 1,), SEARCH, small_shared)

    def test_k_beyond_the_labels_is_refused(self, small_shared):
        with pytest.raises(ConfigError, match=r"search\.k \[20\]: the labels hold 10 classes"):
            spaces_for(BUDGETS, replace_k(SEARCH, (2, 20)), small_shared)

    def test_what_is_said_of_other_classes_is_chosen_but_where_all_are_kept(self, small_shared):
        wide = SEARCH.model_copy(update={"codec": ("topk", "topk-share", "topk-tail")})
        absent = {"topk": "none", "topk-share": "share", "topk-tail": "tail"}
        (space,) = spaces_for((6000,), wide, small_shared)
        assert {name for name, k, _ in space.codecs if k == 3} == {"topk", "topk-share", "topk-tail"}
        assert {name for name, k, _ in space.codecs if k == 10} == {"topk"}
        search = BudgetSearch([space], wide.model_copy(update={"trials": 24}), [[]], seed=0)
        choices = [choice_of(search.suggest(str(index))) for index in range(24)]
        assert {choice.codec for choice in choices} == {"topk", "topk-share", "topk-tail"}
        for choice in choices:
            found = choose_labels(choice, small_shared)
            assert found.label_bytes <= 6000
            assert found.labels.spec.codec.absent == absent[choice.codec]
        (whole,) = spaces_for((6000,), replace_k(wide, (10,), codec=("topk-share",)), small_shared)
        assert {name for name, *_ in whole.codecs} == {"topk"}

    def test_directions_are_chosen_as_classes_are(self, small_shared):
        wide = replace_k(SEARCH, (2, 3, 10), codec=("topk", "lowrank"))
        (space,) = spaces_for((6000,), wide, small_shared)
        assert {(name, k) for name, k, _ in space.codecs} == {(n, k) for n in wide.codec for k in (2, 3)} | {
            ("topk", 10)
        }
        search = BudgetSearch([space], wide.model_copy(update={"trials": 12}), [[]], seed=0)
        choices = {choice_of(search.suggest(str(index))) for index in range(12)}
        low = [choose_labels(choice, small_shared) for choice in choices if choice.codec == "lowrank"]
        assert low
        assert {found.labels.spec.codec.rank for found in low} <= {2, 3}
        assert max(found.label_bytes for found in low) <= 6000

    def test_labels_that_lack_what_a_codec_needs_are_refused(self, small_shared):
        few = replace(small_shared, labels=encode(small_shared.labels, TopK(5)).decode())
        wide = SEARCH.model_copy(update={"codec": ("topk", "topk-share"), "k": (2, 3)})
        with pytest.raises(ConfigError, match=r"nothing of the others.*use codec topk"):
            spaces_for((6000,), wide, few)

    def test_first_points_are_the_papers_temperatures_and_the_recipes_own(self, small_shared):
        wide = SEARCH.model_copy(update={"temperature_start": (4.0, 50.0)})
        (space,) = spaces_for((6000,), wide, small_shared)
        own = Recipe(temperature="100", ca="off", lr=0.1)
        at_once = {"shape": "constant", "start": 50.0, "ca": "off", "lr": 0.006}
        paper, few, ours = space.first_points(PaperConfig(k=200), 10, own)
        assert (paper["k"], paper["shape"], paper["start"], paper["end"]) == (2, "step", 20.0, 2.0)
        assert few == {"k": 2, "codec_of_2": "topk", "bits_of_2_topk": 4, **at_once}
        codec = {"k": 10, "codec_of_10": "topk", "bits_of_10_topk": 4}
        assert ours == {**codec, **at_once}
        assert choice_of({**ours, "budget": 6000}).temperature == "50"
        falling = Recipe(temperature="30:0.1:cosine", ca="fit", lr=0.002)
        _, _, ours = space.first_points(PaperConfig(k=200), 10, falling)
        assert (ours["shape"], ours["start"], ours["end"], ours["ca"]) == ("cosine", 30.0, 0.5, "fit")

    def test_first_points_take_no_directions_for_the_papers_classes(self, small_shared):
        wide = replace_k(SEARCH, (2, 3), codec=("lowrank", "topk"), bits=(3, 4, 5, 8))
        (space,) = spaces_for((6000,), wide, small_shared)
        paper, ours = space.first_points(PaperConfig(k=200), 10, RECIPE)
        assert (paper["codec_of_2"], paper["bits_of_2_topk"]) == ("topk", 4)
        assert (ours["codec_of_3"], ours["bits_of_3_lowrank"]) == ("lowrank", 5)
        (alone,) = spaces_for((6000,), replace_k(wide, (2, 3), codec=("lowrank",)), small_shared)
        assert alone.first_points(PaperConfig(k=200), 10, RECIPE)[0]["codec_of_2"] == "lowrank"

    def test_first_point_is_the_papers_temperature(self, small_shared):
        search = budget_search(small_shared)
        first = search.suggest("a")
        assert (first["budget"], first["shape"], first["start"], first["end"]) == (2600, "step", 20.0, 2.0) or (
            first["budget"] == 6000 and first["start"] == 20.0
        )


def replace_k(config: SearchConfig, k: tuple[int, ...], **changed: object) -> SearchConfig:
    return SearchConfig(**{**config.model_dump(), "k": k, **changed})


class TestBudgetSearch:
    def test_budgets_get_equal_numbers_of_trials_then_it_ends(self, small_shared):
        search = budget_search(small_shared)
        budgets = []
        for index in range(16):
            suggestion = search.suggest(f"t{index}")
            budgets.append(suggestion["budget"])
            search.on_trial_complete(f"t{index}", {"val_accuracy": 0.5, "training_iteration": 10})
        assert budgets.count(6000) == budgets.count(2600) == 8
        assert all(abs(budgets[:n].count(6000) - budgets[:n].count(2600)) <= 1 for n in range(16))
        assert search.suggest("more") == BudgetSearch.FINISHED

    def test_every_suggestion_is_a_choice_within_its_budget(self, small_shared):
        search = budget_search(small_shared)
        for index in range(16):
            choice = choice_of(search.suggest(f"t{index}"))
            assert choose_labels(choice, small_shared).label_bytes <= choice.budget
            small_shared.recipe_of(choice)
            search.on_trial_complete(f"t{index}", {"val_accuracy": index / 16, "training_iteration": 10})

    def test_what_is_best_at_one_budget_is_tried_at_another(self, small_shared):
        search = budget_search(small_shared)
        suggested = {6000: [], 2600: []}
        shared = 0
        for index in range(16):
            suggestion = search.suggest(f"t{index}")
            budget = suggestion.pop("budget")
            other = 8600 - budget
            shared += suggestion in suggested[other]
            suggested[budget].append(suggestion)
            search.on_trial_complete(f"t{index}", {"val_accuracy": suggestion["lr"]})
        assert shared >= 2
        assert all(found.count(params) == 1 for found in suggested.values() for params in found), "none twice"

    def test_random_search_neither_begins_nor_shares(self, small_shared):
        search = budget_search(small_shared, sampler="random")
        suggested = {6000: [], 2600: []}
        for index in range(16):
            suggestion = search.suggest(f"t{index}")
            suggested[suggestion.pop("budget")].append(suggestion)
            search.on_trial_complete(f"t{index}", {"val_accuracy": suggestion["lr"]})
        assert not [params for params in suggested[6000] if params in suggested[2600]]
        points = [space.first_points(PaperConfig(), 10, RECIPE) for space in spaces_for(BUDGETS, SEARCH, small_shared)]
        assert not [params for params in suggested[6000] if params in points[0]]

    def test_a_failed_trial_that_is_resumed_counts_once(self, small_shared):
        search = budget_search(small_shared)
        search.suggest("a")
        search.on_trial_complete("a", error=True)
        search.on_trial_complete("a", {"val_accuracy": 0.5})
        search.on_trial_complete("a", {"val_accuracy": 0.6})
        assert [search.suggest(f"t{index}") is not None for index in range(15)] == [True] * 15
        assert search.suggest("more") == BudgetSearch.FINISHED

    def test_restored_search_goes_on_as_the_saved_one(self, small_shared, tmp_path):
        search = budget_search(small_shared)
        for index in range(7):
            search.suggest(f"t{index}")
            search.on_trial_complete(f"t{index}", {"val_accuracy": 0.1 * index, "training_iteration": 10})
        search.save(str(tmp_path / "state"))
        restored = budget_search(small_shared).kept_at(tmp_path / "state")
        assert restored.ended == search.ended
        assert [restored.suggest(f"n{index}") for index in range(6)] == [search.suggest(f"n{i}") for i in range(6)]

    def test_what_was_interrupted_is_suggested_first_and_nothing_is_replaced(self, small_shared, tmp_path):
        path = tmp_path / "search.pkl"
        search = budget_search(small_shared).kept_at(path)
        asked = {f"t{index}": search.suggest(f"t{index}") for index in range(6)}
        for name in ("t0", "t3"):
            search.on_trial_complete(name, {"val_accuracy": 0.5})
        search.on_trial_complete("t5", error=True)
        restored = budget_search(small_shared).kept_at(path)
        assert sorted(choice.trial_id for choice in restored.ended) == sorted(
            choice_of(asked[name]).trial_id for name in ("t0", "t3")
        )
        again = [restored.suggest(f"n{index}") for index in range(4)]
        assert again == [asked[name] for name in ("t1", "t2", "t4", "t5")]
        assert not restored.is_finished
        for index in range(4):
            restored.on_trial_complete(f"n{index}", {"val_accuracy": 0.5})
        for index in range(10):
            assert restored.suggest(f"m{index}") not in asked.values()
            restored.on_trial_complete(f"m{index}", {"val_accuracy": 0.5})
        assert restored.suggest("more") == BudgetSearch.FINISHED
        assert restored.is_finished
        assert len(budget_search(small_shared).kept_at(path).ended) == 16

    def test_a_damaged_state_is_named(self, small_shared, tmp_path):
        path = tmp_path / "search.pkl"
        search = budget_search(small_shared).kept_at(path)
        search.suggest("a")
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(DataError, match=r"search\.pkl: not the state of a search .*Delete it"):
            budget_search(small_shared).kept_at(path)


class TestEarlyStopping:
    """The scheduler with Tune's own trials: a result of (budget, accuracy) at a rung, and what is decided."""

    def decide(self, scheduler: BudgetScheduler, budget: int, accuracy: float, rung: int = 3) -> str:
        trial = Trial("trial", config={"budget": budget}, stub=True)
        scheduler.on_trial_add(None, trial)
        result = {"val_accuracy": accuracy, "training_iteration": rung, "finished": False}
        return scheduler.on_trial_result(None, trial, result)

    def test_small_budgets_are_not_compared_with_large_ones(self):
        scheduler = BudgetScheduler(BUDGETS)
        assert [self.decide(scheduler, 6000, accuracy) for accuracy in (0.9, 0.92, 0.94)] == [
            TrialScheduler.CONTINUE
        ] * 3
        assert self.decide(scheduler, 2600, 0.2) == TrialScheduler.CONTINUE

    def test_lower_half_of_a_budget_stops(self):
        scheduler = BudgetScheduler(BUDGETS)
        for accuracy in (0.5, 0.6, 0.7):
            self.decide(scheduler, 2600, accuracy)
        assert self.decide(scheduler, 2600, 0.1) == TrialScheduler.STOP
        assert self.decide(scheduler, 2600, 0.8) == TrialScheduler.CONTINUE
        assert self.decide(scheduler, 6000, 0.1) == TrialScheduler.CONTINUE

    def test_finished_trial_is_never_stopped(self):
        scheduler = BudgetScheduler(BUDGETS)
        for accuracy in (0.5, 0.6, 0.7):
            self.decide(scheduler, 2600, accuracy, rung=10)
        trial = Trial("trial", config={"budget": 2600}, stub=True)
        scheduler.on_trial_add(None, trial)
        result = {"val_accuracy": 0.0, "training_iteration": 10, "finished": True}
        assert scheduler.on_trial_result(None, trial, result) == TrialScheduler.CONTINUE

    def test_trials_of_before_an_interruption_count(self):
        scheduler = BudgetScheduler(BUDGETS)
        for index, accuracy in enumerate((0.5, 0.6, 0.7)):
            history = tuple(
                EpochMetrics(epoch, 1.0, 1.0, 1.0, 0.1, accuracy if epoch % 2 else None) for epoch in range(8)
            )
            choice = Choice("search", budget=2600, temperature=str(index))
            scheduler.remember(TrialResult(choice, 0, 1, 1, 1, 0.0, accuracy, None, 1.0, True, history))
        assert self.decide(scheduler, 6000, 0.1) == TrialScheduler.CONTINUE
        assert self.decide(scheduler, 2600, 0.1) == TrialScheduler.STOP
        assert self.decide(scheduler, 2600, 0.8) == TrialScheduler.CONTINUE


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
            confirm([Choice("all")], range(1), ray.put(broken), ONE_CPU, tmp_path, on_result=print)
        assert type(caught.value) is ConfigError

    @pytest.mark.parametrize("wanted", [TrialResources(3, 0), TrialResources(1, 0.25)], ids=["cpus", "gpu"])
    def test_more_than_a_node_has_is_an_error_at_once(self, small_shared, tmp_path, wanted):
        spaces, data = spaces_for(BUDGETS[:1], SEARCH, small_shared), ray.put(small_shared)
        with pytest.raises(ConfigError, match=r"no node of this Ray cluster has them \(at most 2 CPUs, 0 GPUs\)"):
            search(data, spaces, SEARCH, PaperConfig(), wanted, tmp_path, seed=0, on_result=print)
        with pytest.raises(ConfigError, match=r"at most 2 CPUs"):
            confirm([Choice("all")], range(1), data, wanted, tmp_path, on_result=print)
