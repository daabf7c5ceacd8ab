"""aiomqtt's client, without the waits and the races that a road to live results cannot have.

Nagle's rule and delayed acknowledgements together hold a small message back for 40 ms, in either
direction: brokers that are not told otherwise (mosquitto's `set_tcp_nodelay` is off by default)
keep what comes down until we have acknowledged their last word, which we have no reason to.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from contextlib import suppress
from typing import Any, Final

import aiomqtt

# Ours are never held back. Go's clients, EdgeCore among them, do the same by default.
AT_ONCE: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)


class Client(aiomqtt.Client):
    """With a look at the future that ends with its connection.

    It never watches a socket that was closed between asking and watching: aiomqtt would then fail
    in the loop, or watch whatever has the number of the socket by now.
    """

    def __init__(self, host: str, port: int, *, address: str = "", **options: Any) -> None:
        """address: of the host, a number. Without it the library resolves the name, in a thread
        that the end of the agent waits for; with it the name stays what the certificate is of.
        """
        super().__init__(host, port, socket_options=AT_ONCE, **options)
        if address:
            timeout_s = options.get("timeout")
            opened = functools.partial(socket.create_connection, (address, port), timeout=timeout_s)
            setattr(self._client, "_create_socket_connection", opened)  # noqa: B010 - private there
        self.gone.add_done_callback(_heard)  # nobody has to ask; asyncio would complain in the log

    @property
    def gone(self) -> asyncio.Future[None]:
        return self._disconnected

    def drop(self) -> None:
        """Closes what a failed connection left open."""
        with suppress(ValueError, OSError):
            self._client.disconnect()

    def tcp(self) -> socket.socket | None:
        sock = self._client.socket()
        return sock if isinstance(sock, socket.socket) else None

    def acknowledge(self) -> None:
        """What came last is acknowledged now and not with our next word; Linux forgets it soon."""
        sock = self.tcp()
        if sock is not None:
            with suppress(OSError):  # closed meanwhile
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        del userdata
        self._loop.call_soon_threadsafe(self._watch, client, sock)

    def _watch(self, client: Any, sock: Any) -> None:
        if client.socket() is sock and sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write, client)

    def _write(self, client: Any) -> None:
        try:
            client.loop_write()
        except (OSError, ValueError) as error:
            if not self._disconnected.done():
                self._disconnected.set_exception(error)


def _heard(gone: asyncio.Future[None]) -> None:
    if not gone.cancelled():
        gone.exception()
