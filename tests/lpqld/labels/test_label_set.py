import json
import re
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lpqld.codecs.dense import Dense
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError
from lpqld.labels.compress import encode
from lpqld.labels.fidelity import entropy
from lpqld.labels.label_set import LabelSet
from tests.checks import equal_logits, made_up_labels
from tests.lpqld.labels.test_manifest import edited

CODECS = {"dense": Dense(), "top 3 fp16": TopK(3), "top 3 steps": TopK(3, 0.25), "all in steps": TopK(10, 1e-5)}
FILES = ["manifest.json", "labels-00000.lpqld", "labels-00001.lpqld", "labels-00002.lpqld"]


def every_file(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class TestOpening:
    @pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))
    def test_what_was_written_is_read(self, labels, codec, tmp_path):
        recipe = {"epochs": 3, "lr": 1e-5}
        encoded = encode(labels, codec, recipe=recipe)
        encoded.write(tmp_path / "a")
        opened = LabelSet.open(tmp_path / "a")
        opened.verify()
        assert opened.spec == replace(labels.spec, codec=codec, recipe=recipe)
        assert opened.manifest == encoded.manifest
        assert opened.spec.fingerprint == encoded.spec.fingerprint
        assert equal_logits(opened.labels.logits, encoded.decode().logits)
        assert [len(shard.logits.ids) for shard in opened.shards()] == [50, 50, 20]
        if codec == Dense():
            assert equal_logits(opened.labels.logits, labels.logits)

    def test_bytes_are_those_of_the_files(self, folder):
        num_bytes = LabelSet.open(folder).num_bytes
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        assert sorted(sizes) == sorted(FILES) == sorted(LabelSet.open(folder).files)
        assert num_bytes["total"] == sum(sizes.values()) == num_bytes["payload"] + num_bytes["manifest"]
        assert num_bytes["manifest"] == sizes["manifest.json"]

    def test_other_files_in_the_folder_count(self, folder):
        before = LabelSet.open(folder).num_bytes["total"]
        (folder / "notes.txt").write_bytes(b"x" * 100)
        assert LabelSet.open(folder).num_bytes["total"] == before + 100

    def test_no_folder_is_a_wrong_command(self, tmp_path):
        with pytest.raises(ConfigError, match="nowhere: no such folder"):
            LabelSet.open(tmp_path / "nowhere")

    def test_a_folder_without_a_manifest_is_not_finished(self, folder):
        (folder / "manifest.json").unlink()
        with pytest.raises(DataError, match=r"labels is not a finished label set: it has no manifest\.json"):
            LabelSet.open(folder)


def test_shards_are_read_with_one_of_them_in_memory(images, tmp_path):
    sets = {count: made_up_labels(images, 250 * count, shard_views=7500) for count in (1, 8)}
    peaks = {}
    for count, labels in sets.items():
        encode(labels, TopK(10, 0.25)).write(tmp_path / str(count))
        opened = LabelSet.open(tmp_path / str(count))
        tracemalloc.start()
        assert sum(len(shard.logits.ids) for shard in opened.shards()) == 7500 * count
        entropy(opened)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[8] < 1.5 * peaks[1]


class TestDamage:
    def test_a_flipped_byte_anywhere_is_found_and_its_file_named(self, labels, tmp_path):
        # A recipe with small numbers: 1e-05 and 1E-05 differ by one bit and mean the same.
        encode(labels, TopK(2, 1.0), recipe={"lr": 1e-05, "temperature": "20:2:step", "ca": "fit"}).write(tmp_path)
        for name, content in every_file(tmp_path).items():
            for position in range(len(content)):
                damaged = bytearray(content)
                damaged[position] ^= 1 << (position % 8)
                (tmp_path / name).write_bytes(damaged)
                with pytest.raises(DataError, match=re.escape(str(tmp_path / name))):
                    LabelSet.open(tmp_path).verify()
                with pytest.raises(DataError, match=re.escape(str(tmp_path / name))):
                    _ = LabelSet.open(tmp_path).labels
            (tmp_path / name).write_bytes(content)
        LabelSet.open(tmp_path).verify()

    def test_a_file_cut_at_any_length_is_named(self, labels, tmp_path):
        encode(labels, TopK(2, 1.0)).write(tmp_path)
        for name, content in every_file(tmp_path).items():
            for length in range(len(content)):
                (tmp_path / name).write_bytes(content[:length])
                with pytest.raises(DataError, match=re.escape(str(tmp_path / name))):
                    LabelSet.open(tmp_path).verify()
            (tmp_path / name).write_bytes(content)
        LabelSet.open(tmp_path).verify()

    def test_a_truncated_shard_is_found_by_reading_too(self, folder):
        (folder / FILES[2]).write_bytes((folder / FILES[2]).read_bytes()[:-5])
        with pytest.raises(DataError, match=r"labels-00001\.lpqld: \d+ bytes, the manifest says \d+; .* truncated"):
            _ = LabelSet.open(folder).labels

    def test_a_missing_shard_is_named(self, folder):
        (folder / FILES[3]).unlink()
        with pytest.raises(DataError, match=r"labels-00002\.lpqld: cannot be read"):
            LabelSet.open(folder).verify()

    def test_a_shard_from_another_label_set_is_called_foreign(self, folder, images, tmp_path):
        encode(made_up_labels(images, seed=9), TopK(3, 0.25)).write(tmp_path / "other")
        shutil.copy(tmp_path / "other" / FILES[1], folder / FILES[1])
        with pytest.raises(DataError, match=r"labels-00000\.lpqld: a foreign shard") as error:
            LabelSet.open(folder).verify()
        for label_set in (LabelSet.open(folder), LabelSet.open(tmp_path / "other")):
            assert label_set.spec.fingerprint[:16] in str(error.value)

    def test_a_manifest_from_another_label_set_makes_its_shards_foreign(self, folder, images, tmp_path):
        encode(made_up_labels(images, seed=9), TopK(3, 0.25)).write(tmp_path / "other")
        shutil.copy(tmp_path / "other" / FILES[0], folder / FILES[0])
        with pytest.raises(DataError, match=r"labels-00000\.lpqld: a foreign shard"):
            LabelSet.open(folder).verify()

    def test_a_shard_that_the_manifest_does_not_list_is_refused(self, folder):
        shutil.copy(folder / FILES[1], folder / "labels-00003.lpqld")
        with pytest.raises(DataError, match=r"labels-00003\.lpqld: not in the manifest"):
            LabelSet.open(folder).verify()

    def test_what_an_interrupted_job_left_is_named(self, folder):
        (folder / ".labels-00000.lpqld.abc.partial").write_bytes(b"half")
        with pytest.raises(DataError, match=r"\.partial: left over from an interrupted job"):
            LabelSet.open(folder).verify()

    @pytest.mark.parametrize("manifest_too", [False, True], ids=["files", "files and manifest"])
    def test_swapped_shards_are_refused_even_where_the_manifest_agrees(self, folder, manifest_too):
        first, second = (folder / FILES[1]).read_bytes(), (folder / FILES[2]).read_bytes()
        (folder / FILES[1]).write_bytes(second)
        (folder / FILES[2]).write_bytes(first)
        if manifest_too:
            entries = json.loads((folder / FILES[0]).read_bytes())["shards"]
            edited(folder, shards=[entries[1], entries[0], entries[2]])
        with pytest.raises(DataError, match=r"labels-00000\.lpqld: .* in the wrong place: it is number 1, expected 0"):
            LabelSet.open(folder).verify()

    @pytest.mark.parametrize(
        "change",
        [
            {"num_views": 119},
            {"num_views": 101},
            {"seed": 1},
            {"codec": {"name": "topk", "k": 3, "step": 0.5}},
            {"codec": {"name": "topk", "k": 4, "step": 0.25}},
            {"batch_size": 1},
            {"shard_views": 40},
        ],
        ids=str,
    )
    def test_an_edited_manifest_no_longer_owns_its_shards(self, folder, change):
        codec = {**LabelSet.open(folder).spec.codec.to_json(), **change.pop("codec", {})}
        edited(folder, codec=codec, **change)
        with pytest.raises(DataError, match=r"labels-00000\.lpqld: a foreign shard"):
            LabelSet.open(folder).verify()

    @pytest.mark.parametrize("change", [{"num_views": 100}, {"shard_views": 60}, {"shard_views": 30}], ids=str)
    def test_an_edited_manifest_with_another_number_of_shards_is_refused(self, folder, change):
        edited(folder, **change)
        with pytest.raises(DataError, match=r"manifest\.json: shards: \d+ labels need \d shards, found 3"):
            LabelSet.open(folder)

    def test_a_size_that_the_manifest_has_wrong_is_found(self, folder):
        entries = json.loads((folder / FILES[0]).read_bytes())["shards"]
        for index, (off, what) in enumerate([(1, "truncated"), (-1, "longer than it was")]):
            changed = [dict(entry) for entry in entries]
            changed[index]["bytes"] += off
            edited(folder, shards=changed)
            with pytest.raises(DataError, match=rf"labels-0000{index}\.lpqld: \d+ bytes, .* {what}"):
                LabelSet.open(folder).verify()


class TestImages:
    def test_the_images_are_found_in_a_larger_set(self, labels, images, digits):
        for larger in (digits, digits.sample_per_class(7, 0), digits.take(range(digits.num_images)[::-1])):
            found = labels.images_of(larger)
            assert np.array_equal(found.ids, images.ids)
            assert torch.equal(found.pixels, images.pixels)

    def test_the_same_images_under_other_ids_take_over_the_ids(self, labels, images):
        renumbered = replace(images, ids=np.arange(images.num_images, dtype=np.int64))
        assert np.array_equal(labels.images_of(renumbered).ids, images.ids)

    @pytest.mark.parametrize("kind", ["others", "too few", "changed pixel", "changed label", "other order"])
    def test_other_images_are_refused_with_both_fingerprints(self, labels, images, digits, folder, kind):
        pixels, image_labels = images.pixels.clone(), images.labels.clone()
        pixels[3, 1, 2, 2] += 1
        image_labels[3] = 5
        reversed_ids = replace(images.take(range(30)[::-1]), ids=images.ids)
        others = {
            "others": digits.sample_per_class(3, 1),
            "too few": images.first_per_class(2),
            "changed pixel": replace(images, pixels=pixels),
            "changed label": replace(images, labels=image_labels),
            "other order": reversed_ids,
        }[kind]
        for labelled in (labels, LabelSet.open(folder)):
            with pytest.raises(DataError) as error:
                labelled.images_of(others)
            assert images.fingerprint in str(error.value)
            assert others.fingerprint in str(error.value)

    def test_the_same_pixels_with_another_class_order_are_refused_with_both_fingerprints(self, labels, images):
        last_first = images.class_names[::-1]
        for others in (
            replace(images, class_names=last_first),
            replace(images, class_names=last_first, labels=9 - images.labels),
        ):
            with pytest.raises(DataError, match="the labels were made for other images") as error:
                labels.images_of(others)
            assert images.fingerprint in str(error.value)
            assert others.fingerprint in str(error.value)

    def test_images_of_other_classes_are_refused_with_both_fingerprints(self, labels, images):
        others = replace(images, class_names=tuple(f"other {label}" for label in range(11)))
        with pytest.raises(DataError, match="11 classes, the labels were made for 10") as error:
            labels.images_of(others)
        assert images.fingerprint in str(error.value)
        assert others.fingerprint in str(error.value)


def test_a_label_set_of_one_shard_and_one_view_per_image_is_one_too(images, tmp_path):
    labels = made_up_labels(images, 1, shard_views=8192)
    encode(labels, TopK(1)).write(tmp_path)
    opened = LabelSet.open(tmp_path)
    opened.verify()
    assert opened.labels.logits.ids[:, 0].tolist() == labels.logits.values.argmax(axis=1).tolist()
