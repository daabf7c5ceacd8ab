"""Priorities and memory of this process: thin effects, each allowed to be refused."""

from __future__ import annotations

import ctypes
import os
import signal
import threading

CAPTURE_PRIORITY = 12  # a frame is stamped before anything is computed
LANE_PRIORITY = 10
LOADER_NICE = 10
PR_SET_PDEATHSIG = 1


def go_realtime(priority: int) -> bool:
    """SCHED_RR for the calling thread; its children start normal. False where not permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except (OSError, AttributeError):
        return False
    return True


def go_background() -> None:
    """Normal policy, nice 10, for the calling thread: a loader must never delay a frame."""
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOADER_NICE)
    except OSError:
        return


def die_with_parent(parent: int) -> None:
    """SIGKILL for us when the agent dies, however it dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call
        os._exit(0)


def trim_memory() -> None:
    """Gives freed model weights back to the system (glibc keeps them otherwise)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
