import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.codecs import Codec, Logits
from lpqld.codecs.dense import Dense
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.labels.budget import PrefixSizes, fill_budget
from lpqld.labels.compress import EncodedLabels, encode
from lpqld.labels.label_set import Labels
from tests.checks import made_up_labels

# Hypothesis may not use fixtures of a test's scope; these are read only.
IMAGES = ImageSet.open("digits:train").sample_per_class(3, 0)
LABELS = made_up_labels(IMAGES, 20, shard_views=170)
CODECS = {"dense": Dense(), "top 3 fp16": TopK(3), "top 3 steps": TopK(3, 0.25), "top 1 steps": TopK(1, 0.01)}
SMALLER = st.one_of(
    st.just(Dense()),
    st.builds(TopK, st.integers(1, 10), st.one_of(st.none(), st.floats(0.01, 10))),
)


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many labels each encoding for sizes had."""
    counts, sizes = [], TopK.sizes

    def counting(codec, logits, **options):
        counts.append(len(logits.ids))
        return sizes(codec, logits, **options)

    monkeypatch.setattr(TopK, "sizes", counting)
    return counts


def widening_labels() -> Labels:
    """Labels whose last views are far wider than the first, so that bytes jump where a field needs more bits."""
    values = LABELS.logits.values.copy()
    values[300:] *= 50
    values[500:, 0] = 60_000
    return Labels(LABELS.spec, Logits(LABELS.logits.ids, values))


class TestPrefixSizes:
    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    @pytest.mark.parametrize("recipe", [None, {"epochs": 300}], ids=["plain", "recipe"])
    def test_every_prefix_has_the_bytes_that_encoding_it_gives(self, codec, recipe):
        sizes = PrefixSizes(LABELS, codec)
        for count in [*range(30, 600, 19), 99, 100, 170, 171, 340, 341, 510, 511, 600]:
            assert sizes.num_bytes(count, recipe) == encode(LABELS, codec, num_views=count, recipe=recipe).num_bytes

    def test_one_encoding_serves_all_budgets(self, encoded):
        codec, budgets = TopK(3, 0.25), (10_000, 2200, 2500)
        sizes = PrefixSizes(LABELS, codec)
        filled = [sizes.fill(budget) for budget in budgets]
        assert encoded == [170, 170, 170, 90]
        assert filled == [fill_budget(LABELS, codec, budget) for budget in budgets]

    def test_what_is_not_there_is_refused_at_once(self):
        with pytest.raises(ConfigError, match="cannot bring the rest back"):
            PrefixSizes(encode(LABELS, TopK(3)).decode(), TopK(4))


def check_filled(labels: Labels, codec: Codec, budget: int, filled: EncodedLabels) -> None:
    """It fits, and one label more would not."""
    assert filled.num_bytes <= budget
    count = filled.spec.num_views
    assert count == labels.spec.num_views or encode(labels, codec, num_views=count + 1).num_bytes > budget


class TestBudget:
    @settings(max_examples=30)
    @given(codec=SMALLER, share=st.floats(0, 1.1), wide=st.booleans())
    def test_a_budget_is_filled_and_never_exceeded(self, codec, share, wide):
        labels = widening_labels() if wide else LABELS
        smallest, whole = (encode(labels, codec, num_views=count).num_bytes for count in (30, 600))
        budget = smallest + int(share * (whole - smallest))
        check_filled(labels, codec, budget, fill_budget(labels, codec, budget))

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_budgets_on_both_sides_of_a_jump_are_filled(self, codec):
        labels = widening_labels()
        sizes = {
            count: encode(labels, codec, num_views=count).num_bytes for count in (299, 300, 301, 499, 500, 501, 600)
        }
        for size in sizes.values():
            for budget in (size - 1, size, size + 1):
                check_filled(labels, codec, budget, fill_budget(labels, codec, budget))

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_a_budget_in_the_middle_of_a_jump_is_filled(self, codec):
        values = made_up_labels(IMAGES, 60, shard_views=3000).logits.values.copy()
        values[900:, 0] = 60_000
        large = made_up_labels(IMAGES, 60, shard_views=3000)
        large = Labels(large.spec, Logits(large.logits.ids, values))
        before, after = (encode(large, codec, num_views=count).num_bytes for count in (900, 901))
        budget = (before + after) // 2
        check_filled(large, codec, budget, fill_budget(large, codec, budget))

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_a_generous_budget_keeps_every_label(self, codec):
        assert fill_budget(LABELS, codec, 10**9).spec.num_views == 600

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_an_impossible_budget_says_which_is_the_smallest(self, codec):
        with pytest.raises(ConfigError, match="smaller than one label per image") as error:
            fill_budget(LABELS, codec, 100)
        smallest = int(re.search(r"the smallest that works is (\d+) bytes", str(error.value))[1])
        assert fill_budget(LABELS, codec, smallest).num_bytes == smallest
        with pytest.raises(ConfigError, match="smaller than one label per image"):
            fill_budget(LABELS, codec, smallest - 1)

    def test_only_the_shards_that_a_budget_can_reach_are_encoded(self, encoded):
        many = made_up_labels(IMAGES, 100, shard_views=100)
        filled = fill_budget(many, TopK(3, 0.25), 2500)
        assert len(encoded) <= filled.spec.num_shards + 1 < 10

    def test_the_recipe_is_part_of_the_bytes(self):
        recipe = {"note": "x" * 500}
        budget = fill_budget(LABELS, TopK(3), 10**9).num_bytes
        filled = fill_budget(LABELS, TopK(3), budget, recipe)
        assert filled.num_bytes <= budget
        assert filled.spec.num_views < 600
        assert filled.spec.recipe == recipe
