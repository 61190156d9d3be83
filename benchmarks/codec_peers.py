"""What others would store the same labels with: each peer takes `Kept` labels to bytes and gets them back.

All but the reference start from class ids in order and values in whole steps, and hand back the same; a peer's tables
are part of its bytes. `TorchFiles` is the reference's own layout: files of one batch each, with the parameters of its
views, class ids as int16 and values as fp16 (or, in its ImageNet-21K mode, cutouts in place of flips and mixes).
"""

from __future__ import annotations

import importlib.util
import io
import struct
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from kept_labels import Kept
from numpy.typing import NDArray

from lpqld.storage import pack, packed_size, unpack

Symbols = tuple[NDArray[np.integer], NDArray[np.integer]]


class Peer(Protocol):
    """One way to store labels in steps."""

    @property
    def name(self) -> str:
        """With its settings."""
        ...

    def encode(self, kept: Kept) -> bytes:
        """Everything that `decode` needs, the numbers of views and classes apart."""
        ...

    def decode(self, payload: bytes, num_views: int, k: int, num_classes: int) -> Symbols:
        """Ids ascending and values in steps, [N, k] each."""
        ...


def peers_for(kept: Kept) -> list[Peer]:
    """All peers that are installed; Parquet with the encodings that these labels are smallest in."""
    installed: list[Peer] = [BitPacked(), best_parquet(kept), Zstd(level=3), Zstd(level=19)]
    return [*installed, Constriction()] if importlib.util.find_spec("constriction") else installed


@dataclass(frozen=True)
class BitPacked:
    """Every id and every value as wide as the widest needs."""

    name: str = "fixed-width bits"

    def encode(self, kept: Kept) -> bytes:
        value_bits = int(kept.steps.max()).bit_length()
        return bytes([value_bits]) + pack(kept.ids, (kept.num_classes - 1).bit_length()) + pack(kept.steps, value_bits)

    def decode(self, payload: bytes, num_views: int, k: int, num_classes: int) -> Symbols:
        count, id_bits = num_views * k, (num_classes - 1).bit_length()
        end = 1 + packed_size(count, id_bits)
        ids, steps = unpack(payload[1:end], count, id_bits), unpack(payload[end:], count, payload[0])
        return ids.reshape(num_views, k), steps.reshape(num_views, k)


@dataclass(frozen=True)
class Constriction:
    """The `constriction` library's ANS coder with one static model of all gaps and one of all values."""

    name: str = "constriction, order-0 ANS"

    def encode(self, kept: Kept) -> bytes:
        import constriction

        symbols = [kept.gaps.reshape(-1), kept.steps.reshape(-1)]
        counts = [_sixteen_bits(np.bincount(column)) for column in symbols]
        coder = constriction.stream.stack.AnsCoder()
        for column, table in reversed(list(zip(symbols, counts, strict=True))):
            coder.encode_reverse(column, _categorical(table))
        tables = [pa.compress(table.tobytes(), codec="zstd", asbytes=True) for table in counts]
        sizes = struct.pack("<4I", *(len(table) for table in counts), *(len(table) for table in tables))
        return b"".join([sizes, *tables, coder.get_compressed().astype("<u4").tobytes()])

    def decode(self, payload: bytes, num_views: int, k: int, num_classes: int) -> Symbols:
        import constriction

        *lengths, first, second = struct.unpack_from("<4I", payload)
        ends = (16, 16 + first, 16 + first + second)
        models = []
        for length, start, end in zip(lengths, ends[:-1], ends[1:], strict=True):
            table = pa.decompress(payload[start:end], decompressed_size=2 * length, codec="zstd", asbytes=True)
            models.append(_categorical(np.frombuffer(table, dtype="<u2")))
        coder = constriction.stream.stack.AnsCoder(np.frombuffer(payload[ends[2] :], dtype="<u4").astype(np.uint32))
        gaps, steps = (coder.decode(model, num_views * k).reshape(num_views, k) for model in models)
        return _ids(gaps), steps


def _sixteen_bits(counts: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Counts scaled to fit 16 bits, none that was above zero becoming zero."""
    scaled = np.ceil(counts * min(1.0, 65535 / counts.max()))
    return scaled.astype("<u2")


def _categorical(counts: NDArray[np.uint16]) -> object:
    import constriction

    # A lone symbol needs a second one beside it: a model of one symbol is refused.
    probabilities = np.append(counts, 0) if len(counts) == 1 else counts
    return constriction.stream.model.Categorical(probabilities.astype(np.float32), perfect=False)


@dataclass(frozen=True)
class Zstd:
    """Zstandard on gaps, then on values: a byte each, or all low bytes before all high ones where one is not enough."""

    level: int

    @property
    def name(self) -> str:
        """With the level."""
        return f"zstd level {self.level}"

    def encode(self, kept: Kept) -> bytes:
        codec = pa.Codec("zstd", compression_level=self.level)
        parts = []
        for column in (kept.gaps, kept.steps):
            planes = 1 if column.max() < 256 else 2
            raw = np.ascontiguousarray(column.astype("<u2").reshape(-1, 1).view(np.uint8)[:, :planes].T).tobytes()
            parts.append(codec.compress(raw, asbytes=True))
            parts[-1] = struct.pack("<BI", planes, len(parts[-1])) + parts[-1]
        return b"".join(parts)

    def decode(self, payload: bytes, num_views: int, k: int, num_classes: int) -> Symbols:
        codec, start, columns = pa.Codec("zstd"), 0, []
        for _ in range(2):
            planes, length = struct.unpack_from("<BI", payload, start)
            start += 5
            raw = codec.decompress(payload[start : start + length], planes * num_views * k, asbytes=True)
            start += length
            low, *high = np.frombuffer(raw, dtype=np.uint8).reshape(planes, num_views, k)
            columns.append(low.astype(np.int32) + (high[0].astype(np.int32) << 8 if high else 0))
        return _ids(columns[0]), columns[1]


@dataclass(frozen=True)
class Parquet:
    """Two Parquet columns, Zstandard over the encoding of each."""

    ids: str  # "ids" or "gaps", and an encoding
    steps: str
    level: int = 3

    @property
    def name(self) -> str:
        """With the encodings."""
        return f"Parquet, {self.ids}, values {self.steps.split()[1]}, zstd level {self.level}"

    def encode(self, kept: Kept) -> bytes:
        kind, id_encoding = self.ids.split()
        columns = {kind: kept.ids if kind == "ids" else kept.gaps, "steps": kept.steps}
        return _parquet(columns, {kind: id_encoding, "steps": self.steps.split()[1]}, self.level)

    def decode(self, payload: bytes, num_views: int, k: int, num_classes: int) -> Symbols:
        table = pq.read_table(io.BytesIO(payload), use_threads=False)
        first, steps = (column.to_numpy().reshape(num_views, k) for column in table.columns)
        return (first if table.column_names[0] == "ids" else _ids(first)), steps


def best_parquet(kept: Kept, level: int = 3) -> Parquet:
    """The encodings with the fewest bytes: ids as they are or as gaps, each and the values in every encoding."""
    columns = {"ids": kept.ids, "gaps": kept.gaps, "steps": kept.steps}
    encodings = ("PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "DICTIONARY")
    sizes = {
        f"{name} {encoding}": len(_parquet({name: column}, {name: encoding}, level))
        for name, column in columns.items()
        for encoding in encodings
    }
    ids = min((choice for choice in sizes if not choice.startswith("steps")), key=sizes.__getitem__)
    steps = min((choice for choice in sizes if choice.startswith("steps")), key=sizes.__getitem__)
    return Parquet(ids, steps, level)


def _parquet(columns: dict[str, NDArray[np.int32]], encodings: dict[str, str], level: int) -> bytes:
    sink = io.BytesIO()
    with_dictionary = [name for name, encoding in encodings.items() if encoding == "DICTIONARY"]
    pq.write_table(
        pa.table({name: column.reshape(-1) for name, column in columns.items()}),
        sink,
        compression="zstd",
        compression_level=level,
        use_dictionary=with_dictionary or False,
        column_encoding={name: code for name, code in encodings.items() if name not in with_dictionary} or None,
        write_statistics=False,
        store_schema=False,
    )
    return sink.getvalue()


def _ids(gaps: NDArray[np.integer]) -> NDArray[np.int64]:
    """Ids from the distances between them; see `Kept.gaps`."""
    ids = np.cumsum(gaps, axis=1, dtype=np.int64)
    ids += np.arange(gaps.shape[1])
    return ids


@dataclass(frozen=True)
class TorchFiles:
    """The reference's layout: `torch.save` of a positional list for each batch."""

    batch_size: int
    cutout: bool = False

    @property
    def name(self) -> str:
        """With the batch size."""
        return f"torch.save, the reference's layout, batches of {self.batch_size}{' with cutout' * self.cutout}"

    def encode(self, ids: torch.Tensor, values: torch.Tensor) -> list[bytes]:
        """One zip a batch, of ids and values [N, k] in any order."""
        files = []
        for start in range(0, len(ids), self.batch_size):
            part = slice(start, start + self.batch_size)
            sink = io.BytesIO()
            # A slice would be saved with all of the tensor that it is a part of.
            batch_ids, batch_values = ids[part].to(torch.int16, copy=True), values[part].to(torch.float16, copy=True)
            torch.save([*self._views(len(batch_ids)), batch_values, batch_ids], sink)
            files.append(sink.getvalue())
        return files

    def _views(self, count: int) -> list[object]:
        """Crop, flip or cutout, partner, lambda, box: their content does not change what they take."""
        crops = torch.zeros(count, 4, dtype=torch.float16)
        if self.cutout:
            return [crops, torch.zeros(count, 7), None, None, None]
        box = [torch.zeros((), dtype=torch.uint8) for _ in range(4)]
        return [crops, torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.uint8), 0.5, box]

    def decode(self, files: list[bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids int16 and values fp16, [N, k]."""
        batches = [torch.load(io.BytesIO(content), weights_only=True) for content in files]
        return torch.cat([batch[-1] for batch in batches]), torch.cat([batch[-2] for batch in batches])
