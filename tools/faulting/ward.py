"""Everything around the agent that may fall over, and how likely it does.

agent ──▶ proxy (cuts) ──▶ broker ──▶ double of EdgeCore, all its faults ──Rule──▶ receiver
      ◀──────────────────────────── down ◀───────────────────── Router ◀── acks ──┘
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, final

import msgspec

from edge_agent.core.edgecore import Topics
from tools.broker import free_port
from tools.edgecore_double import EdgeCoreDouble, Faults, Rule
from tools.faulting.broker import MOSQUITTO, Broker
from tools.faulting.children import Children, nursery
from tools.faulting.content import NODE
from tools.faulting.proxy import Proxy, proxy
from tools.hot_tier.roads import UP

WAITING_S: Final = 15.0
SILENT_S: Final = 2.5
AGENT_LIFE_S: Final = 2.0  # the longest of a whole one, once it has begun


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """life_s: the longest of an agent. mode: of EdgeCore; 0: its broker dies with it. noticed_s:
    the longest until EdgeHub has a link again. The others: how likely within one life.
    """

    cycles: int
    seed: int
    life_s: float = 0.5
    cut: float = 0.35
    broker: float = 0.05
    edgecore: float = 0.08
    cloud: float = 0.08  # EdgeCore's own link
    receiver: float = 0.12
    silent: float = 0.0  # the road of EdgeCore, with a reset at its end
    mode: int = 2
    noticed_s: float = 0.1


@final
class Ward:
    """Everything around the agent that may fall over. deeds: what did, how often."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.dice = random.Random(plan.seed)
        self.deeds: Counter[str] = Counter()
        self.told = folder / "told"
        self.told.touch()
        self._tier_port = free_port()
        self._broker = Broker(folder, "mosquitto" if MOSQUITTO else "amqtt")
        self._stack = AsyncExitStack()
        self.children: Children
        self._road: Proxy
        self._edgecore: EdgeCoreDouble
        self._receiver = 0

    async def __aenter__(self) -> Ward:
        try:
            await self._set_up()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _set_up(self) -> None:
        self._stack.callback(self._broker.stop)
        await asyncio.to_thread(self._broker.start)
        enter = self._stack.enter_async_context
        self.children = await enter(nursery(self.folder / "log"))
        self._road = await enter(proxy(self._broker.port))
        up = Rule(
            topic=Topics.of("default", NODE).up, url=f"http://127.0.0.1:{self._tier_port}{UP}"
        )
        self._edgecore = await enter(
            EdgeCoreDouble(
                port=self._broker.port, node=NODE, rules=(up,), rest=True,
                faults=Faults(
                    seed=self.plan.seed, reconnect_least_s=0.0, reconnect_most_s=self.plan.noticed_s
                ),
                devices=(f"default/{NODE}",), broker=None if self.plan.mode else self._broker,
            )
        )  # fmt: skip
        await self._start_receiver()

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def counts(self) -> dict[str, int]:
        """What the double did to messages."""
        return dict(sorted(self._edgecore.counts.items()))

    @property
    def port(self) -> int:
        """Where an agent finds its broker."""
        return self._road.port

    async def upset(self) -> None:
        """Some of it falls over, by chance, and comes back."""
        deeds = {
            "cut": self._cut, "broker": self._restart_broker, "edgecore": self._restart_edgecore,
            "cloud": self._cut_cloud, "receiver": self._kill_receiver, "silent": self._silence,
        }  # fmt: skip
        for name, deed in deeds.items():
            likely = getattr(self.plan, name)
            if likely and self.dice.random() < likely:
                self.deeds[name] += 1
                await deed()

    async def waiting_ended(self) -> None:
        """By the receiver's sheet, which it writes each second; at most so long."""
        until_s = time.monotonic() + WAITING_S
        while time.monotonic() < until_s and _waiting(self.folder / "sheet"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def rest(self) -> None:
        """The receiver ends well, its files are whole."""
        await self.children.stop(self._receiver)

    async def _start_receiver(self) -> None:
        self._receiver = await self.children.start(
            "receiver",
            folder=str(self.folder),
            port=self._tier_port,
            router=f"http://127.0.0.1:{self._edgecore.rest_port}",
        )

    async def _cut(self) -> None:
        self._road.cut()

    async def _restart_broker(self) -> None:
        await asyncio.to_thread(self._broker.stop, kill=True)
        await asyncio.to_thread(self._broker.start)

    async def _restart_edgecore(self) -> None:
        await self._edgecore.restart()

    async def _cut_cloud(self) -> None:
        self._edgecore.cut()
        await asyncio.sleep(self.dice.random() * 0.1)
        self._edgecore.restore()

    async def _silence(self) -> None:
        """Longer than the agent waits for an ack."""
        await self._edgecore.outage(self.dice.random() * SILENT_S, silent=True)

    async def _kill_receiver(self) -> None:
        await self.children.kill(self._receiver)
        await self._start_receiver()


def _waiting(sheet: Path) -> int:
    return int(msgspec.json.decode(sheet.read_bytes())["total"]["waiting"])
