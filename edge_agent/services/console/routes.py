"""What is answered where. Every error is JSON: `error`, `hint` for the one who asked, and `fault`,
whose it is, in a word of `core.errors.Fault`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import anyio
import msgspec
from aiohttp import hdrs, web

from edge_agent import logs
from edge_agent.config.structs import ConsoleConfig
from edge_agent.core.errors import ConfigError, EdgeAgentError, Overloaded
from edge_agent.metrics import CONTENT_TYPE
from edge_agent.services.console import access, results
from edge_agent.services.console.answers import (
    CALLERS,
    MAX_REQUEST_BYTES,
    NOTE,
    SCHEMA,
    Refused,
    audit,
    body_of,
    caller_of,
    document_of,
    failure,
    limit_of,
    peer_of,
    refusal,
    verb_of,
    who_of,
    words_of,
)
from edge_agent.services.console.callers import Callers, Share, Stage, seats_of
from edge_agent.services.console.models import ModelsDesk
from edge_agent.services.console.refusals import DoorRefusal, Refusals
from edge_agent.services.console.spool import SpoolDesk
from edge_agent.services.console.views import Document, Views

TURNS = 2  # requests without rights that are worked on at the same time
RESPONSE_TIMEOUT_S = 30.0  # for a client to take its answer
HINT: Final = "/v1/desired"  # changes nothing: only what is signed does
RESULTS: Final = "/v1/results"
FRAME: Final = "/v1/frame"
FRAMES = 4  # pictures on their way, by share: one has up to 24 MiB
SAFE_VERBS: Final = frozenset({"GET", "HEAD"})
SECURITY: Final = {
    "Server": "edge-agent",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

MayWrite = Callable[[access.Peer | None], bool]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """The table of routes and its middlewares, over one `Views`."""

    def __init__(
        self, config: ConsoleConfig, views: Views, callers: Callers, may_write: MayWrite
    ) -> None:
        self._config = config
        self._views = views
        self._callers = callers
        self._may_write = may_write
        self.seats = {
            share: results.Seats(seats_of(share, config.max_followers)) for share in Share
        }
        self._frame_seats = {share: results.Seats(FRAMES, "read frame") for share in Share}
        self.refusals = Refusals(self._write_refusal)
        self._turns = anyio.Semaphore(TURNS)
        self._verbs: set[asyncio.Task[Document]] = set()

    def app(self) -> web.Application:
        app = web.Application(
            middlewares=[self._stages, self._errors, self._guard],
            client_max_size=MAX_REQUEST_BYTES,
        )
        app[NOTE] = self._views.audited
        app[CALLERS] = self._callers
        app.on_response_prepare.append(_secure)
        for name in ("streams", "models", "spool", "uplink", "peers", "device", "events"):
            app.router.add_get(f"/v1/{name}", self._part(name))
        app.router.add_get("/v1/status", self._status)
        app.router.add_get(RESULTS, self._results, allow_head=False)
        app.router.add_get(FRAME, self._frame, allow_head=False)
        app.router.add_post("/v1/reload", self._reload)
        desk = SpoolDesk(self._views, self._unbroken)
        app.router.add_get("/v1/spool/records", desk.records, allow_head=False)
        app.router.add_post("/v1/spool/verify", desk.verify)
        app.router.add_post("/v1/spool/export", desk.export)
        app.router.add_post("/v1/spool/import", desk.take)
        app.router.add_routes(ModelsDesk(self._views, self._unbroken).routes())
        app.router.add_post(HINT, self._hint)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    # reads

    async def _status(self, _: web.Request) -> web.Response:
        return document_of(self._views.status())

    def _part(self, name: str) -> Handler:
        view: Callable[[], Any] = getattr(self._views, name)

        async def answer(_: web.Request) -> web.Response:
            return document_of({"schema": SCHEMA, name: view()})

        return answer

    async def _results(self, request: web.Request) -> web.StreamResponse:
        stream, limit = self._stream(request), limit_of(request)
        seats = self.seats[caller_of(request).share]
        with seats.take() as seat, self._views.subscribe(stream) as lines:
            return await results.follow(request, lines, limit=limit, seat=seat)

    async def _frame(self, request: web.Request) -> web.StreamResponse:
        stream = self._stream(request)
        peer = peer_of(request)
        if peer is None and not self._config.pixels:
            raise Refused(
                403,
                "read frame: pixels over loopback HTTP are switched off",
                hint="use the socket, or set console.pixels = true",
                reason="pixels over loopback",
            )
        if self._may_write(peer):
            audit(request, peer, stream=stream)
        else:  # counted: who may only look must not be able to fill the log
            look = DoorRefusal(who_of(peer), verb_of(request), f"frame of {stream}", allowed=True)
            self.refusals.tell(look, anyio.current_time())
        with self._frame_seats[caller_of(request).share].take():
            return await _sent(request, self._shot(stream))

    def _shot(self, stream: str) -> web.Response:
        shot = self._views.frame(stream)
        if shot is None:
            raise Refused(
                503, f"read frame of {stream}: there is none", hint="edge-agent streams list",
                fault="link-down",
            )  # fmt: skip
        return web.Response(
            body=msgspec.msgpack.encode(shot), content_type="application/vnd.msgpack"
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        return document_of({"ok": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._views.ready()
        return document_of({"ready": ready}, status=200 if ready else 503)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=await self._views.metrics(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE}
        )

    async def _hint(self, request: web.Request) -> web.Response:
        """Of a wanted state, from KubeEdge's ServiceBus or anybody here: a reason to look, no more.

        Answers what this node knows of its wanted state now.
        """
        told = self._views.desired_hint(await body_of(request, MAX_REQUEST_BYTES))
        return document_of({"schema": SCHEMA, "desired": told}, status=202)

    # verbs

    async def _reload(self, _: web.Request) -> web.Response:
        return document_of({"schema": SCHEMA, **await self._unbroken(self._views.reload())})

    async def _unbroken(self, verb: Coroutine[Any, Any, Document]) -> Document:
        """A client that leaves does not leave it half done: aiohttp cancels only the waiting."""
        task = asyncio.create_task(verb)
        self._verbs.add(task)
        task.add_done_callback(self._verbs.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    # at the door

    @web.middleware
    async def _stages(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tells the door what the connection does."""
        caller = caller_of(request)
        caller.turn(Stage.ANSWERED, anyio.current_time())
        try:
            return await handler(request)
        finally:
            caller.turn(Stage.WAITS, anyio.current_time())

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except Refused as error:
            self._note_refusal(request, error)
            response = refusal(error.status, error)
        except Overloaded as error:
            response = refusal(503, error)
        except ConfigError as error:
            response = refusal(422, error)
        except EdgeAgentError as error:
            response = refusal(409, error)
        except web.HTTPNotFound:
            routes = sorted(
                {
                    route.resource.canonical
                    for route in request.app.router.routes()
                    if route.resource
                }
            )
            what = f"no {request.path[:200]}"
            response = failure(404, what, hint="see routes", routes=routes)
        except web.HTTPException as error:
            what = f"{request.method} {request.path[:200]}: {error.reason}"
            response = failure(error.status, what)
        return await _sent(request, response)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        peer = peer_of(request)
        via_loopback = caller_of(request).share is Share.LOOPBACK
        if via_loopback and not access.is_own_name(request.headers.get(hdrs.HOST)):
            raise Refused(
                403,
                "this Host is not answered",
                hint="ask 127.0.0.1 or localhost by name",
                reason="a foreign Host",
            )
        if request.path == HINT or request.method in SAFE_VERBS:
            return await self._read(request, handler)
        if via_loopback:
            raise Refused(
                403,
                "loopback HTTP is read-only",
                hint="use the socket: edge-agent COMMAND",
                reason="a write over loopback",
            )
        if peer is None or not self._may_write(peer):
            raise Refused(
                403,
                f"{verb_of(request)}: {who_of(peer)} may not",
                hint=f"use sudo, or join the group {access.ADMIN_GROUP}",
                reason="a write without rights",
            )
        audit(request, peer, allowed=True)
        return await handler(request)

    async def _read(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """One after the other, so that many at once do not keep the loop from the results. What
        waits for its client (a follower, a picture, a body) holds no turn.
        """
        if caller_of(request).share is Share.OPERATORS or request.path in (HINT, RESULTS, FRAME):
            return await handler(request)
        async with self._turns:
            return await handler(request)

    def _note_refusal(self, request: web.Request, error: Refused) -> None:
        if error.reason:
            one = DoorRefusal(who_of(peer_of(request)), verb_of(request), error.reason)
            self.refusals.tell(one, anyio.current_time())

    def _write_refusal(self, one: DoorRefusal, number: int) -> None:
        """For log and audit log."""
        via = "loopback" if one.who == Share.LOOPBACK.value else "socket"
        uid = {"uid": int(one.who.removeprefix("uid "))} if one.who.startswith("uid ") else {}
        words = {"allowed": one.allowed, "reason": one.reason, "count": number}
        logs.audit(one.verb, via=via, **uid, **words)
        self._views.audited(one.who, words_of(one.verb), words)

    def _stream(self, request: web.Request) -> str:
        names = sorted(self._views.streams())
        have = f"streams are: {', '.join(names) or 'none'}"
        name = request.query.get("stream")
        if not name:
            raise Refused(400, f"{request.path}: expected stream=NAME", hint=have)
        if name not in names:
            raise Refused(404, f"no stream {name[:64]!r}", hint=have)
        return name


async def _secure(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(SECURITY)


async def _sent(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Writes the answer here, where a client that does not read it runs out of time."""
    try:
        with anyio.fail_after(RESPONSE_TIMEOUT_S):
            await response.prepare(request)
            await response.write_eof()
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # it left
    return response
