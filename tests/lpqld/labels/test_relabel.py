import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lpqld.codecs.dense import Dense
from lpqld.codecs.registry import CODEC_NAMES
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError
from lpqld.labels.fidelity import largest_difference
from lpqld.labels.label_set import Labels
from lpqld.labels.provenance import TeacherRef
from lpqld.labels.relabel import Labeler, shard_size, specify
from lpqld.labels.shards import decode_shard, encode_shard
from lpqld.labels.spec import LabelSpec
from lpqld.labels.spec_reading import read_spec
from lpqld.models.architectures import build
from lpqld.models.teacher import Teacher
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.storage.files import canonical_json
from lpqld.views.drawn import DrawnViews
from lpqld.views.rendering import render
from tests.checks import RULE, equal_logits, plain_choice

CPU = torch.device("cpu")


def relabelled(teacher, images, spec: LabelSpec) -> Labels:
    labeler = Labeler(teacher, images, spec.view_rule, spec.seed, CPU)
    parts = [decode_shard(spec, index, labeler.shard(spec, index)) for index in range(spec.num_shards)]
    return Labels.of_shards(spec, parts)


@pytest.fixture(scope="module")
def spec(teacher, images) -> LabelSpec:
    return specify(teacher, images, RULE, views_per_image=4, seed=5, batch_size=16, device=CPU, shard_views=48)


@pytest.fixture(scope="module")
def logits(teacher, images) -> np.ndarray:
    """The teacher's logits of every rendered view, one view at a time."""
    views = DrawnViews(images, RULE, 5)
    with torch.inference_mode():
        rows = [teacher(render(images.pixels, views.draw(np.array([position])))) for position in range(120)]
    return torch.cat(rows).numpy()


class TestShards:
    @pytest.mark.parametrize("shard_views", [16, 48, 1000], ids=str)
    def test_labels_are_the_teachers_logits_of_the_rendered_views_for_any_shard_size(
        self, teacher, images, spec, logits, shard_views
    ):
        labels = relabelled(teacher, images, replace(spec, shard_views=shard_views))
        assert labels.logits.ids.shape == (120, 10)
        # fp16's own rounding, and the last bits of a batched convolution.
        assert labels.logits.values == pytest.approx(logits, rel=2.0**-10, abs=1e-4)

    def test_shard_size_does_not_change_one_bit(self, teacher, images, spec):
        whole, pieces = (relabelled(teacher, images, replace(spec, shard_views=size)) for size in (1000, 16))
        assert equal_logits(whole.logits, pieces.logits)

    def test_a_repeated_shard_has_the_same_bytes(self, teacher, images, spec):
        one, other = (Labeler(teacher, images, RULE, 5, CPU).shard(spec, 1) for _ in range(2))
        assert one == other

    @pytest.mark.parametrize("codec", [TopK(3), TopK(3, 0.125), TopK(1), TopK(10, 0.5)], ids=str)
    def test_a_top_k_master_keeps_exactly_the_top_k(self, teacher, images, spec, logits, codec):
        labels = relabelled(teacher, images, replace(spec, codec=codec))
        expected = np.sort(plain_choice(logits, codec.k), axis=1)
        assert np.sort(labels.logits.ids, axis=1).tolist() == expected.tolist()
        assert labels.logits.ids[:, 0].tolist() == logits.argmax(axis=1).tolist()
        kept = np.take_along_axis(logits, labels.logits.ids.astype(np.int64), axis=1)
        difference = labels.logits.values - kept
        if codec.step:  # up to one constant shift a label
            difference -= (difference.max(axis=1, keepdims=True) + difference.min(axis=1, keepdims=True)) / 2
        tolerance = codec.step / 2 if codec.step else float(np.abs(kept).max()) * 2.0**-11
        assert np.abs(difference).max() <= tolerance + 1e-4

    @pytest.mark.parametrize("name", CODEC_NAMES)
    def test_every_codec_can_be_relabelled_in(self, teacher, images, name):
        k = 4 if name.startswith(("topk", "lowrank")) else None
        spec = specify(
            teacher, images, RULE, views_per_image=4, seed=5, batch_size=16, codec=name, k=k, bits=6, device=CPU
        )
        labels = relabelled(teacher, images, spec)
        assert labels.logits.ids.shape == (120, spec.codec.kept(10))
        again = encode_shard(spec, 0, labels.logits)
        assert equal_logits(decode_shard(spec, 0, again).logits, labels.logits) or name == "lowrank"

    def test_recomputed_labels_agree_with_the_stored_ones(self, teacher, images, spec):
        labels = relabelled(teacher, images, spec)
        assert largest_difference(labels, images, teacher, num_views=120, seed=0, device=CPU) < 1


class TestRefusal:
    def test_a_teacher_that_is_not_finite_is_refused_with_image_and_view(self, teacher, images, spec):
        views = DrawnViews(images, RULE, 5)
        broken = Teacher(_NotFiniteOn(teacher, render(images.pixels, views.draw(np.array([77])))[0]), teacher.spec)
        row, number = views.rows_and_numbers(np.array([77]))
        expected = rf"image {images.ids[row[0]]}, view {number[0]} are not finite; check the checkpoint"
        with pytest.raises(DataError, match=expected):
            relabelled(broken, images, spec)

    def test_weights_that_are_not_numbers_are_refused(self, images, spec):
        model = build("convnet", 10)
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        with pytest.raises(DataError, match=f"image {images.ids[0]}, view 0 are not finite"):
            relabelled(Teacher(model, TeacherSpec("convnet", 10)), images, spec)

    def test_a_teacher_with_other_classes_is_refused(self, images):
        with pytest.raises(DataError, match="the teacher has 7 classes, the images 10: pass `classes=FILE`"):
            Labeler(Teacher(build("convnet", 7), TeacherSpec("convnet", 7)), images, RULE, 0, CPU)


class _NotFiniteOn(torch.nn.Module):
    """A network that overflows on one view."""

    def __init__(self, teacher: Teacher, view: torch.Tensor) -> None:
        super().__init__()
        self.network = teacher.model
        self.register_buffer("view", (view - teacher.mean[0]) / teacher.std[0])

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        hit = (views - self.view).abs().flatten(1).amax(1) < 1e-6
        return torch.where(hit[:, None], torch.inf, self.network(views))


class TestSpecify:
    def test_the_specification_says_all_that_decides_the_labels(self, teacher, images, spec):
        assert (spec.num_images, spec.num_classes, spec.num_views, spec.full_views) == (30, 10, 120, 4)
        assert (spec.codec, spec.view_rule, spec.seed, spec.batch_size) == (Dense(), RULE, 5, 16)
        assert spec.images.fingerprint == images.fingerprint
        assert spec.image_ids.tolist() == images.ids.tolist()
        assert spec.image_classes.tolist() == images.labels.tolist()
        assert spec.teacher == TeacherRef.of(teacher.spec, teacher.fingerprint)
        assert spec.teacher.architecture == "convnet"

    def test_what_is_read_from_a_manifest_equals_what_was_specified(self, spec):
        assert read_spec(json.loads(canonical_json(spec.to_json()))) == spec

    @pytest.mark.parametrize(
        ("asked", "batch_size", "held"), [(1, 16, 16), (16, 16, 16), (17, 16, 32), (100, 7, 105)], ids=str
    )
    def test_shards_hold_whole_batches(self, teacher, images, asked, batch_size, held):
        found = specify(
            teacher, images, RULE, views_per_image=1, seed=0, batch_size=batch_size, device=CPU, shard_views=asked
        )
        assert found.shard_views == held

    @pytest.mark.parametrize(
        ("num_views", "batch_size", "kept", "held"),
        [
            (1000, 100, 10, 1100),
            (30_000, 100, 10, 1100),
            (1_000_000, 100, 200, 2000),
            (3_000_000, 128, 1000, 5888),
            (30_000_000, 100, 1000, 8200),
            (62_700_000, 32, 10_450, 1632),
            (62_700_000, 32, 2000, 8192),
            (10**9, 32, 2000, 15_264),
        ],
        ids=["small", "digits", "a 512th", "in1k", "large", "in21k, all logits", "in21k, top 2,000", "very large"],
    )
    def test_shards_are_as_large_as_the_job_asks(self, num_views, batch_size, kept, held):
        assert shard_size(num_views, batch_size, kept) == held

    @pytest.mark.parametrize("codec", ["topk", "dense"])
    @pytest.mark.parametrize("bits", [3, 6, 10], ids=str)
    def test_bits_become_a_step_from_the_teachers_own_labels(self, teacher, images, logits, codec, bits):
        k = 4 if codec == "topk" else 10
        found = specify(
            teacher,
            images,
            RULE,
            views_per_image=4,
            seed=5,
            batch_size=16,
            codec=codec,
            k=4 if codec == "topk" else None,
            bits=bits,
            device=CPU,
        )
        kept = np.sort(logits, axis=1)[:, -k:]
        span = float((kept.max(axis=1) - kept.min(axis=1)).max())
        assert found.codec.kept(10) == k
        assert found.codec.step == pytest.approx(span / (2**bits - 1), rel=2e-3)
        labels = relabelled(teacher, images, found)
        values = labels.logits.values
        steps = np.rint((values.max(axis=1, keepdims=True) - values) / found.codec.step)
        assert 2 ** (bits - 1) <= steps.max() <= 2**bits - 1

    @pytest.mark.parametrize("change", [{"views_per_image": 0}, {"batch_size": 0}], ids=str)
    def test_numbers_out_of_range_are_refused(self, teacher, images, change):
        options = {"views_per_image": 1, "seed": 0, "batch_size": 1, "device": CPU, **change}
        with pytest.raises(ConfigError, match="views and batch size must be at least 1"):
            specify(teacher, images, RULE, **options)
