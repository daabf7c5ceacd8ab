"""Which file of a watched folder is shown next, and which is left alone for now.

What was there first comes in name order, what turns up later after it, or before it when that would
take long. A file is opened when it has not changed for a while; one that does not look whole then
(being copied, made full-size first and filled later) waits until it changes, or until it has been
quiet for long. Nothing is shown twice: a file that was touched, moved, or is back with its old
content counts as shown.

Pure: what is on the disk, and the time, are arguments. Names never leave through a message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Literal

import msgspec

from edge_agent.core.order import natural

STABLE_US = 500_000  # a file that has not changed for so long is opened
SETTLED_US = 2_000_000  # at the first look: one whose last change is so long ago is opened at once
PATIENCE_US = 10_000_000  # one that does not look whole and has not changed for so long stays so
YOUNG_US = 60_000_000  # since its last change; so long a file is looked at each time
MAX_FILES = 50_000  # remembered
MAX_GONE = MAX_FILES  # that are no more there or were replaced, and may come back
BACKLOG = 64  # so many old files keep new ones waiting, and no more
MAX_TOLD = 16  # words of bad files

Signature = tuple[int, int, int, int]  # device, inode, bytes, mtime in ns
State = Literal["waiting", "shown", "bad", "other"]


class Seen(msgspec.Struct, kw_only=True, gc=False):
    """What is known of one file.

    since_us: since when it has not changed. number: files before it, and itself. doubted: opened as
    it is now, and not whole. digest: of what was shown, or began to be; 0: nothing.
    """

    signature: Signature
    since_us: int
    number: int
    state: State = "waiting"
    doubted: bool = False
    digest: int = 0
    begun: int | None = None


class Arrivals:
    """The files of a watched folder by path."""

    def __init__(self, *, loop: bool, max_files: int = MAX_FILES) -> None:
        self._loop = loop
        self._max_files = max_files
        self._seen: dict[str, Seen] = {}
        self._gone: dict[str, Seen] = {}
        self._replaced: dict[int, Seen] = {}  # by digest: another file has its name now
        self._line: dict[str, None] = {}  # to be opened, in order: what was there first
        self._new: dict[str, None] = {}  # and what came or changed since
        self._doubted: dict[str, None] = {}
        self._young: dict[str, None] = {}
        self._bad: dict[str, str] = {}  # in words, the latest last
        self._floor_ns: int | None = None  # older ones had to be left out
        self._is_first = True
        self.total = 0  # files seen so far
        self.left_out = 0  # at the last cut

    def __len__(self) -> int:
        return len(self._seen)

    def __getitem__(self, path: str) -> Seen:
        return self._seen[path]

    def __contains__(self, path: str) -> bool:
        return path in self._seen

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def count(self, state: State) -> int:
        return sum(seen.state == state for seen in self._seen.values())

    @property
    def _lists(self) -> tuple[dict[str, Any], ...]:
        return self._line, self._new, self._doubted, self._young, self._bad

    @property
    def _queue(self) -> dict[str, None]:
        """Where a file waits that is seen now. A loop has its own order."""
        return self._line if self._loop or self._is_first else self._new

    @property
    def bad_words(self) -> list[str]:
        """Of files that are bad as they are now, the latest last."""
        return list(self._bad.values())

    def young(self, now_us: int) -> list[str]:
        """Paths that have to be looked at each time: their last change is not long ago."""
        for path in list(self._young):
            seen = self._seen.get(path)
            if seen is None or now_us - seen.since_us >= YOUNG_US:
                del self._young[path]
        return list(self._young)

    # ── what is on the disk ───────────────────────────────────────────────────────────────────

    def observe(
        self,
        found: Mapping[str, Signature],
        gone: Iterable[str],
        now_us: int,
        wall_us: int | None = None,
    ) -> None:
        """found: files that were looked at. gone: paths at which nothing is any more.

        wall_us: UTC now, for the first look alone; None: nobody knows.
        """
        moved = {seen.signature: seen for seen in self._leave(gone)}
        new = {}
        for path, signature in found.items():
            if (seen := self._seen.get(path)) is None:
                new[path] = signature
            elif _is_other(seen.signature, signature):
                moved[seen.signature] = self._replace(seen)
                self._change(path, seen, signature, now_us)
            else:
                seen.signature = signature
        for path in sorted(new, key=natural):
            self._come(path, new[path], moved, now_us=now_us, wall_us=wall_us)
        if new and self._loop:
            self._line = dict.fromkeys(sorted(self._line, key=natural))
        self._is_first = False
        self._cut()

    def _replace(self, seen: Seen) -> Seen:
        """Another file stands at its path; what was shown of it may be back under another name."""
        before = msgspec.structs.replace(seen)
        if before.digest:
            self._replaced[before.digest] = before
        for digest in list(islice(self._replaced, max(0, len(self._replaced) - MAX_GONE))):
            del self._replaced[digest]
        return before

    def _leave(self, gone: Iterable[str]) -> Iterator[Seen]:
        for path in gone:
            if (seen := self._seen.pop(path, None)) is None:
                continue
            for names in self._lists:
                names.pop(path, None)
            self._gone[path] = seen
            yield seen
        for path in list(islice(self._gone, max(0, len(self._gone) - MAX_GONE))):
            del self._gone[path]

    def _come(
        self,
        path: str,
        signature: Signature,
        moved: Mapping[Signature, Seen],
        *,
        now_us: int,
        wall_us: int | None,
    ) -> None:
        if self._floor_ns is not None and signature[3] <= self._floor_ns:
            return
        known = self._gone.pop(path, None)
        if known is None or _is_other(known.signature, signature):
            known = moved.get(signature) or known
        self.total += 1
        seen = Seen(signature=signature, since_us=now_us, number=self.total)
        if known is not None:  # it is back, or has another name
            seen.digest, seen.begun = known.digest, known.begun
            if not _is_other(known.signature, signature):
                seen.state, seen.since_us = known.state, known.since_us
                seen.doubted = known.doubted
        elif self._is_first and wall_us is not None:
            age_us = wall_us - signature[3] // 1000
            seen.since_us -= age_us if age_us >= SETTLED_US else 0
        self._seen[path] = seen
        if seen.state == "bad":  # told under its old name
            seen.state = "waiting"
        if seen.state == "waiting":
            (self._doubted if seen.doubted else self._queue)[path] = None
        if now_us - seen.since_us < YOUNG_US:
            self._young[path] = None

    def _change(self, path: str, seen: Seen, signature: Signature, now_us: int) -> None:
        seen.signature, seen.since_us = signature, now_us
        seen.state, seen.doubted = "waiting", False
        for names in self._lists:
            names.pop(path, None)
        self._queue[path] = self._young[path] = None

    def _cut(self) -> None:
        """Keeps the newest; what is older than those is left out from now on."""
        surplus = len(self._seen) - self._max_files
        if surplus <= 0:
            return
        oldest = sorted(self._seen, key=lambda path: self._seen[path].signature[3])[:surplus]
        self._floor_ns = self._seen[oldest[-1]].signature[3]
        self.left_out += surplus
        for path in oldest:
            for names in self._lists:
                names.pop(path, None)
            del self._seen[path]

    # ── what is opened ────────────────────────────────────────────────────────────────────────

    def due(self, now_us: int) -> str | None:
        """The file to be opened next; None: nothing now."""
        lines = [self._line, self._new]
        if len(self._line) > BACKLOG:
            lines.reverse()
        for path in chain(*lines):
            if now_us - self._seen[path].since_us >= STABLE_US:
                return path
        for path in self._doubted:
            if now_us - self._seen[path].since_us >= PATIENCE_US:
                return path
        return None

    def rewind(self) -> None:
        """All that was shown comes again, in name order."""
        again = [path for path, seen in self._seen.items() if seen.state == "shown"]
        for path in again:
            self._seen[path].state = "waiting"
        self._line = dict.fromkeys(sorted([*self._line, *again], key=natural))

    def is_judged(self, path: str, now_us: int) -> bool:
        """Whether it has been quiet for so long that it is taken for what it is."""
        return now_us - self._seen[path].since_us >= PATIENCE_US

    def doubt(self, path: str) -> None:
        """It does not look whole: again when it has changed, or has been quiet for long."""
        self._line.pop(path, None)
        self._new.pop(path, None)
        self._seen[path].doubted = True
        self._doubted[path] = None

    def begin_at(self, path: str, digest: int) -> int | None:
        """The first frame of that content that was not shown before; None: all of it was.

        It may have been shown under this name, or under one that is gone or another file's now.
        """
        if self._loop:
            return 0
        for seen in (self._seen[path], *self._gone.values()):
            if digest == seen.digest:
                return seen.begun
        return self._replaced[digest].begun if digest in self._replaced else 0

    def settle(self, path: str, state: State, *, digest: int = 0, words: str = "") -> None:
        """What became of it. words: why it is bad."""
        seen = self._seen[path]
        for names in (self._line, self._new, self._doubted, self._bad):
            names.pop(path, None)
        seen.state = state
        if digest:
            seen.digest, seen.begun = digest, None
        if state == "bad":
            self._bad[path] = words
            for old in list(islice(self._bad, max(0, len(self._bad) - MAX_TOLD))):
                del self._bad[old]

    def broke_off(self, path: str, frames: int) -> None:
        """It changed after so many of its frames were shown."""
        if (seen := self._seen.get(path)) is not None:
            seen.begun = frames


def _is_other(old: Signature, new: Signature) -> bool:
    """Whether the file may be another one. A device mounted again has another number, or inodes."""
    is_mounted_anew = old[0] != new[0]
    return old[2:] != new[2:] or (not is_mounted_anew and old[1] != new[1])
