"""Records whose content follows from their identity: a wrong one is known at the far end."""

from __future__ import annotations

from typing import Any, Final

from edge_agent.core.frames import Alarm, AnyRecord, Event, Result, Tally

NODE: Final = "cart-7"
STREAMS: Final = ("us", "endo")
BOOT: Final = "0badcafe"
FIELDS: Final = {Result: "model", Tally: "state", Event: "what", Alarm: "what"}
FIELD_OF: Final = {"result": "model", "telemetry": "state", "event": "what", "alarm": "what"}
WIDEST: Final = 300  # characters


def content_of(
    kind: type[AnyRecord], stream: str, *, epoch: int, seq: int, at_us: int
) -> AnyRecord:
    """The record that will get this id."""
    words = _words(stream, kind.klass.value, epoch, seq)
    fields: dict[str, Any] = {FIELDS[kind]: words}
    return kind(node=NODE, stream=stream, boot=BOOT, at_us=at_us, **fields)


def is_right(record: dict[str, Any]) -> bool:
    """A line of the receiver's files is as it was made."""
    klass = str(record["class"])
    words = _words(record["stream"], klass, record["epoch"], record["seq"])
    return bool(record.get(FIELD_OF[klass]) == words and record["node"] == NODE)


def _words(stream: str, klass: str, epoch: int, seq: int) -> str:
    """Of many lengths, never the same twice."""
    words = f"{stream} {klass} {epoch:x} {seq} "
    return (words * (WIDEST // len(words)))[: len(words) + (seq * 7919 + epoch) % (WIDEST // 2)]
