import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lpqld.codec import Dense, TopK
from lpqld.compress import encode
from lpqld.errors import ConfigError, DataError
from lpqld.labels import LabelSet
from lpqld.manifest import LabelSpec, Manifest
from lpqld.shards import decode_shard, encode_shard
from lpqld.store import canonical_json, fingerprint
from tests.checks import equal_logits, made_up_labels

CODECS = {"dense": Dense(), "top 3 fp16": TopK(3), "top 3 steps": TopK(3, 0.25), "all in steps": TopK(10, 1e-5)}
FILES = ["manifest.json", "labels-00000.parquet", "labels-00001.parquet", "labels-00002.parquet"]


def rewrite_manifest(folder: Path, change: dict[str, object]) -> None:
    """Put `change` into the manifest, with a checksum that matches."""
    document = {**json.loads((folder / "manifest.json").read_bytes()), **change}
    del document["sha256"]
    document["sha256"] = fingerprint(canonical_json(document))
    (folder / "manifest.json").write_bytes(canonical_json(document))


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
        assert [len(shard.ids) for shard in opened.shards()] == [50, 50, 20]
        if codec == Dense():
            assert equal_logits(opened.labels.logits, labels.logits)

    def test_bytes_are_those_of_the_files(self, folder):
        num_bytes = LabelSet.open(folder).num_bytes
        sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
        assert sorted(sizes) == sorted(FILES)
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


class TestDamage:
    @pytest.mark.parametrize("file", FILES)
    def test_a_flipped_bit_anywhere_is_found_and_names_the_file(self, labels, tmp_path, file):
        # A recipe with small numbers: 1e-05 and 1E-05 differ by one bit and mean the same.
        encode(labels, TopK(3, 1e-5), recipe={"lr": 1e-05, "temperature": "20:2:step", "ca": "fit"}).write(tmp_path)
        path = tmp_path / file
        content = path.read_bytes()
        for position in range(0, len(content), 3):
            damaged = bytearray(content)
            damaged[position] ^= 1 << (position % 8)
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=file.replace(".", r"\.")):
                LabelSet.open(tmp_path).verify()
        path.write_bytes(content)
        LabelSet.open(tmp_path).verify()

    def test_every_bit_of_the_manifest_counts(self, labels, tmp_path):
        encode(labels, TopK(3, 1e-5), recipe={"lr": 1e-05}).write(tmp_path)
        path = tmp_path / "manifest.json"
        content = path.read_bytes()
        for position in range(len(content)):
            for bit in (0, 1, 5, 7):
                damaged = bytearray(content)
                damaged[position] ^= 1 << bit
                path.write_bytes(damaged)
                with pytest.raises(DataError, match=r"manifest\.json"):
                    Manifest.read(tmp_path)

    @pytest.mark.parametrize("file", FILES)
    @pytest.mark.parametrize("length", [0, 1, 100, -1], ids=str)
    def test_a_truncated_file_is_named(self, folder, file, length):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:length])
        with pytest.raises(DataError, match=file.replace(".", r"\.")):
            LabelSet.open(folder).verify()

    def test_a_truncated_shard_is_found_by_reading_too(self, folder):
        (folder / FILES[2]).write_bytes((folder / FILES[2]).read_bytes()[:-5])
        with pytest.raises(DataError, match=r"labels-00001\.parquet: \d+ bytes, the manifest says \d+"):
            _ = LabelSet.open(folder).labels

    def test_a_missing_shard_is_named(self, folder):
        (folder / FILES[3]).unlink()
        with pytest.raises(DataError, match=r"labels-00002\.parquet: cannot be read"):
            LabelSet.open(folder).verify()

    def test_a_shard_from_another_label_set_is_refused(self, folder, images, tmp_path):
        encode(made_up_labels(images, seed=9), TopK(3, 0.25)).write(tmp_path / "other")
        shutil.copy(tmp_path / "other" / FILES[1], folder / FILES[1])
        with pytest.raises(DataError, match=r"labels-00000\.parquet"):
            LabelSet.open(folder).verify()

    def test_a_shard_that_the_manifest_does_not_list_is_refused(self, folder):
        shutil.copy(folder / FILES[1], folder / "labels-00003.parquet")
        with pytest.raises(DataError, match=r"labels-00003\.parquet: not in the manifest"):
            LabelSet.open(folder).verify()

    def test_what_an_interrupted_job_left_is_named(self, folder):
        (folder / ".labels-00000.parquet.abc.partial").write_bytes(b"half")
        with pytest.raises(DataError, match=r"\.partial: left over from an interrupted job"):
            LabelSet.open(folder).verify()

    def test_swapped_shards_are_refused_even_where_the_manifest_agrees(self, folder):
        document = json.loads((folder / "manifest.json").read_bytes())
        first, second, third = document["shards"]
        rewrite_manifest(folder, {"shards": [second, first, third]})
        with pytest.raises(DataError, match="expected a block at position 0, found 50 views at 50"):
            LabelSet.open(folder).verify()

    def test_a_manifest_that_leaves_a_shard_out_is_refused(self, folder):
        document = json.loads((folder / "manifest.json").read_bytes())
        rewrite_manifest(folder, {"shards": document["shards"][:2]})
        with pytest.raises(DataError, match=r"shards hold \[50, 50\] labels, expected \[50, 50, 20\]"):
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

    def test_images_of_other_classes_are_refused_with_both_fingerprints(self, labels, images):
        others = replace(images, class_names=tuple(f"other {label}" for label in range(11)))
        with pytest.raises(DataError, match="11 classes, the labels were made for 10") as error:
            labels.images_of(others)
        assert images.fingerprint[:16] in str(error.value)
        assert others.fingerprint[:16] in str(error.value)


class TestManifest:
    @pytest.mark.parametrize("version", [1, -1, "0", None], ids=str)
    def test_other_versions_are_refused(self, folder, version):
        rewrite_manifest(folder, {"version": version})
        with pytest.raises(DataError, match=r"manifest\.json: expected format 'lpqld-labels' version 0, found"):
            LabelSet.open(folder)

    def test_other_formats_are_refused(self, folder):
        rewrite_manifest(folder, {"format": "fkd"})
        with pytest.raises(DataError, match="found 'fkd' version 0"):
            LabelSet.open(folder)

    @pytest.mark.parametrize(
        "content",
        [b"", b"[]", b"null", b"3", b"{}", b'{"sha256": 1}', b"{", b"\xff\xfe", b'"text"'],
        ids=repr,
    )
    def test_files_that_are_no_manifest_are_refused(self, folder, content):
        (folder / "manifest.json").write_bytes(content)
        with pytest.raises(DataError, match=r"manifest\.json"):
            LabelSet.open(folder)

    @pytest.mark.parametrize(
        "change",
        [
            {"codec": {"name": "zip"}},
            {"codec": {"name": "topk", "k": 0, "step": None}},
            {"view_rule": {"version": 2}},
            {"images": None},
            {"shards": [{"file": "a"}]},
            {"shards": 3},
            {"surprise": 1},
        ],
        ids=str,
    )
    def test_content_that_this_version_does_not_know_is_refused(self, folder, change):
        rewrite_manifest(folder, change)
        with pytest.raises(DataError, match=r"manifest\.json"):
            LabelSet.open(folder)

    @pytest.mark.parametrize("edit", [("50", "51"), (',"', ', "'), ('"seed":0', '"seed":1')], ids=str)
    def test_an_edited_manifest_is_refused(self, folder, edit):
        path = folder / "manifest.json"
        text = path.read_text()
        assert edit[0] in text
        path.write_text(text.replace(*edit, 1))
        with pytest.raises(DataError, match=r"manifest\.json: its checksum does not match its content"):
            LabelSet.open(folder)

    def test_the_specification_comes_back_from_json(self, labels):
        spec = replace(labels.spec, recipe={"epochs": 3})
        assert LabelSpec.from_json(json.loads(canonical_json(spec.to_json()))) == spec

    @pytest.mark.parametrize(
        "ids", [range(30), range(1, 31), [7] + [2**31 + i for i in range(29)], range(29, -1, -1)], ids=str
    )
    def test_image_ids_of_any_kind_come_back(self, labels, ids):
        spec = replace(labels.spec, images=replace(labels.spec.images, ids=tuple(ids)))
        assert LabelSpec.from_json(json.loads(canonical_json(spec.to_json()))).images.ids == tuple(ids)

    def test_the_recipe_is_no_part_of_the_fingerprint(self, labels):
        spec = labels.spec
        assert replace(spec, recipe={"epochs": 1}).fingerprint == spec.fingerprint
        changes = [{"seed": 1}, {"batch_size": 11}, {"num_views": 119}, {"codec": TopK(3)}, {"teacher": {}}]
        assert len({replace(spec, **change).fingerprint for change in changes} | {spec.fingerprint}) == 6

    @pytest.mark.parametrize(
        ("num_views", "shard_views", "sizes"),
        [(120, 50, [50, 50, 20]), (100, 50, [50, 50]), (30, 50, [30]), (51, 50, [50, 1])],
        ids=str,
    )
    def test_shards_share_the_labels(self, labels, num_views, shard_views, sizes):
        assert replace(labels.spec, num_views=num_views, shard_views=shard_views).shard_sizes == sizes

    def test_the_prune_ratio_is_the_share_of_views_not_kept(self, labels):
        assert labels.spec.prune_ratio == 0
        assert replace(labels.spec, num_views=30).prune_ratio == 0.75


def test_a_label_set_of_one_shard_and_one_view_per_image_is_one_too(images, tmp_path):
    labels = made_up_labels(images, 1, shard_views=8192)
    encode(labels, TopK(1)).write(tmp_path)
    opened = LabelSet.open(tmp_path)
    opened.verify()
    assert opened.labels.logits.ids[:, 0].tolist() == labels.logits.values.argmax(axis=1).tolist()


def test_shards_encode_and_decode_by_themselves(labels):
    part = labels.logits.take(slice(50, 100))
    assert equal_logits(decode_shard(labels.spec, 1, encode_shard(labels.spec, 1, part), 50), part)
