"""Bytes by name from several places: HTTP(S), a folder (a USB stick), later the peers.

    Sources([FolderSource(stick), HttpSource("https://hot-tier:8443/repository")]).fetch(
        "targets/models/us-chamber/ab….eam", offset=0, max_bytes=1 << 20)

Blocks: for a process of its own. It trusts nothing and verifies nothing: who asked compares hashes.
Everything has a bound: what is read, how long one waits for it, and how slowly it may come.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, urlsplit

from edge_agent.core.errors import ConfigError, LinkDown
from edge_agent.core.trust import checked_path

CHUNK_BYTES: Final = 64 << 10
WAIT_S: Final = 15.0  # for a connection, and for the next bytes
GRACE_S: Final = 30.0  # of waiting that is forgiven, all in all
MIN_BYTES_PER_S: Final = 1000  # on the time spent waiting beyond that
MAX_SKIP_BYTES: Final = 1 << 30  # of a server that ignores ranges
MAX_SHOWN: Final = 80


class NotHere(LinkDown):
    """No such file at this place; another one may have it."""


class Source(Protocol):
    """A place that has a repository: metadata/*.json and targets/**."""

    name: str  # in messages; no password

    def open(self, path: str, *, offset: int, max_bytes: int) -> Iterator[bytes]:
        """At most `max_bytes` from `offset`; ends early where the file ends.

        Raises: NotHere, LinkDown; Refused for a path that is none.
        """
        ...


class Sources:
    """`ports.Fetcher`: the first that answers. One that failed is asked last from then on."""

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise ValueError("sources: expected at least one")
        self._order = list(sources)

    @property
    def order(self) -> tuple[Source, ...]:
        """As they would be asked now."""
        return tuple(self._order)

    def fetch(self, url: str, *, offset: int = 0, max_bytes: int) -> Iterator[bytes]:
        """url: the path of a file below the root of the repository.

        Raises: NotHere when no source has it; LinkDown when none answers, or one breaks off (what
        came until then is good: ask again from there); Refused.
        """
        failed: list[LinkDown] = []
        for source in self.order:
            try:
                return self.ask(source, url, offset=offset, max_bytes=max_bytes)
            except LinkDown as error:
                failed.append(error)
        raise next((error for error in failed if not isinstance(error, NotHere)), failed[0])

    def ask(self, source: Source, url: str, *, offset: int = 0, max_bytes: int) -> Iterator[bytes]:
        """From this one alone. Raises: NotHere, LinkDown, Refused."""
        chunks = source.open(checked_path(url), offset=offset, max_bytes=max_bytes)
        try:
            first = next(chunks, b"")
        except NotHere:
            raise
        except LinkDown:
            self._last(source)
            raise
        return self._rest(source, chain([first], chunks), max_bytes)

    def lead(self, source: Source, url: str, *, max_bytes: int) -> Iterator[bytes]:
        """From this one; from another only what it does not have, and nobody is waited for twice.

        Raises: LinkDown when it is down; NotHere when no one that answers has it; Refused.
        """
        try:
            return self.ask(source, url, max_bytes=max_bytes)
        except NotHere as error:
            missing = error
        for other in self.order:
            with suppress(LinkDown):
                return self.ask(other, url, max_bytes=max_bytes)
        raise missing

    def distrust(self) -> None:
        """What came last was not what was asked for: ask another one first."""
        self._last(self._order[0])

    def _rest(self, source: Source, chunks: Iterator[bytes], max_bytes: int) -> Iterator[bytes]:
        try:
            for chunk in chunks:
                if chunk:
                    yield chunk[:max_bytes]
                max_bytes -= len(chunk)
                if max_bytes <= 0:
                    return
        except LinkDown:
            self._last(source)
            raise

    def _last(self, source: Source) -> None:
        self._order = [other for other in self._order if other is not source] + [source]


# ── HTTP ──────────────────────────────────────────────────────────────────────────────────────


class HttpSource:
    """One base URL. ca_file: who may have signed the server's certificate; None: the system's.

    Redirects are not followed: a repository stands where the operator says.
    """

    def __init__(self, url: str, *, ca_file: str | None = None, wait_s: float = WAIT_S) -> None:
        """Raises: ConfigError for a URL that is none; LinkDown for a CA file that is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigError(
                "", f"repository at {url[:MAX_SHOWN]!r}: expected http://HOST[:PORT]/PATH"
            )
        self._tls = _tls(ca_file) if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._wait_s = wait_s
        where = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        self.name = f"{parts.scheme}://{where}{self._base}"

    def open(self, path: str, *, offset: int, max_bytes: int) -> Iterator[bytes]:
        """Raises: NotHere, LinkDown, Refused."""
        connection = self._connection()
        try:
            yield from self._read(connection, checked_path(path), offset, max_bytes)
        except (OSError, http.client.HTTPException) as error:  # ssl.SSLError is an OSError
            words = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise LinkDown(
                f"fetch {path} from {self.name}: {words[:MAX_SHOWN]}",
                hint="is the hot tier reachable from here?",
            ) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is not None:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=self._wait_s, context=self._tls
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=self._wait_s)

    def _read(
        self, connection: http.client.HTTPConnection, path: str, offset: int, max_bytes: int
    ) -> Iterator[bytes]:
        headers = {"User-Agent": "edge-agent", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-{offset + max_bytes - 1}"
        connection.request("GET", f"{self._base}/{quote(path)}", headers=headers)
        with connection.getresponse() as answer:
            yield from self._body(answer, path, offset, max_bytes)

    def _body(
        self, answer: http.client.HTTPResponse, path: str, offset: int, max_bytes: int
    ) -> Iterator[bytes]:
        if answer.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # it ends before
        self._judge(answer, path, offset)
        skip = offset if answer.status == http.HTTPStatus.OK else 0
        pace = Pace(path, self.name)
        while skip or max_bytes:
            started = time.monotonic()
            chunk = answer.read1(min(CHUNK_BYTES, skip or max_bytes))
            pace.took(len(chunk), time.monotonic() - started)
            if not chunk:
                if answer.length:  # what is left of Content-Length
                    raise LinkDown(f"fetch {path} from {self.name}: broke off")
                return
            if skip:
                skip -= len(chunk)
                continue
            max_bytes -= len(chunk)
            yield chunk

    def _judge(self, answer: http.client.HTTPResponse, path: str, offset: int) -> None:
        status = answer.status
        if status in (403, 404, 410):
            raise NotHere(
                f"fetch {path} from {self.name}: expected it there, got {status}",
                hint="does the address lead to a repository?",
            )
        if status == http.HTTPStatus.PARTIAL_CONTENT:
            start = re.match(r"bytes (\d+)-", answer.getheader("Content-Range", ""))
            if start and int(start[1]) == offset:
                return
            raise LinkDown(f"fetch {path} from {self.name}: expected bytes from {offset}")
        if status != http.HTTPStatus.OK or offset > MAX_SKIP_BYTES:
            hint = "give the address that it redirects to" if status // 100 == 3 else ""
            raise LinkDown(
                f"fetch {path} from {self.name}: expected 200 or 206, got {status}", hint=hint
            )


class Pace:
    """Who drips is as good as away. Counts only the time spent waiting, not what is done between.

    Raises: LinkDown when it has been too slow for too long.
    """

    def __init__(self, path: str, where: str) -> None:
        self._words = f"fetch {path} from {where}"
        self._bytes = 0
        self._waited_s = 0.0

    def took(self, size: int, waited_s: float) -> None:
        self._bytes += size
        self._waited_s += waited_s
        if self._waited_s > GRACE_S + self._bytes / MIN_BYTES_PER_S:
            raise LinkDown(
                f"{self._words}: expected {MIN_BYTES_PER_S} B/s, got {self._bytes} B in "
                f"{self._waited_s:.0f} s"
            )


def _tls(ca_file: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        words = error.strerror or str(error)
        raise LinkDown(f"read {ca_file}: {words}", hint="PEM, readable by the agent?") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


# ── a folder ──────────────────────────────────────────────────────────────────────────────────


class FolderSource:
    """A repository copied to a folder: a USB stick, a share, what came by hand-over.

    No link inside it is followed, and nothing but plain files is read: whoever fills a stick must
    not choose what else of this machine is looked at.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.name = f"folder {folder.name}"

    def open(self, path: str, *, offset: int, max_bytes: int) -> Iterator[bytes]:
        """Raises: NotHere, LinkDown, Refused."""
        try:
            descriptor = self._descend(checked_path(path))
            with os.fdopen(descriptor, "rb") as file:
                file.seek(offset)
                while max_bytes and (chunk := file.read(min(CHUNK_BYTES, max_bytes))):
                    max_bytes -= len(chunk)
                    yield chunk
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotHere(
                f"read {path} in {self.name}: not there", hint="copy the whole repository there"
            ) from error
        except OSError as error:
            hint = "is it mounted, readable, and free of links?"
            raise LinkDown(f"read {path} in {self.name}: {error.strerror}", hint=hint) from error

    def _descend(self, path: str) -> int:
        """A descriptor of the file. Raises: OSError."""
        *folders, name = path.split("/")
        here = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inside = os.open(folder, flags, dir_fd=here)
                os.close(here)
                here = inside
            # looked at first: some devices do something when they are merely opened
            mode = os.stat(name, dir_fd=here, follow_symlinks=False).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):  # a link is said to be one below
                raise FileNotFoundError
            # O_NONBLOCK: a named pipe that took its place must not be waited for
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            found = os.open(name, flags, dir_fd=here)
        finally:
            os.close(here)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            os.close(found)
            raise FileNotFoundError
        return found
