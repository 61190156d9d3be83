"""One label after another through the range coder, by what the context model knows.

A label is coded as: its further whole numbers, the distance from its largest value to its smallest, its argmax, the
next `LEADERS` - 1 classes one by one, then for every other class whether it is kept and, if so, its value. Hints,
classes that are likely among the largest because the view shows them, are asked for first each time.

One set of functions encodes and decodes, see `range_coder`.
"""

from __future__ import annotations

import numpy as np

from lpqld.codec.adaptive import adapt, bit_length, code_adaptive, code_number, code_value
from lpqld.codec.context_model import (
    BINS,
    LEADERS,
    MOST_HINTS,
    SPANS,
    STEP_BITS,
    STEPS,
    bin_by_mean,
    bin_by_score,
    learn,
    score_by_hint,
    score_by_leader,
)
from lpqld.codec.range_coder import SMALLEST_RANGE, code_part, code_uniform, compiled, inlined, look, normalise

_BLOCK = 32
_RAREST, _COMMON = 32, 63500
_REJECTED = 2


@compiled
def code_views(source, state, buffer, model, hints_NH, ids_Nk, below_Nk, numbers_NE, sizes, seen):
    """Code N labels that follow `seen` others.

    Args:
        source: None to encode what the arrays hold, anything else to fill them.
        state, buffer: of the range coder.
        model: as the labels before have left it.
        hints_NH: int32, H at most `MOST_HINTS`, different from each other; -1 for none.
        ids_Nk: int32, argmax first, then by value, then by id.
        below_Nk: int64, distance below the label's largest value.
        numbers_NE: int64, E further whole numbers below 2**24.
        sizes: int64 [N], set to the length of a payload that ends with each label.
        seen: labels coded before these, by the same state and model.
    """
    num_classes, k = len(model.kept), ids_Nk.shape[1]
    leaders = 1 if k == num_classes else min(LEADERS, k)
    for view in range(len(ids_Nk)):
        ids, below, numbers = ids_Nk[view], below_Nk[view], numbers_NE[view]
        for kind in range(len(numbers)):
            numbers[kind] = code_number(
                source, state, buffer, model.number_odds, model.number_counts, kind + 1, numbers[kind]
            )
        span = np.int64(0)
        if k > 1:
            span = code_number(source, state, buffer, model.number_odds, model.number_counts, 0, below[k - 1])
        below[k - 1] = span
        below[0] = 0
        # Values of wide labels lose their low bits to a uniform code: 16 to 31 steps are modelled.
        shift = max(np.int64(0), bit_length(span) - STEP_BITS)
        span_context = (span >> shift) >> 2
        hints = hints_NH[view]
        _code_argmax(source, state, buffer, model, hints, ids, num_classes)
        model.is_known[ids[0]] = 1
        if k == num_classes:
            bin_by_mean(model, seen + view)
        else:
            _code_leaders(source, state, buffer, model, hints, ids, below, span_context, shift, leaders, seen + view)
        if k > leaders:
            _code_members(source, state, buffer, model, hints, ids, below, span_context, shift, leaders)
        for rank in range(leaders):
            model.is_known[ids[rank]] = 0
        if k == num_classes:
            for place in range(k):
                model.kept[ids[place]] += (span - below[place]) >> shift
        else:
            learn(model, ids)
        sizes[view] = state[2] + 1


@compiled
def _code_argmax(source, state, buffer, model, hints, ids, num_classes):
    """One of the hints, or any other class."""
    if _code_hint(source, state, buffer, model, hints, ids, 0):
        return
    index, others = np.int64(ids[0]), np.int64(num_classes)
    low, high = np.int64(num_classes), np.int64(num_classes)
    for hint in hints:
        if hint >= 0:
            others -= 1
            index -= hint < ids[0]
            low, high = (np.int64(hint), low) if hint < low else (low, np.int64(hint))
    index = code_uniform(source, state, buffer, others, index)
    # Upwards past each rejected hint.
    index += index >= low
    index += index >= high
    ids[0] = index


@inlined
def _code_hint(source, state, buffer, model, hints, ids, rank):
    """Whether the leader of `rank` is one of the hints that no earlier leader is; the last class left must be."""
    others = len(model.kept) - rank
    for place in range(len(hints)):
        hint = hints[place]
        if hint < 0 or model.is_known[hint] > 0:
            continue
        found, at = True, rank * MOST_HINTS + place
        if others > 1:
            found = code_adaptive(source, state, buffer, model.hint_odds, model.hint_counts, at, ids[rank] == hint)
        others -= 1
        if found:
            ids[rank] = hint
            return True
    return False


@compiled
def _code_leaders(source, state, buffer, model, hints, ids, below, span_context, shift, leaders, seen):
    """The second and third class and their values, scoring all others by each leader in turn."""
    k, total = len(ids), np.int64(0)
    model.score[:] = 0
    for hint in hints:
        if hint >= 0 and hint != ids[0]:
            total = score_by_hint(model, hint, total)
    for rank in range(1, leaders + 1):
        total = score_by_leader(model, ids[rank - 1], rank - 1, total)
        if rank == k:
            break
        bin_by_score(model, total, seen, k)
        for earlier in range(rank):
            model.bin_sizes[model.bins[ids[earlier]]] -= 1
        if rank == leaders:
            break
        if not _code_hint(source, state, buffer, model, hints, ids, rank):
            _set_aside(model, hints)
            _code_leader(source, state, buffer, model, rank, ids)
            _put_back(model, hints)
        model.is_known[ids[rank]] = 1
        if rank < k - 1:
            context = ((BINS + rank) * SPANS + span_context) * STEPS
            drop, largest = below[rank] - below[rank - 1], below[k - 1] - below[rank - 1]
            drop = code_value(
                source, state, buffer, model.value_odds, model.value_counts, context, drop, largest, shift
            )
            below[rank] = below[rank - 1] + drop


@inlined
def _set_aside(model, hints):
    """Take the hints that are not known yet out of their bins, as rejected."""
    for hint in hints:
        if hint >= 0 and model.is_known[hint] == 0:
            model.is_known[hint] = _REJECTED
            model.bin_sizes[model.bins[hint]] -= 1


@inlined
def _put_back(model, hints):
    """Undo `_set_aside`."""
    for hint in hints:
        if hint >= 0 and model.is_known[hint] == _REJECTED:
            model.is_known[hint] = 0
            model.bin_sizes[model.bins[hint]] += 1


@compiled
def _code_leader(source, state, buffer, model, rank, ids):
    """One class: its bin, then which class of that bin."""
    hits, chances, bin_sizes, odds = model.leader_hits[rank], model.leader_chances[rank], model.bin_sizes, model.odds
    num_classes = len(model.kept)
    total = np.int64(0)
    for place in range(BINS):
        odds[place] = 0
        if bin_sizes[place] > 0:
            rate = ((50 * hits[place] + 1) << 16) // (50 * chances[place] + num_classes)
            odds[place] = 1 + ((bin_sizes[place] * rate) >> 2)
        total += odds[place]
    while total > 1 << 24:
        total = np.int64(0)
        for place in range(BINS):
            odds[place] = (odds[place] + 1) >> 1
            total += odds[place]
    chosen, before = np.int64(0), np.int64(0)
    if source is None:
        chosen = np.int64(model.bins[ids[rank]])
        for place in range(chosen):
            before += odds[place]
    else:
        point = look(state, total)
        while before + odds[chosen] <= point:
            before += odds[chosen]
            chosen += 1
    code_part(source, state, buffer, before, odds[chosen], total)
    index = np.int64(0)
    if source is None:
        for candidate in range(ids[rank]):
            if model.bins[candidate] == chosen and model.is_known[candidate] == 0:
                index += 1
    index = code_uniform(source, state, buffer, bin_sizes[chosen], index)
    if source is not None:
        for candidate in range(num_classes):
            if model.bins[candidate] == chosen and model.is_known[candidate] == 0:
                if index == 0:
                    ids[rank] = candidate
                    break
                index -= 1
    hits[chosen] += 1
    for place in range(BINS):
        chances[place] += bin_sizes[place]


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
        model.is_known[hint] = _REJECTED
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
def _code_members(source, state, buffer, model, hints, ids, below, span_context, shift, leaders):
    """For every class but the leaders: kept or not, and the values of those that are.

    The hot loop: the coder's state lives in local variables here.
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
        if hint >= 0 and is_known[hint] == _REJECTED:
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
        if hint >= 0 and is_known[hint] == _REJECTED:
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
