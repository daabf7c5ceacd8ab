"""What the agent remembers of one stream: freshness, rates, losses, followers, its state."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

import anyio

from edge_agent.core.account import Totals
from edge_agent.core.frames import DROPS, Result, Signal
from edge_agent.core.freshness import STALE_AFTER_US, Freshness, Observation, stream_state
from edge_agent.core.loss import LossWatch
from edge_agent.core.ring import Word
from edge_agent.core.window import Rate, Window

RECENT = 64  # results kept to find the one that belongs to a frame
NOTHING = Totals(dropped={why.value: 0 for why in DROPS})


class Books(Protocol):
    """What the engine knows of a stream."""

    def totals(self) -> Totals: ...

    def signal(self) -> Signal: ...

    def word(self, word: Word) -> int: ...


class EngineState(Protocol):
    """What the engine says of itself. has_failed: it is down, and nobody asked for that. starts:
    rises with each side.
    """

    is_up: bool
    has_failed: bool
    starts: int

    def still_s(self) -> float: ...


class StreamTerms(NamedTuple):
    """What is expected of a stream. fps: as configured, None where the source decides.

    expect_us: the longest silence of a watched folder, 0: any. start_limit_us: of `starting`.
    """

    max_age_us: int
    fps: float | None = None
    expect_us: int = 0
    start_limit_us: int = 60_000_000


class Follower:
    """One client of one stream: the latest only, older ones are replaced unseen."""

    def __init__(self) -> None:
        self._latest: bytes | None = None
        self._news = anyio.Event()

    def tell(self, line: bytes) -> None:
        self._latest = line
        self._news.set()

    async def lines(self) -> AsyncIterator[bytes]:
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            line, self._latest = self._latest, None
            if line is not None:
                yield line


class Channel:
    """state: the name of a signal, `stale` or `idle`, as of the last `look`."""

    def __init__(self, terms: StreamTerms) -> None:
        self.terms = terms
        self.freshness = Freshness(terms.max_age_us)
        self.latency_us = Window()
        self.added_us = Window()
        self.rate_in = Rate()
        self.rate_out = Rate()
        self.loss = LossWatch()
        self.newest: Result | None = None
        self.recent: deque[Result] = deque(maxlen=RECENT)
        self.followers: set[Follower] = set()
        self.reason: str | None = None  # why nothing is shown now
        self.state = Signal.STARTING.value
        self.is_watched = False  # its source is a folder in which files turn up
        self._reading_us: int | None = None  # since when there is a picture
        self._starting_us: int | None = None
        self._begun_us: int | None = None
        self.expect(terms)

    def expect(self, terms: StreamTerms) -> None:
        """It was ordered anew; what it remembers is kept."""
        self.terms = terms
        self.freshness.max_age_us = terms.max_age_us
        self.loss.fps = terms.fps

    def tell(self, line: bytes) -> None:
        for follower in self.followers:
            follower.tell(line)

    def look(self, books: Books | None, signal: Signal, engine: EngineState, now_us: int) -> str:
        """Its state now. Called ten times a second."""
        self.reason = self.freshness.reason(now_us, signal, engine_up=engine.is_up)
        since = self._reading_us if self._reading_us is not None else now_us
        self._reading_us = since if signal is Signal.OK and engine.is_up else None
        starting = self._starting_us if self._starting_us is not None else now_us
        self._starting_us = starting if signal is Signal.STARTING else None
        self._begun_us = self._begun_us if self._begun_us is not None else now_us
        last_us = (books.word(Word.LAST_FRAME_US) if books else 0) or self._begun_us
        quiet_us, age_us = max(0, now_us - last_us), self.freshness.age_us(now_us)
        self.state = stream_state(
            Observation(
                signal,
                engine_up=engine.is_up,
                engine_failed=engine.has_failed,
                has_result=self._is_young(now_us),
                stale_us=self._stale_us(now_us),
                starting_us=0 if self._starting_us is None else now_us - self._starting_us,
                start_limit_us=self.terms.start_limit_us,
                watched=self.is_watched,
                quiet_us=quiet_us,
                expect_us=self.terms.expect_us,
                answered=age_us is not None and age_us - quiet_us < STALE_AFTER_US,
            )
        )
        return self.state

    def _is_young(self, now_us: int) -> bool:
        """Its newest result is not from before the picture was gone."""
        age_us = self.freshness.age_us(now_us)
        return age_us is not None and age_us - self.terms.max_age_us < STALE_AFTER_US

    def _stale_us(self, now_us: int) -> int:
        """For how long there is a picture and no result of it that is fresh."""
        if self._reading_us is None:
            return 0
        age_us = self.freshness.age_us(now_us)
        reading_us = now_us - self._reading_us
        return reading_us if age_us is None else min(reading_us, age_us - self.terms.max_age_us)
