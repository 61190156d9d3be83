import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.storage.strict_json import Fields
from lpqld.views.drawn import DrawnViews
from lpqld.views.params import ViewParams
from lpqld.views.rendering import render
from lpqld.views.rule import ViewRule

RULES = {
    "cutmix": ViewRule(),
    "crop only": ViewRule(mix="none", flip=False),
    "mixup": ViewRule(mix="mixup", mix_alpha=0.8),
    "cutmix beta": ViewRule(crop_scale=(0.25, 0.75), mix_alpha=0.5),
    "cutout": ViewRule(mix="none", cutout=True),
    "everything": ViewRule(mix="mixup", mix_alpha=0.8, cutout=True),
}
# Fractions in units of 2**-16, the grid on which they are drawn.
GOLDEN = {
    "rows": [0, 22, 15],
    "partner": [3, 0, 21],
    "flip": [True, True, True],
    "partner_flip": [False, True, False],
    "crop": [[5627, 2332, 49873, 62364], [1381, 7895, 43288, 47930], [6376, 9965, 52554, 46720]],
    "partner_crop": [[1568, 8595, 58545, 44180], [10731, 5686, 39602, 38622], [3435, 1098, 60242, 64169]],
    "box": [[0, 0, 49909, 49430], [971, 0, 22854, 21108], [0, 30166, 53511, 35370]],
    "cutout": [[36478, 39221, 29058, 26315], [0, 11488, 24943, 32768], [0, 43676, 26833, 21860]],
    "color": [
        [0.1522661, 0.258265853, 0.951460242],
        [0.156719327, 0.0349899381, 0.256794095],
        [0.839568496, 0.000726822298, 0.827472448],
    ],
    "lam": [3715, 57566, 11996],
}
EVERY_RULE = pytest.mark.parametrize("rule", list(RULES.values()), ids=list(RULES))


def equal(one: ViewParams, other: ViewParams) -> bool:
    return all(np.array_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(ViewParams))


def made_up(counts: list[int], seed: int = 0) -> ImageSet:
    """Noise images, `counts` of each class, in mixed order, with ids that are not their rows."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    num = len(labels)
    pixels = torch.from_numpy(generator.integers(0, 256, (num, 3, 8, 8), dtype=np.uint8))
    ids = generator.permutation(5 * num)[:num].astype(np.int64)
    names = tuple(f"class {label}" for label in range(len(counts)))
    return ImageSet(pixels, torch.from_numpy(labels), names, ids, np.full(num, 10, dtype=np.int64), "made up")


IMAGES = made_up([6, 3, 5])


class TestDrawing:
    def test_the_drawing_rule_is_pinned(self, digits):
        # These numbers may change only together with RULE_VERSION: label sets on disk store no view parameters, so
        # under another rule every stored label would silently belong to another view.
        rule = ViewRule(crop_scale=(0.25, 1.0), mix_alpha=0.8, cutout=True)
        views = DrawnViews(digits.sample_per_class(3, 0), rule, 7)
        params = views.draw(np.array([0, 17, 65]))
        assert params.rows.tolist() == GOLDEN["rows"]
        assert params.partner.tolist() == GOLDEN["partner"]
        assert params.flip.tolist() == GOLDEN["flip"]
        assert params.partner_flip.tolist() == GOLDEN["partner_flip"]
        for name in ("crop", "partner_crop", "box", "cutout"):
            assert (getattr(params, name).astype(np.float64) * 65536).tolist() == GOLDEN[name], name
        assert params.color.tolist() == pytest.approx(np.array(GOLDEN["color"]), abs=1e-7)
        assert params.lam.tolist() == [1, 1, 1]
        mixup = DrawnViews(views.images, ViewRule(mix="mixup", mix_alpha=0.8), 7).draw(np.array([0, 17, 65]))
        assert (mixup.lam.astype(np.float64) * 65536).tolist() == GOLDEN["lam"]

    @EVERY_RULE
    @settings(max_examples=25)
    @given(seed=st.integers(0, 2**64 - 1), positions=st.lists(st.integers(0, 500), min_size=1, max_size=12))
    def test_a_view_does_not_depend_on_its_batch(self, rule, seed, positions):
        views = DrawnViews(IMAGES, rule, seed)
        together = views.draw(np.array(positions))
        for place, position in enumerate(positions):
            assert equal(together.take(slice(place, place + 1)), views.draw(np.array([position])))

    @EVERY_RULE
    @settings(max_examples=25)
    @given(seed=st.integers(0, 2**32), order=st.permutations(list(range(IMAGES.num_images))))
    def test_a_view_depends_on_seed_id_and_number_only(self, rule, seed, order):
        """But for the partner, which is one of the set's images."""
        shuffled = IMAGES.take(order)
        one, other = DrawnViews(IMAGES, rule, seed), DrawnViews(shuffled, rule, seed)
        positions = np.arange(3 * IMAGES.num_images)
        first, second = one.draw(positions), other.draw(positions)
        rows, numbers = one.rows_and_numbers(positions)
        other_rows, other_numbers = other.rows_and_numbers(positions)
        place = {
            (int(image_id), int(number)): position
            for position, (image_id, number) in enumerate(zip(shuffled.ids[other_rows], other_numbers, strict=True))
        }
        index = np.array(
            [place[int(image_id), int(number)] for image_id, number in zip(IMAGES.ids[rows], numbers, strict=True)]
        )
        for name in ("crop", "flip", "partner_crop", "partner_flip", "lam", "box", "cutout", "color"):
            assert np.array_equal(getattr(first, name), getattr(second, name)[index]), name

    @EVERY_RULE
    @settings(max_examples=25)
    @given(seed=st.integers(0, 2**64 - 1))
    def test_crops_lie_inside_the_image_and_keep_the_area(self, rule, seed):
        params = DrawnViews(IMAGES, rule, seed).draw(np.arange(200))
        low, high = rule.crop_scale
        for crop in (params.crop, params.partner_crop):
            top, left, height, width = crop.astype(np.float64).T
            assert (np.minimum(top, left) >= 0).all()
            assert (np.maximum(top + height, left + width) <= 1).all()
            whole = (height == 1) & (width == 1)
            # Sides are rounded to 2**-16, so areas move by at most that.
            assert ((height * width >= low - 2.0**-15) & ((height * width <= high + 2.0**-15) | whole)).all()
            ratio = width / height
            assert (whole | ((ratio > 0.7499) & (ratio < 1.3335))).all()

    def test_whole_image_crops_are_whole(self):
        params = DrawnViews(IMAGES, ViewRule(crop_scale=(1.0, 1.0)), 0).draw(np.arange(50))
        assert np.array_equal(params.crop, np.tile(np.float32([0, 0, 1, 1]), (50, 1)))

    def test_half_of_the_views_are_flipped_only_where_asked(self):
        positions = np.arange(4000)
        params = DrawnViews(IMAGES, ViewRule(), 0).draw(positions)
        for flip in (params.flip, params.partner_flip):
            assert flip.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(4000))
        still = DrawnViews(IMAGES, ViewRule(flip=False), 0).draw(positions)
        assert not still.flip.any()
        assert not still.partner_flip.any()

    @given(seed=st.integers(0, 2**64 - 1), counts=st.lists(st.integers(0, 5), min_size=1, max_size=5))
    @settings(max_examples=40)
    def test_partners_have_the_same_or_a_lower_rank(self, seed, counts):
        images = made_up([*counts, 2])
        params = DrawnViews(images, ViewRule(), seed).draw(np.arange(20 * images.num_images))
        assert (images.ranks[params.partner] <= images.ranks[params.rows]).all()

    def test_every_image_of_a_rank_or_below_is_a_partner(self):
        params = DrawnViews(IMAGES, ViewRule(), 0).draw(np.arange(300 * IMAGES.num_images))
        for row in range(IMAGES.num_images):
            seen = set(params.partner[params.rows == row].tolist())
            assert seen == set(np.flatnonzero(IMAGES.ranks <= IMAGES.ranks[row]).tolist())

    @EVERY_RULE
    def test_the_first_images_of_every_class_have_the_views_they_have_in_the_larger_set(self, rule, digits):
        large = digits.sample_per_class(20, 0)
        small = large.first_per_class(10)
        assert small.fingerprint == digits.sample_per_class(10, 0).fingerprint
        few, many = DrawnViews(small, rule, 7), DrawnViews(large, rule, 7)
        positions = np.arange(3 * small.num_images)
        rows, numbers = few.rows_and_numbers(positions)
        place = {int(large.ids[row]): position for position, row in enumerate(many.order)}
        elsewhere = np.array([place[int(image_id)] for image_id in small.ids[rows]]) + numbers * large.num_images
        one, other = few.draw(positions), many.draw(elsewhere)
        assert np.array_equal(small.ids[one.rows], large.ids[other.rows])
        assert np.array_equal(small.ids[one.partner], large.ids[other.partner])
        for name in ("crop", "flip", "partner_crop", "partner_flip", "lam", "box", "cutout", "color"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        assert torch.equal(render(small.pixels, one), render(large.pixels, other))

    def test_mixup_shares_follow_the_beta_distribution(self):
        lam = DrawnViews(IMAGES, ViewRule(mix="mixup", mix_alpha=0.8), 0).draw(np.arange(40_000)).lam.astype(np.float64)
        assert ((lam >= 0) & (lam <= 1)).all()
        variance = 1 / (4 * (2 * 0.8 + 1))
        assert lam.mean() == pytest.approx(0.5, abs=4 * np.sqrt(variance / len(lam)))
        assert lam.var() == pytest.approx(variance, abs=0.002)
        fourth = 3 / (16 * (2 * 0.8 + 1) * (2 * 0.8 + 3))
        assert ((lam - 0.5) ** 4).mean() == pytest.approx(fourth, rel=0.03)

    @pytest.mark.parametrize("alpha", [1.0, 0.8], ids=["uniform", "beta"])
    def test_cutmix_boxes_have_equal_sides_that_follow_lambda(self, alpha):
        views = DrawnViews(IMAGES, ViewRule(mix="cutmix", mix_alpha=alpha), 3)
        positions = np.arange(20_000)
        top, left, height, width = views.draw(positions).box.astype(np.float64).T
        lam = DrawnViews(IMAGES, ViewRule(mix="mixup", mix_alpha=alpha), 3).draw(positions).lam.astype(np.float64)
        side = np.sqrt(1 - lam)
        assert (top >= 0).all()
        assert (left >= 0).all()
        assert (np.maximum(top + height, left + width) <= 1).all()
        whole = (top > 0) & (top + height < 1)
        assert whole.sum() > 2000
        assert height[whole] == pytest.approx(side[whole], abs=2e-5)
        both = whole & (left > 0) & (left + width < 1)
        assert height[both] == pytest.approx(width[both], abs=2e-5)
        assert (height <= side + 2e-5).all()
        # The centre is uniform, so clipping leaves side - side**2 / 4 of a side on average.
        assert (height - (side - side**2 / 4)).mean() == pytest.approx(0, abs=0.005)

    def test_cutout_boxes_have_half_the_side_and_any_colour(self):
        params = DrawnViews(IMAGES, ViewRule(mix="none", cutout=True), 0).draw(np.arange(4000))
        top, left, height, width = params.cutout.astype(np.float64).T
        inside = (top > 0) & (left > 0) & (top + height < 1) & (left + width < 1)
        assert (height[inside] == 0.5).all()
        assert (width[inside] == 0.5).all()
        assert inside.mean() == pytest.approx(0.25, abs=0.03)
        assert ((params.color >= 0) & (params.color <= 1)).all()
        assert params.color.mean(axis=0) == pytest.approx(np.full(3, 0.5), abs=0.03)


class TestOrder:
    @given(
        counts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
        extra=st.integers(0, 30),
        seed=st.integers(0, 2**32),
    )
    @settings(max_examples=60)
    def test_an_epoch_reads_every_image_once_and_no_view_again_before_all_were_read(self, counts, extra, seed):
        images = made_up(counts)
        views, num_labels = DrawnViews(images, ViewRule(), 0), images.num_images + extra
        held = np.bincount(views.rows_and_numbers(np.arange(num_labels))[0], minlength=images.num_images)
        assert held.max() - held.min() <= 1
        read: dict[int, list[int]] = {row: [] for row in range(images.num_images)}
        for epoch in range(2 * int(held.max())):
            positions = views.positions_in_epoch(epoch, num_labels, seed)
            assert ((positions >= 0) & (positions < num_labels)).all()
            rows, numbers = views.rows_and_numbers(positions)
            assert sorted(rows.tolist()) == list(range(images.num_images))
            for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
                read[row].append(number)
        for row, numbers in read.items():
            for start in range(0, len(numbers) - held[row] + 1, held[row]):
                assert sorted(numbers[start : start + held[row]]) == list(range(held[row]))

    def test_the_order_depends_on_seed_and_epoch(self):
        views = DrawnViews(IMAGES, ViewRule(), 0)
        orders = {tuple(views.positions_in_epoch(epoch, 14, seed)) for epoch in range(3) for seed in range(3)}
        assert len(orders) == 9
        assert np.array_equal(
            views.positions_in_epoch(1, 14, 2), DrawnViews(IMAGES, ViewRule(), 9).positions_in_epoch(1, 14, 2)
        )

    def test_fewer_labels_than_images_are_refused(self):
        with pytest.raises(ConfigError, match="13 labels cannot cover 14 images"):
            DrawnViews(IMAGES, ViewRule(), 0).positions_in_epoch(0, 13, 0)


class TestRule:
    @EVERY_RULE
    def test_json_round_trip(self, rule):
        assert ViewRule.from_json(Fields(json.loads(json.dumps(rule.to_json())))) == rule

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
            ({"crop_scale": (0.5, 0.4)}, "crop_scale"),
            ({"crop_scale": (0.5, 1.1)}, "crop_scale"),
            ({"crop_scale": (float("nan"), 1.0)}, "crop_scale"),
            ({"crop_ratio": (0.0, 1.0)}, "crop_ratio"),
            ({"mix": "cutmixup"}, "mix must be"),
            ({"mix_alpha": 0.0}, "mix_alpha"),
            ({"mix_alpha": float("nan")}, "mix_alpha"),
        ],
        ids=str,
    )
    def test_rules_out_of_range_are_refused(self, change, message):
        with pytest.raises(ConfigError, match=message):
            ViewRule(**change)
