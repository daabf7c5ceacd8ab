from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from edge_agent.links.mqtt_client import Client
from tests.broker import Broker

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]


async def test_nagles_rule_never_holds_a_result_back(make_broker: Callable[..., Broker]) -> None:
    """40 ms on every other publish, and half of the backlog's share for it, until it was off."""
    client = Client("127.0.0.1", make_broker().port)
    async with client:
        sock = client.tcp()
        assert sock is not None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.acknowledge()
    assert client.tcp() is None
    client.acknowledge()  # there is nobody any more: nothing happens
