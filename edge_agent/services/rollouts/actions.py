"""Carries out one order of the table and says what came of it, as what it was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import anyio

from edge_agent import logs
from edge_agent.core.errors import EdgeAgentError, SideDied, fault_of
from edge_agent.core.rollout import Do, Failed, Order, Rollout, SideLost, Wanted, kind_of
from edge_agent.services.rollouts.bench import UP_S
from edge_agent.services.rollouts.fetching import Fetching
from edge_agent.services.rollouts.settling import Settling
from edge_agent.services.rollouts.trying import Trying

LIVE_ORDERS: Final = frozenset({"swap", "probe", "commit"})  # a first version may be live then

log = logs.get("rollouts")
Action = Callable[["Actions", int, Wanted, Rollout], Awaitable[None]]


class Actions(Fetching, Trying, Settling):
    """Of one model: an action for each order (`ACTIONS`)."""

    async def clear(self) -> None:
        """Nothing is on trial that this process did not put there: the service began anew."""
        side = self._bench.side
        await self._first_off()
        if side.is_on_trial(self._model):
            try:
                await side.roll_back(self._model)
            except EdgeAgentError as wrong:
                log.warning("not taken away", model=self._model, error=wrong.what)
                side.end_side()  # the next one starts on what is ordered

    async def take_away(self, order: Do) -> None:
        """The candidate, from the live streams, before anything that a disk may hold up."""
        if order.order != "roll_back":
            return
        try:
            await self._bench.side.roll_back(self._model)
        except EdgeAgentError as wrong:  # the order itself asks again, and tells
            log.warning("not taken away at once", model=self._model, error=wrong.what)

    async def do(self, order: Do, document: Rollout) -> None:
        """Says at least one event of that turn, unless it is cancelled."""
        assert document.wanted is not None
        if order.order not in LIVE_ORDERS:
            await self._first_off()
        kind, start = kind_of(order.order), self._bench.side.starts
        try:
            if kind.needs_side:
                await self._until_up(is_loaded=kind.holds and order.order != "load")
            await ACTIONS[order.order](self, order.turn, document.wanted, document)
        except SideDied as died:
            had = self._start if kind.holds and self._start else start
            await self._side_lost(order.turn, died, had)
        except EdgeAgentError as error:
            reason = f"{error.what} -> {error.hint}" if error.hint else error.what
            self._say(Failed(turn=order.turn, reason=reason, fault=fault_of(error)))
        finally:
            self._bench.progress(self._model, None)

    async def _until_up(self, *, is_loaded: bool) -> None:
        """The order's deadline ends the waiting. Raises: SideDied when it is another side now."""
        while not self._bench.side.is_up:  # noqa: ASYNC110 - nothing tells us
            await anyio.sleep(UP_S)
        if is_loaded:
            self._check_side()

    async def _side_lost(self, turn: int, died: SideDied, start: int) -> None:
        """Said when another side has been started, never before: until then nobody knows what runs.
        The order's deadline ends the waiting.
        """
        side = self._bench.side
        while side.starts == start:  # noqa: ASYNC110 - it has a deadline, and nothing tells us
            await anyio.sleep(UP_S)
        self._say(SideLost(turn=turn, reason=died.what, crashed=side.crashed))


ACTIONS: Final[Mapping[Order, Action]] = {
    "begin": Actions._begin,  # noqa: SLF001 - this table is the only way to them
    "fetch": Actions._fetch,  # noqa: SLF001
    "prove": Actions._prove,  # noqa: SLF001
    "load": Actions._load,  # noqa: SLF001
    "shadow": Actions._shadow,  # noqa: SLF001
    "wait": Actions._wait,  # noqa: SLF001
    "swap": Actions._swap,  # noqa: SLF001
    "probe": Actions._probe,  # noqa: SLF001
    "commit": Actions._commit,  # noqa: SLF001
    "roll_back": Actions._roll_back,  # noqa: SLF001
    "unload": Actions._unload,  # noqa: SLF001
    "revert": Actions._revert,  # noqa: SLF001
    "restart": Actions._restart,  # noqa: SLF001
}
