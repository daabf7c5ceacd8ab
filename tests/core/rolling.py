"""A rollout that is driven by hand, for the tests of its table."""

from __future__ import annotations

from typing import Any

from edge_agent.core import rollout as ro
from edge_agent.core.rollout import Limits, Rollout, State

LIMITS = Limits(agent="0.1.0")
SHA = {name: name * 64 for name in "abc"}


def wanted(sha: str = "a", mode: Any = "swap", **more: Any) -> ro.Wanted:
    return ro.Wanted(version="1.1.0", sha=SHA[sha], mode=mode, **more)


class Walk:
    """A document that is driven by hand: `say` an event, `answer` the order that is out."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.document = Rollout(model="us-chamber")
        self.now_s = 100.0
        self.boots = 0
        self.told: list[ro.Report] = []
        self.orders: list[str] = []

    def say(self, event: ro.Event, after_s: float = 0.0) -> None:
        self.now_s += after_s
        self.document, acts = ro.step(self.document, event, self.now_s, self.limits)
        self.told += [act.report for act in acts if isinstance(act, ro.Tell)]
        self.orders += [act.order for act in acts if isinstance(act, ro.Do)]
        assert ro.decode(ro.encode(self.document)) == self.document

    def stands(self, where: str) -> bool:
        """At that state, or with that order out."""
        return where in (self.document.state, self.document.order)

    def answer(self, kind: Any, **words: Any) -> None:
        self.say(kind(turn=self.document.turn, **words))

    def reboot(self) -> None:
        self.document = ro.decode(ro.encode(self.document))
        self.now_s = 5.0
        self.boots += 1
        self.say(ro.Resumed(boot=str(self.boots)))

    def to(self, state: State, order: str = "") -> Walk:
        """Along the happy way until it stands there."""
        if self.document.is_settled:
            self.say(ro.Offered(wanted=wanted()))
        for _ in range(12):
            if self.document.state is state and order in ("", self.document.order):
                return self
            self.happy()
        raise AssertionError(f"{state} was never reached: {self.document}")

    def happy(self) -> None:
        order = self.document.order
        if order == "prove" and self.document.state is State.BUILDING:
            self.answer(ro.Built)
        elif order in ("shadow", "probe"):
            self.answer(ro.Judged, verdict="pass", facts={"agreement": 0.9})
        elif order == "wait":
            self.answer(ro.Moment, free=True)
        else:
            self.answer(ro.Done)
