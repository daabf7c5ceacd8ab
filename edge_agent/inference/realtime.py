"""Priorities and memory of this process: thin effects, each allowed to be refused."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
from collections.abc import Iterator

CAPTURE_PRIORITY = 12  # a frame is stamped before anything is computed
LANE_PRIORITY = 10
BESIDE_PRIORITY = 1  # who holds the interpreter that lanes wait for
BACKGROUND_NICE = 10
PR_SET_PDEATHSIG = 1
REFUSED = (
    "the system refuses real-time priority: under load frames come late",
    "run it by its systemd unit, or grant CAP_SYS_NICE; or engine.realtime = false",
)


def go_realtime(priority: int) -> bool:
    """SCHED_RR for the calling thread; its children start normal. False where not permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except (OSError, AttributeError):
        return False
    return True


_here = threading.local()  # `can_rise`, of a thread that sinks in its heavy parts


def go_beside() -> bool:
    """For every thread that shares the interpreter with the lanes: just below them.

    An ordinary thread that a busy machine takes off its core while it holds the interpreter makes
    every lane wait for it; frames were lost so, one at each swap. Loads are done so too: they hold
    locks of the process's memory, and are short. False where not permitted.
    """
    return go_realtime(BESIDE_PRIORITY)


def go_background(*, realtime_wanted: bool) -> None:
    """For a thread that computes a lot beside the lanes: niced where it holds nothing (`heavy`),
    and beside them where it does. Where that is not permitted it is niced throughout.
    """
    _here.can_rise = realtime_wanted and go_beside()
    with contextlib.suppress(OSError):  # felt where the policy is the ordinary one
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICE)


@contextlib.contextmanager
def heavy() -> Iterator[None]:
    """Around a long run of native code, which lets go of the interpreter.

    Does nothing in threads that are not in the background.
    """
    if not getattr(_here, "can_rise", False):
        yield
        return
    _sink()
    try:
        yield
    finally:
        go_beside()


class _SchedParam(ctypes.Structure):
    _fields_ = (("priority", ctypes.c_int),)


_libc = ctypes.CDLL(None)
_plain = _SchedParam(0)


def _sink() -> None:
    """The ordinary policy. By ctypes, which lets go of the interpreter first: who lowers itself is
    taken off its core at once, and would take the interpreter with it.
    """
    _libc.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, ctypes.byref(_plain))


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
