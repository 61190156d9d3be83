"""Small real image sets, a teacher that was really trained, and label sets in real folders."""

from pathlib import Path

import pytest

from lpqld.codecs.topk import TopK
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode
from lpqld.labels.label_set import Labels
from lpqld.models.fit import fit_teacher
from lpqld.models.fit_recipe import FitRecipe
from lpqld.models.teacher import Teacher
from tests.checks import made_up_labels


@pytest.fixture(autouse=True)
def many_shards(monkeypatch):
    """Small sets of several shards: none are merged."""
    monkeypatch.setattr("lpqld.labels.compress._SHARD_LOGITS", 0)


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return ImageSet.open("digits:train")


@pytest.fixture(scope="session")
def images(digits) -> ImageSet:
    """Three images of each digit."""
    return digits.sample_per_class(3, 0)


@pytest.fixture(scope="session")
def labels(images) -> Labels:
    """Dense labels: four views of 30 images, three shards of 50, 50 and 20."""
    return made_up_labels(images)


@pytest.fixture
def folder(labels, tmp_path) -> Path:
    """A written label set: top 3 in steps, three shards."""
    encode(labels, TopK(3, 0.25)).write(tmp_path / "labels")
    return tmp_path / "labels"


@pytest.fixture(scope="session")
def teacher(digits) -> Teacher:
    """A convnet that knows the digits."""
    return Teacher(*fit_teacher(digits, FitRecipe("convnet", 8), seed=0))
