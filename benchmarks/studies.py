"""The studies of the soft-label baseline on real data: tables, figures and results, by `lpqld study` alone.

Run as `python benchmarks/studies.py cifar10 [--only STUDY ...]`, with the package installed and real data at
`LPQLD_SHARED_DATA` or `../shared/data`. What a study writes goes to `studies/DATA/STUDY/`; experts and students are
kept in `--cache`, so that it goes on where it was interrupted. docs/studies-findings.md tells what came of it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from commands import lpqld
from label_students import cpu_name, versions
from real_data import DATA as FOLDER
from real_data import PLACEHOLDER
from study_tables import pivot

from lpqld.storage import write_atomically
from sweeps.studies import STUDY_NAMES

_RESULTS = Path(__file__).resolve().parent / "studies"
_STUDENT = {
    "student.batch_size": "20",
    "student.lr": "0.003",
    "student.augment_crop": "0.25",
    "student.augment_flip": "true",
}

# What the validation images chose in expert-epoch for 1 and 5 images of a class.
_CHOSEN_CIFAR10 = {"epoch": "4"}
_CHOSEN_TINY200 = {"epoch": "5"}


@dataclass(frozen=True)
class Data:
    """What studies are made of.

    Attributes:
        images, test: of `lpqld study`; half of the test images choose.
        ipc: images of a class.
        settings: `--set`, over those that all share.
        of_study: the same, of some studies.
    """

    images: str
    test: str
    ipc: tuple[int, ...]
    settings: Mapping[str, str]
    of_study: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


DATA = {
    "cifar10": Data(
        f"{PLACEHOLDER}/cifar10/train10k.parquet",
        f"{PLACEHOLDER}/cifar10/test.parquet",
        (1, 5, 20),
        {"size": "32", "experts.seeds": "4", "experts.epochs": "30", "student.epochs": "150"},
        {
            "temperature": {"temperatures": "[1,2,4]", "ipc": "[5]"},
            "ensemble": _CHOSEN_CIFAR10,
            "swap": {**_CHOSEN_CIFAR10, "ipc": "[1,5]"},
            "entropy": {"ipc": "[1,5]"},
            "zero-shot": {**_CHOSEN_CIFAR10, "removed": "[0,3]", "ipc": "[5]"},
            "scaling": _CHOSEN_CIFAR10,
            "hard": _CHOSEN_CIFAR10,
        },
    ),
    "tiny200": Data(
        f"{PLACEHOLDER}/tiny200/train.parquet",
        f"{PLACEHOLDER}/tiny200/val.parquet",
        (1, 5),
        {
            "size": "32",
            "experts.seeds": "2",
            "experts.epochs": "30",
            "experts.keep": "log:5",
            "student.epochs": "40",
        },
        {
            "temperature": {"temperatures": "[1,2,4]", "ipc": "[5]"},
            "ensemble": {**_CHOSEN_TINY200, "ipc": "[5]"},
            "zero-shot": _CHOSEN_TINY200,
            "swap": {**_CHOSEN_TINY200, "ipc": "[1]", "ranks": "[1,2,5,20,100]"},
            "scaling": {**_CHOSEN_TINY200, "ipc": "[1,2,5]", "k": "[0,2,10,50,200]"},
            "hard": {**_CHOSEN_TINY200, "smoothing": "[]"},
        },
    ),
}
_ALL = {"experts.architecture": "convnet_d3", "student.architecture": "convnet_d3", "experts.keep": "log:8", **_STUDENT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=DATA)
    parser.add_argument("--only", nargs="+", choices=STUDY_NAMES, help="some studies")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "lpqld-studies")
    arguments = parser.parse_args()
    for name in arguments.only or STUDY_NAMES:
        out = _RESULTS / arguments.data / name
        if not (out / "result.json").exists():
            run(arguments.data, name, arguments.cache / arguments.data, out)
        print(pivot(json.loads((out / "result.json").read_text())))


def settings_of(data_name: str, name: str) -> dict[str, str]:
    """`--set` of a study."""
    data = DATA[data_name]
    return {**_ALL, **data.settings, "ipc": str(list(data.ipc)), **data.of_study.get(name, {})}


def run(data_name: str, name: str, root: Path, out: Path) -> None:
    """A study, and what of it is kept: no paths of this machine."""
    data, settings = DATA[data_name], settings_of(data_name, name)
    line = ["study", name, "--images", data.images, "--eval", data.test, "--root", str(root)]
    for key, value in settings.items():
        line += ["--set", f"{key}={value}"]
    root.mkdir(parents=True, exist_ok=True)
    found = lpqld(line, root)
    folder = Path(found.pop("folder"))
    for case in found["cases"]:
        del case["labels"]
    out.mkdir(parents=True, exist_ok=True)
    for file in ("table.md", "figure.png"):
        shutil.copy(folder / file, out / file)
    document = {**found, "settings": settings, "machine": cpu_name(), "versions": versions()}
    text = json.dumps(document, indent=1)
    assert str(FOLDER) not in text
    assert str(root) not in text
    write_atomically(out / "result.json", text.encode())


if __name__ == "__main__":
    main()
