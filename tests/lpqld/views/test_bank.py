from dataclasses import replace

import numpy as np
import pytest
import torch

from lpqld.images.image_set import ImageSet
from lpqld.images.memory import IMAGE_MEMORIES
from lpqld.labels.relabel import Labeler, specify
from lpqld.views.bank import ImageBank
from lpqld.views.drawn import DrawnViews
from lpqld.views.rendering import render
from lpqld.views.rule import ViewRule
from tests.checks import RULE
from tests.lpqld.views.test_drawn import IMAGES

CPU = torch.device("cpu")
EVERY_MEMORY = pytest.mark.parametrize("memory", IMAGE_MEMORIES)
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"))


class TestImageBank:
    @EVERY_MEMORY
    def test_views_are_the_same_from_every_memory(self, memory):
        params = DrawnViews(IMAGES, ViewRule(), 3).draw(np.arange(50))
        assert torch.equal(ImageBank(IMAGES, CPU, memory).render(params), render(IMAGES.pixels, params))

    @EVERY_MEMORY
    @pytest.mark.parametrize("rule", [ViewRule(), ViewRule(mix="mixup", cutout=True), ViewRule(mix="none")])
    def test_only_a_batchs_images_go_to_another_device(self, memory, rule):
        """As for a GPU, with torch's device without memory in its place, where shapes are all that there is."""
        params = DrawnViews(IMAGES, rule, 3).draw(np.arange(50))
        bank = ImageBank(IMAGES, torch.device("meta"), memory)
        views = bank.render(params)
        assert views.device.type == "meta"
        assert views.shape == (50, 3, 8, 8)

    @pytest.mark.parametrize("device", [GPU])
    @EVERY_MEMORY
    def test_a_gpu_renders_the_same_from_every_memory(self, device, memory):
        params = DrawnViews(IMAGES, ViewRule(), 3).draw(np.arange(50))
        views = ImageBank(IMAGES, torch.device(device), memory).render(params)
        assert torch.equal(views, ImageBank(IMAGES, torch.device(device), "device").render(params))
        assert torch.allclose(views.cpu(), render(IMAGES.pixels, params), atol=2e-5)

    def test_pixels_stay_where_the_images_have_them_on_a_cpu(self):
        assert ImageBank(IMAGES, CPU).memory == "shared"
        assert ImageBank(replace(IMAGES, streamed=True), CPU).memory == "streamed"

    @pytest.mark.parametrize(
        ("memory", "words"),
        [("device", "on the device"), ("shared", "one copy a node"), ("streamed", "from a mapped file")],
    )
    def test_it_says_where_they_are(self, memory, words):
        text = str(ImageBank(IMAGES, CPU, memory))
        assert text.startswith("2.69 KB of pixels")
        assert words in text

    @EVERY_MEMORY
    def test_labels_are_identical_from_every_memory(self, teacher, images, memory):
        spec = specify(teacher, images, RULE, views_per_image=2, seed=5, batch_size=16, device=CPU, shard_views=48)
        first = Labeler(teacher, images, RULE, 5, CPU).shard(spec, 0)
        assert Labeler(teacher, images, RULE, 5, CPU, memory).shard(spec, 0) == first


class TestStreamedImages:
    def test_images_decoded_into_a_file_are_the_same(self):
        usual, streamed = ImageSet.open("digits:val"), ImageSet.open("digits:val", memory="streamed")
        assert (usual.streamed, streamed.streamed) == (False, True)
        assert torch.equal(usual.pixels, streamed.pixels)
        assert usual.fingerprint == streamed.fingerprint
        assert ImageBank(streamed, CPU).memory == "streamed"

    def test_a_part_of_them_is_as_it_would_be(self):
        usual, streamed = ImageSet.open("digits:val"), ImageSet.open("digits:val", memory="streamed")
        assert usual.sample_per_class(3, 1).fingerprint == streamed.sample_per_class(3, 1).fingerprint

    def test_rows_that_are_not_there_are_refused(self):
        with pytest.raises((IndexError, RuntimeError)):
            IMAGES.take([0, IMAGES.num_images])
