"""What every answer of the console is made of, and who asked. Decides nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Final

import anyio
from aiohttp import hdrs, web

from edge_agent import logs
from edge_agent.core.bytewise import shown
from edge_agent.core.errors import EdgeAgentError, Fault, fault_of
from edge_agent.services.console import access
from edge_agent.services.console.callers import Caller, Callers, Stage

SCHEMA: Final = 1
MAX_REQUEST_BYTES = 64 << 10
MAX_LIMIT: Final = 1_000_000_000
UNAVAILABLE: Final = 503
RETRY_AFTER_S: Final = 10
UNREAD: Final = frozenset({408, 413})  # the rest of the body is not waited for
BODY_S = 10.0  # for a body to come
MIN_BYTES_PER_S = 64 << 10  # and so much of it for each further second
FAULTS: Final[Mapping[int, Fault]] = {403: "rejected", UNAVAILABLE: "overloaded"}


class Refused(EdgeAgentError):
    """An answer that is no 200. fault: whose it is; by default what the status says.

    reason: of a refusal that belongs in the audit log, in a few words of ours.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        hint: str = "",
        fault: Fault | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.fault: Fault = fault or FAULTS.get(status, "failed")


def document_of(document: object, *, status: int = 200) -> web.Response:
    """As JSON."""
    return web.Response(body=shown(document), status=status, content_type="application/json")


def refusal(status: int, error: EdgeAgentError) -> web.Response:
    """Keeps the class of the error: whoever asked has to know whose fault it was."""
    fault = error.fault if isinstance(error, Refused) else fault_of(error)
    response = failure(status, error.what, hint=error.hint, fault=fault)
    if status in UNREAD:
        response.force_close()
    return response


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


async def body_of(request: web.Request, most: int) -> bytes:
    """At most so many bytes, in BODY_S and a second more for each MIN_BYTES_PER_S that came.

    Raises: Refused.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise Refused(415, f"{verb_of(request)}: expected a plain body, got a compressed one")
    if (request.content_length or 0) > most:
        raise Refused(413, f"{verb_of(request)}: expected at most {most} B")
    caller, began_s = caller_of(request), anyio.current_time()
    caller.turn(Stage.SENDS, began_s)
    try:
        return await _parts(request, most, began_s)
    finally:
        caller.turn(Stage.ANSWERED, anyio.current_time())


async def _parts(request: web.Request, most: int, began_s: float) -> bytes:
    parts, size = [], 0
    with anyio.CancelScope(deadline=began_s + BODY_S) as limit:
        try:
            async for part in request.content.iter_any():
                size += len(part)
                if size > most:
                    raise Refused(413, f"{verb_of(request)}: expected at most {most} B")
                parts.append(part)
                limit.deadline = began_s + BODY_S + size / MIN_BYTES_PER_S
        except web.RequestPayloadError:
            raise Refused(400, f"{verb_of(request)}: the body is damaged on its way") from None
    if limit.cancelled_caught:
        raise Refused(
            408,
            f"{verb_of(request)}: the body did not come in time, {size} B are here",
            hint="send it faster, or over a better road",
        )
    return b"".join(parts)


Noted = Callable[[str, str, Mapping[str, object]], None]
NOTE: Final[web.AppKey[Noted]] = web.AppKey("note")
CALLERS: Final[web.AppKey[Callers]] = web.AppKey("callers")


def caller_of(request: web.Request) -> Caller:
    return request.config_dict[CALLERS].of(request.protocol)


def verb_of(request: web.Request) -> str:
    """Method and path as the table of routes has them; of another path nothing is repeated."""
    resource = request.match_info.route.resource
    method = request.method if request.method in hdrs.METH_ALL else "?"
    return f"{method} {resource.canonical if resource else '(no such path)'}"


def who_of(peer: access.Peer | None) -> str:
    return "loopback" if peer is None else f"uid {peer.uid}"


def audit(request: web.Request, peer: access.Peer | None, **fields: object) -> None:
    """An act of somebody who may. At once."""
    who: dict[str, object] = {"via": "loopback"}
    if peer is not None:
        who = {"via": "socket", "uid": peer.uid, "pid": peer.pid}
    verb = verb_of(request)
    logs.audit(verb, **who, **fields)
    note = request.config_dict.get(NOTE)
    if note is not None:
        note(who_of(peer), words_of(verb), fields)


def words_of(verb: str) -> str:
    """For the audit log, where a path is masked."""
    return verb.replace("/v1/", "").replace("/", " ")
