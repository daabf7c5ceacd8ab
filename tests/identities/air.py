"""The road between agents and receivers as one object: it can lose, hold, repeat and forge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from edge_agent.core import edgecore
from edge_agent.core.edgecore import Ack
from edge_agent.core.errors import LinkDown
from edge_agent.ports import LinkSession

Message = tuple[str, bytes]
UP = "/up"


class Air:
    """loses_up, loses_down: which payloads never arrive. acks: all that receivers ever said."""

    def __init__(self) -> None:
        self._agents: dict[_Session, str] = {}
        self._tiers: list[_Session] = []
        self.loses_up: Callable[[bytes], bool] = lambda _: False
        self.loses_down: Callable[[bytes], bool] = lambda _: False
        self.acks: list[Message] = []

    @asynccontextmanager
    async def agent(self, node: str) -> AsyncIterator[_Session]:
        session = _Session(self.up)
        self._agents[session] = node
        try:
            yield session
        finally:
            self._agents.pop(session, None)

    @asynccontextmanager
    async def tier(self) -> AsyncIterator[_Session]:
        session = _Session(self.down)
        self._tiers.append(session)
        try:
            yield session
        finally:
            self._tiers.remove(session)

    def up(self, topic: str, payload: bytes) -> None:
        if topic.endswith(UP) and not self.loses_up(payload):
            for session in self._tiers:
                session.came((topic, payload))

    def down(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/ack"):
            self.acks.append((topic, payload))
        if not self.loses_down(payload):
            self.say(topic, payload)

    def say(self, topic: str, payload: bytes) -> None:
        """To every agent of that name, whoever says it."""
        for session, node in self._agents.items():
            if topic.startswith(f"edge-agent/{node}/"):
                session.came((topic, payload))

    def forge(self, **changes: object) -> None:
        """The last acknowledgement again, with other content."""
        topic, payload = self.acks[-1]
        ack = msgspec.structs.replace(msgspec.json.decode(payload, type=Ack), **changes)
        self.say(topic, edgecore.encode(ack))

    def cut(self) -> None:
        """Every agent is thrown out."""
        for session in list(self._agents):
            session.came(None)


class AgentRoad:
    """`ports.Link` of an agent."""

    def __init__(self, air: Air, node: str) -> None:
        self._air, self._node = air, node

    def connect(self) -> AbstractAsyncContextManager[LinkSession]:
        return self._air.agent(self._node)


class TierRoad:
    """`ports.Link` of a receiver."""

    def __init__(self, air: Air) -> None:
        self._air = air

    def connect(self) -> AbstractAsyncContextManager[LinkSession]:
        return self._air.tier()


class _Session:
    def __init__(self, publish: Callable[[str, bytes], None]) -> None:
        self._publish = publish
        self._waiting: asyncio.Queue[Message | None] = asyncio.Queue()

    def came(self, message: Message | None) -> None:
        self._waiting.put_nowait(message)

    async def publish(self, topic: str, payload: bytes) -> None:
        await asyncio.sleep(0)
        self._publish(topic, payload)

    async def messages(self) -> AsyncIterator[Message]:
        while (message := await self._waiting.get()) is not None:
            yield message
        raise LinkDown("the air was cut")
