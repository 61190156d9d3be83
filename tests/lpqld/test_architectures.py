import pytest
import torch

from lpqld.architectures import build, names
from lpqld.errors import ConfigError


@pytest.mark.parametrize("architecture", names())
@pytest.mark.parametrize("size", [8, 17, 32])
def test_built_in_networks_take_small_images(architecture, size):
    model = build(architecture, 7).eval()
    assert model(torch.rand(2, 3, size, size)).shape == (2, 7)


def test_timm_names_are_accepted_and_nothing_is_downloaded():
    assert build("resnet10t", 5).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [("convnett", "did you mean convnet"), ("resnet_18", "resnet18"), ("hf-hub:x/y", "unknown"), ("qqqqq", "built in")],
)
def test_unknown_names_come_with_close_ones(architecture, message):
    with pytest.raises(ConfigError, match=message):
        build(architecture, 3)


def test_a_network_needs_a_class():
    with pytest.raises(ConfigError, match="1 or more"):
        build("convnet", 0)


def test_option_a_shortcuts_have_no_weights():
    parameters = sum(parameter.numel() for parameter in build("cifar_resnet20", 10).parameters())
    assert parameters == 269_722
