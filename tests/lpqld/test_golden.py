"""Label sets of every format version, read for ever.

The files are written only on request (LPQLD_WRITE_GOLDEN=1), and only for the current version. Version 0 may still
change until version 1 is frozen; from then on a golden file is never written again, and a reader that fails here is
the one to change.
"""

import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lpqld.codec import Dense, TopK
from lpqld.compress import encode
from lpqld.labels import LabelSet
from lpqld.manifest import VERSION
from tests.checks import made_up_labels

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CODECS = {"dense": Dense(), "topk-fp16": TopK(3), "topk-steps": TopK(3, 0.25)}
WRITING = os.environ.get("LPQLD_WRITE_GOLDEN") == "1"


@pytest.fixture(scope="module", autouse=True)
def written(digits) -> None:
    if not WRITING:
        return
    for name, codec in CODECS.items():
        encoded = encode(made_up_labels(digits.sample_per_class(1, 0), 3, shard_views=20), codec, num_views=25)
        folder = GOLDEN / f"v{VERSION}-{name}"
        encoded.write(folder)
        logits = encoded.decode().logits
        content = {
            "codec": codec.to_json(),
            "image_ids": list(encoded.spec.images.ids),
            "ids": logits.ids.tolist(),
            "values": logits.values.tolist(),
        }
        (GOLDEN / f"{folder.name}.json").write_text(json.dumps(content) + "\n")


@pytest.mark.parametrize("name", [f"v0-{codec}" for codec in CODECS])
def test_golden_label_sets_read_as_ever(name, digits):
    assert (GOLDEN / name).is_dir(), f"tests/golden/{name} is missing; it belongs to the repository"
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    opened = LabelSet.open(GOLDEN / name)
    opened.verify()
    assert opened.spec.codec.to_json() == expected["codec"]
    assert opened.labels.logits.ids.tolist() == expected["ids"]
    assert opened.labels.logits.values.tolist() == expected["values"]
    assert opened.images_of(digits).ids.tolist() == expected["image_ids"]


@pytest.mark.parametrize("codec", CODECS)
def test_golden_payloads_are_written_as_ever(codec, digits):
    """The bytes of a payload belong to the version too; those of the Parquet file around it to the library."""
    folder = GOLDEN / f"v{VERSION}-{codec}"
    opened = LabelSet.open(folder)
    for logits, shard in zip(opened.shards(), opened.manifest.shards, strict=True):
        stored = pq.read_table(folder / shard.file)["payload"].to_pylist()
        assert [opened.spec.codec.encode(logits, num_classes=opened.spec.num_classes)] == stored


def test_every_codec_has_a_golden_label_set():
    found = {LabelSet.open(folder).spec.codec.name for folder in GOLDEN.glob(f"v{VERSION}-*") if folder.is_dir()}
    assert found == {"dense", "topk"}
    small = sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file())
    assert small < 40_000
