"""A small file system of a test's own, where it may mount one, and what fills it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(place: Path, size_bytes: int) -> Iterator[bool]:
    """Mounted at `place`, which it makes; yields whether that was allowed."""
    place.mkdir()
    options = f"size={size_bytes},mode=0700"
    command = ["mount", "-t", "tmpfs", "-o", options, "edge-agent-test", str(place)]
    can = (
        os.geteuid() == 0
        and not subprocess.run(command, capture_output=True, check=False).returncode
    )
    try:
        yield can
    finally:
        if can:
            subprocess.run(["umount", "-l", str(place)], check=True)


def make_read_only(place: Path, *, read_only: bool = True) -> None:
    """A disk that was mounted, and of which nobody writes anything just now."""
    how = "ro" if read_only else "rw"
    subprocess.run(["mount", "-o", f"remount,{how}", str(place)], check=True)


def fill_up(path: Path) -> None:
    """Somebody else's file takes the rest, to the last byte."""
    chunk = 1 << 16
    with path.open("wb", buffering=0) as file:
        while chunk:
            try:
                file.write(bytes(chunk))
            except OSError:
                chunk //= 2
