"""Encoded images to square pixel arrays, and back to PNG."""

from __future__ import annotations

import io
import os
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lpqld.errors import ConfigError, DataError
from lpqld.images.records import Record

_AHEAD = 256  # images that are decoded, or being decoded, before they are asked for
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class Decoded:
    """Pixels brought to size; `None` for pixels says that `problem` kept the image from being read."""

    pixels: np.ndarray | None
    encoded_bytes: int
    original_size: tuple[int, int]
    problem: str = ""


def decode_all(records: Sequence[Record], size: int | None, eval_resize_ratio: float) -> Iterator[Decoded]:
    """Decode `records` in order on a few threads, each to uint8 [3, S, S].

    `size` None stands for the size of the first readable image, which every other must then have.

    Raises:
        ConfigError: `size` is None and the images are not all squares of one size.
    """
    with _pool() as pool:
        if size is not None:
            yield from _map_bounded(pool, lambda record: _decode(record, size, eval_resize_ratio), records)
            return
        common: tuple[int, int] | None = None
        for record, decoded in zip(records, _map_bounded(pool, lambda r: _decode(r, None, 1.0), records), strict=True):
            if decoded.pixels is not None:
                width, height = decoded.original_size
                common = common or (width, height)
                if width != height or (width, height) != common:
                    raise ConfigError(
                        f"{record.origin} is {width} x {height} pixels and the first image {common[0]} x {common[1]}:"
                        " images must be squares of one size; pass `size` to bring them all to one"
                    )
            yield decoded


@dataclass(frozen=True)
class Encoding:
    """How pixels become bytes: "png" or "webp", lossless, or "jpeg" of a quality from 1 to 95."""

    name: str = "png"
    quality: int = 95

    def __post_init__(self) -> None:
        if self.name not in ("png", "webp", "jpeg") or not 1 <= self.quality <= 95:
            raise ConfigError(
                f"an image encoding is png, webp (both lossless) or jpeg with a quality from 1 to 95 such as jpeg:90, "
                f"found {self}"
            )

    def __str__(self) -> str:
        return f"jpeg:{self.quality}" if self.name == "jpeg" else self.name

    @classmethod
    def parse(cls, text: str) -> Encoding:
        """From "png", "webp", "jpeg" or "jpeg:90"."""
        name, _, quality = text.partition(":")
        if quality and (name != "jpeg" or not quality.isdigit()):
            raise ConfigError(f"an image encoding is png, webp, jpeg or jpeg:90, found {text!r}")
        return cls(name, int(quality or 95))

    def encode(self, pixels: np.ndarray) -> bytes:
        """An image, uint8 [3, S, S], with one channel where all three are equal (but for WebP, which has three)."""
        gray = self.name != "webp" and (pixels == pixels[:1]).all()
        image = Image.fromarray(pixels[0] if gray else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        buffer = io.BytesIO()
        options: dict[str, dict[str, object]] = {
            "png": {},
            "webp": {"lossless": True, "quality": 100, "method": 6},
            "jpeg": {"quality": self.quality, "optimize": True},
        }
        image.save(buffer, format=self.name.upper(), **options[self.name])
        return buffer.getvalue()


def encode_all(pixels: np.ndarray, encoding: Encoding) -> list[bytes]:
    """Each image of uint8 [N, 3, S, S]."""
    with _pool() as pool:
        return list(pool.map(encoding.encode, pixels))


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _map_bounded(
    pool: ThreadPoolExecutor, decode: Callable[[Record], Decoded], records: Sequence[Record]
) -> Iterator[Decoded]:
    """`pool.map` that runs only so far ahead of its reader: images may be more than memory holds twice."""
    pending = deque(pool.submit(decode, record) for record in records[:_AHEAD])
    for record in [*records[_AHEAD:], *[None] * len(pending)]:
        yield pending.popleft().result()
        if record is not None:
            pending.append(pool.submit(decode, record))


def _decode(record: Record, size: int | None, eval_resize_ratio: float) -> Decoded:
    try:
        held = record.content
        content = held if held is None or isinstance(held, bytes) else held.read_bytes()
        if not content:
            raise DataError("it is empty")
        with Image.open(io.BytesIO(content)) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                raise DataError(f"its pixels have more than 8 bits (mode {image.mode}); convert it to 8 bits")
            original_size = image.size
            rgb = image.convert("RGB")
        if size is not None:
            rgb = _bring_to_size(rgb, size, eval_resize_ratio)
        return Decoded(np.asarray(rgb).transpose(2, 0, 1), len(content), original_size)
    except ConfigError:
        raise  # its storage cannot be used: that is no fault of the image
    except _UNREADABLE as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        problem = "it is in no image format that Pillow reads" if text.startswith("cannot identify") else text
        return Decoded(None, 0, (0, 0), problem)


def _bring_to_size(image: Image.Image, size: int, eval_resize_ratio: float) -> Image.Image:
    width, height = image.size
    if (width, height) == (size, size):
        return image
    scale = round(size * eval_resize_ratio) / min(width, height)
    width, height = max(size, round(width * scale)), max(size, round(height * scale))
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))
