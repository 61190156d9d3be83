"""What a trial holds of a node: how many fit at once, and which share of a GPU a student gets."""

import pytest
import torch

from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.models.architectures import build
from lpqld.training.recipe import Recipe
from sweeps.cluster.resources import TrialResources, gpu_share, student_bytes, trial_resources
from sweeps.config.sweep import ResourcesConfig

GB = 10**9


class TestAtOnce:
    @pytest.mark.parametrize(
        ("cpus", "gpus", "nodes", "expected"),
        [
            (1, 0, [{"CPU": 1}], 1),
            (1, 0, [{"CPU": 8}], 8),
            (2, 0, [{"CPU": 3}, {"CPU": 5}, {"memory": 1}], 3),
            (0.5, 0, [{"CPU": 0.5}], 1),
            (0.1, 0, [{"CPU": 0.3}], 3),
            (1, 0.25, [{"CPU": 16, "GPU": 2}], 8),
            (1, 0.3333, [{"CPU": 16, "GPU": 1}, {"CPU": 16}], 3),
            (4, 0.25, [{"CPU": 8, "GPU": 1}], 2),
        ],
    )
    def test_a_trial_has_all_of_its_resources_on_one_node(self, cpus, gpus, nodes, expected):
        assert TrialResources(cpus, gpus).at_once(nodes) == expected

    def test_none_is_an_error_that_says_what_there_is(self):
        with pytest.raises(ConfigError, match=r"needs 3 CPUs and 0 GPUs .*at most 2 CPUs.*cpus_per_trial=2"):
            TrialResources(3, 0).at_once([{"CPU": 2}, {"CPU": 2}])
        with pytest.raises(ConfigError, match=r"at most 8 CPUs, 0 GPUs"):
            TrialResources(1, 0.5).at_once([{"CPU": 8}])


class TestGpuShare:
    @pytest.mark.parametrize(
        ("needed", "gpu_bytes", "expected"),
        [
            (1 * GB, 80 * GB, 0.25),
            (20 * GB, 80 * GB, 1 / 3),
            (33 * GB, 80 * GB, 0.5),
            (35 * GB, 80 * GB, 1),
            (200 * GB, 80 * GB, 1),
            (20 * GB, None, 0.25),
        ],
    )
    def test_as_many_share_a_gpu_as_fit_in_its_memory(self, needed, gpu_bytes, expected):
        share = gpu_share(needed, gpu_bytes)
        assert share == pytest.approx(expected, abs=1e-4)
        assert round(1 / share) * share <= 1

    def test_a_student_needs_more_the_larger_it_is(self):
        digits = ImageSet.open("digits:val")
        small, large = (student_bytes(Recipe(architecture=name), digits) for name in ("convnet", "tiny_resnet18"))
        weights = sum(parameter.numel() for parameter in build("tiny_resnet18", 10).parameters())
        assert GB < small < GB + 200e6
        assert large > small + 16 * weights * 0.9
        many = student_bytes(Recipe(architecture="tiny_resnet18", batch_size=1000), digits)
        assert many - large > 5 * (large - small - 16 * weights)
        assert build("convnet", 10)[0].weight.device == torch.device("cpu")


@pytest.mark.usefixtures("ray_cluster")
def test_without_a_gpu_a_trial_has_cpus_alone():
    digits = ImageSet.open("digits:val")
    assert trial_resources(ResourcesConfig(), Recipe(), digits) == TrialResources(1, 0)
    assert trial_resources(ResourcesConfig(cpus_per_trial=0.5), Recipe(), digits) == TrialResources(0.5, 0)
    with pytest.raises(ConfigError, match="no node of this Ray cluster"):
        trial_resources(ResourcesConfig(gpus_per_trial=0.5), Recipe(), digits)
