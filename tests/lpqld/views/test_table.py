"""Tables of views: bytes and back, the order of labels, and smaller tables that still render what they must."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lpqld.errors import DataError
from lpqld.images.image_set import ImageSet
from lpqld.views.recorded import RecordedOrder, RecordedSource, RecordedViews
from lpqld.views.rule import ViewRule
from lpqld.views.table import ViewTable
from lpqld.views.table_bytes import table_from_bytes, table_to_bytes
from tests.format.plain_table import read_table


def table(
    seed: int, *, mix: str = "cutmix", cutout: bool = False, unit: str = "pixel", uneven: bool = True
) -> ViewTable:
    """A made-up table of 3 to 9 images of 8 to 40 pixels."""
    generator = np.random.default_rng(seed)
    num_images, side = int(generator.integers(3, 10)), int(generator.integers(8, 41))
    if uneven:
        sizes = generator.integers(1, 8, size=generator.integers(2, 9))
        rows = generator.integers(0, num_images, size=sizes.sum())
    else:
        sizes = np.array([num_images] * 3)
        rows = np.concatenate([generator.permutation(num_images) for _ in range(3)])
    count = len(rows)
    corner = generator.integers(0, side // 2, size=(count, 2))
    crops = np.concatenate([corner, generator.integers(1, side // 2 + 1, size=(count, 2))], axis=1)
    mixing = {}
    if mix != "none":
        own = np.repeat(sizes, sizes)
        mixing = {"partners": generator.integers(0, own), "lams": generator.random(len(sizes), dtype=np.float32)}
    if mix == "cutmix":
        start = generator.integers(0, side, size=(len(sizes), 2))
        mixing["boxes"] = np.concatenate([start, generator.integers(start, side + 1)], axis=1)
    cutouts = None
    if cutout:
        places = generator.integers(0, side + 1, size=(count, 4))
        cutouts = np.concatenate([places, generator.integers(0, 256, size=(count, 3))], axis=1)
    shares = (crops / side).astype(np.float16 if unit == "half" else np.float32).astype(np.float32)
    return ViewTable(
        num_images=num_images,
        side=side,
        rows=rows,
        crops=crops.astype(np.float32) if unit == "pixel" else shares,
        crop_unit=unit,  # type: ignore[arg-type]
        flips=generator.random(count) < 0.5,
        labelled=np.ones(count, dtype=bool),
        batch_sizes=sizes,
        cutouts=cutouts,
        **mixing,
    )


@cache
def ten_digits() -> ImageSet:
    return ImageSet.open("digits:train").sample_per_class(1, 0)


kinds = pytest.mark.parametrize(
    ("mix", "cutout", "unit"),
    [("cutmix", False, "pixel"), ("mixup", False, "half"), ("none", True, "single"), ("none", False, "pixel")],
)


def columns(found: ViewTable) -> dict[str, object]:
    names = ("rows", "crops", "flips", "labelled", "batch_sizes", "partners", "boxes", "lams", "cutouts", "ranks")
    return {name: None if getattr(found, name) is None else getattr(found, name).tolist() for name in names}


def drawn(found: ViewTable) -> list[list[float]]:
    """All that renders the labelled views, by position."""
    params = RecordedOrder(found, np.zeros(found.num_images, dtype=np.int64)).draw(np.arange(len(found.order)))
    return np.concatenate(
        [np.asarray(column, dtype=np.float64).reshape(len(params), -1) for column in vars(params).values()], axis=1
    ).tolist()


class TestBytes:
    @kinds
    @given(seed=st.integers(0, 2**32))
    def test_come_back_as_they_were(self, mix, cutout, unit, seed):
        found = table(seed, mix=mix, cutout=cutout, unit=unit)
        smaller = found.reordered(np.arange(len(found.order))).first(max(1, len(found) // 2))
        for one in (found, smaller):
            again = table_from_bytes(table_to_bytes(one))
            assert columns(again) == columns(one)
            assert table_to_bytes(again) == table_to_bytes(one)
            assert (again.num_images, again.side, again.crop_unit) == (one.num_images, one.side, one.crop_unit)

    @kinds
    @given(seed=st.integers(0, 2**32))
    def test_a_reader_made_from_the_docs_finds_the_same(self, mix, cutout, unit, seed):
        found = table(seed, mix=mix, cutout=cutout, unit=unit)
        smaller = found.reordered(np.arange(len(found.order))).first(max(1, len(found) // 2))
        for one in (found, smaller):
            plain = read_table(table_to_bytes(one))
            assert {name: plain.get(name) for name in columns(one)} == columns(one)
            assert (plain["num_images"], plain["side"], plain["crop_unit"]) == (one.num_images, one.side, unit)
            assert plain["order"] == one.order.tolist()

    def test_views_on_pixels_take_few_bytes(self):
        generator = np.random.default_rng(0)
        count, side = 10_000, 224
        crops = np.tile(np.array([1, 2, 200, 100], dtype=np.float32), (count, 1))
        plain = ViewTable(
            num_images=1000, side=side, rows=generator.integers(0, 1000, count), crops=crops, crop_unit="pixel",
            flips=np.zeros(count, dtype=bool), labelled=np.ones(count, dtype=bool), batch_sizes=np.full(100, 100),
            partners=np.zeros(count, dtype=np.int64), lams=np.zeros(100, dtype=np.float32),
            boxes=np.zeros((100, 4), dtype=np.int64),
        )  # fmt: skip
        # 10 bits for the image, 4 x 8 for the crop, 7 for the partner, flip and label; 71 a batch.
        assert len(table_to_bytes(plain)) == pytest.approx(count * 51 / 8 + 100 * 71 / 8, rel=0.01)

    @pytest.mark.parametrize("keep", [0, 3, 20, 31, 32, -1])
    def test_a_part_is_refused(self, keep):
        with pytest.raises(DataError, match=r"damaged|not a table of views"):
            table_from_bytes(table_to_bytes(table(1))[:keep])

    def test_more_is_refused(self):
        with pytest.raises(DataError, match="damaged"):
            table_from_bytes(table_to_bytes(table(1)) + b"\0")

    def test_another_version_is_named(self):
        content = bytearray(table_to_bytes(table(1)))
        content[4] = 9
        with pytest.raises(DataError, match="version 9; this lpqld reads 1"):
            table_from_bytes(bytes(content))

    @given(seed=st.integers(0, 100), bit=st.integers(0, 2**20))
    def test_damage_is_refused_or_another_table_and_nothing_else(self, seed, bit):
        content = bytearray(table_to_bytes(table(seed)))
        bit %= 8 * len(content)
        content[bit // 8] ^= 1 << bit % 8
        try:
            found = table_from_bytes(bytes(content))
        except DataError:
            return
        assert table_to_bytes(found) == bytes(content)


class TestColumns:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda found: {"batch_sizes": found.batch_sizes[:-1]}, "batches of .* views"),
            (lambda found: {"rows": found.rows + found.num_images}, "a view of image"),
            (lambda found: {"crops": found.crops[:-1]}, "crops have shape"),
            (lambda found: {"crops": found.crops + found.side}, "leaves the image"),
            (lambda found: {"crops": found.crops * np.nan}, "leaves the image"),
            (lambda found: {"partners": found.partners + 100}, "is mixed with view .* of its batch"),
            (lambda found: {"boxes": found.boxes + 100}, "a box leaves the image"),
            (lambda found: {"partners": None}, "come together"),
            (lambda found: {"lams": found.lams[:-1]}, "lams have shape"),
        ],
    )
    def test_wrong_ones_are_refused(self, change, message):
        found = table(3)
        with pytest.raises(DataError, match=message):
            replace(found, **change(found))


class TestOrder:
    @given(seed=st.integers(0, 2**32))
    def test_first_views_of_all_images_then_second_ones(self, seed):
        found = table(seed)
        seen: dict[int, int] = {}
        plain = []
        for view, row in enumerate(found.rows.tolist()):
            plain.append((seen.setdefault(row, 0), row, view))
            seen[row] += 1
        assert found.order.tolist() == [view for _, _, view in sorted(plain)]

    @kinds
    @given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
    def test_a_smaller_table_renders_its_labels_as_before(self, mix, cutout, unit, seed, share):
        found = table(seed, mix=mix, cutout=cutout, unit=unit)
        count = max(1, round(share * len(found)))
        smaller = found.first(count)
        assert smaller.labelled.sum() == len(smaller.order) == count
        assert drawn(smaller) == drawn(found)[:count]
        assert len(smaller.first(1)) <= 2, "a view and what is mixed into it"

    @given(seed=st.integers(0, 2**32))
    def test_views_of_an_image_in_another_order(self, seed):
        found = table(seed)
        # Backwards, image by image.
        rows, source = found.rows[found.order], np.arange(len(found))
        for row in np.unique(rows):
            mine = np.flatnonzero(rows == row)
            source[mine] = mine[::-1]
        changed = found.reordered(source)
        assert changed.order.tolist() == found.order[source].tolist()
        assert drawn(changed) == [drawn(found)[place] for place in source]
        half = max(1, len(found) // 2)
        assert drawn(changed.first(half)) == drawn(changed)[:half]


class TestEpochs:
    def views(self, seed: int, **options: object) -> RecordedViews:
        images = ten_digits()
        found = table(seed, **options)  # type: ignore[arg-type]
        return RecordedSource(ViewRule(), 0, found).of(images.take(np.arange(found.num_images)))

    @given(seed=st.integers(0, 1000))
    def test_each_image_with_labels_once_and_all_its_views_before_any_repeats(self, seed):
        views = self.views(seed)
        num_labels = len(views.table)
        rows = views.table.rows[views.table.order]
        there, counts = np.unique(rows, return_counts=True)
        epochs = [views.positions_in_epoch(epoch, num_labels, seed=5) for epoch in range(int(counts.max()))]
        assert all(sorted(rows[positions]) == there.tolist() for positions in epochs)
        for row, count in zip(there, counts, strict=True):
            read = [position for positions in epochs[:count] for position in positions if rows[position] == row]
            assert len(set(read)) == count

    def test_recorded_batches_come_as_they_were_and_again_from_the_first(self):
        views = self.views(4, uneven=False)
        found = views.table
        for epoch in range(7):
            (batch,) = views.recorded_batches(epoch)
            start = (epoch % 3) * found.num_images
            assert found.order[batch].tolist() == list(range(start, start + found.num_images))

    def test_recorded_batches_of_a_smaller_set_have_the_views_that_are_left(self):
        views = self.views(4, uneven=False)
        smaller = RecordedSource(ViewRule(), 0, views.table.first(views.table.num_images + 2)).of(views.images)
        for epoch in range(3):
            read = np.concatenate(smaller.recorded_batches(epoch))
            assert sorted(read) == list(range(views.table.num_images + 2)), "three batches are one pass now"

    def test_partners_are_what_codecs_hear_of(self):
        views = self.views(6)
        found, positions = views.table, np.arange(len(views.table))
        rows, numbers = views.rows_and_numbers(positions)
        classes = views.classes(rows, numbers)
        labels = views.images.labels.numpy()
        partners = found.rows[found.partner_views[found.order]]
        assert classes.tolist() == np.stack([labels[found.rows[found.order]], labels[partners]], axis=1).tolist()
