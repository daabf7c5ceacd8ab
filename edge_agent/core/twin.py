"""The device twin as EdgeCore wants it: its alphabet, its JSON, and how often.

Pure. The twin is for health and versions, never for telemetry: at most every 10 s, only what has
changed; whole after each new connection and now and then, because EdgeCore drops what comes while
it has no cloud and never makes up for it; and once more ten seconds after the first good answer
that follows a refusal, because CloudCore drops the first report of each property. One update is on
its way at a time: EdgeCore answers what it cannot parse without saying which update it was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from edge_agent.core.edgecore import TwinAnswer

MAX_NAME_CHARS: Final = 128
MAX_VALUE_CHARS: Final = 512
MAX_PROPERTIES: Final = 128
MAX_UPDATE_BYTES: Final = 32_000
EVERY_US: Final = 10_000_000
ANSWER_US: Final = 5_000_000  # EdgeCore answers from its own memory, in milliseconds
REFUSED_US: Final = 60_000_000  # after a refusal: the device may be made meanwhile
WHOLE_US: Final = 600_000_000
_NAME: Final = re.compile(rf"[a-zA-Z0-9\-_.,:/@#]{{1,{MAX_NAME_CHARS}}}")
_ESCAPE: Final = "#"
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.,:/@")

Value = str | int | float | bool
DeviceState = Literal["online", "offline", "ok", "unknown", "unhealthy"]
STATES: Final[dict[str, DeviceState]] = {
    "ok": "online",
    "degraded": "unhealthy",
    "starting": "unknown",
    "stopping": "offline",
}

PROPERTIES: Final[dict[str, tuple[Literal["string", "int", "float"], str]]] = {
    "agent_version": ("string", "version of the agent"),
    "state": ("string", "ok, degraded, starting or stopping"),
    "level": ("int", "how much is shed to keep up, 0: nothing"),
    "problems": ("int", "number of things that need somebody"),
    "streams": ("int", "number of streams"),
    "streams_ok": ("int", "number of streams with a good picture"),
    "models": ("string", "active models, as name@version with commas"),
    "model_state": ("string", "state of the last rollout"),
    "desired_serial": ("int", "the last desired state that was applied"),
    "spool_records": ("int", "records that wait to be acknowledged"),
    "spool_bytes": ("int", "their size"),
    "spool_oldest_s": ("float", "age of the oldest of them"),
    "temperature_celsius": ("float", "of the hottest sensor"),
}  # CloudCore drops every other name: config/kubeedge has the same list

# ── values ────────────────────────────────────────────────────────────────────────────────────


def escaped(text: str) -> str:
    """In the twin's alphabet: any other byte of the UTF-8 is `#` and two hex digits.

    "" is `#`. What would be longer than 512 is cut, and ends with a single `#`.
    """
    parts = [
        char if char in _PLAIN else "".join(f"#{byte:02x}" for byte in _bytes(char))
        for char in text[: MAX_VALUE_CHARS + 1]
    ]
    value = "".join(parts)
    if 0 < len(value) <= MAX_VALUE_CHARS:
        return value
    while parts and sum(map(len, parts)) >= MAX_VALUE_CHARS:
        parts.pop()
    return "".join(parts) + _ESCAPE


def unescaped(value: str) -> str:
    """The text of `escaped`, cut where it was cut. Anything that is no escape stays as it is."""
    text = value.encode("utf-8", "replace")
    text = re.sub(rb"#([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), text)
    if value.endswith(_ESCAPE):
        text = text.removesuffix(b"#")
    return text.decode("utf-8", "replace")


def _bytes(char: str) -> bytes:
    return char.encode("utf-8", "replace")


def _kind(value: Value) -> tuple[str, str]:
    """Value and type, as EdgeCore checks them against each other."""
    if isinstance(value, bool):
        return str(value).lower(), "string"
    if isinstance(value, int):
        return str(value), "int"
    if isinstance(value, float):
        return repr(value).replace("+", ""), "float"  # no `+` in the alphabet: 1e+20
    return escaped(value), "string"


# ── documents ─────────────────────────────────────────────────────────────────────────────────


def update(values: Mapping[str, Value], *, event_id: str, timestamp_ms: int) -> bytes:
    """The payload of `twin/update`.

    Raises: ValueError for a name outside the alphabet and for what is too much. Numbers that are
    not finite must not be among the values.
    """
    if len(values) > MAX_PROPERTIES:
        raise ValueError(f"twin: expected at most {MAX_PROPERTIES} values, got {len(values)}")
    twin = {}
    for name, value in values.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"twin: expected a name like {_NAME.pattern}, got {name!r}")
        text, kind = _kind(value)
        twin[name] = {"actual": {"value": text}, "metadata": {"type": kind}}
    payload = msgspec.json.encode(
        {"event_id": event_id, "timestamp": timestamp_ms, "twin": twin}, order="sorted"
    )
    if len(payload) > MAX_UPDATE_BYTES:
        raise ValueError(f"twin: expected at most {MAX_UPDATE_BYTES} bytes, got {len(payload)}")
    return payload


def get(*, event_id: str, timestamp_ms: int) -> bytes:
    """The payload of `twin/get`."""
    return msgspec.json.encode({"event_id": event_id, "timestamp": timestamp_ms})


def state(of: DeviceState, *, event_id: str, timestamp_ms: int) -> bytes:
    """The payload of `state/update`. EdgeCore drops any other state without an answer."""
    return msgspec.json.encode({"event_id": event_id, "timestamp": timestamp_ms, "state": of})


# ── how often ─────────────────────────────────────────────────────────────────────────────────


class TwinUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """Publish `payload` on `twin/update`. whole: it holds every property. again: the state is to be
    told once more with it.
    """

    event_id: str
    whole: bool
    values: dict[str, Value]
    payload: bytes
    again: bool = False


class TwinThrottle:
    """Says when to publish which part of the twin; fed with the time.

    Values that are None or not finite are left out: the twin cannot forget a property. `run` makes
    event ids of this process its own.
    """

    def __init__(self, *, run: str, every_us: int = EVERY_US) -> None:
        self._run = run
        self._every_us = max(every_us, EVERY_US)
        self._n = 0
        self._held: dict[str, Value] = {}  # what EdgeCore has confirmed
        self._flying: TwinUpdate | None = None
        self._sent_us: int | None = None
        self._whole_us: int | None = None  # None: whole is due
        self._pause_us = 0
        self._is_again = False  # whole once more, after the first good answer
        self.refused = ""  # the last refusal, "" when the last answer was good

    def renew(self) -> None:
        """The link came up, or the cloud came back: the whole twin is due again."""
        self._whole_us = None
        self._flying = None
        self._held = {}

    def is_open(self, now_us: int) -> bool:
        """Whether `due` would send anything at all: the values need not be gathered before."""
        return self._may_send(now_us)

    def due(
        self,
        values: Mapping[str, Value | None],
        now_us: int,
        *,
        timestamp_ms: int,
        most_bytes: int | None = None,
    ) -> TwinUpdate | None:
        """What to publish now; None: nothing, or not yet. most_bytes: of payload, if it can be; the
        rest goes with the next ones.

        Raises: ValueError as `update`.
        """
        if not self._may_send(now_us):
            return None
        here = _said(values)
        is_whole = self._whole_us is None or now_us - self._whole_us >= WHOLE_US
        chosen = here if is_whole else _changed(here, self._held)
        if not chosen:
            return None
        self._n += 1
        event_id = f"{self._run}-{self._n}"
        if is_whole:
            self._held = {}
            self._whole_us = now_us
        payload = update(chosen, event_id=event_id, timestamp_ms=timestamp_ms)
        while most_bytes is not None and len(payload) > most_bytes and len(chosen) > 1:
            chosen = dict(list(chosen.items())[: len(chosen) // 2])
            payload = update(chosen, event_id=event_id, timestamp_ms=timestamp_ms)
        self._flying = TwinUpdate(
            event_id=event_id, whole=is_whole, values=chosen, payload=payload, again=self._is_again
        )
        self._is_again = False
        self._sent_us = now_us
        self._pause_us = self._every_us
        return self._flying

    def answered(self, answer: TwinAnswer) -> bool:
        """An answer to `twin/update`; True: it was ours. One without an id is taken as ours."""
        flying = self._flying
        if flying is None or answer.verb != "update":
            return False
        if answer.event_id not in {flying.event_id, ""}:
            return False
        self._flying = None
        if answer.code == 0 and answer.event_id:
            self._held.update(flying.values)
            if self.refused:  # CloudCore drops the first report of each property of a new device
                self._whole_us, self._pause_us, self._is_again = None, EVERY_US, True
            self.refused = ""
            return True
        self._whole_us = None
        self._pause_us = max(REFUSED_US, self._every_us)
        self.refused = f"{answer.code} {answer.reason}".strip()
        return True

    def _may_send(self, now_us: int) -> bool:
        if self._sent_us is None:
            return True
        since_us = now_us - self._sent_us
        if self._flying is not None and since_us >= ANSWER_US:
            if self._flying.whole:
                self._whole_us = None  # lost: whole again
            self._flying = None
        return self._flying is None and since_us >= self._pause_us


class StateThrottle:
    """Says when to publish the device's state: on change, after `renew`, and now and then."""

    def __init__(self, *, every_us: int = EVERY_US) -> None:
        self._every_us = max(every_us, EVERY_US)
        self._sent: DeviceState | None = None
        self._sent_us: int | None = None

    def renew(self) -> None:
        self._sent = None

    def due(self, now: DeviceState, now_us: int) -> bool:
        """Whether to publish it; True counts as published."""
        if self._sent_us is not None and now_us - self._sent_us < self._every_us:
            return False
        is_old = self._sent_us is None or now_us - self._sent_us >= WHOLE_US
        if now == self._sent and not is_old:
            return False
        self._sent, self._sent_us = now, now_us
        return True


def _said(values: Mapping[str, Value | None]) -> dict[str, Value]:
    return {
        name: value
        for name, value in values.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def _changed(here: Mapping[str, Value], held: Mapping[str, Value]) -> dict[str, Value]:
    return {name: value for name, value in here.items() if held.get(name) != value}
