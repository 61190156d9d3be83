"""Images of other projects: class names, class order, soft labels, saved data sets."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lpqld.errors import ConfigError, DataError
from lpqld.images.encoding import Encoding, encode_all
from lpqld.images.image_set import ImageSet
from lpqld.interop.class_order import ClassOrder, class_order
from lpqld.interop.images import check_class_order, named, soft_labels
from lpqld.labels.label_set import LabelSet
from lpqld.models.fit import fit_teacher
from lpqld.models.fit_recipe import FitRecipe
from lpqld.models.teacher import Teacher
from lpqld.training.dataset import ViewDataset


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return ImageSet.open("digits:train").sample_per_class(3, 0)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(*fit_teacher(ImageSet.open("digits:train"), FitRecipe("convnet", 10), seed=0))


def renamed(images: ImageSet, names: tuple[str, ...]) -> ImageSet:
    return ImageSet(**{**vars_of(images), "class_names": names})


def vars_of(images: ImageSet) -> dict[str, object]:
    return {name: getattr(images, name) for name in images.__dataclass_fields__}


class TestNames:
    WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    @pytest.mark.parametrize("pattern", ["{}", "new{:03d}", "class_{}"])
    def test_numbers_are_named_in_order(self, digits, pattern):
        found = named(renamed(digits, tuple(pattern.format(n) for n in range(10))), self.WORDS)
        assert found.class_names == self.WORDS
        assert torch.equal(found.pixels, digits.pixels)

    def test_names_are_brought_to_the_order_of_the_list(self, digits):
        # As folders sort them: eight, five, four ...
        order = sorted(range(10), key=lambda label: self.WORDS[label])
        place = {label: index for index, label in enumerate(order)}
        labels = torch.tensor([place[int(label)] for label in digits.labels])
        rows = torch.argsort(labels, stable=True)
        mixed = digits.take(rows.numpy())
        mixed = ImageSet(**{**vars_of(mixed), "labels": labels[rows], "class_names": tuple(sorted(self.WORDS)),
                            "ids": np.arange(30)})  # fmt: skip
        found = named(mixed, self.WORDS)
        assert found.class_names == self.WORDS
        assert torch.equal(found.pixels, digits.pixels)
        assert torch.equal(found.labels, digits.labels)

    def test_others_are_refused(self, digits):
        images = renamed(digits, self.WORDS)
        with pytest.raises(DataError, match="not among them: ten"):
            named(images, (*self.WORDS[:9], "ten"))
        with pytest.raises(DataError, match="10 classes, and 3 class names are given"):
            named(images, self.WORDS[:3])


class TestOrder:
    def test_the_right_one(self, digits, teacher):
        found = class_order(teacher, digits)
        assert found.best.tolist() == list(range(10))
        assert check_class_order(digits, teacher) == found.accuracy > 0.8

    @pytest.mark.parametrize("shift", [1, 3])
    def test_another_is_refused_with_what_the_teacher_sees(self, digits, teacher, shift):
        labels = (digits.labels + shift) % 10
        moved = ImageSet(**{**vars_of(digits), "labels": labels})
        message = rf"10 of 10 classes are in another order than the teacher's.*: '0' it calls '{10 - shift}'.* Pass"
        with pytest.raises(DataError, match=message):
            check_class_order(moved, teacher)

    def test_two_that_are_exchanged_are_enough_and_a_confusion_is_not(self):
        shares = np.full(5, 0.8)
        assert ClassOrder(0.6, np.array([0, 2, 1, 3, 4]), shares).exchanged == [1, 2]
        assert ClassOrder(0.6, np.array([0, 2, 2, 3, 3]), shares).exchanged == []
        assert ClassOrder(0.6, np.array([1, 2, 0, 4, 3]), np.array([0.8, 0.8, 0.8, 0.8, 0.4])).exchanged == [0, 1, 2]

    def test_images_that_it_does_not_know_are_no_order(self, digits, teacher):
        noise = torch.randint(
            0, 256, digits.pixels.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )
        assert check_class_order(ImageSet(**{**vars_of(digits), "pixels": noise}), teacher) < 0.4


class TestSoftLabels:
    def test_each_image_has_its_own_whole(self, digits, tmp_path):
        logits = np.random.default_rng(0).normal(size=(30, 10)).astype(np.float16).astype(np.float32)
        soft_labels(digits, logits).write(tmp_path / "labels")
        data = ViewDataset(digits, LabelSet.open(tmp_path / "labels"))
        batch = data[np.arange(30)]
        rows = [int((digits.pixels == view).flatten(1).all(1).nonzero()[0])
                for view in (batch.views * 255).round().to(torch.uint8)]  # fmt: skip
        assert sorted(rows) == list(range(30))
        assert np.array_equal(batch.values.numpy(), logits[rows])

    def test_probabilities_become_logits(self, digits):
        p = np.random.default_rng(0).dirichlet(np.ones(10), size=30).astype(np.float32)
        found = soft_labels(digits, p).decode()
        order = found.views_of(digits).order
        again = torch.from_numpy(found.logits.values).softmax(1).numpy()
        np.testing.assert_allclose(again, p[order], atol=2e-3)


class TestSavedDataSet:
    """What `datasets.Dataset.save_to_disk` writes: Arrow streams, and a state that names them."""

    def write(self, images: ImageSet, folder: Path) -> None:
        folder.mkdir(parents=True)
        contents = list(encode_all(images.pixels.numpy(), Encoding()))
        features = {"image": {"_type": "Image"}, "label": {"names": list(images.class_names), "_type": "ClassLabel"}}
        schema = pa.schema(
            [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
            metadata={"huggingface": json.dumps({"info": {"features": features}})},
        )
        halves = np.array_split(np.arange(images.num_images), 2)
        names = [f"data-{index:05d}-of-00002.arrow" for index in range(2)]
        for name, rows in zip(names, halves, strict=True):
            table = pa.table(
                {
                    "image": [{"bytes": contents[row], "path": None} for row in rows],
                    "label": [int(images.labels[row]) for row in rows],
                },
                schema=schema,
            )
            with pa.ipc.new_stream(folder / name, schema) as writer:
                writer.write_table(table)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))

    def test_is_read(self, digits, tmp_path):
        self.write(digits, tmp_path / "saved")
        found = ImageSet.open(tmp_path / "saved")
        assert torch.equal(found.pixels, digits.pixels)
        assert (found.class_names, found.labels.tolist()) == (digits.class_names, digits.labels.tolist())

    def test_one_of_its_splits_has_to_be_named(self, digits, tmp_path):
        self.write(digits, tmp_path / "saved" / "train")
        (tmp_path / "saved" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
        with pytest.raises(ConfigError, match=r"holds splits \(train, test\), no images: name the folder of one"):
            ImageSet.open(tmp_path / "saved")
        assert ImageSet.open(tmp_path / "saved" / "train").num_images == 30

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ("{", "not what save_to_disk writes"),
            ('{"_data_files": [{"filename": "../secret.arrow"}]}', "names a file outside its folder"),
            ('{"_data_files": [{"filename": "gone.arrow"}]}', "gone.arrow: cannot be read as an Arrow stream"),
        ],
    )
    def test_damaged(self, digits, tmp_path, state, message):
        self.write(digits, tmp_path / "saved")
        (tmp_path / "saved" / "state.json").write_text(state)
        with pytest.raises(DataError, match=message):
            ImageSet.open(tmp_path / "saved")
