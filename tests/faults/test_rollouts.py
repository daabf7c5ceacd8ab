"""`tools/faults rollouts`: its judge can refuse, its plan follows from the seed; one cycle."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from tools.faulting.downward import judge, plan
from tools.faulting.downward.packages import FIRST
from tools.faulting.downward.rest import waits_for
from tools.faulting.downward.seen import Ended, Look, Pointed, Rest, Seen
from tools.faulting.downward.words import Held, Made, Pins, Window, Wish, Words

GOOD, BAD, SICK = "a" * 64, "b" * 64, "c" * 64
FIRST_SHA = "d" * 64
EVERY_S = 0.25


def said(**more: Any) -> Words:
    """Serial 2 wants 1.1.0, which is good; 1.2.0 is drifted, 1.3.0 says NaN."""
    words = Words(
        made={
            FIRST: Made(FIRST, FIRST_SHA, "good"), "1.1.0": Made("1.1.0", GOOD, "good"),
            "1.2.0": Made("1.2.0", BAD, "drifted"), "1.3.0": Made("1.3.0", SICK, "nan"),
        },
        wishes={1: Wish(), 2: Wish(version="1.1.0")},
    )  # fmt: skip
    return msgspec.structs.replace(words, **more)


LOOK = Look(
    at_s=0.0, live="1.1.0", live_sha=GOOD, pointed="1.1.0", state="committed", version="1.1.0",
    serial=2, desired="applied",
)  # fmt: skip


def looks(*, seconds: float = 8.0, from_s: float = 100.0, **more: Any) -> list[Look]:
    """The same again and again: 1.1.0 is committed and live, unless told otherwise."""
    return [
        msgspec.structs.replace(LOOK, at_s=from_s + number * EVERY_S, **more)
        for number in range(round(seconds / EVERY_S))
    ]


def saw(*some: Look, **more: Any) -> Seen:
    seen = Seen(
        from_s=100.0,
        looks=list(some) or looks(),
        pointed=[Pointed(99.0, ""), Pointed(100.5, GOOD)],
        ended=[Ended(GOOD, "committed", 100.6)],
    )
    return msgspec.structs.replace(seen, **more)


def named(words: Words, seen: Seen) -> list[str]:
    return [flaw.name for flaw in judge.flaws(words, seen)]


def test_a_rollout_that_went_well_has_no_flaw() -> None:
    assert judge.flaws(said(), saw()) == []


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("pointer", saw(pointed=[Pointed(100.0, GOOD, is_whole=False)])),
        ("pointer", saw(rest=Rest(broken=["current: it is another one now"]))),
        ("report", saw(pointed=[Pointed(99.0, "")])),
        ("report", saw(ended=[Ended(GOOD, "rolled_back", 105.0)])),
        ("live", saw(*looks(live=FIRST, live_sha=FIRST_SHA))),
        ("word", saw(*looks(state="shadow", settled=False, version="1.2.0"))),
        ("word", saw(*looks(state="probation", settled=False, pinned=FIRST))),
        ("pins", saw(*looks(pinned="1.2.0"))),
        ("serial", saw(*looks(), *looks(from_s=108.0, serial=1))),
        ("bad-committed", saw(pointed=[Pointed(100.0, BAD)], ended=[])),
        ("bad-committed", saw(ended=[Ended(SICK, "committed", 90.0)])),
        ("good-refused", saw(*looks(refused=((GOOD, ""),)))),
        ("rest", saw(rest=Rest(waits_for="it is still fetching"))),
        ("left-over", saw(rest=Rest(left_over=["models/.incoming/abc"]))),
        ("orphans", saw(rest=Rest(orphans=["17 python -m edge_agent.installer"]))),
        ("ended", saw(ends=["with 1: Traceback"])),
    ],
)
def test_what_is_broken_is_seen(name: str, seen: Seen) -> None:
    words = said(pins=[Pins(90.0, frozenset({"", FIRST}))])
    assert name in named(words, seen)


def test_a_version_that_is_halted_may_not_stay() -> None:
    words = said(wishes={2: Wish(halted=frozenset({"1.1.0"}))})
    assert "halt" in named(words, saw())
    assert "halt" not in named(words, saw(*looks(seconds=2.0)))  # it has some seconds to go
    pinned = said(wishes=words.wishes, pins=[Pins(90.0, frozenset({"1.1.0"}))])
    assert "halt" not in named(pinned, saw(*looks(pinned="1.1.0")))  # a person holds on to it


def test_a_version_that_the_configuration_forbids_may_not_come() -> None:
    words = said(held=[Held(at_s=100.0, held=FIRST)])
    seen = saw(*looks(live=FIRST, state="shadow", settled=False))
    assert "word" in named(words, seen)
    gone = said(held=[Held(at_s=100.0, is_used=False)])
    assert "word" in named(gone, seen)


def test_a_refusal_that_a_person_wanted_says_nothing_against_a_good_version() -> None:
    assert "good-refused" not in named(said(), saw(*looks(refused=((GOOD, "operator"),))))


def test_a_candidate_that_says_nan_has_a_second_and_a_half_to_go() -> None:
    sick: dict[str, Any] = {"live": "1.3.0", "live_sha": SICK, "state": "probation",
                            "settled": False, "version": "1.3.0"}  # fmt: skip
    words = said(wishes={2: Wish(version="1.3.0")})
    well = looks(**sick, seconds=1.0)
    soon = looks(**sick, errors=1, from_s=101.0, seconds=1.0)
    late = looks(**sick, errors=2, from_s=102.0, seconds=2.0)
    assert named(words, saw(*well, *soon)) == []
    assert "nan" in named(words, saw(*well, *soon, *late))


def test_nobody_is_held_to_a_bound_while_a_fault_takes_the_agent_away() -> None:
    seen = saw(*looks(state="shadow", settled=False, version="1.2.0"))
    words = said(windows=[Window("stop-child", 99.0, 110.0)])
    assert "word" in named(said(), seen)
    assert "word" not in named(words, seen)


@pytest.mark.parametrize(
    ("words", "look"),
    [
        (said(), {"serial": 1}),
        (said(), {"settled": False, "state": "shadow"}),
        (said(), {"up": False}),
        (said(), {"live": FIRST}),
        (said(), {"live": FIRST, "pointed": "", "state": "deferred"}),
        (said(wishes={2: Wish(version="1.2.0")}), {"live": FIRST, "pointed": ""}),
        (said(wishes={2: Wish(halted=frozenset({"1.1.0"}))}), {}),
        (said(held=[Held(at_s=0.0, held=FIRST)]), {}),
    ],
)
def test_what_has_not_come_to_rest_is_waited_for(words: Words, look: dict[str, Any]) -> None:
    assert waits_for(words, msgspec.structs.replace(LOOK, **look))


def test_what_a_person_held_or_left_is_not_waited_for() -> None:
    first = msgspec.structs.replace(LOOK, live=FIRST, pointed="")
    assert waits_for(said(), LOOK) == ""
    assert waits_for(said(), msgspec.structs.replace(first, pinned=FIRST)) == ""
    assert waits_for(said(left={"1.1.0"}), first) == ""


def test_what_befalls_a_cycle_follows_from_seed_and_number() -> None:
    assert plan.cycle_of(3, 7) == plan.cycle_of(3, 7)
    assert plan.cycle_of(3, 7) != plan.cycle_of(3, 8)
    drawn = {deed.kind for number in range(200) for deed in plan.cycle_of(1, number).deeds}
    assert drawn == set(plan.KINDS)
    without = {
        deed.kind
        for number in range(200)
        for deed in plan.cycle_of(1, number, plan.NEEDS_ROOT).deeds
    }
    assert drawn - without == plan.NEEDS_ROOT


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_one_cycle_ends_with_one_line_and_its_verdict() -> None:
    command = [sys.executable, "-m", "tools.faulting", "rollouts", "--cycles", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, found["ok"], found["cycles"]) == (0, True, 1), done.stdout
    assert found["promised"] > 100
