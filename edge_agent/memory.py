"""Maps a stream's sealed memfd; both ends use `core.ring` on it."""

from __future__ import annotations

import fcntl
import mmap
import os

from edge_agent.core import ring

F_ADD_SEALS = 1033  # fcntl.F_ADD_SEALS is missing before Python 3.12 on some builds
SEALS = 0x0001 | 0x0002 | 0x0004  # seal, shrink, grow: neither end can be tricked into SIGBUS


def create(name: str) -> int:
    """A fresh, formatted, sealed memfd of one stream; its pages cost nothing until touched.

    Raises: OSError.
    """
    fd = os.memfd_create(f"edge-agent-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, ring.TOTAL_BYTES)
    fcntl.fcntl(fd, F_ADD_SEALS, SEALS)
    with mmap.mmap(fd, ring.TOTAL_BYTES) as mapped, memoryview(mapped) as view:
        ring.format_header(view)
    return fd


class Mapped:
    """A mapping that lives as long as its views do; `close` is safe while a thread still looks."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, ring.TOTAL_BYTES)
        self.view = memoryview(self._map)
        ring.check_header(self.view)
