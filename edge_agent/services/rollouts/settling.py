"""Orders that end a rollout: the store's pointer first, because every later side starts with it."""

from __future__ import annotations

import anyio.to_thread

from edge_agent import logs
from edge_agent.core.errors import EdgeAgentError
from edge_agent.core.rollout import Done, Rollout, Wanted
from edge_agent.services.rollouts.bench import Hand

log = logs.get("rollouts")


class Settling(Hand):
    """A roll-back that is not answered ends the side: the next starts on what is committed."""

    async def _commit(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        """The store first: what it says is what every later side starts with."""
        bench = self._bench
        await anyio.to_thread.run_sync(bench.store.commit, self._model, wanted.sha)
        try:
            await bench.side.commit(self._model)
        except EdgeAgentError as gone:  # the trial died with its side; the next is ordered anew
            log.warning("committed without its side", model=self._model, error=gone.what)
            await bench.house.reorder()
        self._say(Done(turn=turn))

    async def _roll_back(self, turn: int, wanted: Wanted, document: Rollout) -> None:
        log.warning("rolled back", model=self._model, version=wanted.version,
                    why=document.report.reason)  # fmt: skip
        bench = self._bench
        pointers = await anyio.to_thread.run_sync(bench.store.pointers, self._model)
        if pointers.current == wanted.sha:  # a commit that broke off half-way
            await anyio.to_thread.run_sync(self._point_back, wanted.sha)
        await bench.side.roll_back(self._model)
        self._say(Done(turn=turn))

    def _point_back(self, leaving: str) -> None:
        self._bench.store.roll_back(self._model, leaving=leaving, to_folders=True)

    async def _unload(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        await self._bench.side.shadow(self._model, "", 1)
        await self._bench.side.unload(self._model, wanted.sha)
        self._say(Done(turn=turn))

    async def _restart(self, turn: int, _wanted: Wanted, _: Rollout) -> None:
        self._bench.side.end_side()
        await self._bench.house.reorder()
        self._say(Done(turn=turn))

    async def _revert(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        """An operator wants the one before: the pointer first, then between two frames."""
        bench = self._bench
        await anyio.to_thread.run_sync(self._point_back, wanted.sha)
        live = await anyio.to_thread.run_sync(bench.house.resolve, self._model)
        try:
            await bench.side.load(self._model, str(live.folder), live.sha)
            await bench.side.swap(self._model, live.sha, trial=False)
            await bench.side.commit(self._model)
        except EdgeAgentError as gone:
            log.warning("rolled back by a restart", model=self._model, error=gone.what)
            await bench.house.reorder()
        self._say(Done(turn=turn))
