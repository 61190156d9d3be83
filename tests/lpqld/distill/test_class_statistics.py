"""Statistics against a plain float64 pass over each class; parts add up; layers by the order of their passes."""

import numpy as np
import pytest
import torch
from torch import nn

from lpqld.distill.bn_hooks import batch_norm_layers, watched
from lpqld.distill.class_statistics import StatisticsSums, squeeze
from lpqld.errors import ConfigError, DataError
from lpqld.models.architectures import build
from lpqld.models.teacher import Teacher
from lpqld.models.teacher_spec import TeacherSpec

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["cifar_resnet20", "resnet10t", "regnetz_005", "mobilenetv3_small_050"])
def teacher(request) -> Teacher:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(request.param, 3)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
    return Teacher(network, TeacherSpec(request.param, 3))


@pytest.fixture(scope="module")
def images() -> tuple[torch.Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(1)
    labels = np.array([0, 2, 2, 1, 0, 2, 2, 2, 1])
    noise = torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return noise // torch.from_numpy(labels + 1)[:, None, None, None].to(torch.uint8), labels


def sums(teacher: Teacher, images: tuple[torch.Tensor, np.ndarray], rows: list[slice]) -> StatisticsSums:
    pixels, labels = images
    return squeeze(teacher, ((pixels[some], labels[some]) for some in rows), range(3), CPU)


def reference(teacher: Teacher, pixels: torch.Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and biased variance of every layer's input in float64, all images at once."""
    network, found = Teacher(teacher.model, teacher.spec), {}
    double = network.double()
    hooks = [
        layer.register_forward_pre_hook(lambda _module, inputs, name=name: found.update({name: inputs[0].detach()}))
        for name, layer in double.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        double(pixels.double() / 255)
    for hook in hooks:
        hook.remove()
    double.float()
    return {name: (x.mean((0, 2, 3)).numpy(), x.var((0, 2, 3), correction=0).numpy()) for name, x in found.items()}


def test_it_is_a_plain_pass_over_each_class(teacher, images):
    pixels, labels = images
    statistics = sums(teacher, images, [slice(0, 4), slice(4, 9)]).statistics()
    assert statistics.counts.tolist() == [2, 2, 5]
    for label in range(3):
        expected = reference(teacher, pixels[torch.from_numpy(labels) == label])
        assert set(expected) == set(statistics.means)
        for name, (mean, variance) in expected.items():
            np.testing.assert_allclose(statistics.means[name][label], mean, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(statistics.variances[name][label], variance, rtol=1e-4, atol=2e-6)


def test_parts_add_up_to_the_whole(teacher, images):
    whole = sums(teacher, images, [slice(0, 9)])
    parts = sums(teacher, images, [slice(0, 3)]) + sums(teacher, images, [slice(3, 9)])
    for name, sum_ in whole.layers.items():
        np.testing.assert_allclose(parts.layers[name].first, sum_.first, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(parts.layers[name].second, sum_.second, rtol=1e-4, atol=1e-4)
    overall, expected = whole.overall().statistics(), reference(teacher, images[0])
    for name, (mean, variance) in expected.items():
        np.testing.assert_allclose(overall.means[name][0], mean, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(overall.variances[name][0], variance, rtol=1e-4, atol=1e-4)


def test_statistics_of_some_classes_in_another_order(teacher, images):
    statistics = sums(teacher, images, [slice(0, 9)]).statistics()
    some = statistics.take([2, 0])
    assert some.counts.tolist() == [5, 2]
    for name, means in some.means.items():
        assert np.array_equal(means, statistics.means[name][[2, 0]])
    with pytest.raises(DataError, match="no statistics of 1 classes"):
        statistics.take([1, 7])


def test_batch_norm_over_tokens_of_an_attention_network():
    teacher = Teacher(build("levit_128s", 3), TeacherSpec("levit_128s", 3, input_size=224)).eval()
    pixels = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8)
    found = squeeze(teacher, [(pixels, np.array([0, 1, 1]))], [0, 1], CPU).statistics()
    layers = batch_norm_layers(teacher, 224)
    tokens = next(name for name, layer in layers.items() if isinstance(layer, nn.BatchNorm1d))
    with watched(layers) as seen, torch.inference_mode():
        teacher(pixels[1:].float().div(255))
    values = seen[tokens].double()
    assert len(values) > 2 * 100, "many of an image"
    np.testing.assert_allclose(found.means[tokens][1], values.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.variances[tokens][1], values.var(0, correction=0), rtol=1e-3, atol=1e-6)


def test_layers_come_in_the_order_in_which_an_image_passes_them():
    first = next(iter(batch_norm_layers(Teacher(build("cifar_resnet20", 3), TeacherSpec("x", 3)), 32)))
    assert first == "model.bn1"


class TestWrongInput:
    def test_a_class_without_images(self, teacher, images):
        pixels, labels = images
        with pytest.raises(DataError, match=r"no training images of 1 classes \(7\)"):
            squeeze(teacher, [(pixels, labels)], [0, 1, 2, 7], CPU).statistics()

    def test_a_teacher_without_batch_norm(self):
        teacher = Teacher(build("deit_tiny_patch16_224", 3), TeacherSpec("deit_tiny_patch16_224", 3))
        with pytest.raises(ConfigError, match=r"no batch norm.*resnet18"):
            batch_norm_layers(teacher, 224)

    def test_a_teacher_that_gives_nonsense(self, images):
        network = build("cifar_resnet20", 3)
        with torch.no_grad():
            network.conv1.weight[0, 0, 0, 0] = float("nan")
        with pytest.raises(DataError, match="NaN or infinite"):
            sums(Teacher(network, TeacherSpec("cifar_resnet20", 3)), images, [slice(0, 9)])
