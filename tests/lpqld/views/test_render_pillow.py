"""Views as Pillow and torchvision make them, beside torchvision itself."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from lpqld.views.params import ViewParams
from lpqld.views.render_pillow import render_as_pillow
from lpqld.views.rendering import render

SIDE, COUNT = 40, 12


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    """Blurred noise: something that resizing changes, and not too much."""
    noise = torch.rand(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return (255 * v2.GaussianBlur(5, 1.5)(noise)).to(torch.uint8)


def params(kind: str) -> ViewParams:
    generator = np.random.default_rng(0)
    corner = generator.integers(0, SIDE // 2, size=(2, COUNT, 2))
    size = generator.integers(4, SIDE // 2, size=(2, COUNT, 2))
    crop, partner_crop = (np.concatenate([corner, size], axis=2) / SIDE).astype(np.float32)
    box = np.tile(np.array([4, 7, 20, 11], dtype=np.float32) / SIDE, (COUNT, 1))
    nothing = np.zeros((COUNT, 4), dtype=np.float32)
    return ViewParams(
        rows=generator.integers(0, 6, COUNT),
        crop=crop,
        flip=generator.random(COUNT) < 0.5,
        partner=generator.integers(0, 6, COUNT),
        partner_crop=partner_crop,
        partner_flip=generator.random(COUNT) < 0.5,
        lam=np.full(COUNT, 0.3 if kind == "mixup" else 1, dtype=np.float32),
        box=box if kind == "cutmix" else nothing,
        cutout=box if kind == "cutout" else nothing,
        color=generator.random((COUNT, 3), dtype=np.float32),
    )


def by_torchvision(pixels: torch.Tensor, row: int, crop: np.ndarray, flip: bool) -> torch.Tensor:
    """As training code of the field does: a PIL image, cropped and resized, flipped, as a tensor in [0, 1]."""
    image = functional.to_pil_image(pixels[row])
    top, left, height, width = np.rint(crop * SIDE).astype(int).tolist()
    view = functional.resized_crop(image, top, left, height, width, [SIDE, SIDE], v2.InterpolationMode.BILINEAR)
    view = functional.horizontal_flip(view) if flip else view
    return functional.to_dtype(functional.pil_to_tensor(view), torch.float32, scale=True)


@pytest.mark.parametrize("kind", ["none", "cutmix", "mixup", "cutout"])
def test_views_are_those_of_torchvision(pixels, kind):
    drawn = params(kind)
    views = render_as_pillow(pixels, drawn)
    assert views.is_contiguous(memory_format=torch.channels_last)
    for index, view in enumerate(views):
        expected = by_torchvision(pixels, drawn.rows[index], drawn.crop[index], drawn.flip[index])
        partner = by_torchvision(pixels, drawn.partner[index], drawn.partner_crop[index], drawn.partner_flip[index])
        if kind == "cutmix":
            expected[:, 4:24, 7:18] = partner[:, 4:24, 7:18]
        elif kind == "mixup":
            expected = 0.3 * expected + 0.7 * partner
        elif kind == "cutout":
            expected[:, 4:24, 7:18] = torch.from_numpy(drawn.color[index])[:, None, None]
        torch.testing.assert_close(view, expected, atol=1e-6, rtol=0)


def test_ours_differ_at_the_edge_of_a_crop_only(pixels):
    drawn = params("none")
    difference = (render_as_pillow(pixels, drawn) - render(pixels, drawn)).abs()
    assert difference.max() > 0.02
    assert difference[:, :, SIDE // 3 : -SIDE // 3, SIDE // 3 : -SIDE // 3].max() < 1.5 / 255
