from dataclasses import replace

import pytest
import torch

from lpqld.evaluation import accuracy
from lpqld.recipe import Recipe
from lpqld.student import Student

RECIPE = Recipe(precision="float32")


class TestStudent:
    def test_views_are_normalised_inside(self, images):
        recipe = replace(RECIPE, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
        student = Student(recipe, 10, 0).eval()
        views = images.pixels[:4].float() / 255
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (recipe.mean, recipe.std))
        with torch.no_grad():
            assert torch.allclose(student(views), student.network((views - mean) / std))

    def test_accuracy_is_the_share_of_right_answers(self, digits):
        few = digits.sample_per_class(13, 0)
        student = Student(RECIPE, 10, 0).eval()
        with torch.no_grad():
            right = student(few.pixels.float() / 255).argmax(1) == few.labels
        assert accuracy(student, few, batch_size=7) == pytest.approx(float(right.float().mean()))
