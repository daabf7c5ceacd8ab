"""Counts of a trial, judged and put into the words of a report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from edge_agent.core.drift import Limits
from edge_agent.core.manifest import Manifest
from edge_agent.core.rollout import Judged
from edge_agent.core.sight import Sight
from edge_agent.core.trial import (
    Probation,
    ShadowCounts,
    judge_probations,
    judge_shadows,
)

Verdict = Literal["more", "pass", "fail", "inconclusive"]
OF_SHADOW: Final[Mapping[str, Verdict]] = {
    "pass": "pass", "fail": "fail", "wait": "more", "inconclusive": "inconclusive",
}  # fmt: skip
OF_STAY: Final[Mapping[str, Verdict]] = {"ok": "pass", "wait": "more", "roll_back": "fail"}


def of_shadow(
    turn: int,
    counts: Mapping[str, ShadowCounts],
    manifest: Manifest,
    limits: Limits,
    elapsed_s: float,
) -> Judged:
    verdict = judge_shadows(counts, manifest, limits, elapsed_s)
    return Judged(
        turn=turn,
        bad=verdict.bad,
        verdict=OF_SHADOW[verdict.word],
        reason=verdict.reason,
        facts=shadow_facts(counts),
    )


def of_probation(
    turn: int,
    counts: Mapping[str, Probation],
    manifest: Manifest,
    limits: Limits,
    elapsed_s: float,
) -> Judged:
    stay = judge_probations(counts, manifest, limits, elapsed_s)
    frames = sum(one.now.results for one in counts.values())
    return Judged(
        turn=turn, bad=stay.bad, verdict=OF_STAY[stay.word], reason=stay.reason,
        facts={"probation_frames": frames},
    )  # fmt: skip


def shadow_facts(counts: Mapping[str, ShadowCounts]) -> dict[str, Any]:
    """Sums over the streams; times of the one that looked at most frames."""
    if not counts:
        return {}
    every = list(counts.values())
    most = max(every, key=lambda one: one.frames)
    evidence = sum(one.evidence_frames for one in every)
    agreed = sum(one.agreement_sum for one in every)
    live, shadow = Sight(), Sight()
    for one in every:
        live, shadow = live.plus(one.live), shadow.plus(one.shadow)
    return {
        "shadow_frames": sum(one.frames for one in every),
        "evidence_frames": evidence,
        "agreement": round(agreed / evidence, 4) if evidence else None,
        "live_us_p50": most.live_us_p50,
        "live_us_p99": most.live_us_p99,
        "candidate_us_p50": most.infer_us_p50,
        "candidate_us_p99": most.infer_us_p99,
        "figures": {
            f"{whose}_{name}": round(getattr(sight, name), 4)
            for whose, sight in (("live", live), ("candidate", shadow))
            for name in ("findings_per_100", "mean_area", "flicker")
        },
    }
