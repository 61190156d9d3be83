from dataclasses import replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from lpqld.codecs import Codec, Logits
from lpqld.codecs.dense import Dense
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode
from lpqld.labels.label_set import Labels
from lpqld.labels.relabel import Labeler, specify
from lpqld.models.evaluation import accuracy
from lpqld.training.calibration import CALIBRATION_TYPES, CalibrationPlan
from lpqld.training.dataset import ViewDataset
from lpqld.training.loop import EpochMetrics, train
from lpqld.training.loss import kl_divergence
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student
from lpqld.training.targets import SoftTargets
from lpqld.training.temperature import fit_student_temperature, grid_losses, least_of_grid, parse_schedule
from tests.checks import RULE

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=3, batch_size=15, lr=2e-3, temperature="20:2:step", ca="off", precision="float32")

SGD = replace(RECIPE, optimizer="sgd", lr=0.02, momentum=0.0, temperature="4")


@pytest.fixture(scope="module")
def data(teacher, images) -> ViewDataset:
    """30 images, four views each, all logits."""
    return labelled(teacher, images, 4)


def labelled(teacher, images: ImageSet, views_per_image: int, codec: Codec = TopK(5, 0.25)) -> ViewDataset:  # noqa: B008
    spec = specify(teacher, images, RULE, views_per_image=views_per_image, seed=0, batch_size=100, device=CPU)
    batches = Labeler(teacher, images, RULE, 0, CPU).batches(0, spec.num_views, 100, Dense())
    return ViewDataset(images, encode(Labels(spec, Logits.concatenate(list(batches))), codec).decode())


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
    def test_every_choice_of_a_recipe_is_registered(self):
        assert set(CALIBRATION_TYPES) == set(get_args(get_type_hints(Recipe)["ca"]))

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


class TestHardEpochs:
    RECIPE = replace(SGD, epochs=6, batch_size=30, lr=0.05, weight_decay=0.0, hard_every=2)

    def test_the_first_step_is_of_cross_entropy_with_its_weight(self, data):
        recipe = replace(self.RECIPE, epochs=1, hard_weight=3.0)
        student = Student(recipe, 10, 0).train()
        before = weights(student)
        (batch,) = data.hard_labelled(1).epoch(0, 30, 0)
        torch.nn.functional.cross_entropy(student(batch.views), batch.image_labels).backward()
        gradient = torch.cat([parameter.grad.flatten() for parameter in student.parameters()])
        # SGD's scale is T = 4; the weight is beside T squared.
        expected = before - 0.05 * (4.0 * 3.0 / 4.0**2) * gradient
        assert torch.allclose(weights(trained(data, recipe)[0]), expected, atol=1e-6)

    @pytest.mark.parametrize("hard_every", [2, 3])
    def test_labels_are_read_in_the_order_that_they_have_without(self, data, hard_every):
        read: list[list[int]] = []

        class Watched(ViewDataset):
            def __getitem__(self, positions):
                read.append(np.asarray(positions).tolist())
                return super().__getitem__(positions)

        watched = Watched(data.images, data._labels)
        recipe = replace(self.RECIPE, hard_every=hard_every)
        trained(watched, recipe)
        num_soft = recipe.epochs - recipe.num_hard_before(recipe.epochs)
        assert num_soft == {2: 3, 3: 4}[hard_every]
        assert read == [batch.tolist() for epoch in range(num_soft) for batch in data.batches(epoch, 30, 0)]

    @pytest.mark.parametrize("ca", ["fit", "paper"])
    def test_calibration_knows_soft_labels_only(self, data, ca):
        recipe = replace(RECIPE, ca=ca, temperature="0.5", epochs=20, lr=4e-3, hard_every=2)
        found = [metrics.student_temperature for metrics in trained(data, recipe)[1]]
        moved = [epoch for epoch in range(1, 20) if found[epoch] != found[epoch - 1]]
        assert moved
        # Fitted before an epoch, the paper's after one.
        assert not any(recipe.is_hard(epoch - (ca == "paper")) for epoch in moved)

    def test_without_them_nothing_changes(self, data):
        alone, same = trained(data, SGD)[0], trained(data, replace(SGD, hard_weight=3.0))[0]
        assert torch.equal(weights(alone), weights(same))

    def test_few_labels_teach_more_with_them(self, teacher, digits):
        images, test = digits.sample_per_class(10, 0), ImageSet.open("digits:test")
        recipe = Recipe(epochs=40, batch_size=20, lr=4e-3, temperature="20", ca="off", precision="float32")
        few = labelled(teacher, images, 1, TopK(2, 1.0))
        found = {}
        for hard_every in (0, 2):
            student, _ = trained(few, replace(recipe, hard_every=hard_every))
            found[hard_every] = accuracy(student, test)
        assert found[2] > found[0]


class TestAccumulation:
    @pytest.mark.parametrize("codec", [TopK(3, 0.25), TopK(3, 0.25, absent="tail")], ids=["top 3", "with a tail"])
    def test_parts_of_a_step_move_the_weights_as_the_whole_step(self, teacher, codec):
        """On a network without batch norm, which alone sees the parts."""
        data = labelled(teacher, ImageSet.open("digits:train", size=32).sample_per_class(3, 0), 2, codec)
        recipe = replace(SGD, architecture="test_convnext", epochs=2, batch_size=15)
        whole = trained(data, recipe)
        for accumulate in (2, 7):
            parts = trained(data, replace(recipe, accumulate=accumulate))
            torch.testing.assert_close(weights(parts[0]), weights(whole[0]), rtol=1e-5, atol=1e-6)
            assert [m.loss for m in parts[1]] == pytest.approx([m.loss for m in whole[1]], rel=1e-5)

    def test_the_papers_calibration_takes_the_whole_last_step(self, teacher):
        data = labelled(teacher, ImageSet.open("digits:train", size=32).sample_per_class(3, 0), 1)
        recipe = replace(SGD, architecture="test_convnext", epochs=4, batch_size=30, ca="paper", lr=0.2)
        runs = [trained(data, replace(recipe, accumulate=parts))[1] for parts in (1, 4)]
        found = [[m.student_temperature for m in run] for run in runs]
        assert found[0] == found[1]
        assert found[0][-1] < 1

    def test_more_parts_than_views_are_refused(self, data):
        with pytest.raises(ConfigError, match="step of 15 views cannot be cut into 16 parts: lower accumulate"):
            trained(data, replace(RECIPE, batch_size=16, accumulate=16))


class TestSchedule:
    def test_a_rate_for_each_epoch(self, data):
        metrics = trained(data, replace(RECIPE, epochs=6, warmup_epochs=2, lr_per="epoch"))[1]
        cosine = [2e-3 * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4)]
        assert [m.lr for m in metrics] == pytest.approx([2e-5, 2e-3 * 0.505, *cosine])


class TestAverage:
    def test_it_is_the_average_of_the_weights_after_every_step(self, data):
        recipe = replace(RECIPE, epochs=3, batch_size=30, ema=0.15)
        start = {name: tensor.clone() for name, tensor in Student(recipe, 10, 0).state_dict().items()}
        raw, plain = [], Student(recipe, 10, 0)
        for _ in train(plain, data, replace(recipe, ema=0.0), seed=0):
            raw.append({name: tensor.clone() for name, tensor in plain.state_dict().items()})
        found = trained(data, recipe)[0].state_dict()
        for name in (name for name, tensor in start.items() if tensor.is_floating_point()):
            expected = start[name]
            # (1 + s) / (10 + s) reaches 0.15 before any step: 2 / 11, so the decay is 0.15 throughout.
            for after in raw:
                expected = 0.15 * expected + 0.85 * after[name]
            torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)

    def test_it_is_what_is_evaluated_and_what_the_caller_sees(self, data, images):
        recipe = replace(RECIPE, epochs=4, ema=0.9)
        student = Student(recipe, 10, 0)
        for metrics in train(student, data, recipe, seed=0, validation=images, evaluate_every=1):
            assert metrics.val_accuracy == accuracy(student, images)
        plain = trained(data, replace(recipe, ema=0.0))[0]
        assert not torch.allclose(weights(student), weights(plain))

    def test_training_itself_does_not_notice(self, data):
        averaged, plain = (trained(data, replace(RECIPE, epochs=4, ema=ema))[1] for ema in (0.9, 0.0))
        assert averaged == plain


class TestPrecision:
    def test_bfloat16_trains_as_float32_does_within_its_rounding(self, data):
        losses = {}
        for precision in ("float32", "bfloat16"):
            student, metrics = trained(data, replace(RECIPE, epochs=10, temperature="4", precision=precision))
            assert student(data[[0, 1]].views).dtype == getattr(torch, precision)
            assert all(parameter.dtype == torch.float32 for parameter in student.parameters())
            losses[precision] = [m.loss for m in metrics]
        assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
        assert losses["bfloat16"] != losses["float32"]


class TestCalibrationPlan:
    @pytest.mark.parametrize("num_images", [1, 30, 100, 500, 2000, 10_000, 104_500, 10**6], ids=str)
    def test_it_costs_three_percent_once_the_first_epochs_are_over(self, num_images):
        plan = CalibrationPlan.for_images(num_images)
        assert min(num_images, 64) <= plan.num_views <= 1024
        # A view seen costs a third of one trained on.
        assert plan.num_views / 3 / plan.interval <= 0.03 * num_images

    def test_first_epochs_fit_often(self):
        plan = CalibrationPlan.for_images(100)
        last, fits = 0, []
        for epoch in range(300):
            if plan.is_due(epoch, last):
                last = epoch
                fits.append(epoch)
        assert fits[:9] == [1, 2, 3, 4, 5, 6, 7, 9, 11]
        assert set(np.diff([epoch for epoch in fits if epoch > 50])) == {plan.interval}
        assert len(fits) * plan.num_views / 3 <= 0.035 * 300 * 100


class TestRandomLayers:
    def test_they_draw_from_the_seed_and_leave_the_caller_alone(self, data):
        class Dropping(Student):
            def forward(self, views):
                return super().forward(torch.nn.functional.dropout(views, 0.3, self.training))

        def run(seed: int) -> torch.Tensor:
            student = Dropping(RECIPE, 10, 0)
            for _ in train(student, data, RECIPE, seed=seed):
                torch.rand(1)
            return weights(student)

        torch.manual_seed(5)
        expected = torch.rand(4)[-1]
        torch.manual_seed(5)
        one = run(0)
        assert torch.rand(1) == expected
        assert torch.equal(run(0), one)
        assert not torch.equal(run(1), one)
