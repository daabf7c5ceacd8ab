"""The run behind the bench of the uplink: four processes, a backlog, outages, what each saw."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from tools.bench.rig.actor import Actor, acting
from tools.bench.rig.brokers import broker

NODE: Final = "cart-07"
PER_S: Final = 60  # results of real time
GRACE_US: Final = 5_000_000
ON_THE_ROAD_US: Final = 200_000
WARM_US: Final = 1_000_000
FRESH_US: Final = 1_000_000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """seconds: of backlog, of each kind. first_s, every_s: of the outages. limit_s: a drain that
    is not done by then is cut short, so that the bench ends on a machine that is too busy.

    opening: of each kind, the outages that come first, `gap_s` apart; see `between`. long_s: of
    those that are long, until the road is back; reconnect_s: until EdgeHub notices, between these.
    """

    seconds: dict[str, float]
    limit_s: float
    idle_s: float = 10.0
    tail_s: float = 5.0
    first_s: float = 10.0
    every_s: float = 30.0
    opening: dict[str, tuple[str, ...]] = {}
    gap_s: float = 8.0
    long_s: float = 60.0
    reconnect_s: tuple[float, float] = (20.0, 55.0)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What each process said."""

    broker: str
    filled: dict[str, Any]
    idle: dict[str, Any]
    drained: dict[str, Any]
    near: dict[str, Any]
    between: dict[str, Any]
    far: dict[str, Any]
    far_cpu_s: float


def measured(plan: Plan, kind: str, folder: Path) -> Run:
    with broker(folder) as (name, port), acting("tools.bench.rig.far", str(folder)) as far:
        outages = _outages(plan, kind)
        words = ("--port", str(port), "--node", NODE)
        to_far = ("--far", str(far.hear()["port"]))
        with acting("tools.bench.rig.between", *words, *to_far, *outages) as between:
            far.ask(f"router http://127.0.0.1:{between.hear()['rest_port']}")
            backlog = ("--kind", kind, "--seconds", str(plan.seconds[kind]))
            with acting("tools.bench.rig.near", str(folder), *words, *backlog) as near:
                return _performed(plan, near, between, far, name)


def _outages(plan: Plan, kind: str) -> tuple[str, ...]:
    return (
        "--first-s", str(plan.first_s), "--every-s", str(plan.every_s),
        "--opening", ",".join(plan.opening.get(kind, ())), "--gap-s", str(plan.gap_s),
        "--long-s", str(plan.long_s), "--reconnect-s", *map(str, plan.reconnect_s),
    )  # fmt: skip


def _performed(plan: Plan, near: Actor, between: Actor, far: Actor, name: str) -> Run:
    filled = near.hear()
    idle = near.ask(f"idle {plan.idle_s}")
    between.ask("begin")
    before_s = far.ask("cpu")["cpu_s"]
    drained = near.ask(f"drain {plan.limit_s} {plan.tail_s}")
    after_s = far.ask("cpu")["cpu_s"]
    said = between.ask("report")
    ended = near.ask("end")
    return Run(
        broker=name, filled=filled, idle=idle, drained=drained, near=ended, between=said,
        far=far.ask("report"), far_cpu_s=after_s - before_s,
    )  # fmt: skip


def road_s(run: Run) -> float:
    """Of the drain, without the windows of the outages: what it takes to find the road counts."""
    begun_us, ended_us = run.drained["begun_us"], run.drained["ended_us"]
    gone_us = sum(
        max(0, min(b, ended_us) - max(a, begun_us)) for a, b in run.between["windows"]
    )  # fmt: skip
    return float(ended_us - begun_us - gone_us) / 1e6


def found_us(run: Run) -> list[tuple[str, int, int]]:
    """Of each outage its name, its end, and when the first result was durable that was made since
    and was fresh: only then has the uplink found the road. The end of the run where none was.
    """
    ages = sorted((at_us + age_us, at_us) for at_us, age_us in run.far["ages"])
    found = []
    for name, (_, end_us) in zip(run.between["names"], run.between["windows"], strict=True):
        fresh = (now for now, at in ages if at >= end_us and now - at <= FRESH_US)
        found.append((name, end_us, next(fresh, max(end_us, run.drained["ended_us"]))))
    return found


def touched(run: Run) -> list[tuple[int, int]]:
    """The windows of the outages, with what was on the road before and until it was found."""
    return [
        (begun_us - ON_THE_ROAD_US, max(end_us + GRACE_US, found))
        for (begun_us, _), (_, end_us, found) in zip(
            run.between["windows"], found_us(run), strict=True
        )
    ]


def clear_course(run: Run) -> tuple[int, float]:
    """Records that went while no outage was near, and in how many seconds."""
    records, lasted_us, windows = 0, 0, touched(run)
    course = run.drained["course"]
    for (from_us, before), (to_us, after) in pairwise(course):
        if not _is_in(from_us, windows):
            records += before - after
            lasted_us += to_us - from_us
    return records, max(lasted_us, 1) / 1e6


def clear_ages(run: Run) -> tuple[list[int], list[int]]:
    """Ages of live results, microseconds: of those made outside of outages, and of all."""
    first_us, ended_us = run.drained["begun_us"] + WARM_US, run.drained["ended_us"]
    ages = [(at, age) for at, age in run.far["ages"] if first_us <= at <= ended_us]
    every, windows = [age for _, age in ages], touched(run)
    clear = [age for at, age in ages if not _is_in(at, windows)]
    return clear or every, every  # a drain may be all outage


def committed(run: Run) -> int:
    """Records, of both lives, that were not evicted."""
    found: int = run.near["appended"] - run.near["evicted"] + run.filled["evicted"]
    return found


def lost_records(run: Run) -> int:
    near, far = run.near, run.far
    # what is still in the spool is not lost, though some of it may be at the far side already
    if near["left"]:
        return int(max(0, near["acked"] - far["records"]))
    received: int = far["records"]
    return committed(run) - received


def _is_in(at_us: int, windows: list[tuple[int, int]]) -> bool:
    return any(a <= at_us <= b for a, b in windows)


def quantile_ms(ages_us: list[int], share: float) -> float:
    if not ages_us:
        return 0.0
    ordered = sorted(ages_us)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000
