"""What of a file is here: its bytes in `part`, a mark for each of its chunks in `have`.

First the bytes are flushed, then their mark, so a mark that a power cut took costs its chunk and
nothing else. Of the chunk that is under way the number of its bytes is kept too, not flushed: a
process that dies leaves it behind, and a number that is wrong after a power cut ends in a wrong
hash, which costs that chunk. Must never believe a mark at the end: the whole is hashed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from edge_agent.core.chunks import ChunkTable
from edge_agent.core.errors import NoRoom, Rejected
from edge_agent.links import aside

BLOCK_BYTES: Final = 1 << 18
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_HEAD: Final = struct.Struct(">4s32sQQ")  # mark, sha256, length, chunk_bytes
_AT: Final = struct.Struct(">QQ")  # the chunk under way, how much of it is there
_MARK: Final = b"EAB\x01"


class Partial:
    """The two files in a folder that nobody else uses.

    Raises: NoRoom when the disk is full, OSError when it fails.
    """

    def __init__(self, folder: Path, sha256: str, table: ChunkTable) -> None:
        self._table = table
        self._sha256 = sha256
        self.path = folder / "part"
        folder.mkdir(mode=0o700, exist_ok=True)
        for path in (self.path, folder / "have"):
            aside.no_file(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._part = os.open(self.path, flags, 0o600)
        self._state = os.open(folder / "have", flags, 0o600)
        with self._room():
            self.marks = self._recalled(folder)

    def close(self) -> None:
        """What is here stays for the next one."""
        for descriptor in (self._part, self._state):
            if descriptor >= 0:
                os.close(descriptor)
        self._part = self._state = -1

    def write(self, index: int, piece: bytes, at: int) -> None:
        """More of a chunk, `at` bytes behind its beginning."""
        start, _ = self._table.span(index)
        with self._room():
            _write(self._part, piece, start + at)
            self._note(index, at + len(piece))

    def under_way(self, index: int) -> int:
        """How much of this chunk is here, from its beginning on."""
        raw = os.pread(self._state, _AT.size, _HEAD.size)
        noted, count = _AT.unpack(raw) if len(raw) == _AT.size else (0, 0)
        start, end = self._table.span(index)
        return count if noted == index and count < end - start else 0

    def keep(self, index: int) -> bool:
        """Marks a chunk that is as its table says; of another one nothing is kept."""
        if not self._is_chunk(index):
            self._note(index, 0)
            return False
        with self._room():
            os.fdatasync(self._part)
            self._mark(index, there=True)
            os.fdatasync(self._state)
        return True

    def is_whole(self) -> bool:
        """Whether all is here; what the disk lost is unmarked. Raises: Rejected."""
        if not all(self.marks):
            return False
        if _hash(self._part, 0, self._table.length) == bytes.fromhex(self._sha256):
            return True
        wrong = [index for index in range(len(self._table)) if not self._is_chunk(index)]
        if not wrong:
            raise Rejected(
                f"download {self._sha256[:16]}: expected a file with this sha256, got chunks that "
                "are all as their table says and another file",
                hint="publish the package again: its chunk table is not its own",
            )
        for index in wrong:
            self._mark(index, there=False)
        return False

    def _is_chunk(self, index: int) -> bool:
        return _hash(self._part, *self._table.span(index)) == self._table.hash_of(index)

    def _mark(self, index: int, *, there: bool) -> None:
        self.marks[index] = there
        _write(self._state, bytes((there,)), _HEAD.size + _AT.size + index)

    def _note(self, index: int, count: int) -> None:
        _write(self._state, _AT.pack(index, count), _HEAD.size)

    def _recalled(self, folder: Path) -> bytearray:
        """The marks of a download of the same file that ended early, or none of them."""
        table = self._table
        head = _HEAD.pack(_MARK, bytes.fromhex(self._sha256), table.length, table.chunk_bytes)
        size = _HEAD.size + _AT.size + len(table)
        before = os.pread(self._state, size, 0)
        if len(before) == size and before.startswith(head):
            return bytearray(mark == 1 for mark in before[_HEAD.size + _AT.size :])
        os.ftruncate(self._state, 0)
        os.ftruncate(self._part, 0)
        _write(self._state, head.ljust(size, b"\0"), 0)
        os.fsync(self._state)
        os.fsync(self._part)
        _sync_names(folder)
        return bytearray(len(table))

    @contextmanager
    def _room(self) -> Iterator[None]:
        """Raises: NoRoom for a full disk."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise NoRoom(
                f"download {self._sha256[:16]}: expected room for {self._table.length} bytes, the "
                "disk is full",
                hint="edge-agent models list; free some space",
            ) from error


def _hash(descriptor: int, start: int, end: int) -> bytes:
    running = hashlib.sha256()
    while start < end:
        block = os.pread(descriptor, min(BLOCK_BYTES, end - start), start)
        if not block:
            break
        running.update(block)
        start += len(block)
    return running.digest()


def _write(descriptor: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        done = os.pwrite(descriptor, view, at)
        view, at = view[done:], at + done


def _sync_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
