"""What stands between: EdgeCore's double with all its faults, in a process of its own.

`begin` starts the outages: those of `--opening` one after the other, then a cut of the link to the
cloud and a restart of EdgeCore in turn. A long one is a road that is gone, reset or silent, until
EdgeHub has noticed that it is back.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from contextlib import suppress
from typing import Final

import msgspec

from edge_agent.cli.daemon import run_loop
from edge_agent.core.edgecore import Topics
from edge_agent.host import SystemClock
from tools.bench.rig.actor import orders, say
from tools.edgecore_double import EdgeCoreDouble, Faults, Rule
from tools.hot_tier.roads import UP

CUT_S: Final = 2.0
RESTART_S: Final = 1.0
KINDS: Final = ("cut", "restart", "long-cut", "long-silent")
KEEP_CONNECTIONS: Final = 512  # here and at the hot tier, each a process of its own


class Outages:
    """windows: [from, to] of each, CLOCK_BOOTTIME in microseconds; one that was broken off too."""

    def __init__(self, edgecore: EdgeCoreDouble, options: argparse.Namespace) -> None:
        self._edgecore, self._options = edgecore, options
        self._clock = SystemClock()
        self.windows: list[tuple[int, int]] = []
        self.names: list[str] = []

    async def run(self) -> None:
        await asyncio.sleep(self._options.first_s)
        opening = [name for name in self._options.opening.split(",") if name]
        for name in opening:
            await self._suffer(name)
            await asyncio.sleep(self._options.gap_s)
        for name in itertools.cycle(("cut", "restart")):
            await self._suffer(name)
            await asyncio.sleep(self._options.every_s)

    async def _suffer(self, name: str) -> None:
        begun_us = self._clock.boot_us()
        self.names.append(name)
        try:
            if name == "cut":
                self._edgecore.cut()
                await asyncio.sleep(CUT_S)
                self._edgecore.restore()
            elif name == "restart":
                await self._edgecore.restart(RESTART_S)
            else:
                long_s = self._options.long_s
                await self._edgecore.outage(long_s, silent=name == "long-silent")
        finally:
            self.windows.append((begun_us, self._clock.boot_us()))


async def _serve(options: argparse.Namespace) -> None:
    topics = Topics.of("default", options.node)
    rule = Rule(topic=topics.up, url=f"http://127.0.0.1:{options.far}{UP}")
    devices = (f"default/{options.node}",)
    faults = msgspec.structs.replace(
        Faults(keep_connections=KEEP_CONNECTIONS),
        reconnect_least_s=options.reconnect_s[0],
        reconnect_most_s=options.reconnect_s[1],
    )
    async with EdgeCoreDouble(
        port=options.port, node=options.node, rules=(rule,), devices=devices, rest=True,
        faults=faults,
    ) as edgecore:  # fmt: skip
        outages = Outages(edgecore, options)
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
                say(
                    windows=outages.windows,
                    names=outages.names,
                    connections=edgecore.connections,
                    counts=dict(edgecore.counts),
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--far", type=int, required=True, help="the hot tier's port")
    parser.add_argument("--first-s", type=float, required=True)
    parser.add_argument("--every-s", type=float, required=True)
    parser.add_argument("--opening", default="", help=f"of {', '.join(KINDS)}, with commas")
    parser.add_argument("--gap-s", type=float, default=0.0, help="between those")
    parser.add_argument("--long-s", type=float, default=0.0)
    parser.add_argument("--reconnect-s", type=float, nargs=2, default=(20.0, 55.0))
    options = parser.parse_args()
    run_loop(lambda: _serve(options))


if __name__ == "__main__":
    main()
