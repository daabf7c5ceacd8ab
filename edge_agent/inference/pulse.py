"""The pulse of the inference side: tells in-lane listeners when to stop showing, twenty times a
second, and what each model saw, once a minute. Never touches a frame.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_agent.inference.seats import Run
from edge_agent.inference.stream import Stream
from edge_agent.ports import Clock, InLaneListener

PULSE_S = 0.05
STATS_S = 60.0
LAST_WORD_S = 1.0


class Told(Protocol):
    """Where the minute's statistics go."""

    def stats(self, run: Run) -> None: ...


class Pulse:
    """`body` runs in a thread of its own; `last_word` is called by whoever stops a stream."""

    def __init__(
        self,
        streams: Callable[[], Sequence[Stream]],
        listeners: Sequence[InLaneListener],
        *,
        clock: Clock,
        told: Told,
        stopping: threading.Event,
        watch: Callable[[int], None] = lambda _: None,
    ) -> None:
        """watch: is told the time at each turn."""
        self._streams = streams
        self._listeners = listeners
        self._clock = clock
        self._told = told
        self._stopping = stopping
        self._watch = watch

    def body(self) -> None:
        next_stats_us = self._clock.boot_us() + round(STATS_S * 1e6)
        while not self._stopping.wait(PULSE_S):
            now_us = self._clock.boot_us()
            for stream in self._streams():
                self._freshen(stream, now_us)
            self._watch(now_us)
            if now_us >= next_stats_us:
                next_stats_us = now_us + round(STATS_S * 1e6)
                self._report_stats()

    def last_word(self, stream: Stream, reason: str) -> None:
        """After it nothing of this stream is shown, whatever a lane still holds."""
        if stream.showing.acquire(timeout=LAST_WORD_S):  # a listener may hang
            try:
                if not stream.dark:
                    stream.dark = True
                    self._blank(stream, reason)
            finally:
                stream.showing.release()

    def _freshen(self, stream: Stream, now_us: int) -> None:
        stream.notice_silence(now_us)
        if not stream.showing.acquire(timeout=PULSE_S):
            return  # its listener hangs in the lane; the others are looked after
        try:
            reason = stream.freshness.blank(now_us, stream.current_signal)
            if reason is not None and not stream.dark:
                self._blank(stream, reason)
        finally:
            stream.showing.release()

    def _blank(self, stream: Stream, reason: str) -> None:
        for listener in self._listeners:
            listener.blank(stream.name, reason)

    def _report_stats(self) -> None:
        for stream in self._streams():
            for run in stream.runs:
                self._told.stats(run)
                run.count.clear()
