from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import edgecore
from edge_agent.core.edgecore import Ack, Desired, NeedSaid, StateAnswer, Topics, Tuf, TwinAnswer
from edge_agent.core.errors import Rejected
from edge_agent.core.wire import armour

TOPICS = Topics.of("default", "cart-3")
DEVICE = "$hw/events/device/default/cart-3"
LOG = {"node": "cart-3", "stream": "us", "class": "result", "epoch": 1 << 40, "upto": 7}
ACK: dict[str, Any] = {
    "schema": 1,
    "node": "cart-3",
    "rx": "a1b2",
    "n": 4,
    "echo": "nonce-1",
    "acks": [{**LOG, "have": [[9, 9], [12, 40]]}],
    "docs": {"status": ["00" * 8]},
    "can": {"version": [1], "dict": ["ff" * 8]},
}
NEED: dict[str, Any] = {
    "schema": 1,
    "node": "cart-3",
    "kind": "records",
    "name": "us/result",
    "epoch": 5,
    "a": 1,
    "b": 30,
    "why": "dict",
    "have": ["00" * 8],
}
DESIRED: dict[str, Any] = {
    "schema": 1,
    "serial": 12,
    "models": {"us-chamber": {"version": "1.1.0", "sha256": "ab" * 32, "mode": "shadow"}},
    "config": {"version": "3", "sha256": "cd" * 32},
    "expires": "2027-01-01T00:00:00Z",
}


def said(what: Any, message: Any) -> Any:
    return edgecore.read(TOPICS, f"edge-agent/cart-3/down/{what}", json.dumps(message).encode())


def refused(what: str, message: Any) -> str:
    with pytest.raises(Rejected) as caught:
        said(what, message)
    return caught.value.what


# ── topics ────────────────────────────────────────────────────────────────────────────────────


def test_topics_are_those_of_the_contract() -> None:
    assert TOPICS.up == "default/user/edge-agent/cart-3/up"
    assert TOPICS.down("tuf") == "edge-agent/cart-3/down/tuf"
    assert TOPICS.presence == "edge-agent/cart-3/status"
    assert TOPICS.of_device("twin/update") == f"{DEVICE}/twin/update"
    assert Topics.of("ward", "cart-3", "scanner").of_device("twin/get") == (
        "$hw/events/device/ward/scanner/twin/get"
    )


def test_both_shapes_of_a_twin_result_are_subscribed() -> None:
    subscribed = TOPICS.subscriptions()
    assert f"{DEVICE}/twin/update/result" in subscribed
    assert "$hw/events/device/+/twin/update/result" in subscribed
    assert "edge-agent/cart-3/down/+" in subscribed


@pytest.mark.parametrize("name", ["", "Cart", "a/b", "a+", "#", "a\n", "-a", "a" * 64])
def test_what_is_no_name_makes_no_topic(name: str) -> None:
    with pytest.raises(ValueError, match="expected a name"):
        Topics.of("default", name)
    if name:
        with pytest.raises(ValueError, match="expected a name"):
            Topics.of("default", "cart-3", name)


def test_presence_says_who_is_there() -> None:
    assert json.loads(edgecore.presence("cart-3", online=False)) == {
        "schema": 1,
        "node": "cart-3",
        "state": "offline",
    }


# ── what comes down ───────────────────────────────────────────────────────────────────────────


def test_an_ack_is_read() -> None:
    ack = said("ack", {**ACK, "something": "new"})
    assert isinstance(ack, Ack)
    (log,) = ack.acks
    assert (log.stream, log.klass.value, log.epoch, log.upto) == ("us", "result", 1 << 40, 7)
    assert log.have == ((9, 9), (12, 40))
    assert (ack.echo, ack.can.versions, ack.can.dicts) == ("nonce-1", (1,), ("ff" * 8,))
    sent = json.loads(edgecore.encode(ack))
    assert sent.pop("acks") == [{**ACK["acks"][0], "lost": 0}]
    can = {**ACK["can"], "coding": []}
    assert sent == {key: value for key, value in {**ACK, "can": can}.items() if key != "acks"}


def test_an_ack_of_the_largest_size_passes_and_one_more_log_does_not() -> None:
    logs = [{**LOG, "epoch": n} for n in range(64)]
    assert len(said("ack", {**ACK, "acks": logs}).acks) == 64
    assert "length <= 64" in refused("ack", {**ACK, "acks": [*logs, LOG]})
    ranges = [[n, n] for n in range(10, 10 + 66, 2)]
    assert "length <= 32" in refused("ack", {**ACK, "acks": [{**LOG, "have": ranges}]})


@pytest.mark.parametrize("have", [[[7, 9]], [[9, 8]], [[9, 12], [12, 13]], [[20, 21], [10, 11]]])
def test_ranges_rise_above_what_is_acknowledged(have: list[list[int]]) -> None:
    assert "rise above" in refused("ack", {**ACK, "acks": [{**LOG, "have": have}]})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", 2),
        ("node", "cart-4"),
        ("node", "cart-3\n"),
        ("rx", ""),
        ("rx", "x" * 65),
        ("n", -1),
        ("n", 1 << 70),
        ("n", "4"),
        ("echo", "a b"),
        ("acks", [{**LOG, "class": "gossip"}]),
        ("acks", [{**LOG, "upto": 1 << 40}]),
        ("acks", [{**LOG, "node": "Cart 3"}]),
        ("acks", [{"node": "cart-3"}]),
        ("docs", {"status": ["0" * 15]}),
        ("can", {"version": [-1]}),
    ],
)
def test_an_ack_with_one_wrong_field_is_refused_whole(key: str, value: Any) -> None:
    assert "down" in refused("ack", {**ACK, key: value})


def test_a_need_is_read() -> None:
    need = said("need", NEED)
    assert isinstance(need, NeedSaid)
    assert (need.kind, need.a, need.b, need.why, need.have) == (
        "records",
        1,
        30,
        "dict",
        ("00" * 8,),
    )
    assert "expected a <= b" in refused("need", {**NEED, "a": 31})
    assert "addressed" in refused("need", {**NEED, "node": "other"})
    assert "length <= 8" in refused("need", {**NEED, "have": ["00" * 8] * 9})


def test_a_desired_state_is_a_hint_that_is_believed_for_its_serial_alone() -> None:
    payload = json.dumps(DESIRED, indent=3).encode()
    desired = edgecore.read(TOPICS, TOPICS.down("desired"), payload)
    assert isinstance(desired, Desired)
    assert (desired.state.serial, desired.raw) == (12, payload)
    odd = {"schema": 9, "serial": 13, "models": {"../x": 1}, "only_if": "night"}
    assert said("desired", odd).state.serial == 13
    assert said("desired", {}).state.serial == 0
    assert "serial" in refused("desired", {"serial": "13"})
    assert "object" in refused("desired", [13])


def test_tuf_metadata_comes_out_as_it_went_in() -> None:
    metadata = bytes(range(256)) * 3
    tuf = edgecore.read(TOPICS, TOPICS.down("tuf"), armour.arm(metadata))
    assert tuf == Tuf(metadata=metadata)
    for wrong in (b"", b"0" * 256_001, b'"quoted"'):
        with pytest.raises(Rejected):
            edgecore.read(TOPICS, TOPICS.down("tuf"), wrong)


# ── the twin's answers ────────────────────────────────────────────────────────────────────────


def test_a_twin_is_read_as_edgecore_writes_it() -> None:
    answer = {
        "event_id": "e1",
        "timestamp": 1,
        "twin": {
            "level": {
                "actual": {"value": "0", "metadata": {"timestamp": 5}},
                "expected": None,
                "optional": False,
                "metadata": {"type": "int"},
            },
            "gone": None,
        },
    }
    read = edgecore.read(TOPICS, f"{DEVICE}/twin/get/result", json.dumps(answer).encode())
    assert isinstance(read, TwinAnswer)
    assert (read.verb, read.event_id, read.code) == ("get", "e1", 0)
    assert (read.twin["level"].actual, read.twin["level"].expected) == ("0", None)
    assert "gone" not in read.twin


@pytest.mark.parametrize("device", ["", "default"])
def test_a_twin_answer_without_a_device_is_read(device: str) -> None:
    answer = b'{"event_id":"","timestamp":1,"code":400,"reason":"wrong"}'
    topic = f"$hw/events/device/{device}/twin/update/result"
    read = edgecore.read(TOPICS, topic, answer)
    assert read == TwinAnswer(verb="update", code=400, reason="wrong")


def test_the_state_of_the_device_is_read() -> None:
    answer = b'{"event_id":"","device":{"name":"cart-3","state":"online","lastOnlineTime":"x"}}'
    assert edgecore.read(TOPICS, f"{DEVICE}/state/update/result", answer) == StateAnswer(
        state="online"
    )
    assert edgecore.read(TOPICS, f"{DEVICE}/state/update/result", b"{}") == StateAnswer(
        state="unknown"
    )


# ── garbage ───────────────────────────────────────────────────────────────────────────────────

OURS = [TOPICS.down(what) for what in ("ack", "need", "desired", "tuf")] + [
    *(f"{DEVICE}/{tail}" for tail in ("twin/update/result", "twin/get/result")),
    f"{DEVICE}/state/update/result",
    "$hw/events/device//twin/update/result",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=30,
)


def read_or_refuse(topic: str, payload: bytes) -> None:
    words = ""
    try:
        edgecore.read(TOPICS, topic, payload)
    except Rejected as refusal:
        words = str(refusal)
    assert len(words) < 500


@pytest.mark.parametrize("topic", OURS)
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\xff\xfe" * 100,
        b"null",
        b"[" * 32_000,
        b'{"a":' * 6_000,
        b'{"schema":1,"node":"cart-3","x":' + b"[" * 30_000,
        b'{"schema":1e999}',
        b'{"schema":' + b"9" * 31_000 + b"}",
        b'"' + "\ufffd".encode() * 10_000 + b'"',
        b"{" + b" " * 300_000 + b"}",
    ],
    ids=lambda payload: repr(payload[:12]),
)
def test_garbage_is_refused_and_nothing_worse(topic: str, payload: bytes) -> None:
    read_or_refuse(topic, payload)


@given(topic=st.sampled_from(OURS), payload=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(topic: str, payload: bytes) -> None:
    read_or_refuse(topic, payload)


@given(topic=st.text(max_size=60), payload=st.binary(max_size=20))
def test_any_topic_is_read_or_refused(topic: str, payload: bytes) -> None:
    read_or_refuse(topic, payload)


@settings(max_examples=100)
@given(topic=st.sampled_from(OURS), message=st.dictionaries(st.text(max_size=8), JSON))
def test_any_json_is_read_or_refused(topic: str, message: dict[str, Any]) -> None:
    read_or_refuse(topic, json.dumps(message).encode())


@settings(max_examples=100)
@given(
    which=st.sampled_from([("ack", ACK), ("need", NEED), ("desired", DESIRED)]),
    values=st.data(),
)
def test_a_good_message_with_any_value_in_one_place_is_read_or_refused(
    which: tuple[str, dict[str, Any]], values: st.DataObject
) -> None:
    what, good = which
    key = values.draw(st.sampled_from(sorted(good)))
    payload = json.dumps({**good, key: values.draw(JSON)}).encode()
    read_or_refuse(f"edge-agent/cart-3/down/{what}", payload)


@given(cut=st.integers(0, 400), flip=st.integers(0, 255))
def test_a_damaged_ack_is_read_or_refused(cut: int, flip: int) -> None:
    payload = bytearray(json.dumps(ACK).encode())
    payload[cut % len(payload)] = flip
    read_or_refuse(TOPICS.down("ack"), bytes(payload))
    read_or_refuse(TOPICS.down("ack"), bytes(payload[:cut]))


def test_what_is_read_is_frozen() -> None:
    ack = said("ack", ACK)
    with pytest.raises(AttributeError):
        ack.n = 5
    assert msgspec.structs.asdict(ack)["n"] == 4
