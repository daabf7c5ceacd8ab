"""What stands between: EdgeCore's double with all its faults, in a process of its own.

`begin` starts the outages: a cut of the link to the cloud, then a restart of EdgeCore, in turn.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from typing import Final

from edge_agent.cli.daemon import run_loop
from edge_agent.core.edgecore import Topics
from edge_agent.host import SystemClock
from tools.bench.rig.actor import orders, say
from tools.edgecore_double import EdgeCoreDouble, Rule
from tools.hot_tier.roads import UP

CUT_S: Final = 2.0
RESTART_S: Final = 1.0


class Outages:
    """windows: [from, to] of each, CLOCK_BOOTTIME in microseconds."""

    def __init__(self, edgecore: EdgeCoreDouble, first_s: float, every_s: float) -> None:
        self._edgecore, self._first_s, self._every_s = edgecore, first_s, every_s
        self._clock = SystemClock()
        self.windows: list[tuple[int, int]] = []

    async def run(self) -> None:
        await asyncio.sleep(self._first_s)
        while True:
            for outage in (self._cut, self._restart):
                begun_us = self._clock.boot_us()
                await outage()
                self.windows.append((begun_us, self._clock.boot_us()))
                await asyncio.sleep(self._every_s)

    async def _cut(self) -> None:
        self._edgecore.cut()
        await asyncio.sleep(CUT_S)
        self._edgecore.restore()

    async def _restart(self) -> None:
        await self._edgecore.restart(RESTART_S)


async def _serve(options: argparse.Namespace) -> None:
    topics = Topics.of("default", options.node)
    rule = Rule(topic=topics.up, url=f"http://127.0.0.1:{options.far}{UP}")
    devices = (f"default/{options.node}",)
    async with EdgeCoreDouble(
        port=options.port, node=options.node, rules=(rule,), devices=devices, rest=True
    ) as edgecore:
        outages = Outages(edgecore, options.first_s, options.every_s)
        task: asyncio.Task[None] | None = None
        say(rest_port=edgecore.rest_port)
        async for order in orders():
            if order[0] == "begin":
                task = asyncio.ensure_future(outages.run())
                say(ok=True)
            elif order[0] == "report":
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
                    edgecore.restore()
                say(windows=outages.windows, counts=dict(edgecore.counts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--far", type=int, required=True, help="the hot tier's port")
    parser.add_argument("--first-s", type=float, required=True)
    parser.add_argument("--every-s", type=float, required=True)
    options = parser.parse_args()
    run_loop(lambda: _serve(options))


if __name__ == "__main__":
    main()
