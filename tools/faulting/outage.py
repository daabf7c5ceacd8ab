"""Hours without a road in simulated time, beside a minute of it: when do live results flow again?

Results are made all the time. The road goes, reset or silent; when it is back EdgeHub notices after
20 to 55 s and sends first what was published meanwhile. From then on is counted. Ten hours take
less than a minute; nobody sleeps. Once the road has been gone for a minute, results come in bunches
of a second, and one by one again from when it is back.

live_after_s   from when EdgeHub has its link again until a result is durable at the hot tier that
               was made since
fresh_after_s  until one of these is at most a second old by then: nothing queues any more
drained_s      from then until all that was made before then is durable
published      by the agent, from when the road went until EdgeHub has its link again
lost, doubled  appended and not durable once all has drained; durable twice
later_s        live_after_s, over that of an outage of a minute
"""

from __future__ import annotations

import random
import time
from typing import Any, Final

import msgspec

from edge_agent.core.logbook import LogKey
from edge_agent.core.ranges import Ranges, count
from tools.edgecore.road import Faults
from tools.faulting.simulated.cloud import Hub, Tier
from tools.faulting.simulated.edge import STREAMS, Bundle, Edge
from tools.faulting.simulated.moments import Moments

SECOND_US: Final = 1_000_000
WARM_US: Final = 30 * SECOND_US  # with a road, before it goes
FRESH_US: Final = SECOND_US  # as old a live result may be
SHORT_S: Final = 60.0
FINE_US: Final = 60 * SECOND_US
LIVE_FOR_US: Final = 60 * SECOND_US  # results are made for so long once they flow again
GIVEN_UP: Final = 2.0  # so many times the outage, and ten minutes: then it is over, and no success
MOST_LATER_S: Final = 5.0
MOST_PUBLISHED: Final = 150  # in ten hours and whatever is shorter


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """per_s: results a second, of each of two streams."""

    hours: float
    seed: int = 1
    per_s: int = 30
    silent: bool = False
    requeue: bool = False


def outage(plan: Plan) -> dict[str, Any]:
    """The figures; `ok` when live results flow as soon as after a minute and the sums are exact."""
    began_s = time.monotonic()
    short = Run(plan, SHORT_S).figures()
    long = Run(plan, plan.hours * 3600).figures()
    both = (short, long)
    flows = all(one["live_after_s"] is not None for one in both)
    later_s = round(long["live_after_s"] - short["live_after_s"], 1) if flows else None
    exact = not any(
        one[name] for one in both for name in ("lost", "doubled", "left", "waiting", "findings")
    )
    return {
        "hours": plan.hours,
        "seed": plan.seed,
        "silent": plan.silent,
        "minute": short,
        "outage": long,
        "later_s": later_s,
        "exact": exact,
        "seconds": round(time.monotonic() - began_s, 1),
        "ok": exact and later_s is not None and later_s <= MOST_LATER_S
        and long["published"] <= MOST_PUBLISHED,
    }  # fmt: skip


class Run:
    """One outage of so many seconds."""

    def __init__(self, plan: Plan, lasts_s: float) -> None:
        self._plan, self._lasts_us = plan, round(lasts_s * SECOND_US)
        self._dice = random.Random(plan.seed)
        self._moments = Moments()
        faults = Faults(seed=plan.seed, requeue=plan.requeue)
        self._tier = Tier(self._moments, self._down, self._durable)
        self._hub = Hub(self._moments, faults, self._tier.arrive, self._hear)
        self._edge = Edge(self._moments, self._dice, self._up)
        self._every_us = SECOND_US // plan.per_s
        self._first_us = self._moments.now_us
        self._makes, self._made = True, 0
        self._coarse_us = (0, 0)  # in between, results come in bunches
        self._back_us: int | None = None  # when EdgeHub had its link again
        self._live_us: int | None = None
        self._fresh_us: int | None = None
        self._drained_us: int | None = None
        self._published = self._waited = self._backlog = 0
        self._ages_us: list[int] = []  # of results made once they are fresh again

    def figures(self) -> dict[str, Any]:
        moments = self._moments
        self._edge.connect()
        self._make()
        moments.run(moments.now_us + WARM_US + self._dice.randrange(SECOND_US))
        self._suffer()
        give_up_us = moments.now_us + round(GIVEN_UP * self._lasts_us) + 600 * SECOND_US
        moments.run(give_up_us, lambda: self._fresh_us is not None)
        moments.run(min(give_up_us, moments.now_us + LIVE_FOR_US))
        self._makes = False
        moments.run(moments.now_us + 2 * self._every_us)
        self._edge.settle()
        moments.run(give_up_us + 600 * SECOND_US, self._is_drained)
        return self._told()

    def _told(self) -> dict[str, Any]:
        sheet, back_us = self._edge.shelf.sheet(), self._back_us or 0
        ages = sorted(self._ages_us)
        return {
            "lasts_s": round(self._lasts_us / 1e6, 1),
            "live_after_s": _seconds(self._live_us, back_us),
            "fresh_after_s": _seconds(self._fresh_us, back_us),
            "live_p99_ms": round(ages[len(ages) * 99 // 100] / 1000, 1) if ages else None,
            "drained_s": _seconds(self._drained_us, back_us),
            "published": self._published,
            "waited_in_edgehub": self._waited,
            "results": sheet.appended,
            "lost": sheet.appended - sum(map(count, self._tier.rows.values())),
            "doubled": self._tier.doubled,
            "again": self._tier.again,
            "left": sheet.pending,
            "waiting": self._tier.waiting,
            "findings": self._edge.findings,
        }

    # ── what happens ──────────────────────────────────────────────────────────────────────────

    def _make(self) -> None:
        if not self._makes:
            return
        now_us = self._moments.now_us
        due = (now_us - self._first_us) // self._every_us + 1
        self._edge.append(due - self._made)
        self._made = due
        from_us, until_us = self._coarse_us
        coarse = from_us <= now_us < until_us - SECOND_US
        self._moments.at(
            self._first_us + (due + coarse * self._plan.per_s) * self._every_us, self._make
        )

    def _suffer(self) -> None:
        """Returns when EdgeHub has its link again."""
        moments, before = self._moments, self._edge.published
        self._coarse_us = (moments.now_us + FINE_US, moments.now_us + self._lasts_us)
        (self._hub.silence if self._plan.silent else self._hub.cut)()
        moments.run(moments.now_us + self._lasts_us)
        self._hub.cut()  # the road is back, a silent one is reset
        notices_us = round(self._hub.upstream.notices_after_s() * SECOND_US)
        moments.run(moments.now_us + notices_us)
        self._published = self._edge.published - before
        self._waited = len(self._hub.upstream)
        self._back_us = moments.now_us
        self._backlog = (moments.now_us - self._first_us) // self._every_us
        self._hub.restore()

    def _up(self, bundle: Bundle) -> None:
        self._hub.publish(bundle)

    def _down(self, topic: str, payload: bytes) -> None:
        self._hub.send_down(topic, payload)

    def _hear(self, topic: str, payload: bytes) -> None:
        self._edge.hear(topic, payload)

    def _durable(self, _: LogKey, new: Ranges) -> None:
        if self._back_us is None:
            return
        now_us, rows = self._moments.now_us, self._tier.rows
        if self._drained_us is None and len(rows) == len(STREAMS):
            is_whole = all(
                some[0][0] == 1 and some[0][1] >= self._backlog for some in rows.values()
            )
            self._drained_us = now_us if is_whole else None
        for a, b in new:
            made_us = self._first_us + (b - 1) * self._every_us
            if made_us < self._back_us:
                continue
            self._live_us = self._live_us or now_us
            if self._fresh_us is None and now_us - made_us <= FRESH_US:
                self._fresh_us = now_us
            if self._fresh_us is not None and made_us >= self._fresh_us:
                self._ages_us.append(now_us - self._first_us - (a - 1) * self._every_us)

    def _is_drained(self) -> bool:
        pending = self._edge.shelf.sheet().pending
        return not pending and not self._tier.waiting and not self._makes


def _seconds(at_us: int | None, from_us: int) -> float | None:
    return None if at_us is None else round((at_us - from_us) / 1e6, 2)
