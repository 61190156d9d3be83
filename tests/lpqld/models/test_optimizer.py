import math

import torch
from torch import nn

from lpqld.models.architectures import build
from lpqld.models.optimizer import half_cosine, parameter_groups


def test_every_parameter_is_in_one_group_and_only_matrices_and_kernels_decay():
    network = build("convnet", 10)
    decaying, constant = parameter_groups(network.parameters(), 0.3)
    assert (decaying["weight_decay"], constant["weight_decay"]) == (0.3, 0.0)
    assert all(parameter.ndim > 1 for parameter in decaying["params"])
    assert all(parameter.ndim <= 1 for parameter in constant["params"])
    grouped = {id(parameter) for group in (decaying, constant) for parameter in group["params"]}
    assert grouped == {id(parameter) for parameter in network.parameters()}


def test_a_network_without_biases_can_be_trained():
    groups = parameter_groups(nn.Linear(2, 2, bias=False).parameters(), 0.1)
    groups[0]["params"][0].grad = torch.ones(2, 2)
    torch.optim.AdamW(groups, lr=0.1).step()


def test_half_a_cosine_falls_from_one_to_nothing():
    values = [half_cosine(math.pi * step / 8) for step in range(9)]
    assert values == sorted(values, reverse=True)
    assert (values[0], values[4], values[8]) == (1.0, (1 + math.cos(math.pi / 2)) / 2, 0.0)
