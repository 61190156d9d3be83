"""The pyarrow file system that a URI names: S3, Google Cloud Storage, HDFS, Azure, and whatever fsspec knows."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow.fs as pafs

from lpqld.errors import ConfigError

# A store that does not answer is told after a minute or so: a silent one after ATTEMPTS times REQUEST_SECONDS.
_CONNECT_SECONDS, _REQUEST_SECONDS, _ATTEMPTS = 5, 15, 4
_S3_OPTIONS = ("endpoint_override", "scheme", "region", "anonymous")
_GCS_OPTIONS = ("endpoint_override", "scheme", "anonymous")
# What decides how a store is opened, beside its URI: a file system is opened once for each.
_ENVIRONMENT = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}


@dataclass(frozen=True)
class Store:
    """An opened file system.

    Attributes:
        filesystem: pyarrow's.
        root: what it puts before every path: a bucket, or nothing.
        objects: whether it stores objects, which are there once they are uploaded, and has no folders to make.
    """

    filesystem: Any
    root: str
    objects: bool


def open_store(scheme: str, authority: str, query: str) -> Store:
    """The file system of `scheme://authority/...?query`, opened once a process; nothing is asked of it yet.

    Raises:
        ConfigError: an unknown scheme or option, an absent library, or no bucket.
    """
    return _open_store(scheme, authority, query, tuple((name, os.environ.get(name)) for name in _ENVIRONMENT))


@lru_cache(maxsize=64)
def _open_store(scheme: str, authority: str, query: str, environment: tuple[tuple[str, str | None], ...]) -> Store:
    given = {name: value for name, value in environment if value}
    return _OPENERS.get(scheme, _open_with_fsspec)(scheme, authority, query, given)


def explain(uri: str, doing: str, error: Exception) -> ConfigError:
    """What a store's error means, and what to do about it."""
    text = f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else str(error)
    known = "gs" if uri.startswith(("gs:", "gcs:")) else "s3"
    if any(word in text for word in ("NO_SUCH_BUCKET", "bucket does not exist", "not found: Bucket", "NoSuchBucket")):
        what = "there is no such bucket; create it or correct its name"
    elif any(
        word in text
        for word in (
            "DENIED",
            "ACCESS_KEY",
            "SIGNATURE",
            "TOKEN",
            "UNAUTHENTICATED",
            "HTTP status 401",
            "HTTP status 403",
        )
    ):
        what = f"the store refuses these credentials; set {_CREDENTIALS[known]}, on every node of a cluster"
    elif any(word in text for word in ("NETWORK_CONNECTION", "UNAVAILABLE", "CURL error", "timed out", "Connect")):
        own = "AWS_ENDPOINT_URL or ?endpoint_override=HOST:PORT&scheme=http"
        what = f"no store answers there; check the network and, for a store of your own, {own}"
    elif "REDIRECT" in text or "AuthorizationHeaderMalformed" in text:
        what = "the bucket is in another region; set AWS_REGION or add ?region=NAME"
    else:
        what = "check the URI, the credentials and the network"
    return ConfigError(f"{uri}: cannot be {doing}: {what} ({text.splitlines()[0][:300]})")


def _open_s3(scheme: str, authority: str, query: str, environment: Mapping[str, str]) -> Store:
    bucket, options = _bucket(scheme, authority), _options(scheme, query, _S3_OPTIONS)
    server = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
    if server and "endpoint_override" not in options:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"AWS_ENDPOINT_URL: expected http://HOST:PORT or https://HOST, found {server!r}")
        options = {"endpoint_override": parts.netloc, "scheme": parts.scheme, **options}
    region = options.get("region") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    if region is None and "endpoint_override" not in options:
        try:
            region = pafs.resolve_s3_region(bucket)
        except OSError as error:
            raise explain(f"{scheme}://{bucket}", "reached", error) from error
    filesystem = pafs.S3FileSystem(
        region=region or "us-east-1",
        endpoint_override=options.get("endpoint_override"),
        scheme=options.get("scheme", "https"),
        anonymous=options.get("anonymous") == "true",
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # one request for a small file
    )
    return Store(filesystem, bucket, objects=True)


def _open_gcs(scheme: str, authority: str, query: str, environment: Mapping[str, str]) -> Store:
    bucket, options = _bucket(scheme, authority), _options(scheme, query, _GCS_OPTIONS)
    filesystem = pafs.GcsFileSystem(
        anonymous=options.get("anonymous") == "true",
        endpoint_override=options.get("endpoint_override"),
        scheme=options.get("scheme", "https"),
        retry_time_limit=timedelta(seconds=_ATTEMPTS * _REQUEST_SECONDS),
    )
    return Store(filesystem, bucket, objects=True)


def _open_azure(scheme: str, authority: str, query: str, environment: Mapping[str, str]) -> Store:
    filesystem, root = _from_uri(scheme, authority, query)
    return Store(filesystem, root.strip("/"), objects=True)


def _open_hdfs(scheme: str, authority: str, query: str, environment: Mapping[str, str]) -> Store:
    filesystem, _ = _from_uri(scheme, authority, query)
    return Store(filesystem, "", objects=False)


def _from_uri(scheme: str, authority: str, query: str) -> tuple[Any, str]:
    uri = f"{scheme}://{authority}/" + (f"?{query}" if query else "")
    try:
        filesystem, root = pafs.FileSystem.from_uri(uri)
    except Exception as error:
        reason = str(error).splitlines()[0]
        need = (
            "; it needs a Java and Hadoop's libhdfs on every node" if "libjvm" in reason or "libhdfs" in reason else ""
        )
        raise ConfigError(f"{uri}: pyarrow cannot open this file system ({reason}){need}") from error
    return filesystem, str(root)


def _open_with_fsspec(scheme: str, authority: str, query: str, environment: Mapping[str, str]) -> Store:
    import fsspec  # noqa: PLC0415  (optional, as what it imports for a scheme is)

    if query:
        raise ConfigError(
            f"{scheme}://: takes no options after a question mark, found {query!r}; fsspec's own configuration has them"
        )
    uri = f"{scheme}://{authority}/"
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        raise ConfigError(
            f"{uri}: {error}. Install what fsspec needs for {scheme}:// here and on every node of a cluster"
        ) from error
    except ValueError as error:
        known = ", ".join(f"{name}://" for name in ("s3", "gs", "abfs", "hdfs", "file"))
        raise ConfigError(
            f"{uri}: unknown scheme ({error}); expected a path, {known} or one that fsspec knows"
        ) from error
    except Exception as error:
        raise explain(uri, "reached", error) from error
    return Store(pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), str(root).rstrip("/"), objects=False)


def _bucket(scheme: str, authority: str) -> str:
    bucket = authority.rpartition("@")[2]
    if not bucket:
        raise ConfigError(f"{scheme}://: names no bucket; expected {scheme}://BUCKET/PREFIX")
    return bucket


def _options(scheme: str, query: str, known: tuple[str, ...]) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(
            f"{scheme}://: unknown option {', '.join(unknown)} after the question mark; known are {', '.join(known)}"
        )
    return options


_OPENERS: dict[str, Callable[[str, str, str, Mapping[str, str]], Store]] = {
    "s3": _open_s3,
    "s3a": _open_s3,
    "gs": _open_gcs,
    "gcs": _open_gcs,
    "abfs": _open_azure,
    "abfss": _open_azure,
    "hdfs": _open_hdfs,
    "viewfs": _open_hdfs,
}
