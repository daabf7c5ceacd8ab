"""File systems of their own for the state directory and the store, so that they can fill up.

They are mounted where only this process and its children see them, and are gone with the last one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
from pathlib import Path
from typing import Final

CLONE_NEWNS: Final = 0x00020000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 1 << 18, 2
STATE_BYTES: Final = 192 << 20
STORE_BYTES: Final = 128 << 20
FILLER: Final = ".filler-of-the-drill"
PIECES: Final = (1 << 20, 1 << 12)
AGAIN_S: Final = 0.2  # what is given back is taken, too


def own_mounts() -> bool:
    """From now on what this thread's processes mount is theirs alone; False: not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(CLONE_NEWNS) != 0:
        return False
    return bool(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0)


def mounted(folder: Path, size_bytes: int) -> bool:
    """An empty file system there."""
    folder.mkdir(parents=True, exist_ok=True)
    libc, options = ctypes.CDLL(None, use_errno=True), f"size={size_bytes},mode=0700".encode()
    return bool(libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, options) == 0)


def unmounted(folder: Path) -> None:
    ctypes.CDLL(None).umount2(bytes(folder), MNT_DETACH)


async def full(folder: Path, seconds: float) -> None:
    """For so long not a page is free there, however often some are given back."""
    filler = folder / FILLER
    loop = asyncio.get_running_loop()
    until_s = loop.time() + seconds
    try:
        with filler.open("ab") as file:
            while loop.time() < until_s:
                _fill(file.fileno())
                await asyncio.sleep(AGAIN_S)
    finally:
        filler.unlink(missing_ok=True)


def _fill(descriptor: int) -> None:
    for piece in PIECES:
        with contextlib.suppress(_Full):
            while True:
                _more(descriptor, piece)


class _Full(Exception):
    """There is no room for that piece."""


def _more(descriptor: int, piece: int) -> None:
    try:
        os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, piece)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise _Full from None
