"""Brings a package here: as a delta against one that is installed where that is smaller, or whole.

Either way its bytes are those that were signed before anybody unpacks them. A delta that does not
work out is no failure: the package comes whole.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edge_agent.core import modeldelta
from edge_agent.core.chunks import ChunkTable
from edge_agent.core.errors import Damaged, Rejected
from edge_agent.errands import Errand
from edge_agent.links import blobs
from edge_agent.links.blobs import Download
from edge_agent.stores.installed import Installed

if TYPE_CHECKING:
    from edge_agent.links.fetch import Source, Sources
    from edge_agent.links.trust import Target

Say = Callable[..., None]
TELL_EVERY_S = 0.5
PIECE_BYTES = 1 << 20
MAX_TOLD = 60


class Whole(NamedTuple):
    """A file, in chunks where it has a table of them."""

    url: str
    length: int
    sha256: str
    chunks: ChunkTable | None


def told(word: object) -> str:
    """What somebody else wrote, short."""
    return repr(word)[:MAX_TOLD]


def sha_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _is_there(tar: Path, target: Target) -> bool:
    """One that the disk no longer gives is fetched anew."""
    try:
        return tar.stat().st_size == target.length and sha_of(tar) == target.sha256
    except OSError:
        return False


class Carrier:
    """One errand's way from the sources into the store's folder for it."""

    def __init__(self, errand: Errand, sources: Sources, store: Installed, say: Say) -> None:
        self._pace = errand.place.pace_bytes_per_s
        self._sources = sources
        self._store = store
        self._say = say
        self._fetched = 0
        self._next_s = 0.0

    def bring(self, target: Target, chunks: ChunkTable | None, tar: Path) -> dict[str, Any]:
        """Facts for the report; the package is `tar`, with the hash that was signed.

        Raises: Rejected, LinkDown, Overloaded.
        """
        via = "full"
        if _is_there(tar, target):
            via = "here"  # a process that died had it already
        elif self._by_delta(target, tar):
            via = "delta"
        else:
            whole = Whole(target.url, target.length, target.sha256, chunks)
            self._download(whole, tar.parent / "whole").replace(tar)
        return {"length_bytes": target.length, "fetched_bytes": self._fetched, "via": via}

    def _by_delta(self, target: Target, tar: Path) -> bool:
        """Whether the package could be made of one that is here. Raises: LinkDown."""
        for blob in target.deltas():
            if blob.length >= target.length or self._store.folder(blob.base) is None:
                continue
            try:
                delta = Whole(blob.url, blob.length, blob.sha256, None)
                path = self._download(delta, tar.parent / f"delta-{blob.base[:16]}")
                base = b"".join(self._store.pack(blob.base))
                made = modeldelta.apply(base, path.read_bytes(), max_bytes=target.length)
            except (Rejected, Damaged, MemoryError):
                continue
            if hashlib.sha256(made).hexdigest() == target.sha256:
                tar.write_bytes(made)
                return True
        return False

    def _download(self, whole: Whole, folder: Path) -> Path:
        folder.mkdir(exist_ok=True, mode=0o700)
        with Download(
            folder, length=whole.length, sha256=whole.sha256, chunks=whole.chunks,
            pace_bytes_per_s=self._pace,
        ) as download:  # fmt: skip
            try:
                return download.run(*_places(self._sources, whole.url), told=self._told)
            finally:
                self._fetched += download.fetched_bytes

    def _told(self, have: int, of: int) -> None:
        if have == of or time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + TELL_EVERY_S
            self._say("bytes", done=have, of=of)


def _places(sources: Sources, url: str) -> list[blobs.Source]:
    """Each place for itself, so that the one that sends something else is known by name."""

    def fetch(place: Source, offset: int, max_bytes: int) -> Iterator[bytes]:
        return place.open(url, offset=offset, max_bytes=max_bytes)

    return [blobs.Source(place.name, partial(fetch, place)) for place in sources.order]
