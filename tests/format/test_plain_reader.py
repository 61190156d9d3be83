"""docs/label-format.md says enough of payloads to read them: a reader made from its text alone finds what codecs do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lpqld.codecs import Codec, Logits
from lpqld.codecs.dense import Dense
from lpqld.codecs.hard import Hard
from lpqld.codecs.lowrank import LowRank
from lpqld.codecs.topk import TopK
from lpqld.errors import DataError
from tests.checks import equal_logits, random_logits
from tests.format.plain_reader import DamagedError, decode

NUM_VIEWS = {2: 40, 3: 50, 10: 40, 40: 24, 300: 8}
VARIANTS: dict[str, TopK] = {
    "fp16": TopK(1),
    "fp16 tail": TopK(1, None, "tail"),
    "coarse": TopK(1, 2.5),
    "minimum": TopK(1, 0.25, "minimum"),
    "share": TopK(1, 0.01, "share", 4.0),
    "fine tail": TopK(1, 1e-4, "tail"),
}


def pictures(num_views: int, num_classes: int, seed: int = 0) -> np.ndarray:
    """Logits of views of a few images: much alike in groups."""
    images = random_logits(max(1, num_views // 8), num_classes, seed)
    group = np.random.default_rng(seed).integers(len(images), size=num_views)
    return images[group] + random_logits(num_views, num_classes, seed + 1, scale=1.0)


def hints_of(logits: np.ndarray, columns: int) -> np.ndarray | None:
    """Classes that are often among the largest; now and then none."""
    if columns == 0:
        return None
    generator = np.random.default_rng(len(logits))
    order = np.argsort(-logits - generator.normal(scale=4.0, size=logits.shape), axis=1)
    hints = np.stack([order[:, 0], order[np.arange(len(logits)), generator.integers(2, size=len(logits))]], axis=1)
    hints[hints[:, 0] == hints[:, 1], 1] = -1
    hints[generator.random(hints.shape) < 0.1] = -1
    return hints[:, :columns].astype(np.int32)


def plainly(codec: Codec, payload: bytes, num_views: int, num_classes: int, hints: np.ndarray | None) -> Logits:
    """What the plain reader finds, as the codecs say it."""
    rows = [[]] * num_views if hints is None else hints.tolist()
    ids, values, absent = decode(codec.to_json(), payload, num_views, num_classes, rows)
    shape = (num_views, codec.kept(num_classes))
    return Logits(
        np.array(ids, dtype=np.int32).reshape(shape),
        np.array(values, dtype=np.float32).reshape(shape),
        np.array(absent, dtype=np.float32).reshape(num_views, 2),
    )


def check_same(codec: Codec, logits: np.ndarray, hints: np.ndarray | None = None) -> None:
    """Both readers find the same; of values even the sign of zero."""
    num_views, num_classes = logits.shape
    payload = codec.encode(logits, hints=hints)
    plain = plainly(codec, payload, num_views, num_classes, hints)
    ids, values, absent = codec.decode(payload, num_views=num_views, num_classes=num_classes, hints=hints)
    if absent is None:
        absent = np.tile(np.array([-np.inf, 0], dtype=np.float32), (num_views, 1))
    assert plain.ids.tolist() == ids.tolist()
    assert np.array_equal(plain.values.view(np.int32), values.view(np.int32))
    assert np.array_equal(plain.absent, absent)


def of_k(variant: TopK, k: int) -> TopK:
    return TopK(k, variant.step, variant.absent, variant.temperature)


@pytest.mark.parametrize("columns", [0, 1, 2])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("num_classes", NUM_VIEWS)
def test_the_largest_logits_are_read(num_classes, variant, columns):
    logits = pictures(NUM_VIEWS[num_classes], num_classes)
    for k in sorted({1, 2, 3, 4, 5, num_classes - 1, num_classes}):
        if k <= num_classes:
            check_same(of_k(variant, k), logits, hints_of(logits, columns))


@pytest.mark.parametrize("k", [1, 2, 3, 5, 9, 10])
@pytest.mark.parametrize("columns", [0, 2])
@pytest.mark.parametrize(("num_views", "level"), [(15, 0.0), (15, -0.0), (15, -7.3), (0, 0.0)])
def test_labels_that_say_nothing_are_read(num_views, level, columns, k):
    logits = np.full((num_views, 10), level, dtype=np.float32)
    hints = None if columns == 0 else np.tile(np.array([[3, 8]], dtype=np.int32), (num_views, 1))
    for variant in VARIANTS.values():
        check_same(of_k(variant, k), logits, hints)


@pytest.mark.parametrize(
    "codec", [TopK(2, 1e-3, "tail"), TopK(5, 1e-3, "minimum"), TopK(5), TopK(40, 1e-3), Dense(1e-3)]
)
def test_outliers_are_read(codec):
    logits = pictures(60, 40)
    logits[7] *= 500
    logits[20, 3], logits[30, 3], logits[40] = 15_000, -15_000, 0
    check_same(codec, logits, hints_of(logits, 2))


def check_pairs(pairs: list[tuple[int, int]], is_hinted: list[bool], num_classes: int) -> None:
    """Labels of two classes; where the second is hinted, bins learn nothing."""
    logits = np.zeros((len(pairs), num_classes), dtype=np.float32)
    for row, (first, second) in zip(logits, pairs, strict=True):
        row[first], row[second] = 10, 5
    hints = [[second if hinted else -1] for (_, second), hinted in zip(pairs, is_hinted, strict=True)]
    check_same(TopK(2, 1.0), logits, np.array(hints, dtype=np.int32))


def test_counts_are_halved_in_long_payloads():
    logits = random_logits(5000, 4, scale=1.0) + np.array([3, 2, 1, 0], dtype=np.float32)
    check_same(TopK(3, 0.5), logits, hints_of(logits, 2))


def test_counts_are_halved_at_65536_but_not_at_65535():
    """A leader counts 16, a second class 15. A row half as heavy parts classes that its last bin held together."""
    runs = [((3, 2), 1400), ((0, 1), 4096), ((0, 2), 1), ((0, 1), 273), ((1, 2), 1), ((0, 3), 1), ((2, 4), 1)]
    assert (16 * 4096, 15 * (4096 + 273)) == (65536, 65535)
    pairs = [pair for pair, length in runs for _ in range(length)]
    check_pairs(pairs, [length > 1 for _, length in runs for _ in range(length)], num_classes=6)


def test_weights_beyond_the_largest_total_are_halved():
    """Nearly all classes in a bin that had one class at a time before, always the chosen one.

    A new leader's first four classes are hinted, the last a new one; its next is the new one of the leader before.
    To a leader never seen, classes that no label kept are as likely as that one was.
    """
    pairs, is_hinted = [], []
    for leader in range(60):
        pairs += [(leader, second) for second in [999, 999, 999, 1001 + leader, 1000 + leader if leader else 999]]
        is_hinted += [True, True, True, True, leader == 0]
    pairs += [(500 + following, 700 + following) for following in range(10)]
    check_pairs(pairs, [*is_hinted, *[False] * 10], num_classes=3000)


@pytest.mark.parametrize("k", [2, 5, 30])
def test_many_classes_share_rows(k):
    logits = pictures(20, 6000)
    logits[:, :40] += 10
    check_same(TopK(k, 0.5, "tail"), logits, hints_of(logits, 1))


def test_all_classes_but_few_are_kept_in_long_payloads():
    logits = pictures(300, 40)
    check_same(TopK(36, 0.5), logits, hints_of(logits, 2))


@pytest.mark.parametrize("codec", [Dense(), Dense(2.5), Dense(0.25), Dense(1e-4)], ids=repr)
@pytest.mark.parametrize("columns", [0, 1, 2])
def test_dense_labels_are_read(codec, columns):
    for num_views, num_classes in [(0, 2), (50, 2), (50, 3), (30, 40)]:
        logits = pictures(num_views, num_classes)
        check_same(codec, logits, hints_of(logits, columns))


@pytest.mark.parametrize("num_views", [0, 20])
def test_hard_labels_are_read(num_views):
    hints = np.random.default_rng(0).integers(10, size=(num_views, 2)).astype(np.int32)
    check_same(Hard(), np.zeros((num_views, 10)), hints)


@pytest.mark.parametrize(("num_classes", "rank", "bits"), [(2, 1, 8), (10, 3, 2), (40, 5, 8), (300, 20, 16)])
def test_low_rank_labels_are_read(num_classes, rank, bits):
    logits = pictures(60, num_classes)
    codec = LowRank.fit(logits, rank=rank, bits=bits)
    logits[5] *= 100
    check_same(codec, logits, hints_of(logits, 1))
    check_same(codec, logits[:0])


@pytest.mark.parametrize(
    "codec", [TopK(3, 0.25, "tail"), TopK(2), TopK(10, 0.25), LowRank.fit(pictures(40, 10), rank=3)]
)
def test_payloads_of_another_length_are_refused(codec):
    logits = pictures(40, 10)
    payload = codec.encode(logits)
    for damaged in [payload + b"\0", payload[:-1], payload[: len(payload) // 2], b""]:
        with pytest.raises(DamagedError):
            plainly(codec, damaged, 40, 10, None)
        with pytest.raises(DataError):
            codec.decode(damaged, num_views=40, num_classes=10)


def test_damaged_payloads_are_read_alike():
    """Bytes that nobody wrote: the same labels, or none."""
    generator = np.random.default_rng(0)
    codecs = [TopK(2, 0.25), TopK(5, 0.25, "tail"), TopK(4), TopK(5, 1e-3), TopK(7, 0.1), Dense()]
    payloads = [b"\xff" * length for length in range(6, 20)]
    payloads += [generator.bytes(length) for length in [*range(1, 30), *range(1, 10)] * 2]
    cases = itertools.product(codecs, payloads, [1, 2, 3])
    found = [read_alike(codec, payload, num_views, num_classes=7) for codec, payload, num_views in cases]
    assert 40 < sum(found) < len(found) - 40


def read_alike(codec: Codec, payload: bytes, num_views: int, num_classes: int) -> bool:
    """Whether both readers read a payload, and they must agree on that."""
    try:
        plain = plainly(codec, payload, num_views, num_classes, None)
    except DamagedError:
        with pytest.raises(DataError):
            codec.decode(payload, num_views=num_views, num_classes=num_classes)
        return False
    real = codec.decode(payload, num_views=num_views, num_classes=num_classes)
    assert equal_logits(plain if real.absent is not None else plain._replace(absent=None), real)
    return True
