"""The road to EdgeCore: MQTT 3.1.1 by aiomqtt. Never reconnects and never keeps a message.

Each connection is a new client object with a clean session, so that no queue of the library
outlives it: what was on its way when the road failed is sent again by who holds it. A confirmation
of the broker says that the broker has it, nothing of the cloud; here it only bounds what is on its
way to the broker. Presence is retained, its last will says `offline`.

Certificates and password are read at each connection, so that renewed ones take effect. Plain TCP
goes to this machine only, unless the operator insists.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final

import aiomqtt
import anyio
from aiomqtt.exceptions import MqttConnectError

from edge_agent.config.check_uplink import is_open, port_of
from edge_agent.config.structs import UplinkConfig
from edge_agent.core import edgecore
from edge_agent.core.edgecore import Topics
from edge_agent.core.errors import ConfigError, LinkCut, LinkDenied, LinkDown
from edge_agent.links.credentials import Secrets, read_secrets
from edge_agent.links.mqtt_client import Client
from edge_agent.links.resolve import addresses

QOS: Final = 1  # EdgeCore's own; it also tells us that the broker is still there
MAX_UNCONFIRMED: Final = 20  # publishes on their way to the broker
MAX_WAITING: Final = 100  # messages that nobody took yet; the newest is refused, as EdgeCore does
MAX_PAYLOAD_BYTES: Final = 1 << 20
REFUSED: Final = 128  # from here on, a code of SUBACK is a refusal
DENIALS: Final = (1, 2, 4, 5, 132, 133, 134, 135, 138, 140)  # of MQTT 3.1.1, as of MQTT 5
FAREWELL_S: Final = 1.0
DIAGNOSIS_S: Final = 1.0
DOWN_FIX: Final = "is the broker running, and the network there? edge-agent uplink test"
NAME_FIX: Final = "check uplink.host and the name server (resolvectl); or set an address"
CONNECT_S: Final = 5.0

_silent = logging.getLogger(f"{__name__}.aiomqtt")
_silent.setLevel(logging.CRITICAL)  # whoever raises does not log: the supervisor does, once


class MqttSession:
    """One live connection. Implements `ports.LinkSession`."""

    def __init__(self, client: Client, *, road: str, answer_s: float) -> None:
        self._client = client
        self._road = road
        self._answer_s = answer_s
        self._unconfirmed: dict[asyncio.Task[None], int] = {}  # and their payloads, bytes
        self._confirmed_bytes = 0  # the largest payload that the broker has confirmed
        self._lost_bytes = 0  # the largest that it had not when it closed the connection
        self._broken: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        client.gone.add_done_callback(self._is_gone)

    async def publish(self, topic: str, payload: bytes) -> None:
        """Hands over to the broker, QoS 1; waits only while 20 publishes are unconfirmed.

        A confirmation that does not come within `answer_s` breaks the connection.
        Raises: LinkDown. ValueError for more than 1 MiB.
        """
        await self._hand_over(topic, payload, retain=False)

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """What comes on the subscribed topics. For one reader.

        Raises: LinkDown when the connection ends.
        """
        incoming = self._client.messages
        while True:
            getting = asyncio.ensure_future(anext(incoming))
            try:
                either: set[asyncio.Future[Any]] = {getting, self._broken}
                done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if getting not in done:
                    raise self._down("receive from")
                message = getting.result()
            except aiomqtt.MqttError as error:
                self._break(str(error))
                raise self._down("receive from") from None
            finally:
                getting.cancel()
            yield str(message.topic), message.payload

    async def announce(self, topic: str, payload: bytes) -> None:
        """As `publish`, retained: the broker tells it to whoever comes later.

        Raises: LinkDown.
        """
        await self._hand_over(topic, payload, retain=True)

    async def settle(self) -> None:
        """Waits until the broker has confirmed all, or the connection is broken."""
        while self._unconfirmed and not self._broken.done():
            await self._confirmation()

    def abandon(self) -> None:
        """Whatever is unconfirmed is given up."""
        for task in list(self._unconfirmed):
            task.cancel()

    async def _hand_over(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError(f"publish to {topic}: {len(payload)} bytes > {MAX_PAYLOAD_BYTES}")
        while len(self._unconfirmed) >= MAX_UNCONFIRMED and not self._broken.done():
            await self._confirmation()
        if self._broken.done():
            raise self._down("publish to")
        sending = self._client.publish(topic, payload, QOS, retain=retain, timeout=self._answer_s)
        task = asyncio.ensure_future(sending)
        self._unconfirmed[task] = len(payload)
        task.add_done_callback(self._is_confirmed)
        await asyncio.sleep(0)  # it is written now

    async def _confirmation(self) -> None:
        """Until one more is confirmed, or the connection is broken."""
        either: set[asyncio.Future[Any]] = {*self._unconfirmed, self._broken}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)

    def _is_confirmed(self, task: asyncio.Task[None]) -> None:
        self._client.acknowledge()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._break(f"the broker did not confirm a publish: {error}")
        size = self._unconfirmed.pop(task, 0)
        if error is None and not task.cancelled():
            self._confirmed_bytes = max(self._confirmed_bytes, size)

    def _is_gone(self, gone: asyncio.Future[None]) -> None:
        error = None if gone.cancelled() else gone.exception()
        self._lost_bytes = max(self._unconfirmed.values(), default=0)
        self._break(f"the broker closed it: {error}" if error else "closed")
        self.abandon()

    def _break(self, words: str) -> None:
        if not self._broken.done():
            self._broken.set_result(words)

    def _down(self, verb: str) -> LinkDown:
        words = self._broken.result() if self._broken.done() else "closed"
        if self._lost_bytes > self._confirmed_bytes:
            words += f"; it had not confirmed a payload of {self._lost_bytes:,} characters"
        return LinkCut(
            f"{verb} {self._road}: {words}",
            hint=DOWN_FIX,
            unconfirmed=self._lost_bytes,
            confirmed=self._confirmed_bytes,
        )


class MqttLink:
    """Implements `ports.Link` for one node.

    Raises ConfigError for a road that only `insecure = true` would allow.
    """

    def __init__(self, config: UplinkConfig, *, node: str) -> None:
        self._topics = Topics.of(config.ns, node, config.device)
        if is_open(config) and not config.insecure:
            raise ConfigError(
                "uplink.host",
                f"plain TCP to {config.host} (expected TLS, or a broker on this machine)",
                hint="tls = true; or insecure = true, if the network is your own",
            )
        self._config = config
        self._node = node
        self._port = port_of(config)
        self.road = f"{'mqtts' if config.tls else 'mqtt'}://{config.host}:{self._port}"

    @property
    def topics(self) -> Topics:
        return self._topics

    @property
    def client_id(self) -> str:
        return self._config.client_id or f"edge-agent-{self._node}"

    def connect(self) -> AbstractAsyncContextManager[MqttSession]:
        """A connection: subscribed to all that comes down, presence `online`.

        Raises: LinkDown, for wrong passwords and certificates too: they may be put right while we
        try again.
        """
        return self._connected()

    async def greet(self, client_id: str) -> float:
        """Connects, subscribes and leaves without a trace; seconds until the broker agreed.

        Raises: LinkDown.
        """
        secrets = await anyio.to_thread.run_sync(read_secrets, self._config)
        address = await self._reach()
        client, begun_s = self._client(secrets, address, visitor=client_id), anyio.current_time()
        await self._enter(client, secrets.tls)
        agreed_s = anyio.current_time()
        try:
            await self._subscribe(client)
        finally:
            await self._close(client)
        return agreed_s - begun_s

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[MqttSession]:
        secrets = await anyio.to_thread.run_sync(read_secrets, self._config)
        address = await self._reach()
        client = self._client(secrets, address)
        await self._enter(client, secrets.tls)
        session = MqttSession(client, road=self.road, answer_s=self._config.answer_s)
        try:
            await self._subscribe(client)
            await self._tell(session, online=True)
            yield session
        finally:
            with anyio.CancelScope(shield=True):
                await self._leave(client, session)

    def _client(self, secrets: Secrets, address: str, *, visitor: str = "") -> Client:
        """visitor: another client's id, which has no presence to lose."""
        config, presence = self._config, edgecore.presence(self._node, online=False)
        will = aiomqtt.Will(self._topics.presence, presence, QOS, retain=True)
        client = Client(
            config.host,
            self._port,
            address=address,
            identifier=visitor or self.client_id,
            username=config.username or None,
            password=secrets.password,
            tls_context=secrets.tls,
            protocol=aiomqtt.ProtocolVersion.V311,
            clean_session=True,
            keepalive=config.keepalive_s,
            timeout=config.answer_s,
            will=None if visitor else will,
            max_queued_incoming_messages=MAX_WAITING,
            max_queued_outgoing_messages=MAX_UNCONFIRMED,
            max_inflight_messages=MAX_UNCONFIRMED,
            logger=_silent,
        )
        client.pending_calls_threshold = MAX_UNCONFIRMED
        return client

    async def _reach(self) -> str:
        """A look whether the broker can be reached at all; the address at which it is.

        The library connects in a thread that cannot be cancelled; an unreachable host would hold
        up the end of the agent. And what plain TCP reaches has to be this machine.
        """
        host, found = self._config.host, list[str]()
        try:
            with anyio.fail_after(min(CONNECT_S, self._config.answer_s)):
                found = await addresses(host, self._port)
                writer = await self._opened(found)
            peer = str(writer.get_extra_info("peername")[0])
            writer.close()
        except TimeoutError:
            words = "no answer" if found else "no answer from the name server"
            hint = "is the host on, and the port open?" if found else NAME_FIX
            raise self._refused(words, hint) from None
        except OSError as error:
            hint = "is the broker running?" if found else NAME_FIX
            raise self._refused(_reason(error), hint) from None
        is_here = ipaddress.ip_address(peer.partition("%")[0]).is_loopback
        if not (self._config.tls or self._config.insecure or is_here):
            raise self._denied(f"{host} is {peer}, not this machine", "tls = true")
        return peer

    async def _opened(self, found: list[str]) -> asyncio.StreamWriter:
        """At the first of these addresses that answers. Raises: OSError."""
        last: OSError = socket.gaierror(socket.EAI_NONAME, "no address")
        for address in found:
            try:
                _, writer = await asyncio.open_connection(address, self._port)
            except OSError as error:
                last = error
            else:
                return writer
        raise last

    async def _enter(self, client: Client, tls: ssl.SSLContext | None) -> None:
        """As `async with client`, but a cancelled attempt leaves no thread and no socket behind."""
        entering = asyncio.ensure_future(client.__aenter__())
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True), suppress(aiomqtt.MqttError, OSError, ValueError):
                await entering
            client.drop()
            raise
        except MqttConnectError as error:
            client.drop()
            hint = "check uplink.username and uplink.password_file" if _is_login(error) else ""
            words = f"the broker says: {_words(error)}"
            raise (self._denied if _is_denial(error) else self._refused)(words, hint) from None
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            client.drop()
            words = _words(error)
            if not _tls_hint(words) and tls is not None:
                words = await self._diagnosis(tls) or words
            hint = _tls_hint(words)
            raise (self._denied if hint else self._refused)(words, hint) from None

    async def _diagnosis(self, tls: ssl.SSLContext) -> str:
        """Why a handshake is refused, "" when it is not. The library tells no more than that it
        was closed: TLS 1.3 says so after our side of the handshake is done.
        """
        with suppress(OSError, TimeoutError), anyio.move_on_after(DIAGNOSIS_S):
            try:
                reader, writer = await asyncio.open_connection(
                    self._config.host, self._port, ssl=tls, server_hostname=self._config.host
                )
                try:
                    await reader.read(1)
                finally:
                    writer.close()
            except ssl.SSLError as refused:
                return str(refused.reason or refused).replace("_", " ").lower()
        return ""

    async def _subscribe(self, client: Client) -> None:
        topics = self._topics.subscriptions(twin=self._config.twin)
        try:
            granted = await client.subscribe([(topic, QOS) for topic in topics])
        except aiomqtt.MqttError as error:
            raise self._refused(f"subscribe: {_words(error)}", "") from None
        for topic, code in zip(topics, granted, strict=False):
            if (code if isinstance(code, int) else getattr(code, "value", 0)) >= REFUSED:
                raise self._denied(f"the broker refuses {topic}", "check its access list")

    async def _tell(self, session: MqttSession, *, online: bool) -> None:
        payload = edgecore.presence(self._node, online=online)
        await session.announce(self._topics.presence, payload)

    async def _leave(self, client: Client, session: MqttSession) -> None:
        """Says `offline` and closes; what fails of it, the last will makes up for."""
        with anyio.move_on_after(FAREWELL_S), suppress(LinkDown):
            await self._tell(session, online=False)
            await session.settle()
        session.abandon()
        await self._close(client)

    async def _close(self, client: Client) -> None:
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(FAREWELL_S), suppress(aiomqtt.MqttError):
                await client.__aexit__(None, None, None)
            client.drop()

    def _denied(self, words: str, hint: str) -> LinkDown:
        return LinkDenied(f"connect to {self.road}: {words}", hint=hint or "edge-agent uplink test")

    def _refused(self, words: str, hint: str) -> LinkDown:
        return LinkDown(f"connect to {self.road}: {words}", hint=hint or DOWN_FIX)


def _reason(error: OSError) -> str:
    """Without the address, which asyncio writes into the text of the error."""
    is_of_system = error.errno is not None and not isinstance(error, socket.gaierror)
    return os.strerror(error.errno or 0) if is_of_system else error.strerror or _words(error)


def _is_login(error: aiomqtt.MqttCodeError) -> bool:
    return "auth" in str(error).lower() or "user name" in str(error).lower()


def _words(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__


def _is_denial(error: MqttConnectError) -> bool:
    """Whether CONNACK refuses us for good; "server unavailable" is weather."""
    code = error.rc if isinstance(error.rc, int) else getattr(error.rc, "value", 0)
    return _is_login(error) or code in DENIALS


def _tls_hint(words: str) -> str:
    """What mends it, empty when it is no question of trust. Who refuses ours sends an alert."""
    words = words.lower()
    if "expired" in words:
        return "renew the certificate that has expired, or check this machine's clock (timedatectl)"
    if "certificate" in words or "alert" in words or "unknown ca" in words:
        return "check uplink.ca_file, cert_file, the broker's name and this machine's clock"
    if "wrong version number" in words or "packet length too long" in words:
        return "the broker speaks no TLS on this port: check uplink.port and uplink.tls"
    return ""
