"""Feels the pulse of the agent: samples this machine, times the loop, feeds the watchdog.

The service manager's watchdog is fed only by proof of life: this loop turned, and every lane of the
engine has moved since the last feeding. A lane counts its turns, also those in which it waited for
a frame in vain; one that counts no more is stuck, and then nobody may say that all is well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import anyio
import anyio.to_thread

from edge_agent import logs
from edge_agent.ports import Clock, Host, HostSample

SAMPLE_PERIOD_S = 5.0
LAG_PERIOD_S = 0.25
LAG_WORTH_A_WORD_S = 0.25
PINGS_PER_LIMIT = 3  # so that one late ping kills nobody

log = logs.get("vitals")

Beats = tuple[int, ...]


class Pulse(NamedTuple):
    """What the last feeding saw. moved_s: when the lanes were last known to move."""

    beats: Beats
    moved_s: float


def may_ping(
    pulse: Pulse, beats: Beats, now_s: float, *, start_timeout_s: float
) -> tuple[bool, Pulse]:
    """Whether the watchdog may be fed, and the pulse to compare with next time. Pure.

    beats: turns of each lane; () while the engine starts or restarts, which may take at most
    `start_timeout_s` since the lanes last moved. Lanes that are new, or differ in number, have yet
    to move and are counted as starting.
    """
    if len(beats) != len(pulse.beats) or not beats:
        return now_s - pulse.moved_s <= start_timeout_s, Pulse(beats, pulse.moved_s)
    if all(now != then for now, then in zip(beats, pulse.beats, strict=True)):
        return True, Pulse(beats, now_s)
    return False, pulse


class Vitals:
    """`latest` is the newest sample of the host, None before the first.

    engine_beats: one count per lane, () while there are none. watchdog_s: the service manager's
    limit, None without one. on_lag: gets the lateness of the loop in seconds, four times a second.
    """

    def __init__(
        self,
        *,
        host: Host,
        clock: Clock,
        engine_beats: Callable[[], Beats],
        watchdog_s: float | None,
        start_timeout_s: float,
        on_lag: Callable[[float], None] | None = None,
        period_s: float = SAMPLE_PERIOD_S,
    ) -> None:
        self._host = host
        self._clock = clock
        self._engine_beats = engine_beats
        self._watchdog_s = watchdog_s
        self._start_timeout_s = start_timeout_s
        self._on_lag = on_lag
        self._period_s = period_s
        self.latest: HostSample | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        await self._sample()
        ready()
        async with anyio.create_task_group() as group:
            group.start_soon(self._sample_for_ever)
            group.start_soon(self._time_the_loop)
            if self._watchdog_s is not None:
                group.start_soon(self._feed, self._watchdog_s)

    async def _sample(self) -> None:
        self.latest = await anyio.to_thread.run_sync(self._host.sample)

    async def _sample_for_ever(self) -> None:
        while True:
            await anyio.sleep(self._period_s)
            await self._sample()

    async def _time_the_loop(self) -> None:
        while True:
            due_s = self._now_s() + LAG_PERIOD_S
            await anyio.sleep(LAG_PERIOD_S)
            lag_s = max(0.0, self._now_s() - due_s)
            if self._on_lag is not None:
                self._on_lag(lag_s)
            if lag_s > LAG_WORTH_A_WORD_S:
                log.warning("event loop was held up", lag_s=round(lag_s, 3))

    async def _feed(self, limit_s: float) -> None:
        pulse = Pulse((), self._now_s())
        held_back = False
        while True:
            beats = self._engine_beats()
            may, pulse = may_ping(
                pulse, beats, self._now_s(), start_timeout_s=self._start_timeout_s
            )
            if may:
                self._host.notify("WATCHDOG=1")
            elif not held_back:
                log.error("watchdog not fed: lanes do not move", beats=str(beats), limit_s=limit_s)
            held_back = not may
            await anyio.sleep(limit_s / PINGS_PER_LIMIT)

    def _now_s(self) -> float:
        return self._clock.boot_us() / 1e6
