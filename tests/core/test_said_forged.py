"""Whatever stands in the place of any value of a message from the road, the edge reads or refuses.

Every message that comes down, every answer of EdgeCore, what is carried back by hand: each value in
turn is replaced by what JSON has to offer, and by what it has not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_agent.core import carriage, edgecore, probe
from edge_agent.core.edgecore import Topics
from edge_agent.core.errors import Rejected
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Codec, Envelope, Kind

TOPICS = Topics.of("default", "cart-3")
DEVICE = "$hw/events/device/default/cart-3"
MAX_WORDS = 600
LOG = {"node": "cart-3", "stream": "s", "class": "event", "epoch": 1}
OFFER = {**LOG, "floor": 1, "next": 9, "closed": False, "void": [[1, 2, "evicted"]]}
CAN = {"version": [1], "dict": ["00" * 8]}
GOOD: dict[str, dict[str, Any]] = {
    "ack": {
        "schema": 1, "node": "cart-3", "rx": "ab12", "n": 1, "echo": "", "docs": {"status": []},
        "acks": [{**LOG, "upto": 3, "have": [[5, 6]], "lost": 0}], "can": CAN,
    },
    "need": {
        "schema": 1, "node": "cart-3", "kind": "records", "name": "s/event", "epoch": 1, "a": 1,
        "b": 2, "why": "dict", "have": ["00" * 8],
    },
    "desired": {"schema": 1, "serial": 4},
    "twin": {"event_id": "e", "code": 0, "reason": "", "twin": {"a": {"actual": {"value": "x"}}}},
    "state": {"device": {"state": "online"}},
    "probe": {"schema": 1, "nonce": "abcdef12", "logs": [OFFER], "more": False},
}  # fmt: skip
ODD = [
    b"null", b"true", b"-1", b"1.5", b"0.0", b"-0", b"1e18", b"1e19", b"1e999", b"-1e999", b"NaN",
    b"Infinity", b"9" * 5000, b"18446744073709551616", b"9223372036854775808", b'"1"', b'""',
    b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"' + b"x" * 9000 + b'"', b"[]", b"{}", b"[[[1]]]",
    b"[" * 5000, b'{"a":' * 3000, b"[" + b"1," * 9000 + b"1]", b"",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands, the whole first."""
    yield path
    inner = enumerate(value) if isinstance(value, list) else ()
    for name, one in value.items() if isinstance(value, dict) else inner:
        yield from places(one, (*path, name))


def spoiled(good: dict[str, Any], path: tuple[Any, ...], odd: bytes) -> bytes:
    if not path:
        return odd
    copy = json.loads(json.dumps(good))
    at = copy
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = "@odd@"
    return json.dumps(copy).encode().replace(b'"@odd@"', odd)


def forged(good: dict[str, Any]) -> Iterator[bytes]:
    whole = json.dumps(good).encode()
    yield from (spoiled(good, path, odd) for path in places(good) for odd in ODD)
    yield from (whole[:-1] + b',"node":"other","schema":2}', whole * 2, whole[:-1], b"\xef\xbb\xbf")


def _probe(payload: bytes) -> object:
    """The receiver's half reads these."""
    content = Envelope(
        kind=Kind.PROBE, codec=Codec.RAW, node="cart-3", raw_len=len(payload), body=payload
    )
    return probe.decode(content, Codecs())


READERS: dict[str, Callable[[bytes], object]] = {
    **{
        what: lambda payload, topic=topic: edgecore.read(TOPICS, topic, payload)  # type: ignore[misc]
        for what, topic in {
            "ack": TOPICS.down("ack"),
            "need": TOPICS.down("need"),
            "desired": TOPICS.down("desired"),
            "twin": f"{DEVICE}/twin/get/result",
            "state": f"{DEVICE}/state/update/result",
        }.items()
    },
    "probe": _probe,
    "carried": lambda payload: carriage.read_acks("cart-3", payload + b"\n", b"secret"),
}


@pytest.mark.parametrize("reader", sorted(READERS))
def test_any_value_in_any_place_is_read_or_refused(reader: str) -> None:
    payloads = [payload for good in GOOD.values() for payload in forged(good)]
    words = [refusal_of(READERS[reader], payload) for payload in payloads]
    assert max(map(len, words)) < MAX_WORDS
    assert len(list(filter(None, words))) > 100


def refusal_of(read: Callable[[bytes], object], payload: bytes) -> str:
    try:
        read(payload)
    except Rejected as refusal:
        return str(refusal)
    return ""


@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"carried"}))
def test_the_good_ones_are_read(reader: str) -> None:
    READERS[reader](json.dumps(GOOD[reader]).encode())
