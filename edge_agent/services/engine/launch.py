"""The two ways to start an inference side: a child process, or threads of this one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Protocol

import anyio

from edge_agent import logs

log = logs.get("engine")


class Launched(Protocol):
    """A running side."""

    def kill(self) -> None: ...

    async def wait(self) -> int | None:
        """Its exit code, once it is gone; None for threads."""
        ...


Launch = Callable[[socket.socket, int, int], Launched]  # control, event, board


class Child:
    """The side as a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def kill(self) -> None:
        self.process.kill()

    async def wait(self) -> int | None:
        while (code := self.process.poll()) is None:  # noqa: ASYNC110 - only at the very end
            await anyio.sleep(0.01)
        return code


def launch_child(control: socket.socket, event_fd: int, board_fd: int) -> Child:
    """From the loop's own thread: the child dies with the thread that started it."""
    fds = (control.fileno(), event_fd, board_fd)
    words = [str(number) for number in (*fds, os.getpid())]
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent.inference", *words],
        pass_fds=fds,
        stdin=subprocess.DEVNULL,
    )
    control.close()
    return Child(process)


class InThreads:
    """The side as threads of this process: it can't be killed, only told."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def kill(self) -> None:
        log.error("a hanging lane in a thread can't be killed", hint='isolation = "process"')

    async def wait(self) -> int | None:
        while self._thread.is_alive():  # noqa: ASYNC110 - only at the very end
            await anyio.sleep(0.01)
        return None


async def bury(side: Launched, grace_s: float) -> None:
    """Waits for the end of a side that was told; kills it when that takes too long."""
    with anyio.move_on_after(grace_s) as grace:
        await side.wait()
    if grace.cancelled_caught:
        side.kill()
        with anyio.move_on_after(grace_s):
            await side.wait()


CRASHES = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
)


async def is_a_crash(side: Launched) -> bool:
    """Of one that is gone: whether it fell by itself. A SIGKILL came from outside: from a person,
    or from the kernel when memory was short. Threads say nothing, and nobody kills them.
    """
    code: int | None = None
    with anyio.move_on_after(1.0):
        code = await side.wait()
    return code is None or code > 0 or -code in CRASHES


async def exit_code(side: Launched) -> str:
    """In words, for the log."""
    code: int | None = None
    with anyio.move_on_after(1.0):
        code = await side.wait()
    return "threads" if code is None else f"exit {code}"
