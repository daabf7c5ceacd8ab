"""A clock in the test's hand, and what tests of recorded sources share."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.core.errors import BadFrame, SourceEnded
from edge_agent.core.frames import Frame
from edge_agent.ports import FrameSource

KEY = b"a key for tests, 32 bytes long.."


class HandClock:
    """A clock that only moves when someone sleeps or the test says so."""

    def __init__(self) -> None:
        self.now_us = 5_000_000

    def boot_us(self) -> int:
        return self.now_us

    def utc_offset_us(self) -> tuple[int | None, int | None]:
        return None, None

    def sleep_us(self, duration_us: int) -> None:
        self.now_us += max(duration_us, 0)


def taken(source: FrameSource, count: int, *, timeout_s: float = 1.0) -> list[Frame]:
    """The next frames; a read that times out is a failure."""
    frames = [source.read(timeout_s) for _ in range(count)]
    assert None not in frames
    return [frame for frame in frames if frame is not None]


def told(source: FrameSource, *, reads: int = 200, timeout_s: float = 0.2) -> Iterator[Frame | str]:
    """Frames, and the words of bad ones, up to the end or so many reads."""
    for _ in range(reads):
        try:
            frame = source.read(timeout_s)
        except BadFrame as bad:
            yield str(bad)
            continue
        except SourceEnded:
            return
        if frame is not None:
            yield frame
