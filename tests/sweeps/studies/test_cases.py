"""What each study varies, and the labels of its cases."""

from dataclasses import replace

import numpy as np
import pytest

from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from sweeps.config.load import load_study_config
from sweeps.config.study import StudyConfig
from sweeps.jobs.expert_files import trajectory
from sweeps.studies.case import Case
from sweeps.studies.catalogue.hard import Argmax, Smoothed
from sweeps.studies.catalogue.swap import Swapped, SwappedTop, swapped
from sweeps.studies.catalogue.temperature import Softened
from sweeps.studies.catalogue.zero_shot import WithoutImages, WithoutMass, WithoutMassRenormalised
from sweeps.studies.edits import Hard, Soft
from sweeps.studies.grid import KeptClasses
from sweeps.studies.registry import STUDY_NAMES, study_named
from sweeps.studies.study import StudyInputs, steps

EPOCHS = (1, 4, 30)


def config(**settings: object) -> StudyConfig:
    return StudyConfig.model_validate({"images": "digits:train", "eval": {"source": "digits:test"}, **settings})


def cases(name: str, num_experts: int = 4, **settings: object) -> list[Case]:
    return study_named(name).cases(StudyInputs(config(**settings), EPOCHS, num_experts, num_classes=10))


def test_steps_go_to_the_end():
    assert steps(10) == [1, 2, 5, 10]
    assert steps(9) == [1, 2, 5, 9]
    assert steps(1) == [1]
    assert steps(200) == [1, 2, 5, 10, 20, 50, 100, 200]


def test_every_study_has_cases_of_every_number_of_images_each_once():
    for name in STUDY_NAMES:
        found = cases(name, ipc=[1, 50])
        assert {case.ipc for case in found} == {1, 50}
        assert len(set(found)) == len(found)
        assert len({case.case_id for case in found}) == len(found)
        assert len({str(case) for case in found}) == len(found)


def test_what_they_vary():
    assert [case.epoch for case in cases("expert-epoch", ipc=[1])] == [1, 4, 30]
    assert [case.members for case in cases("ensemble", ipc=[1])] == [1, 2, 4], "8 are not there"
    assert {case.epoch for case in cases("ensemble", epoch=4)} == {4}
    temperatures = cases("temperature", ipc=[1], temperatures=[1, 4])
    assert temperatures[:2] == [Case(1, 1), Case(1, 1, edit=Softened(4.0))]
    assert [case.edit.value for case in cases("swap", ipc=[1])] == [None, 1, 2, 5, 9, 1, 2, 5]
    ranked = cases("swap", ipc=[1], ranks=[3, 9])
    assert [case.edit for case in ranked[1:]] == [Swapped(3), Swapped(9), SwappedTop(3)]
    assert [str(case) for case in cases("zero-shot", ipc=[1])][:2] == [
        "ipc 1, epoch 30, removed 0, edit control",
        "ipc 1, epoch 30, edit without-images, removed 0",
    ]
    assert [case.edit for case in cases("scaling", ipc=[1], k=[0, 3, 10])] == [Hard(), KeptClasses(3), Soft()]
    assert [case.epoch for case in cases("hard", ipc=[1], smoothing=[0.2])] == [30, 30, None, None]


@pytest.mark.parametrize(
    ("name", "experts", "settings", "message"),
    [
        ("ensemble", 1, {}, "an ensemble of 2 needs as many experts, and there are 1: raise experts.seeds"),
        ("ensemble", 4, {"members": [1, 8]}, "an ensemble of 8 needs as many experts, and there are 4"),
        ("ensemble", 1, {"experts": {"source": "a.pth"}}, "name more with experts.source"),
        ("swap", 4, {"ranks": [2, 10]}, "ranks: 10 of 10 classes cannot be exchanged with the last"),
        ("scaling", 4, {"k": [0, 11]}, "k 11: there are 10 classes"),
        ("zero-shot", 4, {"student": {"temperature": "4"}}, "student.temperature 4: zero-shot removes"),
        ("zero-shot", 4, {"student": {"temperature": "1:4:step"}}, "student.temperature 1:4:step: zero-shot removes"),
        ("swap", 4, {"epoch": 5}, "no expert was kept then; there are 1, 4, 30"),
        ("zero-shot", 4, {"removed": [10]}, "class 10, and there are 10 from 0"),
    ],
)
def test_what_is_not_there(name, experts, settings, message):
    with pytest.raises(ConfigError, match=message):
        cases(name, experts, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": "digits:train", "eval.source": "digits:test", "epohs": 3}, "unknown key epohs; did you mean epoch"),
        ({"images": "digits:train", "eval.source": "x", "experts.sed": 1}, "did you mean seed"),
        ({"eval.source": "digits:test"}, "images"),
        ({"images": "digits:train", "eval.source": "x", "ipc": [0]}, "ipc"),
        *(
            ({"images": "digits:train", "eval.source": "x", name: []}, name)
            for name in ("ipc", "temperatures", "members", "ranks", "k", "removed")
        ),
        ({"images": "digits:train", "eval.source": "x", "seed": -1}, "seed"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_study_config(None, settings)


def test_settings_of_the_student_leave_the_others_as_they_are():
    found = load_study_config(None, {"images": "x", "eval.source": "x", "student.lr": 0.01}).student
    assert found == replace(config().student, lr=0.01)
    assert (found.temperature, found.ca) == ("1", "off")
    warmer = load_study_config(None, {"images": "x", "eval.source": "x", "student.temperature": 4}).student
    assert (warmer.temperature, warmer.ca, warmer.epochs) == ("4", "off", 300)


def test_what_is_missing_is_said_with_where_to_put_it():
    with pytest.raises(ConfigError, match=r"^study: images is required: .*--set images=VALUE.*; eval is required: "):
        load_study_config(None, {})


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return ImageSet.open("digits:train", sample=(2, 0))


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(scale=3, size=(20, 10)).astype(np.float32)


class TestLabels:
    def probabilities(self, case: Case, images: ImageSet, logits: np.ndarray) -> np.ndarray:
        decoded = case.labels(images, logits).encoded.decode()
        order = decoded.views_of(images).order
        found = np.empty((decoded.spec.num_views, 10))
        values = decoded.logits.dense(10)
        found[order] = np.exp(values - values.max(axis=1, keepdims=True))
        return found / found.sum(axis=1, keepdims=True)

    def softmax(self, logits: np.ndarray) -> np.ndarray:
        found = np.exp(logits.astype(np.float64))
        return found / found.sum(axis=1, keepdims=True)

    def test_they_are_what_the_case_says(self, images, logits):
        hard = np.eye(10)[images.labels.numpy()]
        largest = np.eye(10)[logits.argmax(axis=1)]
        top = np.where(logits >= np.sort(logits, axis=1)[:, -3:-2], self.softmax(logits), 0)
        expected = {
            Case(2, 1): self.softmax(logits),
            Case(2, 1, edit=Softened(4.0)): self.softmax(logits / 4),
            Case(2, 1, edit=Swapped(1)): self.softmax(swapped(logits, 1)),
            Case(2, 1, edit=KeptClasses(3)): top / top.sum(axis=1, keepdims=True),
            Case(2, edit=Hard()): hard,
            Case(2, 1, edit=Argmax()): largest,
            Case(2, edit=Smoothed(0.2)): 0.8 * hard + 0.02,
        }
        for case, wanted in expected.items():
            assert self.probabilities(case, images, logits) == pytest.approx(wanted, abs=3e-3), case

    def test_a_removed_class(self, images, logits):
        gone = Case(2, 1, edit=WithoutImages(3)).labels(images, logits)
        assert gone.images.num_images == 18
        assert 3 not in gone.images.labels
        assert gone.encoded.decode().views_of(images).images.num_images == 18, "they are found among all images"
        share = self.softmax(logits)[:, 3]
        others = images.labels.numpy() != 3
        for edit in (WithoutMass(3), WithoutMassRenormalised(3)):
            case = Case(2, 1, edit=edit)
            weights, probabilities = case.labels(images, logits).weights, self.probabilities(case, images, logits)
            assert probabilities[others, 3].max() < 1e-20
            assert probabilities[~others, 3] == pytest.approx(share[~others], abs=3e-3)
            if edit == WithoutMass(3):
                assert weights == pytest.approx(np.where(others, 1 - share, 1), abs=1e-6)
            else:
                assert weights is None


def test_experts_that_are_not_there_or_differ(tmp_path):
    with pytest.raises(ConfigError, match="no teacher matches"):
        trajectory(str(tmp_path / "*.safetensors"))
    for name in ("one", "one-epoch1", "one-epoch20", "two", "two-epoch1"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    found = trajectory(str(tmp_path / "one.safetensors"))
    assert {epoch: [path.stem for path in paths] for epoch, paths in found.items()} == {
        1: ["one-epoch1"],
        20: ["one-epoch20"],
    }
    assert trajectory([tmp_path / "one.safetensors"]) == found
    with pytest.raises(ConfigError, match=r"one.safetensors has \[1, 20\]; two.safetensors has \[1\]"):
        trajectory(str(tmp_path / "*.safetensors"))
