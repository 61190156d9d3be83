"""Sparse targets and the divergence from them, against float64 and dense references."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lpqld.training.loss import kl_divergence
from lpqld.training.targets import SoftTargets
from lpqld.training.temperature import fit_student_temperature, grid_losses


def made_targets(seed: int, num_views: int, num_classes: int, k: int, temperature: float, tail: bool) -> SoftTargets:
    """Of random labels, float64; with `tail`, classes that are not kept share a level."""
    generator = np.random.default_rng(seed)
    ids = torch.from_numpy(np.argsort(generator.random((num_views, num_classes)), axis=1)[:, :k])
    values = torch.from_numpy(generator.standard_normal((num_views, k)) * 3)
    absent = torch.from_numpy(generator.standard_normal((num_views, 2)) - [2, 0]) if tail else None
    return SoftTargets.softmax(ids, values, absent, num_classes, temperature)


def in_float32(targets: SoftTargets) -> SoftTargets:
    rest = None if targets.rest is None else targets.rest.float()
    return SoftTargets(targets.ids, targets.probabilities.float(), rest)


def reference(logits: torch.Tensor, dense: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean divergence by torch's own autograd, from dense targets."""
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), dense, reduction="batchmean")


class TestTargets:
    @pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0], ids=str)
    @pytest.mark.parametrize(("k", "tail"), [(3, False), (3, True), (11, False), (11, True)])
    def test_they_are_the_softmax_of_the_whole_label(self, k, tail, temperature):
        generator = np.random.default_rng(k)
        ids = np.argsort(generator.random((20, 11)), axis=1)[:, :k]
        values, absent = generator.standard_normal((20, k)) * 3, generator.standard_normal((20, 2))
        level = absent[:, :1] + absent[:, 1:] / temperature
        whole = np.broadcast_to(level if tail else -np.inf, (20, 11)).copy()
        np.put_along_axis(whole, ids, values, axis=1)
        found = SoftTargets.softmax(
            torch.from_numpy(ids), torch.from_numpy(values), torch.from_numpy(absent) if tail else None, 11, temperature
        )
        expected = torch.from_numpy(whole / temperature).softmax(1)
        torch.testing.assert_close(found.dense(11), expected)
        numbers = torch.from_numpy(generator.standard_normal((20, 11)))
        torch.testing.assert_close(found.expectation(numbers), (expected * numbers).sum(1))
        torch.testing.assert_close(found.negative_entropy(11), torch.xlogy(expected, expected).sum(1))

    @pytest.mark.parametrize("tail", [False, True])
    def test_parts_make_a_whole(self, tail):
        one, other = (made_targets(seed, 5, 9, 2, 1.0, tail) for seed in (0, 1))
        both = SoftTargets.concatenate([one, other])
        assert torch.equal(both.dense(9), torch.cat([one.dense(9), other.dense(9)]))


class TestLoss:
    @settings(max_examples=60)
    @given(
        st.integers(0, 10**6),
        st.integers(2, 40),
        st.booleans(),
        st.floats(0.01, 100),
        st.floats(0.05, 20),
        st.sampled_from([0.01, 1.0, 30.0]),
        st.data(),
    )
    def test_value_and_gradient_are_those_of_a_dense_float64_reference(
        self, seed, num_classes, tail, student_temperature, temperature, spread, data
    ):
        targets = made_targets(seed, 7, num_classes, data.draw(st.integers(1, num_classes)), temperature, tail)
        exact = torch.randn(7, num_classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * spread
        exact.requires_grad_()
        expected = reference(exact, targets.dense(num_classes), student_temperature)
        (gradient,) = torch.autograd.grad(expected, exact)
        found = kl_divergence(exact, targets, student_temperature)
        (found_gradient,) = torch.autograd.grad(found, exact)
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-9, abs=1e-9)
        torch.testing.assert_close(found_gradient, gradient, rtol=1e-8, atol=1e-10 / student_temperature)
        single = exact.detach().float().requires_grad_()
        loss = kl_divergence(single, in_float32(targets), student_temperature)
        loss.backward()
        # The logits' own rounding to float32, divided by tau, is all that may be lost.
        largest = max(1.0, float(exact.detach().abs().max()) / student_temperature)
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), abs=2e-6 * largest)
        assert float((single.grad - gradient).abs().max()) <= 2e-6 * largest / student_temperature

    def test_it_is_the_definition(self):
        targets = SoftTargets(torch.tensor([[2, 0]]), torch.tensor([[0.75, 0.25]]))
        logits = torch.tensor([[math.log(1.0), math.log(2.0), math.log(5.0)]])
        expected = 0.75 * math.log(0.75 / (5 / 8)) + 0.25 * math.log(0.25 / (1 / 8))
        assert float(kl_divergence(logits, targets, 1.0)) == pytest.approx(expected, rel=1e-5)

    def test_parts_of_a_batch_add_up_to_it(self):
        targets = made_targets(0, 12, 9, 3, 2.0, True)
        logits = torch.randn(12, 9, dtype=torch.float64, requires_grad=True)
        (whole,) = torch.autograd.grad(kl_divergence(logits, targets, 0.7), logits)
        for rows in (slice(0, 5), slice(5, 12)):
            part = SoftTargets(targets.ids[rows], targets.probabilities[rows], targets.rest[rows])
            kl_divergence(logits[rows], part, 0.7, num_views=12).backward()
        torch.testing.assert_close(logits.grad, whole)

    def test_a_label_whose_probabilities_do_not_add_up_is_one_of_less_weight(self):
        targets = made_targets(3, 6, 8, 8, 1.0, tail=False)
        weights = torch.linspace(0.1, 1, 6, dtype=torch.float64)
        logits = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
        kl_divergence(logits, SoftTargets(targets.ids, targets.probabilities, weights=weights), 1.5).backward()
        ours, logits.grad = logits.grad, None
        dense = targets.dense(8) * weights[:, None]
        loss = -(dense * F.log_softmax(logits / 1.5, dim=1)).sum() / 6
        loss.backward()
        torch.testing.assert_close(ours, logits.grad)

    def test_a_probability_of_zero_is_no_nan(self):
        logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
        loss = kl_divergence(logits, SoftTargets(torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]])), 1.0)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()

    def test_logits_far_apart_at_the_smallest_temperature_stay_finite(self):
        logits = torch.tensor([[500.0, -500.0, 0.0]], requires_grad=True)
        targets = SoftTargets(torch.tensor([[1]]), torch.tensor([[0.5]]), torch.tensor([0.25]))
        loss = kl_divergence(logits, targets, 0.01)
        loss.backward()
        assert torch.isfinite(loss)
        assert logits.grad[0].tolist() == pytest.approx([75.0, -50.0, -25.0])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_what_is_kept_for_10450_classes_is_the_gradient_alone(self, dtype):
        targets = made_targets(0, 64, 10_450, 20, 2.0, True)
        logits = torch.randn(64, 10_450).to(dtype).requires_grad_()
        kept: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            kept.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = kl_divergence(logits, in_float32(targets), 1.3)
        assert kept == [logits.numel() * logits.element_size()]
        loss.backward()
        assert logits.grad.dtype == dtype
        expected = reference(logits.detach().double(), targets.dense(10_450), 1.3)
        assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)


def test_calibration_takes_targets_with_a_tail():
    targets = made_targets(3, 30, 50, 5, 2.0, True)
    dense = targets.dense(50)
    every = SoftTargets(torch.arange(50).expand(30, -1), dense)
    logits = torch.log(dense) * 0.4 + torch.randn(30, 50, dtype=torch.float64) * 0.1
    assert fit_student_temperature(logits, targets) == pytest.approx(fit_student_temperature(logits, every), rel=1e-9)
    torch.testing.assert_close(grid_losses(logits, targets), grid_losses(logits, every), rtol=1e-4, atol=1e-2)
