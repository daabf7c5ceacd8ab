"""The spool as the house has it: on disk, or the one in memory that stands in for it.

Whatever is wrong with the disk, the agent starts: it then keeps what it can and says so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import anyio.to_thread

from edge_agent import logs
from edge_agent.config.structs import Config
from edge_agent.core.errors import Damaged, Overloaded, Rejected
from edge_agent.core.problems import Problem
from edge_agent.core.reserve import DAY_S, GIB, Reserve, enough_gib
from edge_agent.ports import Clock, Spool, SpoolStats
from edge_agent.stores.condition import Condition, look, look_inside
from edge_agent.stores.spool import DiskSpool, Notice, SpoolLimits, open_spool
from edge_agent.stores.volatile import VolatileSpool

SPOOL_FILE: Final = "spool.db"
FULL_SHARE: Final = 0.9
TOLD_US: Final = 3_600_000_000  # so long what was lost stands among the problems
EVENT_US: Final = 60_000_000  # losses of one kind are told upstream together
RESTART: Final = "restart edge-agent"
LOOK_S: Final = 0.1  # until a disk is looked at that somebody has trouble with
HELD_US: Final = 10_000_000  # a cause that comes and goes stays the cause of trouble that goes on
AGAIN_S: Final = 2.0  # and until it is looked at again
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


class Unusable(NamedTuple):
    """Why nothing is kept on disk. is_disk: the folder itself, not a file of the spool's."""

    what: str
    fix: str
    is_disk: bool


class Store:
    """spool: whichever it is. disk: None while the one in memory stands in, `why` says for what.

    A disk that fails is one problem, whoever else can't write on it: those who ask `is_told` leave
    it to the store.
    """

    def __init__(
        self, spool: Spool, *, clock: Clock, disk: DiskSpool | None, folder: Path,
        why: Unusable | None = None, told: Sequence[Problem] = (),
    ) -> None:  # fmt: skip
        self.spool, self.disk, self._why, self._clock = spool, disk, why, clock
        self._folder, self._told = folder, tuple(told)
        self._losses: dict[str, Loss] = {}
        self._turns: dict[str, tuple[int | None, int]] = {}  # when told, and held back since
        self._tell: Tell = _nobody
        self._reserve = Reserve(clock.boot_us(), spool.stats().appended)
        self._condition: Condition | None = None
        self._seen_us = 0  # when that was last so
        self._is_back = False  # what was unusable at the start can be written by now
        self._waits: dict[str, Callable[[], bool]] = {}

    def share(self, name: str, waits: Callable[[], bool]) -> None:
        """Somebody else who writes on that disk. waits: whether the disk refuses what it has."""
        self._waits[name] = waits

    def is_told(self) -> bool:
        """The problem of the disk stands already; none of those who share it need tell it again."""
        is_volatile = self._why is not None and self._why.is_disk and not self._is_back
        return self._condition is not None or is_volatile

    async def watch(self, ready: Callable[[], None]) -> None:
        """The room: while somebody has trouble with the disk, what its matter is."""
        ready()
        while True:
            if self._why is not None or self._waiting() or self._trouble():
                self._found(
                    await anyio.to_thread.run_sync(looked_at, self._folder, abandon_on_cancel=True)
                )
            else:
                self._condition = None
            await anyio.sleep(LOOK_S if self._condition is None else AGAIN_S)

    def _found(self, condition: Condition | None) -> None:
        """A disk that takes a page now and then is still why somebody waits for it."""
        now_us = self._clock.boot_us()
        self._is_back = condition is None
        if condition is not None:
            self._condition, self._seen_us = condition, now_us
        elif self._why is not None or now_us - self._seen_us >= HELD_US:
            self._condition = None

    def _trouble(self) -> str:
        return self.disk.health().trouble if self.disk is not None else ""

    def _merged(self, one: Problem) -> list[Problem]:
        """What else was told with the same fix has the same cause: it is part of the problem."""
        is_same = {
            told: told.fix == one.fix or (self._is_back and told.fix.endswith(RESTART))
            for told in self._told
        }
        same = [told.what.partition(":")[0] for told in self._told if is_same[told]]
        others = [told for told in self._told if not is_same[told]]
        return [one._replace(what="; ".join([one.what, *same])), *others]

    def _waiting(self) -> list[str]:
        return [name for name, waits in self._waits.items() if waits()]

    def listen(self, tell: Tell) -> None:
        """tell: makes an event record. To be called on the loop, once."""
        self._tell = tell
        if self.disk is not None:
            self.disk.voices.on_notice(self._heard)

    def _heard(self, notice: Notice) -> None:
        now_us = self._clock.boot_us()
        if notice.name not in LOSSES:
            self._tell_turn(notice, now_us)
            return
        loss = self._losses.setdefault(notice.name, Loss(notice, now_us))
        loss.add(notice, now_us)
        records = loss.due(now_us)
        if records is not None:
            count = f"{records} records: " if records else ""
            self._tell(f"spool-{notice.name}", f"{count}{notice.what}")

    def _tell_turn(self, notice: Notice, now_us: int) -> None:
        """A disk that flaps turns all the time: of each kind one is told a minute, with a count."""
        told_us, held = self._turns.get(notice.name, (None, 0))
        if told_us is not None and now_us - told_us < EVENT_US:
            self._turns[notice.name] = (told_us, held + 1)
            return
        self._turns[notice.name] = (now_us, 0)
        count = f"{held + 1} times: " if held else ""
        self._tell(f"spool-{notice.name}", f"{count}{notice.what}")

    def problems(self) -> list[Problem]:
        """What a person should do something about."""
        found = list(self._told)
        if self._why is not None:
            return self._merged(self._volatile(self._why))
        assert self.disk is not None
        trouble, waiting = self._trouble(), self._waiting()
        if self._condition is not None and (trouble or waiting):
            who = ", ".join([*(["results"] if trouble else []), *waiting])
            what = f"state_dir: {self._condition.what}; not yet written: {who}"
            found.append(Problem("disk-unwritable", "critical", what, self._condition.fix))
        elif trouble:
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

    def _volatile(self, why: Unusable) -> Problem:
        lost = "nothing is kept on disk and nothing goes up, a restart loses what waits"
        now = self._condition if why.is_disk else None
        if why.is_disk and self._is_back:
            what, fix = f"state_dir can be written again, and yet {lost}", RESTART
        elif now is None or now.fix == why.fix:
            what, fix = f"{why.what}: {lost}", f"{why.fix}; then {RESTART}"
        else:
            what, fix = f"state_dir: {now.what}: {lost}", f"{now.fix}; then {RESTART}"
        return Problem("spool-volatile", "critical", what, fix)

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


def looked_at(folder: Path) -> Condition | None:
    """What is wrong with the state directory, or with what is in it. Blocks."""
    return look(folder) or look_inside(folder)


async def open_store(
    config: Config,
    *,
    clock: Clock,
    boot: str,
    unusable: Condition | None = None,
    told: Sequence[Problem] = (),
) -> Store:
    """Never raises for what is wrong with the disk.

    unusable: of the state directory, then no file of it is touched; of one that is full the spool
    is tried. told: what else is wrong there.
    """
    folder = Path(config.state_dir)
    limits = SpoolLimits(
        limit_bytes=config.spool.limit_bytes, ballast_bytes=config.spool.ballast_bytes
    )

    def opened() -> DiskSpool:
        return open_spool(
            folder / SPOOL_FILE, node=config.node, clock=clock, boot=boot,
            random32=lambda: secrets.randbits(32), limits=limits,
        )  # fmt: skip

    def volatile(why: Unusable) -> Store:
        log.error("the spool on disk can't be used", error=why.what, hint=why.fix)
        standing_in = VolatileSpool(
            epoch=secrets.randbits(31) | 1, limit_bytes=config.spool.volatile_bytes, clock=clock
        )
        return Store(standing_in, clock=clock, disk=None, folder=folder, why=why, told=told)

    if unusable is not None and not unusable.is_full:  # the spool has a ballast to give back
        return volatile(Unusable(f"state_dir: {unusable.what}", unusable.fix, is_disk=True))
    try:
        disk = await anyio.to_thread.run_sync(opened)
    except (Damaged, Overloaded, Rejected) as why:
        found = await anyio.to_thread.run_sync(looked_at, folder)
        if found is not None:
            return volatile(Unusable(f"state_dir: {found.what}", found.fix, is_disk=True))
        fix = why.hint or "check the disk (dmesg)"
        return volatile(Unusable(why.what, fix, is_disk=False))
    return Store(disk, clock=clock, disk=disk, folder=folder, told=told)
