"""A small document kept twice, each copy with its sum: `ports.StateFile` on a disk that may rot.

    <name>.json, <name>.copy.json     {...the document's own fields..., "sha256": hex}

Who reads the first from outside finds the fields where they always were; the last one is the sum of
the document without it. While one copy is sound it is believed, the first one first. Two rotten
ones are `Damaged` and `healable`, never "nothing": what must not be forgotten is not forgotten
silently. A disk or a process that can't read at the moment is no damage: that is tried again, then
said.

The copy gets its name first, durably, so it is never older than the first: whoever falls back on it
forgets nothing. Both are flushed before either gets its name: a full disk changes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from edge_agent.core.errors import Damaged, Overloaded, Rejected, of_system
from edge_agent.stores.files import (
    DISK,
    Disk,
    gone_if_it_fails,
    make_folder,
    write_atomic,
    written_beside,
)

MAX_BYTES: Final = 1 << 20
PAUSES_S: Final = (0.05, 0.1, 0.25)  # before a copy that could not be read is tried again
SUFFIX: Final = ".json"
COPY: Final = ".copy"
ASIDE: Final = ".damaged"

_SEAL: Final = b'"sha256":"%b"}'
_SEAL_BYTES: Final = len(_SEAL % (b"0" * 64))
_SEALED: Final = re.compile(rb'"sha256":"([0-9a-f]{64})"\}')
_AROUND: Final = b'"sha256":""}'  # of a seal, what is the same in all
_LIKE: Final = 9  # so many of these bytes at their places: there was a sum


class _Look(NamedTuple):
    """At one copy. plain: JSON without a sum, as the version before wrote. Nothing: not there."""

    sound: bytes | None = None
    plain: bytes | None = None
    rotten: str = ""
    error: OSError | None = None


class Document:
    """A JSON object in `folder/<name>.json` and its copy. One process writes; any may read."""

    def __init__(
        self, folder: Path, name: str, *, max_bytes: int = MAX_BYTES, disk: Disk = DISK
    ) -> None:
        self._first = folder / f"{name}{SUFFIX}"
        self._copy = folder / f"{name}{COPY}{SUFFIX}"
        self._max_bytes = max_bytes
        self._disk = disk

    def read(self) -> bytes | None:
        """As it was written, without the sum. None: never written. Waits a second at most.

        Raises: Damaged, `healable` when neither copy will ever be read again; else, as Overloaded,
        it may well be read later.
        """
        first = self._looked(self._first)
        if first.sound is not None:
            return first.sound
        copy = self._looked(self._copy)
        if copy.sound is not None:
            return copy.sound
        error = first.error or copy.error
        if error is not None:
            raise of_system(f"read {self._first.name}", error) from error
        if copy == _Look() and (first.plain is not None or first == _Look()):
            return first.plain
        words = first.rotten or copy.rotten or "a copy is left that has no sum"
        raise Damaged(
            f"read {self._first.name}: both copies are damaged ({words})",
            hint=f"look for the reason on the disk, then remove {self._first.name} and its copy",
            healable=True,
        )

    def write(self, content: bytes) -> None:
        """content: a JSON object.

        Raises: Overloaded, Damaged; then the old one is believed, unless both had their names and
        only the flush of the folder failed.
        """
        if len(content) > self._max_bytes:
            raise Overloaded(
                f"write {self._first.name}: expected at most {self._max_bytes} bytes, "
                f"got {len(content)}"
            )
        body = sealed(content)
        folder, disk = self._first.parent, self._disk
        try:
            make_folder(folder, disk=disk)
            self._make_way()
            self._first_is_sound()
            undo = gone_if_it_fails(self._copy, disk)
            with (
                written_beside(self._first, body, disk=disk) as first,
                written_beside(self._copy, body, disk=disk) as copy,
                contextlib.nullcontext() if os.path.lexists(self._copy) else undo,
            ):
                disk.rename(copy, self._copy)
                disk.sync_folder(folder)
                disk.rename(first, self._first)
            disk.sync_folder(folder)
        except OSError as error:
            raise of_system(f"write {self._first.name}", error) from error

    def mend(self) -> None:
        """Writes again what is believed where a copy of it is missing, rotten or another's.

        Raises: Overloaded, Damaged.
        """
        content = self.read()
        if content is not None and {self._glance(self._first), self._glance(self._copy)} != {
            _Look(sound=content)
        }:
            self.write(content)

    def put_aside(self) -> None:
        """What can't be read; it stays for whoever wants to know why."""
        for path in (self._first, self._copy):
            with contextlib.suppress(OSError):
                path.replace(path.with_name(path.name + ASIDE))

    def _make_way(self) -> None:
        """A folder in place of a copy is no copy: it is put aside, or no write would ever succeed.

        Raises: OSError.
        """
        for path in (self._first, self._copy):
            if path.is_dir() and not path.is_symlink():
                aside = path.with_name(f"{path.name}{ASIDE}.{secrets.token_hex(4)}")
                self._disk.rename(path, aside)

    def _first_is_sound(self) -> None:
        """Where only the copy is believed, replacing it first would leave nothing to go back to.

        Raises: OSError.
        """
        if self._glance(self._first).sound is None:
            copy = self._glance(self._copy).sound
            if copy is not None:
                write_atomic(self._first, sealed(copy), disk=self._disk)

    def _looked(self, path: Path) -> _Look:
        """Again after a pause, as long as the disk or the process can't."""
        look = self._glance(path)
        for pause_s in PAUSES_S:
            if look.error is None:
                break
            self._disk.pause(pause_s)
            look = self._glance(path)
        return look

    def _glance(self, path: Path) -> _Look:
        try:
            return _look(self._disk.read(path, self._max_bytes + _SEAL_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return _Look()
        except OSError as error:
            return _Look(error=error)
        except Rejected as error:  # too large, or no file at all
            return _Look(rotten=error.what)


def sealed(content: bytes) -> bytes:
    """With its sum as the last field."""
    if not (content.startswith(b"{") and content.endswith(b"}")):
        raise ValueError(f"keep {content[:40]!r}: expected a JSON object")
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:-1] + (b"" if content == b"{}" else b",") + _SEAL % digest


def _look(raw: bytes) -> _Look:
    head, tail = raw[:-_SEAL_BYTES], raw[-_SEAL_BYTES:]
    match = _SEALED.fullmatch(tail)
    if match:
        content = (head if head == b"{" else head[:-1]) + b"}"
        is_sound = content[:1] == b"{" and sealed(content) == raw  # its commas as well
        return _Look(sound=content) if is_sound else _Look(rotten="its sum is another")
    around = zip(tail[:10] + tail[-2:], _AROUND, strict=False)
    if len(tail) == _SEAL_BYTES and sum(is_ == was for is_, was in around) >= _LIKE:
        return _Look(rotten="its sum is torn")
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Look(rotten="it is no JSON")
    return _Look(plain=raw) if isinstance(fields, dict) else _Look(rotten="it is no JSON object")
