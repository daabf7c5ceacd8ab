"""Time that costs nothing: an asyncio loop that jumps to its next timer instead of sleeping.

Threads for blocking calls are replaced too: the call takes place on the loop after a moment, which
nobody can cancel, as nobody can cancel a write that the kernel has begun. So a run is the same each
time, and hours of a house pass in a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

TURN_S = 20e-6  # of the loop; whoever spins does not stop the time
BOOTED_S = 1000.0
T = TypeVar("T")
Look = Callable[[float, float], None]  # nothing happens from the one moment to the other


class _Jumps(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now_s = BOOTED_S
        self.look: Look = lambda _from, _to: None

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nobody will ever wake this loop again")
        if timeout > 0:
            self.look(self.now_s, self.now_s + timeout)
        self.now_s += max(timeout, TURN_S)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """look: told of each stretch of time in which nothing happens."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now_s

    def looked_at_by(self, look: Look) -> None:
        self._jumps.look = look


class VirtualClock:
    """`ports.Clock` of that loop; nobody has set it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def boot_us(self) -> int:
        return round(self._loop.time() * 1e6)

    def utc_offset_us(self) -> tuple[int | None, int | None]:
        return None, None

    def sleep_us(self, duration_us: int) -> None:
        raise NotImplementedError(duration_us)


@contextlib.contextmanager
def without_threads(call_s: float = 0.001) -> Iterator[None]:
    """What blocks takes so long, and happens at the end of it."""

    async def run_sync(function: Callable[..., T], *words: Any, **_: Any) -> T:
        await anyio.lowlevel.checkpoint_if_cancelled()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(call_s)
        return function(*words)

    before = anyio.to_thread.run_sync
    module: Any = anyio.to_thread
    module.run_sync = run_sync
    try:
        yield
    finally:
        module.run_sync = before
