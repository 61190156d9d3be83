import pytest
import torch
from torch import nn

from lpqld.errors import DataError
from lpqld.images.image_set import ImageSet
from lpqld.models.evaluation import accuracy, predict
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student

RECIPE = Recipe(precision="float32")


class Recorder(nn.Module):
    """Says class 3 of everything, and how many images it was given at once."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen: list[int] = []

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(views))
        return torch.eye(10)[torch.full((len(views),), 3)]


def test_accuracy_is_the_share_of_right_answers(digits):
    few = digits.sample_per_class(13, 0)
    student = Student(RECIPE, 10, 0).eval()
    with torch.no_grad():
        right = student(few.pixels.float() / 255).argmax(1) == few.labels
    assert accuracy(student, few, batch_size=7) == pytest.approx(float(right.float().mean()))


@pytest.mark.parametrize(("size", "expected"), [(8, 1024), (64, 32), (224, 2)])
def test_images_at_once_are_what_memory_holds(digits, size, expected):
    model = Recorder()
    images = digits if size == 8 else ImageSet.open("digits:val", size=size).take(range(100))
    assert accuracy(model, images) == pytest.approx(float((images.labels == 3).float().mean()))
    assert model.seen[0] == min(expected, images.num_images)
    assert sum(model.seen) == images.num_images


def test_where_memory_runs_out_it_goes_on_with_half(digits):
    class Small(Recorder):
        def forward(self, views: torch.Tensor) -> torch.Tensor:
            if len(views) > 300:
                raise torch.OutOfMemoryError("too many")
            return super().forward(views)

    model = Small()
    assert accuracy(model, digits) == pytest.approx(float((digits.labels == 3).float().mean()))
    assert max(model.seen) == 256
    with pytest.raises(torch.OutOfMemoryError):
        accuracy(model, digits, batch_size=400)


@pytest.mark.parametrize("training", [False, True])
def test_predictions_are_the_models_logits_in_order_and_in_the_mode_that_it_is_in(digits, training):
    few = digits.sample_per_class(2, 0)
    student = Student(RECIPE, 10, 0).train(training)
    batches = list(predict(student, few, batch_size=7))
    assert [len(batch) for batch in batches] == [7, 7, 6]
    assert student.training == training
    student = Student(RECIPE, 10, 0).train(training)
    with torch.no_grad():
        expected = [student(pixels.float() / 255) for pixels in few.pixels.split(7)]
    assert torch.equal(torch.cat(batches), torch.cat(expected))


def test_accuracy_leaves_the_mode_as_it_was(digits):
    student = Student(RECIPE, 10, 0).train()
    accuracy(student, digits.sample_per_class(2, 0))
    assert student.training
    with pytest.raises(DataError, match="10 classes and the model 7"):
        accuracy(wrong := Student(RECIPE, 7, 0).train(), digits.sample_per_class(2, 0))
    assert wrong.training
