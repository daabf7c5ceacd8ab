"""What is remembered of the repository that models come from, and what may be believed. Pure.

TUF says who signed what. Its own memory is the metadata that it keeps, so a folder that was wiped,
or a flash that was restored, would believe old metadata again; and it asks the clock, which on a
box without a battery says 1970. Hence this memory, which only ever rises:

- versions of root, timestamp, snapshot and of each role that the snapshot lists. Those of timestamp
  and snapshot count within a *reign*: when a new root takes so many keys away that what we remember
  could not be verified any more, the reign ends and versions may start low again. That is how a
  repository recovers from a stolen key that had signed version two thousand million.
- the serial of each desired state.
- a floor of time. Only a refresh that was accepted raises it, and only by a clock that is said to
  be synchronised or by the signed hour of offline keys; never beyond the first expiry of what was
  then accepted. So it stays below the expiry of every timestamp signed later: a clock that jumps to
  2100 finds everything expired, raises nothing, and does no harm once it is right again.

No refusal of this page ends anything but an installation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from edge_agent.core.errors import Rejected, Untrusted

MAX_ROLES: Final = 512
MAX_SERIALS: Final = 32
MAX_KEYS: Final = 32
MAX_INT: Final = (1 << 63) - 1
MAX_PATH_CHARS: Final = 512
MAX_SHOWN: Final = 120
TOP: Final = ("root", "timestamp", "snapshot", "targets")

Code = Literal[
    "signature",
    "rollback",
    "freeze",
    "expired",
    "mix-and-match",
    "length",
    "hash",
    "malformed",
    "unknown-target",
    "path",
    "bounds",
    "bootstrap",
]
CODES: Final[tuple[str, ...]] = get_args(Code)
HINTS: Final[Mapping[str, str]] = {
    "signature": "was the repository signed with the keys of its root? if they were changed, "
    "publish the new root; if not, somebody is between it and this device",
    "rollback": "it shows an older state than this device has seen: a backup, a stale mirror, an "
    "attack? publish a newer version. For another repository altogether, remove the folder tuf in "
    "state_dir",
    "freeze": "hot_tier sign renews it; if it is renewed, this road shows an old state. Is the "
    "clock of this device right?",
    "expired": "sign it anew at the publisher; is the clock of this device right?",
    "mix-and-match": "its files do not belong together: publish again, or copy the whole folder "
    "anew",
    "length": "something else is at that place, or endless; publish or copy it again",
    "hash": "it was changed on its way or at the publisher; publish or copy it again",
    "malformed": "this is no metadata of a repository: does the address lead to one?",
    "unknown-target": "publish it, with the key of its family, then sign",
    "path": "a target is named like models/NAME/SHA256.eam, without .. or a leading /",
    "bounds": "split the repository, or ask for a larger bound",
    "bootstrap": "copy metadata/1.root.json of the repository to this device, by a road you trust",
}


class Refused(Untrusted):
    """What came is not to be trusted. `code` is stable; `Untrusted` for whoever need not tell."""

    def __init__(self, code: Code, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint or HINTS[code])
        self.code: Code = code


# ── the memory ────────────────────────────────────────────────────────────────────────────────

Version = Annotated[int, Meta(ge=0, le=MAX_INT)]
Keys = Annotated[tuple[str, ...], Meta(max_length=MAX_KEYS)]


class Known(msgspec.Struct, frozen=True):
    """The highest version of a role in its reign; keys: that could have signed it."""

    reign: Version = 0
    version: Version = 0
    keys: Keys = ()


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """roles: by name, in the reign of the snapshot. time_s: UTC is no earlier than this."""

    schema: Literal[1] = 1
    root: Version = 0
    timestamp: Known = Known()
    snapshot: Known = Known()
    roles: Annotated[dict[str, Version], Meta(max_length=MAX_ROLES)] = {}
    serials: Annotated[dict[str, Version], Meta(max_length=MAX_SERIALS)] = {}
    time_s: Version = 0


class Shown(msgspec.Struct, frozen=True):
    """One role as verified now. keys, threshold: what its root asks for."""

    version: int
    keys: tuple[str, ...]
    threshold: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One whole refresh that TUF accepted. issued_s: the signed hours of offline keys."""

    root: int
    timestamp: Shown
    snapshot: Shown
    roles: dict[str, int]
    issued_s: tuple[int, ...] = ()
    expires_s: tuple[int, ...]


class Now(msgspec.Struct, frozen=True):
    """clock_s: what the clock says, 0 when it was never set. synced: something disciplines it."""

    clock_s: int
    synced: bool = False


def judged_s(memory: Memory, now: Now) -> int:
    """The time by which expiry is judged."""
    return max(now.clock_s, memory.time_s)


def seen(memory: Memory, shown: Seen, now: Now) -> Memory:
    """The memory after a refresh.

    Raises: Refused `rollback` when anything is older than remembered; `bounds`.
    """
    if shown.root < memory.root:
        raise _older("root", shown.root, memory.root)
    timestamp = _reigned("timestamp", memory.timestamp, shown.timestamp)
    snapshot = _reigned("snapshot", memory.snapshot, shown.snapshot)
    if len(shown.roles) > MAX_ROLES:
        raise Refused(
            "bounds", f"refresh: expected at most {MAX_ROLES} roles, got {len(shown.roles)}"
        )
    if snapshot.reign == memory.snapshot.reign:
        for name, version in memory.roles.items():
            if shown.roles.get(name, 0) < version:
                raise _older(name, shown.roles.get(name, 0), version)
    return msgspec.structs.replace(
        memory,
        root=shown.root,
        timestamp=timestamp,
        snapshot=snapshot,
        roles=dict(shown.roles),
        time_s=_risen(memory.time_s, shown, now),
    )


def served(memory: Memory, path: str, serial: int) -> Memory:
    """The memory after a desired state of this serial.

    Raises: Refused `rollback` when a higher one was seen; `bounds`.
    """
    known = memory.serials.get(path, 0)
    if serial < known:
        raise Refused("rollback", f"read {path}: expected serial {known} or higher, got {serial}")
    if path not in memory.serials and len(memory.serials) >= MAX_SERIALS:
        raise Refused("bounds", f"read {path}: expected at most {MAX_SERIALS} desired states")
    return msgspec.structs.replace(memory, serials={**memory.serials, path: serial})


def _reigned(name: str, known: Known, shown: Shown) -> Known:
    if len(shown.keys) > MAX_KEYS:
        raise Refused("bounds", f"refresh: {name}: expected at most {MAX_KEYS} keys")
    keys = tuple(sorted(shown.keys))
    kept = set(known.keys) & set(keys)
    if known.version and len(kept) < shown.threshold:
        return Known(known.reign + 1, shown.version, keys)
    if shown.version < known.version:
        raise _older(name, shown.version, known.version)
    return Known(known.reign, shown.version, keys)


def _older(name: str, version: int, known: int) -> Refused:
    there = f"version {version}" if version else "none"
    return Refused("rollback", f"refresh: {name}: expected version {known} or newer, got {there}")


def _risen(time_s: int, shown: Seen, now: Now) -> int:
    bound = min(shown.expires_s)
    offers = [*shown.issued_s, *([now.clock_s] if now.synced else [])]
    return max([time_s, *(offer for offer in offers if offer < bound)])


# ── names ─────────────────────────────────────────────────────────────────────────────────────

_PATH: Final = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]*(/[0-9A-Za-z_][0-9A-Za-z._-]*)*")
_ROLE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,126}")


def checked_path(path: str) -> str:
    """The path of a target, or of a file of a repository: plain names with / between them.

    Raises: Refused `path`.
    """
    if len(path) > MAX_PATH_CHARS or not _PATH.fullmatch(path):
        raise Refused("path", f"name target: expected plain names, got {path[:MAX_SHOWN]!r}")
    return path


class _Head(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="_type")
    version: Annotated[int, Meta(ge=1, le=MAX_INT)]
    role: str = ""  # the publisher writes it into what it delegates; nothing else names that


class _File(msgspec.Struct, frozen=True):
    signed: _Head


def metadata_name(content: bytes) -> str:
    """The name under which a repository would hold this metadata. Nothing of it is verified.

    Raises: Rejected.
    """
    try:
        head = msgspec.json.decode(content, type=_File).signed
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words = str(error)[:MAX_SHOWN]
        raise Rejected(f"name metadata: {words}", hint=HINTS["malformed"]) from None
    role = head.role if head.kind == "targets" and head.role else head.kind
    if head.kind not in TOP or not _ROLE.fullmatch(role):
        raise Rejected(
            f"name metadata: expected a role, got {role[:MAX_SHOWN]!r}", hint=HINTS["malformed"]
        )
    return "timestamp.json" if head.kind == "timestamp" else f"{head.version}.{role}.json"
