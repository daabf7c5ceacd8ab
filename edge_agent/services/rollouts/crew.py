"""Starts installers: one process for one errand, ended when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Final

import anyio
import msgspec

from edge_agent import logs
from edge_agent.core.bytewise import unjsoned
from edge_agent.core.errors import LinkDown, Overloaded, of_system, raised_again
from edge_agent.errands import MAX_LINE_BYTES, Errand, Word, encode
from edge_agent.services.rollouts.ports import OnProgress

MAX_INSTALLERS: Final = 3
LONGEST_S: Final = 8 * 86_400.0  # each order has a deadline of its own, and a shorter one
END_S: Final = 5.0

log = logs.get("rollouts")


class Installers:
    """`ports.Crew` with real processes."""

    def __init__(self) -> None:
        self._places = anyio.CapacityLimiter(MAX_INSTALLERS)

    async def run(self, errand: Errand, told: OnProgress) -> dict[str, object]:
        """Raises: what the installer says, as the class that it had there; Overloaded, LinkDown."""
        async with self._places:
            ours, theirs = _ends()
            with ours:
                ours.setblocking(False)
                process = _start(theirs)
                try:
                    with anyio.fail_after(LONGEST_S):
                        return await _asked(ours, errand, told)
                except TimeoutError:
                    raise Overloaded(f"{errand.verb}: no end within {LONGEST_S:.0f} s") from None
                finally:
                    with anyio.CancelScope(shield=True):
                        await _end(process)


def _ends() -> tuple[socket.socket, socket.socket]:
    """Raises: Overloaded when this process has no descriptors left, Damaged."""
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise of_system("start installer", error) from error


def _start(theirs: socket.socket) -> subprocess.Popen[bytes]:
    """From the loop's own thread: the child dies with the thread that started it.

    Raises: Overloaded, Damaged.
    """
    words = [str(theirs.fileno()), str(os.getpid())]
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "edge_agent.installer", *words],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise of_system("start installer", error) from error
    finally:
        theirs.close()


async def _asked(ours: socket.socket, errand: Errand, told: OnProgress) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(ours, encode(errand))
        async for line in _lines(ours):
            word = unjsoned(line, Word)
            if word.kind == "ok":
                return word.facts
            if word.kind == "error":
                raise raised_again(word.fault, word.error, word.hint)
            told(word.what, word.facts)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LinkDown(f"{errand.verb}: the installer broke off: {error}") from error
    raise Overloaded(f"{errand.verb}: the installer died", hint="is memory short? dmesg")


async def _lines(ours: socket.socket) -> AsyncIterator[bytes]:
    loop, rest = asyncio.get_running_loop(), b""
    while piece := await loop.sock_recv(ours, 1 << 16):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise OSError(f"a line of more than {MAX_LINE_BYTES} bytes")


async def _end(process: subprocess.Popen[bytes]) -> None:
    """One that has answered ends by itself; any other is not waited for."""
    with anyio.move_on_after(END_S if process.poll() is None else 0), contextlib.suppress(OSError):
        process.kill()
        while process.poll() is None:  # noqa: ASYNC110 - only at the very end
            await anyio.sleep(0.01)
