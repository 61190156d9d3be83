"""Sources of labels that hold no label set, and one that computes labels from the views: a teacher at work."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lpqld.codecs.topk import TopK
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode, recode
from lpqld.labels.label_set import LabelSet
from lpqld.labels.source import DeviceLogits, HardLabels, LabelSource, RepeatedLabels
from lpqld.models.teacher import Teacher
from lpqld.training.dataset import ViewDataset
from lpqld.views.drawn import DrawnViews
from lpqld.views.registry import drawn_by
from lpqld.views.source import Views
from tests.checks import RULE

NO_VIEWS = torch.zeros(4, 3, 8, 8)


def at(source: LabelSource, positions: list[int]) -> DeviceLogits:
    views, classes = torch.zeros(len(positions), 3, 8, 8), torch.arange(len(positions))
    return source.labels_at(np.array(positions), views, classes)


def test_every_form_of_a_set_says_the_same(labels, images, tmp_path):
    encode(labels, TopK(3, 0.25)).write(tmp_path / "labels")
    opened = LabelSet.open(tmp_path / "labels")
    forms = [opened, opened.labels, recode(labels, TopK(3, 0.25)), recode(labels, TopK(3, 0.25)).prepared()]
    for form in forms:
        assert form.num_labels == 120
        params = form.views_of(images).draw(np.arange(9))
        assert np.array_equal(params.crop, DrawnViews(images, RULE, 0).draw(np.arange(9)).crop)
        found, expected = at(form, [5, 119, 5]), at(opened.labels, [5, 119, 5])
        assert torch.equal(found.ids, expected.ids)
        assert torch.equal(found.values, expected.values)


def test_hard_labels_are_the_classes_of_the_images(images):
    source = HardLabels(90, RULE, 3)
    assert (source.num_labels, source.prepared()) == (90, source)
    assert isinstance(source.views_of(images), DrawnViews)
    found = source.labels_at(np.arange(4), NO_VIEWS, torch.tensor([3, 1, 4, 1]))
    assert found.ids.tolist() == [[3], [1], [4], [1]]
    assert found.values.tolist() == [[0.0]] * 4
    assert found.absent is None


def test_repeated_labels_begin_again(labels, images):
    source = RepeatedLabels(labels, 3)
    assert source.num_labels == 360
    again, first = at(source, [125, 359]), at(labels, [5, 119])
    assert torch.equal(again.values, first.values)
    assert torch.equal(again.ids, first.ids)


@dataclass(frozen=True)
class LiveTeacher:
    """Labels that a teacher gives while a student trains."""

    teacher: Teacher
    num_labels: int

    def views_of(self, images: ImageSet) -> Views:
        return drawn_by(RULE, 0).of(images)

    def prepared(self) -> "LiveTeacher":
        return self

    @torch.inference_mode()
    def labels_at(self, positions: NDArray[np.int64], views: torch.Tensor, image_labels: torch.Tensor) -> DeviceLogits:
        largest = self.teacher(views).float().topk(3)
        return DeviceLogits(largest.indices, largest.values)


@pytest.mark.parametrize("positions", [np.arange(60), np.array([59, 3, 3])])
def test_a_teacher_at_work_can_be_one(teacher, images, positions):
    data = ViewDataset(images, LiveTeacher(teacher, 60))
    batch = data[positions]
    assert torch.equal(batch.ids, teacher(batch.views).topk(3).indices)
    assert len(data) == 60
    assert data.hard_labelled(2).num_labels == 2 * images.num_images
