"""The table: where a rollout stands, what it hears, what is done next.

    offered → fetching → verifying → building → golden → shadow → probation → committed
                                                        any of them → rejected | rolled_back

Pure: `step` takes the document and an event, and gives the next document and what to do. Whoever
drives it writes the document down before it does anything. The live model changes by the orders
`swap`, `roll_back` and `revert` alone; `restart` is the last means of a roll-back.

A process that dies takes a rollout up again where it was: a download goes on; what was on trial
has failed once more, and after `Limits.trials` such failures the package is refused for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from edge_agent.core.rollout import answers
from edge_agent.core.rollout import events as ev
from edge_agent.core.rollout.answers import (
    SETTLING,
    failed_trial,
    inconclusive,
    on_trial,
    undone,
    unsettled,
)
from edge_agent.core.rollout.document import (
    AT_REST,
    FINAL,
    ON_TRIAL,
    Limits,
    Order,
    Report,
    Rollout,
    State,
    Wanted,
)
from edge_agent.core.rollout.ends import close, end, go, start

replace = msgspec.structs.replace


class Do(msgspec.Struct, frozen=True, kw_only=True):
    """Give up whatever is under way, do this, answer with its turn."""

    order: Order
    turn: int


class Tell(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout ended: its report goes up."""

    report: Report


Act = Do | Tell


def step(
    before: Rollout, event: ev.Event, now_s: float, limits: Limits
) -> tuple[Rollout, tuple[Act, ...]]:
    """now_s: CLOCK_BOOTTIME. The document has to be on disk before an act is begun."""
    document = _aged(before, now_s, is_first=isinstance(event, ev.Resumed))
    if isinstance(event, ev.Answer) and event.turn != document.turn:
        return document, ()
    after = _HEARD[type(event)](document, event, now_s, limits)
    acts: list[Act] = []
    if after.history != before.history:
        acts.append(Tell(report=after.history[-1]))
    if after.turn != before.turn and after.order not in ("", "pause"):
        acts.append(Do(order=after.order, turn=after.turn))
    return after, tuple(acts)


def _aged(document: Rollout, now_s: float, *, is_first: bool) -> Rollout:
    """A new process counts from now on: nobody knows how long the last one had been dead."""
    passed_s = 0.0 if is_first else max(0.0, now_s - document.at_s)
    if document.is_settled:
        return replace(document, at_s=now_s)
    return replace(
        document,
        at_s=now_s,
        spent_s=document.spent_s + passed_s,
        total_s=document.total_s + passed_s,
    )


# ── what anybody may say at any time ──────────────────────────────────────────────────────────


def _resumed(document: Rollout, _: ev.Resumed, now_s: float, limits: Limits) -> Rollout:
    orderly, document = document.orderly, replace(document, orderly=False)
    if document.is_settled:
        return replace(document, resting_until_s=0.0)
    document = replace(document, returns=document.returns + 1, loaded=False)
    state = document.state
    if document.returns > limits.returns:
        reason = f"taken up {limits.returns} times without an end"
        if state in FINAL:
            return close(document, now_s, limits)
        return end(document, undone(state), reason, now_s, limits)
    if state in ON_TRIAL and not orderly:
        reason = f"the agent or the machine died while it was in {state.value}"
        return failed_trial(replace(document, proved=False), reason, now_s, limits)
    return on_trial(document) if state in ON_TRIAL else _taken_up(document)


def _taken_up(document: Rollout) -> Rollout:
    document = replace(document, tries=0)
    if document.state in FINAL or document.state is State.OFFERED:
        return go(document, document.state, document.order)
    return go(document, State.FETCHING, "fetch")  # a complete one ends at once


def _stopping(document: Rollout, _: ev.Stopping, _now_s: float, _limits: Limits) -> Rollout:
    if document.state in ON_TRIAL and not document.orderly:
        document = replace(document, trials=max(0, document.trials - 1))
    return replace(document, orderly=True)


def _offered(document: Rollout, event: ev.Offered, now_s: float, limits: Limits) -> Rollout:
    wanted, present = event.wanted, document.wanted
    if document.is_settled:
        is_same = present is not None and present.sha == wanted.sha
        if not event.again and (
            document.refusal_of(wanted.sha, limits.agent)
            or (is_same and now_s < document.resting_until_s)
        ):
            return document
        return start(document, wanted)
    assert present is not None
    if document.state not in FINAL and (present.sha, present.mode) == (wanted.sha, wanted.mode):
        return replace(document, wanted=wanted, next=None)
    document = replace(document, next=wanted)
    if document.state in FINAL or document.state is State.PROBATION:
        return document  # first comes to its own end
    reason = f"given up for {wanted.version}"
    return end(document, State.REJECTED, reason, now_s, limits, rests=False)


def _withdrawn(document: Rollout, event: ev.Withdrawn, now_s: float, limits: Limits) -> Rollout:
    document = replace(document, next=None)
    if document.state in AT_REST:
        return document
    return end(document, undone(document.state), event.reason, now_s, limits, rests=False)


def _roll_back_wanted(
    document: Rollout, event: ev.RollBackWanted, now_s: float, limits: Limits
) -> Rollout:
    reason = "rolled back by hand"
    document = replace(document, next=None)
    if document.state not in AT_REST:
        return end(document, undone(document.state), reason, now_s, limits, lasting=True)
    if not document.is_settled or not event.sha:
        return document
    wanted = Wanted(version=event.live_version or "0.0.0", sha=event.live, by="operator")
    document = replace(start(document, wanted), revert_to=event.sha)
    document = replace(document, report=replace(document.report, previous=event.version))
    return end(document, State.ROLLED_BACK, reason, now_s, limits, lasting=True)


# ── time ──────────────────────────────────────────────────────────────────────────────────────


def _tick(document: Rollout, _: ev.Tick, now_s: float, limits: Limits) -> Rollout:
    order = document.order
    if not order:
        return document
    late = document.spent_s > _deadline_s(document, limits)
    if late:
        return _late(document, now_s, limits)
    if order == "pause" and now_s >= document.retry_s:
        return go(document, document.state, "fetch")
    return document


def _deadline_s(document: Rollout, limits: Limits) -> float:
    is_watching = document.wanted is not None and document.wanted.mode == "shadow"
    return {
        "begin": limits.begin_s,
        "fetch": limits.fetch_s,
        "pause": limits.fetch_s,
        "admit": limits.verify_s,
        "prove": limits.prove_s,
        "load": limits.load_s,
        "shadow": limits.observe_s if is_watching else limits.shadow_s,
        "wait": limits.wait_s,
        "swap": limits.swap_s,
        "probe": limits.probation_s,
    }.get(document.order, limits.settle_s)


def _late(document: Rollout, now_s: float, limits: Limits) -> Rollout:
    order, spent = document.order, f"{document.spent_s:.0f} s"
    if order in SETTLING:
        return unsettled(document, f"{order} took more than {spent}", now_s, limits)
    if order == "shadow" and document.wanted is not None and document.wanted.mode == "shadow":
        return end(document, State.OBSERVED, f"watched for {spent}", now_s, limits)
    if order in ("shadow", "probe"):
        return inconclusive(document, f"no verdict within {spent}", now_s, limits, is_over=True)
    reason = f"{document.state.value}: {order} did not end within {spent}"
    lasting = order in ("prove", "load")
    return end(document, undone(document.state), reason, now_s, limits, lasting=lasting)


_HEARD: Final[dict[type[Any], Callable[[Rollout, Any, float, Limits], Rollout]]] = {
    ev.Resumed: _resumed,
    ev.Stopping: _stopping,
    ev.Offered: _offered,
    ev.Withdrawn: _withdrawn,
    ev.RollBackWanted: _roll_back_wanted,
    ev.Tick: _tick,
    ev.Built: answers.built,
    ev.Done: answers.done,
    ev.Failed: answers.failed,
    ev.SideLost: answers.side_lost,
    ev.Judged: answers.judged,
    ev.Moment: answers.moment,
}
