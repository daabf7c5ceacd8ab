"""Which file of a watched folder is shown next.

A file that is still growing is left alone; a bad one is told once and remembered until it changes.
File names may hold a patient's name: they never leave this module, a file is "file 3 of 12".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec

from edge_agent.core.errors import BadFrame, ConfigError, Rejected, SourceLost
from edge_agent.ports import Clock
from edge_agent.sources.dicom.clip import Clip, Name, Signature

MAX_ENTRIES = 10_000  # of the folder that are looked at
SCAN_US = 500_000
STABLE_US = 500_000  # a file that has not changed for so long is whole
SETTLED_US = 2_000_000  # one whose last change is so long ago is whole at first sight


class Seen(msgspec.Struct, kw_only=True):
    """What is known of one file. since_us: when this signature was first seen."""

    signature: Signature
    since_us: int
    state: Literal["waiting", "shown", "bad"] = "waiting"


class Folder:
    """Gives clips in name order, then those that come."""

    def __init__(
        self,
        path: Path,
        *,
        pattern: str,
        loop: bool,
        clock: Clock,
        open_clip: Callable[[Name], Clip],
    ) -> None:
        self._path = path
        self._pattern = pattern
        self._loop = loop
        self._clock = clock
        self._open_clip = open_clip
        self._seen: dict[str, Seen] = {}  # in name order; no longer than the listing
        self._scanned_us: int | None = None
        self.is_clipped = False  # the folder has more than MAX_ENTRIES

    def __len__(self) -> int:
        return len(self._seen)

    def next_clip(self) -> Clip | None:
        """The next file that opens; None when there is nothing to show now.

        Raises: BadFrame for a bad file, once; SourceLost when the folder is gone.
        """
        now_us = self._clock.boot_us()
        if self._scanned_us is None or now_us - self._scanned_us >= SCAN_US:
            self._scan(now_us)
        name = self._pick(now_us)
        if name is None and self._loop:
            self._rewind()
            name = self._pick(now_us)
        return None if name is None else self._open(name)

    def _pick(self, now_us: int) -> str | None:
        for name, seen in self._seen.items():
            if seen.state == "waiting" and self._is_whole(seen, now_us):
                return name
        return None

    def _rewind(self) -> None:
        for seen in self._seen.values():
            if seen.state == "shown":
                seen.state = "waiting"

    def _open(self, name: str) -> Clip:
        seen = self._seen[name]
        position = list(self._seen).index(name) + 1
        where = f"file {position} of {len(self._seen)} in the watched folder"
        try:
            clip = self._open_clip(Name(path=self._path / name, where=where))
        except (Rejected, ConfigError, SourceLost) as bad:
            seen.state = "bad"
            raise BadFrame(bad.what, hint=bad.hint) from None
        seen.state = "shown"
        return clip

    def _is_whole(self, seen: Seen, now_us: int) -> bool:
        if now_us - seen.since_us >= STABLE_US:
            return True
        offset_us, _ = self._clock.utc_offset_us()
        changed_us = seen.signature[3] // 1000
        return offset_us is not None and now_us + offset_us - changed_us >= SETTLED_US

    def _scan(self, now_us: int) -> None:
        found = self._listing()
        for name, signature in found.items():
            known = self._seen.get(name)
            if known is None or known.signature != signature:
                self._seen[name] = Seen(signature=signature, since_us=now_us)
        self._seen = {name: self._seen[name] for name in sorted(found)}
        self._scanned_us = now_us

    def _listing(self) -> dict[str, Signature]:
        try:
            with os.scandir(self._path) as entries:
                some = list(islice(entries, MAX_ENTRIES + 1))
        except OSError as error:
            raise SourceLost(
                f"list the watched folder: {error.strerror}",
                hint="mount it again, or correct source.path",
            ) from None
        self.is_clipped = len(some) > MAX_ENTRIES
        found: dict[str, Signature] = {}
        for entry in some[:MAX_ENTRIES]:
            if entry.name.startswith(".") or not fnmatch(entry.name, self._pattern):
                continue
            try:
                status = entry.stat()
                if entry.is_file():
                    found[entry.name] = (
                        status.st_dev,
                        status.st_ino,
                        status.st_size,
                        status.st_mtime_ns,
                    )
            except OSError:  # gone between the listing and the look
                continue
        return found
