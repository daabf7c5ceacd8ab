"""A disk that refuses some of its effects, with the number that the kernel would give."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from edge_agent.stores.files import Disk


class FailingDisk(Disk):
    """what: the effects that fail, from number `first` of them on, `times` of them.

    only: a part of the name of the file; effects on others neither fail nor count.
    """

    def __init__(
        self, number: int, *what: str, first: int = 0, times: int = 1 << 30, only: str = ""
    ) -> None:
        self.failed: list[str] = []
        self.paused_s = 0.0
        self._number = number
        self._what = what
        self._first = first
        self._times = times
        self._only = only
        self._seen = 0

    def create(self, path: Path, *, mode: int = 0o600) -> BinaryIO:
        self._may("create", path)
        return super().create(path, mode=mode)

    def write(self, file: BinaryIO, content: bytes) -> None:
        self._may("write", Path(file.name))
        super().write(file, content)

    def sync(self, file: BinaryIO) -> None:
        self._may("sync", Path(file.name))

    def rename(self, old: Path, new: Path) -> None:
        self._may("rename", new)
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._may("unlink", path)
        super().unlink(path)

    def mkdir(self, path: Path) -> None:
        self._may("mkdir", path)
        super().mkdir(path)

    def sync_folder(self, path: Path) -> None:
        self._may("sync_folder", path)

    def read(self, path: Path, max_bytes: int) -> bytes:
        self._may("read", path)
        return super().read(path, max_bytes)

    def pause(self, seconds: float) -> None:
        self.paused_s += seconds

    def _may(self, what: str, path: Path) -> None:
        if what not in self._what or self._only not in path.name:
            return
        self._seen += 1
        if self._first < self._seen <= self._first + self._times:
            self.failed.append(f"{what} {path.name}")
            raise OSError(self._number, os.strerror(self._number), str(path))
