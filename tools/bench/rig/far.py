"""The far side of the uplink bench: the hot tier behind a Rule, in a process of its own.

Counts every record that becomes durable, and how old the live ones are by then.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edge_agent.cli.daemon import run_loop
from edge_agent.core.frames import AnyRecord
from edge_agent.host import SystemClock
from tools.bench.rig.actor import cpu_s, orders, say, until
from tools.hot_tier import HotTier, HttpRoad

LIVE_BOOT: Final = "11111111"  # in records made while the bench runs
GROWTH: Final = 1 << 16


class Count:
    """Each record once. ages: (made at, age when durable) of live ones, microseconds."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._seen: dict[tuple[str, int], bytearray] = {}
        self.records = self.doubled = 0
        self.ages: list[tuple[int, int]] = []

    def heard(self, records: Sequence[AnyRecord]) -> None:
        now_us = self._clock.boot_us()
        for record in records:
            seen = self._seen.setdefault((record.stream, record.epoch), bytearray())
            if record.seq >= len(seen):
                seen.extend(bytes(record.seq - len(seen) + GROWTH))
            self.doubled += seen[record.seq]
            self.records += not seen[record.seq]
            seen[record.seq] = 1
            if record.boot == LIVE_BOOT:
                self.ages.append((record.at_us, now_us - record.at_us))


async def _serve(folder: Path) -> None:
    road, count = HttpRoad(0), Count()
    async with HotTier(folder / "tier.db", road, heard=count.heard) as tier:
        await until(lambda: bool(road.port))
        gc.freeze()
        say(port=road.port)
        async for order in orders():
            if order[0] == "router":
                road.router = order[1]
                say(ok=True)
            elif order[0] == "cpu":
                say(cpu_s=cpu_s())
            elif order[0] == "report":
                await tier.settle()
                sheet = tier.sheet()
                say(
                    records=count.records,
                    doubled=count.doubled,
                    ages=count.ages,
                    waiting=sheet["total"]["waiting"],
                    void=sum(sheet["total"]["void"].values()),
                    repeated=sheet["total"]["duplicates"],
                    wire=sheet["wire"],
                    problems=[one["code"] for one in sheet["problems"]],
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    run_loop(lambda: _serve(folder))


if __name__ == "__main__":
    main()
