"""What the answer to an order leads to: on, to the next trial, or to the end."""

from __future__ import annotations

from typing import Final

import msgspec

from edge_agent.core.rollout import events as ev
from edge_agent.core.rollout.document import Limits, Order, Rollout, State
from edge_agent.core.rollout.ends import close, end, go, merged, pause_s

SETTLING: Final = frozenset({"commit", "roll_back", "unload", "revert", "restart"})
HOLDS: Final = frozenset({"load", "shadow", "wait", "swap", "probe"})  # the side has a candidate
replace = msgspec.structs.replace


def undone(state: State) -> State:
    """How a rollout ends that does not go on from `state`."""
    return State.ROLLED_BACK if state is State.PROBATION else State.REJECTED


def on_trial(document: Rollout) -> Rollout:
    """One more trial, counted before anything of it is done."""
    return go(replace(document, trials=document.trials + 1), State.BUILDING, "prove")


def failed_trial(document: Rollout, reason: str, now_s: float, limits: Limits) -> Rollout:
    if document.trials >= limits.trials:
        reason = f"{reason}; trial {document.trials} of {limits.trials}"
        return end(document, undone(document.state), reason, now_s, limits, lasting=True)
    return on_trial(document)


def built(document: Rollout, event: ev.Built, _now_s: float, _limits: Limits) -> Rollout:
    if document.state is not State.BUILDING:
        return document
    report = merged(document.report, event.facts)
    return replace(document, state=State.GOLDEN, report=report)


def done(document: Rollout, event: ev.Done, now_s: float, limits: Limits) -> Rollout:
    document = replace(document, report=merged(document.report, event.facts))
    order = document.order
    if order in SETTLING:
        return close(document, now_s, limits)
    if order == "admit" or (order == "begin" and event.have):
        if document.wanted is not None and document.wanted.mode == "stage":
            return end(document, State.STAGED, "installed, not swapped", now_s, limits)
        return on_trial(document)
    if order == "load":
        after: Order = "wait" if document.proved else "shadow"
        return go(replace(document, loaded=True), State.SHADOW, after)
    following = _NEXT.get(order)
    return go(document, *following) if following else document


_NEXT: Final[dict[Order, tuple[State, Order]]] = {
    "begin": (State.FETCHING, "fetch"),
    "fetch": (State.VERIFYING, "admit"),
    "prove": (State.SHADOW, "load"),
    "swap": (State.PROBATION, "probe"),
}


def failed(document: Rollout, event: ev.Failed, now_s: float, limits: Limits) -> Rollout:
    order = document.order
    if order in SETTLING:
        return unsettled(document, event.reason, now_s, limits)
    if order == "fetch" and event.weather:
        wait_s = pause_s(document.tries, limits.first_pause_s, limits.longest_pause_s)
        document = replace(document, tries=document.tries + 1, retry_s=now_s + wait_s)
        return go(document, State.FETCHING, "pause", waits_for=event.reason)
    lasting = event.lasting and not event.weather
    return end(document, undone(document.state), event.reason, now_s, limits, lasting=lasting)


def unsettled(document: Rollout, reason: str, now_s: float, limits: Limits) -> Rollout:
    """What the end of a rollout ordered did not work. It is never left half done."""
    order, tries = document.order, document.tries + 1
    if order in ("unload", "restart"):
        return close(document, now_s, limits)  # nothing of it is live
    if tries < limits.settle_tries:
        return go(replace(document, tries=tries), document.state, order)
    if order == "commit":
        document = replace(document, tries=0)
        return end(document, State.ROLLED_BACK, f"commit: {reason}", now_s, limits)
    return go(replace(document, tries=0), document.state, "restart")


def side_lost(document: Rollout, event: ev.SideLost, now_s: float, limits: Limits) -> Rollout:
    if document.order in SETTLING:
        return close(document, now_s, limits)  # the next side starts with what is committed
    if document.order not in HOLDS:
        return document
    document = replace(document, loaded=False, proved=False)
    return failed_trial(document, event.reason, now_s, limits)


def judged(document: Rollout, event: ev.Judged, now_s: float, limits: Limits) -> Rollout:
    order, wanted = document.order, document.wanted
    if order not in ("shadow", "wait", "probe"):
        return document
    document = replace(document, report=merged(document.report, event.facts))
    if event.verdict == "fail":
        return end(document, undone(document.state), event.reason, now_s, limits, lasting=True)
    only_watches = order == "wait" or (wanted is not None and wanted.mode == "shadow")
    if event.verdict == "more" or only_watches:
        return replace(document, waits_for=event.reason or document.waits_for)
    if event.verdict == "inconclusive":
        return inconclusive(document, event.reason, now_s, limits)
    return _passed(document, event.reason, now_s, limits)


def _passed(document: Rollout, reason: str, now_s: float, limits: Limits) -> Rollout:
    if document.order == "probe":
        return end(document, State.COMMITTED, reason, now_s, limits)
    return go(replace(document, proved=True), State.SHADOW, "wait")


def inconclusive(
    document: Rollout, reason: str, now_s: float, limits: Limits, *, is_over: bool = False
) -> Rollout:
    """Neither for nor against it. hold: wait for evidence until the deadline, then give it up."""
    reason = f"inconclusive: {reason}"
    if limits.commit_inconclusive:
        return _passed(document, reason, now_s, limits)
    if not is_over:
        return replace(document, waits_for=reason)
    return end(document, undone(document.state), reason, now_s, limits)


def moment(document: Rollout, event: ev.Moment, _now_s: float, _limits: Limits) -> Rollout:
    if document.order != "wait":
        return document
    if not event.free:
        return replace(document, waits_for=event.waits_for)
    return go(document, State.PROBATION, "swap")
