"""DeviceTwin: what EdgeCore answers on `$hw/events/…`. Pure, but for the ids that it makes up.

Two kinds of no. What it cannot parse, and a name or value outside its alphabet, it answers without
the device and without the event id, one level shorter than everything else. A good document whose
value does not fit its type, or whose type there is not, it answers on the full topic with the event
id. Both are code 400, and nothing of the document was taken. A state that it does not know it drops
without an answer.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

ALLOWED: Final = r"[a-zA-Z0-9\-_.,:/@#]"
NAME: Final = re.compile(ALLOWED + "{1,128}")
VALUE: Final = re.compile(ALLOWED + "{1,512}")
STATES: Final = {"online", "offline", "ok", "unknown", "unhealthy"}
PREFIX: Final = "$hw/events/device/"
DELETED: Final = "deleted"
MAX_INT: Final = 1 << 63
INT: Final = re.compile(r"[+-]?[0-9]+")
FLOAT: Final = re.compile(
    r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE
)
Answer = tuple[str, bytes]
Json = dict[str, Any]


class Unreadable(Exception):
    """Answered one level shorter."""


class Unfit(Exception):
    """Answered in full, with the event id."""


class Side(msgspec.Struct):
    """One side of a property, as it comes. None: not said."""

    value: str | None = None


class TypeSaid(msgspec.Struct):
    type: str | None = ""


class PropertySaid(msgspec.Struct):
    """As it comes."""

    actual: Side | None = None
    expected: Side | None = None
    optional: bool | None = None
    metadata: TypeSaid | None = None


class BaseSaid(msgspec.Struct):
    """Of every document; a null is as good as nothing, anything else of another type is not."""

    event_id: str | None = ""
    timestamp: int | None = 0

    @property
    def event(self) -> str:
        return self.event_id or ""


class UpdateSaid(BaseSaid):
    twin: dict[str, PropertySaid | None] | None = None


class StateSaid(BaseSaid):
    state: str | None = ""


class Held(msgspec.Struct, frozen=True):
    """A value and when it came; "" of a property that was made with it counts as none."""

    value: str
    at_ms: int


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """version: of the edge's side, one more with each update."""

    kind: str = "string"
    actual: Held | None = None
    expected: Held | None = None
    is_optional: bool = True
    version: int = 0

    def json(self, *, with_version: bool = False) -> Json:
        said: Json = {"optional": self.is_optional, "metadata": {"type": self.kind}}
        for side, held in (("expected", self.expected), ("actual", self.actual)):
            if held is not None:
                said[side] = {"value": held.value, "metadata": {"timestamp": held.at_ms}}
        if with_version:
            said["actual_version"] = {"cloud": 0, "edge": self.version}
        return said


class Device(msgspec.Struct):
    """twin: by name; what was deleted is still there, as such."""

    state: str = "unknown"
    last_online: str = ""
    twin: dict[str, Property] = {}

    def seen(self) -> dict[str, Property]:
        return {name: one for name, one in self.twin.items() if one.kind != DELETED}


class Devices:
    """names: `ns/device` of each that the cloud has made for this node. fresh: makes event ids."""

    def __init__(
        self,
        node: str,
        names: tuple[str, ...],
        fresh: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._node, self._fresh = node, fresh
        self.devices = {name: Device() for name in names}

    def handle(self, topic: str, payload: bytes, now_ms: int) -> tuple[list[Answer], list[Answer]]:
        """Answers at the edge, and what goes to the cloud if there is one."""
        if topic == f"$hw/events/node/{self._node}/membership/get":
            return [(f"{topic}/result", self._members(payload, now_ms))], []
        found = re.fullmatch(re.escape(PREFIX) + r"([^/]+)/([^/]+)/(.+)", topic)
        if found is None:
            return [], []
        name, verb = f"{found[1]}/{found[2]}", found[3]
        if verb == "twin/get":
            return [(f"{topic}/result", self._get(name, payload, now_ms))], []
        if verb == "twin/update":
            return self._update(topic, name, payload, now_ms)
        if verb == "state/update":
            return self._state(topic, name, payload, now_ms)
        return [], []

    def _get(self, name: str, payload: bytes, now_ms: int) -> bytes:
        try:
            said = _read(payload, BaseSaid)
        except Unreadable as error:
            return _no("", 400, str(error), now_ms)
        device = self.devices.get(name)
        if device is None:
            return _no(said.event, 404, "the device is not found", now_ms)
        twin = {key: one.json() for key, one in device.seen().items()}
        return _encode({"event_id": said.event, "timestamp": now_ms, "twin": twin})

    def _update(
        self, topic: str, name: str, payload: bytes, now_ms: int
    ) -> tuple[list[Answer], list[Answer]]:
        try:
            said = _update_said(payload)
        except Unreadable as error:
            return [(f"{PREFIX}/twin/update/result", _no("", 400, str(error), now_ms))], []
        device = self.devices.get(name)
        if device is None:
            reason = "update rejected due to the device is not existed"
            return [(f"{topic}/result", _no(said.event, 404, reason, now_ms))], []
        assert said.twin is not None
        try:
            changed = _changed(said.twin, device.twin, now_ms)
        except Unfit as error:
            return [(f"{topic}/result", _no(said.event, 400, str(error), now_ms))], []
        before, device.twin = device.twin, {**device.twin, **changed}
        base = {"event_id": said.event, "timestamp": now_ms}
        twin = {key: _shown(one) for key, one in changed.items()}
        answers = [(f"{topic}/result", _encode({**base, "twin": twin}))]
        if changed:
            pairs = {key: {"last": _shown(before.get(key)), "current": twin[key]} for key in twin}
            answers.append((f"{topic}/document", _encode({**base, "twin": pairs})))
        answers += self._delta(topic, device, now_ms)
        cloud = {key: one.json(with_version=True) for key, one in changed.items()}
        told = {"event_id": self._fresh(), "timestamp": now_ms, "twin": cloud}
        return answers, [(f"device/{name}/twin/edge_updated", _encode(told))] if changed else []

    def _delta(self, topic: str, device: Device, now_ms: int) -> list[Answer]:
        """What is expected and not so."""
        seen = {key: one for key, one in device.seen().items() if one.expected is not None}
        delta = {key: value for key, one in seen.items() if (value := _unmet(one))}
        if not delta:
            return []
        twin = {key: one.json() for key, one in seen.items()}
        said = {"event_id": self._fresh(), "timestamp": now_ms, "twin": twin, "delta": delta}
        return [(f"{topic}/delta", _encode(said))]

    def _state(
        self, topic: str, name: str, payload: bytes, now_ms: int
    ) -> tuple[list[Answer], list[Answer]]:
        device = self.devices.get(name)
        try:
            state = _read(payload, StateSaid).state
        except Unreadable:
            return [], []
        if device is None or state not in STATES:
            return [], []
        device.state, device.last_online = state, _iso(now_ms)
        told = {
            "name": name.partition("/")[2],
            "state": state,
            "lastOnlineTime": device.last_online,
        }
        message = _encode({"event_id": self._fresh(), "timestamp": now_ms, "device": told})
        # to the cloud it goes as text: JSON in a JSON string
        up = _encode(message.decode())
        return [(f"{topic}/result", message)], [(f"device/{name}/state/update", up)]

    def _members(self, payload: bytes, now_ms: int) -> bytes:
        try:
            said = _read(payload, BaseSaid)
        except Unreadable as error:
            return _no("", 400, str(error), now_ms)
        devices = [
            {"id": name, "name": name.partition("/")[2], "state": device.state}
            for name, device in self.devices.items()
        ]
        return _encode({"event_id": said.event, "timestamp": now_ms, "devices": devices})


# ── what an update means ──────────────────────────────────────────────────────────────────────


def _update_said(payload: bytes) -> UpdateSaid:
    """Raises: Unreadable."""
    said = _read(payload, UpdateSaid)
    if said.twin is None:
        raise Unreadable("update twin error, key:twin does not exist")
    for key, one in said.twin.items():
        if not NAME.fullmatch(key):
            raise Unreadable("the key of twin is illegal")
        for side in (one.expected, one.actual) if one else ():
            # an empty value is let through, whatever the alphabet says of its length
            if side is not None and side.value and not VALUE.fullmatch(side.value):
                raise Unreadable("the value of twin is illegal")
    return said


def _changed(
    said: dict[str, PropertySaid | None], twin: dict[str, Property], now_ms: int
) -> dict[str, Property]:
    """What of the twin is another afterwards. Raises: Unfit, and then none of it is."""
    changed: dict[str, Property] = {}
    for key, one in said.items():
        before = twin.get(key)
        if one is None:
            if before is not None and before.is_optional and before.kind != DELETED:
                changed[key] = Property(kind=DELETED, version=before.version + 1)
            continue  # of a property that there is not: passed over, and no fault
        kind = _kind(one, before)
        actual, expected = _side(one.actual, kind, now_ms), _side(one.expected, kind, now_ms)
        if before is None:
            changed[key] = _made(one, kind, actual, expected)
        elif actual or expected or _is_news(one, before):
            changed[key] = Property(
                kind=kind,
                actual=actual or before.actual,
                expected=expected or before.expected,
                is_optional=before.is_optional and one.optional is not False,
                version=before.version + (actual is not None),
            )
    return changed


def _kind(said: PropertySaid, before: Property | None) -> str:
    """A property keeps the type that it was made with; what an update says of it is not asked."""
    if before is not None and before.kind != DELETED:
        return before.kind
    return (said.metadata.type or "") if said.metadata else "string"


def _made(said: PropertySaid, kind: str, actual: Held | None, expected: Held | None) -> Property:
    """The empty value of a new property is kept as none."""
    return Property(
        kind=kind,
        actual=actual if actual and actual.value else None,
        expected=expected if expected and expected.value else None,
        is_optional=said.optional is not False,
        version=int(actual is not None),
    )


def _is_news(said: PropertySaid, before: Property) -> bool:
    revived = before.kind == DELETED
    kind = (said.metadata.type or "") if said.metadata else before.kind
    return revived or kind != before.kind or (before.is_optional and said.optional is False)


def _side(side: Side | None, kind: str, now_ms: int) -> Held | None:
    if side is None:
        return None
    if side.value is None:  # a real one dereferences it
        raise Unfit("the value is nil")
    _fits(side.value, kind)
    return Held(side.value, now_ms)


def _fits(value: str, kind: str) -> None:
    """Raises: Unfit."""
    if kind in ("int", "integer"):
        fits = bool(INT.fullmatch(value)) and -MAX_INT <= int(value) < MAX_INT
    elif kind in ("float", "double"):
        fits = bool(FLOAT.fullmatch(value)) and _is_in_range(value)
    elif kind == "boolean":
        fits = value in ("true", "false")
    elif kind in ("", "string", "bytes", DELETED):
        fits = True
    else:
        raise Unfit(f"the value type is not allowed {kind}")
    if not fits:
        raise Unfit(f"the value is not {kind}")


def _is_in_range(value: str) -> bool:
    return "inf" in value.lower() or abs(float(value)) != float("inf")


def _unmet(one: Property) -> str:
    """The value that is expected, when there is another; else ""."""
    expected, actual = one.expected, one.actual
    if expected is None or (actual is not None and actual.value == expected.value):
        return ""
    return expected.value


def _shown(one: Property | None) -> Json | None:
    return None if one is None or one.kind == DELETED else one.json()


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────


B = TypeVar("B", bound=BaseSaid)


def _read(payload: bytes, kind: type[B]) -> B:
    """As Go reads it: what is no UTF-8 is U+FFFD, a field of another type is an error.

    Raises: Unreadable.
    """
    try:
        return msgspec.json.decode(payload.decode("utf-8", "replace"), type=kind)
    except (msgspec.DecodeError, RecursionError):
        raise Unreadable("unmarshal update request body failed, please check the request") from None


def _no(event_id: str, code: int, reason: str, now_ms: int) -> bytes:
    return _encode({"event_id": event_id, "timestamp": now_ms, "code": code, "reason": reason})


def _iso(now_ms: int) -> str:
    moment = dt.datetime.fromtimestamp(now_ms // 1000, dt.timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _encode(said: Any) -> bytes:
    return msgspec.json.encode(said)
