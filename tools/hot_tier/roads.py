"""How bundles come to the hot tier and its words get back. Each road is a `ports.Link`.

    MqttRoad   the nodes' topics on one broker: without KubeEdge, or behind the double of EdgeCore
    HttpRoad   the endpoint that a KubeEdge Rule posts to, and the Router's REST for the way back
    Pair       uplink of one road, downlink of another

A Rule's post carries neither topic nor node; a Rule that posts to /up/<node> tells whose it is, by
/up and / the payload alone says it. The Router waits for no answer and repeats nothing; our status
is for people with curl.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import aiomqtt
import anyio
import msgspec
from aiohttp import web

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import LinkDown
from edge_agent.core.wire.armour import MAX_BUNDLE_CHARS
from edge_agent.links.credentials import read_secrets
from edge_agent.links.mqtt_client import Client
from edge_agent.ports import Link, LinkSession
from tools.hot_tier.carriers import is_node
from tools.hot_tier.door import REQUEST_S, Door
from tools.hot_tier.notices import HOLDS_S, Notices
from tools.hot_tier.places import Places
from tools.hot_tier.router import Address, Posts

QOS: Final = 1
ANSWER_S: Final = 10.0
MAX_WAITING: Final = 256  # payloads that nobody took yet: 64 MB at most
MAX_UNCONFIRMED: Final = 20
LINGER_S: Final = 1.0  # for the rest of a body that was refused
CLOSE_S: Final = 1.0  # for requests that are being answered
UP: Final = "/up"
PATHS: Final = "the Rule's URL ends with /up/<node>, with the agent's node, or with /up"
DOWN: Final = "{machine}/{ns}/edge-agent/{node}/down/{what}"

_silent = logging.getLogger(f"{__name__}.aiomqtt")
_silent.setLevel(logging.CRITICAL)  # the supervisor logs what is raised, once

Message = tuple[str, bytes]


class MqttRoad:
    """nodes: whose topics to subscribe to; none given: every node's.

    config: what else a broker asks for: password, certificates, namespace. ns "+": of any.
    is_way_back: only publishes; what comes up comes by another road.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        nodes: tuple[str, ...] = (),
        ns: str = "+",
        config: UplinkConfig | None = None,
        is_way_back: bool = False,
    ) -> None:
        self._config = msgspec.structs.replace(config or UplinkConfig(), host=host, port=port)
        topics = [f"{ns}/user/edge-agent/{node}/up" for node in nodes or ("+",)]
        self._topics = [] if is_way_back else topics
        self._where = f"mqtt://{host}:{port}"

    def connect(self) -> AbstractAsyncContextManager[LinkSession]:
        """Raises: LinkDown."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[LinkSession]:
        config = self._config
        secrets = await anyio.to_thread.run_sync(read_secrets, config)
        client = Client(  # the agent's: aiomqtt's own races with a broker that goes away
            config.host,
            config.port or 1883,
            username=config.username or None,
            password=secrets.password,
            tls_context=secrets.tls,
            protocol=aiomqtt.ProtocolVersion.V311,
            timeout=ANSWER_S,
            max_queued_incoming_messages=MAX_WAITING,
            logger=_silent,
        )
        client.pending_calls_threshold = 2 * MAX_UNCONFIRMED
        try:
            async with client:
                if self._topics:
                    await client.subscribe([(topic, QOS) for topic in self._topics])
                yield _MqttSession(client, self._where)
        except aiomqtt.MqttError as error:
            hint = "is the broker running?"
            raise LinkDown(f"use {self._where}: {error}", hint=hint) from error


class _MqttSession:
    def __init__(self, client: aiomqtt.Client, where: str) -> None:
        self._client = client
        self._where = where

    async def publish(self, topic: str, payload: bytes) -> None:
        try:
            await self._client.publish(topic, payload, QOS)
        except aiomqtt.MqttError as error:
            raise LinkDown(f"publish to {self._where}: {error}") from error

    async def messages(self) -> AsyncIterator[Message]:
        try:
            async for message in self._client.messages:
                yield str(message.topic), message.payload
        except aiomqtt.MqttError as error:
            raise LinkDown(f"receive from {self._where}: {error}") from error


class HttpRoad:
    """Listens on `host:port` (0: any free port; `port` says which). router: base URL, or "";
    it may be given later. connections: at once; None: what the limit of open files leaves room for.
    places: what KubeEdge calls the nodes' machines.
    """

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        router: str = "",
        ns: str = "default",
        places: Places | None = None,
        notices: Notices | None = None,
        connections: int | None = None,
    ) -> None:
        self.port = port
        self._host = host
        self.router = router
        self._ns = ns
        self._places = places or Places()
        self._notices = notices or Notices()
        self._connections = connections

    def connect(self) -> AbstractAsyncContextManager[LinkSession]:
        """Raises: LinkDown when the port is taken."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[LinkSession]:
        posts = Posts(lambda: self.router.rstrip("/"), self._notices)
        session = _HttpSession(posts, self._notices, self._ns, self._places)
        server = web.AppRunner(
            session.app(), access_log=None, handle_signals=False, lingering_time=LINGER_S,
            auto_decompress=False, shutdown_timeout=CLOSE_S,
        )  # fmt: skip
        await server.setup()
        assert server.server is not None
        door = Door(server.server, self._notices, bound=self._connections, request_s=REQUEST_S)
        try:
            self.port = door.open(self._host, self.port)
            async with posts.open():
                yield session
        finally:
            door.close()
            await server.cleanup()


class _HttpSession:
    """A Router that cannot be reached is no reason to stop listening: nodes ask again."""

    def __init__(self, posts: Posts, notices: Notices, ns: str, places: Places) -> None:
        self._posts = posts
        self._notices = notices
        self._ns = ns
        self._places = places
        self._came: asyncio.Queue[Message] = asyncio.Queue(MAX_WAITING)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BUNDLE_CHARS)
        app.router.add_post(UP, self._up)
        app.router.add_post("/", self._up)
        app.router.add_post(f"{UP}/{{node}}", self._up)
        app.router.add_post("/{tail:.*}", self._lost)
        app.on_response_prepare.append(_closes)
        return app

    async def _up(self, request: web.Request) -> web.Response:
        node = request.match_info.get("node", "")
        if node and not is_node(node):
            return await self._lost(request)
        topic = f"{self._ns}/user/edge-agent/{node}/up" if node else ""
        if node:
            self._posts.heard(node)
        payload = await request.read()  # 413 beyond the bound
        try:
            self._came.put_nowait((topic, payload))
        except asyncio.QueueFull:
            return web.Response(status=503, text="busy: what is not acknowledged comes again\n")
        return web.Response(status=202)

    async def _lost(self, _: web.Request) -> web.Response:
        """The Router tells nobody of our answer, so a Rule with a wrong URL has to be told here."""
        self._notices.counts["unknown_path"] += 1
        words = f"{self._notices.counts['unknown_path']} posts to --http came by a path of no node"
        self._notices.tell("unknown-path", words, PATHS, for_s=HOLDS_S)
        return web.Response(status=404, text=f"{PATHS}\n")

    async def publish(self, topic: str, payload: bytes) -> None:
        """Without waiting, and without a promise: what does not arrive is said again."""
        _, node, _, what = topic.split("/", 3)
        machine = self._places.of(node)
        path = DOWN.format(machine=machine, node=node, ns=self._ns, what=what)
        self._posts.begin(Address(node, machine, path), payload)

    async def messages(self) -> AsyncIterator[Message]:
        while True:
            yield await self._came.get()


async def _closes(_: web.Request, answer: web.StreamResponse) -> None:
    """The Router never uses a connection again, and never closes one."""
    answer.force_close()
    answer.headers["Connection"] = "close"


class Pair:
    """Up on one road, down on another; the road is down when either is."""

    def __init__(self, up: Link, down: Link) -> None:
        self._up = up
        self._down = down

    def connect(self) -> AbstractAsyncContextManager[LinkSession]:
        """Raises: LinkDown."""
        return self._connected()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[LinkSession]:
        async with self._up.connect() as up, self._down.connect() as down:
            yield _Both(up, down)


class _Both:
    def __init__(self, up: LinkSession, down: LinkSession) -> None:
        self.messages = up.messages
        self.publish = down.publish
