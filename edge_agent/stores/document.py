"""A small document kept twice, each copy with its sum: `ports.StateFile` on a disk that may rot.

    <name>.json, <name>.copy.json     {"sha256": hex, "content": ...}

The first is the newer one. While one copy is sound it is believed; two damaged ones are `Damaged`,
never "nothing": what must not be forgotten is not forgotten silently.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.core.errors import Damaged, Rejected
from edge_agent.stores.files import read_bounded, write_atomic

MAX_BYTES: Final = 1 << 20


class _Copy(msgspec.Struct, frozen=True):
    sha256: str
    content: msgspec.Raw


class Document:
    """JSON in `folder/<name>.json` and its copy. Used by one process at a time."""

    def __init__(self, folder: Path, name: str) -> None:
        self._paths = (folder / f"{name}.json", folder / f"{name}.copy.json")

    def read(self) -> bytes | None:
        """None: never written.

        Raises: Damaged when neither copy can be read.
        """
        found = [_read(path) for path in self._paths]
        sound = [content for content in found if content]
        if not sound and any(content is not None for content in found):
            name = self._paths[0].name
            raise Damaged(
                f"read {name}: both copies are damaged",
                hint=f"look for the reason on the disk, then remove {name} and its copy",
            )
        return sound[0] if sound else None

    def write(self, content: bytes) -> None:
        """content: JSON.

        Raises: Damaged; then one copy at least is the old one.
        """
        digest = hashlib.sha256(content).hexdigest()
        body = msgspec.json.encode(_Copy(digest, msgspec.Raw(content)))
        for path in self._paths:
            try:
                write_atomic(path, body)
            except OSError as error:
                raise Damaged(
                    f"write {path.name}: {error.strerror}", hint="make room on its disk"
                ) from error


def _read(path: Path) -> bytes | None:
    """None: not there. Empty: damaged."""
    try:
        copy = msgspec.json.decode(read_bounded(path, MAX_BYTES), type=_Copy)
    except FileNotFoundError:
        return None
    except (OSError, Rejected, msgspec.DecodeError, UnicodeDecodeError):
        return b""
    content = bytes(copy.content)
    return content if hashlib.sha256(content).hexdigest() == copy.sha256 else b""
