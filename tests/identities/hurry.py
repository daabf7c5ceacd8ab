"""An event loop whose clock runs several times as fast: seconds of patience pass in a fraction.

Threads and disks do not: to the loop they merely look slow.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Final

SPEED: Final = 8


class _Selector(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(None if timeout is None else timeout / SPEED)


class HurryLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(_Selector())

    def time(self) -> float:
        return super().time() * SPEED


class HurryClock:
    """`ports.Clock` beside it."""

    def boot_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * SPEED // 1000

    def utc_offset_us(self) -> tuple[int | None, int | None]:
        return None, None

    def sleep_us(self, duration_us: int) -> None:
        time.sleep(duration_us / 1e6 / SPEED)
