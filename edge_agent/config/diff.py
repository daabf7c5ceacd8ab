"""What a reload changes, and what it takes to apply it. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edge_agent.config.structs import Config

# By dotted key, or the section above it. What is in neither list applies live.
DAEMON_KEYS: Final = (
    "node",
    "state_dir",
    "runtime_dir",
    "engine.isolation",
    "spool",
    "supervise",
    "uplink",
    "rollouts",
    "console",
)
CHILD_KEYS: Final = ("engine", "models")


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The difference of two configurations; keys are dotted, streams are names.

    restart: keys that need a new daemon. child: keys that need a new inference child.
    live: the other keys outside `streams`. Each changed stream is stopped and started again.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    child: tuple[str, ...] = ()
    live: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in self.__struct_fields__)


def diff(old: Config, new: Config) -> Changes:
    """What differs, sorted by what it takes to apply it."""
    shared = old.streams.keys() & new.streams.keys()
    keys = sorted(_different(old, new, ""))
    restart = tuple(key for key in keys if _is_under(key, DAEMON_KEYS))
    child = tuple(key for key in keys if key not in restart and _is_under(key, CHILD_KEYS))
    return Changes(
        added=tuple(sorted(new.streams.keys() - shared)),
        removed=tuple(sorted(old.streams.keys() - shared)),
        changed=tuple(sorted(name for name in shared if old.streams[name] != new.streams[name])),
        restart=restart,
        child=child,
        live=tuple(key for key in keys if key not in restart and key not in child),
    )


def _different(old: Any, new: Any, above: str) -> list[str]:
    found: list[str] = []
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before == after or above + name == "streams":
            continue
        if isinstance(before, msgspec.Struct):
            found += _different(before, after, f"{name}.")
        else:
            found.append(above + name)
    return found


def _is_under(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
