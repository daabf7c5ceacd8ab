"""Orders that an installer carries out: find, fetch, install, prove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import msgspec

from edge_agent.core.errors import Damaged, Rejected
from edge_agent.core.rollout import Built, Done, Fetched, Rollout, Wanted
from edge_agent.errands import Errand
from edge_agent.services.rollouts.bench import Hand
from edge_agent.services.rollouts.ports import Live, Progress


class Fetching(Hand):
    """Nothing of it touches the inference side."""

    def _errand(self, verb: Any, wanted: Wanted, **more: Any) -> Errand:
        bench, place = self._bench, self._bench.place
        if wanted.source:
            place = msgspec.structs.replace(place, extra=(wanted.source, *place.extra))
        return Errand(
            verb=verb, place=place, agent=bench.agent, model=self._model, version=wanted.version,
            sha=wanted.sha, **more,
        )  # fmt: skip

    async def _run(self, turn: int, errand: Errand) -> dict[str, Any]:
        def told(what: str, facts: Mapping[str, Any]) -> None:
            if what == "built":
                self._say(Built(turn=turn, facts=dict(facts)))
            if what == "fetched":
                self._say(Fetched(turn=turn))
            done, of = facts.get("done", 0), facts.get("of", 0)
            self._bench.progress(self._model, Progress(what, int(done), int(of)))

        self._bench.progress(self._model, Progress(errand.verb))
        return await self._bench.crew.run(errand, told)

    async def _begin(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        """What has rotted since it was installed is not there: it is fetched again."""
        has = await anyio.to_thread.run_sync(self._bench.store.has, wanted.sha)
        self._say(Done(turn=turn, have=has, facts={"via": "store"} if has else {}))

    async def _fetch(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        self._say(Done(turn=turn, facts=await self._run(turn, self._errand("fetch", wanted))))

    async def _prove(self, turn: int, wanted: Wanted, _: Rollout) -> None:
        bench = self._bench
        live = await self._live()
        errand = self._errand(
            "prove", wanted, live=str(live.folder) if live else "", backend=bench.engine.backend,
            threads=bench.engine.threads_per_run, proof_s=bench.config.proof_s,
            proof_memory_bytes=bench.config.proof_memory_bytes,
        )  # fmt: skip
        facts = await self._run(turn, errand)
        if live is not None:
            facts["previous"] = live.version
        self._say(Done(turn=turn, facts=facts, first=live is None))

    async def _running(self) -> Live | None:
        """What the side runs, where the store can't say any more; None: nothing."""
        now = self._bench.side.live(self._model)
        folder = await anyio.to_thread.run_sync(self._bench.store.folder, now.sha) if now else None
        return Live(folder, now.sha, now.version) if now is not None and folder else None

    async def _live(self) -> Live | None:
        """What the candidate would follow; None: no version of this model may run here.

        Raises: Damaged, Overloaded.
        """
        house = self._bench.house
        try:
            live = await anyio.to_thread.run_sync(house.resolve, self._model)
        except Rejected:
            return None
        except Damaged as rotten:
            if not rotten.healable:
                raise
            found = await self._running()
            if found is None:
                return None
            live = found
        return None if house.blocked(self._model, live.sha) else live
