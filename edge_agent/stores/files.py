"""Files that are either old or new after a power cut, and reads that have a bound."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from edge_agent.core.errors import Rejected


def write_atomic(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Writes beside `path`, flushes to the disk, renames over it, flushes the folder.

    Raises: OSError; then the old content is still there and nothing else.
    """
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(beside, path)  # noqa: PTH105 - `beside` is a name from mkstemp, no Path
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)  # noqa: PTH108 - as above
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable.

    Raises: OSError.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The content of a file, never more than `max_bytes`.

    Raises: Rejected when it is larger; OSError.
    """
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise Rejected(f"read {path.name}: expected at most {max_bytes} bytes, got more")
    return content
