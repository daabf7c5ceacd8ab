"""What the answer to an order leads to: on, to the next trial, or to the end."""

from __future__ import annotations

from typing import Final

import msgspec

from edge_agent.core.rollout import events as ev
from edge_agent.core.rollout.document import MAX_REASON, Limits, Rollout, State
from edge_agent.core.rollout.ends import Lasting, close, end, go, merged, pause_s
from edge_agent.core.rollout.orders import Order, kind_of

PAUSES: Final = frozenset({"link-down", "overloaded", "no-room", "damaged"})
OF_THE_SIDE: Final = frozenset({"rejected", "side-lost", "failed"})
replace = msgspec.structs.replace


def undone(document: Rollout, *, bad: bool = False) -> State:
    """How a rollout ends that does not go on. bad: by the package's own fault."""
    if document.state is State.PROBATION:
        return State.ROLLED_BACK
    return State.REJECTED if bad else State.DEFERRED


def on_trial(document: Rollout) -> Rollout:
    """One more trial, counted before anything of it is done."""
    return go(replace(document, trials=document.trials + 1), State.BUILDING, "prove")


def failed_trial(
    document: Rollout, reason: str, now_s: float, limits: Limits, *, bad: bool = True
) -> Rollout:
    """bad: that it fell is held against the package, once it has happened often enough."""
    if document.trials >= limits.trials:
        reason = f"{reason}; trial {document.trials} of {limits.trials}"
        lasting: Lasting = "bad" if bad else ""
        return end(document, undone(document, bad=bad), reason, now_s, limits, lasting=lasting)
    return on_trial(document)


def fetched(document: Rollout, _: ev.Fetched, _now_s: float, _limits: Limits) -> Rollout:
    if document.state is not State.FETCHING or document.order != "fetch":
        return document
    return replace(document, state=State.VERIFYING, spent_s=0.0)


def built(document: Rollout, event: ev.Built, _now_s: float, _limits: Limits) -> Rollout:
    if document.state is not State.BUILDING:
        return document
    report = merged(document.report, event.facts)
    return replace(document, state=State.GOLDEN, report=report)


def done(document: Rollout, event: ev.Done, now_s: float, limits: Limits) -> Rollout:
    document = replace(document, report=merged(document.report, event.facts), cause="")
    order = document.order
    if order == "restart":  # what the side runs is right now; the rest of the roll-back is left
        return go(document, document.state, _undoing(document))
    if kind_of(order).settles:
        return close(document, now_s, limits)
    if order == "fetch" or (order == "begin" and event.have):
        return _installed(document, now_s, limits)
    if order == "load":
        return _loaded(document, now_s, limits)
    if order == "prove":
        document = replace(document, first=event.first)
    following = _NEXT.get(order)
    return go(document, *following) if following else document


def _installed(document: Rollout, now_s: float, limits: Limits) -> Rollout:
    if document.wanted is not None and document.wanted.mode == "stage":
        return end(document, State.STAGED, "installed, not swapped", now_s, limits)
    return on_trial(document)


_NEXT: Final[dict[Order, tuple[State, Order]]] = {
    "begin": (State.FETCHING, "fetch"),
    "prove": (State.SHADOW, "load"),
    "swap": (State.PROBATION, "probe"),
}


def _loaded(document: Rollout, now_s: float, limits: Limits) -> Rollout:
    document = replace(document, loaded=True)
    if document.first:  # nothing to compare with, and no picture with results to wait for
        if document.wanted is not None and document.wanted.mode == "shadow":
            reason = "no version of this model is live to compare with"
            return end(document, State.OBSERVED, reason, now_s, limits)
        return go(document, State.PROBATION, "swap")
    return go(document, State.SHADOW, "wait" if document.proved else "shadow")


# ── what failed ───────────────────────────────────────────────────────────────────────────────


def failed(document: Rollout, event: ev.Failed, now_s: float, limits: Limits) -> Rollout:
    document = replace(document, cause=event.fault)
    order = document.order
    if kind_of(order).settles:
        return unsettled(document, event, now_s, limits)
    if order == "fetch" and event.fault in PAUSES:
        wait_s = pause_s(document.tries, limits.first_pause_s, limits.longest_pause_s)
        document = replace(document, tries=document.tries + 1, retry_s=now_s + wait_s)
        return go(document, State.FETCHING, "pause", waits_for=event.reason)
    bad = event.fault == "bad-package"
    lasting: Lasting = "bad" if bad else ""
    outcome = undone(document, bad=bad)
    return end(document, outcome, event.reason, now_s, limits, lasting=lasting)


def unsettled(document: Rollout, event: ev.Failed, now_s: float, limits: Limits) -> Rollout:
    """What the end of a rollout ordered did not work. It is tried again until it is done."""
    order, tries = document.order, document.tries + 1
    if order == "unload" and event.fault == "rejected":
        return close(document, now_s, limits)  # it is not loaded any more
    if order == "commit" and event.fault in ("rejected", "bad-package"):
        reason = f"commit: {event.reason}"  # there is nothing that could be made current
        return end(replace(document, unsettled=""), State.ROLLED_BACK, reason, now_s, limits)
    wait_s = pause_s(document.tries, limits.first_pause_s, limits.longest_settle_pause_s)
    words = f"{order}: {event.reason}"[:MAX_REASON]
    document = replace(document, tries=tries, retry_s=now_s + wait_s, unsettled=words)
    if order == "commit":  # live and good, and watched on until it can be written down
        document = replace(document, outcome=None)
        return go(document, State.PROBATION, "probe", waits_for=words)
    if tries % limits.settle_tries == 0 and event.fault in OF_THE_SIDE and order != "unload":
        return go(document, document.state, "restart", waits_for=words)
    return go(document, document.state, _undoing(document), waits_for=words)


def _undoing(document: Rollout) -> Order:
    """The order that a failed restart of the side was the last means of."""
    if document.order != "restart":
        return document.order
    return "revert" if document.revert_to else "roll_back"


def side_lost(document: Rollout, event: ev.SideLost, now_s: float, limits: Limits) -> Rollout:
    order = document.order
    if order == "unload":
        return close(document, now_s, limits)  # gone with its side
    if kind_of(order).settles:  # the next side runs what was ordered; its pointer may be left
        return go(document, document.state, _undoing(document) if order != "commit" else order)
    if not kind_of(order).holds:
        return document
    cause = "side-lost"
    document = replace(document, loaded=False, proved=False, first=False, cause=cause)
    return failed_trial(document, event.reason, now_s, limits, bad=event.crashed)


# ── verdicts ──────────────────────────────────────────────────────────────────────────────────


def judged(document: Rollout, event: ev.Judged, now_s: float, limits: Limits) -> Rollout:
    order, wanted = document.order, document.wanted
    if order not in ("shadow", "wait", "probe"):
        return document
    document = replace(document, report=merged(document.report, event.facts))
    if event.verdict == "fail":
        lasting: Lasting = "bad" if event.bad else ""
        outcome = undone(document, bad=event.bad)
        cause = "bad-package" if event.bad else "overloaded"
        document = replace(document, cause=cause)
        return end(document, outcome, event.reason, now_s, limits, lasting=lasting)
    only_watches = order == "wait" or (wanted is not None and wanted.mode == "shadow")
    if event.verdict == "more" or only_watches:
        waits_for = document.unsettled or event.reason or document.waits_for
        return replace(document, waits_for=waits_for)
    if event.verdict == "inconclusive":
        return inconclusive(document, event.reason, now_s, limits)
    return passed(document, event.reason, now_s, limits)


def passed(document: Rollout, reason: str, now_s: float, limits: Limits) -> Rollout:
    """On to the moment of the swap, or to the commit; one that failed to be written rests first."""
    if document.order != "probe":
        return go(replace(document, proved=True), State.SHADOW, "wait")
    if document.unsettled and now_s < document.retry_s:
        return document
    tries, retry_s = document.tries, document.retry_s
    ended = end(document, State.COMMITTED, reason, now_s, limits)
    return replace(ended, tries=tries, retry_s=retry_s)


def inconclusive(
    document: Rollout, reason: str, now_s: float, limits: Limits, *, is_over: bool = False
) -> Rollout:
    """Neither for nor against it. hold: wait for evidence until the deadline, then give it up."""
    reason = f"inconclusive: {reason}"
    if limits.commit_inconclusive:
        return passed(document, reason, now_s, limits)
    if not is_over:
        return replace(document, waits_for=reason)
    return end(document, undone(document), reason, now_s, limits)


def moment(document: Rollout, event: ev.Moment, _now_s: float, _limits: Limits) -> Rollout:
    if document.order != "wait":
        return document
    if not event.free:
        return replace(document, waits_for=event.waits_for)
    return go(document, State.PROBATION, "swap")
