"""The table: where a rollout stands, what it hears, what is done next.

    offered → fetching → verifying → building → golden → shadow → probation → committed
        any of them → rejected | deferred | withdrawn, from probation → rolling_back → rolled_back

Pure: `step` takes the document and an event, and gives the next document and what to do. Whoever
drives it writes the document down before it does anything but what is safe (`orders.KINDS`). The
live model changes by the orders `swap`, `roll_back` and `revert` alone; `restart` is the last means
of a roll-back. An order that ends a rollout is tried again until it is done; nothing is called
committed or rolled back before.

A process that dies takes a rollout up again where it was: a download goes on; what was on trial
has failed once more, and after `Limits.trials` such failures it rests for long. A side that crashed
so often refuses the package for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from edge_agent.core.rollout import answers
from edge_agent.core.rollout import events as ev
from edge_agent.core.rollout.answers import (
    failed_trial,
    inconclusive,
    on_trial,
    passed,
    undone,
    unsettled,
)
from edge_agent.core.rollout.document import (
    ON_TRIAL,
    Limits,
    Report,
    Rollout,
    State,
    Wanted,
)
from edge_agent.core.rollout.ends import Lasting, end, go, remembered, start
from edge_agent.core.rollout.orders import Order, kind_of

replace = msgspec.structs.replace


class Do(msgspec.Struct, frozen=True, kw_only=True):
    """Give up whatever is under way, do this after `wait_s`, answer with its turn."""

    order: Order
    turn: int
    wait_s: float = 0.0


class Tell(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout ended: its report goes up."""

    report: Report


Act = Do | Tell


def step(
    before: Rollout, event: ev.Event, now_s: float, limits: Limits
) -> tuple[Rollout, tuple[Act, ...]]:
    """now_s: CLOCK_BOOTTIME. The document has to be on disk before an act is begun."""
    document = _aged(before, now_s, is_first=isinstance(event, ev.Resumed))
    if isinstance(event, ev.Answer) and (event.turn != document.turn or not document.order):
        return document, ()
    after = _HEARD[type(event)](document, event, now_s, limits)
    acts: list[Act] = []
    if after.history != before.history:
        acts.append(Tell(report=after.history[-1]))
    if after.turn != before.turn and after.order not in ("", "pause"):
        rests = bool(after.unsettled) and kind_of(after.order).settles
        wait_s = max(0.0, after.retry_s - now_s) if rests else 0.0
        acts.append(Do(order=after.order, turn=after.turn, wait_s=wait_s))
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


def _resumed(document: Rollout, event: ev.Resumed, now_s: float, limits: Limits) -> Rollout:
    before, orderly = document, document.orderly
    document = replace(document, orderly=False, boot=event.boot)
    if document.is_settled:  # of how long it rested before, nobody knows: the whole of it again
        return replace(document, resting_until_s=now_s + document.rest_s)
    document = replace(document, returns=document.returns + 1, loaded=False, first=False)
    state = document.state
    if document.is_ending:  # what was decided is done, however often it takes
        return go(replace(document, tries=0, retry_s=0.0), state, document.order)
    if document.returns > limits.returns:
        reason = f"taken up {limits.returns} times without an end"
        return end(document, undone(document), reason, now_s, limits)
    if state in ON_TRIAL and not orderly:
        document = replace(document, proved=False, cause="failed")
        return _died(document, before.boot != event.boot, now_s, limits)
    return on_trial(document) if state in ON_TRIAL else _taken_up(document)


def _died(document: Rollout, rebooted: bool, now_s: float, limits: Limits) -> Rollout:
    """A candidate can take its process along, hardly the agent; but it might take the machine. So
    nothing is said against the package, and where the machine fell it rests for long.
    """
    who = "machine" if rebooted else "agent"
    reason = f"the {who} died while it was in {document.state.value}"
    after = failed_trial(document, reason, now_s, limits, bad=False)
    if after.attempts == document.attempts or not rebooted:
        return after
    rest_s = limits.longest_rest_s
    return replace(after, rest_s=rest_s, resting_until_s=now_s + rest_s)


def _taken_up(document: Rollout) -> Rollout:
    document = replace(document, tries=0)
    if document.state is State.OFFERED:
        return go(document, document.state, document.order)
    return go(document, State.FETCHING, "fetch")  # a complete one ends at once


def _stopping(document: Rollout, _: ev.Stopping, _now_s: float, _limits: Limits) -> Rollout:
    if document.state in ON_TRIAL and not document.orderly and not document.is_ending:
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
    if not document.is_ending and (present.sha, present.mode) == (wanted.sha, wanted.mode):
        return replace(document, wanted=wanted, next=None)
    document = replace(document, next=wanted)
    is_undoing = document.is_ending and document.outcome is not State.COMMITTED
    if is_undoing or (present.sha, present.mode) == (wanted.sha, wanted.mode):
        return document
    return _given_up(document, f"given up for {wanted.version}", now_s, limits)


def _given_up(document: Rollout, reason: str, now_s: float, limits: Limits) -> Rollout:
    """At once, on trial by a roll-back. Nothing is said against the package."""
    outcome = undone(document)
    outcome = State.WITHDRAWN if outcome is State.DEFERRED else outcome
    return end(replace(document, cause=""), outcome, reason, now_s, limits, rests=False)


def _withdrawn(document: Rollout, event: ev.Withdrawn, now_s: float, limits: Limits) -> Rollout:
    """Also one that is about to be committed."""
    if document.is_settled or (document.is_ending and document.outcome is not State.COMMITTED):
        return document
    return _given_up(replace(document, next=None), event.reason, now_s, limits)


def _roll_back_wanted(
    document: Rollout, event: ev.RollBackWanted, now_s: float, limits: Limits
) -> Rollout:
    document = replace(document, next=None)
    lasting: Lasting = "operator" if event.by == "operator" else ""
    if document.is_ending and document.outcome is not State.COMMITTED:
        is_this = document.wanted is not None and document.wanted.sha == event.live
        if not (lasting and is_this):
            return document  # it is being taken away already
        return replace(document, refused=remembered(document, event.reason, lasting, limits.agent))
    if not document.is_settled:
        outcome = undone(document)
        outcome = State.WITHDRAWN if outcome is State.DEFERRED else outcome
        return end(document, outcome, event.reason, now_s, limits, lasting=lasting, rests=False)
    if not event.sha:
        return document
    wanted = Wanted(version=event.live_version or "0.0.0", sha=event.live, by=event.by)
    document = replace(start(document, wanted), revert_to=event.sha)
    document = replace(document, report=replace(document.report, previous=event.version))
    outcome, reason = State.ROLLED_BACK, event.reason
    return end(document, outcome, reason, now_s, limits, lasting=lasting, rests=False)


# ── time ──────────────────────────────────────────────────────────────────────────────────────


def _tick(document: Rollout, _: ev.Tick, now_s: float, limits: Limits) -> Rollout:
    order = document.order
    if not order:
        return document
    if document.spent_s > _deadline_s(document, limits):
        return _late(document, now_s, limits)
    if order == "pause" and now_s >= document.retry_s:
        return go(document, document.state, "fetch")
    return document


def _deadline_s(document: Rollout, limits: Limits) -> float:
    is_watching = document.wanted is not None and document.wanted.mode == "shadow"
    if document.order == "shadow" and is_watching:
        return limits.observe_s
    if document.state is State.VERIFYING:
        return limits.verify_s
    kind = kind_of(document.order)
    waited_s = limits.longest_settle_pause_s if kind.settles else 0.0
    return float(getattr(limits, kind.deadline)) + waited_s


def _late(document: Rollout, now_s: float, limits: Limits) -> Rollout:
    order, spent = document.order, f"{document.spent_s:.0f} s"
    if kind_of(order).settles:
        reason = f"not done within {spent}"
        late = ev.Failed(turn=document.turn, reason=reason, fault="failed")
        return unsettled(document, late, now_s, limits)
    if order == "shadow" and document.wanted is not None and document.wanted.mode == "shadow":
        return end(document, State.OBSERVED, f"watched for {spent}", now_s, limits)
    if order == "probe" and document.unsettled:  # it has passed; only its commit is left
        return passed(replace(document, spent_s=0.0), "", now_s, limits)
    if order in ("shadow", "probe"):
        return inconclusive(document, f"no verdict within {spent}", now_s, limits, is_over=True)
    reason = f"{document.state.value}: {order} did not end within {spent}"
    return end(replace(document, cause="failed"), undone(document), reason, now_s, limits)


_HEARD: Final[dict[type[Any], Callable[[Rollout, Any, float, Limits], Rollout]]] = {
    ev.Resumed: _resumed,
    ev.Stopping: _stopping,
    ev.Offered: _offered,
    ev.Withdrawn: _withdrawn,
    ev.RollBackWanted: _roll_back_wanted,
    ev.Tick: _tick,
    ev.Fetched: answers.fetched,
    ev.Built: answers.built,
    ev.Done: answers.done,
    ev.Failed: answers.failed,
    ev.SideLost: answers.side_lost,
    ev.Judged: answers.judged,
    ev.Moment: answers.moment,
}
