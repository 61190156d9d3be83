"""A real S3-compatible server on 127.0.0.1, in a thread that ends with the tests' process."""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.request import Request, urlopen

import pyarrow.fs
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUCKET = "bucket"


@dataclass
class ObjectStore:
    """Where it listens, and what it was asked: (method, path, bytes of the answer)."""

    address: str
    requests: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def query(self) -> str:
        """What leads a URI to it."""
        return f"endpoint_override={self.address}&scheme=http"

    def uri(self, path: str, bucket: str = BUCKET) -> str:
        return f"s3://{bucket}/{path}?{self.query}"

    @property
    def filesystem(self) -> Any:
        """A file system of the tests' own."""
        return pyarrow.fs.S3FileSystem(
            endpoint_override=self.address, scheme="http", region="us-east-1", allow_bucket_creation=True
        )

    def files(self, path: str) -> dict[str, bytes]:
        """Every object below `path`, by name from there."""
        selector = pyarrow.fs.FileSelector(f"{BUCKET}/{path}", recursive=True)
        found = [info.path for info in self.filesystem.get_file_info(selector) if info.is_file]
        return {name.removeprefix(f"{BUCKET}/{path}/"): self.read(name) for name in found}

    def read(self, place: str) -> bytes:
        with self.filesystem.open_input_file(place) as file:
            return file.read()

    def write(self, path: str, content: bytes) -> None:
        with self.filesystem.open_output_stream(f"{BUCKET}/{path}") as file:
            file.write(content)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Know nobody: every request is denied."""
        self._authenticate_after("0")
        try:
            yield
        finally:
            self._authenticate_after("inf")

    def _authenticate_after(self, num_requests: str) -> None:
        url = f"http://{self.address}/moto-api/reset-auth"
        headers = {"Content-Type": "text/plain"}
        urlopen(Request(url, data=num_requests.encode(), headers=headers)).close()

    def delete(self, path: str) -> None:
        self.filesystem.delete_file(f"{BUCKET}/{path}")


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def running_store() -> Iterator[ObjectStore]:
    """A server with an empty bucket, for as long as the context lasts."""
    application = DomainDispatcherApplication(create_backend_app)

    def counted(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            sent = int({name.lower(): value for name, value in headers}.get("content-length", 0))
            method = environ["REQUEST_METHOD"]
            store.requests.append((method, environ["PATH_INFO"], 0 if method == "HEAD" else sent))
            return start_response(status, headers, *rest)

        return application(environ, start)

    server = make_server("127.0.0.1", 0, counted, threaded=True, request_handler=_Silent)
    store = ObjectStore(f"127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        store.filesystem.create_dir(BUCKET)
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
