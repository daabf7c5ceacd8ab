"""Starts an inference side on three descriptors; the same for the child and for threads.

control: stream socket. event: eventfd that wakes the agent. board: memfd of one page, one
little word of 8 bytes per lane that counts the lane's turns.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import cv2

from edge_agent import backends, sources
from edge_agent.core.errors import EdgeAgentError, Rejected
from edge_agent.host import SystemClock, SystemHost
from edge_agent.inference import realtime
from edge_agent.inference.control import Verbs, Wire, Words, refusal, serve
from edge_agent.inference.record import Identity
from edge_agent.inference.runtime import Neighbours, Runtime
from edge_agent.inference.seats import Shelf
from edge_agent.orders import BOARD_BYTES, Begin, StreamOrder
from edge_agent.ports import Clock, FrameSource


def run_side(
    control: socket.socket,
    wake: Callable[[], None],
    board_fd: int,
    *,
    on_death: Callable[[str], None],
    clock: Clock | None = None,
) -> None:
    """Serves one agent until `stop` or end of file.

    Raises: Rejected when the first message is not `begin`.
    """
    wire = Wire(control)
    request = wire.receive()
    if request is None:
        return
    if request.begin is None:
        raise Rejected(f"control: first verb {request.verb!r}, expected 'begin'")
    if request.begin.engine.realtime:
        realtime.go_beside()
    words = Words(wire)
    try:
        runtime = _build(
            request.begin,
            words,
            wake,
            board_fd,
            on_death=on_death,
            clock=clock or SystemClock(),
        )
    except EdgeAgentError as wrong:
        wire.send(refusal(request, wrong))
        return
    wire.send({"re": request.id, "ok": {}})
    try:
        serve(wire, Verbs(runtime))
    finally:
        runtime.stop()  # in thread mode nothing else would, after a bug


def _build(
    begin: Begin,
    words: Words,
    wake: Callable[[], None],
    board_fd: int,
    *,
    on_death: Callable[[str], None],
    clock: Clock,
) -> Runtime:
    board = memoryview(mmap.mmap(board_fd, BOARD_BYTES)).cast("Q")

    def beat(lane: int) -> None:
        board[lane] += 1

    def make_source(order: StreamOrder) -> FrameSource:
        return sources.make(order.config.source, clock=clock, exam_key=begin.exam_key)

    backend = backends.make(
        begin.engine.backend,
        threads=begin.engine.threads_per_run,
        engines=Path(begin.engines) if begin.engines else None,
    )
    near = Neighbours(
        clock=clock,
        shelf=Shelf(backend, free_bytes),
        make_source=make_source,
        told=words,
        wake=wake,
        beat=beat,
        on_death=on_death,
    )
    return Runtime(begin.engine, begin.lanes, Identity(begin.node, begin.boot), near)


def free_bytes() -> int | None:
    """Of memory, as the kernel reckons it; None where it does not say."""
    return SystemHost().sample().memory_available_bytes


class Bell:
    """An eventfd that a lane which hung may still ring when its number is another file's."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self._turn = threading.Lock()

    def ring(self) -> None:
        with self._turn:
            if self._fd is not None:
                os.eventfd_write(self._fd, 1)

    def close(self) -> None:
        with self._turn:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


def start_in_threads(control: socket.socket, event_fd: int, board_fd: int) -> threading.Thread:
    """The thread mode: the same side in this process; its death looks like a child's."""

    def on_death(text: str) -> None:
        os.write(2, text.encode(errors="replace"))
        with contextlib.suppress(OSError):  # it is closed already
            control.shutdown(socket.SHUT_RDWR)

    cv2.setNumThreads(1)  # a lane is one thread; OpenCV's own pool would fight for the cores
    bell = Bell(os.dup(event_fd))  # the agent may close its own before a last wake-up
    board = os.dup(board_fd)

    def body() -> None:
        try:
            with control:
                run_side(control, bell.ring, board, on_death=on_death)
        finally:
            bell.close()
            os.close(board)

    thread = threading.Thread(target=body, name="inference", daemon=True)
    thread.start()
    return thread
