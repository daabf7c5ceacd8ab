"""Who runs what, and whether a staged rollout may go on. Decisions only: documents in, a word out.

A stage moves one model through cohorts, one after the other. It goes on when nearly all nodes of
the cohort have applied the new state; it halts when more than a set share of any cohort that was
moved refuses it or rolls it back. Whoever is silent is waited for: a box that a bad model silenced
must not look like one that is content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from edge_agent.core.desired import Desired
from edge_agent.core.rollout.document import Mode

MAX_REFUSED_SHARE: Final = 0.1
MIN_APPLIED_SHARE: Final = 0.9
BAD: Final = frozenset({"refused"})
MAX_REASON_CHARS: Final = 160
MAX_REASONS: Final = 8


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """One model of one node. state, version, reason: of its rollout."""

    active: str = ""
    state: str = ""
    version: str = ""
    reason: str = ""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What one node last said. target: the desired state that it follows; result: by model."""

    node: str
    target: str = ""
    serial: int = 0
    state: str = ""
    why: str = ""
    result: Mapping[str, str] = {}
    models: Mapping[str, Running] = {}


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One model on its way. at: of `cohorts`, the one moved last; -1: none yet.

    before: what was wanted of each that was moved or is about to be; None: nothing was.
    version, sha256: what `wanted` was found to be.
    """

    model: str
    wanted: str
    mode: Mode
    window: str
    cohorts: tuple[str, ...]
    at: int = -1
    state: Literal["running", "done", "held", "halted"] = "running"
    why: str = ""
    serials: dict[str, int] = {}
    before: dict[str, Desired | None] = {}
    version: str = ""
    sha256: str = ""


class Count(msgspec.Struct, frozen=True, kw_only=True):
    """One cohort. nodes: that follow it; the others are pending."""

    nodes: int = 0
    applied: int = 0
    refused: int = 0
    reasons: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    word: Literal["wait", "next", "done", "halt"]
    why: str
    counts: Mapping[str, Count]


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    max_refused: float = MAX_REFUSED_SHARE
    min_applied: float = MIN_APPLIED_SHARE


# ── what a node says ──────────────────────────────────────────────────────────────────────────


def standing(node: str, document: Mapping[str, Any]) -> Standing:
    """Of its status document. What is not there, or odd, is empty."""
    desired = _table(document.get("desired"))
    models = {
        str(name): _running(_table(one)) for name, one in _table(document.get("models")).items()
    }
    serial = desired.get("serial")
    return Standing(
        node=node,
        target=_text(desired.get("target")),
        serial=serial if isinstance(serial, int) else 0,
        state=_text(desired.get("state")),
        why=_text(desired.get("why")),
        result={str(n): _text(word) for n, word in _table(desired.get("models")).items()},
        models=models,
    )


def _running(model: Mapping[str, Any]) -> Running:
    rollout = _table(model.get("rollout"))
    return Running(
        active=_text(model.get("active")),
        state=_text(rollout.get("state")),
        version=_text(rollout.get("version")),
        reason=_text(rollout.get("reason")),
    )


def _table(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _text(found: object) -> str:
    return found[:MAX_REASON_CHARS] if isinstance(found, str) else ""


# ── may it go on ──────────────────────────────────────────────────────────────────────────────


def judge(stage: Stage, standings: Iterable[Standing], shares: Shares) -> Verdict:
    """What is to be done with a stage that runs."""
    everybody = list(standings)
    moved = stage.cohorts[: stage.at + 1]
    if not moved:
        return Verdict(word="next", why=f"{stage.cohorts[0]} is first", counts={})
    counts = {cohort: _count(stage, cohort, everybody) for cohort in moved}
    for cohort, count in counts.items():
        if count.nodes and count.refused / count.nodes > shares.max_refused:
            why = (
                f"{count.refused} of {count.nodes} nodes of {cohort} refused {stage.model} "
                f"{stage.wanted}: {'; '.join(count.reasons) or 'no reason given'}"
            )
            return Verdict(word="halt", why=why, counts=counts)
    last = counts[moved[-1]]
    if not last.nodes or last.applied / last.nodes < shares.min_applied:
        why = f"{last.applied} of {last.nodes} nodes of {moved[-1]} have it"
        return Verdict(word="wait", why=why, counts=counts)
    if len(moved) == len(stage.cohorts):
        return Verdict(word="done", why=f"{moved[-1]} has it", counts=counts)
    why = f"{moved[-1]} has it; {stage.cohorts[stage.at + 1]} is next"
    return Verdict(word="next", why=why, counts=counts)


def _count(stage: Stage, cohort: str, everybody: Iterable[Standing]) -> Count:
    there = [one for one in everybody if one.target == f"desired/{cohort}.json"]
    heard = [one for one in there if one.serial >= stage.serials.get(cohort, 0)]
    words = [(one, one.result.get(stage.model, one.state)) for one in heard]
    refused = [one for one, word in words if word in BAD]
    reasons = {one.models.get(stage.model, Running()).reason or one.why for one in refused} - {""}
    return Count(
        nodes=len(there),
        applied=sum(word == "applied" for _, word in words),
        refused=len(refused),
        reasons=tuple(sorted(reasons)[:MAX_REASONS]),
    )
