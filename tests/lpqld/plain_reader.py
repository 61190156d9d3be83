"""A second reader of payloads, written from the specification's text alone: slow, plain, no numpy and nothing of lpqld."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Hashable
from typing import Any

RANK_WEIGHTS = (16, 15, 14, 14, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8, 7, 7, 7, 6, 6, 6, 5, 5, 5)
NUM_BINS = 24
ABSENT_NUMBERS = {"none": 0, "minimum": 1, "share": 1, "tail": 2}

Decoded = tuple[list[list[int]], list[list[float]], list[tuple[float, float]]]


def decode(codec: dict[str, Any], payload: bytes, num_views: int, num_classes: int, hints: list[list[int]]) -> Decoded:
    """Ids and values of every view's label, and the level and slope of its absent classes: level + slope / T.

    ``codec`` is the codec's JSON object, ``hints`` the hints of each view (-1: none).
    """
    readers: dict[str, Callable[..., Decoded]] = {
        "dense": read_dense,
        "hard": read_hard,
        "topk": read_topk,
        "lowrank": read_lowrank,
    }
    return readers[codec["name"]](codec, payload, num_views, num_classes, hints)


def float32(number: float) -> float:
    """The float32 nearest to a number."""
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def in_class_order(values: list[list[float]], num_classes: int) -> Decoded:
    """Labels that keep every class."""
    ids = [list(range(num_classes)) for _ in values]
    return ids, values, [(-math.inf, 0.0)] * len(values)


# The range coder and its symbols


class RangeDecoder:
    """The decoding side of a range coder with a 48-bit state."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.code = int.from_bytes(payload[:6].ljust(6, b"\0"), "big")
        self.range = 1 << 48
        self.shifts = 0

    def bit(self, probability: int) -> int:
        """A bit that is 1 with ``probability`` / 2^16."""
        bound = (self.range >> 16) * probability
        if self.code < bound:
            self._narrow(0, bound)
            return 1
        self._narrow(bound, self.range - bound)
        return 0

    def part(self, sizes: list[int]) -> int:
        """Which of some parts of a total."""
        total = sum(sizes)
        unit = self.range // total
        point = min(self.code // unit, total - 1)
        start = 0
        for symbol, size in enumerate(sizes):
            if start <= point < start + size:
                self._take(unit, start, size, total)
                return symbol
            start += size
        raise AssertionError("every point lies in a part")

    def uniform(self, n: int) -> int:
        """A whole number below n."""
        if n == 1:
            return 0
        unit = self.range // n
        point = min(self.code // unit, n - 1)
        self._take(unit, point, 1, n)
        return point

    def finish(self) -> None:
        """Refuse a payload that is longer or shorter than what was read of it."""
        if len(self.payload) != self.shifts + 1:
            raise ValueError(f"{len(self.payload)} bytes where {self.shifts + 1} were read")

    def _take(self, unit: int, start: int, size: int, total: int) -> None:
        is_last = start + size == total
        self._narrow(unit * start, self.range - unit * start if is_last else unit * size)

    def _narrow(self, offset: int, size: int) -> None:
        self.code -= offset
        self.range = size
        while self.range < 1 << 40:
            place = self.shifts + 6
            byte = self.payload[place] if place < len(self.payload) else 0
            self.code = self.code * 256 + byte
            self.range *= 256
            self.shifts += 1


class SymbolReader:
    """Adaptive bits, each found by its context, and what is made of them."""

    def __init__(self, payload: bytes) -> None:
        self.coder = RangeDecoder(payload)
        self.states: dict[Hashable, tuple[int, int]] = {}

    def adaptive_bit(self, context: Hashable, first: int = 1 << 14) -> int:
        """A bit whose probability follows the bits that its context saw before."""
        p, n = self.states.get(context, (first, 0))
        rate = 655360 // (10 * n + 16)
        bit = self.coder.bit(p)
        if bit:
            p = min(p + (((1 << 16) - p) * rate >> 16), (1 << 16) - 32)
        else:
            p = max(p - (p * rate >> 16), 32)
        self.states[context] = p, min(n + 1, 255)
        return bit

    def hint_bit(self, *context: Hashable) -> bool:
        """Whether a hint is what is asked for."""
        return bool(self.adaptive_bit(("hint", *context), first=1 << 15))

    def unary(self, most: int, *context: Hashable) -> int:
        """The number of zeros before a one, at most ``most``."""
        count = 0
        while count < most and not self.adaptive_bit((*context, count)):
            count += 1
        return count

    def number(self, kind: int) -> int:
        """A whole number below 2^24: its count of digits, then its digits."""
        num_digits = self.unary(24, "number", kind)
        if num_digits == 0:
            return 0
        number = 1
        for place in range(num_digits - 1):
            if place < 3:
                digit = self.adaptive_bit(("digit", kind, num_digits, number))
            else:
                digit = self.coder.bit(1 << 15)
            number = 2 * number + digit
        return number

    def value(self, most: int, shift: int, *context: Hashable) -> int:
        """A whole number in 0 ... most: its high part, then its ``shift`` low bits."""
        high = self.unary(most >> shift, "value", *context)
        return min((high << shift) + self.coder.uniform(1 << shift), most)


# dense, hard and lowrank


def read_dense(
    codec: dict[str, Any], payload: bytes, num_views: int, num_classes: int, hints: list[list[int]]
) -> Decoded:
    """Every class's logit, as fp16 or as a topk label that keeps them all."""
    if codec.get("step") is not None:
        labels = TopKReader({"k": num_classes, "step": codec["step"]}, payload, num_classes).read(num_views, hints)
        return in_class_order([[label.value_of[id] for id in range(num_classes)] for label in labels], num_classes)
    if len(payload) != 2 * num_views * num_classes:
        raise ValueError(f"{len(payload)} bytes of fp16 logits")
    numbers = struct.unpack(f"<{num_views * num_classes}e", payload)
    rows = [list(numbers[view * num_classes : (view + 1) * num_classes]) for view in range(num_views)]
    return in_class_order(rows, num_classes)


def read_hard(
    codec: dict[str, Any], payload: bytes, num_views: int, num_classes: int, hints: list[list[int]]
) -> Decoded:
    """The class of each view's image, its first hint."""
    if payload:
        raise ValueError("a hard payload is empty")
    return [[hints[view][0]] for view in range(num_views)], [[0.0]] * num_views, [(-math.inf, 0.0)] * num_views


def read_lowrank(
    codec: dict[str, Any], payload: bytes, num_views: int, num_classes: int, hints: list[list[int]]
) -> Decoded:
    """Coefficients along stored directions."""
    mean = struct.unpack(f"<{num_classes}e", base64.b85decode(codec["mean"]))
    packed = base64.b85decode(codec["scales"])
    scales = struct.unpack(f"<{len(packed) // 4}f", packed)
    entries = struct.unpack(f"<{len(scales) * num_classes}b", base64.b85decode(codec["basis"]))
    symbols = SymbolReader(payload)
    rows = []
    for _ in range(num_views):
        coefficients = [read_signed(symbols, direction) for direction in range(len(scales))]
        row = []
        for id in range(num_classes):
            terms = (n * scales[j] * entries[j * num_classes + id] for j, n in enumerate(coefficients))
            row.append(float32(mean[id] + codec["step"] * sum(terms)))
        rows.append(row)
    symbols.coder.finish()
    return in_class_order(rows, num_classes)


def read_signed(symbols: SymbolReader, kind: int) -> int:
    """A magnitude, then its sign unless it is 0."""
    magnitude = symbols.number(kind)
    return -magnitude if magnitude and symbols.coder.bit(1 << 15) else magnitude


# topk


def read_topk(
    codec: dict[str, Any], payload: bytes, num_views: int, num_classes: int, hints: list[list[int]]
) -> Decoded:
    """The k largest logits, in the label's order."""
    labels = TopKReader(codec, payload, num_classes).read(num_views, hints)
    ids = [label.order() for label in labels]
    values = [[label.value_of[id] for id in label.order()] for label in labels]
    return ids, values, [label.absent for label in labels]


class Label:
    """What is known of a label while it is read."""

    def __init__(self, hints: list[int], span: int) -> None:
        self.hints = [(place, id) for place, id in enumerate(hints) if id != -1]
        self.span = span
        self.shift = max(0, span.bit_length() - 5)
        self.span_class = (span >> self.shift) >> 2
        self.leaders: list[int] = []
        self.below: dict[int, int] = {}
        self.value_of: dict[int, float] = {}
        self.absent = (-math.inf, 0.0)

    def order(self) -> list[int]:
        """The argmax, then by value, then by id."""
        return sorted(self.below, key=lambda id: (id != self.leaders[0], self.below[id], id))

    def lead(self, id: int, below: int) -> None:
        """Take the next leader."""
        self.leaders.append(id)
        self.below[id] = below

    def other_hints(self) -> list[tuple[int, int]]:
        """Places and classes of the hints that are no leader."""
        return [(place, id) for place, id in self.hints if id not in self.leaders]


class Row:
    """How often classes were kept along with a leader, with weights."""

    def __init__(self, num_classes: int) -> None:
        self.counts = [0] * num_classes
        self.total = 0

    def learn(self, ids: list[int], weight: int) -> None:
        """Count some classes."""
        if self.total + weight > 65535:
            self.counts = [count >> 1 for count in self.counts]
            self.total >>= 1
        self.total += weight
        for id in ids:
            self.counts[id] += weight


class Memory:
    """What was learned of the labels before."""

    def __init__(self, num_classes: int, k: int) -> None:
        self.num_classes = num_classes
        self.k = k
        self.num_rows = min(num_classes, max(1, (1 << 24) // num_classes))
        self.rows: dict[int, Row] = {}
        self.popularity = [0] * num_classes
        self.num_labels = 0

    def row(self, id: int) -> Row:
        """The row of a class, which it may share."""
        return self.rows.setdefault(id * self.num_rows // self.num_classes, Row(self.num_classes))

    def learn(self, order: list[int]) -> None:
        """Take in a label."""
        for weight, id in zip(RANK_WEIGHTS, order, strict=False):
            self.row(id).learn([other for other in order if other != id], weight)
        for id in order:
            self.popularity[id] += 1
        self.num_labels += 1


class Scores:
    """How likely each class is, as the rows of hints and leaders have it."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.scores = [0] * memory.num_classes
        self.total = 0

    def add(self, id: int, weight: int) -> None:
        """Add the row of a class."""
        row = self.memory.row(id)
        self.scores = [score + count * weight for score, count in zip(self.scores, row.counts, strict=True)]
        self.total += row.total * weight

    def bins(self) -> list[int]:
        """The bin of each class, the likeliest in bin 0."""
        memory = self.memory
        a = (1 << 26) // (memory.num_labels + memory.num_classes // memory.k + 1)
        top = logarithm((self.total + 1024) << 8)
        bins = []
        for score, popularity in zip(self.scores, memory.popularity, strict=True):
            x = (score << 8) + ((popularity + 1) * a >> 8) + 1
            bins.append(min(max((top - logarithm(x)) >> 5, 0), NUM_BINS - 1))
        return bins


def logarithm(number: int) -> int:
    """64 times the binary logarithm, roughly and exactly defined: the highest bits of a float32."""
    return int(struct.unpack("<I", struct.pack("<f", number))[0]) >> 17


class Tally:
    """Hits and chances of each bin."""

    def __init__(self) -> None:
        self.hits = [0] * NUM_BINS
        self.chances = [0] * NUM_BINS

    def learn(self, candidates: list[int], chosen: list[int]) -> None:
        """Count the bins of the classes that could be it, and of those that were."""
        for bin in candidates:
            self.chances[bin] += 1
        for bin in chosen:
            self.hits[bin] += 1

    def weights(self, candidates: list[int], num_classes: int) -> list[int]:
        """The weight of each bin, for the choice of one class."""
        weights = []
        for bin in range(NUM_BINS):
            count = candidates.count(bin)
            q = ((50 * self.hits[bin] + 1) << 16) // (50 * self.chances[bin] + num_classes)
            weights.append(1 + (count * q >> 2) if count else 0)
        while sum(weights) > 1 << 24:
            weights = [(weight + 1) >> 1 for weight in weights]
        return weights

    def odds(self) -> list[int]:
        """How often a class of each bin is kept."""
        pairs = zip(self.hits, self.chances, strict=True)
        return [((5 * hits + 2) << 16) // (5 * chances + 39) for hits, chances in pairs]


class TopKReader:
    """Reads the labels of one payload, one after another."""

    def __init__(self, codec: dict[str, Any], payload: bytes, num_classes: int) -> None:
        self.num_classes = num_classes
        self.k: int = codec["k"]
        self.step: float | None = codec.get("step")
        self.absent: str = codec.get("absent", "none")
        self.keeps_all = self.k == num_classes
        self.symbols = SymbolReader(payload)
        self.memory = Memory(num_classes, self.k)
        self.value_sums = [0] * num_classes
        self.rank_tallies = {1: Tally(), 2: Tally()}
        self.kept_tally = Tally()

    def read(self, num_views: int, hints: list[list[int]]) -> list[Label]:
        """Every label, and a check that nothing is left."""
        labels = [self._label(hints[view] if hints else []) for view in range(num_views)]
        self.symbols.coder.finish()
        return labels

    def _label(self, hints: list[int]) -> Label:
        num_further = (self.step is None) + ABSENT_NUMBERS[self.absent]
        further = [self.symbols.number(1 + place) for place in range(num_further)]
        label = Label(hints, self.symbols.number(0) if self.k > 1 else 0)
        self._read_argmax(label)
        if self.keeps_all:
            self._read_rest(label, self._mean_bins())
            self._learn_means(label)
        else:
            self._read_others(label)
            self.memory.learn(label.order())
        self._set_values(label, further)
        return label

    def _read_others(self, label: Label) -> None:
        """The classes after the argmax, where some are left out."""
        scores = Scores(self.memory)
        for _, id in label.other_hints():
            scores.add(id, 8)
        for rank in range(1, min(self.k, 4)):
            scores.add(label.leaders[-1], RANK_WEIGHTS[rank - 1])
            if rank < 3:
                self._read_leader(label, rank, scores.bins())
            else:
                self._read_rest(label, scores.bins())

    # The leaders

    def _read_argmax(self, label: Label) -> None:
        left = set(range(self.num_classes))
        id = self._hinted(label, 0, left)
        if id is None:
            id = sorted(left)[self.symbols.coder.uniform(len(left))]
        label.lead(id, 0)

    def _read_leader(self, label: Label, rank: int, bins: list[int]) -> None:
        left = set(range(self.num_classes)) - set(label.leaders)
        id = self._hinted(label, rank, left)
        if id is None:
            id = self._from_bins(self.rank_tallies[rank], sorted(left), bins)
        before = label.below[label.leaders[-1]]
        if rank == self.k - 1:
            below = label.span
        else:
            below = before + self._value(label, label.span - before, "leader", rank)
        label.lead(id, below)

    def _hinted(self, label: Label, rank: int, left: set[int]) -> int | None:
        """The hint that is the class of a rank, if one is; the others are taken out of what is left."""
        for place, id in label.other_hints():
            if len(left) == 1 or self.symbols.hint_bit(rank, place):
                return id
            left.remove(id)
        return None

    def _from_bins(self, tally: Tally, left: list[int], bins: list[int]) -> int:
        candidates = [bins[id] for id in left]
        chosen = self.symbols.coder.part(tally.weights(candidates, self.num_classes))
        tally.learn(candidates, [chosen])
        members = [id for id in left if bins[id] == chosen]
        return members[self.symbols.coder.uniform(len(members))]

    def _value(self, label: Label, most: int, *context: Hashable) -> int:
        return self.symbols.value(most, label.shift, *context, label.span_class)

    # The other kept classes

    def _read_rest(self, label: Label, bins: list[int]) -> None:
        most = label.span - label.below[label.leaders[-1]]
        hints = label.other_hints()
        self._read_kept_hints(label, hints, most)
        decided = {*label.leaders, *(id for _, id in hints)}
        self._read_kept(label, [id for id in range(self.num_classes) if id not in decided], bins, most)

    def _read_kept_hints(self, label: Label, hints: list[tuple[int, int]], most: int) -> None:
        num_left = self.num_classes - len(label.leaders)
        for place, id in hints:
            num_missing = self.k - len(label.below)
            if num_missing == num_left or (num_missing > 0 and self.symbols.hint_bit("kept", place)):
                label.below[id] = label.span - self._value(label, most, "hint", place)
            num_left -= 1

    def _read_kept(self, label: Label, candidates: list[int], bins: list[int], most: int) -> None:
        odds = self.kept_tally.odds()
        expected = sum(odds[bins[id]] for id in candidates)
        num_left = len(candidates)
        remaining = set(candidates)
        factor = 0
        for id in range(self.num_classes):
            num_missing = self.k - len(label.below)
            if id % 32 == 0:
                factor = min((num_missing << 28) // max(expected, 1), 32768)
            if id not in remaining:
                continue
            chance = odds[bins[id]]
            probability = min(max(chance * factor >> 12, 32), 63500)
            if num_missing == num_left or (num_missing > 0 and self.symbols.coder.bit(probability)):
                label.below[id] = label.span - self._value(label, most, "bin", bins[id])
            num_left -= 1
            expected -= chance
        self.kept_tally.learn([bins[id] for id in candidates], [bins[id] for id in candidates if id in label.below])

    # Labels that keep every class

    def _mean_bins(self) -> list[int]:
        num_labels = self.memory.num_labels
        return [min(24 * total // (32 * num_labels + 16), NUM_BINS - 1) for total in self.value_sums]

    def _learn_means(self, label: Label) -> None:
        for id, below in label.below.items():
            self.value_sums[id] += (label.span - below) >> label.shift
        self.memory.num_labels += 1

    # From whole numbers to values

    def _set_values(self, label: Label, further: list[int]) -> None:
        step = self.step
        if step is None:
            values = {id: fp16_of_code(further[0] - below) for id, below in label.below.items()}
        else:
            values = {id: -below * step for id, below in label.below.items()}
        label.value_of = {id: float32(value) for id, value in values.items()}
        label.absent = self._absent_level(min(values.values()), further[self.step is None :])

    def _absent_level(self, smallest: float, numbers: list[int]) -> tuple[float, float]:
        if not numbers:
            return -math.inf, 0.0
        unit = 1 / 16
        if self.step is not None:
            unit = self.step if self.absent == "minimum" else 2 * self.step
        level = smallest - numbers[0] * unit
        if self.absent != "tail":
            return float32(level), 0.0
        slope = numbers[1] * unit / 0.95
        return float32(level - slope), float32(slope)


def fp16_of_code(code: int) -> float:
    """The number of an fp16's code, in which codes are in the order of their numbers."""
    if not 0x0400 <= code <= 0xFBFF:
        raise ValueError(f"{code:#x} is no finite fp16")
    bits = code ^ 0x8000 if code & 0x8000 else code ^ 0xFFFF
    return float(struct.unpack("<e", struct.pack("<H", bits))[0])
