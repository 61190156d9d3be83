from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from lpqld.errors import ConfigError
from lpqld.models.architectures import build
from lpqld.models.precision import cpu_gains
from lpqld.training.recipe import Recipe
from lpqld.training.student import Student

RECIPE = Recipe(precision="float32")


class TestStudent:
    def test_views_are_normalised_inside(self, images):
        recipe = replace(RECIPE, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
        student = Student(recipe, 10, 0).eval()
        views = images.pixels[:4].float() / 255
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (recipe.mean, recipe.std))
        with torch.no_grad():
            assert torch.allclose(student(views), student.network((views - mean) / std))

    @pytest.mark.parametrize("size", [32, 200])
    def test_views_are_resized_for_networks_of_one_size(self, size):
        student = Student(replace(RECIPE, architecture="test_vit"), 5, 0).eval()
        views = torch.rand(2, 3, size, size)
        resized = F.interpolate(views, (160, 160), mode="bilinear", antialias=size > 160)
        with torch.no_grad():
            torch.testing.assert_close(student(views), student.network((resized - student.mean) / student.std))

    def test_images_that_a_network_cannot_take_are_refused(self):
        student = Student(replace(RECIPE, architecture="test_convnext"), 5, 0).train()
        student.check_input(32)
        with pytest.raises(ConfigError, match=r"test_convnext cannot take images of 8 x 8 pixels .*: choose another"):
            student.check_input(8)
        assert student.training

    def test_precision_is_as_asked_and_auto_spares_what_is_slower_on_a_cpu(self):
        cpu, cuda = torch.device("cpu"), torch.device("cuda")
        native = cpu_gains(torch.cpu.get_capabilities())
        for precision, architecture, expected in [
            ("float32", "convnet", (False, False)),
            ("bfloat16", "shufflenet_v2_x1_0", (True, True)),
            ("auto", "convnet", (native, True)),
            ("auto", "shufflenet_v2_x1_0", (False, True)),
            ("auto", "convnet_d3", (native, True)),
        ]:
            student = Student(Recipe(architecture=architecture, precision=precision), 5, 0)
            assert (student.uses_bfloat16(cpu), student.uses_bfloat16(cuda)) == expected

    @pytest.mark.parametrize(
        ("capabilities", "expected"),
        [
            ({}, False),
            ({"cpu_name": "AMD Zen 4", "avx512_bf16": False}, False),
            ({"cpu_name": "AMD Zen 4", "avx512_bf16": True}, True),
            ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
            ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ],
    )
    def test_cpus_that_are_faster_in_bfloat16(self, capabilities, expected):
        assert cpu_gains(capabilities) is expected

    def test_weights_do_not_depend_on_the_layout(self):
        torch.manual_seed(4)
        expected = build("convnet", 5).state_dict()
        found = Student(RECIPE, 5, 4).network.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert found["4.weight"].is_contiguous(memory_format=torch.channels_last)

    @pytest.mark.parametrize(("architecture", "channels_last"), [("convnet", True), ("convnet_d3", False)])
    def test_group_norm_alone_keeps_channels_first(self, architecture, channels_last):
        student, seen = Student(replace(RECIPE, architecture=architecture), 5, 0), []
        student.network[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        student(torch.rand(2, 3, 32, 32).contiguous(memory_format=torch.channels_last))
        assert seen[0].is_contiguous(memory_format=torch.channels_last) is channels_last
        assert seen[0].is_contiguous() is not channels_last
