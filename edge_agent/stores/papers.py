"""Small documents in one folder, each old or new after a power cut. Never reads what they say."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Final

from edge_agent.core.errors import Damaged, Rejected
from edge_agent.stores.files import read_bounded, write_atomic

MAX_PAPERS: Final = 1024
ASIDE: Final = ".damaged"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Papers:
    """`<folder>/<name>.json`. Every method blocks."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def names(self) -> list[str]:
        """Of the documents that are there."""
        found = sorted(path.stem for path in self._folder.glob("*.json"))
        return [name for name in found if _NAME.fullmatch(name)][:MAX_PAPERS]

    def read(self, name: str) -> bytes | None:
        """None: never written.

        Raises: Damaged.
        """
        try:
            return read_bounded(self._path(name), self._max_bytes)
        except FileNotFoundError:
            return None
        except (OSError, Rejected) as error:
            words = error.what if isinstance(error, Rejected) else error.strerror
            raise Damaged(f"read {name}.json: {words}", healable=True) from error

    def write(self, name: str, content: bytes) -> None:
        """Raises: Damaged; then the old one is still there."""
        path = self._path(name)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomic(path, content)
        except OSError as error:
            raise Damaged(
                f"write {path.name}: {error.strerror}", hint="make room on the disk of state_dir"
            ) from error

    def put_aside(self, name: str) -> None:
        """One that cannot be read; it stays for whoever wants to know why."""
        path = self._path(name)
        with contextlib.suppress(OSError):
            path.replace(path.with_name(path.name + ASIDE))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"paper {name!r}: expected a name")
        return self._folder / f"{name}.json"
