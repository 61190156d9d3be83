"""Images in Parquet and in data sets that Hugging Face's `save_to_disk` wrote; on a local path, or where a URI says."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lpqld.errors import ConfigError, DataError, few
from lpqld.images.class_names import CLASSES_FILE, check_unique, default_names, read_names
from lpqld.images.records import SPLIT_WORDS, Record, Source, in_order
from lpqld.storage import Location

_ARROW_SUFFIX, _STATE_FILE, _SPLITS_FILE = ".arrow", "state.json", "dataset_dict.json"
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})")


def parquet_files(place: Location) -> list[Location]:
    """The Parquet files that a path, a folder or a pattern names; none where it names something else.

    A folder of `datasets.Dataset.save_to_disk` has Arrow files instead, which its `state.json` names.
    """
    if place.is_dir():
        if (place / _SPLITS_FILE).is_file() or (place / _STATE_FILE).is_file():
            return _arrow_files(place)
        shards = sorted(file for file in place.glob("*.parquet") if not file.name.startswith("."))
        _check_shards(place, shards)
        return shards
    return [place] if place.is_file() else _matches(place)


def _arrow_files(folder: Location) -> list[Location]:
    """The files of a saved data set."""
    splits: list[str] = []
    name = _SPLITS_FILE if (folder / _SPLITS_FILE).is_file() else _STATE_FILE
    try:
        document = json.loads((folder / name).read_bytes())
        if name == _SPLITS_FILE:
            splits = [str(split) for split in document["splits"]]
        names = [str(entry["filename"]) for entry in document.get("_data_files", ())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / name}: not what save_to_disk writes ({error})") from error
    if splits or not names:
        raise ConfigError(f"{folder} holds splits ({few(splits)}), no images: name the folder of one of them")
    if unsafe := [file for file in names if PurePosixPath(file).name != file]:
        raise DataError(f"{folder / name}: names a file outside its folder: {unsafe[0]}")
    return [folder / file for file in names]


def _matches(pattern: Location) -> list[Location]:
    """The files that a pattern with wildcards names, in order; of a URI, wildcards in the last part."""
    if isinstance(pattern, Path):
        magic = glob.has_magic(str(pattern))
        names = glob.glob(str(pattern), recursive=True) if magic else []
        return sorted(Path(name) for name in names if Path(name).is_file())
    if not glob.has_magic(pattern.path):
        return []
    if glob.has_magic(pattern.parent.path):
        raise ConfigError(f"{pattern}: in a URI, wildcards stand in the last part only; name the folder")
    return list(pattern.parent.glob(pattern.name))


def _check_shards(folder: Location, shards: Sequence[Location]) -> None:
    """Refuse a folder that mixes splits, which would put test images among the training images, or lacks a shard."""
    splits = {word for file in shards if (word := re.split(r"[-_.]", file.stem)[0].lower()) in SPLIT_WORDS}
    if len(splits) > 1:
        raise ConfigError(
            f"{folder} holds several splits ({', '.join(sorted(splits))}): name the files of one of them,"
            f" for example {folder / (min(splits) + '*.parquet')}"
        )
    present = {file.stem for file in shards}
    for found in filter(None, (_SHARD.fullmatch(stem) for stem in present)):
        stem, count = found.group(1), int(found.group(3))
        missing = [name for index in range(count) if (name := f"{stem}-{index:05d}-of-{count:05d}") not in present]
        if missing:
            raise DataError(f"{folder}: {count} shards expected, {few(missing)} not found; copy or write it again")


def read_parquet(files: Sequence[Location], wanted: Sequence[str] | None) -> Source:
    """The images in all of `files`, as one source; errors as of `image_sources.read_source`."""
    classes_file = files[0].parent / CLASSES_FILE
    tables = [(file, _read_table(file)) for file in files]
    class_names = _class_names(tables, classes_file, wanted)
    records: list[Record] = []
    file_names: list[str] = []
    ids: list[int | None] = []
    for file, table in tables:
        labels = _labels(file, table, class_names)
        contents, paths = _contents(file, table)
        row_names: list[str | None] = table["file"].to_pylist() if "file" in table.column_names else paths
        has_ids = "id" in table.column_names and table["id"].type == pa.int64()
        ids += table["id"].to_pylist() if has_ids else [None] * table.num_rows
        for row, (label, content, name) in enumerate(zip(labels, contents, row_names, strict=True)):
            origin = f"{file} row {row}" + (f" ({name})" if name else "")
            records.append(Record(origin, label, content))
            file_names.append(str(name or ""))
    class_names = class_names or default_names(max((record.label for record in records), default=0) + 1)
    source = in_order(class_names, records, file_names, str(files[0] if len(files) == 1 else files[0].parent))
    known = [number for number in ids if number is not None]
    if not known:
        return source
    if len(known) < len(ids) or len(set(known)) < len(known) or min(known) < 0:
        raise DataError(f"{files[0]}: column id must give every image its own number from 0 up; repair or drop it")
    return Source(class_names, tuple(records), np.array(known, dtype=np.int64))


def _class_names(
    tables: Sequence[tuple[Location, pa.Table]], classes_file: Location, wanted: Sequence[str] | None
) -> tuple[str, ...] | None:
    """As the files say, or what stands beside them."""
    named = {names for file, table in tables if (names := _schema_names(file, table.schema)) is not None}
    if len(named) > 1:
        raise DataError(f"{classes_file.parent}: the Parquet files disagree about the class names; open one at a time")
    if named:
        return named.pop()
    return read_names(classes_file, wanted) if classes_file.is_file() else None


@contextmanager
def _opened(file: Location) -> Iterator[pq.ParquetFile]:
    if isinstance(file, Path):
        with pq.ParquetFile(file) as parquet:
            yield parquet
    else:  # the columns that are wanted, in few large requests
        with file.open() as content, pq.ParquetFile(content, pre_buffer=True) as parquet:
            yield parquet


def _read_table(file: Location, only: str | None = None) -> pa.Table:
    """The columns that matter, or `only` one of them."""
    try:
        if file.name.endswith(_ARROW_SUFFIX):
            with file.open("rb") as content, pa.ipc.open_stream(content) as stream:
                return stream.read_all().select(_columns(file, stream.schema, only))
        with _opened(file) as parquet:
            return parquet.read(columns=_columns(file, parquet.schema_arrow, only))
    except (pa.ArrowException, OSError) as error:
        kind = "an Arrow stream" if file.name.endswith(_ARROW_SUFFIX) else "Parquet"
        raise DataError(f"{file}: cannot be read as {kind} ({str(error).splitlines()[0]})") from error


def _columns(file: Location, schema: pa.Schema, only: str | None) -> list[str]:
    """The names of the columns that are read."""
    if any(column not in schema.names for column in ("image", "label")):
        raise DataError(
            f"{file}: expected the columns image and label, found {', '.join(schema.names) or 'none'}; rename them"
        )
    wanted = (only,) if only else ("image", "label", "file", "id")
    return [column for column in wanted if column in schema.names]


def _schema_names(file: Location, schema: pa.Schema) -> tuple[str, ...] | None:
    """Class names from the metadata that Hugging Face `datasets` puts into the schema."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        names: Any = json.loads(text)["info"]["features"]["label"].get("names")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return check_unique(names, str(file))
    return None


def _labels(file: Location, table: pa.Table, class_names: tuple[str, ...] | None) -> list[int]:
    if not pa.types.is_integer(table["label"].type):
        raise DataError(f"{file}: column label must hold integers, found {table['label'].type}")
    labels: list[int | None] = table["label"].to_pylist()
    limit = len(class_names) if class_names else None
    checked = []
    for row, label in enumerate(labels):
        if label is None or label < 0 or (limit is not None and label >= limit):
            rule = f"in 0 ... {limit - 1} (there are {limit} class names)" if limit else "0 or more"
            raise DataError(f"{file} row {row}: label must be {rule}, found {'nothing' if label is None else label}")
        checked.append(label)
    return checked


def _contents(file: Location, table: pa.Table) -> tuple[list[bytes | None], list[str | None]]:
    column = table["image"]
    if pa.types.is_struct(column.type) and "bytes" in [field.name for field in column.type]:
        rows: list[dict[str, Any]] = [value or {} for value in column.to_pylist()]
        return [row.get("bytes") for row in rows], [row.get("path") for row in rows]
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return column.to_pylist(), [None] * len(column)
    raise DataError(f"{file}: column image must hold encoded bytes or a struct of bytes and path, found {column.type}")


def count_parquet(files: Sequence[Location]) -> tuple[int, int]:
    """Classes and images, without reading the images."""
    tables = [(file, _read_table(file, only="label")) for file in files]
    class_names = _class_names(tables, files[0].parent / CLASSES_FILE, None)
    labels = [label for file, table in tables for label in _labels(file, table, class_names)]
    return len(class_names) if class_names else max(labels, default=0) + 1, len(labels)
