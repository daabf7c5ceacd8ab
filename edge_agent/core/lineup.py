"""The models of a house in the shape of the status: what runs, what ran before, what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from edge_agent.core.frames import Result
from edge_agent.core.manifest import Manifest


class Asked(NamedTuple):
    """One model of one stream, as configured; version "": whichever is current."""

    stream: str
    name: str
    version: str


class Coming(NamedTuple):
    """What the rollouts say, by model; ends: reports, the newest first."""

    rollouts: Mapping[str, dict[str, Any]]
    ends: Callable[[str], list[dict[str, Any]]]


class Runs(Protocol):
    """A version, as the engine has it."""

    @property
    def sha(self) -> str: ...

    @property
    def version(self) -> str: ...


class Now(NamedTuple):
    """active: what a model's streams run, by model; None: nothing. newest: result of a stream.

    manifests: by "name@version".
    """

    active: Callable[[str], Runs | None]
    newest: Callable[[str], Result | None]
    manifests: Mapping[str, Manifest]


def lineup(asked: Iterable[Asked], now: Now, coming: Coming) -> dict[str, Any]:
    """By name. `active` is what runs, not what was seen last."""
    found: dict[str, Any] = {}
    for one in asked:
        entry = found.setdefault(one.name, {"active": "", "previous": None, "streams": []})
        entry["streams"].append(one.stream)
        active, result = now.active(one.name), now.newest(one.stream)
        if active is not None:
            entry |= {"active": active.version, "sha": active.sha}
        if result is not None and result.model == one.name:
            entry["backend"] = result.backend
        manifest = now.manifests.get(f"{one.name}@{entry['active']}")
        entry["heads"] = msgspec.to_builtins(manifest.heads) if manifest else []
    for name in coming.rollouts:
        entry = found.setdefault(name, {"active": "", "previous": None, "streams": []})
        committed = (
            e.get("previous") or None for e in coming.ends(name) if e.get("outcome") == "committed"
        )
        entry["previous"] = next(committed, None)
    for name, entry in found.items():
        entry["rollout"] = coming.rollouts.get(name)
    return found


def twin_words(
    rollouts: Mapping[str, dict[str, Any]], serial: int | None
) -> dict[str, str | int | None]:
    """`model_state` and `desired_serial` of the twin; None: nothing to say."""
    states = [f"{name}:{one['state']}" for name, one in sorted(rollouts.items()) if one["state"]]
    return {"model_state": ",".join(states) or None, "desired_serial": serial or None}
