"""The spool over the console: its newest records, a check, and records that are carried by hand.

Over the UNIX socket only: records are results of patients, though without a name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import anyio
from aiohttp import web

from edge_agent import logs
from edge_agent.core.carriage import MAX_ACK_FILE_BYTES
from edge_agent.core.errors import EdgeAgentError
from edge_agent.services.console.answers import (
    SCHEMA,
    Refused,
    audit,
    body_of,
    document_of,
    limit_of,
    peer_of,
)
from edge_agent.services.console.views import Document, SpoolViews

NEWEST: Final = 20
MAX_NEWEST: Final = 256  # what a spool keeps in memory
WRITE_TIMEOUT_S: Final = 60.0  # for a client to take a line; it may write to a slow stick

Unbroken = Callable[[Coroutine[Any, Any, Document]], Awaitable[Document]]

log = logs.get("console")


class SpoolDesk:
    """Handlers of `/v1/spool/*`. unbroken: runs a verb to its end, whoever leaves."""

    def __init__(self, views: SpoolViews, unbroken: Unbroken) -> None:
        self._views = views
        self._unbroken = unbroken

    async def records(self, request: web.Request) -> web.Response:
        if peer_of(request) is None:
            raise Refused(
                403,
                "read records: not over loopback HTTP",
                hint="use the socket: edge-agent spool",
                reason="records over loopback",
            )
        limit = limit_of(request, MAX_NEWEST) or NEWEST
        return document_of({"schema": SCHEMA, "records": self._views.spool_records(limit)})

    async def verify(self, _: web.Request) -> web.Response:
        return document_of({"schema": SCHEMA, **await self._unbroken(self._views.spool_verify())})

    async def take(self, request: web.Request) -> web.Response:
        """An acknowledgement file as body."""
        content = await body_of(request, MAX_ACK_FILE_BYTES)
        found = await self._unbroken(self._views.spool_import(content))
        audit(request, peer_of(request), **found)
        return document_of({"schema": SCHEMA, **found})

    async def export(self, request: web.Request) -> web.StreamResponse:
        """Lines as they are read. One that breaks off has no seal and no last chunk.

        `plain=1`: for a receiver from before.
        """
        plain = request.query.get("plain") == "1"
        async with contextlib.aclosing(self._views.spool_export(plain=plain)) as lines:
            first = await anext(lines)  # what is refused is refused before the answer begins
            response = web.StreamResponse()
            response.content_type = "text/plain"
            response.enable_chunked_encoding()
            try:
                await response.prepare(request)
                await _write(response, first)
                async for line in lines:
                    await _write(response, line)
            except (EdgeAgentError, TimeoutError) as error:
                log.warning("an export broke off", error=str(error) or "the reader is too slow")
                if request.transport is not None:
                    request.transport.abort()
            except ConnectionError:
                pass  # it left
        return response


async def _write(response: web.StreamResponse, line: bytes) -> None:
    with anyio.fail_after(WRITE_TIMEOUT_S):
        await response.write(line)
