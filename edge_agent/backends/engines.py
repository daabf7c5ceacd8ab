"""Prepared models on disk: `<state_dir>/engines/<sha>-<variant>-<runtime>-<machine>.onnx`.

What a package has is optimised once, by a process of its own (`prepare`), and loaded many times
without that work. A prepared file is only ever a short cut: one that is missing, of another runtime
or damaged is passed over, and the package's own file is loaded. The digest beside it is of its name
too, and so of the package that it was made of; what is loaded is what was hashed. It is for power
cuts and rot, not for attackers: who can write here can write anywhere in the state directory.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

import xxhash

DIGEST = ".xxh3"
SHA_CHARS = 32
MAKING = ".making-"
MAX_FILES = 4096
PIECE_BYTES = 1 << 18


def engine_path(engines: Path, sha: str, variant: str, runtime: str) -> Path:
    """runtime: name and version of what made it. sha: of the package."""
    return engines / f"{sha[:SHA_CHARS]}-{variant}-{runtime}-{platform.machine()}.onnx"


class HeldEngine:
    """A prepared file as it was hashed, in memory of this process. Close it after use."""

    def __init__(self) -> None:
        self._fd = os.memfd_create("edge-agent-engine", os.MFD_CLOEXEC)
        self.path = Path(f"/proc/self/fd/{self._fd}")

    def __enter__(self) -> HeldEngine:  # noqa: PYI034 - Self is 3.11
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def take(self, content: memoryview) -> None:
        """Raises: OSError."""
        while content:
            content = content[os.write(self._fd, content) :]


def hold_whole(path: Path) -> HeldEngine | None:
    """None when what was written is not all there, as it was."""
    try:
        told = path.with_suffix(DIGEST).read_text(encoding="ascii").strip()
        with contextlib.ExitStack() as undone:
            whole = undone.enter_context(HeldEngine())
            if told != digest(path, path.name, whole.take):
                return None
            undone.pop_all()
            return whole
    except (OSError, ValueError):
        return None


def is_whole(path: Path) -> bool:
    """What was written is all there."""
    whole = hold_whole(path)
    if whole is None:
        return False
    with whole:
        return True


def digest(path: Path, name: str, take: Callable[[memoryview], None] | None = None) -> str:
    """In pieces: who loads beside a live stream holds the interpreter for none of them long.

    name: under which it is kept. take: gets each piece.

    Raises: OSError.
    """
    found, piece = xxhash.xxh3_128(name.encode()), bytearray(PIECE_BYTES)
    with path.open("rb", buffering=0) as file, memoryview(piece) as view:
        while count := file.readinto(piece):
            found.update(view[:count])
            if take is not None:
                take(view[:count])
    return found.hexdigest()


def settle(written: Path, path: Path) -> None:
    """A file that was written beside `path` takes its place, durably, with its digest.

    The digest comes first: without its file it means nothing.

    Raises: OSError.
    """
    beside = written.with_suffix(".digest")
    beside.write_text(digest(written, path.name) + "\n", encoding="ascii")
    for one, target in ((beside, path.with_suffix(DIGEST)), (written, path)):
        _sync(one)
        one.chmod(0o600)
        one.replace(target)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(engines: Path) -> None:
    """Removes what a process that was killed had begun."""
    for left in engines.glob(f"{MAKING}*"):
        shutil.rmtree(left, ignore_errors=True)


def collect(engines: Path, keep: Collection[str]) -> int:
    """Removes what belongs to none of these packages; returns the bytes that came free."""
    freed, kept = 0, {sha[:SHA_CHARS] for sha in keep}
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(engines.iterdir())[:MAX_FILES]:
            if path.is_file() and path.name.split("-", 1)[0] not in kept:
                freed += path.stat().st_size
                path.unlink()
    return freed
