"""What no sequence of events, deaths and silences can make a rollout do."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import rollout as ro
from edge_agent.core.rollout import Rollout, State
from edge_agent.core.rollout.document import MAX_HISTORY, MAX_REFUSED
from tests.core.rolling import LIMITS, SHA, Walk, wanted


class World:
    """A store with pointers and a side, which obey orders; crashes lose what is only in memory."""

    def __init__(self) -> None:
        self.current, self.previous, self.live = SHA["c"], "", SHA["c"]
        self.on_trial = False
        self.bad: set[str] = set()  # what something was said against

    def obey(self, document: Rollout) -> None:
        order, sha = document.order, document.wanted.sha if document.wanted else ""
        if order == "swap":
            self.live, self.on_trial = sha, True
        elif order == "commit":
            if self.current != sha:
                self.current, self.previous = sha, self.current
            self.live, self.on_trial = self.current, False
        elif order in ("roll_back", "restart"):
            self.live, self.on_trial = self.current, False
        elif order == "revert":
            if self.current != document.revert_to:
                self.current, self.previous = document.revert_to, self.current
            self.live = self.current

    def die(self) -> None:
        self.live, self.on_trial = self.current, False


words = st.sampled_from(["x", "the disk is full"])
said = st.one_of(
    st.builds(lambda sha, mode: ro.Offered(wanted=wanted(sha, mode)),
              st.sampled_from("ab"), st.sampled_from(["swap", "shadow", "stage"])),
    st.just(ro.Withdrawn(reason="not wanted any more")),
    st.just(ro.RollBackWanted(sha=SHA["b"], version="1.0.0", live=SHA["a"])),
    st.just(ro.Stopping()),
    st.just("crash"),
    st.just("half"),
    st.just("orderly"),
    st.just("happy"),
    st.builds(lambda verdict: (ro.Judged, {"verdict": verdict}),
              st.sampled_from(["more", "pass", "fail", "inconclusive"])),
    st.builds(lambda fault: (ro.Failed, {"reason": "x", "fault": fault}),
              st.sampled_from(["bad-package", "rejected", "damaged", "no-room", "overloaded",
                               "link-down", "untrusted", "failed"])),
    st.builds(lambda crashed: (ro.SideLost, {"crashed": crashed}), st.booleans()),
    st.just((ro.Built, {})),
    st.builds(lambda free: (ro.Moment, {"free": free}), st.booleans()),
    st.floats(min_value=0, max_value=1e6),
)  # fmt: skip


def is_evidence(event: Any, before: Rollout) -> bool:
    """Against the package: its own fault, or that it took the side or the machine along."""
    kind, words = event
    if kind is ro.Failed:
        return bool(words["fault"] == "bad-package")
    if kind is ro.SideLost:
        return bool(words["crashed"]) and before.trials >= LIMITS.trials
    return kind is ro.Judged and words["verdict"] == "fail"


def play(walk: Walk, world: World, event: Any) -> None:
    before, live = walk.document, world.live
    if event == "half":  # the effect took place, and nobody lived to hear of it
        world.obey(before)
        event = "crash"
    if event in ("crash", "orderly"):
        crash(walk, world, orderly=event == "orderly")
    elif event == "happy":
        if before.order:
            world.obey(before)
            walk.happy()
            assert world.live == live or before.order in (
                "swap", "commit", "roll_back", "revert", "restart",
            )  # fmt: skip
    elif isinstance(event, float):
        walk.say(ro.Tick(), after_s=event)
    elif isinstance(event, tuple):
        answer(walk, world, event)
    else:
        walk.say(event)


def crash(walk: Walk, world: World, *, orderly: bool) -> None:
    if orderly:
        walk.say(ro.Stopping())
    world.die()
    walk.reboot()


def answer(walk: Walk, world: World, event: Any) -> None:
    before = walk.document
    if event[0] is ro.SideLost:
        world.die()
    if is_evidence(event, before) and before.wanted is not None:
        world.bad.add(before.wanted.sha)
    if event[0] is ro.Failed and before.order == "swap":
        world.obey(before)  # it went live, and the answer was lost
    walk.answer(event[0], **event[1])


def check(walk: Walk, world: World) -> None:
    document = walk.document
    assert document.trials <= LIMITS.trials
    assert len(document.history) <= MAX_HISTORY
    assert len(document.refused) <= MAX_REFUSED
    assert len(ro.encode(document)) <= ro.MAX_BYTES
    if world.on_trial:  # a candidate is live only while the table knows that it is on trial
        assert document.state in (State.PROBATION, State.ROLLING_BACK)
        assert document.order
    elif document.is_settled:
        assert world.live == world.current
    for report in walk.told:  # what is told is so, or was when it was told
        assert report.outcome in {state.value for state in ro.FINAL}
    for refusal in document.refused:
        assert refusal.by == "operator" or refusal.sha in world.bad


def settle(walk: Walk, world: World) -> None:
    """What was decided needs somebody who does it; nothing else is waited for."""
    world.obey(walk.document)
    walk.happy()


@settings(max_examples=150, deadline=None)
@given(events=st.lists(said, max_size=40))
def test_whatever_happens_it_ends_within_bounds_and_what_is_live_is_what_is_committed(
    events: list[Any],
) -> None:
    walk, world = Walk(), World()
    for event in events:
        play(walk, world, event)
        check(walk, world)
    for _ in range(60):  # from wherever it stands: time alone ends it, when nobody answers
        if walk.document.is_settled:
            break
        if walk.document.is_ending:
            settle(walk, world)
        else:
            walk.say(ro.Tick(), after_s=8 * 86_400)
    assert walk.document.is_settled, walk.document


@settings(max_examples=60, deadline=None)
@given(events=st.lists(said, max_size=15), seed=st.integers(0, 9))
def test_a_machine_that_only_crashes_comes_to_an_end(events: list[Any], seed: int) -> None:
    walk, world = Walk(), World()
    for event in events:
        play(walk, world, event)
    for _ in range(2 * (LIMITS.returns + 3)):  # what came meanwhile has its own turn after it
        if walk.document.is_settled:
            break
        if walk.document.is_ending:
            settle(walk, world)
        else:
            play(walk, world, "crash" if seed else "orderly")
    assert walk.document.is_settled
    assert world.live == world.current
