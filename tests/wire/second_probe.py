"""The second decoder, probes as docs/receiver.md has them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.wire.second_bytes import NAME, Envelope, Refused, check, raw_of

TOKEN = re.compile(r"[0-9A-Za-z_-]{1,64}")
WHY = re.compile(r"[a-z-]{1,32}")


def open_probe(envelope: Envelope, dictionaries: Sequence[bytes] = ()) -> dict[str, Any]:
    """With what is left out filled in."""
    check(envelope.kind == 3, "no probe")
    try:
        said = json.loads(raw_of(envelope, dictionaries).decode())
    except (ValueError, RecursionError):
        raise Refused("no JSON") from None
    check(isinstance(said, dict), "no object")
    logs, more, schema = said.get("logs", []), said.get("more", False), said.get("schema", 1)
    check(type(schema) is int and schema == 1, "schema")
    check(is_text(said.get("nonce"), TOKEN), "nonce")
    check(isinstance(logs, list) and len(logs) <= 64 and isinstance(more, bool), "logs or more")
    found = [open_log(log, envelope.node) for log in logs]
    return {"schema": 1, "nonce": said["nonce"], "logs": found, "more": more}


def open_log(log: Any, node: str) -> Mapping[str, Any]:
    check(isinstance(log, dict) and log.get("node") == node, "node")
    stream, klass, closed = log.get("stream"), log.get("class"), log.get("closed", False)
    check(stream == "" or is_text(stream, NAME), "stream")
    check(klass in ("alarm", "event", "result", "telemetry"), "class")
    epoch, floor, end, void = (log.get(name) for name in ("epoch", "floor", "next", "void"))
    void = [] if void is None and "void" not in log else void
    check(all(type(n) is int for n in (epoch, floor, end)), "numbers")
    check(0 <= epoch < 1 << 63 and 1 <= floor <= end <= 1 << 40, "bounds")
    check(isinstance(closed, bool) and isinstance(void, list) and len(void) <= 64, "void")
    for one in void:
        check(isinstance(one, list) and len(one) == 3, "void")
        a, b, why = one
        check(type(a) is int and type(b) is int and 1 <= a <= b < end, "range")
        check(is_text(why, WHY), "why")
    names = {"node": node, "stream": stream, "class": klass, "epoch": epoch}
    return {**names, "floor": floor, "next": end, "closed": closed, "void": void}


def is_text(value: Any, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None
