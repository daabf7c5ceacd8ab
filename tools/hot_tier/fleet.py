"""Who runs what, and whether a staged rollout may go on. Decisions only: documents in, a word out.

A stage moves one model through cohorts, one after the other. It goes on when nearly all nodes of
the cohort have applied the new state; it halts when more than a set share of any cohort that was
moved refuses it or rolls it back, which only a bad package makes them do. Whoever is held, by a
person or by its configuration, is in neither share; a cohort in which everybody is shows nothing.
Whoever is silent is waited for: a box that a bad model silenced must not look like one that is
content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from edge_agent.core.desired import Desired
from edge_agent.core.rollout.document import Mode

MAX_REFUSED_SHARE: Final = 0.1
MIN_APPLIED_SHARE: Final = 0.9
BAD: Final = frozenset({"refused", "refused-before"})  # the package is
ASIDE: Final = frozenset({"pinned", "held", "unused"})  # they do not try it, and need not
MAX_REASON_CHARS: Final = 160
MAX_REASONS: Final = 8


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """One model of one node. state, version, reason, note: of its rollout."""

    active: str = ""
    state: str = ""
    version: str = ""
    reason: str = ""
    note: str = ""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What one node last said. target: the desired state that it follows; result: by model.

    cohort: that it belongs to, "" where it says none. reasons: by model; None where it says none,
    as agents did that have only three words.
    """

    node: str
    target: str = ""
    cohort: str = ""
    serial: int = 0
    state: str = ""
    why: str = ""
    result: Mapping[str, str] = {}
    reasons: Mapping[str, str] | None = None
    models: Mapping[str, Running] = {}

    def follows(self, cohort: str) -> bool:
        """Also when it has not seen what is wanted of its cohort yet."""
        path = f"desired/{cohort}.json"
        return self.target == path or (not self.target and self.cohort == cohort)

    def word(self, model: str) -> str:
        """What became of it here. Old agents call it refused, too, when a person holds it."""
        word = self.result.get(model, self.state)
        note = self.models.get(model, Running()).note
        return "pinned" if word in BAD and self.reasons is None and note else word

    def reason(self, model: str) -> str:
        said = (self.reasons or {}).get(model, "")
        return said or self.models.get(model, Running()).reason or self.why


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
    """One cohort. nodes: that follow it; the others are pending. held: of them, who need not.

    reasons: of the refusals, and waits: why others do not have it yet; each with who says so.
    """

    nodes: int = 0
    applied: int = 0
    refused: int = 0
    held: int = 0
    reasons: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()

    @property
    def able(self) -> int:
        return self.nodes - self.held


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
    serial, reasons = desired.get("serial"), desired.get("reasons")
    return Standing(
        node=node,
        target=_text(desired.get("target")),
        cohort=_text(desired.get("cohort")),
        serial=serial if isinstance(serial, int) else 0,
        state=_text(desired.get("state")),
        why=_text(desired.get("why")),
        result=_words(desired.get("models")),
        reasons=_words(reasons) if isinstance(reasons, Mapping) else None,
        models=models,
    )


def _running(model: Mapping[str, Any]) -> Running:
    rollout = _table(model.get("rollout"))
    return Running(
        active=_text(model.get("active")),
        state=_text(rollout.get("state")),
        version=_text(rollout.get("version")),
        reason=_text(rollout.get("reason")),
        note=_text(rollout.get("note")),
    )


def _words(found: object) -> dict[str, str]:
    return {str(name): _text(word) for name, word in _table(found).items()}


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
        if count.able and count.refused / count.able > shares.max_refused:
            why = (
                f"{count.refused} of {count.able} nodes of {cohort} refused {stage.model} "
                f"{stage.wanted}: {'; '.join(count.reasons) or 'no reason given'}"
            )
            return Verdict(word="halt", why=why, counts=counts)
    last, name = counts[moved[-1]], moved[-1]
    if not last.able or last.applied / last.able < shares.min_applied:
        return Verdict(word="wait", why=_waiting(name, last), counts=counts)
    if len(moved) == len(stage.cohorts):
        return Verdict(word="done", why=f"{name} has it{_held(last)}", counts=counts)
    why = f"{name} has it{_held(last)}; {stage.cohorts[stage.at + 1]} is next"
    return Verdict(word="next", why=why, counts=counts)


def _waiting(cohort: str, count: Count) -> str:
    if count.nodes and not count.able:
        return f"no node of {cohort} tries it{_held(count)}"
    waits = f": {'; '.join(count.waits)}" if count.waits else ""
    return f"{count.applied} of {count.able} nodes of {cohort} have it{_held(count)}{waits}"


def _held(count: Count) -> str:
    by = "held by a person or configuration"
    return f" ({count.held} of {count.nodes} {by})" if count.held else ""


def _count(stage: Stage, cohort: str, everybody: Iterable[Standing]) -> Count:
    there = [one for one in everybody if one.follows(cohort)]
    heard = [one for one in there if one.serial >= stage.serials.get(cohort, 0)]
    words = [(one, one.word(stage.model)) for one in heard]
    refused = [(one, one.reason(stage.model)) for one, word in words if word in BAD]
    waiting = [
        (one, _waits(word, one.reason(stage.model)))
        for one, word in words
        if word not in BAD | ASIDE | {"applied"}
    ]
    return Count(
        nodes=len(there),
        applied=sum(word == "applied" for _, word in words),
        refused=len(refused),
        held=sum(word in ASIDE for _, word in words),
        reasons=_quoted(refused),
        waits=_quoted(waiting),
    )


def _waits(word: str, reason: str) -> str:
    """That it is pending goes without saying."""
    return ": ".join(part for part in (word, reason) if part not in ("", "pending"))


def _quoted(said: Iterable[tuple[Standing, str]]) -> tuple[str, ...]:
    """Each reason once, with who gave it; the most frequent first."""
    nodes: dict[str, list[str]] = {}
    for one, reason in said:
        if reason:
            nodes.setdefault(reason, []).append(one.node)
    often = sorted(nodes.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        f"{min(who)}{f' and {len(who) - 1} more' if len(who) > 1 else ''}: {reason}"
        for reason, who in often[:MAX_REASONS]
    )
