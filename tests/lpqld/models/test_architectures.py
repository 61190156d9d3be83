import pytest
import torch

from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.models.architectures import build, fixed_input_size, names
from lpqld.training.dataset import ViewDataset
from lpqld.training.loop import train
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student
from lpqld.views.rule import ViewRule


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


def test_convnets_of_the_field_have_its_weights():
    """320,010 at 32 pixels and 10 classes; maps of 4 x 4 reach the linear layer unpooled."""
    assert sum(parameter.numel() for parameter in build("convnet_d3", 10).parameters()) == 320_010
    assert sum(parameter.numel() for parameter in build("convnet_d4", 10).parameters()) == 320_010 + 128 * 128 * 9 + 384
    for name, size in (("convnet_d3", 32), ("convnet_d4", 64)):
        *blocks, to_four, flatten, linear = build(name, 10).eval()
        found = inputs = torch.rand(2, 3, size, size)
        for layer in blocks:
            found = layer(found)
        assert to_four(found) is found
        assert torch.equal(linear(flatten(found)), build_like(name, blocks, linear)(inputs))


def build_like(name, blocks, linear):
    model = build(name, 10).eval()
    model.load_state_dict(torch.nn.Sequential(*blocks, model[-3], model[-2], linear).state_dict())
    return model


FIELD = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "mobilenetv2_100",
    "efficientnet_b0",
    "shufflenet_v2_x1_0",
    "deit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
]


@pytest.mark.parametrize("architecture", FIELD)
def test_networks_of_the_field_train_a_step(architecture):
    """On images of 32 pixels, which the transformers resize to their 224."""
    images = ImageSet.open("digits:train", size=32).sample_per_class(1, 0).take([0, 1])
    data = ViewDataset.hard(images, ViewRule(mix="none"), 0, 1, "cpu")
    recipe = Recipe(architecture=architecture, epochs=1, batch_size=2, temperature="4", ca="off", lr=1e-2)
    student = Student(recipe, 10, 0)
    before = [parameter.detach().clone() for parameter in student.parameters()]
    (metrics,) = train(student, data, recipe, seed=0)
    assert 0 < metrics.loss < 50
    moved = [not torch.equal(old, new) for old, new in zip(before, student.parameters(), strict=True)]
    # Not all: the last batch norm of a residual block begins at 0, and lets nothing through to those before it.
    assert sum(moved) > 0.5 * len(moved)


def test_a_fixed_input_size_is_known():
    sizes = {name: fixed_input_size(build(name, 3)) for name in ("test_vit", "test_convnext", "convnet")}
    assert sizes == {"test_vit": 160, "test_convnext": None, "convnet": None}
