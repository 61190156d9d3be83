import struct
from dataclasses import replace

import numpy as np
import pytest

from lpqld.codecs import Logits
from lpqld.codecs.topk import TopK
from lpqld.errors import DataError
from lpqld.labels.shards import HEADER, Shard, check_header, decode_shard, encode_shard, read_shard, shard_file
from lpqld.views.registry import drawn_by
from tests.checks import RULE, equal_logits


@pytest.fixture(scope="module")
def spec(labels):
    return replace(labels.spec, codec=TopK(3, 0.25))


@pytest.fixture(scope="module")
def content(labels, spec) -> bytes:
    """Shard 1 of three."""
    return encode_shard(spec, 1, labels.logits.take(slice(50, 100)))


@pytest.fixture
def stored(tmp_path, content):
    """Put content where shard 1 is looked for; give its path and the manifest's entry."""

    def put(found: bytes = content) -> tuple:
        (tmp_path / shard_file(1)).write_bytes(found)
        return tmp_path, Shard.of(content)

    return put


def test_a_shard_is_its_header_and_the_codecs_payload(labels, spec, content):
    owner = bytes.fromhex(spec.fingerprint)[:8]
    assert content[:24] == b"LPQL" + struct.pack("<HHII", 1, 0, 1, 50) + owner
    part = labels.logits.take(slice(50, 100))
    hints = spec.hints_in_shard(1)
    assert content[24:] == spec.codec.encode(part, num_classes=10, hints=hints)
    decoded = spec.codec.decode(content[24:], num_views=50, num_classes=10, hints=hints)
    assert equal_logits(decode_shard(spec, 1, content).logits, decoded)


def test_the_same_labels_give_the_same_bytes(labels, spec, content):
    assert encode_shard(spec, 1, labels.logits.take(slice(50, 100))) == content


@pytest.mark.parametrize("index", [0, 2], ids=["before", "after"])
def test_a_shard_in_the_place_of_another_is_named(spec, content, index):
    with pytest.raises(DataError, match=f"in the wrong place: it is number 1, expected {index}"):
        decode_shard(spec, index, content)


@pytest.mark.parametrize(
    "change", [{"views": drawn_by(RULE, 1)}, {"codec": TopK(4)}, {"num_views": 119}, {"batch_size": 11}], ids=str
)
def test_a_shard_of_another_set_is_foreign_and_both_fingerprints_are_said(spec, content, change):
    other = replace(spec, **change)
    with pytest.raises(DataError, match="a foreign shard") as error:
        decode_shard(other, 1, content)
    assert spec.fingerprint[:16] in str(error.value)
    assert other.fingerprint[:16] in str(error.value)


def test_the_recipe_may_change(spec, content):
    check_header(replace(spec, recipe={"epochs": 3}), 1, content)


@pytest.mark.parametrize(
    ("place", "found", "message"),
    [
        (0, b"PAR1", "not a shard of a label set"),
        (4, b"\2\0", "a shard of format version 2, in a label set of version 1"),
        (6, b"\1\0", "damaged header: 50 labels and 1, expected 50 and 0"),
        (12, b"\x31\0", "damaged header: 49 labels and 0, expected 50 and 0"),
    ],
    ids=["magic", "version", "reserved", "labels"],
)
def test_every_field_of_the_header_is_checked(spec, content, place, found, message):
    with pytest.raises(DataError, match=message):
        decode_shard(spec, 1, content[:place] + found + content[place + len(found) :])


class TestReading:
    def test_what_was_written_is_read(self, spec, content, stored):
        found = read_shard(stored()[0], spec, 1, stored()[1])
        assert equal_logits(found.logits, decode_shard(spec, 1, content).logits)
        assert found.numbers is None

    def test_every_flipped_bit_is_damage_and_not_a_foreign_shard(self, spec, content, stored):
        for position in range(len(content)):
            for bit in range(8):
                damaged = bytearray(content)
                damaged[position] ^= 1 << bit
                folder, shard = stored(bytes(damaged))
                with pytest.raises(DataError, match=r"labels-00001\.lpqld: its checksum .* the file is damaged"):
                    read_shard(folder, spec, 1, shard)

    def test_every_truncation_is_one(self, spec, content, stored):
        for length in range(len(content)):
            folder, shard = stored(content[:length])
            with pytest.raises(DataError, match=f"labels-00001.lpqld: {length} bytes, .* the file is truncated"):
                read_shard(folder, spec, 1, shard)

    def test_bytes_at_the_end_are_named(self, spec, content, stored):
        folder, shard = stored(content + b"\0")
        with pytest.raises(DataError, match=f"{len(content) + 1} bytes, .* the file is longer than it was"):
            read_shard(folder, spec, 1, shard)

    @pytest.mark.parametrize("count", [50, 20], ids=["same size", "other size"])
    def test_a_foreign_shard_is_called_so_whatever_its_size(self, labels, spec, stored, count):
        other = replace(spec, views=drawn_by(RULE, 3), num_views=50 + count)
        content = encode_shard(other, 1, labels.logits.take(slice(50, 50 + count)))
        folder, shard = stored(content)
        with pytest.raises(DataError, match=r"labels-00001\.lpqld: a foreign shard") as error:
            read_shard(folder, spec, 1, shard)
        assert spec.fingerprint[:16] in str(error.value)
        assert other.fingerprint[:16] in str(error.value)

    def test_a_manifest_that_agrees_with_a_foreign_shard_does_not_help_it(self, labels, spec, stored):
        content = encode_shard(replace(spec, views=drawn_by(RULE, 3)), 1, labels.logits.take(slice(50, 100)))
        with pytest.raises(DataError, match="a foreign shard"):
            read_shard(stored(content)[0], spec, 1, Shard.of(content))

    def test_a_missing_file_and_a_folder_are_named(self, spec, stored, tmp_path):
        _, shard = stored()
        with pytest.raises(DataError, match=r"labels-00001\.lpqld: cannot be read \(No such file"):
            read_shard(tmp_path / "elsewhere", spec, 1, shard)
        (tmp_path / "folder" / shard_file(1)).mkdir(parents=True)
        with pytest.raises(DataError, match=r"labels-00001\.lpqld: not a file"):
            read_shard(tmp_path / "folder", spec, 1, shard)


def test_a_payload_that_is_none_of_the_codecs_is_refused(spec, content):
    with pytest.raises(DataError):
        decode_shard(spec, 1, content[: HEADER.size] + b"\xff" * 500)


def test_shards_without_classes_in_order_are_no_matter(labels, spec):
    """Sparse logits in any order of their classes give the same shard."""
    part = labels.logits.take(slice(50, 100))
    mixed = np.random.default_rng(0).permuted(np.tile(np.arange(10), (50, 1)), axis=1)
    other = Logits(mixed.astype(np.int32), np.take_along_axis(part.values, mixed, axis=1))
    assert encode_shard(spec, 1, other) == encode_shard(spec, 1, part)
