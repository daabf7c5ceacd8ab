"""May it take over, may it stay: what refuses a candidate, what proves it, what only waits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.drift import Limits, reference_of
from edge_agent.core.errors import BadPackage
from edge_agent.core.manifest import Manifest, StateSpec
from edge_agent.core.sight import Glance, Sight, SightCount
from edge_agent.core.trial import (
    LiveCounts,
    Probation,
    ShadowCounts,
    judge_probation,
    judge_probations,
    judge_shadow,
    judge_shadows,
)
from tests.backends.graphs import manifest

LIMITS = Limits(frames=50, min_mean=0.5, max_s=100.0, probation_frames=100, probation_s=10.0)
PLAIN = manifest()
WELL_SCORES = (0, 0, 0, 0, 0, 0, 0, 0, 20, 60)


def sight(frames: int = 100, findings: int = 80, **more: Any) -> Sight:
    fields: dict[str, Any] = {
        "scores": WELL_SCORES,
        "area_sum": 8.0,
        "pairs": 90,
        "flips": 4,
    } | more
    return Sight(frames=frames, findings=findings, **fields)


def shadow(**more: Any) -> ShadowCounts:
    """One that passes, but for what is said."""
    fields: dict[str, Any] = {
        "frames": 100, "evidence_frames": 85, "both_empty": 15, "agreement_sum": 70.0,
        "infer_us_p50": 5000.0, "live_us_p50": 5000.0, "live": sight(), "shadow": sight(),
    }  # fmt: skip
    return ShadowCounts(**(fields | more))


def live(**more: Any) -> LiveCounts:
    fields: dict[str, Any] = {"results": 1000, "infer_us_p50": 5000.0, "sight": sight(1000, 800)}
    return LiveCounts(**(fields | more))


def told(counts: ShadowCounts, elapsed_s: float = 1.0, spec: Manifest = PLAIN) -> tuple[str, str]:
    return judge_shadow(counts, spec, LIMITS, elapsed_s)[:2]


def is_bad(**more: Any) -> bool:
    return judge_shadow(shadow(**more), PLAIN, LIMITS, 1.0).bad


def stays(elapsed_s: float = 60.0, **fields: Any) -> tuple[str, str]:
    return judge_probation(Probation(**({"before": live(), "now": live()} | fields)), PLAIN, LIMITS,
                           elapsed_s)[:2]  # fmt: skip


def test_a_candidate_that_agrees_where_there_is_something_to_see_passes() -> None:
    assert told(shadow()) == ("pass", "")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"nan": 1}, "nan"),
        ({"errors": 1}, "errors"),
        ({"hung": True}, "shadow-hung"),
        ({"infer_us_p50": 15_000.0}, "latency-ratio"),
        ({"infer_us_p50": 120_000.0, "live_us_p50": 80_000.0}, "latency-budget"),
        ({"agreement_sum": 30.0}, "agreement"),
        ({"shadow": sight(findings=20)}, "drift"),
        ({"shadow": sight(scores=(80, *(0,) * 9))}, "drift"),
        ({"shadow": sight(area_sum=24.0)}, "drift"),
        ({"shadow": sight(flips=40)}, "drift"),
    ],
)
def test_a_candidate_is_refused_for_one_thing_alone(wrong: dict[str, Any], code: str) -> None:
    assert told(shadow(**wrong)) == ("fail", code)
    assert is_bad(**wrong), "and that holds for ever"
    words = judge_shadow(shadow(**wrong), PLAIN, LIMITS, 1.0).reason
    assert words
    assert any(figure.isdigit() for figure in words) or code == "shadow-hung"


def test_two_models_that_both_see_nothing_prove_nothing() -> None:
    nothing = sight(findings=0, scores=(0,) * 10, area_sum=0.0, flips=0)
    blind = shadow(
        frames=100_000, evidence_frames=0, both_empty=100_000, agreement_sum=0.0,
        live=nothing, shadow=nothing,
    )  # fmt: skip
    assert told(blind, 99.0) == ("wait", "evidence")
    assert told(blind, 100.0) == ("inconclusive", "evidence")
    assert not judge_shadow(blind, PLAIN, LIMITS, 100.0).bad


def test_what_hurts_is_told_before_there_is_evidence() -> None:
    assert told(shadow(frames=1, evidence_frames=0, nan=1))[0] == "fail"
    assert told(shadow(frames=49, evidence_frames=0, infer_us_p50=99_000.0))[0] == "wait"
    assert told(shadow(frames=50, evidence_frames=0, infer_us_p50=99_000.0))[0] == "fail"


def test_what_the_package_announces_is_no_drift() -> None:
    """A better model may find more than the one it replaces; its package says so."""
    sharper = sight(findings=99, area_sum=33.0)
    dull = sight(findings=50, area_sum=5.0)
    counts = shadow(live=dull, shadow=sharper)
    assert told(counts) == ("fail", "drift")
    spec = manifest(reference={"findings_per_100": 97.0, "mean_area": 0.3})
    assert told(counts, spec=spec) == ("pass", "")


def test_a_package_says_its_own_floor_and_evidence_and_no_more() -> None:
    spec = manifest(agreement={"frames": 7, "min_mean": 0.9, "max_slowdown": 4, "max_s": 1})
    own = LIMITS.of(spec)
    assert (own.frames, own.min_mean, own.max_slowdown) == (7, 0.9, 4)
    assert own.max_s == LIMITS.max_s
    for nonsense in ({"frames": "many"}, {"min_mean": 2.0}, {"max_slowdown": 0.1}):
        with pytest.raises(BadPackage, match=r"\[agreement\]"):
            LIMITS.of(manifest(agreement=nonsense))
    with pytest.raises(BadPackage, match=r"\[reference\]"):
        reference_of(manifest(reference={"flicker": "none"}))


def test_one_stream_that_refuses_is_enough_and_an_idle_one_holds_nobody_up() -> None:
    idle = shadow(frames=0, evidence_frames=0, both_empty=0, agreement_sum=0.0)
    bad = shadow(nan=2)
    verdict = judge_shadows({"a": shadow(), "b": idle}, PLAIN, LIMITS, 1.0)
    assert verdict.word == "pass"
    verdict = judge_shadows({"a": shadow(), "b": bad, "c": idle}, PLAIN, LIMITS, 1.0)
    assert (verdict.word, verdict.code) == ("fail", "nan")
    assert verdict.reason.startswith("b: ")
    assert judge_shadows({}, PLAIN, LIMITS, 1.0).word == "inconclusive"


def test_a_trial_ends_well_with_frames_and_time() -> None:
    assert stays() == ("ok", "")
    assert stays(elapsed_s=1.0) == ("wait", "frames")
    assert stays(now=live(results=99)) == ("wait", "frames")


@pytest.mark.parametrize(
    ("now", "code"),
    [
        ({"nan": 1, "errors": 1}, "nan"),
        ({"errors": 30}, "errors"),
        ({"results": 0, "errors": 1}, "errors"),
        ({"infer_us_p50": 15_000.0}, "latency-ratio"),
        ({"missed": 200, "infer_us_p50": 7000.0}, "deadline"),
        ({"missed": 200, "infer_us_p99": 150_000.0}, "deadline"),
        ({"sight": sight(1000, 800, area_sum=240.0)}, "drift"),
    ],
)
def test_a_trial_is_taken_back_for_one_thing_alone(now: dict[str, Any], code: str) -> None:
    before = live(sight=sight(1000, 800, area_sum=80.0))
    assert stays(before=before, now=live(**now)) == ("roll_back", code)
    counts = Probation(before=before, now=live(**now))
    assert judge_probation(counts, PLAIN, LIMITS, 60.0).bad


LATE: dict[str, Any] = {"results": 500, "missed": 500}
QUICK: dict[str, Any] = {"frames": 100, "live_us_p50": 5000.0, "infer_us_p50": 5000.0}


@pytest.mark.parametrize(
    ("counts", "word", "code", "bad", "who"),
    [
        ({"now": live(**LATE)}, "wait", "loaded", False, "the machine: its runs are as quick"),
        ({"now": live(**LATE, infer_us_p99=90_000.0)}, "wait", "loaded", False, "in its budget"),
        ({"now": live(**LATE, infer_us_p50=6500.0)}, "roll_back", "deadline", True, "it is slower"),
        (
            {"now": live(**LATE, infer_us_p50=9000.0), "beside": shadow(**QUICK)},
            "wait", "loaded", False, "the machine: on the same frames both are as quick",
        ),
        (
            {"now": live(), "beside": shadow(**QUICK | {"live_us_p50": 15_000.0})},
            "roll_back", "latency-ratio", True, "it is slower on the same frames",
        ),
        (
            {"before": live(results=5), "now": live(infer_us_p50=150_000.0)},
            "roll_back", "latency-budget", False, "nobody knows how fast this machine is",
        ),
        (
            {"now": live(results=0, missed=500, infer_us_p50=0.0)},
            "wait", "loaded", False, "not one frame was answered: the watch of lanes ends that",
        ),
    ],
)  # fmt: skip
def test_who_is_to_blame_for_frames_that_are_late(
    counts: dict[str, Any], word: str, code: str, bad: bool, who: str
) -> None:
    stay = judge_probation(Probation(**{"before": live(), **counts}), PLAIN, LIMITS, 60.0)
    assert (stay.word, stay.code, stay.bad) == (word, code, bad), who
    assert stay.reason


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({}, ("ok", "", False)),
        ({"results": 99}, ("wait", "frames", False)),
        ({"sight": sight(1000, 3, area_sum=2.0)}, ("ok", "", False)),
        ({"infer_us_p50": 150_000.0, "infer_us_p99": 160_000.0}, ("ok", "", False)),
        ({**LATE, "infer_us_p99": 90_000.0}, ("wait", "loaded", False)),
        ({**LATE, "infer_us_p99": 150_000.0}, ("roll_back", "deadline", True)),
        ({"nan": 1, "errors": 1}, ("roll_back", "nan", True)),
        ({"errors": 30}, ("roll_back", "errors", True)),
    ],
)
def test_a_first_model_is_judged_by_errors_nan_and_lateness_alone(
    now: dict[str, Any], expected: tuple[str, str, bool]
) -> None:
    stay = judge_probation(Probation(now=live(**now)), PLAIN, LIMITS, 60.0)
    assert (stay.word, stay.code, stay.bad) == expected


@pytest.mark.parametrize(("late", "bad"), [(0, True), (4, True), (50, False)])
def test_a_model_with_a_memory_that_missed_frames_is_refused_and_not_for_ever(
    late: int, bad: bool
) -> None:
    """It saw another film than the live one; a loaded machine sheds the shadow first."""
    spec = manifest(states=(StateSpec(input="s", output="t"),))
    for wrong in ({"agreement_sum": 30.0}, {"shadow": sight(findings=20)}):
        verdict = judge_shadow(shadow(late=late, **wrong), spec, LIMITS, 1.0)
        assert (verdict.word, verdict.bad) == ("fail", bad)
        assert judge_shadow(shadow(late=50, **wrong), PLAIN, LIMITS, 1.0).bad
    away = Probation(before=live(), now=live(), beside=shadow(agreement_sum=10.0))
    assert not judge_probation(away, spec, LIMITS, 60.0).bad
    assert judge_probation(away, PLAIN, LIMITS, 60.0).bad


def test_of_two_streams_the_one_that_proves_more_is_told() -> None:
    late = Probation(before=live(results=5), now=live(infer_us_p50=150_000.0))
    broken = Probation(before=live(), now=live(nan=1, errors=1))
    stay = judge_probations({"a": late, "b": broken}, PLAIN, LIMITS, 60.0)
    assert (stay.code, stay.bad) == ("nan", True)
    loaded = Probation(before=live(), now=live(**LATE))
    well = Probation(before=live(), now=live())
    assert judge_probations({"a": loaded}, PLAIN, LIMITS, 60.0)[:2] == ("wait", "loaded")
    assert judge_probations({"a": loaded, "b": well}, PLAIN, LIMITS, 60.0).word == "ok"


def test_a_probe_that_is_laid_down_during_a_trial_is_no_drift() -> None:
    empty = live(sight=sight(1000, 3, scores=(0,) * 9 + (3,), area_sum=0.3))
    assert stays(now=empty) == ("ok", "")


def test_on_the_same_frames_the_version_before_tells_what_has_changed() -> None:
    away = shadow(agreement_sum=10.0)
    assert stays(beside=away) == ("roll_back", "agreement")
    blind = shadow(live=sight(findings=10))
    assert stays(beside=blind) == ("roll_back", "drift")
    assert stays(beside=shadow()) == ("ok", "")


def test_one_stream_that_got_worse_takes_it_back_everywhere() -> None:
    well = Probation(before=live(), now=live())
    worse = Probation(before=live(), now=live(nan=1, errors=1))
    idle = Probation(before=live(), now=live(results=0))
    assert judge_probations({"a": well, "b": idle}, PLAIN, LIMITS, 60.0).word == "ok"
    stay = judge_probations({"a": well, "b": worse}, PLAIN, LIMITS, 60.0)
    assert (stay.word, stay.code, stay.reason[:3]) == ("roll_back", "nan", "b: ")


WHOLE = st.integers(0, 2000)
MICROS = st.floats(0, 1e6)


@st.composite
def sights(draw: st.DrawFn) -> Sight:
    frames = draw(WHOLE)
    findings = draw(st.integers(0, frames))
    scores = [0] * 10
    for _ in range(min(findings, 8)):
        scores[draw(st.integers(0, 9))] += 1
    pairs = draw(st.integers(0, frames))
    return Sight(
        frames=frames, findings=findings, scores=tuple(scores), pairs=pairs,
        flips=draw(st.integers(0, pairs)), area_sum=draw(st.floats(0, 1)) * findings,
    )  # fmt: skip


@st.composite
def shadows(draw: st.DrawFn) -> ShadowCounts:
    frames = draw(WHOLE)
    evidence = draw(st.integers(0, frames))
    return ShadowCounts(
        frames=frames, evidence_frames=evidence, both_empty=frames - evidence,
        agreement_sum=draw(st.floats(0, 1)) * evidence, errors=draw(st.integers(0, 1)),
        nan=draw(st.integers(0, 1)), late=draw(WHOLE), hung=draw(st.booleans()),
        infer_us_p50=draw(MICROS), live_us_p50=draw(MICROS), live=draw(sights()),
        shadow=draw(sights()),
    )  # fmt: skip


@given(counts=shadows(), elapsed_s=st.floats(0, 1000))
def test_nothing_passes_that_is_broken_unproven_or_disagrees(
    counts: ShadowCounts, elapsed_s: float
) -> None:
    verdict = judge_shadow(counts, PLAIN, LIMITS, elapsed_s)
    bad = counts.errors or counts.nan or counts.hung
    assert (verdict.word == "fail") or not bad
    if verdict.word == "pass":
        assert counts.evidence_frames >= LIMITS.frames
        assert counts.agreement >= LIMITS.min_mean
        assert counts.infer_us_p50 <= max(1000.0, LIMITS.max_slowdown * counts.live_us_p50)
    assert verdict.word == "fail" or not verdict.bad
    if verdict.word == "wait":
        assert elapsed_s < LIMITS.max_s
    assert bool(verdict.reason) == (verdict.word != "pass")
    again = msgspec.convert(msgspec.to_builtins(counts), ShadowCounts)
    assert judge_shadow(again, PLAIN, LIMITS, elapsed_s) == verdict, "as it crosses the socket"


@given(counts=shadows())
def test_time_alone_never_makes_a_candidate_better(counts: ShadowCounts) -> None:
    early = judge_shadow(counts, PLAIN, LIMITS, 0.0)
    late = judge_shadow(counts, PLAIN, LIMITS, 1e6)
    assert early == late or (early.word, late.word) == ("wait", "inconclusive")


SEEN = st.lists(
    st.tuples(st.integers(1, 3), st.one_of(st.none(), st.floats(0, 1)), st.floats(0, 1)),
    max_size=40,
)


@given(seen=SEEN)
def test_what_is_seen_adds_up(seen: list[tuple[int, float | None, float]]) -> None:
    count, number, numbers = SightCount(), 0, []
    for step, score, area in seen:
        number += step
        numbers.append((number, score is not None))
        count.add(number, 1, Glance(score, area))
    found = count.sight()
    near = [(a, b) for a, b in pairwise(numbers) if b[0] - a[0] == 1]
    assert found.frames == len(seen)
    assert found.findings == sum(is_found for _, is_found in numbers) == sum(found.scores)
    assert (found.pairs, found.flips) == (len(near), sum(a[1] != b[1] for a, b in near))
    assert 0 <= found.flicker <= 1
    assert 0 <= found.findings_per_100 <= 100
    assert found.plus(found).frames == 2 * found.frames
    assert found.plus(Sight()) == found
