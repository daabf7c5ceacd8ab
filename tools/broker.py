"""A small MQTT 3.1.1 broker on this machine for demo and tests: `python -m tools.broker --port N`.

amqtt on loopback alone, anyone may connect, nothing is kept on disk. Not for a device: there
EdgeCore brings its own. Bounded by its number of connections and, as a command, by its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from amqtt.broker import Broker

MAX_CONNECTIONS: Final = 32
MAX_MEMORY_BYTES: Final = 1 << 30  # of addresses: what nobody fetches is kept in memory
DEVICES: Final = "$hw/"
HOST: Final = "127.0.0.1"


class KubeEdgeBroker(Broker):  # type: ignore[misc]  # it has no types
    """amqtt throws out whoever publishes to a topic that begins with `$`, as a device twin does."""

    async def _handle_message_delivery(
        self, client_session: Any, handler: Any, wait_deliver: asyncio.Future[Any]
    ) -> bool:
        message = wait_deliver.result()
        topic = str(getattr(message, "topic", None) or "")
        if topic.startswith(DEVICES) and "+" not in topic and "#" not in topic:
            await self._broadcast_message(client_session, topic, message.data)
            return True
        delivered: bool = await super()._handle_message_delivery(
            client_session, handler, wait_deliver
        )
        return delivered


def free_port() -> int:
    """One that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def broker(port: int = 0) -> AsyncIterator[int]:
    """A broker on this loop, for as long as the block lasts. Gives its port."""
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    port = port or free_port()
    listener = {"type": "tcp", "bind": f"{HOST}:{port}", "max_connections": MAX_CONNECTIONS}
    config = {
        "listeners": {"default": listener},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    inner = KubeEdgeBroker(config)
    await inner.start()
    try:
        yield port
    finally:
        await inner.shutdown()


async def _run(port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with broker(port) as chosen:
        print(f"mqtt://{HOST}:{chosen}", flush=True)
        await stop.wait()


def main() -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=1883, help="0: any free one")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    asyncio.run(_run(options.port))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
