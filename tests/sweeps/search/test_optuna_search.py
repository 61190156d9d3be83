"""Which trial is next: fair shares, and nothing lost at an interruption."""

import pytest

from lpqld.errors import DataError
from lpqld.training.recipe import Recipe
from sweeps.config.sweep import PaperConfig, SearchConfig
from sweeps.search.optuna_search import BudgetSearch
from sweeps.search.spaces import spaces_for
from sweeps.search.suggested import choice_of

BUDGETS = (6000, 2600)
RECIPE = Recipe(lr=0.002)
SEARCH = SearchConfig(trials=3, k=(2, 3, 10), bits=(3, 4, 8), lr=(0.001, 0.006))


def budget_search(small_shared, trials: int = 8, **changed: object) -> BudgetSearch:
    spaces = spaces_for(BUDGETS, SEARCH, small_shared)
    points = [space.first_params(PaperConfig(), 10, RECIPE) for space in spaces]
    return BudgetSearch(spaces, SEARCH.model_copy(update={"trials": trials, **changed}), points, seed=0)


class TestBudgetSearch:
    def test_first_point_is_the_papers_temperature(self, small_shared):
        search = budget_search(small_shared)
        first = search.suggest("a")
        assert (first["budget"], first["shape"], first["start"], first["end"]) == (2600, "step", 20.0, 2.0) or (
            first["budget"] == 6000 and first["start"] == 20.0
        )

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
            assert choice.labels(small_shared).label_bytes <= choice.budget
            choice.recipe(small_shared)
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
        points = [space.first_params(PaperConfig(), 10, RECIPE) for space in spaces_for(BUDGETS, SEARCH, small_shared)]
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
