"""The spool as the house has it: on disk, or the one in memory that stands in for it.

Whatever is wrong with the disk, the agent starts: it then keeps what it can and says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio.to_thread

from edge_agent import logs
from edge_agent.config.structs import Config
from edge_agent.core.errors import Damaged, EdgeAgentError, Overloaded, Rejected
from edge_agent.core.problems import Problem
from edge_agent.core.reserve import DAY_S, GIB, Reserve, enough_gib
from edge_agent.ports import Clock, Spool, SpoolStats
from edge_agent.stores.spool import DiskSpool, Notice, SpoolLimits, open_spool
from edge_agent.stores.volatile import VolatileSpool

SPOOL_FILE: Final = "spool.db"
FULL_SHARE: Final = 0.9
TOLD_US: Final = 3_600_000_000  # so long what was lost stands among the problems
EVENT_US: Final = 60_000_000  # losses of one kind are told upstream together
LOSSES: Final = ("evicted", "shed", "corrupt", "salvaged", "set-aside")

log = logs.get("spool")
Tell = Callable[[str, str], None]


class Loss:
    """Losses of one kind."""

    def __init__(self, notice: Notice, now_us: int) -> None:
        self.newest, self.seen_us = notice, now_us
        self.records = self.untold = 0
        self.told_us: int | None = None

    def add(self, notice: Notice, now_us: int) -> None:
        self.newest, self.seen_us = notice, now_us
        self.records += notice.records
        self.untold += notice.records

    def due(self, now_us: int) -> int | None:
        """Records to tell of now; counts as told."""
        if self.told_us is not None and now_us - self.told_us < EVENT_US:
            return None
        untold, self.untold, self.told_us = self.untold, 0, now_us
        return untold


class Store:
    """spool: whichever it is. disk: None while the one in memory stands in, `why` says for what."""

    def __init__(
        self, spool: Spool, *, clock: Clock, disk: DiskSpool | None, why: EdgeAgentError | None
    ) -> None:
        self.spool, self.disk, self._why, self._clock = spool, disk, why, clock
        self._losses: dict[str, Loss] = {}
        self._tell: Tell = _nobody
        self._reserve = Reserve(clock.boot_us(), spool.stats().appended)

    def listen(self, tell: Tell) -> None:
        """tell: makes an event record. To be called on the loop, once."""
        self._tell = tell
        if self.disk is not None:
            self.disk.voices.on_notice(self._heard)

    def _heard(self, notice: Notice) -> None:
        now_us = self._clock.boot_us()
        if notice.name not in LOSSES:
            self._tell(f"spool-{notice.name}", notice.what)
            return
        loss = self._losses.setdefault(notice.name, Loss(notice, now_us))
        loss.add(notice, now_us)
        records = loss.due(now_us)
        if records is not None:
            count = f"{records} records: " if records else ""
            self._tell(f"spool-{notice.name}", f"{count}{notice.what}")

    def problems(self) -> list[Problem]:
        """What a person should do something about."""
        if self._why is not None:
            what = f"nothing is kept on disk, a restart loses what waits: {self._why.what}"
            fix = f"{self._why.hint or 'check the disk (dmesg)'}; then restart edge-agent"
            return [Problem("spool-volatile", "critical", what, fix)]
        assert self.disk is not None
        found = []
        trouble = self.disk.health().trouble
        if trouble:
            what = f"the spool can't write: {trouble}"
            found.append(Problem("spool-unwritable", "critical", what, "check the disk: df, dmesg"))
        stats, now_us = self.spool.stats(), self._clock.boot_us()
        share = stats.bytes / max(1, stats.limit_bytes)
        if share >= FULL_SHARE:
            what = f"the spool is {share:.0%} full; then the oldest of the lowest class go first"
            fix = "edge-agent uplink test; or edge-agent spool export FILE"
            found.append(Problem("spool-full", "warning", what, fix))
        found += self._short(stats, now_us)
        for name, loss in self._losses.items():
            if now_us - loss.seen_us < TOLD_US:
                count = f"{loss.records} records: " if loss.records else ""
                fix = loss.newest.fix or "edge-agent spool status"
                what = f"spool: {count}{loss.newest.what}"
                found.append(Problem("spool-loss", "warning", what, fix, subject=name))
        return found

    def _short(self, stats: SpoolStats, now_us: int) -> list[Problem]:
        """A spool that would not last for a day without a network is told of before that day."""
        reserve = self._reserve
        reserve.look(now_us, records=stats.records, body_bytes=stats.bytes, appended=stats.appended)
        lasts_s, daily = reserve.lasts_s(stats.limit_bytes), reserve.bytes_per_day
        if daily is None or lasts_s is None or lasts_s >= DAY_S:
            return []
        what = f"without a network the spool is full after {lasts_s / 3600:.1f} h at this rate"
        fix = f"spool.limit_bytes = {enough_gib(daily) * GIB}, if the disk has so much"
        return [Problem("spool-short", "warning", what, fix)]

    async def aclose(self) -> None:
        if self.disk is not None:
            await self.disk.aclose()


def _nobody(_name: str, _what: str) -> None:
    """Until somebody listens."""


async def open_store(config: Config, *, clock: Clock, boot: str) -> Store:
    """Never raises for what is wrong with the disk."""
    limits = SpoolLimits(
        limit_bytes=config.spool.limit_bytes, ballast_bytes=config.spool.ballast_bytes
    )

    def opened() -> DiskSpool:
        return open_spool(
            Path(config.state_dir) / SPOOL_FILE, node=config.node, clock=clock, boot=boot,
            random32=lambda: secrets.randbits(32), limits=limits,
        )  # fmt: skip

    try:
        disk = await anyio.to_thread.run_sync(opened)
    except (Damaged, Overloaded, Rejected) as why:
        log.warning("the spool on disk can't be used", error=why.what, hint=why.hint)
        standing_in = VolatileSpool(
            epoch=secrets.randbits(31) | 1, limit_bytes=config.spool.volatile_bytes, clock=clock
        )
        return Store(standing_in, clock=clock, disk=None, why=why)
    return Store(disk, clock=clock, disk=disk, why=None)
