"""How a process stands back behind the live streams."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
from pathlib import Path
from typing import Final

NICE: Final = 10
PR_SET_PDEATHSIG: Final = 1
IOPRIO_SET: Final = {"x86_64": 251, "aarch64": 30}  # no wrapper in glibc
IOPRIO_IDLE: Final = 3 << 13
OOM_FIRST: Final = "900"


def die_with_parent(parent: int) -> None:
    """SIGKILL for us when `parent` dies, however it dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os._exit(0)


def stand_back() -> None:
    """Last for the processor and the disk, first for the kernel when memory is short."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    number = IOPRIO_SET.get(platform.machine())
    if number is not None:  # refused: then it is only niced
        ctypes.CDLL(None, use_errno=True).syscall(number, 1, 0, IOPRIO_IDLE)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_FIRST, encoding="ascii")
