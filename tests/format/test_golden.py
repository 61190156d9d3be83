"""Label sets, one for every version, codec and kind of value, read for ever.

The files are written only on request, where there are none yet:

    LPQLD_WRITE_GOLDEN=1 python -m pytest tests/format/test_golden.py

A golden file is never written again: where reading one fails, the reader is what has to change.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from lpqld.codecs import Codec, Logits
from lpqld.codecs.dense import Dense
from lpqld.codecs.hard import Hard
from lpqld.codecs.lowrank import LowRank
from lpqld.codecs.registry import CODEC_NAMES
from lpqld.codecs.topk import TopK
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import EncodedLabels, encode
from lpqld.labels.label_set import Labels, LabelSet
from lpqld.labels.manifest import MANIFEST_FILE
from lpqld.labels.select import reordered
from lpqld.views.drawn import DrawnSource
from lpqld.views.recorded import RecordedSource
from lpqld.views.table import ViewTable
from tests.checks import RULE, made_up_labels

GOLDEN = Path(__file__).resolve().parent / "golden"
LOGITS = GOLDEN / "logits.json"
WRITING = os.environ.get("LPQLD_WRITE_GOLDEN") == "1"
NUM_VIEWS, SHARD_VIEWS = 25, 20
RECIPE = {"epochs": 300, "lr": 1e-05, "mean": [0.5, 0.5, 0.5], "temperature": "20:2:step"}
# Made only when a file is written; afterwards its own manifest says what it is.
CODECS: dict[str, Callable[[], Codec]] = {
    "dense": Dense,
    "dense-steps": lambda: Dense(0.25),
    "hard": Hard,
    "lowrank": lambda: LowRank.fit(master().logits.values, rank=3, bits=6),
    "topk-fp16": lambda: TopK(3),
    "topk-steps": lambda: TopK(3, 0.25),
    "topk-steps-unmixed": lambda: TopK(3, 0.25),
    "topk-fine": lambda: TopK(5, 0.0001),
    "topk-all": lambda: TopK(10, 0.5),
    "topk-min": lambda: TopK(3, 0.25, "minimum"),
    "topk-min-fp16": lambda: TopK(3, None, "minimum"),
    "topk-share": lambda: TopK(3, 0.25, "share", 4.0),
    "topk-tail": lambda: TopK(3, 0.25, "tail"),
    "topk-tail-fp16": lambda: TopK(3, None, "tail"),
    "topk-selected": lambda: TopK(3, 0.25),
    "stored-cutmix": lambda: TopK(3, 0.25),
    "stored-mixup-ranked": Dense,
    "stored-cutout": lambda: TopK(3),
}

every_codec = pytest.mark.parametrize("name", CODECS)


@cache
def master() -> Labels:
    """What all of them are made from: the stored logits of three views of ten digits."""
    labels = made_up_labels(ImageSet.open("digits:train").sample_per_class(1, 0), 3, shard_views=SHARD_VIEWS)
    if WRITING and not LOGITS.exists():
        LOGITS.parent.mkdir(exist_ok=True)
        LOGITS.write_text(json.dumps(labels.logits.values.tolist()) + "\n")
    values = np.array(json.loads(LOGITS.read_text()), dtype=np.float32)
    # The bytes of the encoded images are Pillow's, and may change with it.
    spec = replace(labels.spec, images=replace(labels.spec.images, image_bytes=1243))
    return Labels(spec, Logits(labels.logits.ids, values))


def made(name: str, codec: Codec) -> EncodedLabels:
    """What a golden folder holds: two shards, the second one short."""
    rule = replace(RULE, mix="none") if name.endswith("unmixed") else RULE
    spec = master().spec
    recorded = name.startswith("stored")
    views = RecordedSource(rule, spec.seed, table(name)) if recorded else DrawnSource(rule, spec.seed)
    labels = replace(master(), spec=replace(spec, views=views))
    if name.endswith(("selected", "ranked")):
        labels = reordered(labels, "entropy")
    return encode(labels, codec, num_views=NUM_VIEWS, recipe=RECIPE)


def table(name: str) -> ViewTable:
    """Thirty views of ten digits in five batches, the last two of other sizes."""
    view = np.arange(30)
    sizes = np.array([6, 6, 6, 7, 5])
    crops = np.stack([view % 3, view % 2, 3 + view % 4, 2 + view % 5], axis=1).astype(np.float32)
    mixing = {"partners": view % np.repeat(sizes, sizes), "lams": np.arange(5, dtype=np.float32) / 5}
    box = np.array([[1, 0, 8, 3]]) + np.arange(5)[:, None] * [[0, 1, 0, 1]]
    return ViewTable(
        num_images=10,
        side=8,
        rows=view * 7 % 10,
        crops=crops / 8 if "cutout" in name else crops,
        crop_unit="half" if "cutout" in name else "pixel",
        flips=view % 3 == 0,
        labelled=np.ones(30, dtype=bool),
        batch_sizes=sizes,
        boxes=box if "cutmix" in name else None,
        cutouts=np.stack([view % 9, 8 - view % 9, view % 4, view % 5, view, 2 * view, 255 - view], axis=1)
        if "cutout" in name
        else None,
        **({} if "cutout" in name else mixing),
    )


def plain(labels: Labels) -> dict[str, object]:
    columns = {**labels.logits._asdict(), "numbers": labels.numbers}
    if isinstance(labels.spec.views, RecordedSource):
        columns |= {"rows": labels.spec.image_rows, "views": labels.spec.views.table.order}
    return {key: value.tolist() for key, value in columns.items() if value is not None}


def folder_of(name: str) -> Path:
    source = RecordedSource if name.startswith("stored") else DrawnSource
    return GOLDEN / f"v{source.format_version}-{name}"


def golden(name: str) -> LabelSet:
    folder = folder_of(name)
    assert (folder / MANIFEST_FILE).is_file(), f"golden/{folder.name} is missing; it belongs to the repository"
    return LabelSet.open(folder)


@pytest.fixture(autouse=True)
def written(many_shards) -> None:
    for name in CODECS if WRITING else ():
        if not folder_of(name).exists():
            encoded = made(name, CODECS[name]())
            encoded.write(folder_of(name))
            folder_of(name).with_suffix(".json").write_text(json.dumps(plain(encoded.decode())) + "\n")


@every_codec
def test_they_read_as_ever(name, digits):
    opened = golden(name)
    opened.verify()
    expected = json.loads(folder_of(name).with_suffix(".json").read_text())
    found = plain(opened.labels)
    if name == "lowrank":  # its product is the machine's linear algebra's, to the last bit or so
        assert np.allclose(found.pop("values"), expected.pop("values"), rtol=0, atol=1e-5)
    assert found == expected
    assert opened.spec.recipe == RECIPE
    assert opened.images_of(digits).ids.tolist() == opened.spec.image_ids.tolist()


@every_codec
def test_they_are_written_as_ever(name):
    """Manifest and shards byte for byte: the same labels have one file, and sizes are known before it is made."""
    opened = golden(name)
    encoded = made(name, opened.spec.codec)
    files = [(opened.folder / file).read_bytes() for file in opened.files]
    assert files == [*encoded.shards, *encoded.spec.views.files().values(), encoded.manifest.to_bytes()]


def test_every_codec_has_one_and_they_are_small():
    folders = [path.name for path in GOLDEN.iterdir() if path.is_dir()]
    assert sorted(folders) == sorted(folder_of(name).name for name in CODECS)
    assert set(CODEC_NAMES) <= set(CODECS) | {"topk"}
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 100_000
