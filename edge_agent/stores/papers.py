"""Documents in one folder, each kept twice (`stores.document`). Never reads what they say.

<folder>/<name>.json, <name>.copy.json
<folder>/begun                           something was written here once
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from edge_agent.core.errors import of_system
from edge_agent.stores.document import ASIDE, COPY, SUFFIX, Document
from edge_agent.stores.files import DISK, Disk, write_atomic

MAX_PAPERS: Final = 1024
BEGUN: Final = "begun"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Papers:
    """Every method blocks, and raises Overloaded or Damaged for a disk that fails."""

    def __init__(self, folder: Path, *, max_bytes: int, disk: Disk = DISK) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._disk = disk

    def names(self) -> list[str]:
        """Of the documents of which a copy is there."""
        return self._named(SUFFIX)

    def aside(self) -> list[str]:
        """Of those that were put aside, whether they were written again or not."""
        return self._named(SUFFIX + ASIDE)

    def has_begun(self) -> bool:
        """Something was written here once, even if nothing of it is left."""
        try:
            (self._folder / BEGUN).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise of_system(f"look for {BEGUN} of {self._folder.name}", error) from error
        return True

    def read(self, name: str) -> bytes | None:
        """None: never written.

        Raises: Damaged and `healable` when both copies are; else it may be read later.
        """
        return self._document(name).read()

    def write(self, name: str, content: bytes) -> None:
        """When it raises, the old one is believed."""
        self._document(name).write(content)
        begun = self._folder / BEGUN
        if not os.path.lexists(begun):
            with contextlib.suppress(OSError):  # the document is written; the next one tries again
                write_atomic(begun, b"", disk=self._disk)

    def mend(self, name: str) -> None:
        """Makes two sound copies of one."""
        self._document(name).mend()

    def put_aside(self, name: str) -> None:
        """One that can't be read; it stays for whoever wants to know why."""
        self._document(name).put_aside()

    def _document(self, name: str) -> Document:
        if not _NAME.fullmatch(name):
            raise ValueError(f"paper {name!r}: expected a name")
        return Document(self._folder, name, max_bytes=self._max_bytes, disk=self._disk)

    def _named(self, ending: str) -> list[str]:
        try:
            files = os.listdir(self._folder)  # noqa: PTH208 - names are wanted, not paths
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise of_system(f"list {self._folder.name}", error) from error
        found = {file[: -len(ending)].removesuffix(COPY) for file in files if file.endswith(ending)}
        return sorted(name for name in found if _NAME.fullmatch(name))[:MAX_PAPERS]
