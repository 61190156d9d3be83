"""Distilled images in files of arrays: found by shape, brought back to pixels, nothing run."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lpqld.errors import ConfigError, DataError
from lpqld.interop.array_images import read_tensors

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CLASSES, EACH, SIDE = 10, 2, 6


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Twenty pictures, two of a class, in no order of classes."""
    return np.random.default_rng(0).integers(0, 256, size=(CLASSES * EACH, 3, SIDE, SIDE), dtype=np.uint8)


LABELS = np.random.default_rng(1).permutation(np.repeat(np.arange(CLASSES), EACH))
SORTED = np.argsort(LABELS, kind="stable")


def normalised(pixels: np.ndarray, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> torch.Tensor:
    shape = (1, 3, 1, 1)
    values = (pixels / 255 - np.array(mean).reshape(shape)) / np.array(std).reshape(shape)
    return torch.from_numpy(values.astype(np.float32))


def layouts(pixels: np.ndarray, folder: Path) -> dict[str, Path]:
    """One file or folder for each way in which projects keep them."""
    images, labels = normalised(pixels), torch.from_numpy(LABELS)
    soft = torch.nn.functional.one_hot(labels, CLASSES).float() * 5 - 1
    torch.save(
        {"data": [[images, labels], [images, labels]], "accs_all_exps": {"MLP": [np.float64(0.2)]}}, folder / "dc.pt"
    )
    torch.save((images, labels), folder / "pair.pt")
    torch.save({"images": images, "labels": soft, "syn_lr": torch.tensor(0.01)}, folder / "soft.pt")
    for name in ("mtt", "numpy"):
        (folder / name).mkdir()
    torch.save(images, folder / "mtt" / "images_best.pt")
    torch.save(labels, folder / "mtt" / "labels_best.pt")
    np.save(folder / "numpy" / "images.npy", images.numpy().transpose(0, 2, 3, 1))
    np.save(folder / "numpy" / "labels.npy", LABELS)
    np.savez(folder / "both.npz", x=images.numpy(), y=soft.numpy())
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["dc.pt", "pair.pt", "soft.pt", "mtt", "numpy", "both.npz"])
def test_every_layout_gives_the_pixels_in_class_order(pixels, tmp_path, name):
    found = read_tensors(layouts(pixels, tmp_path)[name])
    assert np.array_equal(found.pixels, pixels[SORTED])
    assert found.labels.tolist() == LABELS[SORTED].tolist()
    assert (found.num_classes, found.clipped) == (CLASSES, 0)
    assert "CIFAR-10's mean" in found.normalisation
    assert (found.soft is not None) == (name in ("soft.pt", "both.npz"))
    if found.soft is not None:
        assert found.soft.argmax(1).tolist() == found.labels.tolist()


def test_hdf5(pixels, tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed; it is optional")
    with h5py.File(tmp_path / "syn.h5", "w") as file:
        file["data"], file["label"] = normalised(pixels).numpy(), LABELS
    assert np.array_equal(read_tensors(tmp_path / "syn.h5").pixels, pixels[SORTED])


class TestNormalisation:
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda pixels: pixels, "none: 8 bits"),
            (lambda pixels: (pixels / 255).astype(np.float32), "none: values from 0 to 1"),
            (lambda pixels: pixels.astype(np.float32), "none: values from 0 to 255"),
        ],
    )
    def test_is_not_undone_where_there_is_none(self, pixels, tmp_path, change, said):
        np.savez(tmp_path / "x.npz", images=change(pixels), labels=LABELS)
        found = read_tensors(tmp_path / "x.npz")
        assert found.normalisation == said
        assert np.array_equal(found.pixels, pixels[SORTED])

    def test_is_what_is_given(self, pixels, tmp_path):
        torch.save((normalised(pixels, (0.5,) * 3, (0.5,) * 3), torch.from_numpy(LABELS)), tmp_path / "x.pt")
        found = read_tensors(tmp_path / "x.pt", mean=(0.5,) * 3, std=(0.5,) * 3)
        assert np.array_equal(found.pixels, pixels[SORTED])
        assert found.normalisation == "mean 0.5,0.5,0.5, std 0.5,0.5,0.5, as given"

    def test_has_to_be_given_where_it_cannot_be_told(self, tmp_path):
        np.savez(tmp_path / "x.npz", images=np.full((7, 3, 4, 4), -1.5, np.float32), labels=np.arange(7))
        with pytest.raises(ConfigError, match="cannot be told from 7 classes: pass `mean` and `std`"):
            read_tensors(tmp_path / "x.npz")

    def test_what_no_pixel_can_be_is_counted(self, pixels, tmp_path):
        images = normalised(pixels)
        images[:, 0] = 9
        torch.save((images, torch.from_numpy(LABELS)), tmp_path / "x.pt")
        found = read_tensors(tmp_path / "x.pt")
        assert found.clipped == pytest.approx(1 / 3)
        assert (found.pixels[:, 0] == 255).all()


class TestWrong:
    @pytest.mark.parametrize(
        ("content", "error", "message"),
        [
            ({"images": np.zeros((4, 3, 8, 8))}, DataError, "no array of labels"),
            ({"labels": np.arange(4)}, DataError, "no array of images"),
            (
                {"a": np.zeros((4, 3, 8, 8)), "b": np.zeros((4, 3, 8, 8)), "y": np.arange(4)},
                ConfigError,
                "say --images-key",
            ),
            ({"x": np.zeros((4, 3, 8, 8)), "y": np.array([0, 1, 3, 3])}, DataError, "class 2 has no image"),
            ({"x": np.zeros((4, 3, 8, 8)), "y": np.array([0, 1, -1, 2])}, DataError, "classes from 0, found -1"),
            ({"x": np.full((4, 3, 8, 8), np.nan), "y": np.arange(4)}, DataError, "NaN or infinite"),
            ({"x": np.array([{"a": 1}], dtype=object)}, DataError, "damaged, or it holds objects"),
        ],
    )
    def test_it_is_said(self, tmp_path, content, error, message):
        np.savez(tmp_path / "x.npz", **content)
        with pytest.raises(error, match=message):
            read_tensors(tmp_path / "x.npz")

    def test_keys_choose(self, pixels, tmp_path):
        np.savez(tmp_path / "x.npz", a=np.zeros_like(pixels), b=pixels, y=LABELS)
        assert np.array_equal(read_tensors(tmp_path / "x.npz", images="b").pixels, pixels[SORTED])
        with pytest.raises(ConfigError, match="c is no array of images; there are a "):
            read_tensors(tmp_path / "x.npz", images="c")

    def test_code_is_not_run(self, tmp_path):
        class Harm:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.system, (f"touch {tmp_path / 'harm'}",)

        torch.save({"images": Harm()}, tmp_path / "x.pt")
        with pytest.raises(DataError, match=r"x\.pt: refused: .*harmful"):
            read_tensors(tmp_path / "x.pt")
        assert not (tmp_path / "harm").exists()

    @pytest.mark.parametrize("name", ["x.pt", "x.npz", "x.npy"])
    def test_a_damaged_file(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"\x93NUMPY" if name == "x.npy" else b"PK\x03\x04 and no more")
        with pytest.raises(DataError, match=f"{name}: damaged"):
            read_tensors(tmp_path / name)

    def test_no_file(self, tmp_path):
        with pytest.raises(ConfigError, match="no such file"):
            read_tensors(tmp_path / "x.pt")
        with pytest.raises(ConfigError, match=r"ending in \.pt"):
            read_tensors(tmp_path)


@pytest.mark.parametrize(("name", "count", "clipped"), [("1ipc_1000", 10, 0.036), ("10ipc", 100, 0.108)])
def test_published_sets(shared_data, name, count, clipped):
    found = read_tensors(shared_data / "distilled" / f"res_DC_CIFAR10_ConvNet_{name}.pt")
    assert found.pixels.shape == (count, 3, 32, 32)
    assert np.bincount(found.labels).tolist() == [count // 10] * 10
    assert found.clipped == pytest.approx(clipped, abs=5e-4)
