import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.codecs.dense import Dense
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.images.reading import Skipped
from lpqld.labels.budget import PrefixSizes
from lpqld.labels.compress import encode, keep_share, smaller_codec
from lpqld.labels.label_set import LabelSet
from tests.checks import equal_logits, made_up_labels

# Hypothesis may not use fixtures of a test's scope; these are read only.
IMAGES = ImageSet.open("digits:train").sample_per_class(3, 0)
LABELS = made_up_labels(IMAGES, 20, shard_views=170)
CODECS = {"dense": Dense(), "top 3 fp16": TopK(3), "top 3 steps": TopK(3, 0.25), "top 1 steps": TopK(1, 0.01)}
SMALLER = st.one_of(
    st.just(Dense()),
    st.builds(TopK, st.integers(1, 10), st.one_of(st.none(), st.floats(0.001, 10))),
)


class TestSize:
    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    @pytest.mark.parametrize("num_views", [30, 170, 171, 600], ids=str)
    def test_bytes_in_memory_are_the_bytes_on_disk(self, codec, num_views, tmp_path):
        encoded = encode(LABELS, codec, num_views=num_views, recipe={"epochs": 3})
        encoded.write(tmp_path / "labels")
        on_disk = sum(path.stat().st_size for path in (tmp_path / "labels").rglob("*") if path.is_file())
        assert encoded.num_bytes == on_disk == LabelSet.open(tmp_path / "labels").num_bytes["total"]


class TestPruning:
    @settings(max_examples=30)
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

    def test_labels_that_keep_every_class_may_become_dense_again(self):
        whole = encode(LABELS, TopK(10)).decode()
        assert equal_logits(encode(whole, Dense()).decode().logits, LABELS.logits)


class TestRecovery:
    """What a label set no longer holds does not come back, and the message says what it holds."""

    @pytest.mark.parametrize("step", [None, 0.25], ids=["fp16", "steps"])
    def test_dropped_classes(self, step):
        cut = encode(LABELS, TopK(3, step)).decode()
        with pytest.raises(ConfigError, match="keep 3 of 10 classes; k=4 cannot bring the rest back"):
            encode(cut, TopK(4, step))
        for codec in (TopK(10, step), Dense()):
            with pytest.raises(ConfigError, match=f"keep 3 of 10 classes; codec {codec.name} cannot bring the rest"):
                encode(cut, codec)

    @pytest.mark.parametrize("codec", [TopK(3), TopK(10), Dense()], ids=str)
    def test_fp16_from_steps(self, codec):
        stepped = encode(LABELS, TopK(10, 0.25)).decode()
        with pytest.raises(ConfigError, match=r"stored in steps of 0\.25; fp16 cannot bring finer values back"):
            encode(stepped, codec)

    @pytest.mark.parametrize("step", [0.2, 0.125, 0.2499], ids=str)
    def test_a_finer_step(self, step):
        stepped = encode(LABELS, TopK(3, 0.25)).decode()
        with pytest.raises(ConfigError, match=rf"stored in steps of 0\.25; a step of {step} cannot bring finer values"):
            encode(stepped, TopK(2, step))

    @pytest.mark.parametrize("step", [0.25, 0.3, 0.5, 7.0], ids=str)
    def test_the_same_step_changes_nothing_and_errors_of_coarser_ones_add_up(self, step):
        stepped = encode(LABELS, TopK(3, 0.25)).decode()
        twice = encode(stepped, TopK(3, step)).decode()
        assert np.array_equal(np.sort(twice.logits.ids), np.sort(stepped.logits.ids))
        ids = np.sort(stepped.logits.ids).astype(np.int64)
        true, before, after = (
            np.take_along_axis(logits.dense(10), ids, axis=1)
            for logits in (LABELS.logits, stepped.logits, twice.logits)
        )
        if step == 0.25:
            assert after == pytest.approx(before)
        # One constant shift a label is free, so what counts is by how much classes of a label are apart.
        error = np.abs((after - after[:, :1]) - (true - true[:, :1]))
        assert error.max() <= step + 0.25 + 1e-5


class TestSmallerCodec:
    """What a codec, k and bits mean for labels that are stored in some codec."""

    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_nothing_asked_for_changes_nothing(self, codec):
        assert smaller_codec(encode(LABELS, codec).decode()) == codec

    def test_what_is_not_given_stays(self):
        stepped, dense = encode(LABELS, TopK(5, 0.25)).decode(), encode(LABELS, Dense()).decode()
        assert smaller_codec(stepped, k=3) == TopK(3, 0.25)
        assert smaller_codec(stepped, name="topk") == TopK(5, 0.25)
        assert smaller_codec(dense, k=3) == TopK(3)
        assert smaller_codec(dense, bits=4).name == "dense"
        tail = TopK(5, 0.25, absent="tail")
        assert smaller_codec(encode(LABELS, tail).decode(), k=3) == TopK(3, 0.25, absent="tail")
        assert smaller_codec(encode(LABELS, tail).decode(), name="topk") == TopK(5, 0.25)
        whole = encode(LABELS, Dense(0.25)).decode()
        assert smaller_codec(whole, name="dense") == Dense(0.25)
        assert smaller_codec(whole, k=10) == TopK(10, 0.25)
        assert smaller_codec(dense, name="topk") == TopK(10)
        assert smaller_codec(encode(LABELS, TopK(10)).decode(), name="dense") == Dense()

    def test_bits_become_a_step_from_the_labels(self):
        codec = smaller_codec(LABELS, k=3, bits=4)
        top = np.sort(LABELS.logits.values, axis=1)[:, -3:]
        assert codec.k == 3
        assert codec.step == pytest.approx((top[:, 2] - top[:, 0]).max() / 15, rel=1e-3)

    @pytest.mark.parametrize("k", [3, 2], ids=str)
    def test_the_bits_that_are_stored_give_the_stored_step(self, k):
        stepped = encode(LABELS, TopK(3, 0.25)).decode()
        top = stepped.logits.values[:, :k]
        bits = round(float((top.max(axis=1) - top.min(axis=1)).max()) / 0.25).bit_length()
        assert smaller_codec(stepped, k=k, bits=bits) == TopK(k, 0.25)
        assert smaller_codec(stepped, k=k, bits=bits - 1).step > 0.25
        with pytest.raises(ConfigError, match=r"stored in steps of 0\.25; a step of .* cannot bring finer values back"):
            smaller_codec(stepped, k=k, bits=bits + 1)
        with pytest.raises(ConfigError, match=r"stored in steps of 0\.25; fp16 cannot"):
            smaller_codec(stepped, k=k, bits=16)

    def test_more_than_there_is_is_refused(self):
        cut = encode(LABELS, TopK(3)).decode()
        with pytest.raises(ConfigError, match="k must be 1 to 3"):
            smaller_codec(cut, k=4)
        with pytest.raises(ConfigError, match="codec dense"):
            smaller_codec(cut, name="dense")
        with pytest.raises(ConfigError, match="unknown codec 'zip'"):
            smaller_codec(cut, name="zip")


class TestWriting:
    def test_writing_again_changes_nothing(self, tmp_path):
        encoded = encode(LABELS, TopK(3))
        encoded.write(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        encoded.write(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_an_interrupted_write_is_finished_by_the_next(self, tmp_path):
        encoded = encode(LABELS, TopK(3))
        (tmp_path / "labels-00000.lpqld").write_bytes(b"half")
        (tmp_path / ".labels-00001.lpqld.abc.partial").write_bytes(b"half")
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


def test_shards_of_smaller_labels_are_merged(labels, monkeypatch):
    monkeypatch.setattr("lpqld.labels.compress._SHARD_LOGITS", 350)
    assert [encode(labels, codec).spec.shard_views for codec in (Dense(), TopK(3), TopK(2), TopK(1))] == [
        50,
        100,
        150,
        350,
    ]
    merged = encode(labels, TopK(2, 0.25))
    assert equal_logits(merged.decode().logits, encode(labels, TopK(2, 0.25)).decode().logits)
    assert PrefixSizes(labels, TopK(2, 0.25)).num_bytes(120) == merged.num_bytes


def test_images_that_were_skipped_stay_listed(tmp_path):
    skipped = tuple(Skipped(f"folder/{name}.png", "it is empty") for name in ("a", "b\n"))
    labels = made_up_labels(replace(IMAGES, skipped=skipped), 4)
    assert labels.spec.images.skipped == ("folder/a.png", "folder/b?.png")
    encode(labels, TopK(3, 0.25), num_views=50).write(tmp_path / "labels")
    made = LabelSet.open(tmp_path / "labels")
    assert made.spec.images.skipped == labels.spec.images.skipped
    made.verify()
    assert "skipped" not in LABELS.spec.to_json()["images"]
