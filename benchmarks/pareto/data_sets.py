"""The data, teacher and images of each table, and the `lpqld` commands that make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from real_data import PLACEHOLDER, in_place

from lpqld.images import ImageSet

# Bytes of an image's labels from which on their precision is worth more than their number.
_MANY = 100


@dataclass(frozen=True)
class Views:
    """Of a label set with a view of every image for each epoch.

    Attributes:
        mix: of pairs of images.
        crop: the smallest part of an image that is shown; none for the data set's.
    """

    mix: str
    crop: float | None = None

    def settings(self, crop: float) -> str:
        """As YAML has them, with a data set's crop where there is none."""
        return f"{{crop_scale: [{self.crop or crop}, 1.0], flip: true, mix: {self.mix}}}"


# "all" as SRe2L, LPLD and LPQLD have them.
VIEWS = {
    "all": Views("cutmix"),
    "mixup": Views("mixup"),
    "plain": Views("none"),
    "near": Views("cutmix", 0.08),
    "far": Views("cutmix", 0.5),
}

# Label sets with a view of every image for each epoch.
TWO = "two"  # by a second teacher, too, where the first is fitted
REAL = {views: f"real-{views}" for views in VIEWS}  # of random training images
OF_EPOCHS = (*VIEWS, *REAL.values(), TWO)
SECOND = "second.safetensors"


@dataclass(frozen=True)
class DataSet:
    """What a table is measured on. Paths are relative to the table's folder, or begin with `{data}`.

    Attributes:
        name: of the table.
        preset: how images are recovered.
        num_classes: C.
        ipc: images of each class.
        epochs: of every student, and views of every image.
        train: the teacher's training images.
        val: those that select; none of them is in `test`.
        test: read once.
        teacher: a checkpoint that is there, or the file that `fit` makes.
        teacher_arch: the teacher's architecture.
        size: side that images are brought to.
        crop: the smallest part of an image that a view shows.
        recipe: options of `lpqld train` of every row.
        ours: options of `lpqld compress` of our rows.
        more: options over `ours` where there are `_MANY` bytes of labels an image.
        few: options over `ours` in rows of their own, of the fewest bytes.
        our_source: the label set that our rows are made from.
        our_train: options of `lpqld train` of our rows.
        temperatures: constant ones of students of all labels.
        fit: options of `lpqld teacher fit`; none where the teacher is there.
        only: names of its rows, where it does not have all.
        total: bytes of images and labels together, of a row that shares them out otherwise than other tables do.
    """

    name: str
    preset: str
    num_classes: int
    ipc: int
    epochs: int
    train: str
    val: str
    test: str
    teacher: str
    teacher_arch: str
    size: int
    crop: float
    recipe: Mapping[str, str]
    ours: Mapping[str, str]
    more: Mapping[str, str]
    our_source: str
    our_train: Mapping[str, str]
    temperatures: tuple[str, ...]
    fit: tuple[str, ...] = ()
    total: int | None = None
    few: Mapping[str, str] | None = None
    only: frozenset[str] = frozenset()

    def ours_at(self, budget: int) -> Mapping[str, str]:
        """Options of `lpqld compress` of our rows of a budget in bytes."""
        many = budget >= _MANY * self.num_classes * self.ipc
        return {**self.ours, **(self.more if many else {}), "budget": str(budget)}

    def opened(self, path: str, images: ImageSet) -> ImageSet:
        """The images of `val` or `test`, with classes numbered as in `images`."""
        return ImageSet.open(in_place(path), size=self.size, class_names=images.class_names)

    @property
    def folder(self) -> str:
        """Of its teacher, images and labels."""
        return f"{self.name}-e{self.epochs}"

    def settings(self) -> dict[str, str]:
        """Settings that no preset has, by the file that they are written to, beside the images."""
        # docs/recover.md tells why 200 classes need another one.
        balance = "crop_scale: [0.5, 1.0], bn_weight: 0.005"
        return {
            # One soft label of each image as it is.
            "whole.yaml": "views: {crop_scale: [1.0, 1.0], crop_ratio: [1.0, 1.0], flip: false, mix: none}\n",
            **{f"{name}.yaml": f"views: {views.settings(self.crop)}\n" for name, views in VIEWS.items()},
            "tiny200.yaml": f"base: cifar10\nrecover: {{{balance}}}\n",
            "tiny200-short.yaml": f"base: cifar10\nrecover: {{{balance}, iterations: 400}}\n",
        }

    def preparation(self) -> dict[str, list[str]]:
        """Commands by what they make, in order: teacher, distilled images, all labels, of mixed-up views too."""
        distilled = ("--images", "images")
        real = ("--images", self.train, "--size", str(self.size), "--ipc", str(self.ipc))
        commands = {
            "images": [
                *("synthesize", *real, "--teacher", self.teacher, "--arch", self.teacher_arch),
                *("--preset", self.preset, "--out", "images"),
            ],
            **{views: self._relabel(distilled, views, views) for views in VIEWS},
            **{out: self._relabel(real, views, out) for views, out in REAL.items()},
            "one": self._relabel(real, "whole", "one", epochs=1),
        }
        if not self.fit:
            return commands
        fits = {
            out: [
                *("teacher", "fit", "--images", self.train, "--eval", self.test, "--arch", self.teacher_arch),
                *("--size", str(self.size), "--out", out, *self.fit, "--seed", seed),
            ]
            for out, seed in ((self.teacher, "0"), (SECOND, "1"))
        }
        return {**fits, **commands, TWO: self._relabel(distilled, self.our_source, TWO, second=True)}

    def _relabel(
        self, images: Sequence[str], views: str, out: str, *, epochs: int | None = None, second: bool = False
    ) -> list[str]:
        """A view of every image for each epoch, by a second teacher, too, if asked."""
        teacher = f"{self.teacher},{SECOND}" if second else self.teacher
        return [
            *("relabel", *images, "--teacher", teacher, "--arch", self.teacher_arch),
            *("--preset", f"{views}.yaml", "--views", str(epochs or self.epochs), "--out", out),
        ]


_CIFAR10 = DataSet(
    name="cifar10-10",
    preset="cifar10",
    num_classes=10,
    ipc=10,
    epochs=300,
    train=f"{PLACEHOLDER}/cifar10/train10k.parquet",
    val=f"{PLACEHOLDER}/cifar10/train10k.parquet",
    test=f"{PLACEHOLDER}/cifar10/test.parquet",
    teacher=f"{PLACEHOLDER}/weights/resnet20-12fca82f.th",
    teacher_arch="cifar_resnet20",
    size=32,
    crop=0.25,
    recipe={"arch": "cifar_resnet20", "batch-size": "20", "lr": "0.004"},
    ours={"codec": "topk", "k": "10", "bits": "3"},
    more={"bits": "4"},
    our_source="mixup",
    our_train={"temperature": "100", "ca": "off", "batch-size": "10", "weight-decay": "0.1"},
    temperatures=("100", "50", "20", "8", "4", "2", "1"),
    few={"codec": "topk-share", "k": "3"},
)
_TINY200 = DataSet(
    name="tiny200-10",
    preset="tiny200-short.yaml",
    num_classes=200,
    ipc=10,
    epochs=80,
    train=f"{PLACEHOLDER}/tiny200/train.parquet",
    val=f"{PLACEHOLDER}/tiny200/train.parquet",
    test=f"{PLACEHOLDER}/tiny200/val.parquet",
    teacher="teacher.safetensors",
    teacher_arch="cifar_resnet20",
    size=32,
    crop=0.25,
    recipe={"arch": "cifar_resnet20", "batch-size": "50", "lr": "0.004"},
    ours={"codec": "lowrank", "k": "64", "bits": "5"},
    more={},
    our_source="all",
    our_train={"temperature": "4", "ca": "off", "batch-size": "20", "weight-decay": "0.1"},
    temperatures=("20", "4"),
    fit=("--epochs", "60"),
    only=frozenset(
        {
            "hard labels",
            "all labels, T = 20",
            "all labels, T = 4",
            "all labels, T = 20, our recipe",
            "all labels, our training",
            "random real images, one soft label each",
            "random real images, all labels, T = 20",
            "random real images, ours x80",
            "LPLD x40",
            "LPQLD x80, the paper's setting",
            "LPQLD x80, the paper's setting, our recipe",
            "ours x80",
            "ours x80, two teachers",
            "ours x320",
            "ours, the bytes of LPQLD x80",
            "ours, the bytes of LPQLD x80, hard epochs",
        }
    ),
)
# For GPUs. docs/reproduce.md tells what a user's {data} has to hold.
_TINY200_64 = replace(
    _TINY200,
    name="tiny200-10-64px",
    preset="tiny200.yaml",
    only=frozenset(),
    epochs=300,
    teacher_arch="tiny_resnet18",
    size=64,
    recipe={"arch": "tiny_resnet18", "batch-size": "64", "lr": "0.002"},
)
_IN1K = DataSet(
    name="in1k-10",
    preset="in1k",
    num_classes=1000,
    ipc=10,
    epochs=300,
    train=f"{PLACEHOLDER}/imagenet/train",
    val=f"{PLACEHOLDER}/imagenet/train10k",
    test=f"{PLACEHOLDER}/imagenet/val",
    teacher=f"{PLACEHOLDER}/weights/resnet18.pth",
    teacher_arch="resnet18",
    size=224,
    crop=0.08,
    recipe={"arch": "resnet18", "batch-size": "128", "lr": "0.001", "resize-ratio": "1.142857"},
    ours={"codec": "topk", "k": "50", "bits": "4"},
    more={},
    our_source="mixup",
    our_train={"temperature": "20:2:step", "ca": "fit"},
    temperatures=("20",),
)
DATA_SETS = (
    _CIFAR10,
    # The total is that of 10 images a class and all their labels: 299,859 and 604,025 bytes.
    replace(_CIFAR10, name="cifar10-25", ipc=25, total=903_884),
    replace(_CIFAR10, name="cifar10-50", ipc=50),
    _TINY200,
    _TINY200_64,
    _IN1K,
)


def data_set(name: str) -> DataSet:
    """The one of that name."""
    (found,) = (data for data in DATA_SETS if data.name == name)
    return found
