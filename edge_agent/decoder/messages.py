"""What the decoder's two ends say to each other, one JSON object a message, over SOCK_SEQPACKET.

To the child: `begin` {folder, clip}, `open` {address, live, settings, as_coded} (a descriptor may
come with it; `{fd}` in the address is its number there), `free` {ring, slot}.
From it: `ready` {version} or `unusable` {why}; then for each `open` either `opened` {facts} or
`failed` {fault, what}; then `ring` {id, slots, bytes} with a descriptor before the first frame of a
larger size, `frame`, `bad` {pts_us, why}, and in the end `end` or `failed`.
"""

from __future__ import annotations

import array
import json
import socket
import time
from typing import Any, Final

MAX_MESSAGE_BYTES: Final = 64 << 10
MAX_WORDS_CHARS: Final = 300
FD_BYTES: Final = array.array("i").itemsize


def now_us() -> int:
    """By a clock that both ends share, and that also runs while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def send(line: socket.socket, message: dict[str, Any], descriptor: int | None = None) -> None:
    """Raises: OSError; ValueError when it is too long."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_MESSAGE_BYTES:
        raise ValueError(f"message of {len(body)} B, at most {MAX_MESSAGE_BYTES} B")
    extra = []
    if descriptor is not None:
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    line.sendmsg([body], extra)


def receive(line: socket.socket) -> tuple[dict[str, Any], int | None] | None:
    """A message and the descriptor that came with it; None at the end of the line.

    Raises: OSError; ValueError when it is not understood.
    """
    body, extra, flags, _ = line.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(FD_BYTES))
    fds = array.array("i")
    for level, kind, content in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) // FD_BYTES * FD_BYTES])
    if not body:
        return None
    if flags & socket.MSG_TRUNC:
        raise ValueError(f"a message of more than {MAX_MESSAGE_BYTES} B")
    message = json.loads(body)
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")  # noqa: TRY004 - of what came, not a bug
    return message, fds[0] if fds else None
