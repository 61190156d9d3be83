"""Label sets of selected views on disk: what was written is read, sizes are exact, and damage is found."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.codecs import Codec
from lpqld.codecs.dense import Dense
from lpqld.codecs.hard import Hard
from lpqld.codecs.lowrank import LowRank
from lpqld.codecs.topk import TopK
from lpqld.errors import DataError
from lpqld.labels.budget import PrefixSizes, fill_budget
from lpqld.labels.compress import encode
from lpqld.labels.label_set import LabelSet
from lpqld.labels.select import reordered
from lpqld.labels.shards import HEADER, Shard, decode_shard, encode_shard, read_shard, shard_file
from lpqld.storage.bitpack import pack, packed_size
from tests.checks import check_valid, equal_labels, equal_logits, made_up_labels
from tests.lpqld.labels.test_select import IMAGES, LABELS, SELECTED, every_selection

CODECS: dict[str, Codec] = {
    "dense": Dense(),
    "top 3 fp16": TopK(3),
    "top 3 steps": TopK(3, 0.25),
    "tail": TopK(3, 0.25, "tail"),
    "lowrank": LowRank.fit(LABELS.logits.values, rank=3, bits=6),
    "hard": Hard(),
}

every_codec = pytest.mark.parametrize("codec", list(CODECS.values()), ids=list(CODECS))


class TestFiles:
    @every_codec
    @pytest.mark.parametrize("num_views", [30, 171, 600], ids=str)
    def test_what_was_written_is_read(self, codec, num_views, tmp_path):
        encoded = encode(SELECTED["low-confidence"], codec, num_views=num_views, recipe={"epochs": 3})
        encoded.write(tmp_path)
        opened = LabelSet.open(tmp_path)
        opened.verify()
        assert opened.spec.select == "low-confidence"
        assert opened.labels.numbers.tolist() == SELECTED["low-confidence"].numbers[:num_views].tolist()
        assert equal_labels(opened.labels, encoded.decode())
        assert encoded.num_bytes == opened.num_bytes["total"]

    @every_codec
    def test_labels_are_those_of_the_views(self, codec):
        """Each view's label is what the set without a selection has for it."""
        selected, whole = encode(SELECTED["entropy"], codec).decode(), encode(LABELS, codec).decode()
        places = selected.numbers * 30 + np.arange(600) % 30
        if codec.name == "lowrank":  # a product of matrices of another shape
            assert np.allclose(selected.logits.values, whole.logits.values[places], atol=1e-5)
        else:
            assert equal_logits(selected.logits, whole.logits.take(places))

    def test_a_shard_has_the_view_numbers_between_header_and_payload(self):
        spec = encode(SELECTED["entropy"], TopK(3, 0.25)).spec
        logits, numbers = SELECTED["entropy"].in_shard(spec, 1)
        content = encode_shard(spec, 1, logits, numbers)
        payload = spec.codec.encode(logits, num_classes=10, hints=spec.hints_in_shard(1, numbers))
        bits = "".join(f"{number:05b}" for number in numbers)
        assert content[24:131] == int(bits.ljust(107 * 8, "0"), 2).to_bytes(107, "big")
        assert content[131:] == payload

    def test_hints_are_those_of_the_selected_views(self):
        spec, numbers = SELECTED["entropy"].spec, SELECTED["entropy"].numbers
        hints = np.concatenate(
            [spec.hints_in_shard(i, SELECTED["entropy"].in_shard(spec, i).numbers) for i in range(4)]
        )
        every = np.concatenate([LABELS.spec.hints_in_shard(i) for i in range(4)])
        assert hints.tolist() == every[numbers * 30 + np.arange(600) % 30].tolist()

    @every_selection
    def test_compressing_in_two_steps_is_compressing_once(self, by):
        halfway = encode(SELECTED[by], TopK(6), num_views=400).decode()
        twice, once = (encode(labels, TopK(2, 0.5), num_views=100) for labels in (halfway, SELECTED[by]))
        assert twice.shards == once.shards
        assert twice.manifest == once.manifest

    def test_one_view_per_image_takes_no_bits(self):
        labels = reordered(made_up_labels(IMAGES, 1), "entropy")
        assert labels.spec.number_bits == 0
        encoded = encode(labels, Hard())
        assert [len(shard) for shard in encoded.shards] == [24]
        assert encoded.decode().numbers.tolist() == [0] * 30


class TestSizes:
    @every_codec
    def test_every_prefix_has_the_bytes_that_encoding_it_gives(self, codec):
        sizes = PrefixSizes(SELECTED["classes"], codec)
        for count in [*range(30, 600, 37), 99, 100, 170, 171, 340, 341, 510, 511, 600]:
            assert sizes.num_bytes(count) == encode(SELECTED["classes"], codec, num_views=count).num_bytes

    @every_codec
    @settings(max_examples=15)
    @given(share=st.floats(0, 1.1))
    def test_a_budget_is_filled_and_never_exceeded(self, codec, share):
        labels = SELECTED["confidence"]
        smallest, whole = (encode(labels, codec, num_views=count).num_bytes for count in (30, 600))
        budget = smallest + int(share * (whole - smallest))
        filled = fill_budget(labels, codec, budget)
        count = filled.spec.num_views
        assert filled.num_bytes <= budget
        assert count == 600 or encode(labels, codec, num_views=count + 1).num_bytes > budget

    def test_a_smaller_budget_of_a_filled_one_is_the_same_as_at_once(self):
        codec = TopK(3, 0.25)
        larger = fill_budget(SELECTED["confidence"], codec, 3500).decode()
        assert fill_budget(larger, codec, 2500).shards == fill_budget(SELECTED["confidence"], codec, 2500).shards


SPEC = replace(SELECTED["entropy"].spec, codec=TopK(3, 0.25))
NUMBERS = packed_size(170, 5)


@pytest.fixture(scope="module")
def content() -> bytes:
    """Shard 1."""
    return encode_shard(SPEC, 1, *SELECTED["entropy"].in_shard(SPEC, 1))


class TestDamage:
    def test_every_flipped_bit_of_the_numbers_is_found(self, content, tmp_path):
        for position in range(HEADER.size, HEADER.size + NUMBERS):
            for bit in range(8):
                damaged = bytearray(content)
                damaged[position] ^= 1 << bit
                (tmp_path / shard_file(1)).write_bytes(damaged)
                with pytest.raises(DataError, match=r"labels-00001\.lpqld: its checksum .* the file is damaged"):
                    read_shard(tmp_path, SPEC, 1, Shard.of(content))

    def test_every_flipped_byte_of_a_set_is_found_and_its_file_named(self, tmp_path):
        encode(SELECTED["entropy"], Hard(), num_views=171).write(tmp_path)
        for path in sorted(tmp_path.iterdir()):
            content = path.read_bytes()
            for position in range(len(content)):
                damaged = bytearray(content)
                damaged[position] ^= 1 << position % 8
                path.write_bytes(damaged)
                with pytest.raises(DataError, match=re.escape(str(path))):
                    LabelSet.open(tmp_path).verify()
            path.write_bytes(content)
        LabelSet.open(tmp_path).verify()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda numbers: numbers.__setitem__(3, 20), "there is a view number 20, of 20 views from 0"),
            (lambda numbers: numbers.__setitem__(3, 31), "there is a view number 31, of 20 views from 0"),
            (lambda numbers: numbers.__setitem__(33, numbers[3]), "it holds a view of an image twice"),
        ],
        ids=["one past the last", "the largest", "twice"],
    )
    def test_numbers_that_no_writer_writes_are_refused_whatever_the_checksum(self, content, change, message):
        numbers = SELECTED["entropy"].numbers[170:340].copy()
        change(numbers)
        wrong = content[:24] + pack(numbers, 5) + content[24 + NUMBERS :]
        with pytest.raises(DataError, match=message):
            decode_shard(SPEC, 1, wrong)

    def test_padding_is_zeros_and_all_numbers_are_there(self, content):
        last = 24 + NUMBERS - 1
        with pytest.raises(DataError, match="107 bytes are not 170 view numbers in 5 bits each and zeros"):
            decode_shard(SPEC, 1, content[:last] + bytes([content[last] | 1]) + content[last + 1 :])
        for length in (24, 25, last):
            with pytest.raises(DataError, match=f"{length - 24} bytes are not 170 view numbers"):
                decode_shard(SPEC, 1, content[:length])

    @given(st.binary(max_size=300), st.booleans())
    def test_any_bytes_are_labels_or_wrong_data(self, content, body, numbers):
        start = 24 + NUMBERS if numbers else 24
        try:
            found = decode_shard(SPEC, 1, content[:start] + body)
        except DataError:
            return
        check_valid(found.logits, 10)
        assert 0 <= found.numbers.min() <= found.numbers.max() < 20

    def test_a_set_that_says_it_was_selected_otherwise_does_not_own_the_shards(self, content):
        for select in ("confidence", None):
            with pytest.raises(DataError, match="a foreign shard"):
                decode_shard(replace(SPEC, select=select), 1, content)
