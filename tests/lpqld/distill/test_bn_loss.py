"""The batch-norm loss against the formula in torch's own operations, in value and gradient."""

import pytest
import torch
from torch import nn

from lpqld.distill.bn_hooks import with_batch_norm_loss
from lpqld.distill.bn_loss import BatchNormLoss, mean_and_square


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=True), nn.Conv2d(5, 7, 3), nn.BatchNorm2d(7)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(7)).eval()


def distance(values: torch.Tensor, term: BatchNormLoss) -> torch.Tensor:
    grouped = values.unflatten(0, (len(term.mean), -1))
    over = [1, *range(3, grouped.dim())]
    mean, variance = grouped.mean(over), grouped.var(over, correction=0)
    return ((variance - term.variance).norm(dim=1) + (mean - term.mean).norm(dim=1)).sum()


@pytest.mark.parametrize("num_groups", [1, 3])
def test_value_and_gradient_are_those_of_the_formula(num_groups):
    bare, images = network().double(), torch.randn(6, 3, 9, 8, dtype=torch.float64)
    layers = {name: layer for name, layer in bare.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)}
    terms = {
        name: BatchNormLoss(
            torch.randn(num_groups, layer.num_features), torch.rand(num_groups, layer.num_features), 0.1 + index
        )
        for index, (name, layer) in enumerate(layers.items())
    }
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _module, inputs, name=name: seen.update({name: inputs[0]}))
        for name, layer in layers.items()
    ]
    expected = images.clone().requires_grad_()
    loss = bare(expected).square().sum()
    distances = {name: distance(seen[name], term) for name, term in terms.items()}
    (loss + sum(terms[name].weight * value for name, value in distances.items())).backward()
    for hook in hooks:
        hook.remove()

    bare.float()
    found = images.float().contiguous(memory_format=torch.channels_last).requires_grad_()
    with with_batch_norm_loss(layers, terms) as measured:
        bare(found).square().sum().backward()
    for name, value in distances.items():
        assert measured[name] == pytest.approx(value.item(), rel=1e-5)
    torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-3, atol=1e-6)
    assert not any(layer._forward_pre_hooks for layer in layers.values())


def test_one_number_a_channel_has_no_variance_and_is_left_alone():
    layer, images = nn.BatchNorm1d(4).eval(), torch.randn(1, 4, requires_grad=True)
    with with_batch_norm_loss({"x": layer}, {"x": BatchNormLoss(torch.ones(1, 4), torch.ones(1, 4), 1.0)}) as distances:
        layer(images).sum().backward()
    assert distances == {}
    torch.testing.assert_close(images.grad, torch.ones(1, 4), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 5, 7), (6, 5)], ids=["maps", "sequences", "vectors"])
@pytest.mark.parametrize("num_groups", [1, 3])
def test_compiled_and_in_torch_it_is_the_formula(shape, dtype, num_groups, monkeypatch):
    values = (torch.randn(shape) + 20).to(dtype)  # the mean far from 0: what is rounded too early shows
    term = BatchNormLoss(torch.randn(num_groups, 5) + 20, torch.rand(num_groups, 5), 0.7)
    exact = values.double().requires_grad_()
    expected = distance(exact, term)
    (term.weight * expected).backward()
    for compiled in (True, False):
        monkeypatch.setattr("lpqld.distill.bn_loss._is_for_cpu", lambda values, compiled=compiled: compiled)
        found = values.clone().requires_grad_()
        measured = term.apply(found)
        (found * 0).sum().backward()
        assert float(measured) == pytest.approx(expected.item(), rel=1e-4)
        tolerance = {"rtol": 1e-2, "atol": 1e-3} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(found.grad.double(), exact.grad, **tolerance)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_moments_about_a_shift_of_any_layout(memory_format):
    values = (torch.randn(6, 5, 4, 3) + 50).contiguous(memory_format=memory_format)
    shift = torch.full((5,), 50.0)
    mean, square = mean_and_square(values, shift, 2)
    grouped = values.double().unflatten(0, (2, 3)) - 50
    torch.testing.assert_close(mean.double(), grouped.mean((1, 3, 4)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(square.double(), grouped.square().mean((1, 3, 4)), rtol=1e-4, atol=1e-5)
