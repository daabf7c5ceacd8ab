"""What stands behind the edge in a demo, as a process that somebody else brings: broker, EdgeCore,
hot tier. Lines of JSON both ways: `{"ready", "port"}` first, then news; `{"do": WORD}` to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio

from edge_agent.cli.exits import CommandError

READY_S: Final = 20.0
END_S: Final = 10.0
MAX_LINE_BYTES: Final = 1 << 20


class Wings:
    """port: of its broker. url, root: of the repository that it publishes. news: the newest."""

    def __init__(self, process: asyncio.subprocess.Process, ready: dict[str, Any]) -> None:
        self.port = int(ready["port"])
        self.url, self.root = str(ready.get("url", "")), str(ready.get("root", ""))
        self.news: dict[str, Any] = {}
        self._process = process
        self._over = asyncio.Event()

    def do(self, word: str, **more: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps({"do": word, **more}).encode() + b"\n")

    def toggle_link(self) -> None:
        self.do("cut" if self.news.get("link") == "up" else "restore")

    async def listen(self) -> None:
        """Until it has said its last."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.news = json.loads(line)
            if self.news.get("over"):
                break
        self._over.set()

    async def end(self) -> dict[str, Any]:
        """What came of it all; what was last heard, when it ends without a word."""
        self.do("stop")
        with anyio.move_on_after(END_S):
            await self._over.wait()
        return self.news


@asynccontextmanager
async def wings(command: str, *, node: str, folder: str) -> AsyncIterator[Wings]:
    """Starts it, and ends it with the block. Raises: CommandError."""
    words = [*shlex.split(command), "--node", node, "--folder", folder]
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=MAX_LINE_BYTES
    )
    try:
        yield Wings(process, await _ready(process, command))
    finally:
        with anyio.CancelScope(shield=True):
            assert process.stdin is not None
            process.stdin.close()
            with anyio.move_on_after(END_S):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _ready(process: asyncio.subprocess.Process, command: str) -> dict[str, Any]:
    assert process.stdout is not None
    line = b""
    with anyio.move_on_after(READY_S):
        line = await process.stdout.readline()
    try:
        ready: dict[str, Any] = json.loads(line)
        int(ready["port"])
        return ready
    except (ValueError, KeyError, TypeError):
        raise CommandError(
            f"demo: the far side did not start: {command}", hint="run it by hand to see why"
        ) from None


def scratch(folder: str) -> str:
    """A folder of its own for it."""
    path = Path(folder) / "far-side"
    path.mkdir(exist_ok=True)
    return str(path)
