"""What C libraries and dying children write to descriptors 1 and 2, through the log instead.

The descriptors become a pipe that a thread of this process reads; children inherit it. Its end for
writing never blocks: who writes faster than it is read, or while nobody reads, loses those lines,
not a moment. Python's own `sys.stdout` and `sys.stderr`, the log with them, stay where they were.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final, TextIO

from edge_agent import logs
from edge_agent.core.chatter import Chatter, Said

log = logs.get("library")

NUMBERS: Final = (1, 2)
FIRST_FREE: Final = 10  # where the descriptors of before are kept
PIPE_BYTES: Final = 1 << 20
PIECE_BYTES: Final = 1 << 15
MAX_PIECES: Final = 256  # of a flood that are passed over at once
MAX_LINE_BYTES: Final = 4096  # of one that does not end
QUIET_S: Final = 0.3
END_S: Final = 1.0


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """For the life of a process. Set up the log inside of it."""
    with contextlib.ExitStack() as undone:
        try:
            _begin(undone)
        except OSError:  # no descriptor is left: they write where they did
            undone.close()
        yield


def _begin(undone: contextlib.ExitStack) -> None:
    """Raises: OSError."""
    before = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE) for number in NUMBERS]
    undone.callback(_restore_streams, sys.stdout, sys.stderr)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with contextlib.suppress(OSError):  # more than an unprivileged user may have
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    reader = _Reader(reading)
    undone.callback(reader.end)
    undone.callback(_restore, before, has_faults=faulthandler.is_enabled())
    if faulthandler.is_enabled():
        faulthandler.enable(before[1])
    sys.stdout, sys.stderr = _same(sys.stdout, before[0]), _same(sys.stderr, before[1])
    for number in NUMBERS:
        os.dup2(writing, number)
    os.close(writing)


def _restore(before: list[int], *, has_faults: bool) -> None:
    for number, kept in zip(NUMBERS, before, strict=True):
        os.dup2(kept, number)
    if has_faults:
        faulthandler.enable(NUMBERS[1])


def _restore_streams(*old: TextIO) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    sys.stdout, sys.stderr = old


def _same(stream: TextIO, number: int) -> TextIO:
    """The same stream on another descriptor, which it does not close."""
    return open(
        number, "w", encoding=stream.encoding, errors=stream.errors, buffering=1, closefd=False
    )


class _Reader:
    """Drains the pipe in a daemon thread."""

    def __init__(self, reading: int) -> None:
        self._reading = reading
        self._chatter = Chatter()
        self._rest = b""
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._drain, name="chatter", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """What is in the pipe is still logged."""
        self._is_over.set()
        self._thread.join(END_S)

    def _drain(self) -> None:
        poll = select.poll()  # select takes no descriptor above 1023
        poll.register(self._reading, select.POLLIN)
        while True:
            is_last = self._is_over.is_set()
            ready = poll.poll(0 if is_last else round(QUIET_S * 1000))
            piece = os.read(self._reading, PIECE_BYTES) if ready else b""
            if piece:
                self._take(piece)
                if len(piece) == PIECE_BYTES:
                    self._take(self._newest())
                    self._is_over.wait(QUIET_S)
                continue
            if self._rest:
                self._take(b"\n")
            self._say(self._chatter.quiet(time.monotonic()))
            if is_last or ready:  # all who could write are gone
                self._say(self._chatter.end())
                return

    def _newest(self) -> bytes:
        """Of a flood, its end: the rest says the same, and reading it costs the loop its time."""
        newest = b""
        for _ in range(MAX_PIECES):
            try:
                piece = os.read(self._reading, PIECE_BYTES)
            except BlockingIOError:
                break
            if not piece:
                break
            newest = (newest + piece)[-PIECE_BYTES:]
        return newest

    def _take(self, piece: bytes) -> None:
        *lines, rest = (self._rest + piece).split(b"\n")
        self._rest = rest[-MAX_LINE_BYTES:]
        now_s = time.monotonic()
        for line in lines:
            text = line[-MAX_LINE_BYTES:].decode("utf-8", "replace").rstrip("\r")
            self._say(self._chatter.take(text, now_s))

    def _say(self, said: list[Said]) -> None:
        for one in said:
            if one.is_trace:
                log.error("a process of the agent wrote a trace", trace=one.text)
            elif one.more:
                log.warning("a library said it again", said=one.text, times=one.more)
            else:
                log.warning("a library said", said=one.text)
