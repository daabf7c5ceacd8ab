"""What nodes would send, made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from edge_agent.core import probe
from edge_agent.core.frames import Alarm, AnyRecord, Event, RecordClass, Result, Tally
from edge_agent.core.probe import Offer, Probe
from edge_agent.core.wire import armour, envelope, records
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Envelope

CODECS = Codecs()
EPOCH = 1 << 32 | 7
KINDS: dict[RecordClass, type[Result | Tally | Event | Alarm]] = {
    RecordClass.RESULT: Result,
    RecordClass.TELEMETRY: Tally,
    RecordClass.EVENT: Event,
    RecordClass.ALARM: Alarm,
}


def record(seq: int, **given: Any) -> AnyRecord:
    """A small event of node a, unless told otherwise. `what` is its content."""
    fields = {"node": "a", "stream": "s", "epoch": EPOCH, "what": f"content {seq}", **given}
    return Event(seq=seq, boot="0123abcd", at_us=seq * 1000, name="x", **fields)


def batch(first: int, last: int, **given: Any) -> Envelope:
    return records.encode([record(seq, **given) for seq in range(first, last + 1)], CODECS)


def offer(floor: int, following: int, **given: Any) -> Offer:
    fields = {"node": "a", "stream": "s", "klass": RecordClass.EVENT, "epoch": EPOCH, **given}
    return Offer(floor=floor, next=following, **fields)


def ask(nonce: str, *offers: Offer, node: str = "a") -> Envelope:
    return probe.encode(node, Probe(nonce=nonce, logs=offers), CODECS)


def bundle(*contents: Envelope, carrier: str = "a") -> bytes:
    return armour.pack(carrier, [envelope.encode(one) for one in contents])


def balances(sheet: dict[str, Any]) -> bool:
    """held + void + waiting = next - 1, in each log and in total."""
    logs: Iterable[dict[str, Any]] = sheet["logs"]
    for log in logs:
        if log["held"] + sum(log["void"].values()) + log["waiting"] != log["next"] - 1:
            return False
        if min(log["held"], log["waiting"], *log["void"].values()) < 0:
            return False
    total = sheet["total"]
    whole: bool = total["expected"] == sum(log["next"] - 1 for log in logs)
    return whole and total["held"] == sum(log["held"] for log in logs)


def lines(content: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in content.splitlines()]
