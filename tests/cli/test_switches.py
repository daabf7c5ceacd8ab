"""What a swap cost, told by results alone."""

from __future__ import annotations

import json

from edge_agent.cli.switches import Switches, words
from edge_agent.core.frames import Event, Result

OLD, NEW = "a" * 16, "b" * 16


def result(frame: int, sha: str = OLD, wait_us: int = 1000, stream: str = "us") -> Result:
    return Result(
        node="n", boot="00000000", stream=stream, at_us=frame, frame=frame, captured_us=frame,
        size=(8, 8), roi=(0, 0, 8, 8), model="m", version="1.0.0", sha=sha, wait_us=wait_us,
    )  # fmt: skip


def told(**report: object) -> Event:
    said = {"model": "m", "version": "1.1.0", **report}
    return Event(node="n", boot="00000000", stream="", at_us=1, name="rollout",
                 what=json.dumps(said))  # fmt: skip


def test_a_swap_that_loses_nothing_counts_as_one_and_frames_between_are_lost() -> None:
    clean, lossy = Switches(), Switches()
    for frame in range(1, 50):
        clean.hear(result(frame))
        lossy.hear(result(frame))
    clean.hear(result(50, NEW, wait_us=3500))
    lossy.hear(result(53, NEW))
    lossy.hear(result(54, OLD))
    assert clean.sums()["swaps"] == 1
    assert clean.sums()["frames_lost_in_swaps"] == 0
    assert clean.sums()["max_added_wait_ms_in_swap"] == 2.5
    assert (lossy.sums()["swaps"], lossy.sums()["frames_lost_in_swaps"]) == (2, 3)


def test_frames_lost_elsewhere_and_waits_long_after_are_not_the_swaps() -> None:
    seen = Switches()
    for frame in (1, 2, 9, 10):
        seen.hear(result(frame))
    seen.hear(result(11, NEW))
    for frame in (12, 13, 14):
        seen.hear(result(frame, NEW))
    seen.hear(result(20, NEW, wait_us=99_000))
    seen.hear(result(1, NEW, stream="other"))
    assert seen.sums()["frames_lost_in_swaps"] == 0
    assert seen.sums()["max_added_wait_ms_in_swap"] == 0.0
    assert seen.sums()["swaps"] == 1


def test_each_rollout_is_a_line_and_what_went_wrong_is_counted() -> None:
    seen = Switches()
    for outcome in ("committed", "rejected", "rolled_back"):
        seen.hear(told(outcome=outcome, reason="" if outcome == "committed" else "why"))
    sums = seen.sums()
    assert sums["rollbacks"] == 2
    assert [line.strip() for line in words(sums)] == [
        "model       m 1.1.0: committed",
        "model       m 1.1.0: rejected, why",
        "model       m 1.1.0: rolled_back, why",
    ]
