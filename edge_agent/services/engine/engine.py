"""The engine as the rest of the house has it: a side that infers, and the models that it runs.

A candidate lives in the side's memory alone. When the side dies the next one starts with what is
ordered, and that changes only by `commit`: a candidate that crashes its process never comes back by
itself. Judges nothing: counts go up, orders come down.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edge_agent import logs
from edge_agent.config.structs import EngineConfig
from edge_agent.core.errors import Rejected, SideDied
from edge_agent.core.trial import Probation, ShadowCounts
from edge_agent.orders import Begin, StreamOrder
from edge_agent.services.engine.launch import Launch
from edge_agent.services.engine.line import Heard
from edge_agent.services.engine.side import OnRecord, Side
from edge_agent.services.engine.taps import Rest

log = logs.get("engine")

LOAD_TIMEOUT_S = 180.0
ROLL_BACK_TIMEOUT_S = 2.0  # it takes milliseconds; a side that is silent so long is ended
BESIDE_EVERY = 5  # on trial the version before looks at each 5th frame, for comparison


class Candidate(NamedTuple):
    """start: of the side that has loaded it; another one knows nothing of it."""

    folder: str
    sha: str
    version: str
    start: int


class Engine(Side):
    """Each verb raises SideDied when there is no side or it dies meanwhile, Rejected as told."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        begin: Begin,
        launch: Launch,
        on_record: OnRecord,
        heard: Heard,
    ) -> None:
        super().__init__(
            config=config, begin=begin, launch=launch, on_record=on_record, heard=heard
        )
        self._loaded: dict[tuple[str, str], Candidate] = {}
        self._trials: dict[str, Candidate] = {}

    async def load(self, model: str, folder: str, sha: str) -> int:
        """Prepares a candidate beside the live version; returns on how many streams.

        Raises: Rejected when it is no model, breaks the contract of a stream, or does not run.
        """
        start = self.starts
        told = await self.ask("load", timeout_s=LOAD_TIMEOUT_S, model=model, folder=folder, sha=sha)
        self._loaded[model, sha] = Candidate(folder, sha, str(told["version"]), start)
        return int(told["streams"])

    async def shadow(self, model: str, sha: str, every: int = 1) -> dict[str, ShadowCounts]:
        """Runs a loaded candidate beside the live version; again: the counts so far, by stream.

        sha "" stops it and gives the last counts.
        """
        told = await self.ask("shadow", model=model, sha=sha, every=every)
        return msgspec.convert(told["counts"], dict[str, ShadowCounts])

    async def swap(self, model: str, sha: str, *, trial: bool = True) -> int:
        """Now, between two frames, on every stream of the model; returns on how many.

        On trial its results say so, and the version before looks at some frames beside it.
        """
        told = await self.ask("swap", model=model, sha=sha, trial=trial)
        self._trials[model] = self._loaded.pop((model, sha), Candidate("", sha, "", self.starts))
        if trial and told["previous"]:
            await self._watch_beside(model, str(told["previous"]))
        return int(told["streams"])

    async def _watch_beside(self, model: str, previous: str) -> None:
        try:
            await self.shadow(model, previous, BESIDE_EVERY)
        except Rejected as refused:  # the trial goes on without it
            log.warning("no comparison on trial", model=model, why=refused.what)

    async def figures(self, model: str) -> dict[str, Probation]:
        """By stream: the version that is live, the one before it, and how they compare."""
        told = await self.ask("figures", model=model)
        return msgspec.convert(told["counts"], dict[str, Probation])

    async def commit(self, model: str) -> None:
        """What is on trial stays, also for the sides to come; memory of the one before goes.

        Raises: Rejected when nothing is on trial, or its side is gone and with it the trial.
        """
        trial = self._trials.get(model)
        if trial is None or trial.start != self.starts or not trial.folder:
            self._trials.pop(model, None)
            raise Rejected(
                f"commit {model}: nothing is on trial; the side that ran it is gone",
                hint="start the rollout again",
            )
        await self.ask("commit", model=model)
        async with self._ordering:
            del self._trials[model]
            self._orders = tuple(_with(order, model, trial) for order in self._orders)

    async def roll_back(self, model: str) -> int:
        """Back to the version before, at once; returns on how many streams.

        A side that does not answer is ended: the next one starts on what is ordered.
        """
        self._trials.pop(model, None)
        try:
            told = await self.ask("rollback", timeout_s=ROLL_BACK_TIMEOUT_S, model=model)
        except SideDied as silent:
            log.warning("roll-back was not answered", model=model, error=silent.what)
            self.end_side()
            return 0
        return int(told["streams"])

    async def unload(self, model: str, sha: str) -> None:
        """Gives a candidate up that never went live; its shadow stops, its memory goes."""
        self._loaded.pop((model, sha), None)
        await self.ask("unload", model=model, sha=sha)

    def end_side(self) -> None:
        """Kills the side; the supervisor starts the next one, on what is ordered."""
        if self._launched is not None and self._line is not None:
            self._launched.kill()

    def rest(self, model: str, now_us: int) -> dict[str, Rest]:
        """How each stream of a model rests. now_us: CLOCK_BOOTTIME."""
        names = [o.name for o in self._orders if any(ref.name == model for ref in o.models)]
        return {name: self.taps[name].rest(now_us) for name in names if name in self.taps}

    def is_on_trial(self, model: str) -> bool:
        """False also when the side that ran it is gone."""
        trial = self._trials.get(model)
        return trial is not None and trial.start == self.starts and self.is_up


def _with(order: StreamOrder, model: str, trial: Candidate) -> StreamOrder:
    """The order with that version of the model; equal to what the store resolves from now on."""
    models = tuple(
        msgspec.structs.replace(
            ref,
            folder=trial.folder,
            sha=trial.sha,
            options=msgspec.structs.replace(ref.options, version=trial.version),
        )
        if ref.name == model
        else ref
        for ref in order.models
    )
    return msgspec.structs.replace(order, models=models)
