"""Recovered images: seeded, alone or together the same, of their class, and closer to its statistics."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lpqld.distill.class_statistics import ClassStatistics, squeeze
from lpqld.distill.recipe import RecoverRecipe
from lpqld.distill.recover import Batch, Losses, Recoverer, batches_of
from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.models.architectures import build
from lpqld.models.teacher import Teacher
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.views.rendering import resized_crops

CPU = torch.device("cpu")
RECIPE = RecoverRecipe(iterations=60, lr=0.1, shift=1, flip=False)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return ImageSet.open("digits:train")


@pytest.fixture(scope="module")
def teacher(digits) -> Teacher:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("convnet", 10).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
        inputs = (digits.pixels.float() / 255 - 0.5) / 0.5
        for _ in range(4):
            for rows in torch.randperm(len(inputs)).split(100):
                F.cross_entropy(network(inputs[rows]), digits.labels[rows]).backward()
                optimizer.step()
                optimizer.zero_grad()
    return Teacher(network, TeacherSpec("convnet", 10, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))


@pytest.fixture(scope="module")
def statistics(teacher, digits) -> ClassStatistics:
    return squeeze(teacher, [(digits.pixels, digits.labels.numpy())], range(10), CPU).statistics()


def recovered(
    teacher: Teacher, recipe: RecoverRecipe, batch: Batch, statistics: ClassStatistics | None
) -> tuple[torch.Tensor, list[Losses]]:
    return Recoverer(teacher, recipe, 8, CPU).recover(batch, statistics)


@pytest.mark.parametrize("mode", ["class", "cross"])
def test_the_teacher_takes_them_for_their_class_and_both_losses_fall(teacher, statistics, mode):
    recipe = replace(RECIPE, mode=mode, batch_size=10, crop_scale=(0.5, 1.0), iterations=150)
    batch = Batch(np.repeat(np.arange(10), 2), np.tile(np.arange(2), 10))
    pixels, losses = recovered(teacher, recipe, batch, statistics)
    assert (teacher(pixels.float() / 255).argmax(1).numpy() == batch.classes).mean() >= 0.9
    assert losses[-1].cross_entropy < losses[0].cross_entropy / 4
    assert losses[-1].batch_norm < losses[0].batch_norm / 2
    assert [loss.iteration for loss in losses] == [1, 51, 101, 150]


def test_of_one_seed_they_are_the_same_and_of_another_not(teacher, statistics):
    batch = batches_of(10, 3, RECIPE)[4]
    first, again = (recovered(teacher, RECIPE, batch, statistics)[0] for _ in range(2))
    other = recovered(teacher, replace(RECIPE, seed=1), batch, statistics)[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_classes_of_a_batch_do_not_know_of_each_other(teacher, statistics):
    recipe = replace(RECIPE, iterations=10)
    together = Batch(np.repeat([3, 8], 4), np.tile(np.arange(4), 2))
    both = recovered(teacher, recipe, together, statistics)[0]
    for index, label in enumerate([3, 8]):
        alone = recovered(teacher, recipe, Batch(np.full(4, label), np.arange(4)), statistics)[0]
        difference = (alone.int() - both[4 * index : 4 * index + 4].int()).abs()
        assert difference.float().mean() < 0.5, "but for rounding"


def test_one_image_a_class_where_some_layers_have_one_number(teacher, statistics):
    pixels, _ = recovered(teacher, RECIPE, Batch(np.array([5]), np.array([0])), statistics)
    assert pixels.shape == (1, 3, 8, 8)


def test_real_images_are_where_it_starts(teacher, statistics, digits):
    recipe = replace(RECIPE, init="real", iterations=1, lr=1e-6)
    batch = Batch(np.array([0, 1]), np.array([0, 0]))
    found, _ = Recoverer(teacher, recipe, 8, CPU).recover(batch, statistics, digits.pixels[:2])
    assert torch.equal(found, digits.pixels[:2])


class NanAt(nn.Module):
    """Gives NaN once, at the forward pass of a number; gradients too."""

    def __init__(self, network: nn.Module, at: int) -> None:
        super().__init__()
        self.network, self.left = network, at

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.left -= 1
        logits: torch.Tensor = self.network(images)
        return logits * float("nan") if self.left == 0 else logits


@pytest.mark.parametrize("at", [31, 60], ids=["midway", "at the last step"])
def test_after_a_nan_all_is_done_again_at_half_the_learning_rate(teacher, statistics, at):
    nan_once = NanAt(teacher.model, at + 1)  # one pass finds the order of layers
    broken = Teacher(nan_once, teacher.spec)
    named = replace(
        statistics,
        means={name.replace("model.", "model.network."): values for name, values in statistics.means.items()},
        variances={name.replace("model.", "model.network."): values for name, values in statistics.variances.items()},
    )
    batch = Batch(np.array([5, 5]), np.array([0, 1]))
    pixels, losses = recovered(broken, RECIPE, batch, named)
    expected, calm = recovered(teacher, replace(RECIPE, lr=RECIPE.lr / 2), batch, statistics)
    assert nan_once.left < 0
    assert torch.equal(pixels, expected)
    assert losses == calm, "of the second attempt alone"


class TestWrongInput:
    def test_a_loss_that_is_not_finite_names_the_classes(self, teacher, statistics):
        broken = replace(
            statistics, means={name: np.where(np.arange(10)[:, None] == 3, np.nan, values) for name, values in
                               statistics.means.items()}
        )  # fmt: skip
        with pytest.raises(DataError, match=r"recovering classes 3: the loss is not finite, also with half of lr 0\.1"):
            recovered(teacher, RECIPE, Batch(np.repeat([2, 3], 2), np.tile([0, 1], 2)), broken)

    def test_statistics_of_another_network(self, statistics):
        other = Teacher(build("cifar_resnet20", 10), TeacherSpec("cifar_resnet20", 10))
        with pytest.raises(DataError, match="of another network"):
            recovered(other, RECIPE, Batch(np.array([0]), np.array([0])), statistics)

    def test_a_class_without_statistics(self, teacher, statistics):
        with pytest.raises(DataError, match="no statistics of 1 classes"):
            recovered(teacher, RECIPE, Batch(np.array([11]), np.array([0])), statistics)

    def test_another_size_than_the_teachers(self, teacher):
        sized = Teacher(teacher.model, replace(teacher.spec, input_size=8))
        with pytest.raises(ConfigError, match="takes images of 8 px, found 32"):
            Recoverer(sized, RECIPE, 32, CPU)

    @pytest.mark.parametrize(
        "changed",
        [
            {"mode": "x"},
            {"iterations": 0},
            {"lr": 0},
            {"crop_scale": (0.5, 2)},
            {"shift": -1},
            {"init": "x"},
            {"seed": -1},
        ],
        ids=str,
    )
    def test_fields_out_of_range(self, changed):
        with pytest.raises(ConfigError, match=f"recover.{next(iter(changed))} must be"):
            replace(RECIPE, **changed)

    def test_a_value_of_the_wrong_type(self):
        with pytest.raises(ConfigError, match="recover has a value of another type than its default"):
            RecoverRecipe.from_json({"iterations": "lots"})

    def test_an_unknown_field(self):
        with pytest.raises(ConfigError, match="recover has no speed"):
            RecoverRecipe.from_json({"speed": 3})


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 50), st.sampled_from(["class", "cross"]))
def test_batches_have_every_image_once_and_a_class_is_whole(num_classes, ipc, batch_size, mode):
    batches = batches_of(num_classes, ipc, replace(RECIPE, mode=mode, batch_size=batch_size))
    images = [pair for batch in batches for pair in zip(batch.classes.tolist(), batch.numbers.tolist(), strict=True)]
    assert sorted(images) == sorted(itertools.product(range(num_classes), range(ipc)))
    for batch in batches:
        if mode == "class":
            assert np.bincount(batch.classes)[batch.class_ids].tolist() == [ipc] * len(batch.class_ids)
            assert len(batch.classes) <= max(batch_size, ipc)
        else:
            sizes = [len(each.classes) for each in batches]
            assert max(sizes) <= batch_size
            assert max(sizes) - min(sizes) <= 1, "none is left with few images for statistics of all"


def test_a_curriculum_goes_from_whole_images_to_small_crops():
    at = np.array([0, 30, 59])
    for name in ("linear", "cosine"):
        low = replace(RECIPE, curriculum=name).smallest_crop(at)
        assert low[0] == 1
        assert low[1] == pytest.approx(0.54)
        assert low[2] < 0.1
    assert (RECIPE.smallest_crop(at) == 0.08).all()


def test_a_shift_is_a_roll_image_by_image():
    images, shift = torch.rand(3, 3, 5, 5), torch.tensor([[0, 0], [2, -1], [-3, 4]])
    whole, flip = torch.tensor([[0.0, 0, 1, 1]]).repeat(3, 1), torch.tensor([False, True, True])
    flipped = resized_crops(images, whole, flip)
    torch.testing.assert_close(flipped, torch.where(flip[:, None, None, None], images.flip(3), images))
    expected = torch.stack(
        [torch.roll(image, tuple(by), (1, 2)) for image, by in zip(flipped, shift.tolist(), strict=True)]
    )
    torch.testing.assert_close(resized_crops(images, whole, flip, shift), expected)
