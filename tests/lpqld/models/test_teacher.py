import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from lpqld.errors import ConfigError, DataError
from lpqld.images.class_names import timm_names
from lpqld.images.image_set import ImageSet
from lpqld.models.architectures import build
from lpqld.models.evaluation import accuracy
from lpqld.models.imagenet import IMAGENET_MEAN
from lpqld.models.teacher import Teacher, choose_device, load_teacher, save_teacher
from lpqld.models.teacher_spec import TeacherSpec

NAMES = ("ant", "bee", "cat")
SPEC = TeacherSpec("convnet", 3, 8, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bicubic", NAMES)


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "teacher.safetensors"
    save_teacher(path, build("convnet", 3), SPEC)
    return path


@pytest.fixture
def state_dict(tmp_path) -> Callable[..., Path]:
    def write(content: object = None, name: str = "teacher.pth", num_classes: int = 3) -> Path:
        torch.save(build("convnet", num_classes).state_dict() if content is None else content, tmp_path / name)
        return tmp_path / name

    return write


class TestSpec:
    def test_json_round_trip(self):
        assert TeacherSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC
        bare = TeacherSpec("convnet", 3)
        assert TeacherSpec.from_json(bare.to_json()) == bare

    @pytest.mark.parametrize(
        "change",
        [{"std": (0.0, 1.0, 1.0)}, {"interpolation": "nearest"}, {"input_size": 0}, {"class_names": ("a",)}],
        ids=str,
    )
    def test_fields_out_of_range(self, change):
        with pytest.raises(ConfigError):
            replace(SPEC, **change)

    @pytest.mark.parametrize("change", [{"mean": [1]}, {"num_classes": "x"}, {"extra": 1}], ids=str)
    def test_json_that_is_no_teacher(self, change):
        with pytest.raises(DataError, match="not the description of a teacher"):
            TeacherSpec.from_json({**SPEC.to_json(), **change})


class TestForward:
    def test_views_are_resized_normalised_and_cut(self):
        model = build("convnet", 3)
        teacher = Teacher(model, SPEC, selection=(2, 0))
        views = torch.rand(4, 3, 12, 12)
        resized = F.interpolate(views, (8, 8), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (SPEC.mean, SPEC.std))
        inputs = ((resized - mean) / std).contiguous(memory_format=torch.channels_last)
        expected = model.eval()(inputs)[:, [2, 0]]
        assert torch.equal(teacher(views), expected)
        assert teacher.num_classes == 2

    def test_a_teacher_stays_in_evaluation_mode(self):
        teacher = Teacher(build("convnet", 3), SPEC).train()
        assert not any(module.training for module in teacher.modules())

    def test_fingerprint_sees_weights_spec_and_selection(self):
        model = build("convnet", 3)
        original = Teacher(model, SPEC).fingerprint
        assert Teacher(model, SPEC).fingerprint == original
        assert Teacher(model, replace(SPEC, input_size=16)).fingerprint != original
        assert Teacher(model, SPEC, (1, 0, 2)).fingerprint != original
        with torch.no_grad():
            next(model.parameters())[0, 0, 0, 0] += 1
        assert Teacher(model, SPEC).fingerprint != original


class TestFiles:
    def test_saved_teacher_loads_equal(self, saved):
        teacher = load_teacher(saved, image_class_names=NAMES)
        assert teacher.spec == SPEC
        assert teacher.selection is None
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        before = saved.read_bytes()
        save_teacher(saved, teacher, teacher.spec)
        assert saved.read_bytes() == before

    def test_arguments_override_metadata(self, saved):
        teacher = load_teacher(
            saved, input_size=16, mean=[0, 0, 0], std=[1, 1, 1], interpolation="bilinear", image_class_names=NAMES
        )
        assert (teacher.spec.input_size, teacher.spec.std, teacher.spec.interpolation) == (16, (1, 1, 1), "bilinear")

    @pytest.mark.parametrize("key", ["state_dict", "model", None])
    def test_wrapped_and_prefixed_state_dicts(self, state_dict, key):
        weights = {f"module.{name}": value for name, value in build("convnet", 3).state_dict().items()}
        path = state_dict({key: weights, "epoch": 3} if key else weights)
        teacher = load_teacher(path, architecture="convnet", image_class_names=NAMES)
        assert teacher.spec == TeacherSpec("convnet", 3, mean=IMAGENET_MEAN)

    def test_timm_configuration_is_the_default(self, state_dict):
        path = state_dict(build("tf_efficientnet_lite0", 3).state_dict())
        spec = load_teacher(path, architecture="tf_efficientnet_lite0", image_class_names=NAMES).spec
        assert (spec.mean, spec.std, spec.interpolation, spec.input_size) == ((0.5,) * 3, (0.5,) * 3, "bicubic", None)

    def test_architecture_must_be_known(self, state_dict):
        with pytest.raises(ConfigError, match="pass `architecture`"):
            load_teacher(state_dict(), image_class_names=NAMES)
        with pytest.raises(ConfigError, match="convnet"):
            load_teacher(state_dict(), architecture="convnot", image_class_names=NAMES)

    def test_what_needs_unpickling_is_refused(self, state_dict):
        path = state_dict(build("convnet", 3))
        with pytest.raises(DataError, match=r"refused: its pickle .*state_dict"):
            load_teacher(path, architecture="convnet", image_class_names=NAMES)

    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    @pytest.mark.parametrize("content", [b"", b"nonsense" * 9, struct.pack("<Q", 2**60)], ids=["empty", "text", "huge"])
    def test_damaged_files(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            load_teacher(tmp_path / name, architecture="convnet", image_class_names=NAMES)

    def test_truncated_torch_file(self, state_dict):
        path = state_dict()
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(DataError, match=r"teacher\.pth"):
            load_teacher(path, architecture="convnet", image_class_names=NAMES)

    def test_damaged_metadata(self, tmp_path):
        for text in ("{", "{}", "3"):
            safetensors.torch.save_file(build("convnet", 3).state_dict(), tmp_path / "a.safetensors", {"lpqld": text})
            with pytest.raises(DataError, match="metadata"):
                load_teacher(tmp_path / "a.safetensors", image_class_names=NAMES)

    def test_files_that_are_not_there_or_not_weights(self, tmp_path, state_dict):
        with pytest.raises(ConfigError, match="no teacher at"):
            load_teacher(tmp_path / "no.pth", image_class_names=NAMES)
        (tmp_path / "a.txt").write_text("x")
        with pytest.raises(ConfigError, match="suffix"):
            load_teacher(tmp_path / "a.txt", image_class_names=NAMES)
        for content, message in (([1], "found list"), ({"a": 1}, "other things: a"), ({}, "found dict")):
            with pytest.raises(DataError, match=message):
                load_teacher(state_dict(content), architecture="convnet", image_class_names=NAMES)

    def test_weights_of_another_network(self, state_dict):
        weights = build("convnet", 3).state_dict()
        first = next(iter(weights))
        for change, message in (
            ({"extra": torch.zeros(1)}, "unexpected extra"),
            ({first: torch.zeros(2, 2)}, r"is \[2, 2\], expected \[64, 3, 3, 3\]"),
        ):
            with pytest.raises(DataError, match=message):
                load_teacher(state_dict({**weights, **change}), architecture="convnet", image_class_names=NAMES)
        missing = state_dict({name: value for name, value in weights.items() if name != first})
        with pytest.raises(DataError, match=f"missing {first}"):
            load_teacher(missing, architecture="convnet", image_class_names=NAMES)
        with pytest.raises(DataError, match="not a resnet18 classifier"):
            load_teacher(state_dict(), architecture="resnet18", image_class_names=NAMES)

    def test_teachers_are_written_as_safetensors(self, tmp_path):
        with pytest.raises(ConfigError, match="safetensors"):
            save_teacher(tmp_path / "a.pth", build("convnet", 3), SPEC)


class TestClassMap:
    def test_outputs_follow_the_images_by_name(self, saved):
        assert load_teacher(saved, image_class_names=("cat", "ant")).selection == (2, 0)
        assert load_teacher(saved, image_class_names=("bee", "ant", "cat")).selection == (1, 0, 2)

    def test_missing_classes_are_named(self, saved):
        with pytest.raises(DataError, match=r"no output for 1 of the 2 .*: dog"):
            load_teacher(saved, image_class_names=("dog", "ant"))

    def test_numbers_stand_for_no_names(self, saved):
        assert load_teacher(saved, image_class_names=("0", "1", "2")).selection is None
        with pytest.raises(DataError, match="pass `classes=FILE`"):
            load_teacher(saved, image_class_names=("0", "1"))

    def test_without_names_the_number_must_agree(self, state_dict):
        assert load_teacher(state_dict(), architecture="convnet", image_class_names=NAMES).selection is None
        with pytest.raises(DataError, match=r"has 3 classes, the images 2.*`classes=FILE`"):
            load_teacher(state_dict(), architecture="convnet", image_class_names=("ant", "bee"))

    @pytest.mark.parametrize(
        ("name", "text"),
        [("c.json", '["x", "bee", "ant"]'), ("c.txt", "x\nbee\nant\n"), ("c.json", '{"a": ["x", "bee", "ant"]}')],
    )
    def test_class_files(self, tmp_path, state_dict, name, text):
        (tmp_path / name).write_text(text)
        teacher = load_teacher(
            state_dict(), architecture="convnet", classes=str(tmp_path / name), image_class_names=("ant", "bee")
        )
        assert teacher.selection == (2, 1)
        assert teacher.spec.class_names == ("x", "bee", "ant")

    def test_wrong_class_files(self, tmp_path, saved):
        (tmp_path / "c.txt").write_text("ant\nbee\n")
        with pytest.raises(DataError, match=r"2 names and the teacher .* 3 outputs"):
            load_teacher(saved, classes=str(tmp_path / "c.txt"), image_class_names=NAMES)
        (tmp_path / "c.txt").write_text("ant\nbee\nant\n")
        with pytest.raises(DataError, match="more than once: ant"):
            load_teacher(saved, classes=str(tmp_path / "c.txt"), image_class_names=NAMES)
        with pytest.raises(ConfigError, match="`classes="):
            load_teacher(saved, classes=str(tmp_path / "absent.txt"), image_class_names=NAMES)

    def test_imagenet_names_are_the_default_for_wordnet_classes(self, state_dict):
        path = state_dict(build("resnet10t", 1000).state_dict())
        wanted = ("n01443537_goldfish", "n01440764")
        teacher = load_teacher(path, architecture="resnet10t", image_class_names=wanted)
        assert teacher.selection == (1, 0)
        assert teacher.spec.class_names == timm_names("imagenet-1k")
        with pytest.raises(DataError, match="n99999999"):
            load_teacher(path, architecture="resnet10t", image_class_names=("n99999999",))


class TestAccuracy:
    def test_batches_cover_every_image_and_the_mode_is_restored(self):
        images = ImageSet.open("digits:val")

        class Oracle(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(1))
                self.seen = 0

            def forward(self, views: torch.Tensor) -> torch.Tensor:
                assert views.max() <= 1
                assert not self.training
                labels = images.labels[self.seen : self.seen + len(views)]
                self.seen += len(views)
                return F.one_hot(labels, 10).float()

        oracle = Oracle().train()
        assert accuracy(oracle, images, batch_size=77) == 1.0
        assert oracle.seen == images.num_images
        assert oracle.training

    def test_classes_must_agree(self):
        with pytest.raises(DataError, match="10 classes and the model 3"):
            accuracy(Teacher(build("convnet", 3), SPEC), ImageSet.open("digits:val"))
        with pytest.raises(DataError, match="found none"):
            accuracy(Teacher(build("convnet", 3), SPEC), ImageSet.open("digits:val").take([]))


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device().type in {"cpu", "cuda", "mps"}
    for name in ("cuda:99", "nonsense", "meta"):
        with pytest.raises(ConfigError, match="no device"):
            choose_device(name)


@pytest.mark.integration
class TestRealTeachers:
    def test_cifar_resnet20(self, shared_data):
        images = ImageSet.open(str(shared_data / "cifar10" / "test.parquet")).sample_per_class(200, seed=0)
        path = next((shared_data / "weights").glob("resnet20-*.th"))
        teacher = load_teacher(path, architecture="cifar_resnet20", image_class_names=images.class_names)
        assert accuracy(teacher, images) == pytest.approx(0.81, abs=0.03)

    def test_efficientnet_cut_to_tiny200(self, shared_data):
        images = ImageSet.open(str(shared_data / "tiny200" / "val.parquet")).sample_per_class(2, seed=0)
        teacher = load_teacher(
            shared_data / "weights" / "tf_efficientnet_lite0_timm.pth",
            architecture="tf_efficientnet_lite0",
            input_size=128,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            image_class_names=images.class_names,
        )
        assert teacher.num_classes == 200
        assert accuracy(teacher, images, batch_size=50) > 0.4
