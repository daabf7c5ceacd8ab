"""A file as chunks of one size, each with its sha256: what came is kept, what is wrong is named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from edge_agent.core.errors import Rejected

CHUNK_BYTES: Final = 1 << 20
HASH_BYTES: Final = 32
MAX_CHUNKS: Final = 1 << 20


class ChunkTable(msgspec.Struct, frozen=True):
    """The sha256 of each chunk, one after the other; the last chunk may be shorter."""

    length: int
    chunk_bytes: int
    hashes: bytes

    def __len__(self) -> int:
        return len(self.hashes) // HASH_BYTES

    def span(self, index: int) -> tuple[int, int]:
        """Where this chunk begins and ends."""
        start = index * self.chunk_bytes
        return start, min(self.length, start + self.chunk_bytes)

    def hash_of(self, index: int) -> bytes:
        return self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]


def read_table(raw: bytes, *, length: int, chunk_bytes: int = CHUNK_BYTES) -> ChunkTable:
    """The table of a file of `length` bytes, as it was published.

    Raises: Rejected when it is not as long as such a file's.
    """
    if length < 0 or chunk_bytes < 1 or -(-length // chunk_bytes) > MAX_CHUNKS:
        raise Rejected(
            f"read chunk table: expected at most {MAX_CHUNKS} chunks, got {length} bytes in chunks "
            f"of {chunk_bytes}"
        )
    expected = -(-length // chunk_bytes) * HASH_BYTES
    if len(raw) != expected:
        raise Rejected(f"read chunk table: expected {expected} bytes, got {len(raw)}")
    return ChunkTable(length, chunk_bytes, bytes(raw))


def write_table(pieces: Iterable[bytes], chunk_bytes: int = CHUNK_BYTES) -> ChunkTable:
    """The table of a file that comes in pieces of any size."""
    hashes, length, left = [], 0, chunk_bytes
    running = hashlib.sha256()
    for piece in pieces:
        view = memoryview(piece)
        length += len(view)
        while view:
            running.update(view[:left])
            view, left = view[left:], left - min(left, len(view))
            if not left:
                hashes.append(running.digest())
                running, left = hashlib.sha256(), chunk_bytes
    if left < chunk_bytes:
        hashes.append(running.digest())
    return ChunkTable(length, chunk_bytes, b"".join(hashes))


def one_chunk(length: int, sha256: bytes) -> ChunkTable:
    """A file that has no table: the whole of it is its only chunk."""
    return ChunkTable(length, max(1, length), sha256 if length else b"")
