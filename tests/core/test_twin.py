from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import twin
from edge_agent.core.edgecore import TwinAnswer
from edge_agent.core.twin import StateThrottle, TwinThrottle, TwinUpdate

S = 1_000_000
ALLOWED = re.compile(r"[a-zA-Z0-9\-_.,:/@#]{1,512}")


def ok(update: TwinUpdate | None) -> TwinAnswer:
    assert update is not None
    return TwinAnswer(verb="update", event_id=update.event_id)


# ── values ────────────────────────────────────────────────────────────────────────────────────


@given(st.text(max_size=700))
def test_any_text_fits_the_alphabet(text: str) -> None:
    value = twin.escaped(text)
    assert ALLOWED.fullmatch(value)
    back = twin.unescaped(value)
    assert back == text or (value.endswith("#") and text.startswith(back))


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_a_short_text_comes_back(text: str) -> None:
    assert twin.unescaped(twin.escaped(text)) == text


@given(st.text(max_size=600))
def test_unescaping_takes_anything(text: str) -> None:
    twin.unescaped(text)


def test_plain_values_stay_readable() -> None:
    assert twin.escaped("us-chamber@1.0.0") == "us-chamber@1.0.0"
    assert twin.escaped("12 ms") == "12#20ms"
    assert twin.escaped("") == "#"
    assert twin.escaped("x" * 600) == "x" * 511 + "#"


def test_an_update_is_what_edgecore_reads() -> None:
    payload = twin.update(
        {"queue_depth": 12, "load": 1e20, "state": "ok", "replay": False},
        event_id="r-1",
        timestamp_ms=5,
    )
    said = json.loads(payload)
    assert (said["event_id"], said["timestamp"]) == ("r-1", 5)
    assert said["twin"]["queue_depth"] == {"actual": {"value": "12"}, "metadata": {"type": "int"}}
    assert said["twin"]["load"]["actual"]["value"] == "1e20"
    assert said["twin"]["replay"]["actual"]["value"] == "false"
    for side in said["twin"].values():
        assert ALLOWED.fullmatch(side["actual"]["value"])


@pytest.mark.parametrize("name", ["", "a b", "é", 'a"', "x" * 129, "a\n"])
def test_a_name_outside_the_alphabet_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a name"):
        twin.update({name: 1}, event_id="e", timestamp_ms=0)


def test_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 128 values"):
        twin.update({f"n{n}": n for n in range(129)}, event_id="e", timestamp_ms=0)
    with pytest.raises(ValueError, match="at most 32000 bytes"):
        twin.update({f"n{n}": "x" * 512 for n in range(100)}, event_id="e", timestamp_ms=0)


# ── how often ─────────────────────────────────────────────────────────────────────────────────


def test_whole_first_then_changes_at_most_every_ten_seconds() -> None:
    throttle = TwinThrottle(run="r")
    first = throttle.due({"a": 1, "b": 2}, 0, timestamp_ms=0)
    assert first is not None
    assert first.whole
    assert throttle.answered(ok(first))
    assert throttle.due({"a": 2, "b": 2}, 10 * S - 1, timestamp_ms=0) is None
    second = throttle.due({"a": 2, "b": 2}, 10 * S, timestamp_ms=0)
    assert second is not None
    assert (second.whole, second.values) == (False, {"a": 2})
    assert throttle.answered(ok(second))
    assert throttle.due({"a": 2, "b": 2}, 60 * S, timestamp_ms=0) is None


def test_whole_again_after_a_new_connection_and_now_and_then() -> None:
    throttle = TwinThrottle(run="r")
    throttle.answered(ok(throttle.due({"a": 1}, 0, timestamp_ms=0)))
    throttle.renew()
    assert throttle.due({"a": 1}, 5 * S, timestamp_ms=0) is None, "not more often for all that"
    again = throttle.due({"a": 1}, 10 * S, timestamp_ms=0)
    throttle.answered(ok(again))
    assert throttle.due({"a": 1}, 600 * S, timestamp_ms=0) is None
    later = throttle.due({"a": 1}, 610 * S, timestamp_ms=0)
    assert later is not None
    assert later.whole


def test_one_update_is_on_its_way_at_a_time_and_a_lost_one_is_made_up_for() -> None:
    throttle = TwinThrottle(run="r", every_us=10 * S)
    first = throttle.due({"a": 1}, 0, timestamp_ms=0)
    assert throttle.due({"a": 2}, 4 * S, timestamp_ms=0) is None
    second = throttle.due({"a": 2}, 10 * S, timestamp_ms=0)
    assert second is not None
    assert second.whole
    assert not throttle.answered(ok(first)), "too late"
    assert throttle.answered(ok(second))


@pytest.mark.parametrize("event_id", ["", "ours"])
def test_a_refusal_is_told_and_tried_again_whole_after_a_minute(event_id: str) -> None:
    throttle = TwinThrottle(run="r")
    first = throttle.due({"a": 1}, 0, timestamp_ms=0)
    assert first is not None
    answer = TwinAnswer(
        verb="update", event_id=event_id and first.event_id, code=404, reason="no device"
    )
    assert throttle.answered(answer)
    assert throttle.refused == "404 no device"
    assert throttle.due({"a": 1}, 59 * S, timestamp_ms=0) is None
    again = throttle.due({"a": 1}, 60 * S, timestamp_ms=0)
    assert again is not None
    assert again.whole
    throttle.answered(ok(again))
    assert throttle.refused == ""


def test_a_device_that_was_made_meanwhile_is_told_everything_once_more() -> None:
    """CloudCore drops the first report of each property: the twin stayed empty for ten minutes."""
    throttle = TwinThrottle(run="r", every_us=60 * S)
    first = throttle.due({"a": 1}, 0, timestamp_ms=0)
    assert first is not None
    refusal = TwinAnswer(verb="update", event_id=first.event_id, code=404, reason="no device")
    throttle.answered(refusal)
    good = throttle.due({"a": 1}, 60 * S, timestamp_ms=0)
    assert good is not None
    assert not good.again
    throttle.answered(ok(good))
    assert throttle.due({"a": 1}, 70 * S - 1, timestamp_ms=0) is None
    more = throttle.due({"a": 1}, 70 * S, timestamp_ms=0)
    assert more is not None
    assert (more.whole, more.again, more.values) == (True, True, {"a": 1})
    throttle.answered(ok(more))
    assert throttle.due({"a": 1}, 300 * S, timestamp_ms=0) is None, "once"


def test_a_twin_that_is_larger_than_the_road_goes_in_parts() -> None:
    throttle, now, told = TwinThrottle(run="r"), 0, {}
    values: dict[str, twin.Value | None] = {f"p{n}": "x" * 60 for n in range(12)}
    for _ in range(8):
        update = throttle.due(values, now, timestamp_ms=0, most_bytes=500)
        if update is not None:
            assert len(update.payload) <= 500
            told.update(update.values)
            throttle.answered(ok(update))
        now += 10 * S
    assert told == values


def test_the_answer_to_another_process_is_not_ours() -> None:
    throttle = TwinThrottle(run="r")
    assert throttle.due({"a": 1}, 0, timestamp_ms=0) is not None
    assert not throttle.answered(TwinAnswer(verb="update", event_id="q-1"))
    assert not throttle.answered(TwinAnswer(verb="get", event_id="r-1"))


def test_what_is_not_known_is_left_out() -> None:
    throttle = TwinThrottle(run="r")
    update = throttle.due({"a": None, "b": float("nan"), "c": 1}, 0, timestamp_ms=0)
    assert update is not None
    assert update.values == {"c": 1}
    assert TwinThrottle(run="r").due({"a": None}, 0, timestamp_ms=0) is None


@given(st.lists(st.tuples(st.integers(0, 15 * S), st.integers(0, 3), st.booleans()), max_size=60))
def test_never_more_often_than_every_ten_seconds(steps: list[tuple[int, int, bool]]) -> None:
    throttle, now, sent = TwinThrottle(run="r"), 0, []
    for wait_us, value, is_renewed in steps:
        now += wait_us
        if is_renewed:
            throttle.renew()
        update = throttle.due({"a": value}, now, timestamp_ms=0)
        if update is not None:
            sent.append(now)
            throttle.answered(ok(update))
    assert all(b - a >= 10 * S for a, b in itertools.pairwise(sent))


def test_the_state_is_told_on_change_and_after_a_new_connection() -> None:
    throttle = StateThrottle()
    assert throttle.due("online", 0)
    assert not throttle.due("unhealthy", 9 * S)
    assert throttle.due("unhealthy", 10 * S)
    assert not throttle.due("unhealthy", 30 * S)
    throttle.renew()
    assert throttle.due("unhealthy", 31 * S)
    assert throttle.due("unhealthy", 31 * S + twin.WHOLE_US)
    assert set(twin.STATES) == {"ok", "degraded", "starting", "stopping"}


def test_it_says_when_values_are_worth_gathering() -> None:
    throttle = TwinThrottle(run="r")
    assert throttle.is_open(0)
    update = throttle.due({"level": 1}, 0, timestamp_ms=0)
    assert update is not None
    assert not throttle.is_open(1_000_000)
    assert throttle.due({"level": 2}, 1_000_000, timestamp_ms=1) is None
    assert throttle.is_open(11_000_000)
