"""Which classes besides the leaders a label keeps, and their values: the part of `label_coder` that takes the time."""

from __future__ import annotations

import numpy as np

from lpqld._numba import compiled, inlined
from lpqld.codecs.entropy.adaptive_bits import adapt, code_adaptive, code_value
from lpqld.codecs.entropy.context_model import BINS, LEADERS, REJECTED, SPANS, STEPS
from lpqld.codecs.entropy.range_coder import SMALLEST_RANGE, code_uniform, normalise
from lpqld.codecs.label_block import MOST_HINTS

_BLOCK = 32
_RAREST, _COMMON = 32, 63500


@compiled
def _code_hinted_members(source, state, buffer, model, hints, ids, below, span_context, shift, leaders):
    """For every hint that is no leader: kept or not, and its value; returns how many were kept."""
    num_classes, k, span = len(model.kept), len(ids), below[len(ids) - 1]
    missing, left, filled = k - leaders, num_classes - leaders, leaders
    for which in range(len(hints)):
        hint = hints[which]
        if hint < 0 or model.is_known[hint] > 0:
            continue
        member = missing > 0
        if 0 < missing < left:
            at = LEADERS * MOST_HINTS + which
            kept = model.place[hint] > 0
            member = code_adaptive(source, state, buffer, model.hint_odds, model.hint_counts, at, kept)
        left -= 1
        model.is_known[hint] = REJECTED
        if k < num_classes:
            model.bin_sizes[model.bins[hint]] -= 1
        if not member:
            continue
        missing -= 1
        value = np.int64(0)
        if source is None:
            value = span - below[model.place[hint] - 1]
            model.place[hint] = 0
        context = ((BINS + LEADERS + which) * SPANS + span_context) * STEPS
        largest = span - below[leaders - 1]
        value = code_value(source, state, buffer, model.value_odds, model.value_counts, context, value, largest, shift)
        if source is not None:
            ids[filled] = hint
            below[filled] = span - value
            filled += 1
    return k - leaders - missing


@inlined
def _expect(model):
    """Each bin's probability of being kept, into `model.odds`, and the number of classes that they add up to."""
    expected = np.int64(0)
    for place in range(BINS):
        model.odds[place] = ((5 * model.hits[place] + 2) << 16) // (5 * model.chances[place] + 39)
        expected += model.odds[place] * model.bin_sizes[place]
        model.chances[place] += model.bin_sizes[place]
    return expected


@compiled
def code_members(source, state, buffer, model, hints, ids, below, span_context, shift, leaders):
    """For every class but the leaders: kept or not, and the values of those that are.

    The hot loop: the coder's state lives in local variables, and what `range_coder.code_bit` does stands here twice.
    One function that is handed low and range and returns them takes 1.7 times as long to encode, 1.6 times to decode
    (20,000 labels of 50 of 1,000 classes: 0.69 and 0.59 s of CPU instead of 0.40 and 0.37).
    """
    num_classes, k, span = len(model.kept), len(ids), below[len(ids) - 1]
    bins, is_known, place, hits = model.bins, model.is_known, model.place, model.hits
    odds, block_odds, value_odds, value_counts = model.odds, model.block_odds, model.value_odds, model.value_counts
    largest = span - below[leaders - 1]
    if source is None:
        for index in range(leaders, k):
            place[ids[index]] = index + 1
    hinted = _code_hinted_members(source, state, buffer, model, hints, ids, below, span_context, shift, leaders)
    filled, missing, left = leaders + hinted, k - leaders - hinted, num_classes - leaders
    for hint in hints:
        if hint >= 0 and is_known[hint] == REJECTED:
            left -= 1
    expected = _expect(model)
    low, scale = state[0], state[1]
    for block in range(0, num_classes, _BLOCK):
        if missing == 0:
            break
        # How many are still to come is known: probabilities are scaled to expect just as many.
        factor = min((missing << 28) // max(expected, 1), 8 << 12)
        for bin_index in range(BINS):
            block_odds[bin_index] = min(max((odds[bin_index] * factor) >> 12, _RAREST), _COMMON)
        for index in range(block, min(block + _BLOCK, num_classes)):
            if is_known[index]:
                continue
            bin_index = bins[index]
            expected -= odds[bin_index]
            member = True
            if missing < left:
                bound = (scale >> 16) * block_odds[bin_index]
                member = place[index] > 0 if source is None else low < bound
                if member:
                    scale = bound
                else:
                    scale -= bound
                    if source is None:
                        low += bound
                    else:
                        low -= bound
                if scale < SMALLEST_RANGE:
                    state[0], state[1] = low, scale
                    normalise(source, state, buffer)
                    low, scale = state[0], state[1]
            left -= 1
            if not member:
                continue
            missing -= 1
            hits[bin_index] += 1
            value = np.int64(0)
            if source is None:
                value = span - below[place[index] - 1]
                place[index] = 0
            # Unsigned, so that numba need not look for negative indices.
            first = np.uint64((np.int64(bin_index) * SPANS + span_context) * STEPS)
            at, end, target = first, first + np.uint64(largest >> shift), first + np.uint64(value >> shift)
            while at < end:
                bound = (scale >> 16) * np.int64(value_odds[at])
                ends = at == target if source is None else low < bound
                if ends:
                    scale = bound
                else:
                    scale -= bound
                    if source is None:
                        low += bound
                    else:
                        low -= bound
                adapt(value_odds, value_counts, at, ends)
                if scale < SMALLEST_RANGE:
                    state[0], state[1] = low, scale
                    normalise(source, state, buffer)
                    low, scale = state[0], state[1]
                if ends:
                    break
                at += np.uint64(1)
            high = np.int64(at - first)
            if shift:
                state[0], state[1] = low, scale
                high = (high << shift) | code_uniform(source, state, buffer, 1 << shift, value & ((1 << shift) - 1))
                low, scale = state[0], state[1]
            if source is not None:
                ids[filled] = index
                below[filled] = span - min(high, largest)
                filled += 1
            if missing == 0:
                break
    state[0], state[1] = low, scale
    for hint in hints:
        if hint >= 0 and is_known[hint] == REJECTED:
            is_known[hint] = 0
    if source is not None:
        _sort_members(ids, below, leaders)


@compiled
def _sort_members(ids, below, leaders):
    """By value, then id."""
    keys = (below[leaders:] << 24) | ids[leaders:].astype(np.int64)
    keys.sort()
    for index in range(len(keys)):
        ids[leaders + index] = keys[index] & ((1 << 24) - 1)
        below[leaders + index] = keys[index] >> 24
