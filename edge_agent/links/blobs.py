"""Files that come down a bad road: in chunks, from several sources, over cuts and deaths.

What arrived stays arrived, in the folder of the download. Nobody is believed: no byte more is taken
than was asked for, a chunk with another hash names its source and comes again from the next, and
the whole has the sha256 that somebody signed or is not handed out.

Knows neither HTTP nor MQTT: a source is a function. Blocks, so it belongs into the rollout's own
process or a thread. Never retries by itself: when no source is left, it says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from edge_agent.core.chunks import ChunkTable, one_chunk
from edge_agent.core.errors import Damaged, LinkDown, Rejected
from edge_agent.links.partial import Partial

Fetch = Callable[[int, int], Iterator[bytes]]  # (offset, max_bytes) to pieces from there on

MAX_EMPTY_PIECES: Final = 1000  # in a row; then the source is as good as silent
BURST_S: Final = 0.25  # that the pace may be overdrawn after a rest
MAX_ROUNDS: Final = 3  # the second and third are for chunks that the disk lost after their flush


class Source(NamedTuple):
    """fetch: raises LinkDown when it is away, Rejected when it does not have the file."""

    name: str
    fetch: Fetch


class Pace:
    """At most so many bytes a second; 0: as fast as they come."""

    def __init__(
        self, bytes_per_s: int, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._sleep = sleep
        self._due = 0.0

    def spend(self, count: int) -> None:
        """Sleeps until these are due."""
        if not self._rate:
            return
        now = self._clock()
        self._due = max(self._due, now - BURST_S) + count / self._rate
        if self._due > now:
            self._sleep(self._due - now)


class Download:
    """One file on its way into `folder`, which it has for itself. Use it with `with`, or close it.

    Raises, whatever is done: Overloaded when the disk is full, OSError when it fails.
    """

    def __init__(
        self,
        folder: Path,
        *,
        length: int,
        sha256: str,
        chunks: ChunkTable | None = None,
        pace_bytes_per_s: int = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """length, sha256 (hex), chunks: from signed metadata. Without chunks: for small files.

        Raises: Rejected when the table is of another length.
        """
        self._table = chunks or one_chunk(length, bytes.fromhex(sha256))
        self._what = f"download {sha256[:16]}"
        if self._table.length != length:
            raise Rejected(
                f"{self._what}: expected a table of {length} bytes, got one of {self._table.length}"
            )
        self._pace = Pace(pace_bytes_per_s, clock, sleep)
        self._partial = Partial(folder, sha256, self._table)
        self.fetched_bytes = 0  # by this object, what had to come twice included
        self.blamed: dict[str, str] = {}  # source to what it did; it is not asked again

    def __enter__(self) -> Download:  # noqa: PYI034 - Self is not in typing before 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """What is here stays for the next one."""
        self._partial.close()

    def missing(self) -> list[int]:
        """The chunks that are not here, in order."""
        return [index for index, mark in enumerate(self._partial.marks) if not mark]

    @property
    def have_bytes(self) -> int:
        """In whole chunks."""
        spans = (self._table.span(i) for i, mark in enumerate(self._partial.marks) if mark)
        return sum(end - start for start, end in spans)

    def run(self, *sources: Source | Fetch, told: Callable[[int, int], None] | None = None) -> Path:
        """Brings what is missing, each chunk from the first source that gives it; the whole file.

        told: (have, of) in bytes, after each chunk.
        Raises: LinkDown when no source gives what is missing; Rejected when all that are left give
        something else, or when the table is not the file's; Damaged when the disk does not keep it.
        """
        named = [
            source if isinstance(source, Source) else Source(f"source {number}", source)
            for number, source in enumerate(sources, start=1)
        ]
        for _ in range(MAX_ROUNDS):
            for index in self.missing():
                self._bring(index, named)
                if told:
                    told(self.have_bytes, self._table.length)
            if self._partial.is_whole():
                return self._partial.path
        raise Damaged(
            f"{self._what}: expected the disk to keep what was flushed, it lost some of it "
            f"{MAX_ROUNDS} times",
            hint="look at the disk: dmesg, smartctl -a",
        )

    def _bring(self, index: int, sources: list[Source]) -> None:
        """Raises: LinkDown, Rejected."""
        last = "there is no source"
        for source in sources:
            try:
                if source.name not in self.blamed and self._is_brought(index, source):
                    return
            except (LinkDown, Rejected) as error:
                last = f"{source.name}: {error.what}"
        what = f"{self._what}, chunk {index + 1} of {len(self._table)}"
        if sources and all(source.name in self.blamed for source in sources):
            deeds = "; ".join(f"{name} sent {deed}" for name, deed in self.blamed.items())
            raise Rejected(
                f"{what}: expected the bytes that were signed, got others: {deeds}",
                hint="publish the package again, or remove these sources",
            )
        raise LinkDown(f"{what}: {last}")

    def _is_brought(self, index: int, source: Source) -> bool:
        """Else the source is blamed. Raises: LinkDown, Rejected.

        Bytes that were here before may be another source's: with them a wrong hash blames nobody,
        and the chunk comes whole.
        """
        before = self._partial.under_way(index)
        self._receive(index, source, before)
        if self._partial.keep(index):
            return True
        if before:
            self._receive(index, source, 0)
            if self._partial.keep(index):
                return True
        self.blamed[source.name] = f"another chunk {index + 1}"
        return False

    def _receive(self, index: int, source: Source, have: int) -> None:
        """A chunk into its place, from its byte `have` on. Raises: LinkDown, Rejected."""
        start, end = self._table.span(index)
        for piece in _pieces(source, start + have, end - start - have):
            self._pace.spend(len(piece))
            self.fetched_bytes += len(piece)
            self._partial.write(index, piece, have)
            have += len(piece)
        if have < end - start:
            raise LinkDown(f"it ended after {have} of {end - start} bytes")


def _pieces(source: Source, at: int, most: int) -> Iterator[bytes]:
    """Never more than `most` bytes, and no silence that goes on for ever.

    Raises: LinkDown, Rejected.
    """
    empty = 0
    for piece in source.fetch(at, most):
        empty = 0 if piece else empty + 1
        if empty > MAX_EMPTY_PIECES:
            raise LinkDown(f"{empty} empty pieces in a row")
        if piece:
            yield piece[:most]
        most -= min(most, len(piece))
        if not most:
            return
