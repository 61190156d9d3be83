"""A second reader of payloads, after docs/label-format.md alone: plain and slow, without numpy or anything of lpqld."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Hashable, Sequence
from functools import cache
from typing import Any

RANK_WEIGHTS = (16, 15, 14, 14, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8, 7, 7, 7, 6, 6, 6, 5, 5, 5)
HINT_WEIGHT = 4
NUM_LEADERS = 3
NUM_BINS = 24
NUM_ABSENT_NUMBERS = {"none": 0, "minimum": 1, "share": 1, "tail": 2}
NO_LEVEL = (-math.inf, 0.0)

Decoded = tuple[list[list[int]], list[list[float]], list[tuple[float, float]]]


class DamagedError(ValueError):
    """A payload that no writer makes."""


def decode(codec: dict[str, Any], payload: bytes, num_views: int, num_classes: int, hints: list[list[int]]) -> Decoded:
    """Ids and values of every view's label, and level and slope of its absent classes (-inf, 0 for no probability).

    Args:
        codec: the codec's JSON object.
        payload: of a shard.
        num_views: labels in it.
        num_classes: C.
        hints: of each view, 0 to 2 classes, -1 for none.
    """
    if codec["name"] == "topk":
        labels = TopKReader(codec, payload, num_classes).read(hints)
        return (
            [list(label.values) for label in labels],
            [list(label.values.values()) for label in labels],
            [label.absent for label in labels],
        )
    if codec["name"] == "hard":
        if payload:
            raise DamagedError("a hard payload is empty")
        return [row[:1] for row in hints], [[0.0]] * num_views, [NO_LEVEL] * num_views
    if codec["name"] == "lowrank":
        rows = read_lowrank(codec, payload, num_views, num_classes)
    elif codec.get("step") is None:
        rows = read_halves(payload, num_views, num_classes)
    else:
        labels = TopKReader({"k": num_classes, "step": codec["step"]}, payload, num_classes).read(hints)
        rows = [[label.values[class_id] for class_id in range(num_classes)] for label in labels]
    return [list(range(num_classes))] * num_views, rows, [NO_LEVEL] * num_views


def as_float32(number: float) -> float:
    """The float32 nearest to a number."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        raise DamagedError(f"{number} is beyond float32") from None


def read_halves(payload: bytes, num_views: int, num_classes: int) -> list[list[float]]:
    """fp16 numbers, one label after another."""
    if len(payload) != 2 * num_views * num_classes:
        raise DamagedError(f"{len(payload)} bytes for {num_views} labels of {num_classes} fp16 numbers")
    numbers = struct.unpack(f"<{num_views * num_classes}e", payload)
    if not all(math.isfinite(number) for number in numbers):
        raise DamagedError("a logit is not finite")
    return [list(numbers[start : start + num_classes]) for start in range(0, len(numbers), num_classes)]


# The range coder, and the symbols that it is asked for


class RangeDecoder:
    """Bits and parts of totals from a range coder with a 48-bit state."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.code = int.from_bytes(payload[:6].ljust(6, b"\0"), "big")
        self.range = 1 << 48
        self.shifts = 0

    def bit(self, probability: int) -> int:
        """A bit that is 1 with `probability` / 2**16."""
        bound = (self.range >> 16) * probability
        if self.code < bound:
            self._narrow(0, bound)
            return 1
        self._narrow(bound, self.range - bound)
        return 0

    def part(self, sizes: list[int]) -> int:
        """Which of the parts of a total."""
        total = sum(sizes)
        point = min(self.code // (self.range // total), total - 1)
        symbol, start = 0, 0
        while start + sizes[symbol] <= point:
            start += sizes[symbol]
            symbol += 1
        self._take(start, sizes[symbol], total)
        return symbol

    def uniform(self, total: int) -> int:
        """A whole number below `total`."""
        if total == 1:
            return 0
        point = min(self.code // (self.range // total), total - 1)
        self._take(point, 1, total)
        return point

    def finish(self) -> None:
        """Refuse a payload that does not end where its labels do."""
        if len(self.payload) != self.shifts + 1:
            raise DamagedError(f"{len(self.payload)} bytes, of which {self.shifts + 1} belong to the labels")

    def _take(self, start: int, size: int, total: int) -> None:
        offset = self.range // total * start
        rest = self.range - offset
        self._narrow(offset, rest if start + size == total else self.range // total * size)

    def _narrow(self, offset: int, size: int) -> None:
        self.code -= offset
        self.range = size
        while self.range < 1 << 40:
            following = self.payload[self.shifts + 6 :][:1] or b"\0"
            self.code = self.code * 256 + following[0]
            self.range *= 256
            self.shifts += 1


class SymbolReader:
    """Adaptive bits, each known by its context, and numbers and values made of them."""

    def __init__(self, payload: bytes) -> None:
        self.coder = RangeDecoder(payload)
        self._bits: dict[Hashable, tuple[int, int]] = {}

    def adaptive_bit(self, *context: Hashable, first: int = 1 << 14) -> int:
        """A bit whose probability follows what its context saw before."""
        p, n = self._bits.get(context, (first, 0))
        rate = 655360 // (10 * n + 16)
        bit = self.coder.bit(p)
        p += ((1 << 16) - p) * rate >> 16 if bit else -(p * rate >> 16)
        self._bits[context] = p, min(n + 1, 255)
        return bit

    def hint_bit(self, *context: Hashable) -> int:
        """Whether a hint is what is asked for."""
        return self.adaptive_bit("hint", *context, first=1 << 15)

    def unary(self, most: int, *context: Hashable) -> int:
        """How many zeros come before a one, at most `most`."""
        count = 0
        while count < most and not self.adaptive_bit(*context, count):
            count += 1
        return count

    def number(self, kind: int) -> int:
        """A whole number below 2**24: its count of digits, then the digits below the highest."""
        num_digits = self.unary(24, "count of digits", kind)
        number = min(num_digits, 1)
        for place in range(num_digits - 1):
            context = ("digit", kind, num_digits, number)
            number = 2 * number + (self.adaptive_bit(*context) if place < 3 else self.coder.bit(1 << 15))
        return number

    def value(self, most: int, shift: int, *context: Hashable) -> int:
        """A whole number in 0 ... `most`: its high part, then its `shift` low bits."""
        high = self.unary(most >> shift, "value", *context)
        return min((high << shift) + self.coder.uniform(1 << shift), most)


# lowrank


def read_lowrank(codec: dict[str, Any], payload: bytes, num_views: int, num_classes: int) -> list[list[float]]:
    """Logits from coefficients along stored directions."""
    mean = struct.unpack(f"<{num_classes}e", base64.b85decode(codec["mean"]))
    packed_scales = base64.b85decode(codec["scales"])
    scales = struct.unpack(f"<{len(packed_scales) // 4}f", packed_scales)
    entries = struct.unpack(f"<{len(scales) * num_classes}b", base64.b85decode(codec["basis"]))
    symbols, rows = SymbolReader(payload), []
    for _ in range(num_views):
        coefficients = [read_coefficient(symbols, direction) for direction in range(len(scales))]
        weights = [n * scale for n, scale in zip(coefficients, scales, strict=True)]
        sums = [sum(w * b for w, b in zip(weights, entries[i::num_classes], strict=True)) for i in range(num_classes)]
        rows.append([as_float32(m + codec["step"] * total) for m, total in zip(mean, sums, strict=True)])
    symbols.coder.finish()
    return rows


def read_coefficient(symbols: SymbolReader, direction: int) -> int:
    """A magnitude and, unless it is 0, its sign."""
    magnitude = symbols.number(direction)
    return -magnitude if magnitude and symbols.coder.bit(1 << 15) else magnitude


# What topk knows of the labels before


class Row:
    """Classes that were kept together with those of this row."""

    def __init__(self, num_classes: int) -> None:
        self.counts = [0] * num_classes
        self.total = 0

    def learn(self, class_ids: list[int], weight: int) -> None:
        """Count classes of a label."""
        if self.total + weight > 65535:
            self.counts = [count >> 1 for count in self.counts]
            self.total >>= 1
        self.total += weight
        for class_id in class_ids:
            self.counts[class_id] += weight


class Memory:
    """What earlier labels say about which classes go together."""

    def __init__(self, num_classes: int, k: int) -> None:
        self.num_classes, self.k = num_classes, k
        self.num_rows = min(num_classes, max(1, (1 << 24) // num_classes))
        self.rows: dict[int, Row] = {}
        self.popularity = [0] * num_classes
        self.num_labels = 0

    def row(self, class_id: int) -> Row:
        """The row of a class, which others may share."""
        return self.rows.setdefault(class_id * self.num_rows // self.num_classes, Row(self.num_classes))

    def learn(self, order: list[int]) -> None:
        """Add a label, its classes in order."""
        for weight, class_id in zip(RANK_WEIGHTS, order, strict=False):
            self.row(class_id).learn([other for other in order if other != class_id], weight)
        for class_id in order:
            self.popularity[class_id] += 1
        self.num_labels += 1


class Scores:
    """How well each class goes with the hints and leaders of one label."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.scores = [0] * memory.num_classes
        self.total = 0

    def add(self, class_id: int, weight: int) -> None:
        """Add the row of a class."""
        row = self.memory.row(class_id)
        self.scores = [score + weight * count for score, count in zip(self.scores, row.counts, strict=True)]
        self.total += weight * row.total

    def bins(self) -> list[int]:
        """The bin of each class, 0 for the likeliest."""
        memory = self.memory
        a = (1 << 26) // (memory.num_labels + memory.num_classes // memory.k + 1)
        top = logarithm((self.total + 1024) << 8)
        bins = []
        for score, popularity in zip(self.scores, memory.popularity, strict=True):
            x = (score << 8) + ((popularity + 1) * a >> 8) + 1
            bins.append(min(max((top - logarithm(x)) >> 5, 0), NUM_BINS - 1))
        return bins


@cache
def logarithm(number: int) -> int:
    """The highest bits of a number's float32: its logarithm in 64ths of an octave."""
    return int(struct.unpack("<I", struct.pack("<f", number))[0]) >> 17


class Tally:
    """Classes that there were in each bin, and how many of them were chosen."""

    def __init__(self) -> None:
        self.hits, self.chances = [0] * NUM_BINS, [0] * NUM_BINS

    def learn(self, candidates: list[int], chosen: list[int]) -> None:
        """Count the bins of the classes that could be chosen, and of those that were."""
        for place in candidates:
            self.chances[place] += 1
        for place in chosen:
            self.hits[place] += 1

    def weights(self, candidates: list[int], num_classes: int) -> list[int]:
        """The weight of each bin in the choice of one class."""
        weights = []
        for place in range(NUM_BINS):
            count = candidates.count(place)
            q = ((50 * self.hits[place] + 1) << 16) // (50 * self.chances[place] + num_classes)
            weights.append(1 + (count * q >> 2) if count else 0)
        while sum(weights) > 1 << 24:
            weights = [(weight + 1) >> 1 for weight in weights]
        return weights

    def odds(self) -> list[int]:
        """How likely a class of each bin is chosen, times 2**16."""
        pairs = zip(self.hits, self.chances, strict=True)
        return [((5 * hits + 2) << 16) // (5 * chances + 39) for hits, chances in pairs]


# topk


class Label:
    """What is read of one label.

    Attributes:
        hints: (place, class) of each.
        span: the largest distance below the largest value.
        leaders: the first classes, in order.
        below: distance below the largest value of each kept class.
        values: of each kept class, in the label's order, once all are read.
        absent: level and slope of the other classes.
    """

    def __init__(self, hints: Sequence[int], span: int) -> None:
        self.hints = [(place, class_id) for place, class_id in enumerate(hints) if class_id != -1]
        self.span = span
        self.shift = max(0, span.bit_length() - 5)
        self.leaders: list[int] = []
        self.below: dict[int, int] = {}
        self.values: dict[int, float] = {}
        self.absent = NO_LEVEL

    @property
    def last_below(self) -> int:
        """Of the last leader."""
        return self.below[self.leaders[-1]]

    def add_leader(self, class_id: int, below: int) -> None:
        """The class of the next rank."""
        self.leaders.append(class_id)
        self.below[class_id] = below

    def other_hints(self) -> list[tuple[int, int]]:
        """Hints that are no leader."""
        return [(place, class_id) for place, class_id in self.hints if class_id not in self.leaders]

    def order(self) -> list[int]:
        """The leaders, then by value, then by id."""
        others = [class_id for class_id in self.below if class_id not in self.leaders]
        return self.leaders + sorted(others, key=lambda class_id: (self.below[class_id], class_id))


class TopKReader:
    """Reads the labels of one payload, one after another."""

    def __init__(self, codec: dict[str, Any], payload: bytes, num_classes: int) -> None:
        self.num_classes = num_classes
        self.k: int = codec["k"]
        self.step: float | None = codec.get("step")
        self.absent: str = codec.get("absent", "none")
        self.symbols = SymbolReader(payload)
        self.memory = Memory(num_classes, self.k)
        self.leader_tallies = {rank: Tally() for rank in range(1, NUM_LEADERS)}
        self.kept_tally = Tally()
        self.value_sums = [0] * num_classes

    def read(self, hints: Sequence[Sequence[int]]) -> list[Label]:
        """One label for each row of hints."""
        labels = [self._label(row) for row in hints]
        self.symbols.coder.finish()
        return labels

    def _label(self, hints: Sequence[int]) -> Label:
        num_further = (self.step is None) + NUM_ABSENT_NUMBERS[self.absent]
        further = [self.symbols.number(1 + place) for place in range(num_further)]
        label = Label(hints, self.symbols.number(0) if self.k > 1 else 0)
        self._read_argmax(label)
        if self.k == self.num_classes:
            self._read_rest(label, self._bins_of_means())
            self._learn_means(label)
        else:
            self._read_others(label)
            self.memory.learn(label.order())
        self._set_values(label, further)
        return label

    def _read_others(self, label: Label) -> None:
        """All but the argmax, where some classes are not kept."""
        scores = Scores(self.memory)
        for _, class_id in label.other_hints():
            scores.add(class_id, HINT_WEIGHT)
        for rank in range(1, min(self.k, NUM_LEADERS + 1)):
            scores.add(label.leaders[-1], RANK_WEIGHTS[rank - 1])
            if rank < NUM_LEADERS:
                self._read_leader(label, rank, scores.bins())
            else:
                self._read_rest(label, scores.bins())

    def _read_argmax(self, label: Label) -> None:
        left = list(range(self.num_classes))
        class_id = self._hinted(label, 0, left)
        if class_id is None:
            class_id = left[self.symbols.coder.uniform(len(left))]
        label.add_leader(class_id, 0)

    def _read_leader(self, label: Label, rank: int, bins: list[int]) -> None:
        """The class of a rank, and its value."""
        left = [class_id for class_id in range(self.num_classes) if class_id not in label.leaders]
        class_id = self._hinted(label, rank, left)
        if class_id is None:
            class_id = self._from_bins(self.leader_tallies[rank], left, bins)
        most = label.span - label.last_below
        drop = most if rank == self.k - 1 else self._value(label, most, "leader", rank)
        label.add_leader(class_id, label.last_below + drop)

    def _hinted(self, label: Label, rank: int, left: list[int]) -> int | None:
        """The hint that has a rank, or None; rejected ones are removed from the classes `left`."""
        for place, class_id in label.other_hints():
            if len(left) == 1 or self.symbols.hint_bit("rank", rank, place):
                return class_id
            left.remove(class_id)
        return None

    def _from_bins(self, tally: Tally, left: list[int], bins: list[int]) -> int:
        """One of the classes `left`: its bin, then which of that bin."""
        candidates = [bins[class_id] for class_id in left]
        chosen = self.symbols.coder.part(tally.weights(candidates, self.num_classes))
        tally.learn(candidates, [chosen])
        members = [class_id for class_id in left if bins[class_id] == chosen]
        return members[self.symbols.coder.uniform(len(members))]

    def _value(self, label: Label, most: int, *context: Hashable) -> int:
        return self.symbols.value(most, label.shift, *context, (label.span >> label.shift) >> 2)

    def _read_rest(self, label: Label, bins: list[int]) -> None:
        """Which classes are kept beside the leaders, and their values: hints first."""
        hints, most = label.other_hints(), label.span - label.last_below
        num_left = self.num_classes - len(label.leaders)
        for place, class_id in hints:
            num_missing = self.k - len(label.below)
            if num_missing == num_left or (num_missing > 0 and self.symbols.hint_bit("kept", place)):
                label.below[class_id] = label.span - self._value(label, most, "hint", place)
            num_left -= 1
        asked = {*label.leaders, *(class_id for _, class_id in hints)}
        candidates = [class_id for class_id in range(self.num_classes) if class_id not in asked]
        self._read_kept(label, candidates, bins, most)
        kept = [bins[class_id] for class_id in candidates if class_id in label.below]
        self.kept_tally.learn([bins[class_id] for class_id in candidates], kept)

    def _read_kept(self, label: Label, candidates: list[int], bins: list[int], most: int) -> None:
        """Which of some classes are kept, and their values."""
        odds = self.kept_tally.odds()
        expected = sum(odds[bins[class_id]] for class_id in candidates)
        num_left, factor, block = len(candidates), 0, -1
        for class_id in candidates:
            num_missing = self.k - len(label.below)
            if class_id // 32 > block:
                factor, block = min((num_missing << 28) // max(expected, 1), 32768), class_id // 32
            place = bins[class_id]
            probability = min(max(odds[place] * factor >> 12, 32), 63500)
            if num_missing == num_left or (num_missing > 0 and self.symbols.coder.bit(probability)):
                label.below[class_id] = label.span - self._value(label, most, "bin", place)
            num_left -= 1
            expected -= odds[place]

    def _bins_of_means(self) -> list[int]:
        """Bins where every class is kept: of each class's mean value."""
        t = self.memory.num_labels
        return [min(24 * total // (32 * t + 16), NUM_BINS - 1) for total in self.value_sums]

    def _learn_means(self, label: Label) -> None:
        for class_id, below in label.below.items():
            self.value_sums[class_id] += (label.span - below) >> label.shift
        self.memory.num_labels += 1

    def _set_values(self, label: Label, further: list[int]) -> None:
        """From whole numbers to logits."""
        if self.step is None:
            values = [logit_of_code(further[0] - label.below[class_id]) for class_id in label.order()]
            levels = further[1:]
        else:
            values = [-label.below[class_id] * self.step for class_id in label.order()]
            levels = further
        label.values = dict(zip(label.order(), map(as_float32, values), strict=True))
        if levels and self.k < self.num_classes:
            label.absent = self._absent_level(min(values), *levels)

    def _absent_level(self, smallest: float, a: int, b: int = 0) -> tuple[float, float]:
        """Level and slope."""
        unit = 1 / 16
        if self.step is not None:
            unit = self.step if self.absent == "minimum" else 2 * self.step
        slope = b * unit / 0.95
        return as_float32(smallest - a * unit - slope), as_float32(slope)


def logit_of_code(code: int) -> float:
    """The fp16 number of a code; codes have the order of their numbers."""
    if not 0x0400 <= code <= 0xFBFF:
        raise DamagedError(f"fp16 has no finite number with the code {code:#x}")
    bits = code ^ 0x8000 if code & 0x8000 else code ^ 0xFFFF
    return float(struct.unpack("<e", struct.pack("<H", bits))[0])
