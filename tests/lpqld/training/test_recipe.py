from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpqld.errors import ConfigError, DataError
from lpqld.training.recipe import Recipe

RECIPE = Recipe(epochs=3, batch_size=15, lr=2e-3, temperature="20:2:step", ca="off")
# What the manifests of the first label sets hold.
FIRST_FIELDS = [
    "architecture",
    "epochs",
    "batch_size",
    "optimizer",
    "lr",
    "weight_decay",
    "momentum",
    "warmup_epochs",
    "temperature",
    "ca",
    "square_temperature",
    "mean",
    "std",
]


class TestRecipe:
    @pytest.mark.parametrize(
        "change",
        [{}, {"lr_per": "epoch"}, {"ema": 0.99}, {"accumulate": 3}, {"precision": "bfloat16"}, {"hard_every": 2}],
        ids=str,
    )
    def test_json_round_trip(self, change):
        recipe = replace(RECIPE, **change)
        assert Recipe.from_json(recipe.to_json()) == recipe

    def test_old_manifests_stay_as_they_are(self):
        document = RECIPE.to_json()
        assert list(document) == FIRST_FIELDS
        assert Recipe.from_json(document) == RECIPE
        assert {field.name for field in fields(Recipe)} > set(FIRST_FIELDS)

    def test_fields_from_elsewhere_are_refused(self):
        with pytest.raises(DataError, match="not one that this lpqld knows"):
            Recipe.from_json({**RECIPE.to_json(), "label_smoothing": 0.1})

    @given(every=st.sampled_from([0, 2, 3, 5, 7]), epoch=st.integers(0, 60))
    def test_hard_epochs_are_counted(self, every, epoch):
        recipe = replace(RECIPE, hard_every=every)
        assert recipe.is_hard(epoch) == (every > 0 and epoch in range(0, 61, every or 1))
        assert recipe.num_hard_before(epoch) == sum(recipe.is_hard(before) for before in range(epoch))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epochs": 0}, "at least 1"),
            ({"batch_size": 0}, "at least 1"),
            ({"warmup_epochs": 3}, "warmup_epochs must be 0 to 2"),
            ({"warmup_epochs": -1}, "warmup_epochs must be 0 to 2"),
            ({"lr": 0.0}, "lr must be above 0"),
            ({"lr": float("nan")}, "lr must be above 0"),
            ({"weight_decay": -0.1}, "weight_decay 0 or more"),
            ({"optimizer": "lion"}, "adamw or sgd"),
            ({"ca": "on"}, "ca must be one of fit, paper, off"),
            ({"std": (1.0, 0.0, 1.0)}, "std must be above 0"),
            ({"temperature": "hot"}, "not a schedule"),
            ({"lr_per": "day"}, "lr_per must be step or epoch"),
            ({"ema": 1.0}, r"ema must be in \[0, 1\)"),
            ({"ema": -0.1}, r"ema must be in \[0, 1\)"),
            ({"accumulate": 0}, "accumulate must be 1 to the batch size"),
            ({"accumulate": 16}, "accumulate must be 1 to the batch size"),
            ({"precision": "float16"}, "precision must be auto, float32 or bfloat16"),
            ({"hard_every": 1}, "hard_every must be 2 or more, or 0 for never, found 1"),
            ({"hard_every": -2}, "hard_every must be 2 or more"),
            ({"hard_every": 2, "order": "recorded"}, "choose order views"),
            ({"hard_weight": 0.0}, "hard_weight must be above 0"),
            ({"hard_weight": float("inf")}, "hard_weight must be above 0"),
        ],
        ids=str,
    )
    def test_recipes_out_of_range_are_refused(self, change, message):
        with pytest.raises(ConfigError, match=message):
            replace(RECIPE, **change)
