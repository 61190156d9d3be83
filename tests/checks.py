"""What codecs promise, one function a promise, and the small label sets that tests are made of."""

from __future__ import annotations

import numpy as np
import torch

from lpqld.codecs import Codec, Dense, Logits, dense_ids
from lpqld.images.image_set import ImageSet
from lpqld.labels.label_set import Labels
from lpqld.labels.provenance import ImagesRef, TeacherRef
from lpqld.labels.spec import LabelSpec
from lpqld.models.architectures import build
from lpqld.models.teacher import Teacher
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.views.registry import drawn_by
from lpqld.views.rule import ViewRule

RULE = ViewRule(crop_scale=(0.6, 1.0), flip=False)


def untrained_teacher(class_names: tuple[str, ...] | None = None) -> Teacher:
    """A convnet for the digits, of the same weights each time, that has learnt nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Teacher(build("convnet", 10), TeacherSpec("convnet", 10, 8, class_names=class_names))


def plain_choice(logits: np.ndarray, k: int) -> np.ndarray:
    """Ids [N, k] of the k largest, by a plain sort: larger values first, equal values by id."""
    return np.array([sorted(range(len(row)), key=lambda column: (-row[column], column))[:k] for row in logits])


def decoded(codec: Codec, logits: np.ndarray) -> Logits:
    """What comes back of dense logits [N, C]."""
    return codec.decode(codec.encode(logits), num_views=len(logits), num_classes=logits.shape[1])


def check_shape(codec: Codec, logits: np.ndarray) -> None:
    back = decoded(codec, logits)
    expected = (len(logits), codec.kept(logits.shape[1]))
    assert (back.ids.shape, back.values.shape) == (expected, expected)
    assert (back.ids.dtype, back.values.dtype) == (np.int32, np.float32)


def check_kept_classes(codec: Codec, logits: np.ndarray) -> None:
    """The k largest, equal values going to the lower id."""
    expected = plain_choice(logits, codec.kept(logits.shape[1]))
    assert np.sort(decoded(codec, logits).ids, axis=1).tolist() == np.sort(expected, axis=1).tolist()


def check_values(codec: Codec, logits: np.ndarray) -> None:
    """In steps, within half of one but for a shift of the label (and float32's own rounding); else fp16 exactly."""
    back = decoded(codec, logits)
    kept = np.take_along_axis(logits, back.ids.astype(np.int64), axis=1)
    if codec.stores_half:
        assert np.array_equal(back.values, kept.astype(np.float16).astype(np.float32))
        return
    error = kept.astype(np.float64) - back.values
    rounding = np.abs(kept).max(axis=1).astype(np.float64) * 2.0**-21
    assert (error.max(axis=1) - error.min(axis=1) <= codec.value_step * (1 + 1e-12) + rounding).all()
    assert (back.values.max(axis=1) == 0).all()


def check_order(codec: Codec, logits: np.ndarray) -> None:
    """The teacher's argmax first, then by decoded value, then by id; the dense codec keeps class order."""
    back = decoded(codec, logits)
    if codec.stores_every_logit:
        assert (back.ids == np.arange(logits.shape[1])).all()
        return
    assert back.ids[:, 0].tolist() == logits.argmax(axis=1).tolist()
    assert (back.values[:, 0] == back.values.max(axis=1, initial=-np.inf)).all()
    for ids, values in zip(back.ids[:, 1:].tolist(), back.values[:, 1:].tolist(), strict=True):
        assert sorted(zip(ids, values, strict=True), key=lambda pair: (-pair[1], pair[0])) == list(
            zip(ids, values, strict=True)
        )


def check_sizes(codec: Codec, logits: np.ndarray) -> None:
    """The size of every prefix is known from one encoding, and no more than the bound that was known before."""
    sizes, num_classes = codec.sizes(logits), logits.shape[1]
    assert sizes.tolist() == [len(codec.encode(logits[:count])) for count in range(len(logits) + 1)]
    assert (sizes <= [codec.max_bytes(count, num_classes) for count in range(len(logits) + 1)]).all()


def check_hints(codec: Codec, logits: np.ndarray) -> None:
    """Hints change the bytes at most: right and wrong ones, the same one twice, and none."""
    num_views, num_classes = logits.shape
    plain = decoded(codec, logits)
    likely = np.argsort(-logits, axis=1)[:, :2].astype(np.int32)
    drawn = np.random.default_rng(0).integers(-1, num_classes, (num_views, 2)).astype(np.int32)
    for hints in (likely, likely[:, :1], drawn, np.repeat(drawn[:, :1], 2, axis=1), drawn[:, :0]):
        payload = codec.encode(logits, hints=hints)
        back = codec.decode(payload, num_views=num_views, num_classes=num_classes, hints=hints)
        assert equal_logits(back, plain)
        assert codec.sizes(logits, hints=hints)[-1] == len(payload)


def check_kept_before_rounding(codec: Codec, logits: np.ndarray) -> None:
    """What `keep` holds encodes to the same bytes."""
    if logits.dtype == np.float32:
        assert codec.encode(codec.keep(logits), num_classes=logits.shape[1]) == codec.encode(logits)


def check_idempotent(codec: Codec, logits: np.ndarray) -> None:
    """Encoding what was decoded changes nothing."""
    first = codec.encode(logits)
    back = codec.decode(first, num_views=len(logits), num_classes=logits.shape[1])
    assert codec.encode(back, num_classes=logits.shape[1]) == first


def check_roundtrip(codec: Codec, logits: np.ndarray) -> None:
    """What comes back of any of the views is known without bytes, also from what `keep` holds and from fp16."""
    num_views, num_classes = logits.shape
    expected, reverse = decoded(codec, logits), np.arange(num_views)[::-1]
    assert equal_logits(codec.roundtrip(logits), expected)
    assert equal_logits(codec.roundtrip(logits[reverse]), expected.take(reverse))
    for view in {0, num_views // 2, num_views - 1}:
        assert equal_logits(codec.roundtrip(logits[[view]]), expected.take(slice(view, view + 1)))
    if logits.dtype == np.float32:
        assert equal_logits(codec.roundtrip(codec.keep(logits), num_classes=num_classes), expected)
    half = logits.astype(np.float16)
    held = Logits(dense_ids(*half.shape), half)
    if np.isfinite(half).all():
        assert equal_logits(codec.roundtrip(held, num_classes=num_classes), decoded(codec, half.astype(np.float32)))


def check_deterministic(codec: Codec, logits: np.ndarray) -> None:
    """The same bytes from a copy, from another memory order, and from an equal codec; the input is left alone."""
    before = logits.copy()
    expected = codec.encode(logits)
    assert codec.encode(np.asfortranarray(logits)) == expected
    assert type(codec)(**{key: value for key, value in codec.to_json().items() if key != "name"}).encode(logits) == (
        expected
    )
    assert np.array_equal(before, logits)


def check_sparse_input(codec: Codec, logits: np.ndarray) -> None:
    """All classes as sparse logits, in class order or largest first, and just the kept ones, give the same bytes."""
    num_classes = logits.shape[1]
    expected = codec.encode(logits)
    in_class_order = Logits(dense_ids(*logits.shape), logits)
    assert codec.encode(in_class_order, num_classes=num_classes) == expected
    says_nothing = codec.stores_every_logit or codec.absent == "none"
    for count in {num_classes, codec.kept(num_classes) if says_nothing else num_classes}:
        ids = plain_choice(logits, count)
        sparse = Logits(ids.astype(np.int32), np.take_along_axis(logits, ids, axis=1))
        assert codec.encode(sparse, num_classes=num_classes) == expected


CODEC_CONTRACT = (
    check_shape,
    check_kept_classes,
    check_values,
    check_order,
    check_idempotent,
    check_roundtrip,
    check_deterministic,
    check_sparse_input,
    check_sizes,
    check_hints,
    check_kept_before_rounding,
)


def check_valid(logits: Logits, num_classes: int) -> None:
    """Whatever a damaged payload decodes to, it is usable: different ids in range, finite values."""
    assert logits.ids.shape == logits.values.shape
    assert ((logits.ids >= 0) & (logits.ids < num_classes)).all()
    assert all(len(set(row)) == len(row) for row in logits.ids.tolist())
    assert np.isfinite(logits.values).all()


def random_logits(num_views: int, num_classes: int, seed: int = 0, scale: float = 4.0) -> np.ndarray:
    """Normal logits, float32 [N, C]."""
    return (np.random.default_rng(seed).standard_normal((num_views, num_classes)) * scale).astype(np.float32)


def made_up_labels(
    images: ImageSet,
    views_per_image: int = 4,
    *,
    shard_views: int = 50,
    seed: int = 0,
    rule: ViewRule = RULE,
) -> Labels:
    """Dense labels of random logits for all views of `images`."""
    num_views = images.num_images * views_per_image
    spec = LabelSpec(
        num_images=images.num_images,
        num_classes=images.num_classes,
        num_views=num_views,
        full_views=views_per_image,
        codec=Dense(),
        views=drawn_by(rule, seed),
        batch_size=10,
        shard_views=shard_views,
        images=ImagesRef.of(images),
        teacher=TeacherRef.of(TeacherSpec("made up", images.num_classes), "0" * 64),
    )
    values = random_logits(num_views, images.num_classes, seed).astype(np.float16).astype(np.float32)
    return Labels(spec, Logits(dense_ids(*values.shape), values))


def equal_logits(one: Logits, other: Logits) -> bool:
    """Whether ids and values are the same, in the same order, and so is what absent classes have."""
    if (one.absent is None) != (other.absent is None):
        return False
    absent = one.absent is None or np.array_equal(one.absent, other.absent)
    return np.array_equal(one.ids, other.ids) and np.array_equal(one.values, other.values) and absent


def equal_labels(one: Labels, other: Labels) -> bool:
    """Whether specification, logits and view numbers are the same."""
    numbers = np.array_equal(one.view_numbers, other.view_numbers)
    return one.spec == other.spec and equal_logits(one.logits, other.logits) and numbers


def softmax(values: np.ndarray) -> np.ndarray:
    """Row by row, in float64."""
    weights = np.exp(values.astype(np.float64) - values.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def dense_probabilities(ids: torch.Tensor | np.ndarray, values: np.ndarray, num_classes: int) -> np.ndarray:
    """softmax over the kept classes by plain loops, 0 elsewhere: float64 [N, C]."""
    full = np.zeros((len(values), num_classes))
    for row, probabilities in enumerate(softmax(np.asarray(values))):
        for column, probability in zip(np.asarray(ids)[row], probabilities, strict=True):
            full[row, int(column)] = probability
    return full
