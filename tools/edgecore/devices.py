"""DeviceTwin: what EdgeCore answers on `$hw/events/…`. Pure.

What it cannot parse or does not allow it answers without the device and without the event id, one
level shorter than everything else. A state that it does not know it drops without an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

ALLOWED: Final = r"[a-zA-Z0-9\-_.,:/@#]"
NAME: Final = re.compile(ALLOWED + "{1,128}")
VALUE: Final = re.compile(ALLOWED + "{1,512}")
TYPES: Final = {"string", "int", "integer", "float", "double", "boolean"}
STATES: Final = {"online", "offline", "ok", "unknown", "unhealthy"}
PREFIX: Final = "$hw/events/device/"
Answer = tuple[str, bytes]


class Refused(Exception):
    """code and reason of an answer."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Device(msgspec.Struct):
    """twin: value and type by name. version: of the edge, one more with each update."""

    state: str = "unknown"
    twin: dict[str, tuple[str, str]] = {}
    version: int = 0


class Devices:
    """names: `ns/device` of each that the cloud has made for this node."""

    def __init__(self, node: str, names: tuple[str, ...]) -> None:
        self._node = node
        self.devices = {name: Device() for name in names}

    def handle(self, topic: str, payload: bytes, now_ms: int) -> tuple[list[Answer], list[Answer]]:
        """Answers at the edge, and what goes to the cloud if there is one."""
        if topic == f"$hw/events/node/{self._node}/membership/get":
            return [(f"{topic}/result", self._members(now_ms))], []
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
        said = _json(payload)
        base = {"event_id": str(said.get("event_id", "")), "timestamp": now_ms}
        device = self.devices.get(name)
        if device is None:
            return _encode({**base, "code": 404, "reason": "the device is not found"})
        twin = {key: _property(*held, now_ms) for key, held in device.twin.items()}
        return _encode({**base, "twin": twin})

    def _update(
        self, topic: str, name: str, payload: bytes, now_ms: int
    ) -> tuple[list[Answer], list[Answer]]:
        said = _json(payload)
        event_id = str(said.get("event_id", ""))
        base = {"event_id": event_id, "timestamp": now_ms}
        device = self.devices.get(name)
        try:
            changes = dict(_changes(said, device))
        except Refused as error:
            short = f"{PREFIX}/twin/update/result"
            answer = {"event_id": "", "timestamp": now_ms, "code": error.code, "reason": str(error)}
            return [(short, _encode(answer))], []
        if device is None:
            answer = {**base, "code": 404, "reason": "the device is not found"}
            return [(f"{topic}/result", _encode(answer))], []
        last = {key: _property(*held, now_ms) for key, held in device.twin.items()}
        device.twin = {**device.twin, **changes}
        device.version += 1
        twin = {key: _property(*held, now_ms) for key, held in changes.items()}
        document = {key: {"last": last.get(key), "current": twin[key]} for key in twin}
        cloud = {**base, "twin": twin, "actual_version": {"cloud": 0, "edge": device.version}}
        return [
            (f"{topic}/result", _encode({**base, "twin": twin})),
            (f"{topic}/document", _encode({**base, "twin": document})),
        ], [(f"device/{name}/twin/edge_updated", _encode(cloud))]

    def _state(
        self, topic: str, name: str, payload: bytes, now_ms: int
    ) -> tuple[list[Answer], list[Answer]]:
        device, state = self.devices.get(name), _json(payload).get("state")
        if device is None or state not in STATES:
            return [], []
        device.state = state
        told = {"name": name.partition("/")[2], "state": state, "lastOnlineTime": str(now_ms)}
        message = _encode({"event_id": "", "timestamp": now_ms, "device": told})
        return [(f"{topic}/result", message)], [(f"device/{name}/state/update", message)]

    def _members(self, now_ms: int) -> bytes:
        devices = [
            {"id": name, "name": name.partition("/")[2], "state": device.state}
            for name, device in self.devices.items()
        ]
        return _encode({"event_id": "", "timestamp": now_ms, "devices": devices})


def _changes(said: dict[str, Any], device: Device | None) -> Iterator[tuple[str, tuple[str, str]]]:
    twin = said.get("twin")
    if not isinstance(twin, dict) or not twin:
        raise Refused(400, "the twin is nil or malformed")
    for key, side in twin.items():
        actual = (side or {}).get("actual") if isinstance(side, dict) else None
        value = (actual or {}).get("value") if isinstance(actual, dict) else None
        if not NAME.fullmatch(key):
            raise Refused(400, "the key of twin is illegal")
        if not isinstance(value, str) or not VALUE.fullmatch(value):
            raise Refused(400, "the value of twin is illegal")
        kind = (side.get("metadata") or {}).get("type", "string")
        if kind not in TYPES and not (kind == "Updated" and device and key in device.twin):
            raise Refused(400, "the value type is not allowed")
        _fits(value, kind)
        yield key, (value, kind)


def _fits(value: str, kind: str) -> None:
    try:
        if kind in {"int", "integer"}:
            int(value)
        elif kind in {"float", "double"}:
            float(value)
    except ValueError:
        raise Refused(400, f"the value is not {kind}") from None


def _property(value: str, kind: str, now_ms: int) -> dict[str, Any]:
    actual = {"value": value, "metadata": {"timestamp": now_ms}}
    return {"actual": actual, "optional": False, "metadata": {"type": kind}}


def _json(payload: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _encode(said: dict[str, Any]) -> bytes:
    return msgspec.json.encode(said)
