"""Carries out one order of the table and says what came of it, whatever that is."""

from __future__ import annotations

from typing import Final

from edge_agent.core.errors import (
    BadPackage,
    Damaged,
    EdgeAgentError,
    LinkDown,
    Overloaded,
    Rejected,
)
from edge_agent.core.rollout import Do, Failed, Rollout, SideLost, State
from edge_agent.services.rollouts.fetching import Fetching
from edge_agent.services.rollouts.settling import Settling
from edge_agent.services.rollouts.trying import LOST, Trying

HOLDS: Final = frozenset({"shadow", "wait", "swap", "probe"})


class Hands(Fetching, Trying, Settling):
    """Of one model: a method for each order."""

    async def clear(self, document: Rollout) -> None:
        """Nothing is on trial that this process did not put there: the room began anew."""
        side = self._bench.side
        if document.state is not State.COMMITTED and side.is_on_trial(self._model):
            await side.roll_back(self._model)

    async def do(self, order: Do, document: Rollout) -> None:
        """Says at least one event of that turn, unless it is cancelled."""
        assert document.wanted is not None
        try:
            await getattr(self, f"_{order.order}")(order.turn, document.wanted, document)
        except BadPackage as bad:
            self._fail(order.turn, bad, lasting=True)
        except (LinkDown, Overloaded) as short:
            self._fail(order.turn, short, weather=True, lasting=False)
        except Rejected as refused:
            if order.order in HOLDS and self._is_lost():
                self._say(SideLost(turn=order.turn, reason=LOST))
            else:
                self._fail(order.turn, refused, lasting=order.order == "load")
        except Damaged as disk:
            self._fail(order.turn, disk, lasting=False)
        except EdgeAgentError as lost:  # of the side: SideDied, and what its line says
            self._say(SideLost(turn=order.turn, reason=lost.what))
        finally:
            self._bench.progress(self._model, None)

    def _fail(
        self, turn: int, error: EdgeAgentError, *, weather: bool = False, lasting: bool
    ) -> None:
        reason = f"{error.what} -> {error.hint}" if error.hint else error.what
        self._say(Failed(turn=turn, reason=reason, weather=weather, lasting=lasting))
