"""Metadata of the repository that came down by MQTT, waiting for whoever verifies it.

Files as a repository would name them, in one folder. Nothing here is trusted: anybody on the broker
may have sent it. It is bounded, and what is junk is found out by the signatures; the other roads to
the repository stay open.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Final

from edge_agent.core.errors import Damaged, Rejected
from edge_agent.core.trust import metadata_name
from edge_agent.stores.files import make_folder, make_way, read_bounded, write_atomic

MAX_FILES: Final = 64
MAX_FILE_BYTES: Final = 256_000


class HandOver:
    """folder: made when it is needed; its files lie in `metadata/`, as those of a repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._metadata = folder / "metadata"
        self._turn = threading.Lock()  # messages come together, each kept in a thread of its own

    def put(self, content: bytes) -> str:
        """Keeps one file of metadata and returns its name; the oldest go. Blocks on the disk.

        Raises: Rejected for what is none; Damaged.
        """
        if len(content) > MAX_FILE_BYTES:
            raise Rejected(f"take metadata: expected at most {MAX_FILE_BYTES} bytes, got more")
        name = metadata_name(content)
        try:
            with self._turn:
                self._keep(self._metadata / name, content)
        except OSError as error:
            raise Damaged(
                f"keep metadata {name}: {error.strerror}", hint="make room on its disk"
            ) from error
        return name

    def _keep(self, path: Path, content: bytes) -> None:
        make_folder(self._metadata)
        make_way(path)
        with contextlib.suppress(FileNotFoundError, Rejected):  # no file is there, or none of ours
            if read_bounded(path, MAX_FILE_BYTES) == content:
                os.utime(path)  # said again: as good as new
                return
        write_atomic(path, content)
        self._trim()

    def _trim(self) -> None:
        plain = [file for file in self._metadata.iterdir() if file.is_file()]
        files = sorted(plain, key=lambda file: file.stat().st_mtime_ns)
        for file in files[: max(0, len(files) - MAX_FILES)]:
            file.unlink(missing_ok=True)
