import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lpqld.codec import Dense, Logits, TopK
from lpqld.codec.base import dense_ids
from lpqld.errors import DataError
from lpqld.shards import BLOCK_VIEWS, decode_shard, describe_shard, encode_shard, read_shard
from tests.checks import equal_logits, random_logits


def table_of(content: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(content))


def bytes_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


@pytest.fixture(scope="module")
def spec(labels):
    return replace(labels.spec, codec=TopK(3, 0.25))


@pytest.fixture(scope="module")
def content(labels, spec) -> bytes:
    """Shard 1 of three."""
    return encode_shard(spec, 1, labels.logits.take(slice(50, 100)))


def test_a_shard_is_a_parquet_file_of_blocks(content):
    table = table_of(content)
    assert table.schema.names == ["first", "num_views", "payload"]
    assert table["first"].to_pylist() == [50]
    assert table["num_views"].to_pylist() == [50]


def test_the_same_labels_give_the_same_bytes(labels, spec, content):
    assert encode_shard(spec, 1, labels.logits.take(slice(50, 100))) == content


def test_long_shards_are_cut_into_blocks(spec):
    num_views = 2 * BLOCK_VIEWS + 10
    long = replace(spec, num_classes=3, num_views=num_views, shard_views=num_views, codec=Dense())
    values = random_logits(num_views, 3).astype(np.float16).astype(np.float32)
    logits = Logits(dense_ids(num_views, 3), values)
    content = encode_shard(long, 0, logits)
    assert table_of(content)["num_views"].to_pylist() == [BLOCK_VIEWS, BLOCK_VIEWS, 10]
    assert equal_logits(decode_shard(long, 0, content, num_views), logits)


@pytest.mark.parametrize("index", [0, 2], ids=["before", "after"])
def test_a_shard_in_the_place_of_another_is_refused(spec, content, index):
    with pytest.raises(DataError, match="expected a block at position"):
        decode_shard(spec, index, content, 50)


@pytest.mark.parametrize("num_views", [49, 51], ids=["fewer", "more"])
def test_another_number_of_labels_is_refused(spec, content, num_views):
    with pytest.raises(DataError, match=f"expected {num_views} labels, found 50"):
        decode_shard(spec, 1, content, num_views)


def test_another_codec_is_refused(spec, content):
    with pytest.raises(DataError, match="damaged"):
        decode_shard(replace(spec, codec=TopK(4)), 1, content, 50)


def test_every_truncation_is_refused(spec, content):
    for length in range(0, len(content), 7):
        with pytest.raises(DataError, match="Parquet"):
            decode_shard(spec, 1, content[:length], 50)


@pytest.mark.parametrize(
    "columns",
    [
        {"first": [50], "payload": [b"x"]},
        {"payload": [b"x"], "num_views": [50], "first": [50]},
        {"first": [50], "num_views": [50], "payload": ["text"]},
        {"first": [50], "num_views": [50], "payload": pa.array([None], pa.binary())},
        {"first": pa.array([None], pa.int64()), "num_views": [50], "payload": [b"x"]},
        {"first": [50.0], "num_views": ["50"], "payload": [b"x"]},
    ],
    ids=["missing", "order", "text", "null payload", "null position", "types"],
)
def test_tables_of_another_kind_are_refused(spec, columns):
    with pytest.raises(DataError):
        decode_shard(spec, 1, bytes_of(pa.table(columns)), 50)


@pytest.mark.parametrize("count", [0, -1, BLOCK_VIEWS + 1], ids=str)
def test_blocks_of_an_impossible_size_are_refused(spec, content, count):
    payload = table_of(content)["payload"].to_pylist()
    table = pa.table({"first": [50], "num_views": [count], "payload": payload}, schema=table_of(content).schema)
    with pytest.raises(DataError, match="expected a block at position 50"):
        decode_shard(spec, 1, bytes_of(table), 50)


def test_a_shard_without_blocks_is_refused(spec, content):
    with pytest.raises(DataError, match="expected 50 labels, found 0"):
        decode_shard(spec, 1, bytes_of(table_of(content).slice(0, 0)), 50)


def test_a_file_that_is_no_parquet_is_named(spec, tmp_path):
    shard = describe_shard(1, b"no parquet", 50)
    (tmp_path / shard.file).write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"labels-00001\.parquet: not a readable Parquet file"):
        read_shard(tmp_path, spec, 1, shard)
