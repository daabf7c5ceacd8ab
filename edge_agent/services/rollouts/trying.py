"""Orders of a trial: beside the live model, and then in its place. Counts come up and are judged.

The live stream is never waited for: what is asked of the side is answered by it or refused.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from edge_agent import logs
from edge_agent.config.structs import RolloutsConfig
from edge_agent.core import moment
from edge_agent.core.drift import Limits
from edge_agent.core.errors import Overloaded
from edge_agent.core.rollout import Done, Judged, Moment, Rollout, Wanted
from edge_agent.services.rollouts import figures
from edge_agent.services.rollouts.bench import Hand

SHADOW_S: Final = 0.5  # between two looks at the counts
WAIT_S: Final = 1.0
PROBE_S: Final = 0.2  # a candidate that fails is taken back within a second
EVER_S: Final = 1e9  # on trial for long enough: only its commit could not be written yet

log = logs.get("rollouts")


class Trying(Hand):
    """From the load to the end of the probation."""

    async def _load(self, turn: int, wanted: Wanted, document: Rollout) -> None:
        side = self._bench.side
        self._start = side.starts
        streams = await side.load(self._model, str(await self._folder(wanted.sha)), wanted.sha)
        if not streams and not (document.first and self._streams_to_begin()):
            raise Overloaded(f"load {self._model}: no stream runs it at the moment")
        self._say(Done(turn=turn))

    async def _shadow(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        judge, started_s = await self._judge(wanted), anyio.current_time()
        while True:
            elapsed_s = anyio.current_time() - started_s
            self._say(await judge(turn, elapsed_s))
            await anyio.sleep(SHADOW_S)

    async def _judge(self, wanted: Wanted) -> Callable[[int, float], Awaitable[Judged]]:
        """Asks for the counts and judges them."""
        bench = self._bench
        manifest = await self._manifest(wanted)
        limits = limits_of(bench.config).of(manifest)

        async def judge(turn: int, elapsed_s: float) -> Judged:
            counts = await bench.side.shadow(self._model, wanted.sha, bench.config.shadow_every)
            return figures.of_shadow(turn, counts, manifest, limits, elapsed_s)

        return judge

    async def _wait(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        """For a moment to swap; meanwhile it may still be refused."""
        judge, started_s = await self._judge(wanted), anyio.current_time()
        while True:
            waits_for = self.waits_for(wanted)
            self._say(Moment(turn=turn, free=not waits_for, waits_for=waits_for))
            judged = await judge(turn, anyio.current_time() - started_s)
            if judged.verdict == "fail":
                self._say(judged)
            await anyio.sleep(WAIT_S)

    def waits_for(self, wanted: Wanted) -> str:
        """Why it may not be swapped now."""
        bench = self._bench
        streams = bench.house.streams()
        policies = {
            name: stream.swap
            for name, stream in streams.items()
            if any(model.name == self._model for model in stream.models)
        }
        rests = bench.side.rest(self._model, bench.clock.boot_us())
        idle = {
            name: moment.Idle(rest.exam, rest.no_signal_s, rest.since_exam_s)
            for name, rest in rests.items()
        }
        now = dt.datetime.now().astimezone()  # the window is told in the time of the ward
        return moment.waits_for(
            policies, idle, window=wanted.window, house_window=bench.config.window,
            minute=now.hour * 60 + now.minute,
        )  # fmt: skip

    async def _swap(self, turn: int, wanted: Wanted, document: Rollout) -> None:
        if document.first:
            streams = await self._begin_first(wanted)
        else:
            streams = await self._bench.side.swap(self._model, wanted.sha, trial=True)
        log.info("swapped, on trial", model=self._model, version=wanted.version, streams=streams)
        self._say(Done(turn=turn, facts={"swaps": streams}))

    async def _begin_first(self, wanted: Wanted) -> int:
        """Its streams start on it: there is no version before, so they showed nothing until now."""
        house = self._bench.house
        await house.first(self._model, await self._folder(wanted.sha), wanted.sha)
        return self._streams_to_begin()

    def _streams_to_begin(self) -> int:
        """Those that the configuration does not hold to a version."""
        return sum(
            any(model.name == self._model and not model.version for model in stream.models)
            for stream in self._bench.house.streams().values()
        )

    async def _probe(self, turn: int, wanted: Wanted, document: Rollout) -> None:
        bench = self._bench
        manifest = await self._manifest(wanted)
        limits, started_s = limits_of(bench.config).of(manifest), anyio.current_time()
        started_s -= EVER_S if document.unsettled else 0.0
        while True:
            self._check_side()
            counts = await bench.side.figures(self._model)
            self._check_side()
            elapsed_s = anyio.current_time() - started_s
            self._say(figures.of_probation(turn, counts, manifest, limits, elapsed_s))
            await anyio.sleep(PROBE_S)


def limits_of(config: RolloutsConfig) -> Limits:
    """What a trial is held to, before the package has its say."""
    return Limits(
        frames=config.shadow_frames,
        max_s=config.shadow_s,
        probation_frames=config.probation_frames,
        probation_s=config.probation_s,
    )
