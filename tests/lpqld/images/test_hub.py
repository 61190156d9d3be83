"""Images of the Hub by name; a local folder stands for the Hub, which the `datasets` library reads alike."""

import numpy as np
import pytest
from PIL import Image

from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.images.sources import count_source

datasets = pytest.importorskip("datasets")


def picture(value: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8))


def write(folder, name="label", extra=None):
    """Four images of two classes, the second one first, as a Parquet data set with a train split."""
    features = {"img": datasets.Image(), name: datasets.ClassLabel(names=["cat", "dog"]), **(extra or {})}
    rows = {"img": [picture(10 * row) for row in range(4)], name: [1, 0, 1, 0]}
    rows |= {column: [0] * 4 for column in extra or {}}
    folder.mkdir()
    datasets.Dataset.from_dict(rows, datasets.Features(features)).to_parquet(folder / "train-0.parquet")
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def test_images_are_read_with_their_classes_in_order_whatever_the_columns_are_called(tmp_path):
    images = ImageSet.open(f"hub:{write(tmp_path / 'set', 'fine_label')}:train")
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 1, 1]
    assert images.pixels[:, 0, 0, 0].tolist() == [10, 30, 0, 20]
    assert count_source(f"hub:{tmp_path / 'set'}:train") == (2, 4)


def test_of_several_columns_of_classes_label_is_taken(tmp_path):
    extra = {"label": datasets.ClassLabel(names=["thing"])}
    images = ImageSet.open(f"hub:{write(tmp_path / 'set', 'coarse', extra)}:train")
    assert images.class_names == ("thing",)


def test_several_columns_of_classes_without_label_are_refused(tmp_path):
    extra = {"coarse": datasets.ClassLabel(names=["thing"])}
    folder = write(tmp_path / "set", "fine", extra)
    with pytest.raises(DataError, match="expected a column label of classes, found fine, coarse"):
        ImageSet.open(f"hub:{folder}:train")


def test_no_image_column(tmp_path):
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict({"label": [0]}).to_parquet(tmp_path / "set" / "train-0.parquet")
    with pytest.raises(DataError, match="expected one column of images, found none"):
        ImageSet.open(f"hub:{tmp_path / 'set'}:train")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("hub:cifar10", "expected hub:OWNER/NAME:SPLIT"),
        ("hub:nobody/nothing:train", "the datasets library cannot load it"),
    ],
)
def test_a_name_that_is_none(path, message):
    with pytest.raises(ConfigError, match=message):
        ImageSet.open(path)


def test_a_split_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot load it"):
        ImageSet.open(f"hub:{write(tmp_path / 'set')}:test")
