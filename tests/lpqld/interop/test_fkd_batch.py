"""One batch file of other projects: what it holds, and that nothing in it runs."""

import io
import pickle
import zipfile
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.errors import DataError
from lpqld.interop.fkd_batch import read_batch
from tests.fkd_batches import BATCH, CLASSES, SIDE, batch, changed, saved

DTYPES = (
    torch.float16,
    torch.float32,
    torch.bfloat16,
    torch.float64,
    torch.uint8,
    torch.int16,
    torch.int64,
    torch.bool,
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3)
TENSORS = st.builds(
    lambda shape, dtype, fill: torch.full(shape, fill).to(dtype),
    st.lists(st.sampled_from([0, 1, 3, BATCH, 7, CLASSES]), max_size=3),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 1.0, 0.5, -1.0, 255.0, float("inf")]),
)
ANYTHING = (
    SCALARS
    | TENSORS
    | st.lists(SCALARS | TENSORS, max_size=5)
    | st.dictionaries(st.text(max_size=2), SCALARS, max_size=4)
)


def read(content: bytes, *, side: int = SIDE, num_classes: int = CLASSES) -> Any:
    return read_batch(content, "batch_7.tar", side=side, num_classes=num_classes)


class TestHarm:
    def test_a_plain_pickle_is_refused(self):
        with pytest.raises(DataError, match=r"batch_7.tar: not a batch of labels: expected a zip"):
            read(pickle.dumps([1, 2]))

    def test_a_bomb_is_refused_before_it_is_unpacked(self, monkeypatch):
        monkeypatch.setattr("lpqld.interop.fkd_batch._MOST_BYTES", 2**20)
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bomb/data/0", bytes(2**20 + 1))
        assert len(sink.getvalue()) < 2**12
        with pytest.raises(DataError, match=r"claims 1,048,5.* bytes when unpacked"):
            read(sink.getvalue())

    @pytest.mark.parametrize("keep", [0, 100, 0.5, 0.9])
    def test_a_part_is_damaged(self, keep):
        content = saved(batch())
        with pytest.raises(DataError, match=r"batch_7.tar: (not a batch|damaged)"):
            read(content[: int(keep * len(content)) if isinstance(keep, float) else keep])


class TestFields:
    def test_all_of_a_batch(self):
        found = read(saved(batch()))
        assert found.box == (1, 2, 5, 6)
        assert found.partners.tolist() == [3, 2, 1, 0]
        assert (len(found), found.lam, found.crop_type, found.cutouts) == (4, 0.5, "half", None)

    @pytest.mark.parametrize(
        ("place", "value", "message"),
        [
            (0, torch.zeros(3, 4), "4 labels of 3 views"),
            (0, [1, 2], "crops must be a tensor"),
            (1, torch.zeros(4, 3), "flips have shape"),
            (2, torch.tensor([0, 1, 2, 9]), "partner 9 of a batch of 4"),
            (2, torch.tensor([0]), "partners have shape"),
            (3, [0.5], "lambda must be a number"),
            (3, float("inf"), "lambda is inf"),
            (4, [1, 2, 3], "a box must be four numbers"),
            (4, ["a", 2, 3, 4], "an edge of a box must be a number"),
            (5, torch.zeros(4, 3, dtype=torch.complex64), "logits must be a dense tensor of real numbers"),
            (5, torch.zeros(1, 1).expand(2**28, 3), "logits claim 3,221,225,472 bytes"),
            (4, [5, 2, 1, 6], r"box \(5, 2, 1, 6\) of views of 8 pixels$"),
            (4, [1, 2, 5, 224], r"box .* of views of 8 pixels; pass the images that the labels were made for"),
            (5, torch.full((4, 3), torch.nan), "NaN or infinite"),
            (6, torch.full((4, 3), 2, dtype=torch.int16), "names a class twice"),
            (6, torch.tensor([[0, 1, 12]] * 4), "class 12, and the images have 10"),
            (6, torch.zeros(4, 2), "class ids have shape"),
        ],
    )
    def test_wrong_ones_are_named(self, place, value, message):
        with pytest.raises(DataError, match=f"batch_7.tar: .*{message}"):
            read(changed(place, value))

    def test_fewer_classes_without_ids(self):
        with pytest.raises(DataError, match="logits of 4 classes and no class ids; the images have 10"):
            read(saved(batch(k=None, num_classes=4)))

    def test_class_ids_beyond_16_bits_signed_are_repaired(self):
        ids = torch.tensor([[40_000, 1, 65_000]] * 4).to(torch.int16)
        assert read(changed(6, ids), num_classes=65_001).ids[0].tolist() == [40_000, 1, 65_000]
        with pytest.raises(DataError, match="class -25536"):
            read(changed(6, ids), num_classes=30_000)
        with pytest.raises(DataError, match="stored in 16 bits, which wraps above 65536"):
            read(changed(6, ids), num_classes=70_000)

    def test_partners_of_a_large_batch_are_lost(self):
        with pytest.raises(DataError, match="partners of a batch of 300 were stored in 8 bits, which wraps above 256"):
            read(saved(batch(300)))
        wide = batch(300)
        wide[2] = torch.arange(300)
        assert len(read(saved(wide))) == 300

    @pytest.mark.parametrize(
        ("box", "lam"),
        [((136, 0, 256, 128), 0.75), ((0, 0, 256, 256), 0.0), ((238, 0, 256, 22), 0.99), ((0,) * 4, 1.0)],
    )
    def test_a_box_that_wrapped_at_256_is_repaired(self, box, lam):
        fields = batch(side=256)
        fields[3], fields[4] = lam, [torch.tensor(edge % 256, dtype=torch.uint8) for edge in box]
        assert read(saved(fields), side=256).box == box

    def test_a_box_that_wrapped_and_may_be_several_is_refused(self):
        fields = batch(side=300)
        fields[3], fields[4] = None, [torch.tensor(edge, dtype=torch.uint8) for edge in (10, 10, 40, 40)]
        with pytest.raises(DataError, match="8 bits, which wrap at a side of 300"):
            read(saved(fields), side=300)

    @settings(max_examples=200)
    @given(place=st.integers(0, 6), value=ANYTHING, more=st.lists(ANYTHING, max_size=2))
    def test_whatever_is_in_their_place_is_a_batch_or_refused(self, place, value, more):
        fields = batch()
        fields[place] = value
        try:
            found = read(saved([*fields[: 7 - len(more)], *more]))
        except DataError:
            return
        assert len(found.logits) == len(found) == len(found.flips)
        assert found.ids is None or found.ids.shape == found.logits.shape
