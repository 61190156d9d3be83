"""Networks as folders: timm opens its own, and any of them is a teacher again."""

import json
from pathlib import Path

import pytest
import timm
import torch

from lpqld.errors import ConfigError
from lpqld.models.architectures import build
from lpqld.models.teacher import load_teacher
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.models.timm_folder import CONFIG_FILE, MODEL_FILE, save_model

NAMES = tuple(f"class {label}" for label in range(7))


def saved(folder: Path, architecture: str) -> torch.nn.Module:
    network = build(architecture, 7).eval()
    spec = TeacherSpec(architecture, 7, 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bilinear", NAMES)
    save_model(folder, network, spec)
    return network


def test_timm_opens_its_own_with_all_that_was_said(tmp_path):
    network = saved(tmp_path, "resnet10t")
    opened = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(opened(images), network(images))
    config = opened.pretrained_cfg
    assert (tuple(config["mean"]), tuple(config["input_size"])) == ((0.1, 0.2, 0.3), (3, 32, 32))
    assert json.loads((tmp_path / CONFIG_FILE).read_text())["label_names"] == list(NAMES)


@pytest.mark.parametrize("architecture", ["resnet10t", "convnet"])
def test_any_is_a_teacher_without_a_flag(tmp_path, architecture):
    network = saved(tmp_path, architecture)
    teacher = load_teacher(tmp_path / MODEL_FILE, image_class_names=NAMES)
    assert (teacher.spec.architecture, teacher.spec.mean, teacher.spec.class_names) == (
        architecture, (0.1, 0.2, 0.3), NAMES
    )  # fmt: skip
    for name, weight in network.state_dict().items():
        assert torch.equal(teacher.model.state_dict()[name], weight)
    about = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert about["architecture"] == architecture


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        saved(tmp_path / "file" / "model", "convnet")
