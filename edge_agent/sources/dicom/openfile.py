"""A DICOM file that is open, and whether it is still the one that was opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from edge_agent.core.arrivals import Signature
from edge_agent.core.errors import Rejected, SourceLost
from edge_agent.sources.dicom import header as head
from edge_agent.sources.dicom import whole


class Name(msgspec.Struct, frozen=True, kw_only=True):
    """A file, and the words for it: a name inside a watched folder may be a patient's."""

    path: Path
    where: str


class OpenFile:
    """content: from its first byte. signature: changes with the content."""

    def __init__(self, name: Name, max_file_bytes: int) -> None:
        """Raises: SourceLost; Rejected for what is no file, or a larger one."""
        self.name = name
        self.size_bytes = checked_bytes(name, max_file_bytes)
        with head.translated(name.where):
            self.content = name.path.open("rb")
            self.signature = _signature(os.fstat(self.content.fileno()))

    def doubt(self, header: head.Header) -> str:
        """Why it does not look finished, in words, "" when it does. Raises: SourceLost."""
        with head.translated(self.name.where):
            return whole.doubt(self.content, header, self.signature[2])

    def digest(self) -> int:
        """Of its bytes as they are now, never 0. Raises: SourceLost."""
        with head.translated(self.name.where):
            return whole.digest(self.content, os.fstat(self.content.fileno()).st_size)

    def is_unchanged(self) -> bool:
        """Whether it is still there and as it was when it was opened."""
        try:
            return _signature(self.name.path.stat()) == self.signature
        except OSError:
            return False

    def now(self) -> Signature:
        """Of it wherever it is by now; another one than its own: somebody wrote to it.

        Raises: SourceLost.
        """
        with head.translated(self.name.where):
            return _signature(os.fstat(self.content.fileno()))

    def close(self) -> None:
        self.content.close()


def _signature(status: os.stat_result) -> Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def checked_bytes(name: Name, max_file_bytes: int) -> int:
    """Bytes of a regular file. Raises: SourceLost, Rejected."""
    try:
        status = name.path.stat()
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or "no such file"
        raise SourceLost(
            f"open {name.where}: {words}", hint="check source.path; the next try follows"
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise Rejected(f"open {name.where}: expected a file, got a device, pipe or socket")
    if status.st_size > max_file_bytes:
        raise Rejected(
            f"open {name.where}: expected at most {max_file_bytes} bytes, got {status.st_size}",
            hint="raise source.max_file_bytes, or export a shorter clip",
        )
    return status.st_size
