"""A look at the road to the broker, step by step, so that an operator sees where it ends.

Leaves nothing behind: no presence, no retained message, no publish. It must never take the place
of the agent that runs: to the broker it is another client.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Literal

import anyio
import anyio.to_thread
import msgspec

from edge_agent.config.check_uplink import EDGECORE_PORT, PLAIN_PORT, is_loopback, port_of
from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import ConfigError, LinkDown, Rejected
from edge_agent.links.credentials import read_secrets
from edge_agent.links.mqtt import MqttLink
from edge_agent.links.resolve import addresses
from edge_agent.links.road_keys import read_pinned

EXPIRY_DAYS = 30


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """name: stable. took_ms: None where nothing was measured."""

    name: str
    status: Literal["pass", "warn", "fail", "skip"]
    what: str
    fix: str = ""
    took_ms: float | None = None


class _Ends(Exception):
    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what, self.fix = what, fix


async def survey(config: UplinkConfig, *, node: str, beside_agent: bool) -> AsyncIterator[Step]:
    """Files, name, TCP, TLS, MQTT; ends with the first that fails.

    beside_agent: it runs, so that its client id is taken.
    """
    walk = _Walk(config, node, beside_agent=beside_agent)
    steps = (
        ("files", walk.files),
        ("name", walk.name),
        ("tcp", walk.tcp),
        ("tls", walk.tls),
        ("mqtt", walk.mqtt),
    )
    for name, step in steps:
        begun = time.perf_counter()
        try:
            what, fix = await step()
        except _Ends as end:
            yield Step(name=name, status="fail", what=end.what, fix=end.fix)
            return
        took_ms = round(1000 * (time.perf_counter() - begun), 1)
        if not what:
            yield Step(name=name, status="skip", what=fix)
        else:
            status: Literal["pass", "warn"] = "warn" if fix else "pass"
            yield Step(name=name, status=status, what=what, fix=fix, took_ms=took_ms)


class _Walk:
    """Each step: what was found, and what to do about it; "" and why, when it does not apply."""

    def __init__(self, config: UplinkConfig, node: str, *, beside_agent: bool) -> None:
        self._config, self._node = config, node
        self._host, self._port = config.host, port_of(config)
        self._beside_agent = beside_agent
        self._tls: ssl.SSLContext | None = None
        self._found: list[str] = []

    async def files(self) -> tuple[str, str]:
        try:
            secrets = await anyio.to_thread.run_sync(read_secrets, self._config)
            await anyio.to_thread.run_sync(read_pinned, self._config)
        except (LinkDown, Rejected) as error:
            raise _Ends(error.what, error.hint) from None
        self._tls = secrets.tls
        named = ("ca_file", "cert_file", "key_file", "password_file", "hot_tier_keys")
        count = sum(getattr(self._config, name) is not None for name in named)
        return (f"{count} files can be read", "") if count else ("", "no files are named")

    async def name(self) -> tuple[str, str]:
        try:
            with anyio.fail_after(self._config.answer_s):
                self._found = await addresses(self._host, self._port)
        except TimeoutError:
            raise _Ends(f"{self._host}: no answer", "check the name server: resolvectl") from None
        except OSError as error:
            words = f"{self._host}: {error.strerror}"
            raise _Ends(words, "check uplink.host and the name server: resolvectl") from None
        return f"{self._host} is {', '.join(self._found)}", ""

    async def tcp(self) -> tuple[str, str]:
        try:
            _, writer = await self._opened(None)
        except _Ends as end:
            if self._is_plain_default():
                await self._look_for_edgecore(end)
            raise
        writer.close()
        return f"{self._host}:{self._port} is reached", ""

    async def tls(self) -> tuple[str, str]:
        if self._tls is None:
            return "", "uplink.tls is off"
        _, writer = await self._opened(self._tls)
        certificate = writer.get_extra_info("peercert") or {}
        version = writer.get_extra_info("ssl_object").version()
        writer.close()
        until_s = ssl.cert_time_to_seconds(certificate["notAfter"])
        days = int((until_s - time.time()) / 86_400)
        fix = "renew the broker's certificate" if days < EXPIRY_DAYS else ""
        return f"{version}, the broker's certificate is valid for {days} days", fix

    async def mqtt(self) -> tuple[str, str]:
        try:
            link = MqttLink(self._config, node=self._node)
            name = link.client_id
            took_s = await link.greet(f"{name}-test" if self._beside_agent else name)
        except (LinkDown, ConfigError) as error:
            hint = "" if error.hint == "edge-agent uplink test" else error.hint
            raise _Ends(error.what, hint or "see the broker's log") from None
        return f"connected, subscribed; CONNACK after {1000 * took_s:.1f} ms", ""

    def _is_plain_default(self) -> bool:
        return is_loopback(self._host) and self._port == PLAIN_PORT and not self._config.tls

    async def _look_for_edgecore(self, end: _Ends) -> None:
        """Nobody is on mosquitto's port; EdgeCore's own broker has another.

        Raises: _Ends, with what is found there.
        """
        config = msgspec.structs.replace(self._config, port=EDGECORE_PORT)
        try:
            await MqttLink(config, node=self._node).greet(f"edge-agent-{self._node}-test")
        except (LinkDown, ConfigError):
            fix = (
                "is the broker running? EdgeCore's own listens on 1884, in its mqttMode 0 or 1 only"
            )
            raise _Ends(end.what, fix) from None
        words = f"{end.what}; EdgeCore's built-in broker answers on {EDGECORE_PORT}"
        raise _Ends(words, f"set uplink.port = {EDGECORE_PORT}")

    async def _opened(
        self, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = f"{self._host}:{self._port}"
        try:
            with anyio.fail_after(self._config.answer_s):
                return await self._first(tls)
        except TimeoutError:
            raise _Ends(f"{where}: no answer", "is the host on, and the port open?") from None
        except ssl.SSLCertVerificationError as error:
            raise _Ends(f"{where}: {error.verify_message}", _tls_fix(error)) from None
        except ssl.SSLError as error:
            words = error.reason or str(error)
            raise _Ends(f"{where}: {words}", "does the broker speak TLS on this port?") from None
        except OSError as error:
            raise _Ends(f"{where}: {error.strerror or error}", "is the broker running?") from None

    async def _first(
        self, tls: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Of its addresses the first that answers; the certificate is of its name."""
        last: OSError = OSError(0, "no address")
        name = self._host if tls is not None else None
        for address in self._found:
            try:
                return await asyncio.open_connection(
                    address, self._port, ssl=tls, server_hostname=name
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                last = error
        raise last


def _tls_fix(error: ssl.SSLCertVerificationError) -> str:
    words = error.verify_message.lower()
    if "mismatch" in words or "not valid for" in words:
        return "uplink.host has to be a name in the broker's certificate"
    if "expired" in words or "not yet" in words:
        return "check this machine's clock: timedatectl; else renew the broker's certificate"
    return "uplink.ca_file has to be the authority that signed the broker's certificate"
