"""The engine as the rest of the house has it: a side that infers, and the models that it runs.

A candidate lives in the side's memory alone. When the side dies the next one starts with what is
ordered, and that changes only by `commit`: a candidate that crashes its process never comes back by
itself. Judges nothing: counts go up, orders come down.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import anyio
import msgspec

from edge_agent import logs
from edge_agent.config.structs import EngineConfig
from edge_agent.core.errors import EdgeAgentError, Overloaded, Rejected, SideDied
from edge_agent.core.trial import Probation, ShadowCounts
from edge_agent.orders import Begin, StreamOrder
from edge_agent.services.engine.launch import Launch
from edge_agent.services.engine.line import Heard
from edge_agent.services.engine.side import OnRecord, Side
from edge_agent.services.engine.taps import Rest

log = logs.get("engine")

LOAD_TIMEOUT_S = 180.0
SWAP_TIMEOUT_S = 30.0  # streams that came after the load have their buffers warmed first
ROLL_BACK_TIMEOUT_S = 2.0  # it takes milliseconds; a side that is silent so long is ended
FIGURES_TIMEOUT_S = 4.0  # the same: nobody judges what is on trial while it is silent
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

    async def configure(self, orders: Sequence[StreamOrder], *, held: Collection[str] = ()) -> None:
        """Also streams whose model has its first version on trial (`allow_first`).

        Raises: SideDied, Rejected.
        """
        firsts = {ref.name: ref for order in orders for ref in order.models if ref.trial}
        for model in [one for one in self._may_try if one not in firsts]:
            del self._may_try[model]
            self._trials.pop(model, None)
        for model, ref in firsts.items():
            if self._may_try.get(model) == self.starts:
                version = ref.options.version
                self._trials[model] = Candidate(ref.folder, ref.sha, version, self.starts)
        await super().configure(orders, held=held)

    def allow_first(self, model: str) -> None:
        """The first version of a model may begin its trial, on the side that is up now."""
        self._may_try[model] = self.starts

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
        candidate = self._loaded.get((model, sha), Candidate("", sha, "", self.starts))
        self._trials[model] = (
            candidate  # first: whoever gives up waiting for the answer may be late
        )
        try:
            told = await self.ask(
                "swap", timeout_s=SWAP_TIMEOUT_S, model=model, sha=sha, trial=trial
            )
        except EdgeAgentError:
            self._trials.pop(model, None)
            raise
        self._loaded.pop((model, sha), None)
        if trial and told["previous"]:
            await self._watch_beside(model, str(told["previous"]))
        return int(told["streams"])

    async def _watch_beside(self, model: str, previous: str) -> None:
        try:
            await self.shadow(model, previous, BESIDE_EVERY)
        except (Rejected, Overloaded) as refused:  # the trial goes on without it
            log.warning("no comparison on trial", model=model, why=refused.what)

    async def figures(self, model: str) -> dict[str, Probation]:
        """By stream: the version that is live, the one before it, and how they compare."""
        told = await self.ask("figures", timeout_s=FIGURES_TIMEOUT_S, model=model)
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
        with anyio.CancelScope(shield=True):  # what the side runs and what is ordered go together
            await self.ask("commit", model=model)
            self._trials.pop(model, None)
            self._may_try.pop(model, None)
            self._orders = tuple(_with(order, model, trial) for order in self._orders)

    async def roll_back(self, model: str) -> int:
        """Back to the version before, at once; returns on how many streams.

        A side that does not answer is ended: the next one starts on what is ordered.
        """
        try:
            told = await self.ask("rollback", timeout_s=ROLL_BACK_TIMEOUT_S, model=model)
        except SideDied as silent:
            log.warning("roll-back was not answered", model=model, error=silent.what)
            self.end_side()
            return 0
        finally:
            self._trials.pop(model, None)
        return int(told["streams"])

    async def unload(self, model: str, sha: str) -> None:
        """Gives a candidate up that never went live; its shadow stops, its memory goes."""
        self._loaded.pop((model, sha), None)
        await self.ask("unload", model=model, sha=sha)

    def end_side(self) -> None:
        """Kills the side; the supervisor starts the next one, on what is ordered."""
        if self._launched is not None and self._line is not None:
            self._ended_by_us = True
            self._launched.kill()

    def rest(self, model: str, now_us: int) -> dict[str, Rest]:
        """How each stream of a model rests. now_us: CLOCK_BOOTTIME."""
        names = [
            o.name for o in self._orders if any(r.name == model and not r.pinned for r in o.models)
        ]
        return {name: self.taps[name].rest(now_us) for name in names if name in self.taps}

    def live(self, model: str) -> Candidate | None:
        """What its streams run now, on trial or not; None: none runs it, or there is no side."""
        if not self.is_up:
            return None
        if self.is_on_trial(model):
            return self._trials[model]
        for order in self._orders:
            for ref in order.models:
                if ref.name == model and not ref.pinned:
                    return Candidate(ref.folder, ref.sha, ref.options.version, self.starts)
        return None

    def active(self, model: str) -> Candidate | None:
        """What its streams run, or would on the next side; held by the configuration or not."""
        if self.is_on_trial(model):
            return self._trials[model]
        for order in self._orders:
            for ref in order.models:
                if ref.name == model:
                    return Candidate(ref.folder, ref.sha, ref.options.version, self.starts)
        return None

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
            trial=False,
            known=True,
            options=msgspec.structs.replace(ref.options, version=trial.version),
        )
        if ref.name == model and not ref.pinned
        else ref
        for ref in order.models
    )
    return msgspec.structs.replace(order, models=models)
