"""The repository over plain HTTP, with ranges. What it serves is signed, so the road need not be.

For demos, tests and small sites; a large one puts any web server in front of the folder. Only files
below `metadata/` and `targets/` are served; nothing is listed and nothing is written.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from edge_agent.core.errors import LinkDown, Rejected
from edge_agent.links.fetch import FolderSource

IDLE_S: Final = 30.0
MAX_FILE_BYTES: Final = 4 << 30
_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")


class RepositoryServer(ThreadingHTTPServer):
    """host:port 0 takes a free port; `url` says which. Threads end with their client."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no error of ours; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Raises: LinkDown when the port is taken."""
        self.source = FolderSource(folder)
        self.folder = folder
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            hint = "--port 0 takes a free one"
            raise LinkDown(f"listen on {host}:{port}: {error.strerror}", hint=hint) from error
        self.url = f"http://{host}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: RepositoryServer

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        try:
            self._send(path)
        except (LinkDown, Rejected):
            self.send_error(HTTPStatus.NOT_FOUND)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True

    def _send(self, path: str) -> None:
        if not path.startswith(("metadata/", "targets/")):
            raise Rejected("serve: expected metadata/ or targets/")
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        chunks = self.server.source.open(path, offset=start, max_bytes=MAX_FILE_BYTES)
        first = next(chunks, b"")  # a file that may be read, or LinkDown
        size = (self.server.folder / path).stat().st_size
        if asked and start >= size:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        end = min(size, int(asked[2]) + 1) if asked and asked[2] else size
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(max(0, end - start)))
        self.send_header("Accept-Ranges", "bytes")
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        left = end - start
        for chunk in chain([first], chunks):
            if left <= 0:
                break
            self.wfile.write(chunk[:left])
            left -= len(chunk)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name
        """Nothing: who asked for what is in the devices' own records."""


@contextlib.contextmanager
def serving(folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[RepositoryServer]:
    """In a thread of its own, for as long as the block lasts. Raises: LinkDown."""
    with RepositoryServer(folder, host=host, port=port) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="repository"
        )
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
