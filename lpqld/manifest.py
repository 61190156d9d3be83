"""What a label set says of itself: `manifest.json`, written last, with a checksum over its own content."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpqld.codec import Codec, codec_from_json
from lpqld.codec.bitpack import pack, unpack
from lpqld.errors import DataError
from lpqld.images import ImageSet
from lpqld.store import canonical_json, fingerprint
from lpqld.views import ViewRule

FORMAT, VERSION = "lpqld-labels", 0
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True)
class ImagesRef:
    """The images that labels were made for: enough to find them again and to refuse any others."""

    source: str
    fingerprint: str
    size: int
    image_bytes: int
    class_names: tuple[str, ...]
    ids: tuple[int, ...]
    resize: str | None = None

    @classmethod
    def of(cls, images: ImageSet) -> ImagesRef:
        """Describe `images`."""
        ids = tuple(int(image_id) for image_id in images.ids)
        return cls(
            images.source, images.fingerprint, images.size, images.image_bytes, images.class_names, ids, images.resize
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values; ids as packed bits, or nothing where they are 0 ... N - 1."""
        document = {**asdict(self), "class_names": list(self.class_names), "ids": None}
        if self.ids != tuple(range(len(self.ids))):
            bits = max(self.ids).bit_length()
            if bits > 32:
                raise DataError(f"{self.source}: image id {max(self.ids)} is beyond the largest that fits, 2**32 - 1")
            document["ids"] = {"bits": bits, "packed": base64.b64encode(pack(np.array(self.ids), bits)).decode()}
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any], num_images: int) -> ImagesRef:
        """The inverse of `to_json`."""
        packed = document["ids"]
        ids = np.arange(num_images)
        if packed is not None:
            ids = unpack(base64.b64decode(packed["packed"]), num_images, packed["bits"])
        class_names = tuple(document["class_names"])
        return cls(**{**document, "class_names": class_names, "ids": tuple(int(image_id) for image_id in ids)})


@dataclass(frozen=True)
class LabelSpec:
    """Everything that decides a label set's content, and the student recipe that earned it its place.

    Attributes:
        num_images, num_classes: of the image set.
        num_views: labels in all; position p is view p // num_images of image order[p % num_images] (views.Views).
        full_views: views per image before pruning, what `prune_ratio` refers to.
        seed: of the views.
        batch_size: the teacher's batches; they are part of what makes a repeated job byte-identical.
        shard_views: labels per shard.
        teacher: specification and fingerprint.
        recipe: the student recipe, or None.
    """

    num_images: int
    num_classes: int
    num_views: int
    full_views: int
    codec: Codec
    view_rule: ViewRule
    seed: int
    batch_size: int
    shard_views: int
    images: ImagesRef
    teacher: dict[str, Any]
    recipe: dict[str, Any] | None = None

    @property
    def prune_ratio(self) -> float:
        """Share of views not kept, in [0, 1)."""
        return 1 - self.num_views / (self.num_images * self.full_views)

    @property
    def shard_sizes(self) -> list[int]:
        """Labels in each shard."""
        full, rest = divmod(self.num_views, self.shard_views)
        return [self.shard_views] * full + ([rest] if rest else [])

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the labels; the recipe does not."""
        return fingerprint(canonical_json(replace(self, recipe=None).to_json()))

    def to_json(self) -> dict[str, Any]:
        """The manifest without its shards."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "num_images": self.num_images,
            "num_classes": self.num_classes,
            "num_views": self.num_views,
            "full_views": self.full_views,
            "codec": self.codec.to_json(),
            "view_rule": self.view_rule.to_json(),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "shard_views": self.shard_views,
            "images": self.images.to_json(),
            "teacher": self.teacher,
            "recipe": self.recipe,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> LabelSpec:
        """The inverse of `to_json`.

        Raises:
            DataError: another format or version.
        """
        if document.get("format") != FORMAT or document.get("version") != VERSION:
            found = f"{document.get('format')!r} version {document.get('version')!r}"
            raise DataError(f"expected format {FORMAT!r} version {VERSION}, found {found}")
        fields = {key: value for key, value in document.items() if key not in ("format", "version")}
        return cls(
            **{
                **fields,
                "codec": codec_from_json(document["codec"]),
                "view_rule": ViewRule.from_json(document["view_rule"]),
                "images": ImagesRef.from_json(document["images"], document["num_images"]),
            }
        )


@dataclass(frozen=True)
class Shard:
    """One Parquet file of labels."""

    file: str
    num_views: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A label set's specification and its shards."""

    spec: LabelSpec
    shards: tuple[Shard, ...] = field(default=())

    def to_bytes(self) -> bytes:
        """The text of `manifest.json`."""
        content = {**self.spec.to_json(), "shards": [asdict(shard) for shard in self.shards]}
        return canonical_json({**content, "sha256": fingerprint(canonical_json(content))})

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest in `folder`.

        Raises:
            DataError: there is none, or it is damaged.
        """
        path = folder / MANIFEST_FILE
        try:
            content = path.read_bytes()
            document = json.loads(content)
            # Not one byte may differ, even where it means the same: 1e-05 and 1E-05 are one bit apart.
            unchanged = canonical_json(document) == content
            checksum, shards = document.pop("sha256"), document.pop("shards")
            if not unchanged or checksum != fingerprint(canonical_json({**document, "shards": shards})):
                raise DataError(f"{path}: its checksum does not match its content; the file is damaged or was edited")
            return cls(LabelSpec.from_json(document), tuple(Shard(**shard) for shard in shards))
        except FileNotFoundError as error:
            raise DataError(f"{folder} is not a finished label set: it has no {MANIFEST_FILE}") from error
        except DataError as error:
            raise DataError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not a label set's manifest: {error}") from error


def image_ids(reference: ImagesRef) -> NDArray[np.int64]:
    """The ids as an array, in the order of the label set."""
    return np.array(reference.ids, dtype=np.int64)
