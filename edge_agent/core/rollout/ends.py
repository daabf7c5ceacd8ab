"""How a rollout begins and ends: orders with their turn, refusals kept in mind, a short history.

An end is decided first (`end`: the outcome and the order that carries it out) and told when it is
done (`close`). What is told of a rollout is what is so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from edge_agent.core.rollout.document import (
    MAX_HISTORY,
    MAX_REASON,
    MAX_REFUSED,
    Limits,
    Refusal,
    Report,
    Rollout,
    State,
    Wanted,
)
from edge_agent.core.rollout.orders import Order

CARRIED_OUT_BY: Final[dict[State, Order]] = {
    State.COMMITTED: "commit", State.ROLLED_BACK: "roll_back",
}  # fmt: skip
SAME_CLOCK: Final = ({"fetch", "pause"}, {"prove"})  # orders that share one deadline
NOT_DONE: Final = frozenset({State.REJECTED, State.DEFERRED, State.WITHDRAWN, State.ROLLED_BACK})
MAX_WORD: Final = 200  # characters of a text in a report
MAX_FIGURES: Final = 64
Lasting = Literal["", "bad", "operator"]
replace = msgspec.structs.replace


def go(document: Rollout, state: State, order: Order, *, waits_for: str = "") -> Rollout:
    """The next order, with a turn of its own. Time counts anew, unless it is the same job."""
    same = any({document.order, order} <= orders for orders in SAME_CLOCK)
    return replace(
        document,
        state=state,
        order=order,
        turn=document.turn + 1,
        waits_for=waits_for[:MAX_REASON],
        spent_s=document.spent_s if same and state is document.state else 0.0,
    )


def start(document: Rollout, wanted: Wanted) -> Rollout:
    """A new candidate; what is remembered of others stays."""
    is_same = document.wanted is not None and document.wanted.sha == wanted.sha
    fresh = Rollout(
        model=document.model,
        wanted=wanted,
        turn=document.turn,
        at_s=document.at_s,
        attempts=document.attempts if is_same else 0,
        refused=document.refused,
        history=document.history,
        report=Report(
            model=document.model, version=wanted.version, sha=wanted.sha, mode=wanted.mode,
            serial=wanted.serial, by=wanted.by, unsigned=wanted.unsigned,
        ),
    )  # fmt: skip
    return go(fresh, State.OFFERED, "begin")


def end(
    document: Rollout,
    outcome: State,
    reason: str,
    now_s: float,
    limits: Limits,
    *,
    lasting: Lasting = "",
    rests: bool = True,
) -> Rollout:
    """Decides it. lasting: why this package is not tried again by itself, "" when it may be.
    rests: then only after a while.
    """
    is_bad = outcome in NOT_DONE
    report = replace(
        document.report,
        reason=reason[:MAX_REASON],
        failed_in=document.state.value if is_bad and not document.revert_to else "",
        trials=document.trials,
        cause=document.cause if is_bad else "",
    )
    still = document.unsettled if outcome is State.COMMITTED else ""
    document = replace(
        document, report=report, outcome=outcome, tries=0, retry_s=0.0, unsettled=still
    )
    if is_bad and lasting:
        document = replace(document, refused=remembered(document, reason, lasting, limits.agent))
    elif is_bad and rests:
        rest_s = pause_s(document.attempts, limits.first_rest_s, limits.longest_rest_s)
        document = replace(
            document, attempts=document.attempts + 1, rest_s=rest_s, resting_until_s=now_s + rest_s
        )
    order = CARRIED_OUT_BY.get(outcome, "unload" if document.loaded else "")
    if outcome is State.ROLLED_BACK and document.revert_to:
        order = "revert"
    ended = go(document, _meanwhile(document.state, outcome), order)
    return ended if order else close(ended, now_s, limits)


def _meanwhile(present: State, outcome: State) -> State:
    """Where it stands while that is carried out: nothing is called done before it is."""
    if outcome is State.ROLLED_BACK:
        return State.ROLLING_BACK
    return present if outcome is State.COMMITTED else outcome


def remembered(document: Rollout, reason: str, lasting: Lasting, agent: str) -> tuple[Refusal, ...]:
    """The refusals with that of the candidate."""
    report = document.report
    others = tuple(entry for entry in document.refused if entry.sha != report.sha)
    by: Literal["", "operator"] = "operator" if lasting == "operator" else ""
    mine = Refusal(
        sha=report.sha, version=report.version, reason=reason[:MAX_REASON], by=by,
        agent="" if by else agent,
    )  # fmt: skip
    return (*others, mine)[-MAX_REFUSED:]


def close(document: Rollout, now_s: float, limits: Limits) -> Rollout:
    """It is done: told, into the history, and on with what came meanwhile."""
    outcome = document.outcome or document.state
    report = replace(
        document.report, outcome=outcome.value, took_s=round(document.total_s, 3),
        at_us=round(now_s * 1e6),
    )  # fmt: skip
    refused = document.refused
    if outcome is State.COMMITTED and document.wanted is not None:  # a person had it come again
        refused = tuple(one for one in refused if one.sha != report.sha)
    closed = replace(
        document,
        refused=refused,
        state=outcome,
        order="",
        turn=document.turn + 1,
        loaded=False,
        first=False,
        outcome=None,
        unsettled="",
        waits_for="",
        revert_to="",
        next=None,
        report=report,
        history=(*document.history, report)[-MAX_HISTORY:],
    )
    coming, had = document.next, document.wanted
    if coming is None or closed.refusal_of(coming.sha, limits.agent):
        return closed
    is_here = outcome is State.COMMITTED and had is not None and coming.sha == had.sha
    return closed if is_here else start(closed, coming)


def merged(report: Report, facts: Mapping[str, Any]) -> Report:
    """With what is known now. What does not fit the report is left out: it must be readable."""
    fields = {name: value for name, value in facts.items() if name in Report.__struct_fields__}
    try:
        typed = msgspec.convert(
            {name: _plain(value) for name, value in fields.items()}, Report, strict=False
        )
    except (msgspec.ValidationError, ValueError, OverflowError):
        return report
    return replace(report, **{name: getattr(typed, name) for name in fields})


def _plain(value: Any) -> Any:
    """Bounded, and without numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value[:MAX_WORD]
    if isinstance(value, Mapping):
        pairs = [(str(name)[:MAX_WORD], _plain(item)) for name, item in value.items()]
        return dict([(name, item) for name, item in pairs if item is not None][:MAX_FIGURES])
    return value


def pause_s(tries: int, first_s: float, longest_s: float) -> float:
    """Doubling."""
    return min(longest_s, first_s * 2.0 ** min(tries, 30))
