"""Images as a directory of Parquet shards in Hugging Face layout, which `ImageSet.open` reads back unchanged."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lpqld.errors import ConfigError, few
from lpqld.images.encoding import Encoding, encode_all
from lpqld.storage import RemotePath, location, write_atomically

_SHARD_BYTES = 256 << 20


def write_parquet(
    out: str | os.PathLike[str] | RemotePath,
    pixels: np.ndarray,
    labels: np.ndarray,
    ids: np.ndarray,
    class_names: Sequence[str],
    encoding: Encoding | None = None,
) -> None:
    """Write `pixels` (uint8 [N, 3, S, S]), their labels, ids (int64 [N]) and class names to `out`.

    Lossless PNG unless `encoding` says otherwise. No more than a shard of them is held encoded. Every shard's name
    tells how many there are, so that a reader notices when one is missing.

    Raises:
        ConfigError: `out` holds other Parquet files or cannot be written.
    """
    folder = location(out)
    encoding = encoding or Encoding()
    in_a_shard = max(1, _SHARD_BYTES // math.prod(pixels.shape[1:]))  # decoded, so that their number is known at once
    starts = range(0, len(pixels), in_a_shard)
    names = [f"images-{index:05d}-of-{len(starts):05d}.parquet" for index in range(len(starts))]
    others = sorted({file.name for file in folder.glob("*.parquet")} - set(names)) if folder.is_dir() else []
    if others:
        raise ConfigError(f"{folder} already holds other images ({few(others)}): choose another folder")
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
        "id": {"dtype": "int64", "_type": "Value"},
    }
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("image", image_type), ("label", pa.int64()), ("id", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    for name, start in zip(names, starts, strict=True):
        rows = slice(start, start + in_a_shard)
        images = [
            {"bytes": content, "path": f"{number}.{encoding.name}"}
            for content, number in zip(encode_all(pixels[rows], encoding), ids[rows], strict=True)
        ]
        table = pa.Table.from_pydict({"image": images, "label": labels[rows], "id": ids[rows]}, schema=schema)
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        write_atomically(folder / name, buffer.getvalue())
