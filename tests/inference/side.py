"""A real inference side in threads, driven over its real control socket: no agent, no loop."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import memory
from edge_agent.config.structs import EngineConfig, StreamConfig, StreamModel
from edge_agent.core.frames import Result
from edge_agent.inference.side import start_in_threads
from edge_agent.orders import BOARD_BYTES, LENGTH, Begin, Fresh, ModelRef, Request, StreamOrder
from edge_agent.services.engine import Tap
from edge_agent.stores.models import Models

PATIENCE_S = 20.0
FAST = {"kind": "phantom", "size": [160, 120], "fps": 30.0, "pace": "fast"}
PACED = {**FAST, "pace": "real", "fps": 200.0}  # slow enough to read before the ring is full
_store = Models((), shipped=False)


class Refused(Exception):
    """The side answered with an error."""


class Side:
    """Verbs and what came of them. Results are drained by `drain` alone."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._buffer = bytearray()
        self._next = 0
        self.events: list[dict[str, Any]] = []
        self.taps: dict[str, Tap] = {}
        self.results: list[Result] = []

    def ask(self, verb: str, *, fds: Sequence[int] = (), **fields: Any) -> dict[str, Any]:
        self._next += 1
        body = msgspec.msgpack.encode(Request(id=self._next, verb=verb, **fields))
        socket.send_fds(self._control, [LENGTH.pack(len(body)) + body], list(fds))
        while True:
            words = self._hear(PATIENCE_S)
            assert words is not None, f"{verb}: no answer within {PATIENCE_S} s"
            if words.get("re") != self._next:
                self.events.append(words)
            elif "error" in words:
                raise Refused(words["error"])
            else:
                return dict(words["ok"])

    def _hear(self, timeout_s: float) -> dict[str, Any] | None:
        while True:
            if len(self._buffer) >= LENGTH.size:
                (length,) = LENGTH.unpack_from(self._buffer)
                if len(self._buffer) >= LENGTH.size + length:
                    body = bytes(self._buffer[LENGTH.size : LENGTH.size + length])
                    del self._buffer[: LENGTH.size + length]
                    words: dict[str, Any] = msgspec.msgpack.decode(body)
                    return words
            if not select.select([self._control], [], [], timeout_s)[0]:
                return None
            self._buffer += self._control.recv(1 << 16)

    def configure(self, *orders: StreamOrder) -> None:
        fresh = [order.name for order in orders if order.name not in self.taps]
        fds = [memory.create(name) for name in fresh]
        for name, fd in zip(fresh, fds, strict=True):
            self.taps[name] = Tap(name)
            self.taps[name].open(fd)
        try:
            words = tuple(Fresh(name=name) for name in fresh)
            self.ask("configure", fds=fds, streams=orders, fresh=words)
        finally:
            for fd in fds:
                os.close(fd)
        for name in set(self.taps) - {order.name for order in orders}:
            self.drain()
            self.taps.pop(name).close(clean=True)

    def drain(self) -> list[Result]:
        """Everything so far; read often enough for the ring of 256."""
        for tap in self.taps.values():
            for record, _ in tap.drain():
                assert isinstance(record, Result)
                self.results.append(record)
        return self.results

    def until(self, condition: Callable[[], Any], what: str) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until_s, f"not within {PATIENCE_S} s: {what}"
            self.drain()
            while (words := self._hear(0.005)) is not None:
                self.events.append(words)

    def more(self, count: int) -> None:
        """Until so many results more have come."""
        wanted = len(self.drain()) + count
        self.until(lambda: len(self.results) >= wanted, f"{count} results")


@contextmanager
def running_side(*, lanes: int = 1, **engine: Any) -> Iterator[Side]:
    ours, theirs = socket.socketpair()
    event_fd = os.eventfd(0, os.EFD_NONBLOCK)
    board_fd = os.memfd_create("board")
    os.ftruncate(board_fd, BOARD_BYTES)
    thread = start_in_threads(theirs, event_fd, board_fd)
    config = msgspec.convert({"realtime": False, **engine}, EngineConfig)
    side = Side(ours)
    try:
        begin = Begin(engine=config, lanes=lanes, node="box", boot="00000000", exam_key=b"k" * 32)
        side.ask("begin", begin=begin)
        yield side
        side.ask("stop")
        side.drain()
    finally:
        ours.close()
        thread.join(PATIENCE_S)
        os.close(event_fd)
        os.close(board_fd)
    assert not thread.is_alive()


def ref(folder: Path, **options: Any) -> ModelRef:
    manifest = _store.manifest(folder)
    return ModelRef(
        name=manifest.name,
        folder=str(folder),
        sha=_store.identity(folder),
        options=StreamModel(name=manifest.name, version=manifest.version, **options),
    )


def order(
    name: str, *models: ModelRef, source: dict[str, Any] | None = None, **more: Any
) -> StreamOrder:
    """A stream of a phantom that waits with each frame until the one before has its result."""
    fields = {"source": source or PACED, "queue": "wait", **more}
    fields["models"] = [msgspec.to_builtins(model.options) for model in models]
    return StreamOrder(name=name, config=msgspec.convert(fields, StreamConfig), models=models)
