"""A camera whose frames were drawn beforehand: it costs a wake-up per frame and nothing else.

Absolute ticks; missed ones are lost, as with a device. Frames come while the gate is open.
"""

from __future__ import annotations

import threading
from functools import cache

from edge_agent.config.structs import PhantomSource
from edge_agent.core.frames import Frame, Pixels
from edge_agent.host import SystemClock
from edge_agent.ports import Clock, SourceFacts
from edge_agent.sources.phantom import PhantomFrames
from tools.bench.rig.meter import Meter

BANK = 24  # frames that differ: none of them looks frozen
GATE_US = 1000

_drawing = threading.Lock()


@cache
def _bank(config: PhantomSource) -> tuple[Pixels, ...]:
    source = PhantomFrames(config, SystemClock())
    source.open()
    frames = [source.read(1.0) for _ in range(BANK)]
    source.close()
    return tuple(frame.pixels for frame in frames if frame is not None)


def bank(scene: PhantomSource) -> tuple[Pixels, ...]:
    """The frames of that scene, drawn once per process."""
    with _drawing:
        return _bank(PhantomSource(scene=scene.scene, size=scene.size, pace="fast"))


class Camera:
    """A `FrameSource`."""

    def __init__(self, config: PhantomSource, clock: Clock, meter: Meter) -> None:
        self._fps = config.fps or 60.0
        self._size = config.size
        self._clock = clock
        self._meter = meter
        self._frames = bank(config)
        self._start_us = 0
        self._tick = 0
        self._number = 0

    def open(self) -> SourceFacts:
        self._start_us = 0
        return SourceFacts(where="bench", expected_fps=self._fps, size=self._size)

    def read(self, timeout_s: float) -> Frame | None:
        clock = self._clock
        if not self._meter.is_open:
            self._start_us = 0
            clock.sleep_us(GATE_US)
            return None
        now_us = clock.boot_us()
        if not self._start_us:
            self._start_us, self._tick = now_us, 0
        due_us = self._start_us + round(self._tick * 1e6 / self._fps)
        if due_us - now_us > timeout_s * 1e6:
            clock.sleep_us(round(timeout_s * 1e6))
            return None
        clock.sleep_us(due_us - now_us)
        captured_us = clock.boot_us()
        self._tick = max(self._tick, int((captured_us - self._start_us) * self._fps / 1e6)) + 1
        self._number += 1
        pixels = self._frames[self._number % len(self._frames)]
        return Frame(number=self._number, captured_us=captured_us, pixels=pixels)

    def close(self) -> None:
        self._start_us = 0
