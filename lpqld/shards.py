"""Shards: Parquet files whose rows are blocks of encoded labels."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lpqld.codec import Logits
from lpqld.errors import DataError
from lpqld.manifest import LabelSpec, Shard

_SCHEMA = pa.schema([("first", pa.int64()), ("num_views", pa.int32()), ("payload", pa.binary())])
BLOCK_VIEWS = 4096


def shard_file(index: int) -> str:
    """The file name of a shard."""
    return f"labels-{index:05d}.parquet"


def encode_shard(spec: LabelSpec, index: int, logits: Logits) -> bytes:
    """The bytes of shard `index`, whose labels are `logits`: one row per block of at most `BLOCK_VIEWS` views."""
    start, num_views = index * spec.shard_views, len(logits.ids)
    firsts = list(range(0, num_views, BLOCK_VIEWS))
    blocks = [logits.take(slice(first, first + BLOCK_VIEWS)) for first in firsts]
    table = pa.table(
        {
            "first": [start + first for first in firsts],
            "num_views": [len(block.ids) for block in blocks],
            "payload": [spec.codec.encode(block, num_classes=spec.num_classes) for block in blocks],
        },
        schema=_SCHEMA,
    )
    sink = io.BytesIO()
    # Packed labels do not compress further; dictionaries, statistics and the Arrow schema would only add bytes.
    pq.write_table(
        table,
        sink,
        compression="NONE",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        write_page_checksum=True,
    )
    return sink.getvalue()


def describe_shard(index: int, content: bytes, num_views: int) -> Shard:
    """The manifest's entry for a shard."""
    return Shard(shard_file(index), num_views, len(content), hashlib.sha256(content).hexdigest())


def decode_shard(spec: LabelSpec, index: int, content: bytes, num_views: int) -> Logits:
    """The labels in a shard's bytes.

    Raises:
        DataError: the bytes are not that shard.
    """
    try:
        table = pq.read_table(io.BytesIO(content), page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a readable Parquet file: {error}") from error
    if not table.schema.equals(_SCHEMA) or any(column.null_count for column in table.columns):
        found = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        raise DataError(f"expected columns first int64, num_views int32, payload binary without nulls, found {found}")
    position, blocks = index * spec.shard_views, []
    for first, count, payload in zip(*(table[name].to_pylist() for name in _SCHEMA.names), strict=True):
        if first != position or not 0 < count <= BLOCK_VIEWS:
            raise DataError(f"expected a block at position {position}, found {count} views at {first}")
        blocks.append(spec.codec.decode(payload, num_views=count, num_classes=spec.num_classes))
        position += count
    if position != index * spec.shard_views + num_views:
        raise DataError(f"expected {num_views} labels, found {position - index * spec.shard_views}")
    return concatenate(blocks)


def concatenate(parts: list[Logits]) -> Logits:
    """Logits of several blocks as one."""
    if len(parts) == 1:
        return parts[0]
    return Logits(np.concatenate([part.ids for part in parts]), np.concatenate([part.values for part in parts]))


def read_shard(folder: Path, spec: LabelSpec, index: int, shard: Shard) -> Logits:
    """Read and verify one shard.

    Raises:
        DataError: it is missing, truncated, damaged or foreign; the message names the file.
    """
    path = folder / shard.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); the label set is incomplete") from error
    if len(content) != shard.bytes:
        raise DataError(
            f"{path}: {len(content)} bytes, the manifest says {shard.bytes}; the file is truncated or replaced"
        )
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        raise DataError(
            f"{path}: its checksum does not match the manifest; the file is damaged or from another label set"
        )
    try:
        return decode_shard(spec, index, content, shard.num_views)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
