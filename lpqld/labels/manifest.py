"""What a label set says of itself: `manifest.json`, written last, with a checksum over its own content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lpqld.errors import ConfigError, DataError
from lpqld.labels.shards import Shard
from lpqld.labels.spec import FORMAT, LabelSpec
from lpqld.labels.spec_reading import read_spec
from lpqld.storage import Fields, Location, canonical_json, fingerprint
from lpqld.views import format_versions

MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 2**24


@dataclass(frozen=True)
class Manifest:
    """A label set's specification and its shards."""

    spec: LabelSpec
    shards: tuple[Shard, ...]

    def to_bytes(self) -> bytes:
        """The text of `manifest.json`.

        Raises:
            ConfigError: it is longer than a reader takes.
        """
        content = {**self.spec.to_json(), "shards": [shard.to_json() for shard in self.shards]}
        text = canonical_json({**content, "sha256": fingerprint(canonical_json(content))})
        if len(text) > MAX_MANIFEST_BYTES:
            raise ConfigError(
                f"a manifest has at most {MAX_MANIFEST_BYTES} bytes, this one needs {len(text)}; choose larger shards"
            )
        return text

    @classmethod
    def read(cls, folder: Location) -> Manifest:
        """The manifest in `folder`.

        Raises:
            DataError: there is none, it is damaged, or of a version that this lpqld does not read.
        """
        path = folder / MANIFEST_FILE
        try:
            with path.open("rb") as file:
                content = file.read(MAX_MANIFEST_BYTES + 1)
        except FileNotFoundError as error:
            raise DataError(f"{folder} is not a finished label set: it has no {MANIFEST_FILE}") from error
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
        try:
            return cls.from_json(_checked(content), folder)
        except DataError as error:
            # What is wrong with the table of views names that file already.
            named = str(error).startswith(str(folder))
            raise DataError(str(error) if named else f"{path}: {error}") from error

    @classmethod
    def from_json(cls, document: dict[str, Any], folder: Location | None = None) -> Manifest:
        """The manifest that a document without its checksum describes.

        Args:
            document: of `manifest.json`.
            folder: of the label set, which sets with a table of views need.

        Raises:
            DataError: a field is wrong, or it is of a version that this lpqld does not read.
        """
        version = _version(document)
        if folder is None and version not in format_versions(with_files=False):
            raise DataError(f"a manifest of version {version} names a table of views, which is in its folder")
        fields = Fields(document)
        entries = fields.value("shards")
        spec = read_spec({key: value for key, value in document.items() if key != "shards"}, folder)
        if not isinstance(entries, list) or len(entries) != spec.num_shards:
            found = f"{len(entries)}" if isinstance(entries, list) else "no list"
            raise DataError(f"shards: {spec.num_views} labels need {spec.num_shards} shards, found {found}")
        shards = (Shard.from_json(Fields(entry, f"shards[{i}]"), spec, i) for i, entry in enumerate(entries))
        return cls(spec, tuple(shards))


def _checked(content: bytes) -> dict[str, Any]:
    """The manifest's document without its checksum, which every version has."""
    if len(content) > MAX_MANIFEST_BYTES:
        raise DataError(f"not a label set's manifest: longer than {MAX_MANIFEST_BYTES} bytes")
    try:
        document = json.loads(content, parse_constant=_refuse)
        # Not one byte may differ, even where it means the same: 1e-05 and 1E-05 are one bit apart.
        unchanged = canonical_json(document) == content
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a label set's manifest: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError(f"not a label set's manifest: expected an object with format {FORMAT!r}")
    checksum = document.pop("sha256", None)
    if not unchanged or checksum != fingerprint(canonical_json(document)):
        raise DataError("its checksum does not match its content; the file is damaged or was edited")
    return document


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _version(document: dict[str, Any]) -> int:
    version = Fields(document).integer("version", 0, 2**31 - 1)
    if version == 0:
        raise DataError("format version 0, from before the format was frozen; make this label set again")
    versions = format_versions(with_files=True)
    if version not in versions:
        known = " and ".join(map(str, versions))
        raise DataError(f"format version {version}; this lpqld reads {known}, a newer one may read it")
    return version
