from __future__ import annotations

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import edgecore, twin
from edge_agent.core.edgecore import Topics, TwinAnswer
from edge_agent.core.wire import armour
from tools.edgecore.devices import Devices
from tools.edgecore.road import NO_FAULTS, Downstream, Faults, Upload, Upstream, mangled

NODE = Topics.of("default", "cart-3")
UPDATE = NODE.of_device("twin/update")


def drained(upstream: Upstream, now_s: float = 0.0) -> tuple[list[int], float]:
    """What arrives, and when the last of it did."""
    got = []
    while True:
        if upload := upstream.take(now_s):
            got.append(int(upload.payload))
        elif (wait_s := upstream.wait_s(now_s)) is None:
            return got, now_s
        else:
            now_s += wait_s + 1e-9


def filled(faults: Faults, count: int) -> Upstream:
    upstream = Upstream(faults)
    for n in range(count):
        upstream.push(Upload("t", b"%d" % n))
    return upstream


# ── up ────────────────────────────────────────────────────────────────────────────────────────


def test_bytes_are_destroyed_as_measured_and_text_is_not() -> None:
    assert mangled(bytes(range(256))).decode().count("\ufffd") == 128
    assert mangled(b"\xe2\x82") == b"\xef\xbf\xbd" * 2, "one for each byte, as Go does"
    assert mangled("Ärzte".encode()) == "Ärzte".encode()


@given(st.binary(max_size=200))
def test_armour_survives(body: bytes) -> None:
    armed = armour.arm(body)
    assert mangled(armed) == armed


def test_thirty_a_second_after_a_burst_of_sixty() -> None:
    got, took_s = drained(filled(Faults(), 400))
    assert sorted(got) == list(range(400))
    assert took_s == pytest.approx((400 - 60) / 30, abs=0.1)


def test_without_faults_all_arrives_at_once_in_order() -> None:
    got, took_s = drained(filled(NO_FAULTS, 3000))
    assert got == list(range(3000))
    assert took_s == 0


def test_order_is_lost_within_eighteen_places_about_as_often_as_measured() -> None:
    got, _ = drained(filled(Faults(rate_per_s=0), 3000))
    assert sorted(got) == list(range(3000))
    moved = [abs(place - n) for place, n in enumerate(got)]
    inversions = sum(b < a for a, b in itertools.pairwise(got))
    assert 10 <= max(moved) <= 18
    assert 250 <= inversions <= 500


@given(st.integers(0, 1000), st.floats(0, 1))
def test_nothing_moves_by_more_than_eighteen_places(seed: int, share: float) -> None:
    got, _ = drained(filled(Faults(rate_per_s=0, seed=seed, reorder_share=share), 200))
    assert all(abs(place - n) <= 18 for place, n in enumerate(got))


def test_the_same_seed_does_the_same() -> None:
    faults = Faults(seed=7, rate_per_s=0)
    assert drained(filled(faults, 300)) == drained(filled(faults, 300))
    assert drained(filled(faults, 300)) != drained(filled(Faults(seed=8, rate_per_s=0), 300))


def test_what_comes_one_by_one_keeps_its_order() -> None:
    upstream, got = Upstream(Faults()), []
    for n in range(200):
        upstream.push(Upload("t", b"%d" % n))
        upload = upstream.take(n * 0.05)
        assert upload is not None
        got.append(int(upload.payload))
    assert got == list(range(200))


def test_the_first_after_a_cut_are_swallowed() -> None:
    upstream = filled(msgspec.structs.replace(NO_FAULTS, lose_after_cut=3), 0)
    upstream.cut()
    for n in range(300):
        upstream.push(Upload("t", b"%d" % n))
    assert upstream.take(0) is None
    assert upstream.wait_s(0) is None
    upstream.restore()
    assert drained(upstream)[0] == list(range(3, 300))
    assert upstream.counts["lost_after_cut"] == 3


def test_also_those_that_come_only_later() -> None:
    upstream = filled(msgspec.structs.replace(NO_FAULTS, lose_after_cut=2), 0)
    upstream.cut()
    upstream.restore()
    for n in range(4):
        upstream.push(Upload("t", b"%d" % n))
    assert drained(upstream)[0] == [2, 3]


def test_a_restart_forgets_all_that_waits() -> None:
    upstream = filled(Faults(), 500)
    upstream.restart()
    assert (len(upstream), upstream.counts["lost_at_restart"]) == (0, 500)


def test_what_is_too_much_is_gone_and_nothing_is_too_large() -> None:
    upstream = filled(Faults(max_waiting=5), 20)
    upstream.push(Upload("t", bytes(13 << 20)))  # the bound is CloudCore's door
    assert upstream.counts["overflow"] == 16


def test_each_message_is_accounted_for() -> None:
    upstream = filled(Faults(max_waiting=60), 120)
    upstream.cut()
    upstream.restore()
    drained(upstream)
    counts = upstream.counts
    ends = ("overflow", "lost_after_cut", "forwarded")
    assert counts["received"] == sum(counts[name] for name in ends) == 120


def test_with_the_requeue_of_pr_7164_the_first_after_a_cut_arrive() -> None:
    upstream = filled(msgspec.structs.replace(NO_FAULTS, lose_after_cut=3, requeue=True), 0)
    upstream.cut()
    for n in range(10):
        upstream.push(Upload("t", b"%d" % n))
    upstream.restore()
    assert drained(upstream)[0] == list(range(10))


def test_a_silent_road_takes_thirty_a_second_and_gives_nothing() -> None:
    upstream = filled(Faults(reorder_within=0), 100)
    upstream.silence()
    assert upstream.connected, "EdgeHub knows nothing of it"
    assert upstream.take(0) is None
    assert upstream.counts["lost_in_silence"] == 60
    wait_s = upstream.wait_s(0)
    assert wait_s == pytest.approx(1 / 30)
    assert upstream.take(1.0) is None
    assert upstream.counts["lost_in_silence"] == 90
    upstream.cut()  # the reset
    assert upstream.wait_s(1.0) is None
    upstream.restore()
    assert drained(upstream, 1.0)[0] == list(range(93, 100))
    assert upstream.counts["lost_after_cut"] == 3


def test_a_link_that_is_away_has_no_silence() -> None:
    upstream = filled(NO_FAULTS, 3)
    upstream.cut()
    upstream.silence()
    upstream.restore()
    assert drained(upstream)[0] == [0, 1, 2]


def test_edgehub_notices_the_road_after_twenty_to_fifty_five_seconds() -> None:
    upstream = Upstream(Faults())
    found = [upstream.notices_after_s() for _ in range(200)]
    assert min(found) >= 20
    assert max(found) <= 55
    assert max(found) - min(found) > 30
    assert Upstream(NO_FAULTS).notices_after_s() == 0


def test_what_was_published_meanwhile_goes_first_at_thirty_a_second() -> None:
    upstream = filled(Faults(lose_after_cut=0, reorder_within=0), 60)
    drained(upstream)  # the burst
    upstream.cut()
    for n in range(90):
        upstream.push(Upload("t", b"%d" % n))
    upstream.restore()
    upstream.push(Upload("t", b"1000"))
    got, at_s = drained(upstream)
    assert got == [*range(90), 1000]
    assert at_s == pytest.approx(91 / 30, abs=0.1)


# ── down ──────────────────────────────────────────────────────────────────────────────────────


def test_the_way_down_holds_a_hundred_and_drops_the_oldest() -> None:
    downstream = Downstream(Faults())
    for n in range(150):
        downstream.push("t", b"%d" % n)
    got = []
    while message := downstream.take():
        got.append(int(message.payload))
    assert got == list(range(50, 150))
    assert downstream.counts == {"down_taken": 150, "down_dropped": 50}


# ── the twin ──────────────────────────────────────────────────────────────────────────────────


def answered(payload: bytes, topic: str = UPDATE) -> list[tuple[str, Any]]:
    answers, _ = Devices("cart-3", ("default/cart-3",)).handle(topic, payload, 5)
    return [(where, json.loads(content)) for where, content in answers]


def test_our_own_twin_update_is_taken_and_its_answer_read() -> None:
    payload = twin.update({"level": 1, "what": "a b"}, event_id="r-1", timestamp_ms=3)
    devices = Devices("cart-3", ("default/cart-3",))
    answers, cloud = devices.handle(UPDATE, payload, 5)
    topic, content = answers[0]
    answer = edgecore.read(NODE, topic, content)
    assert isinstance(answer, TwinAnswer)
    assert (answer.event_id, answer.code, answer.twin["what"].actual) == ("r-1", 0, "a#20b")
    assert [where for where, _ in cloud] == ["device/default/cart-3/twin/edge_updated"]
    got, _ = devices.handle(NODE.of_device("twin/get"), twin.get(event_id="g", timestamp_ms=1), 6)
    answer = edgecore.read(NODE, *got[0])
    assert isinstance(answer, TwinAnswer)
    assert (answer.verb, answer.twin["level"].actual) == ("get", "1")


def test_a_device_that_nobody_made_is_not_found() -> None:
    payload = twin.update({"a": 1}, event_id="e", timestamp_ms=1)
    ((topic, answer),) = answered(payload, "$hw/events/device/default/other/twin/update")
    assert (topic[-13:], answer["code"], answer["event_id"]) == ("update/result", 404, "e")
    ((_, answer),) = answered(b"{}", "$hw/events/device/default/other/twin/get")
    assert answer["code"] == 404


def test_the_old_topic_of_one_level_is_ignored() -> None:
    assert answered(b"{}", "$hw/events/device/cart-3/twin/update") == []


def test_only_known_states_are_answered() -> None:
    topic = NODE.of_device("state/update")
    ((where, answer),) = answered(twin.state("online", event_id="e", timestamp_ms=1), topic)
    read = edgecore.read(NODE, where, json.dumps(answer).encode())
    assert read == edgecore.StateAnswer(state="online")
    assert answer["device"] == {
        "name": "cart-3", "state": "online", "lastOnlineTime": "1970-01-01T00:00:00Z"
    }  # fmt: skip
    assert answered(b'{"state":"degraded"}', topic) == []


def test_the_members_of_the_node_are_told() -> None:
    ((topic, answer),) = answered(b"{}", "$hw/events/node/cart-3/membership/get")
    assert topic.endswith("membership/get/result")
    assert answer["devices"][0]["id"] == "default/cart-3"
