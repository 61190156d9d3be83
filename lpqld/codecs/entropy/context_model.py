"""What a payload's labels teach about the next one: which classes go together, and how large their values are.

Each class gets a score: how often earlier labels that ranked this label's leaders high also kept it. Classes of like
score share a bin, and bins learn how often their classes are kept and what values they have. Everything is integer
arithmetic but for one conversion to float32, which IEEE 754 defines. docs/label-format.md has the formulas.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lpqld._numba import compiled, inlined
from lpqld.codecs.entropy.adaptive_bits import NUMBER_CONTEXTS, fresh_odds
from lpqld.codecs.entropy.range_coder import ONE
from lpqld.codecs.label_block import MOST_HINTS

LEADERS = 3
BINS = 24
# Values are coded in 32 steps at most, in contexts of the span's five highest bits without the two lowest.
STEP_BITS = 5
SPANS, STEPS = 8, 1 << STEP_BITS
# What `is_known` holds of a hint that was asked for and is not it; leaders have 1.
REJECTED = 2
_TABLE_ENTRIES = 2**24
_ALPHA = 1024
_RANK_WEIGHTS = np.array(
    [16, 15, 14, 14, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8, 7, 7, 7, 6, 6, 6, 5, 5, 5], dtype=np.int64
)
_HINT_WEIGHT = 4
_HEAVIEST_ROW = 65535


class ContextModel(NamedTuple):
    """What is known of the labels so far, and scratch space. C classes, R rows of the table, B bins.

    Attributes:
        together: [R, C] uint16, how often (weighted by rank) a label with a class of row R kept class C.
        row_totals: [R], the weights that each row has seen.
        kept: [C] int32, labels that kept each class.
        hint_odds, hint_counts: adaptive bits: is the leader of this rank (or, last, any kept class) this hint.
        leader_hits, leader_chances: [LEADERS, B], leaders found in a bin, and classes there were in it.
        hits, chances: [B], the same for the other kept classes.
        value_odds, value_counts: adaptive bits of the values, by bin, leader or hint, span and step.
        number_odds, number_counts: adaptive bits of whole numbers, by what they count.
        score, number, bins, is_known, place: [C] scratch.
        bin_sizes, odds, block_odds: [B] scratch; tallies: [8, B].
    """

    together: NDArray[np.uint16]
    row_totals: NDArray[np.int64]
    kept: NDArray[np.int32]
    hint_odds: NDArray[np.int32]
    hint_counts: NDArray[np.int32]
    leader_hits: NDArray[np.int64]
    leader_chances: NDArray[np.int64]
    hits: NDArray[np.int64]
    chances: NDArray[np.int64]
    value_odds: NDArray[np.int32]
    value_counts: NDArray[np.int32]
    number_odds: NDArray[np.int32]
    number_counts: NDArray[np.int32]
    score: NDArray[np.int32]
    number: NDArray[np.float32]
    bins: NDArray[np.uint8]
    is_known: NDArray[np.uint8]
    place: NDArray[np.int32]
    bin_sizes: NDArray[np.int64]
    odds: NDArray[np.int64]
    block_odds: NDArray[np.int64]
    tallies: NDArray[np.int64]


def fresh_model(num_classes: int, num_kinds: int) -> ContextModel:
    """A model that knows nothing yet, with contexts for `num_kinds` kinds of whole numbers."""
    rows = min(num_classes, max(1, _TABLE_ENTRIES // num_classes))
    values = (BINS + LEADERS + MOST_HINTS) * SPANS * STEPS
    numbers = num_kinds * NUMBER_CONTEXTS
    return ContextModel(
        together=np.zeros((rows, num_classes), dtype=np.uint16),
        row_totals=np.zeros(rows, dtype=np.int64),
        kept=np.zeros(num_classes, dtype=np.int32),
        hint_odds=fresh_odds((LEADERS + 1) * MOST_HINTS, ONE // 2),
        hint_counts=np.zeros((LEADERS + 1) * MOST_HINTS, dtype=np.int32),
        leader_hits=np.zeros((LEADERS, BINS), dtype=np.int64),
        leader_chances=np.zeros((LEADERS, BINS), dtype=np.int64),
        hits=np.zeros(BINS, dtype=np.int64),
        chances=np.zeros(BINS, dtype=np.int64),
        value_odds=fresh_odds(values),
        value_counts=np.zeros(values, dtype=np.int32),
        number_odds=fresh_odds(numbers),
        number_counts=np.zeros(numbers, dtype=np.int32),
        score=np.zeros(num_classes, dtype=np.int32),
        number=np.zeros(num_classes, dtype=np.float32),
        bins=np.zeros(num_classes, dtype=np.uint8),
        is_known=np.zeros(num_classes, dtype=np.uint8),
        place=np.zeros(num_classes, dtype=np.int32),
        bin_sizes=np.zeros(BINS, dtype=np.int64),
        odds=np.zeros(BINS, dtype=np.int64),
        block_odds=np.zeros(BINS, dtype=np.int64),
        tallies=np.zeros((8, BINS), dtype=np.int64),
    )


@inlined
def score_by(model, class_id, weight, total):
    """Add what is known of a class's company to the scores; returns `total` with the weights behind it."""
    row = np.int64(class_id) * len(model.row_totals) // len(model.kept)
    _add_row(model.score, model.together[row], np.int32(weight))
    return total + weight * model.row_totals[row]


@inlined
def score_by_hint(model, class_id, total):
    """The same for a hint."""
    return score_by(model, class_id, _HINT_WEIGHT, total)


@inlined
def score_by_leader(model, class_id, rank, total):
    """The same for the leader of a rank."""
    return score_by(model, class_id, _RANK_WEIGHTS[rank], total)


@compiled
def _add_row(score, row, weight):
    for index in range(len(score)):
        score[index] += weight * np.int32(row[index])


@inlined
def bin_by_score(model, total, seen, k):
    """Bins of half an octave of (score + alpha * popularity) / (total + alpha), and how many classes each has."""
    num_classes = len(model.kept)
    popularity = np.int32((_ALPHA << 16) // (seen + num_classes // k + 1))
    _score_numbers(model.number, model.score, model.kept, popularity)
    top = np.empty(1, dtype=np.float32)
    top[0] = (total + _ALPHA) * 256
    _bin_numbers(model.bins, model.number.view(np.int32), np.int32(top.view(np.int32)[0] >> 17))
    _count_bins(model.bin_sizes, model.tallies, model.bins)


@compiled
def _score_numbers(number, score, kept, popularity):
    for index in range(len(number)):
        prior = ((kept[index] + np.int32(1)) * popularity) >> np.int32(8)
        number[index] = np.float32((score[index] << np.int32(8)) + prior + np.int32(1))


@compiled
def _bin_numbers(bins, number_bits, top):
    """A float's exponent and first six mantissa bits are its logarithm in 64ths of an octave."""
    for index in range(len(bins)):
        octaves = (top - (number_bits[index] >> np.int32(17))) >> np.int32(5)
        bins[index] = min(max(octaves, np.int32(0)), np.int32(BINS - 1))


@compiled
def bin_by_mean(model, seen):
    """Labels that keep every class: bins of each class's mean value so far."""
    for index in range(len(model.kept)):
        model.bins[index] = min(np.int64(model.kept[index]) * BINS // (STEPS * seen + STEPS // 2), BINS - 1)
    model.bin_sizes[:] = 0


@compiled
def _count_bins(bin_sizes, tallies, bins):
    """How many classes each bin has; eight tallies, so that equal neighbours need not wait for each other."""
    tallies[:] = 0
    whole = len(bins) - len(bins) % 8
    for index in range(0, whole, 8):
        tallies[0, bins[index]] += 1
        tallies[1, bins[index + 1]] += 1
        tallies[2, bins[index + 2]] += 1
        tallies[3, bins[index + 3]] += 1
        tallies[4, bins[index + 4]] += 1
        tallies[5, bins[index + 5]] += 1
        tallies[6, bins[index + 6]] += 1
        tallies[7, bins[index + 7]] += 1
    for index in range(whole, len(bins)):
        tallies[0, bins[index]] += 1
    for place in range(BINS):
        count = 0
        for lane in range(8):
            count += tallies[lane, place]
        bin_sizes[place] = count


@compiled
def learn(model, ids):
    """Count the classes of a label, and which were kept together with its highest ones."""
    num_classes, rows = len(model.kept), len(model.row_totals)
    for rank in range(min(len(_RANK_WEIGHTS), len(ids))):
        row, weight = np.int64(ids[rank]) * rows // num_classes, _RANK_WEIGHTS[rank]
        together = model.together[row]
        if model.row_totals[row] + weight > _HEAVIEST_ROW:
            for index in range(num_classes):
                together[index] >>= 1
            model.row_totals[row] >>= 1
        model.row_totals[row] += weight
        narrow = np.uint16(weight)
        for index in ids:
            together[index] += narrow
        together[ids[rank]] -= narrow
    for index in ids:
        model.kept[index] += 1
