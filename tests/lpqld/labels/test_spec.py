import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpqld.codecs.dense import Dense
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.labels.provenance import ImagesRef, TeacherRef
from lpqld.labels.spec import LabelSpec
from lpqld.labels.spec_reading import read_spec
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.storage.files import canonical_json
from lpqld.views.drawn import DrawnViews
from lpqld.views.registry import drawn_by
from tests.checks import RULE, made_up_labels


def image_set(labels: list[int], ids: list[int] | None = None, num_classes: int | None = None) -> ImageSet:
    """Blank images of these classes."""
    count = len(labels)
    return ImageSet(
        pixels=torch.zeros(count, 3, 2, 2, dtype=torch.uint8),
        labels=torch.tensor(labels, dtype=torch.int64),
        class_names=tuple(f"class {label}" for label in range(num_classes or max(2, max(labels) + 1))),
        ids=np.arange(count, dtype=np.int64) if ids is None else np.array(ids, dtype=np.int64),
        encoded_bytes=np.ones(count, dtype=np.int64),
        source="made up",
    )


def again(spec: LabelSpec) -> LabelSpec:
    """Through the text of a manifest."""
    return read_spec(json.loads(canonical_json(spec.to_json())))


class TestRoundTrip:
    def test_the_specification_comes_back_from_json(self, labels):
        spec = replace(labels.spec, recipe={"epochs": 3, "mean": [0.5, 0.5, 0.5], "ca": "fit", "flag": True})
        for select in (None, "entropy", "anything that a later version has"):
            selected = replace(spec, select=select)
            assert again(selected) == selected
            assert again(selected).fingerprint == selected.fingerprint
        assert "select" not in spec.to_json()

    @given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.booleans())
    def test_classes_come_back_in_any_order(self, labels, in_order):
        images = image_set(sorted(labels) if in_order else labels, num_classes=6)
        spec = made_up_labels(images, 2).spec
        assert again(spec) == spec
        assert again(spec).image_classes.tolist() == images.labels.tolist()
        assert again(spec).image_classes.dtype == np.int32

    @given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=40, unique=True))
    def test_ids_come_back_whatever_they_are(self, ids):
        spec = made_up_labels(image_set([0] * len(ids), ids), 1).spec
        assert again(spec) == spec
        assert again(spec).image_ids.tolist() == ids

    def test_what_follows_from_the_order_takes_no_bytes(self):
        even = ImagesRef.of(image_set([0, 0, 1, 1])).to_json()
        assert even["images_per_class"] == 2
        assert not {"ids", "labels", "resize"} & set(even)
        assert ImagesRef.of(image_set([0, 1, 1, 1])).to_json()["images_per_class"] == {"bits": 2, "packed": "cA=="}
        assert "images_per_class" not in ImagesRef.of(image_set([1, 0])).to_json()

    def test_ids_of_a_sample_take_as_few_bits_as_the_steps_between_them(self):
        rng = np.random.default_rng(0)
        ids = [label * 1300 + image for label in range(200) for image in rng.permutation(1300)[:5].tolist()]
        packed = ImagesRef.of(image_set(np.repeat(np.arange(200), 5).tolist(), ids)).ids
        assert packed.bits == 13 < max(ids).bit_length()

    @given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.integers(1, 5))
    def test_hints_are_the_classes_of_every_views_image_and_partner(self, labels, views_per_image):
        images = image_set(labels)
        spec = made_up_labels(images, views_per_image, shard_views=7, seed=3).spec
        views = DrawnViews(images, RULE, 3)
        rows, _ = views.rows_and_numbers(np.arange(spec.num_views))
        hints = np.concatenate([spec.hints_in_shard(index) for index in range(spec.num_shards)])
        assert hints[:, 0].tolist() == images.labels.numpy()[rows].tolist()
        params = views.draw(np.arange(spec.num_views))
        assert hints[:, 1].tolist() == images.labels.numpy()[params.partner].tolist()

    def test_views_that_are_not_mixed_have_no_partner(self, images):
        spec = made_up_labels(images, rule=replace(RULE, mix="none")).spec
        assert set(spec.hints_in_shard(1)[:, 1].tolist()) == {-1}

    def test_a_teacher_without_names_or_size_says_neither(self):
        plain = TeacherRef.of(TeacherSpec("convnet", 2), "a" * 64)
        assert not {"class_names", "input_size"} & set(plain.to_json())
        named = [TeacherRef.of(TeacherSpec("convnet", 2, 8, class_names=names), "a" * 64) for names in ("ab", "ba")]
        assert named[0].class_names != named[1].class_names
        assert named[0].to_json()["input_size"] == 8

    def test_names_that_cannot_be_printed_are_replaced(self):
        assert ImagesRef.of(replace(image_set([0]), source="a\n\udcff\x1b")).source == "a???"


class TestFingerprint:
    def test_the_recipe_is_no_part_of_it(self, labels):
        spec = labels.spec
        assert replace(spec, recipe={"epochs": 1}).fingerprint == spec.fingerprint

    def test_everything_else_is(self, labels, teacher):
        spec = labels.spec
        changes = [
            {"views": drawn_by(RULE, 1)},
            {"batch_size": 11},
            {"num_views": 119},
            {"shard_views": 51},
            {"select": "entropy"},
            {"codec": TopK(3)},
            {"views": drawn_by(replace(RULE, flip=True), 0)},
            {"images": replace(spec.images, fingerprint="b" * 64)},
            {"teacher": TeacherRef.of(teacher.spec, teacher.fingerprint)},
        ]
        assert len({replace(spec, **change).fingerprint for change in changes} | {spec.fingerprint}) == 10


class TestShards:
    @pytest.mark.parametrize(
        ("num_views", "shard_views", "sizes"),
        [(120, 50, [50, 50, 20]), (100, 50, [50, 50]), (30, 50, [30]), (51, 50, [50, 1])],
        ids=str,
    )
    def test_they_share_the_labels(self, labels, num_views, shard_views, sizes):
        spec = replace(labels.spec, num_views=num_views, shard_views=shard_views)
        assert (spec.shard_sizes, spec.num_shards) == (sizes, len(sizes))

    def test_the_prune_ratio_is_the_share_of_views_not_kept(self, labels):
        assert labels.spec.prune_ratio == 0
        assert replace(labels.spec, num_views=30).prune_ratio == 0.75


class TestLimits:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_classes": 1}, "num_classes must be a whole number from 2 to 16777216, found 1"),
            ({"num_images": 0}, "num_images must be a whole number from 1 to 16777216"),
            ({"num_classes": 2**24 + 1}, "num_classes must be a whole number from 2 to 16777216, found 16777217"),
            ({"num_classes": 10.0}, r"num_classes must be .*, found 10\.0"),
            ({"num_views": 29}, "num_views must be a whole number from 30 to 120, found 29"),
            ({"num_views": 121}, "num_views must be a whole number from 30 to 120, found 121"),
            ({"full_views": 0}, "full_views must be"),
            ({"views": drawn_by(RULE, -1)}, "seed must be a whole number from 0 to 18446744073709551615"),
            ({"views": drawn_by(RULE, 2**64)}, "seed must be"),
            ({"views": drawn_by(RULE, True)}, "seed must be"),
            ({"batch_size": 0}, "batch_size must be"),
            ({"shard_views": 2**20 + 1}, "shard_views must be a whole number from 1 to 1048576, found 1048577"),
            ({"codec": TopK(11)}, r"codec\.k must be a whole number from 1 to 10, found 11"),
            ({"select": ""}, "select must be printable text, found ''"),
            ({"select": "a\n"}, "select must be printable text"),
            ({"recipe": {"lr": float("nan")}}, r"recipe\.lr must be text, a number"),
            ({"recipe": {"lr": None}}, r"recipe\.lr must be text, a number"),
            ({"recipe": {"lr": [[1]]}}, r"recipe\.lr must be text, a number"),
            ({"recipe": []}, "recipe must be an object"),
        ],
        ids=str,
    )
    def test_values_out_of_range_are_refused(self, labels, change, message):
        with pytest.raises(ConfigError, match=message):
            replace(labels.spec, **change)

    def test_a_shard_that_no_reader_could_hold_is_refused(self, labels):
        large = replace(labels.spec, full_views=2**25, num_views=2**20, shard_views=2**18)
        with pytest.raises(ConfigError, match=r"of 10 classes .*at most 131072 shards"):
            replace(large, num_views=2**18 + 1, shard_views=2)
        with pytest.raises(ConfigError, match=r"of 2000 classes .*shard_views=262144.* at most 268435456 logits"):
            replace(large, num_classes=2000)
        replace(large, num_classes=2000, codec=TopK(1000))

    def test_images_without_ids_in_range_are_refused(self):
        for bad in ([-1], [2**31]):
            with pytest.raises(ConfigError, match="image ids from 0 to 2147483647"):
                ImagesRef.of(image_set([0], bad))
        with pytest.raises(ConfigError, match="at least one image"):
            ImagesRef.of(image_set([0]).take([]))


PACKED = {"bits": 2, "packed": "cA=="}  # 1, 3, 0, 0 in two bits each


class TestReading:
    """Every value of a manifest is checked, whoever wrote it."""

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            ("format", "fkd", "format must be 'lpqld-labels', found 'fkd'"),
            ("version", 2, "version must be"),
            ("num_images", 31, "images_per_class: 3 images of 10 classes are not 31"),
            ("num_images", "30", "num_images must be a whole number"),
            ("num_classes", 5, "images_per_class: 3 images of 5 classes are not 30"),
            ("num_views", 20, "num_views must be a whole number from 30"),
            ("num_views", 10**18, "num_views must be a whole number"),
            ("num_views", 30 * 2**31, "num_views must be a whole number from 30 to 64424509410, found"),
            ("full_views", 1, "num_views must be a whole number from 30 to 30, found 120"),
            ("shard_views", 0, "shard_views must be"),
            ("seed", 1.0, "seed must be"),
            ("batch_size", None, "batch_size must be"),
            ("codec", [], "codec must be an object"),
            ("codec", {}, "unknown codec"),
            ("codec", {"name": []}, "codec"),
            ("codec", {"name": "topk"}, "codec"),
            ("codec", {"name": "topk", "k": 1.5}, "k must be"),
            ("codec", {"name": "topk", "k": True}, "k must be"),
            ("codec", {"name": "topk", "k": 3, "step": True}, "step must be"),
            ("codec", {"name": "topk", "k": 3, "step": -1}, "step must be a positive number"),
            ("codec", {"name": "topk", "k": 11}, "codec.k must be a whole number from 1 to 10"),
            ("codec", {"name": "topk", "k": 3, "surprise": 1}, "codec"),
            ("view_rule", None, "view_rule must be an object"),
            ("view_rule.version", 2, "drawn by rule version 2"),
            ("view_rule.mix", "cutmax", "mix must be none, cutmix or mixup"),
            ("view_rule.flip", 1, "view_rule.flip must be true or false"),
            ("view_rule.crop_scale", [0.5], "view_rule.crop_scale must be 2 numbers"),
            ("view_rule.crop_scale", [0.5, 2], "crop_scale must be 0 < low <= high <= 1"),
            ("view_rule.mix_alpha", 0, "mix_alpha must be above 0"),
            ("view_rule.more", 0, "unknown fields"),
            ("images.fingerprint", "0" * 63, "images.fingerprint must be 64 hexadecimal digits"),
            ("images.size", 0, "images.size must be"),
            ("images.image_bytes", -1, "images.image_bytes must be"),
            ("images.source", "a\x1b[2J", "images.source must be"),
            ("images.images_per_class", 0, "images.images_per_class must be"),
            ("images.images_per_class", 4, "4 images of 10 classes are not 30"),
            ("images.images_per_class", PACKED, "images.images_per_class.packed must hold 3 bytes, found 1"),
            ("images.images_per_class", {"bits": 2, "packed": "////"}, "images.images_per_class"),
            ("images.images_per_class", None, "images.images_per_class must be an object"),
            ("images.labels", {"bits": 4, "packed": "A" * 20}, "images.labels"),
            ("images.labels", {"bits": 4, "packed": "f" + "A" * 19}, "images.labels"),
            ("images.ids", PACKED, "images.ids.packed must hold 8 bytes, found 1"),
            ("images.ids", {"bits": 32, "packed": "/" * 160}, "images.ids must be different numbers from 0"),
            ("images.ids", {"bits": 2, "packed": "Kqqqqqqqqqo="}, "images.ids"),
            ("teacher.std", [1, 1, 0], "teacher.std must be above 0"),
            ("teacher.mean", [1, 1], "teacher.mean must be 3 numbers"),
            ("teacher.interpolation", "nearest", "teacher.interpolation must be one of"),
            ("teacher.class_names", ["a"], "teacher.class_names must be 16 hexadecimal digits"),
            ("recipe", 3, "recipe must be an object"),
            ("recipe", {"a": {"b": 1}}, "recipe.a must be"),
            ("recipe", None, "not written in the one way"),
            ("select", None, "select must be 1 to 4096 printable characters"),
            ("select", ["entropy"], "select must be 1 to 4096 printable characters"),
            ("surprise", 1, "unknown fields"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_wrong_values_are_named(self, labels, path, value, message):
        document = json.loads(canonical_json(replace(labels.spec, codec=TopK(3)).to_json()))
        document["images"].pop("ids")
        read_spec(document)
        *parents, name = path.split(".")
        target = document
        for parent in parents:
            target = target[parent]
        target[name] = value
        if name == "labels":
            target.pop("images_per_class")
        with pytest.raises(DataError, match=message):
            read_spec(document)

    @pytest.mark.parametrize("value", [None, [], 3, "text", True], ids=str)
    def test_what_is_no_object_is_refused(self, value):
        with pytest.raises(DataError, match="must be an object"):
            read_spec(value)

    def test_every_field_is_needed(self, labels):
        document = json.loads(canonical_json(replace(labels.spec, codec=Dense()).to_json()))
        for name in document:
            rest = {key: value for key, value in document.items() if key != name}
            with pytest.raises(DataError, match=name):
                read_spec(rest)
        for inner in ("images", "teacher", "view_rule"):
            for name in set(document[inner]) - {"ids"}:
                rest = {key: value for key, value in document[inner].items() if key != name}
                with pytest.raises(DataError, match=rf"{inner}\.{name}"):
                    read_spec({**document, inner: rest})
