"""The table of a rollout: its ways and its ends."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.core import rollout as ro
from edge_agent.core.rollout import State
from tests.core.rolling import LIMITS, SHA, Walk, wanted


def test_a_good_model_goes_all_the_way_and_is_reported_once() -> None:
    walk = Walk().to(State.COMMITTED)
    walk.happy()
    way = "begin fetch prove load shadow wait swap probe commit"
    assert walk.orders == way.split()
    (report,) = walk.told
    assert (report.outcome, report.agreement, report.trials) == ("committed", 0.9, 1)
    assert walk.document.is_settled


def test_a_package_that_is_here_is_not_fetched() -> None:
    walk = Walk()
    walk.say(ro.Offered(wanted=wanted()))
    walk.answer(ro.Done, have=True)
    assert (walk.document.state, walk.document.order) == (State.BUILDING, "prove")


@pytest.mark.parametrize("mode", ["stage", "shadow"])
def test_only_mode_swap_ever_swaps(mode: str) -> None:
    walk = Walk()
    walk.say(ro.Offered(wanted=wanted(mode=mode)))
    for _ in range(12):
        walk.happy()
        if walk.document.is_settled:
            break
    if mode == "shadow":
        assert walk.stands("shadow")
        walk.say(ro.Tick(), after_s=LIMITS.observe_s + 1)
        walk.happy()
    assert "swap" not in walk.orders
    assert walk.told[0].outcome == {"stage": "staged", "shadow": "observed"}[mode]


def test_weather_pauses_a_download_and_its_deadline_ends_it() -> None:
    walk = Walk().to(State.FETCHING)
    for _ in range(3):
        walk.answer(ro.Failed, reason="the line is down", fault="link-down")
        assert walk.stands("pause")
        walk.say(ro.Tick(), after_s=LIMITS.longest_pause_s)
        assert walk.stands("fetch")
    walk.say(ro.Tick(), after_s=LIMITS.fetch_s)
    assert walk.stands(State.DEFERRED)
    assert not walk.document.refusal_of(SHA["a"], LIMITS.agent)  # it may come again, after a rest
    walk.say(ro.Offered(wanted=wanted()))
    assert walk.document.is_settled
    walk.say(ro.Offered(wanted=wanted()), after_s=LIMITS.first_rest_s + 1)
    assert walk.stands(State.OFFERED)


def test_what_was_refused_for_good_does_not_come_again_by_itself() -> None:
    walk = Walk().to(State.GOLDEN)
    walk.answer(ro.Failed, reason="golden samples differ by 0.4", fault="bad-package")
    assert walk.stands(State.REJECTED)
    walk.say(ro.Offered(wanted=wanted(serial=9)), after_s=1e6)
    assert walk.document.is_settled
    assert walk.document.refusal_of(SHA["a"], "0.1.0") == "golden samples differ by 0.4"
    assert not walk.document.refusal_of(SHA["a"], "0.2.0")  # another agent may read it
    walk.say(ro.Offered(wanted=wanted(), again=True))
    assert walk.stands(State.OFFERED)


def test_the_third_death_of_the_machine_on_trial_lets_it_rest_for_long_and_blames_nobody() -> None:
    walk = Walk()
    for trial in range(1, 4):
        walk.to(State.SHADOW)
        assert walk.document.trials == trial
        walk.reboot()
    assert walk.stands(State.DEFERRED)
    assert "the machine died while it was in shadow; trial 3 of 3" in walk.told[-1].reason
    assert not walk.document.refused
    walk.reboot()  # a machine that falls again and again does not try again at each start
    walk.say(ro.Offered(wanted=wanted()), after_s=LIMITS.longest_rest_s - 1)
    assert walk.document.is_settled
    walk.say(ro.Offered(wanted=wanted()), after_s=2.0)
    assert walk.stands(State.OFFERED)


def test_an_agent_that_was_killed_three_times_tries_again_soon() -> None:
    walk = Walk()
    for _ in range(3):
        walk.to(State.SHADOW)
        walk.say(ro.Resumed(), after_s=1.0)
    assert walk.stands(State.DEFERRED)
    assert "the agent died while it was in shadow" in walk.told[-1].reason
    walk.say(ro.Offered(wanted=wanted()), after_s=LIMITS.first_rest_s + 1)
    assert walk.stands(State.OFFERED)


def test_a_side_that_dies_three_times_in_probation_ends_rolled_back() -> None:
    walk = Walk()
    for _ in range(3):
        walk.to(State.PROBATION, "probe")
        walk.answer(ro.SideLost)
    assert (walk.document.state, walk.document.order) == (State.ROLLING_BACK, "roll_back")
    walk.happy()
    assert walk.stands(State.ROLLED_BACK)
    assert walk.document.refusal_of(SHA["a"], LIMITS.agent)


def test_what_took_the_side_along_has_to_prove_itself_anew() -> None:
    walk = Walk().to(State.PROBATION, "probe")
    walk.answer(ro.SideLost)
    walk.orders.clear()
    walk.to(State.PROBATION, "swap")
    assert "shadow" in walk.orders


def test_the_trial_is_counted_before_anything_is_built() -> None:
    walk = Walk().to(State.FETCHING, "fetch")
    walk.answer(ro.Fetched)
    assert walk.stands(State.VERIFYING)
    assert walk.document.trials == 0
    walk.answer(ro.Done)
    assert (walk.document.order, walk.document.trials) == ("prove", 1)


def test_an_orderly_stop_each_evening_is_no_failed_trial() -> None:
    walk = Walk()
    for _ in range(10):
        walk.to(State.SHADOW)
        walk.say(ro.Stopping())
        walk.reboot()
        assert walk.document.trials == 1
    walk.to(State.COMMITTED)


def test_what_was_proved_before_an_orderly_stop_need_not_be_watched_again() -> None:
    walk = Walk().to(State.SHADOW, "wait")
    walk.say(ro.Stopping())
    walk.reboot()
    walk.orders.clear()
    walk.to(State.PROBATION)
    assert "shadow" not in walk.orders


def test_a_commit_cut_off_by_a_power_cut_is_done_again() -> None:
    walk = Walk().to(State.PROBATION, "commit")
    walk.reboot()
    assert (walk.document.state, walk.document.order) == (State.PROBATION, "commit")
    assert not walk.told
    walk.happy()
    assert walk.told[-1].outcome == "committed"


@pytest.mark.parametrize("fault", ["no-room", "damaged", "overloaded", "failed"])
def test_a_commit_that_can_not_be_written_is_watched_on_and_tried_until_it_is_done(
    fault: str,
) -> None:
    walk = Walk().to(State.PROBATION, "commit")
    for _ in range(5):
        walk.answer(ro.Failed, reason="no space", fault=fault)
        assert (walk.document.state, walk.document.order) == (State.PROBATION, "probe")
        assert walk.document.unsettled == "commit: no space"
        walk.answer(ro.Judged, verdict="pass")
        assert walk.stands("probe")  # it rests before the next try
        walk.say(ro.Tick(), after_s=LIMITS.longest_settle_pause_s)
        walk.answer(ro.Judged, verdict="pass")
        assert walk.stands("commit")
    assert not walk.told
    walk.happy()
    assert walk.told[-1].outcome == "committed"
    assert not walk.document.unsettled


def test_one_that_turns_bad_while_its_commit_waits_for_the_disk_is_rolled_back() -> None:
    walk = Walk().to(State.PROBATION, "commit")
    walk.answer(ro.Failed, reason="no space", fault="no-room")
    walk.answer(ro.Judged, verdict="fail", reason="NaN")
    assert walk.stands("roll_back")
    walk.happy()
    assert (walk.told[-1].outcome, walk.told[-1].reason) == ("rolled_back", "NaN")


def test_a_commit_of_a_package_that_is_gone_is_rolled_back() -> None:
    walk = Walk().to(State.PROBATION, "commit")
    walk.answer(ro.Failed, reason="it is not installed", fault="rejected")
    assert (walk.document.state, walk.document.order) == (State.ROLLING_BACK, "roll_back")
    walk.happy()
    assert "commit: it is not installed" in walk.told[-1].reason


def test_a_roll_back_that_fails_ends_the_inference_side_and_is_done_all_the_same() -> None:
    walk = Walk().to(State.PROBATION, "probe")
    walk.answer(ro.Judged, verdict="fail", reason="5 % of the outputs are NaN")
    for _ in range(LIMITS.settle_tries):
        assert walk.stands("roll_back")
        walk.answer(ro.Failed, reason="no answer")
    assert walk.stands("restart")
    walk.happy()
    assert walk.stands("roll_back")  # its pointer may be left
    assert not walk.told
    walk.happy()
    assert walk.told[-1].reason == "5 % of the outputs are NaN"
    assert walk.told[-1].failed_in == "probation"


def test_a_roll_back_whose_pointer_can_not_be_written_is_tried_until_it_is_done() -> None:
    walk = Walk().to(State.PROBATION, "probe")
    walk.answer(ro.Judged, verdict="fail", reason="NaN")
    for _ in range(12):
        walk.answer(ro.Failed, reason="no space", fault="no-room")
        assert (walk.document.state, walk.document.order) == (State.ROLLING_BACK, "roll_back")
    assert not walk.told
    walk.happy()
    assert walk.told[-1].outcome == "rolled_back"


@pytest.mark.parametrize(
    "fault", ["overloaded", "link-down", "damaged", "no-room", "untrusted", "rejected", "failed"]
)
def test_what_is_not_the_packages_fault_is_tried_again_later(fault: str) -> None:
    walk = Walk().to(State.BUILDING)
    walk.answer(ro.Failed, reason="x", fault=fault)
    assert walk.stands(State.DEFERRED)
    assert not walk.document.refused
    assert (walk.told[-1].outcome, walk.told[-1].cause) == ("deferred", fault)
    walk.say(ro.Offered(wanted=wanted()), after_s=LIMITS.first_rest_s + 1)
    assert walk.stands(State.OFFERED)


def test_a_side_that_somebody_outside_ended_is_never_held_against_the_package() -> None:
    walk = Walk()
    for _ in range(3):
        walk.to(State.PROBATION, "probe")
        walk.answer(ro.SideLost, crashed=False)
    walk.happy()
    assert walk.stands(State.ROLLED_BACK)
    assert not walk.document.refused


def test_a_first_version_is_live_after_its_golden_samples_and_judged_there() -> None:
    walk = Walk()
    walk.say(ro.Offered(wanted=wanted()))
    while not walk.stands("prove"):
        walk.happy()
    walk.answer(ro.Built)
    walk.orders.clear()
    walk.answer(ro.Done, first=True)
    walk.happy()
    assert (walk.document.state, walk.document.order) == (State.PROBATION, "swap")
    assert walk.orders == ["load", "swap"]
    walk.reboot()
    assert not walk.document.first  # the next process looks whether there is one by now


@pytest.mark.parametrize("order", ["fetch", "shadow", "wait", "probe", "commit"])
def test_what_nobody_wants_any_more_ends_at_once(order: str) -> None:
    walk = Walk()
    walk.say(ro.Offered(wanted=wanted()))
    while not walk.stands(order):
        walk.happy()
    was_live = walk.document.state is State.PROBATION
    walk.say(ro.Withdrawn(reason="an operator holds it to 1.0.0"))
    assert walk.stands("roll_back") == was_live
    while not walk.document.is_settled:
        walk.happy()
    outcome = "rolled_back" if was_live else "withdrawn"
    assert (walk.told[-1].outcome, walk.document.refused) == (outcome, ())


def test_the_word_of_a_person_counts_also_for_what_is_on_its_way_out() -> None:
    """A pin had it withdrawn, and was taken off; the roll-back that came then was lost."""
    walk = Walk().to(State.SHADOW, "shadow")
    walk.say(ro.Withdrawn(reason="an operator holds it to 1.0.0"))
    walk.say(ro.Offered(wanted=wanted()))
    back = ro.RollBackWanted(sha=SHA["b"], version="1.0.0", live=SHA["a"], live_version="1.1.0")
    walk.say(back)
    while not walk.document.is_settled:
        walk.happy()
    walk.say(ro.Offered(wanted=wanted()), after_s=1e6)
    assert walk.document.is_settled
    (refusal,) = walk.document.refused
    assert (refusal.by, refusal.reason) == ("operator", "rolled back by hand")


def test_a_person_who_has_it_come_again_takes_the_refusal_away() -> None:
    walk = Walk().to(State.SHADOW, "shadow")
    walk.say(ro.RollBackWanted(sha=SHA["b"], version="1.0.0", live=SHA["a"]))
    walk.happy()
    assert walk.document.refused
    walk.say(ro.Offered(wanted=wanted(), again=True))
    walk.to(State.COMMITTED)
    assert not walk.document.refused


def test_what_was_committed_just_now_is_not_rolled_out_again() -> None:
    walk = Walk().to(State.PROBATION, "commit")
    walk.say(ro.Offered(wanted=wanted(serial=7)))
    walk.happy()
    assert walk.document.is_settled
    assert len(walk.told) == 1


def test_without_evidence_it_is_held_until_the_deadline_or_committed_as_configured() -> None:
    walk = Walk().to(State.SHADOW, "shadow")
    walk.answer(ro.Judged, verdict="inconclusive", reason="4 of 30 frames with a finding")
    assert walk.stands(State.SHADOW)
    assert "4 of 30" in walk.document.waits_for
    walk.say(ro.Tick(), after_s=LIMITS.shadow_s + 1)
    assert walk.stands(State.DEFERRED)
    assert not walk.document.refused
    bold = Walk(msgspec.structs.replace(LIMITS, commit_inconclusive=True)).to(
        State.SHADOW, "shadow"
    )
    bold.answer(ro.Judged, verdict="inconclusive", reason="no finding")
    assert bold.stands("wait")


def test_while_it_waits_for_its_moment_the_status_says_for_what() -> None:
    walk = Walk().to(State.SHADOW, "wait")
    walk.answer(ro.Moment, free=False, waits_for="us-1: an exam is under way")
    assert walk.document.waits_for == "us-1: an exam is under way"
    walk.say(ro.Tick(), after_s=LIMITS.wait_s + 1)
    assert walk.stands(State.DEFERRED)


def test_a_newer_one_replaces_what_is_under_way_also_one_on_trial() -> None:
    early = Walk().to(State.FETCHING)
    early.say(ro.Offered(wanted=wanted("b")))
    assert early.document.wanted == wanted("b")
    assert early.told[0].reason == "given up for 1.1.0"
    late = Walk().to(State.PROBATION, "probe")
    late.say(ro.Offered(wanted=wanted("b")))
    assert (late.document.state, late.document.order) == (State.ROLLING_BACK, "roll_back")
    late.happy()
    assert (late.document.state, late.document.wanted) == (State.OFFERED, wanted("b"))


def test_a_person_can_have_the_previous_one_back_and_it_stays() -> None:
    walk = Walk().to(State.COMMITTED)
    walk.happy()
    back = ro.RollBackWanted(sha=SHA["b"], version="1.0.0", live=SHA["a"], live_version="1.1.0")
    walk.say(back)
    assert (walk.document.order, walk.document.revert_to) == ("revert", SHA["b"])
    walk.reboot()
    assert (walk.document.order, walk.document.revert_to) == ("revert", SHA["b"])
    walk.happy()
    assert walk.told[-1].reason == "rolled back by hand"
    assert walk.told[-1].failed_in == ""
    walk.say(ro.Offered(wanted=wanted("a")), after_s=1e6)
    assert walk.document.is_settled


def test_an_answer_to_an_order_of_before_is_not_heard() -> None:
    walk = Walk().to(State.FETCHING)
    walk.say(ro.Done(turn=walk.document.turn - 1))
    assert walk.stands(State.FETCHING)


def test_figures_that_are_no_numbers_never_reach_the_document() -> None:
    walk = Walk().to(State.SHADOW, "shadow")
    facts = {"agreement": float("nan"), "figures": {"area": float("inf"), "flicker": 0.1}}
    walk.answer(ro.Judged, verdict="more", facts=facts)
    assert walk.document.report.agreement is None
    assert walk.document.report.figures == {"flicker": 0.1}
    walk.answer(ro.Judged, verdict="more", facts={"shadow_frames": "many", "nobody": 1})
    assert walk.document.report.shadow_frames == 0
