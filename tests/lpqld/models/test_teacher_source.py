from dataclasses import replace

import pytest

from lpqld.errors import ConfigError
from lpqld.models.architectures import build
from lpqld.models.teacher import load_teacher, save_teacher
from lpqld.models.teacher_source import TeacherSource
from lpqld.models.teacher_spec import TeacherSpec

NAMES = ("ant", "bee", "cat")


def test_what_is_said_takes_the_place_of_what_the_file_says(tmp_path):
    path = tmp_path / "teacher.safetensors"
    save_teacher(path, build("convnet", 3), TeacherSpec("convnet", 3, 8, class_names=NAMES))
    source = TeacherSource(path)
    assert source.load(NAMES).fingerprint == load_teacher(path, image_class_names=NAMES).fingerprint
    (tmp_path / "names.txt").write_text("\n".join(reversed(NAMES)))
    said = replace(
        source,
        architecture="convnet",
        classes=str(tmp_path / "names.txt"),
        input_size=16,
        mean=(0.1, 0.2, 0.3),
        std=(1.0, 1.0, 0.5),
        interpolation="bicubic",
    )
    teacher = said.load(NAMES)
    assert teacher.spec == TeacherSpec("convnet", 3, 16, said.mean, said.std, "bicubic", tuple(reversed(NAMES)))
    assert teacher.selection == (2, 1, 0)
    assert said.said.keys() == vars(said).keys()
    assert source.said == {"source": path}


def test_a_pattern_of_nothing(tmp_path):
    with pytest.raises(ConfigError, match="no teacher matches"):
        TeacherSource(str(tmp_path / "*.safetensors")).load(NAMES)
