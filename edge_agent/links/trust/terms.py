"""What the rollout hears of the repository, and how a mismatch is told. No TUF in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from edge_agent.core.edgecore import Sha
from edge_agent.core.errors import Damaged
from edge_agent.core.trust import Refused, checked_path

METADATA: Final = "metadata/"
TARGETS: Final = "targets/"
LAST_S: Final = 253_402_300_799  # the end of the year 9999


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one refresh."""

    max_root_rotations: int = 64
    max_delegations: int = 16
    max_root_bytes: int = 128_000
    max_timestamp_bytes: int = 16_000
    max_snapshot_bytes: int = 512_000
    max_targets_bytes: int = 4_000_000


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a signed target names by its hash. url: for `Sources.fetch`. base: of a delta."""

    url: str
    length: int
    sha256: str
    base: str = ""


class _Chunks(msgspec.Struct, frozen=True):
    bytes: Annotated[int, msgspec.Meta(ge=1 << 12, le=1 << 26)]
    sha256: Sha


class _Delta(msgspec.Struct, frozen=True):
    base: Sha
    target: str
    length: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Sha


class _Custom(msgspec.Struct, frozen=True):
    chunks: _Chunks | None = None
    deltas: Annotated[tuple[_Delta, ...], msgspec.Meta(max_length=16)] = ()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed of one file. custom: what the publisher says of it."""

    path: str
    length: int
    sha256: str
    custom: dict[str, Any]

    @property
    def url(self) -> str:
        """Where it lies, for `Sources.fetch`."""
        folder, slash, name = self.path.rpartition("/")
        return f"{TARGETS}{folder}{slash}{self.sha256}.{name}"

    def table(self) -> tuple[Blob, int] | None:
        """The sha256 of each chunk, 32 bytes after 32 bytes, and how many bytes a chunk has.

        Raises: Refused.
        """
        chunks = self._custom().chunks
        if chunks is None:
            return None
        length = 32 * -(-self.length // chunks.bytes)
        url = f"{TARGETS}chunks/{self.sha256}.tbl"
        return Blob(url=url, length=length, sha256=chunks.sha256), chunks.bytes

    def deltas(self) -> tuple[Blob, ...]:
        """What turns another package into this one, the newest base first.

        Raises: Refused.
        """
        return tuple(
            Blob(
                url=TARGETS + checked_path(delta.target), length=delta.length,
                sha256=delta.sha256, base=delta.base,
            )
            for delta in self._custom().deltas
        )  # fmt: skip

    def _custom(self) -> _Custom:
        try:
            return msgspec.convert(self.custom, _Custom)
        except msgspec.ValidationError as error:
            raise Refused("malformed", f"read custom of {self.path}: {error}") from None


class Trouble(msgspec.Struct, frozen=True):
    """What was wrong with one source. code: of a `Refused`, or `down`."""

    source: str
    code: str
    what: str
    hint: str


class Refreshed(msgspec.Struct, frozen=True, kw_only=True):
    """expires_s: UTC, when the first of its metadata ends. time_s: UTC by which that was judged."""

    root: int
    timestamp: int
    snapshot: int
    expires_s: int
    time_s: int
    troubles: tuple[Trouble, ...] = ()


def checked(path: str, content: bytes, length: int, sha256: str) -> bytes:
    if len(content) != length:
        raise unequal(path, length, len(content))
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise other(path, sha256, found)
    return content


def unequal(path: str, expected: int, got: int) -> Refused:
    more = "more" if got > expected else f"{got}"
    return Refused("length", f"verify {path}: expected {expected} bytes, got {more}")


def other(path: str, expected: str, got: str) -> Refused:
    return Refused("hash", f"verify {path}: expected sha256 {expected[:16]}, got {got[:16]}")


def utc(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%MZ")


@contextmanager
def disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> Damaged:
    return Damaged(
        f"use {path.name}: {error.strerror or error}", hint="make room on its disk; is it ours?"
    )
