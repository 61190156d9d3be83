"""The data, teacher and images of each table, and the `lpqld` commands that make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Of a command line: the folder of real data, which is no part of what is recorded.
DATA = "{data}"
MANY = 100  # bytes of labels an image, from which on a label's precision is worth more than more labels


@dataclass(frozen=True)
class DataSet:
    """What a table is measured on. Paths are relative to the table's folder, or begin with `{data}`.

    Attributes:
        name: of the table.
        preset: how images are recovered.
        num_classes: C.
        ipc: images of each class.
        epochs: of every student, and views of every image.
        train: the teacher's training images, and those that select.
        test: read once.
        teacher: a checkpoint that is there, or the file that `fit` makes.
        size: side that images are brought to.
        recipe: options of `lpqld train` of every row.
        ours: options of `lpqld compress` of our rows; `more` over them where there are `MANY` bytes an image.
        our_train: options of `lpqld train` of our rows.
        temperatures: constant ones of students of all labels.
        fit: options of `lpqld teacher fit`; none where the teacher is there.
        teacher_arch: the teacher's architecture.
        crop: the smallest part of an image that a view shows.
    """

    name: str
    preset: str
    num_classes: int
    ipc: int
    epochs: int
    train: str
    test: str
    teacher: str
    size: int
    recipe: Mapping[str, str]
    ours: Mapping[str, str]
    more: Mapping[str, str]
    our_train: Mapping[str, str]
    temperatures: tuple[str, ...]
    fit: tuple[str, ...] = ()
    teacher_arch: str = "cifar_resnet20"
    crop: float = 0.25

    def ours_at(self, budget: int) -> Mapping[str, str]:
        """Options of `lpqld compress` of our rows of a budget in bytes."""
        many = budget >= MANY * self.num_classes * self.ipc
        return {**self.ours, **(self.more if many else {}), "budget": str(budget)}

    @property
    def folder(self) -> str:
        """Of its teacher, images and labels."""
        return f"{self.name}-e{self.epochs}"

    def settings(self) -> dict[str, str]:
        """Settings that no preset has, by the file that they are written to, beside the images."""
        crops = f"crop_scale: [{self.crop}, 1.0], flip: true"
        return {
            # One soft label of each image as it is.
            "whole.yaml": "views: {crop_scale: [1.0, 1.0], crop_ratio: [1.0, 1.0], flip: false, mix: none}\n",
            # As SRe2L, LPLD and LPQLD have them, and as we do.
            "cutmix.yaml": f"views: {{{crops}, mix: cutmix}}\n",
            "mixup.yaml": f"views: {{{crops}, mix: mixup}}\n",
            # docs/recover.md tells why 200 classes need another balance.
            "tiny200.yaml": "base: cifar10\nrecover: {crop_scale: [0.5, 1.0], bn_weight: 0.005}\n",
        }

    def preparation(self) -> dict[str, list[str]]:
        """Commands by what they make, in order: teacher, distilled images, all labels, of mixed-up views too."""
        known = ["--teacher", self.teacher, "--arch", self.teacher_arch]
        commands = {
            "images": [
                *("synthesize", "--images", self.train, "--size", str(self.size), *known),
                *("--preset", self.preset, "--ipc", str(self.ipc), "--out", "images"),
            ],
            "all": [
                *("relabel", "--images", "images", *known, "--preset", "cutmix.yaml"),
                *("--views", str(self.epochs), "--out", "all"),
            ],
            "mixup": [
                *("relabel", "--images", "images", *known, "--preset", "mixup.yaml"),
                *("--views", str(self.epochs), "--out", "mixup"),
            ],
            "one": [
                *("relabel", "--images", self.train, "--size", str(self.size), "--ipc", str(self.ipc), *known),
                *("--preset", "whole.yaml", "--views", "1", "--out", "one"),
            ],
        }
        if not self.fit:
            return commands
        fit = ["teacher", "fit", "--images", self.train, "--eval", self.test, "--arch", self.teacher_arch]
        return {self.teacher: [*fit, "--size", str(self.size), "--out", self.teacher, *self.fit], **commands}


_CIFAR = f"{DATA}/cifar10/train10k.parquet", f"{DATA}/cifar10/test.parquet", f"{DATA}/weights/resnet20-12fca82f.th"
_TINY = f"{DATA}/tiny200/train.parquet", f"{DATA}/tiny200/val.parquet", "teacher.safetensors"
_CIFAR_RECIPE = {"arch": "cifar_resnet20", "batch-size": "20", "lr": "0.004"}
_CIFAR_OURS = {"codec": "topk", "k": "10", "bits": "3"}
_MORE = {"bits": "4"}
_CIFAR_TRAIN = {"temperature": "100", "ca": "off", "batch-size": "10", "weight-decay": "0.1"}
_CIFAR_WAYS = _CIFAR_RECIPE, _CIFAR_OURS, _MORE, _CIFAR_TRAIN, ("20", "8", "4", "2", "1")
_TINY_WAYS = (
    {"arch": "cifar_resnet20", "batch-size": "50", "lr": "0.004"},
    {"codec": "topk", "k": "10", "bits": "4"},
    {},
    {"temperature": "20:2:step", "ca": "fit"},
    ("20", "4"),
)
DATA_SETS = (
    DataSet("cifar10-10", "cifar10", 10, 10, 300, *_CIFAR, 32, *_CIFAR_WAYS),
    DataSet("cifar10-50", "cifar10", 10, 50, 300, *_CIFAR, 32, *_CIFAR_WAYS),
    DataSet("tiny200-10", "tiny200.yaml", 200, 10, 80, *_TINY, 32, *_TINY_WAYS, ("--epochs", "60", "--seed", "0")),
)
