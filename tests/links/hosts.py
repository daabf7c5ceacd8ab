"""Sources of a download that hold a file, are cut, or lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from edge_agent.core.chunks import ChunkTable, write_table
from edge_agent.core.errors import LinkDown
from edge_agent.links.blobs import Download

KIB = 1024
CONTENT = bytes(range(256)) * 40 + b"the end"  # ten chunks of KIB and a short one


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def table_of(content: bytes = CONTENT) -> ChunkTable:
    return write_table([content], KIB)


def opened(folder: Path, content: bytes = CONTENT, *, table: bool = True) -> Download:
    chunks = table_of(content) if table else None
    return Download(folder, length=len(content), sha256=sha(content), chunks=chunks)


class Host:
    """A source that holds `content` and gives it in pieces; remembers what it was asked."""

    def __init__(self, content: bytes = CONTENT, piece: int = 100) -> None:
        self.content = content
        self.piece = piece
        self.asked: list[tuple[int, int]] = []
        self.cut_after = -1  # bytes from now on; then LinkDown, once

    def __call__(self, offset: int, most: int) -> Iterator[bytes]:
        self.asked.append((offset, most))
        for at in range(offset, offset + most, self.piece):
            piece = self.content[at : min(at + self.piece, offset + most)]
            if 0 <= self.cut_after < len(piece):
                yield piece[: self.cut_after]
                self.cut_after = -1
                raise LinkDown("the cable was pulled")
            self.cut_after -= len(piece) if self.cut_after >= 0 else 0
            yield piece


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]
