import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from lpqld.images.image_set import ImageSet
from lpqld.models.normalise import normalised
from lpqld.views.drawn import DrawnViews
from lpqld.views.params import ViewParams
from lpqld.views.rendering import render, render_in_torch
from lpqld.views.rule import ViewRule
from tests.lpqld.views.test_drawn import EVERY_RULE, IMAGES


def noise(side: int) -> ImageSet:
    pixels = torch.from_numpy(np.random.default_rng(side).integers(0, 256, (6, 3, side, side), dtype=np.uint8))
    return replace(IMAGES.take(np.arange(6)), pixels=pixels)


def plain_crop(image: np.ndarray, crop: np.ndarray, flip: bool) -> np.ndarray:
    """Crop, bilinear resize to the full side and flip, pixel by pixel in float64: [3, S, S]."""
    side = image.shape[-1]
    top, left, height, width = crop.astype(np.float64)
    out = np.zeros((3, side, side))
    for row in range(side):
        for column in range(side):
            mirrored = side - 1 - column if flip else column
            y = np.clip((top + height * (row + 0.5) / side) * side - 0.5, 0, side - 1)
            x = np.clip((left + width * (mirrored + 0.5) / side) * side - 0.5, 0, side - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, side - 1), min(x0 + 1, side - 1)
            upper = image[:, y0, x0] * (1 - (x - x0)) + image[:, y0, x1] * (x - x0)
            lower = image[:, y1, x0] * (1 - (x - x0)) + image[:, y1, x1] * (x - x0)
            out[:, row, column] = upper * (1 - (y - y0)) + lower * (y - y0)
    return out


def plain_box(box: np.ndarray, side: int) -> np.ndarray:
    top, left, height, width = box.astype(np.float64)
    mask = np.zeros((side, side), dtype=bool)
    rows, columns = (
        np.rint(np.array([start, start + size]) * side).astype(int) for start, size in ((top, height), (left, width))
    )
    mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


def plain_render(pixels: torch.Tensor, params: ViewParams) -> np.ndarray:
    """Every view by loops over pixels, in float64."""
    images = pixels.numpy().astype(np.float64) / 255
    side, out = images.shape[-1], []
    for index in range(len(params)):
        view = plain_crop(images[params.rows[index]], params.crop[index], bool(params.flip[index]))
        partner = plain_crop(
            images[params.partner[index]], params.partner_crop[index], bool(params.partner_flip[index])
        )
        view = np.where(plain_box(params.box[index], side), partner, view)
        lam = float(params.lam[index])
        view = lam * view + (1 - lam) * partner
        out.append(np.where(plain_box(params.cutout[index], side), params.color[index][:, None, None], view))
    return np.stack(out)


class TestRendering:
    @pytest.mark.parametrize("renderer", [render, render_in_torch], ids=["compiled", "torch"])
    @EVERY_RULE
    def test_rendering_is_that_of_a_plain_float64_reference(self, rule, renderer):
        params = DrawnViews(IMAGES, rule, 11).draw(np.arange(40))
        rendered = renderer(IMAGES.pixels, params)
        assert rendered.dtype == torch.float32
        assert rendered.numpy() == pytest.approx(plain_render(IMAGES.pixels, params), abs=2e-5)

    @pytest.mark.parametrize("side", [1, 2, 3, 17, 96], ids=str)
    @EVERY_RULE
    def test_compiled_and_torch_agree_at_every_size(self, rule, side):
        images = noise(side)
        params = DrawnViews(images, rule, 2).draw(np.arange(60))
        assert torch.allclose(render(images.pixels, params), render_in_torch(images.pixels, params), atol=2e-5)

    @EVERY_RULE
    def test_threads_do_not_change_one_bit(self, rule):
        images = noise(128)
        params = DrawnViews(images, rule, 2).draw(np.arange(70))
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            alone = render(images.pixels, params)
            torch.set_num_threads(3)
            assert torch.equal(alone, render(images.pixels, params))
        finally:
            torch.set_num_threads(before)

    def test_views_come_in_channels_last_memory(self):
        params = DrawnViews(IMAGES, ViewRule(), 0).draw(np.arange(4))
        assert render(IMAGES.pixels, params).is_contiguous(memory_format=torch.channels_last)

    def test_read_only_pixels_are_rendered(self):
        frozen = IMAGES.pixels.numpy().copy()
        frozen.flags.writeable = False
        params = DrawnViews(IMAGES, ViewRule(), 0).draw(np.arange(4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of every read-only array
            pixels = torch.from_numpy(frozen)
        assert torch.equal(render(pixels, params), render(IMAGES.pixels, params))

    @EVERY_RULE
    def test_one_batch_is_what_its_views_are_one_at_a_time(self, rule):
        params = DrawnViews(IMAGES, rule, 5).draw(np.arange(30))
        together = render(IMAGES.pixels, params)
        alone = torch.cat([render(IMAGES.pixels, params.take(slice(i, i + 1))) for i in range(len(params))])
        assert torch.equal(together, alone)

    def test_the_whole_image_comes_back_unchanged(self):
        params = DrawnViews(IMAGES, ViewRule(crop_scale=(1.0, 1.0), mix="none", flip=False), 0).draw(np.arange(14))
        expected = IMAGES.pixels[torch.from_numpy(params.rows)].float() / 255
        assert torch.allclose(render(IMAGES.pixels, params), expected, atol=1e-6)

    def test_a_flipped_whole_image_is_mirrored(self):
        params = DrawnViews(IMAGES, ViewRule(crop_scale=(1.0, 1.0), mix="none"), 0).draw(np.arange(14))
        mirrored = replace(params, flip=np.ones(14, dtype=bool))
        expected = IMAGES.pixels[torch.from_numpy(params.rows)].float().flip(-1) / 255
        assert torch.allclose(render(IMAGES.pixels, mirrored), expected, atol=1e-6)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalised_is_the_formula_bit_for_bit_and_lets_gradients_through(memory_format):
    views = torch.rand(3, 3, 5, 5).contiguous(memory_format=memory_format).requires_grad_()
    mean, std = torch.tensor([0.1, 0.5, 0.7])[:, None, None], torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    found = normalised(views, mean, std)
    assert torch.equal(found, (views - mean) / std)
    assert found.is_contiguous(memory_format=torch.channels_last)
    found.sum().backward()
    torch.testing.assert_close(views.grad, (1 / std).expand(3, 3, 5, 5))
