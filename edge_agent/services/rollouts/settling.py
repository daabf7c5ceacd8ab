"""Orders that end a rollout. Each may be done again: it looks at what is so and does what is left.

A commit moves the store's pointer first, because every later side starts with it; a roll-back takes
the candidate away from the live streams first, because a disk may refuse the rest.
"""

from __future__ import annotations

from typing import Final

import anyio.to_thread

from edge_agent import logs
from edge_agent.core.errors import Damaged, EdgeAgentError, Rejected
from edge_agent.core.rollout import Done, Rollout, Wanted
from edge_agent.services.rollouts.bench import Hand
from edge_agent.services.rollouts.ports import Live

FOLDERS: Final = "folders"  # what the folders of the configuration say, no installed version

log = logs.get("rollouts")


class Settling(Hand):
    """From a verdict to what is so, on the disk and in the side."""

    async def _commit(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        bench = self._bench
        await anyio.to_thread.run_sync(bench.store.commit, self._model, wanted.sha)
        try:
            await bench.side.commit(self._model)
            bench.house.keep_first(self._model)
        except EdgeAgentError as gone:  # the trial died with its side; the next is ordered anew
            log.warning("committed without its side", model=self._model, error=gone.what)
            bench.house.keep_first(self._model)
            await self._reorder()
        self._say(Done(turn=turn))

    async def _roll_back(self, turn: int, wanted: Wanted, document: Rollout) -> None:
        log.warning("rolled back", model=self._model, version=wanted.version,
                    why=document.report.reason)  # fmt: skip
        bench = self._bench
        await bench.side.roll_back(self._model)
        await self._first_off()
        current, previous = await anyio.to_thread.run_sync(self._pointed)
        if current == wanted.sha:  # a commit that was given up when it was half done
            await self._leave(wanted.sha, previous)
        self._say(Done(turn=turn))

    def _pointed(self) -> tuple[str, str]:
        """(current, previous); rotten ones name nothing. Blocks. Raises: Overloaded, Damaged."""
        try:
            pointers = self._bench.store.pointers(self._model)
        except Damaged as rotten:
            if not rotten.healable:
                raise
            return "", ""
        return pointers.current, pointers.previous

    async def _revert(self, turn: int, wanted: Wanted, document: Rollout) -> None:
        """What is committed and live is left for another one, which was committed before."""
        log.warning("rolled back", model=self._model, version=wanted.version,
                    why=document.report.reason)  # fmt: skip
        await self._bench.side.roll_back(self._model)  # one that is deaf is ended, nobody waits
        await self._leave(wanted.sha, "" if document.revert_to == FOLDERS else document.revert_to)
        self._say(Done(turn=turn))

    async def _leave(self, leaving: str, target: str) -> None:
        """target: sha, "" for what the folders say. The live streams first, then the pointer."""
        live = await self._target(target)
        is_moved = live is not None and await self._is_brought(live)
        try:
            await anyio.to_thread.run_sync(self._bench.store.revert, self._model, leaving, target)
        except EdgeAgentError:
            if not is_moved:  # nothing may run meanwhile (`Rollouts.blocked`)
                await self._reorder()
            raise
        if not is_moved:
            await self._reorder()

    async def _target(self, sha: str) -> Live | None:
        """None: nothing of this model may run; then its streams say why, and show nothing."""
        bench = self._bench
        try:
            live = await anyio.to_thread.run_sync(bench.house.resolve_to, self._model, sha)
        except Rejected as gone:
            log.warning("nothing to go back to", model=self._model, error=gone.what)
            return None
        return None if bench.house.blocked(self._model, live.sha) else live

    async def _is_brought(self, live: Live) -> bool:
        """Whether the side runs it now, swapped between two frames; else its streams start anew."""
        side = self._bench.side
        now = side.live(self._model)
        if now is None or now.sha == live.sha:
            return now is not None
        try:
            await side.load(self._model, str(live.folder), live.sha)
            await side.swap(self._model, live.sha, trial=False)
            await side.commit(self._model)
        except EdgeAgentError as gone:
            log.warning("rolled back by a restart", model=self._model, error=gone.what)
            return False
        return True

    async def _unload(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        await self._bench.side.shadow(self._model, "", 1)
        await self._bench.side.unload(self._model, wanted.sha)
        self._say(Done(turn=turn))

    async def _restart(self, turn: int, _wanted: Wanted, _: Rollout) -> None:
        """The last means: the next side starts on what is ordered, and never on a candidate."""
        self._bench.side.end_side()
        await self._reorder()
        self._say(Done(turn=turn))
