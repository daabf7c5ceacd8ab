"""Payloads as they came, one a line: what `edge-agent wire decode` reads, as it reads an export.

The newest are kept, in FILE and FILE.1, together no larger than they may be. A disk that is slow,
full or away costs payloads of this file, counted and told, and nothing else.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio

from edge_agent.core.wire.armour import MAX_BUNDLE_CHARS
from tools.hot_tier.notices import HOLDS_S, Notices
from tools.hot_tier.outputs import way_out

DEFAULT_MAX_MIB: Final = 1024
MAX_WAITING_BYTES: Final = 16 << 20
PAUSE_S: Final = 1.0  # after a write that failed
TAIL_BYTES: Final = MAX_BUNDLE_CHARS + 1


class RawFile:
    """`keep` on the loop, at any rate; `run` writes. max_bytes: of both files together."""

    def __init__(
        self,
        path: Path,
        notices: Notices,
        *,
        max_bytes: int = DEFAULT_MAX_MIB << 20,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._path = path
        self._notices = notices
        self._half_bytes = max_bytes // 2
        self._pause_s = pause_s
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._came = anyio.Event()
        self._size: int | None = None  # of whole lines; None: to be looked at

    def keep(self, payload: bytes) -> None:
        """Never waits. What is no single line of text would be no line of the file."""
        if b"\n" in payload or b"\r" in payload or len(payload) > MAX_BUNDLE_CHARS:
            self._drop("no single line of a bundle's size", "see the quarantine for such payloads")
            return
        if self._waiting_bytes + len(payload) > MAX_WAITING_BYTES:
            self._drop("the disk does not keep up", "look at its disk, or do without --raw")
            return
        self._waiting.append(payload)
        self._waiting_bytes += len(payload)
        self._came.set()

    def _drop(self, why: str, fix: str) -> None:
        self._notices.counts["raw_dropped"] += 1
        words = f"{self._notices.counts['raw_dropped']} payloads are not in --raw: {why}"
        self._notices.tell("raw-dropped", words, fix, for_s=HOLDS_S)

    async def run(self, ready: Callable[[], None]) -> None:
        """Until it is cancelled."""
        ready()
        while True:
            await self._came.wait()
            self._came = anyio.Event()
            while self._waiting:
                if not await self.write():
                    await anyio.sleep(self._pause_s)

    async def write(self) -> bool:
        """All that waits; False when the disk did not take it, and it waits on."""
        while self._waiting:
            some = self._some()
            try:
                await anyio.to_thread.run_sync(self._append, some, abandon_on_cancel=True)
            except OSError as error:
                self._size = None
                self._waiting.extendleft(reversed(some))
                self._waiting_bytes += sum(map(len, some))
                words = f"write --raw: {error.strerror or error}"
                self._notices.tell("raw", words, way_out(error))
                return False
            self._notices.over("raw")
        return True

    def _some(self) -> list[bytes]:
        """As many as one file may have, or one."""
        some = [self._waiting.popleft()]
        size = len(some[0]) + 1
        while self._waiting and size + len(self._waiting[0]) < self._half_bytes:
            some.append(self._waiting.popleft())
            size += len(some[-1]) + 1
        self._waiting_bytes -= size - len(some)
        return some

    def _append(self, payloads: list[bytes]) -> None:
        """Whole lines, or nothing new of them: what a failed write left is cut off by the next."""
        size = _whole_lines(self._path) if self._size is None else self._size
        content = b"".join(payload + b"\n" for payload in payloads)
        if size and size + len(content) > self._half_bytes:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            size = 0
        flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe is not waited for
        with os.fdopen(os.open(self._path, flags, 0o600), "wb", buffering=0) as file:
            size = min(size, os.fstat(file.fileno()).st_size)  # somebody may have taken it away
            file.truncate(size)
            file.seek(size)
            view = memoryview(content)
            while view:
                view = view[file.write(view) :]
        self._size = size + len(content)


def _whole_lines(path: Path) -> int:
    """How much of the file are lines that end. A crash may have left half of one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return 0
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return 0
        start = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
        file.seek(start)
        return start + (file.read(TAIL_BYTES) or b"").rfind(b"\n") + 1
