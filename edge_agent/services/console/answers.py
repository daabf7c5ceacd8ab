"""What every answer of the console is made of, and who asked. Decides nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import hdrs, web

from edge_agent import logs
from edge_agent.core.bytewise import shown
from edge_agent.core.errors import EdgeAgentError, Fault, fault_of
from edge_agent.services.console import access

SCHEMA: Final = 1
MAX_LIMIT: Final = 1_000_000_000
UNAVAILABLE: Final = 503
RETRY_AFTER_S: Final = 10
FAULTS: Final[Mapping[int, Fault]] = {403: "rejected", UNAVAILABLE: "overloaded"}


class Refused(EdgeAgentError):
    """An answer that is no 200. fault: whose it is; by default what the status says."""

    def __init__(
        self, status: int, message: str, *, hint: str = "", fault: Fault | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.fault: Fault = fault or FAULTS.get(status, "failed")


def document_of(document: object, *, status: int = 200) -> web.Response:
    """As JSON."""
    return web.Response(body=shown(document), status=status, content_type="application/json")


def refusal(status: int, error: EdgeAgentError) -> web.Response:
    """Keeps the class of the error: whoever asked has to know whose fault it was."""
    fault = error.fault if isinstance(error, Refused) else fault_of(error)
    return failure(status, error.what, hint=error.hint, fault=fault)


def failure(
    status: int, error: str, *, hint: str = "", fault: Fault = "failed", **more: object
) -> web.Response:
    """What every error is answered with."""
    words = {"error": error, "hint": hint, "fault": fault, **more}
    response = document_of(words, status=status)
    if status == UNAVAILABLE:
        response.headers[hdrs.RETRY_AFTER] = str(RETRY_AFTER_S)
    return response


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
