"""A file of nothing, given back when the file system is full, so that making room has room."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from edge_agent.stores.files import make_way

SPARE_FACTOR = 3  # made again once so many times its size is free


class Ballast:
    """Raises nothing: without it the spool works too, but for that one day.

    is_there: as of the last look, for any thread.
    """

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self.is_there = False

    def release(self) -> bool:
        """True when that gave room."""
        self.is_there = False
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def restore(self) -> bool:
        """Makes it when it is not there and room is plenty; true when it is there."""
        with contextlib.suppress(OSError):
            make_way(self._path)
        self.is_there = self._path.exists()
        if self._size_bytes == 0 or self.is_there:
            return self.is_there
        try:
            free = os.statvfs(self._path.parent)
            if free.f_bavail * free.f_frsize < SPARE_FACTOR * self._size_bytes:
                return False
            self._make()
        except OSError:
            self.release()
            return False
        self.is_there = True
        return True

    def _make(self) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._size_bytes)
        finally:
            os.close(fd)
