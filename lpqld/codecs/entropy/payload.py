"""Payloads from the first byte to the last: what codecs that code one label after another have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs.entropy.range_coder import (
    POSITION,
    Buffer,
    State,
    finish,
    is_past,
    is_whole,
    start_decoding,
    start_encoding,
    with_room,
)
from lpqld.errors import DataError

Part = TypeVar("Part")


def encode_in_parts(
    num_views: int,
    part_views: int,
    most_bytes: Callable[[int], int],
    code: Callable[[State, Buffer, slice, NDArray[np.int64]], None],
) -> tuple[bytes, NDArray[np.int64]]:
    """The payload of N labels, and the length of every payload of the first n of them, int64 [N + 1].

    Args:
        num_views: N.
        part_views: labels that are coded at once.
        most_bytes: how many bytes so many labels may take.
        code: codes the labels of a slice, and sets the length of a payload that ends with each.
    """
    state, buffer = start_encoding(), np.zeros(1, dtype=np.uint8)
    sizes = np.ones(num_views + 1, dtype=np.int64)
    for start in range(0, num_views, part_views):
        some = slice(start, min(start + part_views, num_views))
        buffer = with_room(buffer, int(state[POSITION]) + most_bytes(some.stop - start))
        code(state, buffer, some, sizes[1:][some])
    return buffer[: finish(state, buffer)].tobytes(), sizes


def decode_in_parts(
    payload: bytes, num_views: int, part_views: int, code: Callable[[State, Buffer, slice], Part], what: str
) -> Iterator[Part]:
    """What `code` gives of each slice of N labels, at least one, until they end or the payload does.

    Args:
        payload: from `encode_in_parts`.
        num_views: N.
        part_views: labels that are decoded at once; not necessarily as many as were encoded at once.
        code: decodes the labels of a slice.
        what: these labels in a message.

    Raises:
        DataError: the payload does not end where its labels do.
    """
    source = np.frombuffer(payload, dtype=np.uint8).copy()
    state = start_decoding(source)
    for start in range(0, max(1, num_views), part_views):
        part = code(state, source, slice(start, min(start + part_views, num_views)))
        if is_past(state, len(source)):
            break
        yield part
    if not is_whole(state, len(source)):
        raise DataError(f"{what} payload of {len(source)} bytes does not end where its labels do: it is damaged")
