"""Images and labels of other projects, written as sets of ours in one call each."""

import json

import numpy as np
import pytest
from PIL import Image

from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.interop.fkd_folder import BATCH_INDICES
from lpqld.interop.imported_images import Naming, import_arrays, import_images
from lpqld.interop.imported_labels import import_labels
from lpqld.labels.label_set import LabelSet
from tests.fkd_batches import BATCH, batch, saved

NAMES = tuple(f"kind {label}" for label in range(10))


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return ImageSet.open("digits:train").sample_per_class(2, 0)


def test_folders_are_named(digits, tmp_path):
    for row, label in enumerate(digits.labels.tolist()):
        path = tmp_path / "folder" / f"new{label:03d}" / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.pixels[row].permute(1, 2, 0).numpy()).save(path)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    naming = Naming(str(tmp_path / "names.txt"))
    imported = import_images(str(tmp_path / "folder"), str(tmp_path / "out"), naming=naming)
    assert imported.images.class_names == NAMES
    assert imported.teacher_accuracy is None
    assert np.array_equal(ImageSet.open(tmp_path / "out").pixels.numpy(), digits.pixels.numpy())


def test_arrays_with_soft_labels(digits, tmp_path):
    soft = np.eye(10, dtype=np.float32)[digits.labels.numpy()] * 0.9 + 0.01
    np.savez(tmp_path / "soft.npz", x=digits.pixels.numpy(), y=soft)
    np.savez(tmp_path / "hard.npz", x=digits.pixels.numpy(), y=digits.labels.numpy())
    out, labels = str(tmp_path / "out"), str(tmp_path / "labels")
    imported = import_arrays(str(tmp_path / "soft.npz"), out, soft_labels=labels)
    assert imported.arrays is not None
    assert np.array_equal(imported.images.pixels.numpy(), digits.pixels.numpy())
    decoded = LabelSet.open(labels).labels.logits.values
    assert np.allclose(np.exp(decoded.max(1)), 0.91, atol=1e-3)
    with pytest.raises(ConfigError, match=r"`soft_labels=there`: the labels of .* are classes"):
        import_arrays(str(tmp_path / "hard.npz"), str(tmp_path / "not"), soft_labels="there")
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize("num_classes", [10, 30])
def test_labels_little_better_than_a_guess_are_doubted(digits, tmp_path, num_classes):
    # One image of each class, and labels drawn at random.
    names = [f"{label:02d}" for label in range(num_classes)]
    for name in names:
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.fromarray(digits.pixels[0].permute(1, 2, 0).numpy()).save(tmp_path / "images" / name / "0.png")
    generator, folder = np.random.default_rng(0), tmp_path / "fkd"
    folder.mkdir()
    rows = np.resize(generator.permutation(num_classes), (-(-num_classes // BATCH), BATCH))
    for number in range(len(rows)):
        (folder / f"batch_{number}.tar").write_bytes(saved(batch(num_classes=num_classes)))
    (folder / BATCH_INDICES).write_text(json.dumps({str(number): row.tolist() for number, row in enumerate(rows)}))
    imported = import_labels(str(folder), str(tmp_path / "images"), str(tmp_path / "out"))
    assert (imported.doubt is not None) == (num_classes > 20)
    if imported.doubt is not None:
        assert "little more than a guess" in imported.doubt
        assert "Expected 00, 01, 02" in imported.doubt
