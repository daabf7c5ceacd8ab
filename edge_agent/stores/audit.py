"""The audit log on disk: lines are only ever added, and never taken away by us.

    <state_dir>/audit.log            written now
    <state_dir>/audit.000000001.log  full ones, 8 MB, by their first entry; each file says in its
                                     first line where the one before it ended
    <state_dir>/audit.head           count and hash of what was promised

A batch of entries is flushed before the head moves, and `append` returns after that: what it
returned is there after a power cut. What a cut left unfinished was never promised; it is cut off,
and an entry says so. What was promised and is no longer there, or reads otherwise, stays as it is
for whoever looks into it: the log goes on in a new file, from the promised head, and says so.

Old entries are not deleted to make place for new ones: who floods a log must not be able to empty
it. At its limit the log refuses, loudly, until somebody carries the oldest files to an archive;
what is left still verifies, from where it begins. One writer (the state directory's lock); anyone
may read meanwhile. It blocks: `services.audit` stands between it and the event loop.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edge_agent.core import audit
from edge_agent.core.audit import Draft, Head, Stamp
from edge_agent.core.errors import EdgeAgentError, Overloaded, of_system
from edge_agent.stores.condition import explain
from edge_agent.stores.files import DISK, Disk, make_way, read_bounded, write_atomic

LIVE = "audit.log"
HEAD = "audit.head"
FILE_BYTES = 8 << 20
LIMIT_BYTES = 256 << 20  # some 800 000 entries
MAX_HEAD_BYTES = 1024
US = "edge-agent"
ARCHIVE_HINT = "move the oldest audit.NNNNNNNNN.log files of the state directory to an archive"

_FULL = re.compile(r"audit\.(\d{9})\.log")


def log_files(folder: Path) -> list[Path]:
    """Every file of a log, oldest first. Raises: OSError."""
    full = sorted(
        path for path in folder.iterdir() if _FULL.fullmatch(path.name) and path.is_file()
    )
    live = folder / LIVE
    return [*full, *([live] if live.is_file() else [])]


def promised(folder: Path) -> Head | None:
    """The head as it was last promised; None: nobody says.

    Raises: OSError.
    """
    with contextlib.suppress(FileNotFoundError, ValueError, EdgeAgentError):
        return audit.parse_head(json.loads(read_bounded(folder / HEAD, MAX_HEAD_BYTES)))
    return None


def files_of(folder: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Every file of a log as it was at one moment, oldest first, also while it is written.

    Raises: OSError.
    """
    with contextlib.ExitStack() as held:
        live: BinaryIO | None = None
        with contextlib.suppress(FileNotFoundError):  # none, or just between two
            if (folder / LIVE).is_file():  # a pipe in its place would be waited for
                live = held.enter_context((folder / LIVE).open("rb"))
        for path in log_files(folder):
            if path.name == LIVE:
                continue
            with path.open("rb") as file:
                yield path.name, file
                if live is not None and os.path.sameopenfile(file.fileno(), live.fileno()):
                    return  # it has filled up meanwhile; what comes after it is of a later moment
        if live is not None:
            yield LIVE, live


def lines_of(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file without their ends, and whether each had one. Bounded, whatever is there.

    Raises: OSError.
    """
    while line := file.readline(audit.MAX_LINE_BYTES + 1):
        yield line.removesuffix(b"\n"), line.endswith(b"\n")


def check(folder: Path, known: Sequence[Head] = ()) -> audit.Check:
    """Follows the whole log, also while it is written: a last line without its end is not there.

    Raises: OSError.
    """
    found = promised(folder)  # first: the log only grows
    checking = audit.Check([*known, *([found] if found else [])])
    for name, file in files_of(folder):
        for number, (line, is_whole) in enumerate(lines_of(file)):
            if number == 0:
                checking.begin(name, line)
            elif is_whole or name != LIVE:
                checking.entry(line)
    checking.end()
    return checking


class _Scan(NamedTuple):
    """How far a file is sound: `end` in bytes, `head` after it. begins: the head before it.

    agrees: what was promised of it is in it.
    """

    end: int
    begins: Head
    head: Head
    agrees: bool


class AuditLog:
    """The writer. stamp: now, for what the log says of itself.

    Raises (every method): Damaged when the disk fails, Overloaded when it is full.
    """

    def __init__(
        self,
        folder: Path,
        *,
        stamp: Callable[[], Stamp],
        file_bytes: int = FILE_BYTES,
        limit_bytes: int = LIMIT_BYTES,
        disk: Disk = DISK,
    ) -> None:
        self._folder = folder
        self._live = folder / LIVE
        self._stamp = stamp
        self._file_bytes = file_bytes
        self._limit_bytes = limit_bytes
        self._disk = disk
        self._file: BinaryIO | None = None
        self._first = 1  # entry of the live file
        self._end = self._full_bytes = 0
        self.head = Head()

    def open(self) -> Head:
        """Finds the end of the log, and writes down what is wrong with it; called by `append`."""
        if self._file is None:
            with self._saying("open"):
                said = self._recover()
                if said:
                    self._add(said)
        return self.head

    def append(self, entries: Sequence[Draft]) -> Head:
        """All of them are on the disk when it returns. When it raises, none is promised; of a disk
        that failed, they may stand there all the same, and twice when they are given again.
        """
        self.open()
        with self._saying("write"):
            self._add(entries)
        return self.head

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    # ── the end of the log ────────────────────────────────────────────────────────────────────

    def _add(self, entries: Sequence[Draft]) -> None:
        if self._end >= self._file_bytes:
            self._turn(self.head)
        assert self._file is not None
        lines, head = [], self.head
        for entry in entries:
            line, head = audit.line_of(entry, head)
            lines.append(line)
        content = b"".join(lines)
        if self.bytes + len(content) > self._limit_bytes:
            raise Overloaded(
                f"write audit log: expected at most {self._limit_bytes} bytes, {self.bytes} are "
                f"there: {len(entries)} entries are not written",
                hint=ARCHIVE_HINT,
            )
        self._disk.write(self._file, content)
        self._disk.sync(self._file)
        self._end += len(content)
        self.head = head
        self._promise()

    def _promise(self) -> None:
        content = json.dumps(self.head.words()).encode() + b"\n"
        write_atomic(self._folder / HEAD, content, disk=self._disk)

    def _turn(self, after: Head) -> str:
        """The live file is full, or not to be touched any more; the next one follows `after`.

        Returns what it is called now.
        """
        self.close()
        full = _full(self._folder, self._first)
        self._disk.rename(self._live, full)
        self._disk.sync_folder(self._folder)
        self._full_bytes += self._end
        self._begin(after)
        return full.name

    def _begin(self, after: Head) -> None:
        content = audit.first_line(after)
        write_atomic(self._live, content, disk=self._disk)
        self._go_on(after.entries + 1, len(content), after)

    def _go_on(self, first: int, end: int, head: Head) -> None:
        self._file = self._disk.extend(self._live)
        self._first, self._end, self.head = first, end, head

    @property
    def bytes(self) -> int:
        """Of all files."""
        return self._full_bytes + self._end

    # ── after a start, or a disk that failed ──────────────────────────────────────────────────

    def _recover(self) -> list[Draft]:
        """Goes on where the log ends; what has to be said of it."""
        for leftover in self._folder.glob(".audit.*"):
            self._disk.unlink(leftover)
        for path in (self._live, self._folder / HEAD):
            make_way(path, disk=self._disk)
        known, files = promised(self._folder), log_files(self._folder)
        self._full_bytes = sum(path.stat().st_size for path in files if path != self._live)
        self._end = 0
        if not files:
            return self._start_anew(known)
        last = files[-1]
        scan, size = _scan(last, known), last.stat().st_size
        is_short = known is not None and (not scan.agrees or scan.head.entries < known.entries)
        if last != self._live:  # cut off between two files
            self._begin(known if is_short and known else scan.head)
            return [self._say("audit-damaged", last.name, **_counts(scan, known))][: int(is_short)]
        self._first, self._end = scan.begins.entries + 1, size
        if scan.end == 0:  # nothing of it can be read, not even that
            self._first = 1 + max(map(_first_of, files))
        if is_short or (scan.end < size and known is None):
            name = self._turn(known or scan.head)
            return [self._say("audit-damaged", name, **_counts(scan, known))]
        self._go_on(self._first, scan.end, scan.head)
        if scan.end < size:
            return self._cut(scan.end)
        if known is None and scan.head != scan.begins:
            return [self._say("audit-head-lost", HEAD, **_counts(scan, known))]
        if known is None:
            self._promise()
        return []

    def _start_anew(self, known: Head | None) -> list[Draft]:
        self._begin(known or Head())
        self._promise()
        if known is None or not known.entries:
            return []
        return [self._say("audit-lost", LIVE, entries=known.entries)]

    def _cut(self, end: int) -> list[Draft]:
        """What a power cut left of a batch that nobody was promised."""
        assert self._file is not None
        with self._live.open("rb") as file:
            file.seek(end)
            torn = file.read(self._file_bytes)
        self._disk.cut(self._file, end)
        self._disk.sync(self._file)
        digest = hashlib.sha256(torn).hexdigest()[:16]
        return [self._say("audit-torn", LIVE, cut_bytes=len(torn), sha256=digest)]

    def _say(self, what: str, name: str, **detail: object) -> Draft:
        return audit.draft(self._stamp(), US, what, name, detail)

    @contextlib.contextmanager
    def _saying(self, verb: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()  # what is on the disk now, the next one finds out
            fix = explain(error, self._folder).fix
            raise of_system(f"{verb} audit log", error, fix) from error


def _scan(path: Path, known: Head | None) -> _Scan:
    """How far a file follows its own first line, and whether it holds what is known of it.

    Raises: OSError.
    """
    with path.open("rb") as file:
        return _scanned(lines_of(file), known)


def _scanned(lines: Iterator[tuple[bytes, bool]], known: Head | None) -> _Scan:
    first, is_whole = next(lines, (b"", False))
    begins = audit.parse_first(first) if is_whole else None
    if begins is None:
        return _Scan(0, Head(), Head(), agrees=False)
    head, end = begins, len(first) + 1
    agrees = known is None or known.entries != head.entries or known.hash == head.hash
    for line, is_whole in lines:
        after, why = audit.follow(line, head)
        if why or not is_whole:
            break
        head, end = after, end + len(line) + 1
        if known is not None and known.entries == head.entries:
            agrees = known.hash == head.hash
    return _Scan(end, begins, head, agrees)


def _full(folder: Path, first: int) -> Path:
    """What a file is called once it is full: by its first entry, or the next free number."""
    while (path := folder / f"audit.{first:09}.log").exists():
        first += 1
    return path


def _first_of(path: Path) -> int:
    """By its name; 0: the live one."""
    match = _FULL.fullmatch(path.name)
    return int(match[1]) if match else 0


def _counts(scan: _Scan, known: Head | None) -> dict[str, object]:
    return {"sound": scan.head.entries, "promised": known.entries if known else None}
