"""What writes that were cut off have left: removed once, at the start, by who holds the state lock.

A write is a file beside its place and a rename. A power cut in between leaves the file, which no
name counts in: `.NAME.XXXXXXXX` of ours, `tmpXXXXXXXX` of python-tuf, folders of unpacking and of
building. Only what matches such a pattern goes, never through a link, so many at a start. Downloads
are not of these: they are gone on with, or collected.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_agent.stores.files import remove_tree

MAX_REMOVED: Final = 4096  # of one start; the next one goes on
MAX_LOOKED: Final = 1 << 16  # names in one folder

OURS: Final = re.compile(r"\..+\.[0-9a-f]{8}")  # `files.written_beside`
TUFS: Final = re.compile(r"tmp[a-z0-9_]{8}")  # `tempfile`, in its own folder of metadata
ENGINES: Final = re.compile(r"\..+\.[0-9a-f]{8}|.+\.tmp")
BUILT: Final = re.compile(r"\.making-[a-z0-9_]{8}")  # folders of `backends.engines`
UNPACKED: Final = re.compile(r"[0-9a-f]{64}")  # in .making and .dropping of `stores.installed`


def sweep(state_dir: Path) -> int:
    """How many were removed. Never raises: what can't be removed stays until the next start."""
    sweeping, state_dir = _Sweeping(), Path(os.path.realpath(state_dir))  # it may be a link itself
    for place in (state_dir, state_dir / "rollouts", state_dir / "desired"):
        sweeping.files(place, OURS)
    sweeping.files(state_dir / "engines", ENGINES)
    sweeping.folders(state_dir / "engines", BUILT)
    with _alone(state_dir / "tuf", "lock") as is_alone:
        if is_alone:  # else an installer of the agent before is just ending
            _sweep_tuf(sweeping, state_dir / "tuf")
    with _alone(state_dir / "models", ".lock") as is_alone:
        if is_alone:
            _sweep_models(sweeping, state_dir / "models")
    return sweeping.removed


def _sweep_tuf(sweeping: _Sweeping, tuf: Path) -> None:
    for place in (tuf, tuf / "handover", tuf / "handover" / "metadata"):
        sweeping.files(place, OURS)
    sweeping.files(tuf / "metadata", TUFS)


def _sweep_models(sweeping: _Sweeping, models: Path) -> None:
    for place in (models / ".making", models / ".dropping"):
        sweeping.folders(place, UNPACKED)
    for name in _names(models):
        if not name.startswith("."):
            sweeping.files(models / name, OURS)


class _Sweeping:
    """Counts what is removed, up to its bound."""

    def __init__(self) -> None:
        self.removed = 0

    def files(self, folder: Path, pattern: re.Pattern[str]) -> None:
        """Plain files of a folder."""
        with _opened(folder) as here:
            for name in self._matching(here, pattern):
                with contextlib.suppress(OSError):
                    if stat.S_ISREG(os.lstat(name, dir_fd=here).st_mode):
                        os.unlink(name, dir_fd=here)
                        self.removed += 1

    def folders(self, folder: Path, pattern: re.Pattern[str]) -> None:
        """Folders of a folder, with all that is in them."""
        with _opened(folder) as here:
            for name in self._matching(here, pattern):
                with contextlib.suppress(OSError):
                    if stat.S_ISDIR(os.lstat(name, dir_fd=here).st_mode):
                        remove_tree(folder / name)
                        self.removed += 1

    def _matching(self, here: int | None, pattern: re.Pattern[str]) -> Iterator[str]:
        names = [] if here is None else _names(here)
        for name in names:
            if self.removed >= MAX_REMOVED:
                return
            if pattern.fullmatch(name):
                yield name


def _names(folder: int | Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:MAX_LOOKED]  # noqa: PTH208 - may be a descriptor
    except OSError:
        return []


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """A folder of ours, not a link to another's; None where there is none."""
    try:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield here
    finally:
        os.close(here)


@contextlib.contextmanager
def _alone(folder: Path, lock: str) -> Iterator[bool]:
    """Whether nobody else is at a folder, while this lasts. False where nobody ever was."""
    with contextlib.ExitStack() as held, _opened(folder) as here:
        is_alone = False
        if here is not None:
            with contextlib.suppress(OSError):
                flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(lock, flags, dir_fd=here)
                held.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_alone = True
        yield is_alone
