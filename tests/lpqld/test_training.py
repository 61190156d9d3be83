from dataclasses import replace

import numpy as np
import pytest
import torch

from lpqld.codec import Dense, Logits, TopK
from lpqld.compress import encode
from lpqld.dataset import ViewDataset
from lpqld.errors import DataError
from lpqld.evaluation import accuracy
from lpqld.images import ImageSet
from lpqld.labels import Labels
from lpqld.loss import kl_divergence
from lpqld.recipe import Recipe
from lpqld.relabel import Labeler, specify
from lpqld.student import Student
from lpqld.targets import SoftTargets
from lpqld.temperature import fit_student_temperature, grid_losses, least_of_grid, parse_schedule
from lpqld.training import EpochMetrics, train
from tests.checks import RULE

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=3, batch_size=15, lr=2e-3, temperature="20:2:step", ca="off", precision="float32")


@pytest.fixture(scope="module")
def data(teacher, images) -> ViewDataset:
    """30 images, four views each, all logits."""
    return labelled(teacher, images, 4)


def labelled(teacher, images: ImageSet, views_per_image: int) -> ViewDataset:
    spec = specify(teacher, images, RULE, views_per_image=views_per_image, seed=0, batch_size=100, device=CPU)
    batches = Labeler(teacher, images, RULE, 0, CPU).batches(0, spec.num_views, 100, Dense())
    return ViewDataset(images, encode(Labels(spec, Logits.concatenate(list(batches))), TopK(5, 0.25)).decode())


def weights(student: Student) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


def trained(data: ViewDataset, recipe: Recipe, seed: int = 0) -> tuple[Student, list[EpochMetrics]]:
    student = Student(recipe, 10, seed)
    return student, list(train(student, data, recipe, seed=seed))


@pytest.fixture(scope="module")
def run(teacher, digits) -> tuple[Student, list[EpochMetrics], ImageSet]:
    images = digits.sample_per_class(10, 0)
    recipe = Recipe(epochs=30, batch_size=50, lr=4e-3, temperature="20:2:step", ca="fit")
    student, validation = Student(recipe, 10, 0), ImageSet.open("digits:val")
    metrics = train(student, labelled(teacher, images, 10), recipe, seed=0, validation=validation, evaluate_every=20)
    return student, list(metrics), validation


class TestTraining:
    def test_students_learn_the_digits_far_above_chance(self, run):
        student, metrics, validation = run
        assert metrics[-1].val_accuracy == accuracy(student, validation)
        assert metrics[-1].val_accuracy > 0.6

    def test_validation_comes_every_few_epochs_and_at_the_end(self, run):
        assert [m.epoch for m in run[1] if m.val_accuracy is not None] == [19, 29]

    def test_the_teachers_temperature_follows_the_schedule(self, run):
        schedule = parse_schedule("20:2:step", 30)
        assert [m.teacher_temperature for m in run[1]] == [schedule(epoch) for epoch in range(30)]

    def test_the_learning_rate_falls_to_nothing_by_half_a_cosine(self, run):
        # The last step of epoch e is step 2 e + 1 of 60.
        expected = [4e-3 * (1 + np.cos(np.pi * (2 * epoch + 1) / 60)) / 2 for epoch in range(30)]
        assert [m.lr for m in run[1]] == pytest.approx(expected)

    def test_the_loss_decreases_at_a_constant_temperature(self, data):
        metrics = trained(data, replace(RECIPE, epochs=30, temperature="4", lr=4e-3))[1]
        losses = [m.loss for m in metrics]
        assert np.mean(losses[-2:]) < 0.6 * np.mean(losses[:2])

    def test_the_seed_decides_the_student(self, data):
        recipe = replace(RECIPE, ca="fit")
        torch.rand(3)  # the caller's own draws must not matter
        one, again, other = (trained(data, recipe, seed) for seed in (0, 0, 1))
        assert torch.equal(weights(one[0]), weights(again[0]))
        assert one[1] == again[1]
        assert not torch.equal(weights(one[0]), weights(other[0]))

    def test_the_callers_generator_is_left_alone(self, data):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        trained(data, RECIPE)
        assert torch.equal(torch.rand(2), expected)

    def test_warm_up_rises_to_the_peak(self, data):
        metrics = trained(data, replace(RECIPE, epochs=6, warmup_epochs=3))[1]
        rates = [m.lr for m in metrics]
        assert rates[:3] == sorted(rates[:3])
        assert rates[3:] == sorted(rates[3:], reverse=True)
        assert max(rates) <= 2e-3
        assert rates[0] < 1e-3

    def test_a_loss_that_is_not_finite_stops_with_the_remedy(self, data):
        student = Student(RECIPE, 10, 0)
        with torch.no_grad():
            next(student.parameters()).fill_(float("nan"))
        with pytest.raises(DataError, match=r"loss became nan in epoch 0; lower the learning rate \(0\.002\)"):
            list(train(student, data, RECIPE, seed=0))


class TestSgd:
    """The loss of SGD is multiplied by tau, which undoes the 1 / tau that softmax(s / tau) puts on the gradient."""

    @staticmethod
    def gradient(data: ViewDataset, recipe: Recipe, temperature: float) -> torch.Tensor:
        student = Student(recipe, 10, 0).train()
        (batch,) = data.epoch(0, recipe.batch_size, 0)
        kl_divergence(student(batch.views), batch.soft_targets(temperature), temperature).backward()
        return torch.cat([parameter.grad.flatten() for parameter in student.parameters()])

    @pytest.mark.parametrize(
        ("square", "scale"), [(False, 4.0), (True, 16.0)], ids=["tau", "teacher temperature squared"]
    )
    def test_one_step_moves_by_the_scaled_gradient(self, data, square, scale):
        recipe = Recipe(
            epochs=1,
            batch_size=30,
            optimizer="sgd",
            lr=0.05,
            weight_decay=0.0,
            momentum=0.0,
            temperature="4",
            ca="off",
            square_temperature=square,
            precision="float32",
        )
        before = weights(Student(recipe, 10, 0))
        student, _ = trained(data, recipe)
        expected = before - 0.05 * scale * self.gradient(data, recipe, 4.0)
        assert torch.allclose(weights(student), expected, atol=1e-6)
        assert not torch.allclose(weights(student), before, atol=1e-4)

    def test_weight_decay_spares_biases_and_norms(self, data):
        recipe = replace(
            RECIPE, epochs=1, batch_size=30, optimizer="sgd", lr=0.05, weight_decay=0.5, momentum=0.0, temperature="4"
        )
        start, plain = Student(recipe, 10, 0), trained(data, replace(recipe, weight_decay=0.0))[0]
        decayed = trained(data, recipe)[0]
        for before, one, other in zip(start.parameters(), plain.parameters(), decayed.parameters(), strict=True):
            expected = one - 0.05 * 0.5 * before if before.ndim > 1 else one
            assert torch.allclose(other, expected, atol=1e-6)


class TestCalibration:
    def test_off_is_the_teachers_temperature(self, data):
        metrics = trained(data, replace(RECIPE, epochs=5, ca="off"))[1]
        assert [m.student_temperature for m in metrics] == [m.teacher_temperature for m in metrics]

    @pytest.mark.parametrize("ca", ["fit", "paper"])
    def test_it_begins_after_the_first_epoch(self, data, ca):
        metrics = trained(data, replace(RECIPE, ca=ca, temperature="0.5", epochs=30, lr=4e-3))[1]
        assert metrics[0].student_temperature == 1.0
        assert 0.01 <= metrics[-1].student_temperature < 0.99

    def test_paper_takes_the_last_batch_in_training_mode_after_the_epoch(self, data):
        recipe = replace(RECIPE, ca="paper", batch_size=30, optimizer="sgd", lr=0.05, temperature="20:2:cosine")
        found = trained(data, recipe)[1]
        # One batch an epoch: its logits are those of the weights before the step.
        student = Student(recipe, 10, 0).train()
        (batch,) = data.epoch(0, 30, 0)
        with torch.no_grad():
            expected = least_of_grid(grid_losses(student(batch.views), batch.soft_targets(20.0)))
        assert found[1].student_temperature == expected
        assert all(round(m.student_temperature * 100) in range(1, 101) for m in found)

    def test_fit_takes_the_coming_epochs_targets_in_evaluation_mode(self, data):
        recipe = replace(RECIPE, ca="fit", temperature="20:2:cosine")
        student = Student(recipe, 10, 0)
        running = train(student, data, recipe, seed=0)
        next(running)
        temperature = parse_schedule(recipe.temperature, recipe.epochs)(1)
        student.eval()
        with torch.no_grad():
            batches = [(student(batch.views), batch.soft_targets(temperature)) for batch in data.epoch(1, 15, 0)]
        logits, targets = zip(*batches, strict=True)
        expected = fit_student_temperature(torch.cat(logits), SoftTargets.concatenate(targets))
        assert next(running).student_temperature == pytest.approx(expected)
