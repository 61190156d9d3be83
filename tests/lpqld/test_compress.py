import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.codec import Codec, Dense, Logits, TopK
from lpqld.compress import EncodedLabels, encode, fill_budget, keep_share
from lpqld.errors import ConfigError
from lpqld.images import ImageSet
from lpqld.labels import Labels, LabelSet
from tests.checks import equal_logits, made_up_labels

# Hypothesis may not use fixtures of a test's scope; these are read only.
IMAGES = ImageSet.open("digits:train").sample_per_class(3, 0)
LABELS = made_up_labels(IMAGES, 20, shard_views=170)
CODECS = {"dense": Dense(), "top 3 fp16": TopK(3), "top 3 steps": TopK(3, 0.25), "top 1 steps": TopK(1, 0.01)}
SMALLER = st.one_of(
    st.just(Dense()),
    st.builds(TopK, st.integers(1, 10), st.one_of(st.none(), st.floats(0.001, 10))),
)


def widening_labels() -> Labels:
    """Labels whose last views are far wider than the first, so that bytes jump where a field needs more bits."""
    values = LABELS.logits.values.copy()
    values[300:] *= 50
    values[500:, 0] = 60_000
    return Labels(LABELS.spec, Logits(LABELS.logits.ids, values))


class TestSize:
    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    @pytest.mark.parametrize("num_views", [30, 170, 171, 600], ids=str)
    def test_bytes_in_memory_are_the_bytes_on_disk(self, codec, num_views, tmp_path):
        encoded = encode(LABELS, codec, num_views=num_views, recipe={"epochs": 3})
        encoded.write(tmp_path / "labels")
        on_disk = sum(path.stat().st_size for path in (tmp_path / "labels").rglob("*") if path.is_file())
        assert encoded.num_bytes == on_disk == LabelSet.open(tmp_path / "labels").num_bytes["total"]

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_a_codecs_estimate_is_near_its_bytes(self, codec):
        two, all_of_them = (encode(LABELS, codec, num_views=count).num_bytes for count in (180, 330))
        assert (all_of_them - two) / 150 == pytest.approx(codec.bytes_per_view(10), rel=0.5)

    def test_dense_labels_take_two_bytes_a_class(self):
        assert Dense().bytes_per_view(1000) == 2000


def check_filled(labels: Labels, codec: Codec, budget: int, filled: EncodedLabels) -> None:
    """It fits, and one label more would not."""
    assert filled.num_bytes <= budget
    count = filled.spec.num_views
    assert count == labels.spec.num_views or encode(labels, codec, num_views=count + 1).num_bytes > budget


class TestBudget:
    @settings(deadline=None, max_examples=30)
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
        values = made_up_labels(IMAGES, 400, shard_views=20_000).logits.values.copy()
        values[7000:, 0] = 60_000
        large = made_up_labels(IMAGES, 400, shard_views=20_000)
        large = Labels(large.spec, Logits(large.logits.ids, values))
        before, after = (encode(large, codec, num_views=count).num_bytes for count in (7000, 7001))
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

    def test_the_recipe_is_part_of_the_bytes(self):
        recipe = {"note": "x" * 500}
        budget = fill_budget(LABELS, TopK(3), 10**9).num_bytes
        filled = fill_budget(LABELS, TopK(3), budget, recipe)
        assert filled.num_bytes <= budget
        assert filled.spec.num_views < 600
        assert filled.spec.recipe == recipe


class TestPruning:
    @settings(deadline=None, max_examples=30)
    @given(codec=SMALLER, num_views=st.integers(30, 600))
    def test_what_is_kept_are_the_first_labels(self, codec, num_views):
        whole, pruned = encode(LABELS, codec).decode(), encode(LABELS, codec, num_views=num_views).decode()
        assert pruned.spec.num_views == len(pruned.logits.ids) == num_views
        assert equal_logits(pruned.logits, whole.logits.take(slice(num_views)))

    def test_compressing_in_two_steps_is_compressing_once(self):
        halfway = encode(LABELS, TopK(6), num_views=400).decode()
        twice, once = encode(halfway, TopK(2, 0.5), num_views=100), encode(LABELS, TopK(2, 0.5), num_views=100)
        assert twice.shards == once.shards

    @pytest.mark.parametrize("num_views", [29, 0, -1, 601], ids=str)
    def test_fewer_labels_than_images_and_more_than_there_are_cannot_be_kept(self, num_views):
        with pytest.raises(ConfigError, match=f"cannot keep {num_views} labels: the set has 600 and 30 images"):
            encode(LABELS, Dense(), num_views=num_views)

    def test_pruned_views_do_not_come_back(self):
        pruned = encode(LABELS, Dense(), num_views=100).decode()
        with pytest.raises(ConfigError, match="cannot keep 101 labels: the set has 100"):
            encode(pruned, Dense(), num_views=101)

    @pytest.mark.parametrize("step", [None, 0.25], ids=["fp16", "steps"])
    def test_dropped_classes_do_not_come_back(self, step):
        cut = encode(LABELS, TopK(3, step)).decode()
        with pytest.raises(ConfigError, match="k=4 exceeds the 3 classes of these labels"):
            encode(cut, TopK(4, step))
        with pytest.raises(ConfigError, match="keep 3 of 10 classes; codec dense cannot bring the rest back"):
            encode(cut, Dense())

    def test_labels_that_keep_every_class_may_become_dense_again(self):
        whole = encode(LABELS, TopK(10)).decode()
        assert equal_logits(encode(whole, Dense()).decode().logits, LABELS.logits)


class TestWriting:
    def test_writing_again_changes_nothing(self, tmp_path):
        encoded = encode(LABELS, TopK(3))
        encoded.write(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        encoded.write(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_an_interrupted_write_is_finished_by_the_next(self, tmp_path):
        encoded = encode(LABELS, TopK(3))
        (tmp_path / "labels-00000.parquet").write_bytes(b"half")
        (tmp_path / ".labels-00001.parquet.abc.partial").write_bytes(b"half")
        encoded.write(tmp_path)
        LabelSet.open(tmp_path).verify()

    def test_a_folder_with_other_files_is_refused_and_left_alone(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(ConfigError, match=r"is not empty \(thesis\.tex\); choose a new folder"):
            encode(LABELS, TopK(3)).write(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_another_label_set_is_not_overwritten(self, tmp_path):
        encode(LABELS, TopK(3)).write(tmp_path)
        with pytest.raises(ConfigError, match=r"is not empty \(manifest\.json\)"):
            encode(LABELS, TopK(2)).write(tmp_path)
        LabelSet.open(tmp_path).verify()


class TestKeepShare:
    @pytest.mark.parametrize(
        ("num_images", "full_views", "prune_ratio", "kept"),
        [(1000, 300, 0.975, 7500), (10, 300, 0.9, 300), (30, 4, 0.0, 120), (30, 4, 0.75, 30), (7, 3, 0.5, 10)],
        ids=str,
    )
    def test_labels_kept_at_a_prune_ratio(self, num_images, full_views, prune_ratio, kept):
        assert keep_share(num_images, full_views, prune_ratio) == kept

    @pytest.mark.parametrize("prune_ratio", [-0.1, 1.0, 2.0, float("nan")], ids=str)
    def test_ratios_out_of_range_are_refused(self, prune_ratio):
        with pytest.raises(ConfigError, match=r"prune ratio must be in \[0, 1\)"):
            keep_share(10, 10, prune_ratio)

    @settings(max_examples=100)
    @given(num_images=st.integers(1, 10**7), full_views=st.integers(1, 1000))
    def test_the_largest_ratio_that_the_message_names_works(self, num_images, full_views):
        with pytest.raises(ConfigError, match="the largest is") as error:
            keep_share(num_images, full_views, 1 - 0.4 / full_views)
        largest = float(re.search(r"largest is ([0-9.]+)", str(error.value))[1])
        assert keep_share(num_images, full_views, largest) >= num_images


def test_decoding_in_memory_is_reading_from_disk(tmp_path):
    encoded = encode(LABELS, TopK(3, 0.5), num_views=333)
    encoded.write(tmp_path)
    opened = LabelSet.open(tmp_path)
    assert equal_logits(opened.labels.logits, encoded.decode().logits)
    assert opened.labels.spec == encoded.spec
    assert np.isclose(opened.spec.prune_ratio, 1 - 333 / 600)
