"""The way down through CloudCore's REST door: so many posts at once, none into a door that is shut.

Nothing is kept for later: what was not delivered is said again when it is due, or asked for. So
what waits in memory are the posts that are under way, and no more.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from edge_agent.core.errors import Rejected
from tools.hot_tier.notices import Notices
from tools.hot_tier.way_back import WayBack

MAX_POSTS: Final = 64  # on their way to the Router
MAX_NODE_POSTS: Final = 8
MAX_CONNECTIONS: Final = 20  # kept open and used again
ANSWER_S: Final = 10.0
CONNECT_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.5  # after a connection that failed: 0.5, 1, 2 ... 30 s, jittered
LONGEST_PAUSE_S: Final = 30.0


def router_url(given: str) -> str:
    """A base URL without its last slash. Raises: Rejected."""
    try:
        parts = urlsplit(given)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or parts.username:
        raise Rejected("expected http://HOST:PORT of CloudCore", hint="the port is 9443")
    return given.rstrip("/")


class Address(NamedTuple):
    """Whom it is for. machine: what KubeEdge calls the node's; path: behind the door's URL."""

    node: str
    machine: str
    path: str


class Posts:
    """url: of the door as it is known now, or "" for none."""

    def __init__(self, url: Callable[[], str], notices: Notices) -> None:
        self._url = url
        self._way = WayBack(notices)
        self._client: aiohttp.ClientSession | None = None
        self._under_way: dict[asyncio.Task[None], str] = {}  # by node
        self._failures = 0
        self._shut_until_s = 0.0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
        connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as client:
            self._client = client
            try:
                yield
            finally:
                for task in self._under_way:
                    task.cancel()
                await asyncio.gather(*self._under_way, return_exceptions=True)

    def heard(self, node: str) -> None:
        """Something came by the path of this node: it is there."""
        self._way.heard(node)

    def begin(self, to: Address, payload: bytes) -> bool:
        """Without waiting: CloudCore takes seconds to say that a node is away. False: not sent."""
        waiting, url = list(self._under_way.values()), self._url()
        is_shut = asyncio.get_running_loop().time() < self._shut_until_s
        full = len(waiting) >= MAX_POSTS or waiting.count(to.node) >= MAX_NODE_POSTS
        if not url:
            self._way.nowhere()
        if not url or is_shut or full:
            return False
        task = asyncio.ensure_future(self._post(url, to, payload))
        self._under_way[task] = to.node
        task.add_done_callback(self._under_way.pop)
        return True

    async def _post(self, url: str, to: Address, payload: bytes) -> None:
        assert self._client is not None
        try:
            async with self._client.post(f"{url}/{to.path}", data=payload) as answer:
                await answer.read()
                self._answered(to, answer.status)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            self._failed(error)
        except aiohttp.InvalidURL as error:
            self._failed(error)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
            pass  # of this message: it is said again when it is due

    def _answered(self, to: Address, status: int) -> None:
        self._failures, self._shut_until_s = 0, 0.0
        self._way.answered(to.node, to.machine, status)

    def _failed(self, error: Exception) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._shut_until_s:
            return  # it had begun before
        pause_s = min(FIRST_PAUSE_S * 2**self._failures, LONGEST_PAUSE_S)
        self._failures = min(self._failures + 1, 16)
        self._shut_until_s = now_s + pause_s * random.uniform(0.75, 1.25)
        self._way.failed(error)
