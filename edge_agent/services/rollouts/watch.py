"""Roads by which one hears that something new is wanted: a mounted file, a stick. Hints, no more.

A ConfigMap changes by a link that is turned to another folder, so the file itself is looked at, not
its folder's events; a stick may come and go. Looking costs a `stat` every few seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import anyio.to_thread

LOOK_S: Final = 2.0


class Looks(NamedTuple):
    """What a file looks like from outside; a link that was turned shows in the first two."""

    device: int
    inode: int
    size: int
    changed_ns: int


def looks_of(path: Path) -> Looks | None:
    """None: not there, or not to be read. Follows links. Blocks."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return Looks(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)


async def watch(path: Path, changed: Callable[[], None], *, every_s: float = LOOK_S) -> None:
    """Calls `changed` when the file has come or is another one; not when it goes. For ever."""
    before: Looks | None = None
    while True:
        now = await anyio.to_thread.run_sync(looks_of, path)
        if now is not None and now != before:
            changed()
        before = now
        await anyio.sleep(every_s)
