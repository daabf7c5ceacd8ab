"""One errand in, words out, and every way to fail as a word."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from edge_agent.core.bytewise import unjsoned
from edge_agent.core.errors import (
    EdgeAgentError,
    Overloaded,
    Rejected,
    fault_of,
    of_system,
)
from edge_agent.errands import MAX_LINE_BYTES, Errand, Word, encode
from edge_agent.installer import proving, work

Say = Callable[..., None]
Do = Callable[[Errand, Say], dict[str, Any]]

VERBS: dict[str, Do] = {
    "wanted": work.wanted,
    "fetch": work.fetch,
    "prove": proving.prove,
    "config": work.config,
    "adopt": work.adopt,
    "collect": work.collect,
}


def serve(line: socket.socket) -> int:
    """Exit code: 0 when the errand was answered, whatever the answer."""
    raw = _line(line)
    if raw is None:
        return 1

    def say(what: str, **facts: Any) -> None:
        _send(line, Word(kind="progress", what=what, facts=facts))

    try:
        errand = unjsoned(raw, Errand)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _send(line, failed(Rejected(f"read errand: {error}", hint="agent and installer differ")))
        return 1
    try:
        word = Word(kind="ok", facts=VERBS[errand.verb](errand, say))
    except EdgeAgentError as error:
        word = failed(error)
    except OSError as error:
        word = failed(of_system(errand.verb, error))
    except MemoryError:
        word = failed(Overloaded(f"{errand.verb}: out of memory", hint="is memory short? dmesg"))
    _send(line, word)
    return 0


def failed(error: EdgeAgentError) -> Word:
    """Keeps the class of the error: whoever asked has to know whose fault it was."""
    return Word(
        kind="error", error=error.what[:1000], hint=error.hint[:1000], fault=fault_of(error)
    )


def _line(line: socket.socket) -> bytes | None:
    """Up to the end of the line; None when the agent left before."""
    raw = bytearray()
    while b"\n" not in raw and len(raw) < MAX_LINE_BYTES:
        piece = line.recv(1 << 16)
        if not piece:
            return None
        raw += piece
    return bytes(raw)


def _send(line: socket.socket, word: Word) -> None:
    with contextlib.suppress(OSError):  # the agent is gone; so shall we be
        line.sendall(encode(word))
