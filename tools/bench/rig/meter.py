"""Shared memory into which the inference side writes what each frame cost; read by the bench.

One row per result, written by the in-lane listener: what a raw loop would spend too (fill and run)
stands beside the moment at which the listener was called.
"""

from __future__ import annotations

import itertools
import mmap
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.frames import Arrays, Frame, Result
from edge_agent.core.manifest import Manifest
from edge_agent.ports import Backend, Bound, Session

ROWS = 1 << 16
FIELDS = ("stream", "frame", "captured_us", "model_us", "model_cpu_us", "shown_us")
HEAD_BYTES = 4096
BYTES = HEAD_BYTES + ROWS * len(FIELDS) * 8

Rows = NDArray[np.float64]


class Meter:
    """Both ends. `is_open` is the gate of the cameras."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, BYTES)
        self._words = memoryview(self._map)[: 16 * 8].cast("Q")
        self._rows = np.frombuffer(self._map, np.float64, ROWS * len(FIELDS), HEAD_BYTES)
        self._rows = self._rows.reshape(ROWS, len(FIELDS))
        self._next = itertools.count(self._words[0])
        self.last = threading.local()  # of this lane: model_us and model_cpu_us of its last run

    @property
    def is_open(self) -> bool:
        return bool(self._words[1])

    def gate(self, *, is_open: bool) -> None:
        self._words[1] = is_open

    @property
    def head(self) -> int:
        return int(self._words[0])

    def since(self, head: int) -> Rows:
        """[N, 6] a copy of the rows that came after `head`, in the order of `FIELDS`."""
        numbers = np.arange(max(head, self.head - ROWS), self.head)
        rows: Rows = self._rows[numbers % ROWS].copy()
        return rows

    def write(self, *numbers: float) -> None:
        row = next(self._next)  # several lanes write; each its own row
        self._rows[row % ROWS] = numbers
        self._words[0] = row + 1


def create() -> int:
    """The descriptor of a fresh meter."""
    fd = os.memfd_create("bench-meter", 0)
    os.ftruncate(fd, BYTES)
    return fd


_current: list[Meter] = []


def install(meter: Meter) -> None:
    """The listener of this process writes there from now on."""
    _current[:] = [meter]


class InLane:
    """The in-lane listener. Streams are named s0, s1, …"""

    def __init__(self) -> None:
        self._meter = _current[0]

    def result(self, result: Result, arrays: Arrays) -> None:
        del arrays
        shown_us = time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1000
        last = self._meter.last
        self._meter.write(
            int(result.stream[1:]), result.frame, result.captured_us,
            last.model_us, last.model_cpu_us, shown_us,
        )  # fmt: skip

    def blank(self, stream: str, reason: str) -> None:
        del stream, reason


class Metered:
    """A backend with a meter around what a raw loop does as well: fill and run."""

    name = "onnx"

    def __init__(self, backend: Backend, meter: Meter) -> None:
        self._backend = backend
        self._meter = meter

    def load(
        self, folder: Path, manifest: Manifest, sha: str = "", *, file: Path | None = None
    ) -> Session:
        return MeteredSession(self._backend.load(folder, manifest, sha, file=file), self._meter)

    def prepare(
        self, folder: Path, manifest: Manifest, sha: str, *, file: Path | None = None
    ) -> Path | None:
        return self._backend.prepare(folder, manifest, sha, file=file)

    def runtime(self) -> str:
        return self._backend.runtime()


class MeteredSession:
    def __init__(self, session: Session, meter: Meter) -> None:
        self._session = session
        self._meter = meter
        self.backend = session.backend
        self.variant = session.variant
        self.is_prepared = session.is_prepared

    def bind(self) -> Bound:
        return MeteredBound(self._session.bind(), self._meter)

    def close(self) -> None:
        self._session.close()


class MeteredBound:
    def __init__(self, bound: Bound, meter: Meter) -> None:
        self._bound = bound
        self._last = meter.last
        self._filled = (0, 0)  # ns of wall and CPU time that the fill took

    def fill(self, frame: Frame, roi: tuple[int, int, int, int]) -> None:
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        self._bound.fill(frame, roi)
        self._filled = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu

    def run(self) -> Mapping[str, NDArray[Any]]:
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        outputs = self._bound.run()
        wall, cpu = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
        self._last.model_us = (self._filled[0] + wall) / 1000
        self._last.model_cpu_us = (self._filled[1] + cpu) / 1000
        return outputs

    @property
    def input_pixels(self) -> NDArray[np.uint8]:
        return self._bound.input_pixels

    def reset_state(self) -> None:
        self._bound.reset_state()

    def cancel(self) -> None:
        self._bound.cancel()
