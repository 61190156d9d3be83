"""Several teachers as one."""

from dataclasses import replace

import pytest
import torch

from lpqld.errors import ConfigError, DataError
from lpqld.models.architectures import build
from lpqld.models.ensemble import ensemble, load_teachers, teacher_files
from lpqld.models.teacher import Teacher, save_teacher
from lpqld.models.teacher_spec import TeacherSpec

NAMES = ("cat", "dog", "owl")
SPEC = TeacherSpec("convnet", 3, 8, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.3), class_names=NAMES)


def model(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build("convnet", 3)


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        save_teacher(tmp_path / f"expert-seed{seed}.safetensors", model(seed), SPEC)
    return tmp_path


def test_logits_are_the_mean_also_of_some_classes_in_another_order(folder):
    views = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = ("owl", "cat")
    found = load_teachers(folder / "expert-*.safetensors", image_class_names=wanted)
    members = [Teacher(model(seed), SPEC) for seed in range(3)]
    with torch.no_grad():
        mean = sum(member(views).double() for member in members) / 3
        torch.testing.assert_close(found(views).double(), mean[:, [2, 0]], atol=1e-6, rtol=1e-5)
    assert found.spec.architecture == "3 x convnet"
    assert (found.num_classes, found.spec.mean) == (2, SPEC.mean)


def test_one_is_itself_and_members_count(folder):
    one = load_teachers(folder / "expert-seed0.safetensors", image_class_names=NAMES)
    two = load_teachers(folder / "expert-seed[01].safetensors", image_class_names=NAMES)
    assert one.spec.architecture == "convnet"
    assert len({one.fingerprint, two.fingerprint}) == 2
    listed = f"{folder}/expert-seed0.safetensors,{folder}/expert-seed1.safetensors"
    assert load_teachers(listed, image_class_names=NAMES).fingerprint == two.fingerprint


def test_files_once_each_and_names_with_signs_as_they_are(folder):
    odd = folder / "a,[b].safetensors"
    odd.write_bytes(b"")
    assert teacher_files(odd) == [odd]
    first = folder / "expert-seed0.safetensors"
    assert teacher_files(f"{first},{folder}/expert-*") == [
        folder / f"expert-seed{seed}.safetensors" for seed in range(3)
    ]
    assert teacher_files("nothing.pth") == teacher_files("nothing.pth,nothing.pth")
    with pytest.raises(ConfigError, match=r"no teacher matches nothing-\*"):
        teacher_files("nothing-*")


def test_teachers_that_see_other_views_are_refused():
    other = Teacher(model(1), replace(SPEC, mean=(0.5, 0.5, 0.5)))
    with pytest.raises(DataError, match=r"mean is \(0.4, 0.5, 0.6\) of one and \(0.5, 0.5, 0.5\) of another"):
        ensemble([Teacher(model(0), SPEC), other])
