"""Images and labels of other projects' kinds: what a student learns from them before and after `lpqld compress`.

Run as `python benchmarks/interop.py [--only DC ...] [--seeds 3] [--table]`, with the package installed and real data at
`LPQLD_SHARED_DATA` or `../shared/data`; `lpqld` commands alone, but where a file of another project's kind is written.
DC's images are the published ones; the others are made here, of CIFAR-10, and come in through the files that their
code writes. Each finished row is a small JSON file under `interop/`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from commands import lpqld
from label_students import cpu_name, versions
from PIL import Image
from real_data import DATA, PLACEHOLDER, in_place

from lpqld.images import ImageSet
from lpqld.models import load_teacher
from lpqld.storage import write_atomically
from sweeps.report import Accuracy
from sweeps.studies import spread

_RESULTS = Path(__file__).resolve().parent / "interop"
_EPOCHS, _IPC = 100, 10
_TRAIN, _TEST, _WEIGHTS = (
    f"{PLACEHOLDER}/cifar10/train10k.parquet",
    f"{PLACEHOLDER}/cifar10/test.parquet",
    "resnet20-12fca82f.th",
)
_TEACHER = ("--teacher", f"{PLACEHOLDER}/weights/{_WEIGHTS}", "--arch", "cifar_resnet20")
_RECIPE = ("--arch", "cifar_resnet20", "--epochs", str(_EPOCHS), "--batch-size", "20", "--lr", "0.004",
           "--temperature", "20", "--ca", "off")  # fmt: skip
_MEAN, _STD = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2023, 0.1994, 0.2010])
_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Case:
    """A method's files.

    Attributes:
        method: whose.
        write: makes its files, and class names, in a folder; names alone where files are published.
        commands: that make `images` and `all` of it.
        factor: how many times smaller the compressed labels are; ten images have no room for a fortieth.
    """

    method: str
    write: Callable[[Path], None]
    commands: tuple[tuple[str, ...], ...]
    factor: int = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="methods that begin so")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="print what is there, in Markdown, and stop")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-interop")
    arguments = parser.parse_args()
    chosen = [case for case in CASES if case.method.startswith(tuple(arguments.only or [""]))]
    if not arguments.table:
        for case in chosen:
            if not result_file(case).exists():
                run(case, arguments.cache / name_of(case), arguments.seeds)
    print(markdown(chosen))


def run(case: Case, folder: Path, seeds: int) -> None:
    """Bring a method's files in, train on all labels and on a part of their bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "all").exists():
        case.write(folder)
        for command in case.commands:
            lpqld(command, folder)
    compress = ("compress", "all", "small", "--k", "10", "--bits", "4")
    before = lpqld(("inspect", "all"), folder)
    if not (folder / "small").exists():
        views = before["num_views"] > before["num_images"]
        lpqld((*compress, *(("--budget", str(before["bytes"]["total"] // case.factor)) if views else ())), folder)
    found = {}
    for labels in ("all", "small"):
        where = ("--labels", labels, "--images", "images", "--eval", _TEST, "--seeds", str(seeds))
        trained = lpqld(("train", *where, *_RECIPE), folder)
        found[labels] = {key: trained[key] for key in ("label_bytes", "accuracy")}
    facts = {"method": case.method, **found, "machine": cpu_name(), "versions": versions()}
    write_atomically(result_file(case), json.dumps(facts, indent=2).encode())


def names_only(folder: Path) -> None:
    """The files are published."""
    (folder / "names.txt").write_text("\n".join(_NAMES))


def real_images() -> ImageSet:
    """Random photos of CIFAR-10."""
    return ImageSet.open(in_place(_TRAIN), sample=(_IPC, 0))


def as_folders(mode: str | None, pattern: str) -> Callable[[Path], None]:
    """A writer of class folders of JPEG: recovered images of a mode, or real ones."""

    def write(folder: Path) -> None:
        if mode is None:
            images = real_images()
        else:
            synthesize = ("synthesize", "--images", _TRAIN, *_TEACHER, "--ipc", str(_IPC), "--mode", mode)
            lpqld((*synthesize, "--out", "recovered"), folder)
            images = ImageSet.open(folder / "recovered")
        names_only(folder)
        (folder / "plain.yaml").write_text("views: {crop_scale: [0.25, 1.0], mix: none}\n")
        for index, (pixels, label) in enumerate(zip(images.pixels, images.labels.tolist(), strict=True)):
            path = folder / "source" / pattern.format(label=label, name=_NAMES[label]) / f"{index:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path, quality=95)

    return write


def as_tensors(folder: Path) -> None:
    """Normalised floats and classes, as MTT saves them."""
    images = real_images()
    (folder / "source").mkdir(exist_ok=True)
    pixels = (images.pixels.double().numpy() / 255 - _MEAN[:, None, None]) / _STD[:, None, None]
    torch.save(torch.from_numpy(pixels).float(), folder / "source" / "images_best.pt")
    torch.save(images.labels, folder / "source" / "labels_best.pt")
    names_only(folder)


def as_soft_arrays(folder: Path) -> None:
    """Pixels and a soft label each, as FRePo has them."""
    images = real_images()
    path = DATA / "weights" / _WEIGHTS
    teacher = load_teacher(path, architecture="cifar_resnet20", image_class_names=images.class_names).eval()
    with torch.inference_mode():
        labels = (teacher(images.pixels.float() / 255) / 4).softmax(1).numpy()
    np.savez(folder / "source.npz", images=images.pixels.permute(0, 2, 3, 1).numpy(), labels=labels)
    names_only(folder)


def labelled(*bring: str) -> tuple[tuple[str, ...], ...]:
    """Images come in, and are relabeled by the teacher, a view for every epoch."""
    relabel = (
        "relabel",
        "--images",
        "images",
        *_TEACHER,
        "--preset",
        "cifar10",
        "--views",
        str(_EPOCHS),
        "--out",
        "all",
    )
    return (bring, relabel)


def through_label_files(layout: str) -> tuple[tuple[str, ...], ...]:
    """The same, with labels that go through the files of a layout, which cannot hold our mixing."""
    first, relabel = labelled(*_FOLDERS)
    plain = (
        *relabel[: relabel.index("--preset")],
        "--preset",
        "plain.yaml",
        "--views",
        str(_EPOCHS),
        "--out",
        "native",
    )
    exported = ("export", "native", "--images", "images", "--format", "fkd", "--layout", layout, "--out", "theirs")
    return first, plain, exported, ("import", "theirs", "all", "--images", "images")


def result_file(case: Case) -> Path:
    return _RESULTS / f"{name_of(case)}.json"


def name_of(case: Case) -> str:
    return case.method.partition(",")[0].lower().replace(" ", "-")


def markdown(cases: list[Case]) -> str:
    """What is there, in Markdown."""
    lines = [
        "| method | label bytes | student, % | compressed, bytes | student, % |",
        "|---|---:|---:|---:|---:|",
    ]
    for case in cases:
        if result_file(case).exists():
            facts = json.loads(result_file(case).read_bytes())
            cells = [case.method]
            for labels in ("all", "small"):
                cells.append(f"{facts[labels]['label_bytes']:,}")
                cells.append(spread(Accuracy(**facts[labels]["accuracy"])))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_FOLDERS = ("import", "source", "images", "--format", "images", "--class-names", "names.txt", *_TEACHER)
_TENSORS = ("images", "--format", "tensors", "--class-names", "names.txt")
_DC = f"{PLACEHOLDER}/distilled/res_DC_CIFAR10_ConvNet_"
_SOFT = ("import", "source.npz", *_TENSORS, "--soft-labels", "all")
CASES = (
    Case("DC, 1 image a class", names_only, labelled("import", f"{_DC}1ipc_1000.pt", *_TENSORS), 10),
    Case("DSA, 10 images a class", names_only, labelled("import", f"{_DC}10ipc.pt", *_TENSORS)),
    Case("MTT, TESLA, DATM", as_tensors, labelled("import", "source", *_TENSORS)),
    Case("FRePo, Ra-BPTT", as_soft_arrays, (_SOFT,)),
    Case("SRe2L, CDA, LPLD", as_folders("cross", "new{label:03d}"), through_label_files("epochs")),
    Case("LPQLD", as_folders("class", "{name}"), through_label_files("batches")),
    Case("RDED, G-VBSM, EDC", as_folders(None, "{name}"), labelled(*_FOLDERS)),
)

if __name__ == "__main__":
    main()
