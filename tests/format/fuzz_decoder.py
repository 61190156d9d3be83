"""Coverage-guided fuzzing of everything that reads a label set's bytes: `make fuzz`, or `make fuzz SECONDS=600`.

Whatever the bytes, a payload, a shard, a manifest, a table of views or another project's batch of labels gives what is
usable or a `DataError`: no other exception, no hang, no memory beyond what the claim in the manifest allows. numba's
functions run as plain Python here, so that the fuzzer sees their branches; they are the same functions.
"""

from __future__ import annotations

import io
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

os.environ["NUMBA_DISABLE_JIT"] = "1"

import atheris

with atheris.instrument_imports(
    include=[
        "lpqld.codecs",
        "lpqld.storage",
        "lpqld.labels",
        "lpqld.views",
        "lpqld.interop",
    ]
):
    import numpy as np
    import torch

    from lpqld.codecs import Codec, Logits
    from lpqld.codecs.dense import Dense
    from lpqld.codecs.hard import Hard
    from lpqld.codecs.lowrank import LowRank
    from lpqld.codecs.topk import TopK
    from lpqld.errors import DataError
    from lpqld.interop.fkd_batch import read_batch
    from lpqld.labels.manifest import Manifest
    from lpqld.views.table_bytes import VIEWS_FILE, table_from_bytes, table_to_bytes

_LOGITS = (np.random.default_rng(0).standard_normal((8, 24)) * 4).astype(np.float32)
_GOLDEN = Path(__file__).parent / "golden"
_MANIFEST = _GOLDEN / "v1-topk-tail" / "manifest.json"
_SIDE, _CLASSES = 224, 24
CODECS: tuple[Codec, ...] = (
    TopK(1, 0.25),
    TopK(2, 0.25),
    TopK(5, 0.25),
    TopK(5, 1e-5),
    TopK(5),
    TopK(24, 0.25),
    TopK(5, 0.25, "minimum"),
    TopK(5, 0.25, "share", 4.0),
    TopK(5, 0.25, "tail"),
    TopK(3, None, "tail"),
    Dense(),
    Dense(0.5),
    Hard(),
    LowRank.fit(_LOGITS, rank=4, bits=6),
)


def check_valid(logits: Logits, num_views: int, num_classes: int) -> None:
    """Decoded labels are usable, even those of damaged bytes."""
    assert len(logits.ids) == len(logits.values) == num_views
    assert logits.ids.shape == logits.values.shape
    assert ((logits.ids >= 0) & (logits.ids < num_classes)).all()
    assert all(len(set(row)) == len(row) for row in logits.ids.tolist())
    assert np.isfinite(logits.values).all()
    assert logits.absent is None or np.isfinite(logits.absent).all()


def decode_payload(data: bytes) -> None:
    """The first bytes choose codec, size and hints, the others are the payload."""
    provider = atheris.FuzzedDataProvider(data)
    codec = CODECS[provider.ConsumeIntInRange(0, len(CODECS) - 1)]
    num_views = provider.ConsumeIntInRange(0, 8)
    num_classes = provider.ConsumeIntInRange(0, 30)
    hints = None
    if provider.ConsumeBool() and num_classes:
        values = provider.ConsumeIntListInRange(num_views * 2, -1, num_classes - 1)
        hints = np.array(values, dtype=np.int32).reshape(num_views, 2)
    payload = provider.ConsumeBytes(sys.maxsize)
    try:
        logits = codec.decode(payload, num_views=num_views, num_classes=num_classes, hints=hints)
    except DataError:
        return
    check_valid(logits, num_views, num_classes)


@cache
def _golden_text() -> str:
    return _MANIFEST.read_text()


def good_manifest() -> dict[str, Any]:
    """A real manifest without its checksum."""
    document: dict[str, Any] = json.loads(_golden_text())
    del document["sha256"]
    return document


def decode_manifest(data: bytes) -> None:
    """A manifest past its checksum, which a fuzzer cannot guess: a few fields of a good one, replaced."""
    try:
        changes = json.loads(data)
    except (ValueError, RecursionError):
        return
    document = good_manifest()
    if isinstance(changes, dict):
        document |= changes
    try:
        Manifest.from_json(document)
    except DataError:
        return


def decode_table(data: bytes) -> None:
    """A table of views past its checksum: where it is one, its order is one of its labelled views."""
    try:
        table = table_from_bytes(data)
    except DataError:
        return
    assert sorted(table.order.tolist()) == np.flatnonzero(table.labelled).tolist()
    assert table_to_bytes(table_from_bytes(table_to_bytes(table))) == table_to_bytes(table) == data


def decode_batch(data: bytes) -> None:
    """A batch file of another project."""
    try:
        batch = read_batch(data, "batch_0.tar", side=_SIDE, num_classes=_CLASSES)
    except DataError:
        return
    assert len(batch.logits) == len(batch) == len(batch.flips)
    assert np.isfinite(batch.logits.astype(np.float32)).all()
    assert batch.ids is None or ((batch.ids >= 0) & (batch.ids < _CLASSES)).all()
    assert batch.partners is None or ((batch.partners >= 0) & (batch.partners < len(batch))).all()


TARGETS = {"payload": decode_payload, "manifest": decode_manifest, "table": decode_table, "batch": decode_batch}


def good_batch(top_k: bool) -> bytes:
    """A batch as SRe2L's descendants save them."""
    count, kept = 2, 3 if top_k else _CLASSES
    crops = torch.tensor([[0.0, 0.0, 0.5, 0.5]] * count, dtype=torch.float16)
    logits = torch.from_numpy(_LOGITS[:count, :kept]).half()
    ids = [torch.arange(kept, dtype=torch.int16).repeat(count, 1)] if top_k else []
    box = torch.tensor([10, 20, 122, 132], dtype=torch.uint8)
    flips, partners = torch.tensor([True, False]), torch.tensor([1, 0], dtype=torch.uint8)
    buffer = io.BytesIO()
    torch.save([crops, flips, partners, 0.75, list(box), logits, *ids], buffer)
    return buffer.getvalue()


def write_seeds(folder: Path) -> None:
    """Inputs to start from: good payloads of every codec, and the fields of a good manifest, one a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, codec in enumerate(CODECS):
        hints = np.zeros((8, 1), dtype=np.int32)
        (folder / f"payload-{index}").write_bytes(codec.encode(_LOGITS, hints=hints) + bytes([0, 24, 8, index]))
    for path in _GOLDEN.glob(f"v2-*/{VIEWS_FILE}"):
        (folder / f"table-{path.parent.name}").write_bytes(path.read_bytes())
    for top_k in (False, True):
        (folder / f"batch-{top_k}").write_bytes(good_batch(top_k))
    for key, value in good_manifest().items():
        (folder / f"manifest-{key}").write_text(json.dumps({key: value}))


def main() -> None:
    """`fuzz_decoder.py TARGET CORPUS [libFuzzer options]`."""
    name, corpus, *options = sys.argv[1:]
    write_seeds(Path(corpus))
    atheris.Setup([sys.argv[0], corpus, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
