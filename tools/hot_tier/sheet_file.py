"""The balance sheet as a file, once a second. A disk that does not take it is told, never fatal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec

from edge_agent.stores.files import write_atomic
from tools.hot_tier.notices import Notices
from tools.hot_tier.outputs import way_out

EVERY_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0  # between two tries of a file that cannot be written


class SheetFile:
    """look: the sheet as it is now. path: written anew each time, old or new, never half."""

    def __init__(
        self, path: Path, look: Callable[[], dict[str, Any]], notices: Notices, *,
        every_s: float = EVERY_S,
    ) -> None:  # fmt: skip
        self._path = path
        self._look = look
        self._notices = notices
        self._every_s = every_s

    async def keep(self, ready: Callable[[], None]) -> None:
        """Until it is cancelled."""
        ready()
        pause_s = self._every_s
        while True:
            done = await self.write()
            pause_s = self._every_s if done else min(2 * pause_s, LONGEST_PAUSE_S)
            await anyio.sleep(pause_s)

    async def write(self) -> bool:
        """Whether it is there now. A failure is told once, and so is its end."""
        if _is_special(self._path):  # a rename would take its place
            fix = "name a file, or a path where nothing is"
            self._notices.tell("sheet", "write --sheet: there is something that is no file", fix)
            return False
        content = msgspec.json.encode(self._look()) + b"\n"
        try:
            await anyio.to_thread.run_sync(
                write_atomic, self._path, content, abandon_on_cancel=True
            )
        except OSError as error:
            self._notices.tell("sheet", f"write --sheet: {error.strerror}", way_out(error))
            return False
        self._notices.over("sheet")
        return True


def _is_special(path: Path) -> bool:
    """A device, a pipe, a socket."""
    return path.exists() and not (path.is_file() or path.is_dir())
