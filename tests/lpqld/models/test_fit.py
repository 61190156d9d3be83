from dataclasses import replace

import pytest
import torch

from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.models.evaluation import accuracy
from lpqld.models.fit import FitEpoch, fit_teacher
from lpqld.models.fit_recipe import FitRecipe, epochs_to_keep
from lpqld.models.teacher import Teacher


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return ImageSet.open("digits:train")


def test_digits_are_learnt_in_seconds(digits):
    model, spec = fit_teacher(digits, FitRecipe("convnet", 20), seed=0)
    assert accuracy(Teacher(model, spec), ImageSet.open("digits:test")) > 0.97
    assert spec.class_names == digits.class_names
    assert spec.input_size == 8


def test_the_seed_decides_the_weights(digits):
    few = digits.first_per_class(10)

    def weights(seed: int) -> torch.Tensor:
        torch.rand(3)  # the caller's own draws must not matter
        model, _ = fit_teacher(few, FitRecipe("convnet", 2, batch_size=32, flip=True), seed=seed)
        return torch.cat([value.flatten().float() for value in model.state_dict().values()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_callers_generator_is_left_alone(digits):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fit_teacher(digits.first_per_class(2), FitRecipe("convnet", 1), seed=0)
    assert torch.equal(torch.rand(2), expected)


def test_epochs_are_reported_and_checkpoints_kept(digits):
    reports: list[FitEpoch] = []
    kept: list[int] = []
    fit_teacher(
        digits.first_per_class(3),
        FitRecipe("convnet", 5),
        seed=0,
        on_epoch=reports.append,
        keep_at=(2, 4),
        keep=lambda epoch, model, spec: kept.append(epoch),
    )
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5]
    assert all(report.num_epochs == 5 and 0 <= report.train_accuracy <= 1 for report in reports)
    assert kept == [2, 4]


@pytest.mark.parametrize("arguments", [{"epochs": 0}, {"batch_size": 1}, {"lr": 0.0}, {"max_shift": 8}], ids=str)
def test_arguments_out_of_range(digits, arguments):
    with pytest.raises(ConfigError):
        fit_teacher(digits, FitRecipe(**{"architecture": "convnet", "epochs": 1, **arguments}), seed=0)


def test_one_image_is_too_few(digits):
    with pytest.raises(DataError, match="two images"):
        fit_teacher(digits.take([0]), FitRecipe("convnet", 1), seed=0)


def test_divergence_says_what_to_change(digits):
    with pytest.raises(ConfigError, match="lower `lr`"):
        fit_teacher(digits.first_per_class(2), FitRecipe("convnet", 30, lr=1e30), seed=0)


def test_an_image_set_without_contrast_can_be_normalised(digits):
    black = replace(digits.first_per_class(1), pixels=torch.zeros(10, 3, 8, 8, dtype=torch.uint8))
    _, spec = fit_teacher(black, FitRecipe("convnet", 1), seed=0)
    assert min(spec.std) > 0


@pytest.mark.parametrize("architecture", ["convnet", "mobilenetv2_050"])
def test_interrupted_it_goes_on_as_if_it_had_not_been(digits, tmp_path, architecture):
    few, path = digits.first_per_class(4), tmp_path / "state"
    few = replace(few, pixels=few.pixels.repeat_interleave(4, 2).repeat_interleave(4, 3))

    class StopError(Exception):
        pass

    def interrupt(report: FitEpoch) -> None:
        if report.epoch == 3:
            raise StopError

    kept: list[int] = []
    recipe = FitRecipe(architecture, 4, batch_size=10)
    common = {"seed": 5, "keep_at": (1, 2, 4), "keep": lambda epoch, model, spec: kept.append(epoch)}
    whole, _ = fit_teacher(few, recipe, **common)
    assert kept == [1, 2, 4]
    with pytest.raises(StopError):
        fit_teacher(few, recipe, **common, on_epoch=interrupt, checkpoint=path, checkpoint_seconds=0.0)
    assert path.exists()
    kept.clear()
    again, _ = fit_teacher(few, recipe, **common, checkpoint=path)
    assert kept == [4], "epochs 1 and 2 were kept before"
    assert not path.exists()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


def test_the_state_of_another_training_is_refused(digits, tmp_path):
    few, path = digits.first_per_class(2), tmp_path / "state"

    def stop(report: FitEpoch) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    recipe = FitRecipe("convnet", 3)
    common = {"checkpoint": path, "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        fit_teacher(few, recipe, **common, seed=0, on_epoch=stop)
    with pytest.raises(DataError, match="another training"):
        fit_teacher(few, recipe, **common, seed=1)


class TestFitRecipe:
    def test_what_it_leaves_open_is_as_the_images_ask(self, digits):
        colour = replace(digits, pixels=digits.pixels * torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None])
        recipe = FitRecipe("convnet", 1)
        assert recipe.for_images(digits) == replace(recipe, flip=False, max_shift=1)
        assert recipe.for_images(colour) == replace(recipe, flip=True, max_shift=1)

    def test_what_it_says_stays(self, digits):
        recipe = FitRecipe("convnet", 1, flip=True, max_shift=0)
        assert recipe.for_images(digits) == recipe


class TestEpochsToKeep:
    def test_a_list(self):
        assert epochs_to_keep("20,1,5,5", 20) == (1, 5, 20)

    def test_evenly_in_log_time(self):
        assert epochs_to_keep("log:5", 100) == (1, 3, 10, 32, 100)
        assert epochs_to_keep("log:9", 5) == (1, 2, 3, 4, 5)
        assert epochs_to_keep("log:1", 30) == (1, 30)

    def test_every_so_many(self):
        assert epochs_to_keep("every:4", 10) == (4, 8, 10)
        assert epochs_to_keep("every:1", 3) == (1, 2, 3)

    @pytest.mark.parametrize(
        "text", ["", "0", "31", "a", "1,,2", "log:", "log:0", "log:1,2", "every:31", "every:0", "-1"]
    )
    def test_what_is_neither(self, text):
        with pytest.raises(ConfigError, match="expected a list of epochs from 1 to 30"):
            epochs_to_keep(text, 30)
