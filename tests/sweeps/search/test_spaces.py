"""What trials choose from: budgets that are never exceeded."""

import re
from dataclasses import replace

import pytest

from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError
from lpqld.labels.compress import encode
from lpqld.training.recipe import Recipe
from sweeps.config.sweep import PaperConfig, SearchConfig
from sweeps.search.choice_kinds import SearchedLabels
from sweeps.search.optuna_search import BudgetSearch
from sweeps.search.shared import MasterLabels
from sweeps.search.spaces import spaces_for
from sweeps.search.suggested import choice_of

BUDGETS = (6000, 2600)
RECIPE = Recipe(lr=0.002)
SEARCH = SearchConfig(trials=3, k=(2, 3, 10), bits=(3, 4, 8), lr=(0.001, 0.006))


class TestSpace:
    def test_codecs_of_a_budget_fit_with_any_recipe(self, small_shared):
        for space in spaces_for(BUDGETS, SEARCH, small_shared):
            for codec, k, bits in space.codecs:
                config = {"k": k, f"codec_of_{k}": codec, f"bits_of_{k}_{codec}": bits, "budget": space.budget}
                config |= {"shape": "cosine", "ca": "paper", "start": 12.3456, "end": 1.23456, "lr": 0.000123456}
                choice = choice_of(config)
                assert choice.labels(small_shared).label_bytes <= space.budget

    def test_smaller_budgets_have_fewer_codecs(self, small_shared):
        large, small = spaces_for(BUDGETS, SEARCH, small_shared)
        assert set(small.codecs) <= set(large.codecs)
        needed = SearchedLabels(k=10, bits=8).smallest_budget(small_shared)
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
            found = choice.labels(small_shared)
            assert found.label_bytes <= 6000
            assert found.labels.spec.codec.absent == absent[choice.codec]
        (whole,) = spaces_for((6000,), replace_k(wide, (10,), codec=("topk-share",)), small_shared)
        assert {name for name, *_ in whole.codecs} == {"topk"}

    def test_hard_labels_are_chosen_between_and_begun_with(self, small_shared):
        wide = SEARCH.model_copy(update={"hard_every": (0, 2)})
        (space,) = spaces_for((6000,), wide, small_shared)
        points = space.first_params(PaperConfig(), 10, RECIPE)
        assert [point["hard_every"] for point in points] == [0, 0, 2]
        search = BudgetSearch([space], wide.model_copy(update={"trials": 12}), [[]], seed=0)
        choices = [choice_of(search.suggest(str(index))) for index in range(12)]
        assert {choice.hard_every for choice in choices} == {0, 2}
        for choice in choices:
            assert choice.recipe(small_shared).hard_every == choice.hard_every
            assert ("hard_every" in choice.params) == (choice.hard_every == 2)
            assert choice.labels(small_shared).label_bytes <= 6000

    def test_without_a_choice_hard_labels_are_those_of_the_recipe(self, small_shared):
        alternating = replace(small_shared, recipe=replace(small_shared.recipe, hard_every=3))
        (plain,), (space,) = (spaces_for((6000,), SEARCH, shared) for shared in (small_shared, alternating))
        assert (plain.hard_every, space.hard_every) == ((0,), (3,))
        assert "hard_every" not in plain.first_params(PaperConfig(), 10, RECIPE)[0]
        search = BudgetSearch([space], SEARCH, [[]], seed=0)
        assert {choice_of(search.suggest(str(index))).hard_every for index in range(3)} == {3}

    def test_directions_are_chosen_as_classes_are(self, small_shared):
        wide = replace_k(SEARCH, (2, 3, 10), codec=("topk", "lowrank"))
        (space,) = spaces_for((6000,), wide, small_shared)
        assert {(name, k) for name, k, _ in space.codecs} == {(n, k) for n in wide.codec for k in (2, 3)} | {
            ("topk", 10)
        }
        search = BudgetSearch([space], wide.model_copy(update={"trials": 12}), [[]], seed=0)
        choices = {choice_of(search.suggest(str(index))) for index in range(12)}
        low = [choice.labels(small_shared) for choice in choices if choice.codec == "lowrank"]
        assert low
        assert {found.labels.spec.codec.rank for found in low} <= {2, 3}
        assert max(found.label_bytes for found in low) <= 6000

    def test_labels_that_lack_what_a_codec_needs_are_refused(self, small_shared):
        few = replace(small_shared, master=MasterLabels(encode(small_shared.master.labels, TopK(5)).decode()))
        wide = SEARCH.model_copy(update={"codec": ("topk", "topk-share"), "k": (2, 3)})
        with pytest.raises(ConfigError, match=r"nothing of the others.*use codec topk"):
            spaces_for((6000,), wide, few)

    def test_first_points_are_the_papers_temperatures_and_the_recipes_own(self, small_shared):
        wide = SEARCH.model_copy(update={"temperature_start": (4.0, 50.0)})
        (space,) = spaces_for((6000,), wide, small_shared)
        own = Recipe(temperature="100", ca="off", lr=0.1)
        at_once = {"shape": "constant", "start": 50.0, "ca": "off", "lr": 0.006}
        paper, few, ours = space.first_params(PaperConfig(k=200), 10, own)
        assert (paper["k"], paper["shape"], paper["start"], paper["end"]) == (2, "step", 20.0, 2.0)
        assert few == {"k": 2, "codec_of_2": "topk", "bits_of_2_topk": 4, **at_once}
        codec = {"k": 10, "codec_of_10": "topk", "bits_of_10_topk": 4}
        assert ours == {**codec, **at_once}
        assert choice_of({**ours, "budget": 6000}).temperature == "50"
        falling = Recipe(temperature="30:0.1:cosine", ca="fit", lr=0.002)
        _, _, ours = space.first_params(PaperConfig(k=200), 10, falling)
        assert (ours["shape"], ours["start"], ours["end"], ours["ca"]) == ("cosine", 30.0, 0.5, "fit")

    def test_first_points_take_no_directions_for_the_papers_classes(self, small_shared):
        wide = replace_k(SEARCH, (2, 3), codec=("lowrank", "topk"), bits=(3, 4, 5, 8))
        (space,) = spaces_for((6000,), wide, small_shared)
        paper, ours = space.first_params(PaperConfig(k=200), 10, RECIPE)
        assert (paper["codec_of_2"], paper["bits_of_2_topk"]) == ("topk", 4)
        assert (ours["codec_of_3"], ours["bits_of_3_lowrank"]) == ("lowrank", 5)
        (alone,) = spaces_for((6000,), replace_k(wide, (2, 3), codec=("lowrank",)), small_shared)
        assert alone.first_params(PaperConfig(k=200), 10, RECIPE)[0]["codec_of_2"] == "lowrank"


def replace_k(config: SearchConfig, k: tuple[int, ...], **changed: object) -> SearchConfig:
    return SearchConfig(**{**config.model_dump(), "k": k, **changed})
