"""The agent's end of the control socket; the messages are drawn in `edge_agent.orders`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import anyio
import msgspec

from edge_agent.core.bytewise import packed, unpacked
from edge_agent.core.errors import Overloaded, SideDied, raised_again
from edge_agent.orders import LENGTH, MAX_MESSAGE_BYTES, Request

BESIDE: Final = frozenset({"load"})  # verbs that a thread of their own works on, over there
Heard = Callable[[Mapping[str, Any]], None]


class Line:
    """Our end of the control socket."""

    def __init__(self, sock: socket.socket, heard: Heard) -> None:
        self._sock = sock
        self._heard = heard
        self._next_id = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.closed = asyncio.Event()
        self._buffer = bytearray()
        self._deaf = False

    def is_deaf(self) -> bool:
        """The other end was silent for longer than an answer takes."""
        return self._deaf

    async def ask(
        self, verb: str, *, timeout_s: float, fds: Sequence[int] = (), **fields: Any
    ) -> dict[str, Any]:
        """Raises: SideDied; else what the side says, as the class that it had there."""
        self._next_id += 1
        number = self._next_id
        body = packed(Request(id=number, verb=verb, **fields))
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._send(LENGTH.pack(len(body)) + body, fds)
            with anyio.fail_after(timeout_s):
                words = await answer
        except TimeoutError as late:
            if verb in BESIDE:  # the loader of a candidate may be slow while the side is well
                raise Overloaded(f"{verb}: not done within {timeout_s:g} s") from late
            self._deaf = True
            raise SideDied(f"{verb}: no answer within {timeout_s} s") from late
        except OSError as gone:
            raise SideDied(f"{verb}: the inference side is gone ({gone})") from gone
        finally:
            self._waiting.pop(number, None)
        if "error" in words:
            fault, hint = str(words.get("fault", "")), str(words.get("hint", ""))
            raise raised_again(fault, str(words["error"]), hint)
        return dict(words["ok"])

    def _send(self, message: bytes, fds: Sequence[int]) -> None:
        """A local socket takes what fits its buffer at once; more would mean that the side hangs.

        Raises: OSError.
        """
        sent = socket.send_fds(self._sock, [message], list(fds))
        if sent != len(message):
            raise OSError(f"control socket took {sent} of {len(message)} B")

    async def read_on(self) -> None:
        """Until end of file."""
        loop = asyncio.get_running_loop()
        try:
            while chunk := await loop.sock_recv(self._sock, 1 << 16):
                self._buffer += chunk
                self._deliver()
        except OSError:
            pass
        self.closed.set()
        self._fail_all()

    def _deliver(self) -> None:
        while len(self._buffer) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._buffer)
            if length > MAX_MESSAGE_BYTES:
                raise SideDied(f"control message of {length} B, expected <= {MAX_MESSAGE_BYTES} B")
            if len(self._buffer) < LENGTH.size + length:
                return
            words = _words(bytes(self._buffer[LENGTH.size : LENGTH.size + length]))
            del self._buffer[: LENGTH.size + length]
            answer = self._waiting.get(words.get("re", 0))
            if "event" in words:
                self._heard(words)
            elif answer is not None and not answer.done():
                answer.set_result(words)

    def hang_up(self) -> None:
        """Closes our end: whoever still waits for an answer learns that there is none."""
        self.closed.set()
        self._fail_all()
        self._sock.close()

    def _fail_all(self) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(SideDied("the inference side died before it answered"))


def _words(body: bytes) -> dict[str, Any]:
    """Raises: SideDied for what is no message."""
    try:
        words: dict[str, Any] = unpacked(body, dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SideDied(f"control message of {len(body)} B: {error}") from error
    return words
