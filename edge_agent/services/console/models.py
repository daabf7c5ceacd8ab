"""Models over the console: install, roll back, pin, and what became of it. Writes by the socket.

Each verb answers what it began; how it ends, `/v1/models` says.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta

from edge_agent.core.errors import (
    Damaged,
    EdgeAgentError,
    LinkDown,
    Overloaded,
    Rejected,
    fault_of,
)
from edge_agent.core.manifest import NAME_PATTERN, VERSION_PATTERN
from edge_agent.services.console.answers import (
    MAX_REQUEST_BYTES,
    SCHEMA,
    Refused,
    audit,
    body_of,
    document_of,
    peer_of,
)
from edge_agent.services.console.views import Document, ModelViews

NAME: Final = re.compile(NAME_PATTERN)
STATUS: Final[Mapping[type[EdgeAgentError], int]] = {
    Rejected: 403,  # by a signature, a pin, a bound, a proof: a policy said no
    Overloaded: 503,
    LinkDown: 502,
    Damaged: 500,
}
Unbroken = Callable[[Coroutine[Any, Any, Document]], Awaitable[Document]]
Name = Annotated[str, Meta(pattern=f"^({NAME_PATTERN[1:-1]})?$")]
Version = Annotated[str, Meta(pattern=f"^({VERSION_PATTERN[1:-1]})?$", max_length=64)]
Path = Annotated[str, Meta(pattern="^(/[^\x00]*)?$", max_length=4096)]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request."""


class Install(Asked, frozen=True, kw_only=True):
    """One of file, usb, or model with version."""

    file: Path = ""
    usb: Path = ""
    model: Name = ""
    version: Version = ""


class OfModel(Asked, frozen=True, kw_only=True):
    model: Annotated[str, Meta(pattern=NAME_PATTERN)]


class Pin(Asked, frozen=True, kw_only=True):
    """off: takes it off; of model "*": every hold for lost memory. version "": what is live."""

    model: Annotated[str, Meta(pattern=f"{NAME_PATTERN}|^[*]$")]
    version: Version = ""
    off: bool = False


T = TypeVar("T", bound=Asked)


class ModelsDesk:
    """Handlers of `/v1/models/*`. unbroken: runs a verb to its end, whoever leaves."""

    def __init__(self, views: ModelViews, unbroken: Unbroken) -> None:
        self._views = views
        self._unbroken = unbroken

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models/history", self.history, allow_head=False),
            web.post("/v1/models/install", self.install),
            web.post("/v1/models/rollback", self.roll_back),
            web.post("/v1/models/pin", self.pin),
        ]

    async def history(self, request: web.Request) -> web.Response:
        model = request.query.get("model", "")
        if model and not NAME.fullmatch(model):
            raise Refused(400, f"{request.path}: expected model=NAME")
        return document_of({"schema": SCHEMA, "history": self._views.models_history(model)})

    async def install(self, request: web.Request) -> web.Response:
        asked = await _asked(request, Install)
        ways = (bool(asked.file), bool(asked.usb), bool(asked.version))
        if sum(ways) != 1 or (asked.version and not asked.model):
            raise Refused(400, f"{request.path}: expected one of: file, usb, or model with version")
        return await self._done(request, asked, self._views.models_install(_words(asked)))

    async def roll_back(self, request: web.Request) -> web.Response:
        asked = await _asked(request, OfModel)
        return await self._done(request, asked, self._views.models_roll_back(asked.model))

    async def pin(self, request: web.Request) -> web.Response:
        asked = await _asked(request, Pin)
        if asked.model == "*" and not asked.off:
            raise Refused(400, f"{request.path}: model '*' goes with off")
        peer = peer_of(request)
        by = f"uid {peer.uid}" if peer else ""
        verb = self._views.models_pin(asked.model, None if asked.off else asked.version, by)
        return await self._done(request, asked, verb)

    async def _done(
        self, request: web.Request, asked: Asked, verb: Coroutine[Any, Any, Document]
    ) -> web.Response:
        audit(request, peer_of(request), **_short(asked))
        try:
            return document_of({"schema": SCHEMA, **await self._unbroken(verb)})
        except tuple(STATUS) as wrong:
            status = next(number for kind, number in STATUS.items() if isinstance(wrong, kind))
            raise Refused(status, wrong.what, hint=wrong.hint, fault=fault_of(wrong)) from wrong


def _words(asked: Asked) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(asked).items() if value}


def _short(asked: Asked) -> dict[str, Any]:
    """For log and audit: a file by its name, a stick as such, without their folders."""
    words = _words(asked)
    if "file" in words:
        words["file"] = words["file"].rstrip("/").rpartition("/")[2]
    if "usb" in words:
        words["usb"] = True
    return words


async def _asked(request: web.Request, kind: type[T]) -> T:
    """Raises: Refused."""
    try:
        return msgspec.json.decode(await body_of(request, MAX_REQUEST_BYTES), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(400, f"{request.path}: {error}") from None
