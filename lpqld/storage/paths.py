"""Where files are: a local path, or a URI on shared storage that is used like one.

A function that reads or writes label sets or images takes a `Location`, or text for `location`: a `pathlib.Path`, or a
`RemotePath` with the part of its methods that they need, so that one code serves both.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs

from lpqld.errors import ConfigError, LpqldError
from lpqld.storage.filesystems import Store, explain, open_store

TEMPORARY_SUFFIX = ".partial"
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://([^/?]*)([^?]*)(?:\?(.*))?", re.DOTALL)
_FLATTENED_URI = re.compile(r"([a-z][a-z0-9+.-]+):/(?!/)")  # what pathlib makes of one
_READ_AT_ONCE = 4 << 20  # a file up to so many bytes comes in one request, not in several for its parts


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder that a URI names; like a `pathlib.Path`, it needs not exist, and opens nothing until used.

    Methods raise FileNotFoundError where there is no such file, and ConfigError where the storage cannot be used. It
    holds no credentials, and pickles as its text: whoever reads it must have them.
    """

    scheme: str
    authority: str
    path: str
    query: str = ""

    def __post_init__(self) -> None:
        if ".." in self.path.split("/"):
            raise ConfigError(f"{self}: a URI cannot lead upwards with ..; write where it leads to")

    def __str__(self) -> str:
        query = f"?{self.query}" if self.query else ""
        return f"{self.scheme}://{self.authority}" + (f"/{self.path}" if self.path else "") + query

    def __truediv__(self, name: str) -> RemotePath:
        path = "/".join(filter(None, [self.path, *str(name).split("/")]))
        return RemotePath(self.scheme, self.authority, path, self.query)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """`name` without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The last dot of `name` and what follows it."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> RemotePath:
        """The folder that it is in."""
        return RemotePath(self.scheme, self.authority, self.path.rpartition("/")[0], self.query)

    def absolute(self) -> RemotePath:
        """Itself."""
        return self

    def is_file(self) -> bool:
        """Whether it is a file."""
        return bool(self._type() == pafs.FileType.File)

    def is_dir(self) -> bool:
        """Whether it is a folder; in an object store, whether any object's name begins with it."""
        return bool(self._type() == pafs.FileType.Directory)

    def exists(self) -> bool:
        """Whether it is a file or a folder."""
        return bool(self._type() != pafs.FileType.NotFound)

    def read_bytes(self) -> bytes:
        """All of a file."""
        with self.open("rb") as file, self._explained("read"):
            return bytes(file.read())

    def read_text(self, encoding: str = "utf-8") -> str:
        """All of a text file."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "rb") -> Any:
        """A file open for reading, from any place in it; a small one is read at once."""
        if mode != "rb":
            raise ValueError(f"{self}: opened for reading bytes only, found mode {mode!r}; write_bytes writes")
        with self._explained("read"):
            file = self._store.filesystem.open_input_file(self._place)
            if file.size() > _READ_AT_ONCE:
                return file
            with file:
                return pa.BufferReader(file.read_buffer())

    def write_bytes(self, content: bytes) -> None:
        """Put `content` there, replacing what was there: all of it, or nothing."""
        memoryview(content)  # a TypeError comes before anything is opened: what is open is stored, however it ends
        store, place = self._store, self._place
        with self._explained("written"):
            if store.objects:
                _upload(store, place, content)  # there once the upload is complete
                return
            folder, _, name = place.rpartition("/")
            if folder:
                store.filesystem.create_dir(folder, recursive=True)
            temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}"
            try:
                _upload(store, temporary, content)
                with contextlib.suppress(FileNotFoundError):  # HDFS and SFTP do not move over a file
                    store.filesystem.delete_file(place)
                store.filesystem.move(temporary, place)
            except BaseException:
                with contextlib.suppress(Exception):
                    store.filesystem.delete_file(temporary)
                raise

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete a file."""
        with contextlib.suppress(*([FileNotFoundError] if missing_ok else [])), self._explained("deleted"):
            self._store.filesystem.delete_file(self._place)

    def iterdir(self) -> Iterator[RemotePath]:
        """What is in a folder, in the order of names; nothing where there is no such folder."""
        return (self / name for name in sorted(info.path.rpartition("/")[2] for info in self._list(recursive=False)))

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What is in a folder, or in folders in it where `pattern` has slashes, with names that it matches."""
        first, _, rest = pattern.partition("/")
        for entry in (self / name for name in self.subfolders()) if rest else self.iterdir():
            if fnmatchcase(entry.name, first):
                yield from entry.glob(rest) if rest else [entry]

    def subfolders(self) -> list[str]:
        """The names of the folders in a folder, in order."""
        found = [info for info in self._list(recursive=False) if info.type == pafs.FileType.Directory]
        return sorted(info.path.rpartition("/")[2] for info in found)

    def file_sizes(self) -> dict[str, int]:
        """See `file_sizes`."""
        files = [info for info in self._list(recursive=True) if info.type == pafs.FileType.File]
        return {info.path[len(self._place) :].lstrip("/"): int(info.size or 0) for info in files}

    @property
    def _store(self) -> Store:
        return open_store(self.scheme, self.authority, self.query)

    @property
    def _place(self) -> str:
        root = self._store.root
        return f"{root}/{self.path}" if self.path else root

    def _type(self) -> Any:
        with self._explained("read"):
            filesystem = self._store.filesystem
            found = filesystem.get_file_info(self._place).type
            if found == pafs.FileType.NotFound and self._store.objects and self.path:
                # A missing bucket would pass for an empty one until something is written.
                with contextlib.suppress(OSError):  # one may be allowed to use a bucket, and not to look at it
                    if filesystem.get_file_info(self._store.root).type == pafs.FileType.NotFound:
                        raise ConfigError(
                            f"{self}: there is no bucket {self._store.root}; create it or correct its name"
                        )
            return found

    def _list(self, recursive: bool) -> list[Any]:
        with self._explained("listed"):
            selector = pafs.FileSelector(self._place, recursive=recursive, allow_not_found=True)
            return list(self._store.filesystem.get_file_info(selector))

    @contextlib.contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Every library behind a URI has errors of its own: make two kinds of them all."""
        try:
            yield
        except LpqldError:
            raise
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(self)) from error
        except Exception as error:
            raise explain(str(self), doing, error) from error


Location: TypeAlias = Path | RemotePath


def location(where: str | os.PathLike[str] | RemotePath) -> Location:
    """A path, or a URI such as `s3://bucket/labels`, as a `Location`.

    `file://` is a local path. Nothing is opened yet.

    Raises:
        ConfigError: a URI with a password in it, with `..`, or that went through `pathlib`.
    """
    if isinstance(where, RemotePath):
        return where
    text = os.fspath(where)
    found = _URI.fullmatch(text)
    if found is None:
        check_local(Path(text))
        return Path(text)
    scheme, authority, path, query = (part or "" for part in found.groups())
    scheme = scheme.lower()
    if scheme == "file":
        if authority not in ("", "localhost"):
            raise ConfigError(f"{text}: file:// is for this machine and needs three slashes: file:///{authority}{path}")
        return Path(unquote(path))
    if ":" in authority.rpartition("@")[0]:
        raise ConfigError(
            f"{scheme}://...@{authority.rpartition('@')[2]}: a URI must hold no password, which manifests, reports and"
            " logs would repeat; put it into the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return RemotePath(scheme, authority, "/".join(part for part in path.split("/") if part not in ("", ".")), query)


def check_local(path: Path) -> None:
    """Refuse what `pathlib` makes of a URI, such as `s3:/bucket`, which would become a local folder of that name.

    Raises:
        ConfigError: it does not stay on this machine.
    """
    found = _FLATTENED_URI.match(str(path))
    if found and not Path(path.parts[0]).exists():
        scheme, rest = found.group(1), str(path)[found.end() :]
        raise ConfigError(f"{scheme}://{rest}: a local path is expected; a URI, where one may stand, is passed as text")


def file_sizes(folder: Location) -> dict[str, int]:
    """Bytes of every file in a folder and the folders below it, by path from there; nothing where there is none."""
    if isinstance(folder, RemotePath):
        return folder.file_sizes()
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


def _upload(store: Store, place: str, content: bytes) -> None:
    # Not `with`: after a write that failed, nothing may close the file and so make it visible.
    stream = store.filesystem.open_output_stream(place)
    stream.write(content)
    stream.close()
