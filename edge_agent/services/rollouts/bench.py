"""What every order may need, and what every action does alike. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from edge_agent import logs
from edge_agent.config.structs import EngineConfig, RolloutsConfig
from edge_agent.core.errors import EdgeAgentError, Rejected, SideDied
from edge_agent.core.manifest import Manifest
from edge_agent.core.rollout import Event, Wanted
from edge_agent.errands import Place
from edge_agent.ports import Clock
from edge_agent.services.rollouts.ports import Crew, House, Progress, Side, Store

UP_S = 0.05

log = logs.get("rollouts")
Say = Callable[[Event], None]


class Bench(NamedTuple):
    """What every order may need. place: of the errands. manifest: of a folder; blocks."""

    config: RolloutsConfig
    engine: EngineConfig
    place: Place
    agent: str
    side: Side
    store: Store
    crew: Crew
    house: House
    clock: Clock
    manifest: Callable[[Path], Manifest]
    progress: Callable[[str, Progress | None], None]


class Hand:
    """Of one model. say: an event for its table."""

    def __init__(self, model: str, bench: Bench, say: Say) -> None:
        self._model = model
        self._bench = bench
        self._say = say
        self._start = 0  # of the side that has the candidate

    def _check_side(self) -> None:
        """Another side knows nothing of what this one had loaded. Raises: SideDied."""
        if self._bench.side.starts != self._start:
            raise SideDied("the inference side died with it")

    async def _folder(self, sha: str) -> Path:
        """Raises: Rejected."""
        folder = await anyio.to_thread.run_sync(self._bench.store.folder, sha)
        if folder is None:
            raise Rejected(f"find package {sha[:16]}: it is no longer installed")
        return folder

    async def _manifest(self, wanted: Wanted) -> Manifest:
        folder = await self._folder(wanted.sha)
        return await anyio.to_thread.run_sync(self._bench.manifest, folder)

    async def _first_off(self) -> None:
        """No first version is on trial any more; a side that is away starts without it."""
        try:
            await self._bench.house.first(self._model, None, "")
        except EdgeAgentError as gone:
            log.warning("the next side starts without it", model=self._model, error=gone.what)

    async def _reorder(self) -> None:
        """The streams get what the store says now; a side that is away gets it when it comes."""
        try:
            await self._bench.house.reorder()
        except SideDied as gone:
            log.warning("the next side starts on it", model=self._model, error=gone.what)
