"""One label after another through the range coder, by what the context model knows.

A label is coded as: its further whole numbers, the distance from its largest value to its smallest, its argmax, the
next `LEADERS` - 1 classes one by one, then for every other class whether it is kept and, if so, its value. Hints,
classes that are likely among the largest because the view shows them, are asked for first each time.

One set of functions encodes and decodes, see `range_coder`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lpqld._numba import compiled, inlined
from lpqld.codecs.entropy.adaptive_bits import bit_length, code_adaptive, code_number, code_value
from lpqld.codecs.entropy.context_model import (
    BINS,
    LEADERS,
    REJECTED,
    SPANS,
    STEP_BITS,
    STEPS,
    ContextModel,
    bin_by_mean,
    bin_by_score,
    learn,
    score_by_hint,
    score_by_leader,
)
from lpqld.codecs.entropy.member_coder import code_members
from lpqld.codecs.entropy.range_coder import Buffer, State, code_part, code_uniform, look
from lpqld.codecs.label_block import MOST_HINTS


@compiled
def code_views(
    source: bool | None,
    state: State,
    buffer: Buffer,
    model: ContextModel,
    hints_NH: NDArray[np.int32],
    ids_Nk: NDArray[np.int32],
    below_Nk: NDArray[np.int64],
    numbers_NE: NDArray[np.int64],
    sizes: NDArray[np.int64],
    seen: int,
) -> None:
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
            code_members(source, state, buffer, model, hints, ids, below, span_context, shift, leaders)
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
            model.is_known[hint] = REJECTED
            model.bin_sizes[model.bins[hint]] -= 1


@inlined
def _put_back(model, hints):
    """Undo `_set_aside`."""
    for hint in hints:
        if hint >= 0 and model.is_known[hint] == REJECTED:
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
