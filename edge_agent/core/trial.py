"""Whether a candidate may take over, and whether it may stay. Pure: counts in, a verdict out.

Agreement with the live model is a floor, not quality: two models that both find nothing agree on
every frame and prove nothing, so only frames with a finding in either are evidence, and without
enough of them the verdict is `inconclusive`; what then happens is policy, above. Beside it stand
figures that need no truth (`core.sight`): each has to be explained by the pictures (the live model
shows it too) or announced by the package (`[reference]` of its manifest). A verdict is never drawn
from how long something took unless a limit says so.

A verdict is `bad` when it speaks of the package itself, wherever it is tried. Frames that are late
because the machine is loaded by others speak of the machine: they only make it wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from edge_agent.core.drift import Limits, drift_of, held_drift_of, reference_of
from edge_agent.core.manifest import Manifest
from edge_agent.core.sight import Sight

Word = Literal["pass", "fail", "wait", "inconclusive"]
StayWord = Literal["ok", "wait", "roll_back"]
Whole = Annotated[int, Meta(ge=0)]
Micros = Annotated[float, Meta(ge=0)]
LEEWAY = 1.25  # as slow as the version before, within what a machine wavers
JUDGED_FROM_US = 1000.0  # below a millisecond a ratio of times is the machine's noise


class Verdict(NamedTuple):
    """code: short and stable, for records. reason: with figures, for people. Both "" on a pass.

    bad: it is evidence against the package itself, and holds for ever.
    """

    word: Word
    code: str = ""
    reason: str = ""
    bad: bool = False


class Stay(NamedTuple):
    """As `Verdict`, of a candidate that is live on trial."""

    word: StayWord
    code: str = ""
    reason: str = ""
    bad: bool = False


class ShadowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one stream's shadow came to; the answer of the verb `shadow`, by stream.

    frames: that both looked at. late: that the shadow missed, because it was still busy.
    errors: frames it failed on, nan: those where it said something that is no number.
    hung: it has not come back from a frame. evidence_frames: with a finding in either;
    agreement_sum: over these alone. infer_us: of the shadow; live_us: of the live model, the
    same frames; both are time on a core where that can be told, else on the clock.
    """

    frames: Whole = 0
    errors: Whole = 0
    nan: Whole = 0
    late: Whole = 0
    hung: bool = False
    evidence_frames: Whole = 0
    both_empty: Whole = 0
    findings_live: Whole = 0
    findings_shadow: Whole = 0
    agreement_sum: Annotated[float, Meta(ge=0)] = 0.0
    infer_us_p50: Micros = 0.0
    infer_us_p99: Micros = 0.0
    live_us_p50: Micros = 0.0
    live_us_p99: Micros = 0.0
    live: Sight = Sight()
    shadow: Sight = Sight()
    problem: str = ""  # the first thing that it failed on, in words

    @property
    def agreement(self) -> float:
        """Over evidence; 0 without any."""
        return self.agreement_sum / self.evidence_frames if self.evidence_frames else 0.0


class LiveCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one version came to while it was live on one stream; the answer of the verb `figures`.

    results: frames it answered. errors: frames that it failed on, nan among them. missed: results
    after their deadline, and frames that were late or replaced while it was busy.
    """

    version: str = ""
    sha: str = ""
    trial: bool = False
    results: Whole = 0
    errors: Whole = 0
    nan: Whole = 0
    missed: Whole = 0
    infer_us_p50: Micros = 0.0
    infer_us_p99: Micros = 0.0
    sight: Sight = Sight()

    @property
    def asked(self) -> int:
        """Frames that it was asked to answer, answered or not."""
        return self.results + self.errors

    @property
    def missed_share(self) -> float:
        return self.missed / (self.results + self.missed) if self.results + self.missed else 0.0


# ── the shadow ────────────────────────────────────────────────────────────────────────────────


def judge_shadow(
    counts: ShadowCounts, manifest: Manifest, limits: Limits, elapsed_s: float
) -> Verdict:
    """One stream. manifest: the candidate's. limits: already `of` it."""
    return (
        _broken(counts)
        or _too_slow(counts, manifest, limits)
        or _unproven(counts, limits, elapsed_s)
        or _disagrees(counts, manifest, limits)
        or _drifted(counts, manifest, limits)
        or Verdict("pass")
    )


def judge_shadows(
    counts: Mapping[str, ShadowCounts], manifest: Manifest, limits: Limits, elapsed_s: float
) -> Verdict:
    """All streams of the model: one that refuses is enough, one that proves it is enough too.

    A stream without evidence holds nobody up while another has it: an idle room is no objection.
    """
    verdicts = {
        name: judge_shadow(one, manifest, limits, elapsed_s) for name, one in counts.items()
    }
    for word in ("fail", "pass", "wait", "inconclusive"):
        found = [(name, one) for name, one in verdicts.items() if one.word == word]
        for name, verdict in sorted(found, key=lambda told: not told[1].bad):
            reason = f"{name}: {verdict.reason}" if verdict.reason else ""
            return verdict._replace(reason=reason)
    return Verdict("inconclusive", "no-stream", "no stream runs this model")


def _broken(counts: ShadowCounts) -> Verdict | None:
    told = f" ({counts.problem})" if counts.problem else ""
    if counts.hung:
        why = f"the shadow did not come back from a frame{told}"
        return Verdict("fail", "shadow-hung", why, bad=True)
    if counts.nan:
        why = f"{counts.nan} frames with NaN or infinity{told}"
        return Verdict("fail", "nan", why, bad=True)
    if counts.errors:
        return Verdict("fail", "errors", f"failed on {counts.errors} frames{told}", bad=True)
    return None


def _too_slow(counts: ShadowCounts, manifest: Manifest, limits: Limits) -> Verdict | None:
    if counts.frames < min(limits.settle_frames, limits.frames):
        return None
    slow = _slowness(counts.infer_us_p50, counts.live_us_p50, manifest, limits)
    return Verdict("fail", *slow, bad=True) if slow else None


def _unproven(counts: ShadowCounts, limits: Limits, elapsed_s: float) -> Verdict | None:
    if counts.evidence_frames >= limits.frames:
        return None
    reason = (
        f"{counts.evidence_frames} of {limits.frames} frames with a finding, "
        f"{counts.both_empty} where both see nothing"
    )
    if counts.problem:
        reason += f" ({counts.problem})"
    if elapsed_s < limits.max_s:
        return Verdict("wait", "evidence", reason)
    return Verdict("inconclusive", "evidence", f"{reason}, within {limits.max_s:g} s")


def _disagrees(counts: ShadowCounts, manifest: Manifest, limits: Limits) -> Verdict | None:
    if counts.agreement >= limits.min_mean:
        return None
    reason = (
        f"agreement {counts.agreement:.2f} over {counts.evidence_frames} frames with a finding, "
        f"expected at least {limits.min_mean:g}"
    )
    return Verdict("fail", "agreement", reason, bad=_remembers_the_same(counts, manifest, limits))


def _drifted(counts: ShadowCounts, manifest: Manifest, limits: Limits) -> Verdict | None:
    drift = drift_of(counts.shadow, counts.live, reference_of(manifest), limits)
    if not drift:
        return None
    return Verdict("fail", "drift", drift, bad=_remembers_the_same(counts, manifest, limits))


def _remembers_the_same(counts: ShadowCounts, manifest: Manifest, limits: Limits) -> bool:
    """One that feeds itself back and misses frames sees another film than the live model."""
    seen = counts.frames + counts.late
    return not manifest.states or counts.late <= limits.max_missed_share * seen


# ── probation ─────────────────────────────────────────────────────────────────────────────────


class Probation(msgspec.Struct, frozen=True, kw_only=True):
    """One stream on trial. before: the version that it took over from. now: since the swap.

    beside: with the version before as its shadow, so that both saw the same frames; None: alone.
    """

    before: LiveCounts = LiveCounts()
    now: LiveCounts = LiveCounts()
    beside: ShadowCounts | None = None


def judge_probation(
    counts: Probation, manifest: Manifest, limits: Limits, elapsed_s: float
) -> Stay:
    """One stream. manifest: of the version on trial. limits: already `of` it.

    `ok` needs frames as well as time: a stream that stands still proves nothing and says `wait`.
    So does one whose machine is loaded: how long that is borne is decided above. Where nothing was
    live before, errors, NaN and lateness alone are judged.
    """
    now, late = counts.now, _misses(counts, manifest, limits)
    wrong = (
        _failing(counts.before, now, limits)
        or _slower(counts, manifest, limits)
        or (late if late is not None and late.word == "roll_back" else None)
        or _changed(counts, manifest, limits)
        or late  # it only waits: what speaks of the package goes first
    )
    if wrong is not None:
        return wrong
    if now.results < limits.probation_frames or elapsed_s < limits.probation_s:
        return Stay("wait", "frames", f"{now.results} of {limits.probation_frames} frames")
    return Stay("ok")


def judge_probations(
    counts: Mapping[str, Probation], manifest: Manifest, limits: Limits, elapsed_s: float
) -> Stay:
    """All streams: one that is worse takes it back everywhere, one that is well is enough."""
    stays = {
        name: judge_probation(one, manifest, limits, elapsed_s) for name, one in counts.items()
    }
    for word in ("roll_back", "ok", "wait"):
        found = [(name, one) for name, one in stays.items() if one.word == word]
        for name, stay in sorted(found, key=lambda told: not told[1].bad):
            return stay._replace(reason=f"{name}: {stay.reason}" if stay.reason else "")
    return Stay("wait", "no-stream", "no stream runs this model")


def _failing(before: LiveCounts, now: LiveCounts, limits: Limits) -> Stay | None:
    if now.nan and not before.nan:
        why = f"{now.nan} of {now.asked} frames with NaN or infinity"
        return Stay("roll_back", "nan", why, bad=True)
    share = now.errors / now.asked if now.asked else 0.0
    base = before.errors / before.asked if before.asked else 0.0
    if now.errors and share > base + limits.max_error_share:
        why = f"failed on {now.errors} of {now.asked} frames"
        return Stay("roll_back", "errors", why, bad=True)
    return None


def _slower(counts: Probation, manifest: Manifest, limits: Limits) -> Stay | None:
    """A budget alone is no evidence where nothing tells how fast this machine is."""
    if counts.now.results < limits.settle_frames:
        return None
    costs = _costs(counts, limits)
    if costs is None and not counts.before.results:
        return None
    took_us, live_us = costs.half if costs else (counts.now.infer_us_p50, None)
    slow = _slowness(took_us, live_us, manifest, limits)
    return Stay("roll_back", *slow, bad=costs is not None) if slow else None


class Costs(NamedTuple):
    """Of a run, in us: of the version on trial, and of the one before. half, most: p50 and p99."""

    half: tuple[float, float]
    most: tuple[float, float]


def _costs(counts: Probation, limits: Limits) -> Costs | None:
    """On the same frames where both see them: then whatever slows the machine slows both.

    None: nothing is known of the version before.
    """
    before, now, beside = counts.before, counts.now, counts.beside
    if beside is not None and beside.frames >= limits.settle_frames:
        return Costs(
            (beside.live_us_p50, beside.infer_us_p50), (beside.live_us_p99, beside.infer_us_p99)
        )
    if before.results >= limits.settle_frames:
        return Costs(
            (now.infer_us_p50, before.infer_us_p50), (now.infer_us_p99, before.infer_us_p99)
        )
    return None


def _slowness(
    took_us: float, live_us: float | None, manifest: Manifest, limits: Limits
) -> tuple[str, str] | None:
    """(code, reason). live_us None: nothing is known of the version before.

    A budget is a promise about a machine that is fast enough; where the version before does not
    keep it either, only the ratio counts.
    """
    budget_us = manifest.latency_budget_ms * 1000
    base_us = live_us if live_us is not None else 0.0
    if took_us > budget_us and took_us > LEEWAY * base_us:
        return "latency-budget", (
            f"{took_us / 1000:.1f} ms a run, expected at most {budget_us / 1000:g} ms"
        )
    if live_us is None or took_us <= max(JUDGED_FROM_US, limits.max_slowdown * live_us):
        return None
    return "latency-ratio", (
        f"{took_us / 1000:.1f} ms a run, the version before {live_us / 1000:.1f} ms, "
        f"expected at most {limits.max_slowdown:g} times"
    )


def _misses(counts: Probation, manifest: Manifest, limits: Limits) -> Stay | None:
    before, now = counts.before, counts.now
    if now.results + now.missed < limits.settle_frames:
        return None
    more = now.missed_share - before.missed_share
    if more <= limits.max_missed_share:
        return None
    reason = (
        f"{now.missed_share:.0%} of the frames too late, before {before.missed_share:.0%}, "
        f"expected at most {limits.max_missed_share:.0%} more"
    )
    if _explains_lateness(counts, manifest, limits):
        return Stay("roll_back", "deadline", reason, bad=True)
    return Stay("wait", "loaded", f"{reason}; not for its own runs: the machine is loaded")


def _explains_lateness(counts: Probation, manifest: Manifest, limits: Limits) -> bool:
    """Whether its runs themselves take longer, in time on a core where that can be told."""
    budget_us = manifest.latency_budget_ms * 1000
    costs = _costs(counts, limits)
    if costs is None:
        return counts.now.infer_us_p99 > budget_us
    half_us, most_us = (max(JUDGED_FROM_US, LEEWAY * base) for _, base in costs)
    return costs.half[0] > half_us or costs.most[0] > max(most_us, budget_us)


def _changed(counts: Probation, manifest: Manifest, limits: Limits) -> Stay | None:
    """Frames of another hour explain any rate of findings: it is judged on the same frames only.

    The version before looks at some of the frames only: one that feeds itself back sees another
    film then, and what it says is reason enough to go back, but proves nothing.
    """
    reference, beside = reference_of(manifest), counts.beside
    if beside is not None and beside.evidence_frames >= limits.frames:
        if beside.agreement < limits.min_mean:
            reason = (
                f"agreement with the version before fell to {beside.agreement:.2f} over "
                f"{beside.evidence_frames} frames, expected at least {limits.min_mean:g}"
            )
            return Stay("roll_back", "agreement", reason, bad=not manifest.states)
        drift = drift_of(beside.live, beside.shadow, reference, limits)
        return Stay("roll_back", "drift", drift, bad=not manifest.states) if drift else None
    if min(counts.before.sight.findings, counts.now.sight.findings) < limits.probation_frames:
        return None
    drift = held_drift_of(counts.now.sight, counts.before.sight, reference, limits)
    return Stay("roll_back", "drift", drift, bad=True) if drift else None
