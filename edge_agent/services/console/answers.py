"""What every answer of the console is made of, and who asked. Decides nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from aiohttp import web

from edge_agent import logs
from edge_agent.core.errors import EdgeAgentError
from edge_agent.services.console import access

SCHEMA: Final = 1
MAX_LIMIT: Final = 1_000_000_000


class Refused(EdgeAgentError):
    """An answer that is no 200."""

    def __init__(self, status: int, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


def document_of(document: object, *, status: int = 200) -> web.Response:
    """As JSON."""
    return web.Response(
        body=msgspec.json.encode(document), status=status, content_type="application/json"
    )


def refusal(status: int, error: EdgeAgentError) -> web.Response:
    return document_of({"error": error.what, "hint": error.hint}, status=status)


def limit_of(request: web.Request, most: int = MAX_LIMIT) -> int | None:
    """`?limit=N`, None without. Raises: Refused."""
    text = request.query.get("limit")
    if text is None:
        return None
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0
    if not 1 <= limit <= most:
        raise Refused(400, f"{request.path}: limit {text[:20]!r}, expected 1 to {most}")
    return limit


def peer_of(request: web.Request) -> access.Peer | None:
    """Who is at the other end of the UNIX socket; None over loopback, or when it left."""
    sock = request.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    try:
        return access.peer_of(sock)
    except OSError:
        return None


Noted = Callable[[str, str, Mapping[str, object]], None]
NOTE: Final[web.AppKey[Noted]] = web.AppKey("note")


def audit(request: web.Request, peer: access.Peer | None, **fields: object) -> None:
    who: dict[str, object] = {"via": "loopback"}
    if peer is not None:
        who = {"via": "socket", "uid": peer.uid, "pid": peer.pid}
    verb = f"{request.method} {request.path[:200]}"
    logs.audit(verb, **who, **fields)
    note = request.config_dict.get(NOTE)
    if note is not None:
        words = verb.replace("/v1/", "").replace("/", " ")  # a path is masked there
        note(f"uid {peer.uid}" if peer is not None else "loopback", words, fields)
