from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lpqld.codec import Dense, Logits, TopK
from lpqld.compress import encode
from lpqld.dataset import ViewDataset
from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageSet
from lpqld.labels import Labels
from lpqld.relabel import Labeler, specify
from lpqld.student import EpochMetrics, Recipe, Student, kl_divergence, train
from lpqld.teacher import accuracy
from lpqld.temperature import fit_student_temperature, grid_student_temperature, parse_schedule
from tests.checks import RULE, softmax

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=3, batch_size=15, lr=2e-3, temperature="20:2:step", ca="off")


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


class TestLoss:
    @pytest.mark.parametrize("temperature", [0.05, 1.0, 13.0], ids=str)
    @pytest.mark.parametrize("k", [1, 3, 10])
    def test_divergence_is_that_of_a_dense_reference_and_of_torch(self, k, temperature):
        generator = np.random.default_rng(k)
        logits = generator.standard_normal((20, 10)) * 2
        ids = np.argsort(generator.random((20, 10)), axis=1)[:, :k]
        probabilities = softmax(generator.standard_normal((20, k)))
        dense = np.zeros((20, 10))
        np.put_along_axis(dense, ids, probabilities, axis=1)
        predicted = softmax(logits / temperature)
        terms = np.where(dense > 0, dense * (np.log(np.where(dense > 0, dense, 1)) - np.log(predicted)), 0)
        arguments = (torch.from_numpy(ids), torch.from_numpy(probabilities), temperature)
        found = kl_divergence(torch.from_numpy(logits), *arguments)
        assert float(found) == pytest.approx(terms.sum(axis=1).mean(), abs=1e-9)
        log_predictions = F.log_softmax(torch.from_numpy(logits) / temperature, dim=1)
        assert float(found) == pytest.approx(
            float(F.kl_div(log_predictions, torch.from_numpy(dense), reduction="batchmean")), abs=1e-9
        )
        single = kl_divergence(torch.from_numpy(logits).float(), arguments[0], arguments[1].float(), temperature)
        assert float(single) == pytest.approx(float(found), rel=1e-4, abs=1e-6)

    def test_a_probability_of_zero_is_no_nan(self):
        logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
        loss = kl_divergence(logits, torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]]), 1.0)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


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
        ids, targets = batch.sparse_targets(temperature)
        kl_divergence(student(batch.views), ids, targets, temperature).backward()
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
        )
        before = weights(Student(recipe, 10, 0))
        student, _ = trained(data, recipe)
        expected = before - 0.05 * scale * self.gradient(data, recipe, 4.0)
        assert torch.allclose(weights(student), expected, atol=1e-6)
        assert not torch.allclose(weights(student), before, atol=1e-4)

    def test_weight_decay_spares_biases_and_norms(self, data):
        recipe = Recipe(
            epochs=1, batch_size=30, optimizer="sgd", lr=0.05, weight_decay=0.5, momentum=0.0, temperature="4", ca="off"
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
        ids, targets = batch.sparse_targets(20.0)
        with torch.no_grad():
            expected = grid_student_temperature(student(batch.views), ids, targets)
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
            batches = [(student(b.views), *b.sparse_targets(temperature)) for b in data.epoch(1, 15, 0)]
        expected = fit_student_temperature(*(torch.cat(part) for part in zip(*batches, strict=True)))
        assert next(running).student_temperature == pytest.approx(expected)


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


class TestRecipe:
    def test_json_round_trip(self):
        assert Recipe.from_json(RECIPE.to_json()) == RECIPE

    def test_fields_from_elsewhere_are_refused(self):
        with pytest.raises(DataError, match="not one that this lpqld knows"):
            Recipe.from_json({**RECIPE.to_json(), "label_smoothing": 0.1})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epochs": 0}, "at least 1"),
            ({"batch_size": 0}, "at least 1"),
            ({"warmup_epochs": 3}, "warmup_epochs must be 0 to 2"),
            ({"warmup_epochs": -1}, "warmup_epochs must be 0 to 2"),
            ({"lr": 0.0}, "lr must be above 0"),
            ({"lr": float("nan")}, "lr must be above 0"),
            ({"weight_decay": -0.1}, "weight_decay 0 or more"),
            ({"optimizer": "lion"}, "adamw or sgd"),
            ({"ca": "on"}, "ca must be one of fit, paper, off"),
            ({"std": (1.0, 0.0, 1.0)}, "std must be above 0"),
            ({"temperature": "hot"}, "not a schedule"),
        ],
        ids=str,
    )
    def test_recipes_out_of_range_are_refused(self, change, message):
        with pytest.raises(ConfigError, match=message):
            replace(RECIPE, **change)
