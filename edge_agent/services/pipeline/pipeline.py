"""From the inference side's results to spool and followers; the books, rates and alarms of streams.

Never waits for a disk or a follower: the spool's `append` only hands over, a follower that is slow
sees the latest. What is stale, frozen or lost is told as a blank, never shown as fresh.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager

import anyio
import msgspec

from edge_agent.core.account import Totals
from edge_agent.core.alarms import (
    ENGINE_DOWN,
    ENGINE_STILL,
    FOLDER_QUIET,
    OF_STATE,
    AlarmBook,
    Change,
    Meaning,
)
from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import (
    Alarm,
    AnyRecord,
    ClockMap,
    ModelStats,
    Record,
    Result,
    Signal,
    Tally,
    to_json,
)
from edge_agent.core.freshness import STALE
from edge_agent.core.ring import Word
from edge_agent.ports import Clock, Spool
from edge_agent.services.pipeline.channel import (
    NOTHING,
    Books,
    Channel,
    EngineState,
    Follower,
    StreamTerms,
)

TICK_S = 0.1
TALLY_EVERY_TICKS = 10
READING = (Signal.OK, Signal.FROZEN, Signal.BLACK)
STILL_S = 1.5  # lanes turn four times a second
CLOCK_STEP_US = 100_000  # a jump of the wall clock that is worth a record


class Scribe:
    """Writes records: each gets its id from the spool, then everyone who listens hears of it."""

    def __init__(self, *, node: str, boot: str, clock: Clock, spool: Spool) -> None:
        self._node = node
        self._boot = boot
        self._clock = clock
        self._spool = spool
        self._listeners: list[Callable[[Record], None]] = []
        self._offset_us: int | None = None

    def listen(self, then: Callable[[Record], None]) -> None:
        """`then` is called with every record, after it got its id, on the loop; must not wait."""
        self._listeners.append(then)

    def append(self, record: Record) -> Record:
        stamped = self._spool.append(record)
        for then in self._listeners:
            then(stamped)
        return stamped

    def model_stats(self, words: Mapping[str, object]) -> None:
        """The minute's statistics of a model, as the inference side said them."""
        fields = {k: v for k, v in words.items() if k != "event"}
        made = {"node": self._node, "boot": self._boot, "at_us": self._clock.boot_us()}
        self.append(msgspec.convert({**fields, "kind": "model_stats", **made}, ModelStats))

    def alarm(self, change: Change) -> None:
        meaning = change.meaning
        self.append(
            Alarm(
                node=self._node,
                boot=self._boot,
                at_us=self._clock.boot_us(),
                stream=change.stream,
                code=meaning.code,
                state=change.state,
                severity=meaning.severity,
                since_us=change.since_us,
                what=meaning.what,
                fix=meaning.fix,
            )
        )

    def tally(self, stream: str, state: str, totals: Totals) -> None:
        self.append(
            Tally(
                node=self._node,
                boot=self._boot,
                at_us=self._clock.boot_us(),
                stream=stream,
                state=state,
                captured=totals.captured,
                inferred=totals.inferred,
                dropped=totals.dropped,
                frozen=totals.frozen,
            )
        )

    def map_clock(self) -> None:
        """A record at first, and whenever the wall clock has jumped."""
        offset_us, error_us = self._clock.utc_offset_us()
        known, old = offset_us is not None, self._offset_us
        if known and old is not None and abs((offset_us or 0) - old) < CLOCK_STEP_US:
            return
        if not known and old is None:
            return
        self._offset_us = offset_us
        self.append(
            ClockMap(
                node=self._node,
                boot=self._boot,
                at_us=self._clock.boot_us(),
                stream="",
                utc_offset_us=offset_us,
                utc_error_us=error_us,
                synchronised=error_us is not None,
            )
        )


class Pipeline:
    """`on_record` is called by the engine for each record, on the loop."""

    def __init__(
        self,
        *,
        clock: Clock,
        scribe: Scribe,
        books: Mapping[str, Books],
        engine: EngineState,
        is_stuck: Callable[[str], bool],
        is_back: Callable[[str], None] = lambda _: None,
        observe: Callable[[Result, int], None],
        max_followers: int = 32,
    ) -> None:
        self._clock = clock
        self.scribe = scribe
        self._books = books
        self._engine = engine
        self._is_stuck = is_stuck  # a stream that was never ordered, because it can't start
        self._is_back = is_back  # of each stream with a picture, ten times a second
        self._observe = observe
        self._max_followers = max_followers
        self._starts = 0
        self.channels: dict[str, Channel] = {}
        self.alarms = AlarmBook()

    def configure(self, terms: Mapping[str, StreamTerms]) -> None:
        """The streams there are; the memory of those that stay is kept."""
        now_us = self._clock.boot_us()
        for name in set(self.channels) - set(terms):
            self.channels.pop(name).tell(blank_line(name, "stream removed"))
            self._alarm(name, None, now_us)
        for name, expected in terms.items():
            self.channels.setdefault(name, Channel(expected)).expect(expected)

    # ── records ───────────────────────────────────────────────────────────────────────────────

    def on_record(self, record: AnyRecord, primary: bool) -> None:
        """A record of the inference side."""
        now_us = self._clock.boot_us()
        stamped = self.scribe.append(record)
        channel = self.channels.get(record.stream)
        if channel is None or not isinstance(stamped, Result):
            return
        if primary:
            took_us = now_us - stamped.captured_us
            channel.newest = stamped
            channel.recent.append(stamped)
            channel.latency_us.add(took_us)
            channel.added_us.add(took_us - stamped.infer_us)
            self._observe(stamped, now_us)
            if "low_quality" not in stamped.flags:
                channel.freshness.result(stamped.captured_us)
        if channel.followers and self._may_show(channel, stamped, now_us):
            channel.tell(to_json(stamped))

    def _may_show(self, channel: Channel, result: Result, now_us: int) -> bool:
        """Asked of each result by itself: a second model's may be stale beside a fresh one."""
        if "low_quality" in result.flags:
            return False
        signal = self._signal(result.stream)
        return channel.freshness.may_show(
            result.captured_us, now_us, signal, engine_up=self._engine.is_up
        )

    # ── time ──────────────────────────────────────────────────────────────────────────────────

    async def run(self, ready: Callable[[], None]) -> None:
        """Staleness ten times a second, tallies and rates once."""
        ready()
        ticks = 0
        while True:
            now_us = self._clock.boot_us()
            for name, channel in self.channels.items():
                self._tick(name, channel, now_us)
            if ticks % TALLY_EVERY_TICKS == 0:
                self.tally()
            ticks += 1
            await anyio.sleep(TICK_S)

    def _tick(self, name: str, channel: Channel, now_us: int) -> None:
        signal, up = self._signal(name), self._engine.is_up
        state = channel.look(self._books.get(name), signal, self._engine, now_us)
        if signal in READING and up:
            self._is_back(name)
        news = channel.freshness.blank(now_us, signal, engine_up=up)
        if news is not None:
            channel.tell(blank_line(name, news))
        if up or signal is Signal.FAILED:
            self._alarm(name, self._meaning(name, state), now_us)
        elif self._engine.has_failed:  # not while it starts, nor when it was told to stop
            self._alarm(name, ENGINE_DOWN, now_us)

    def _meaning(self, name: str, state: str) -> Meaning | None:
        if state == Signal.NO_SIGNAL.value and self._has_ended(name):
            return None
        if state == Signal.NO_SIGNAL.value and self.channels[name].is_watched:
            return FOLDER_QUIET
        if state == STALE and self._engine.still_s() >= STILL_S:
            return ENGINE_STILL
        return OF_STATE.get(state)

    def _alarm(self, name: str, meaning: Meaning | None, now_us: int) -> None:
        for change in self.alarms.update(name, meaning, now_us):
            self.scribe.alarm(change)

    def tally(self) -> None:
        """One record per stream that explains silence, and the rates."""
        now_us = self._clock.boot_us()
        starts, self._starts = self._starts, self._engine.starts
        is_new = starts != self._starts  # it may have died and come back since the last look
        for name, channel in self.channels.items():
            books = self._books.get(name)
            totals = books.totals() if books else NOTHING
            channel.rate_in.add(now_us, totals.captured)
            channel.rate_out.add(now_us, totals.inferred)
            is_gone = is_new or not self._engine.is_up or self._signal(name) is not Signal.OK
            is_reading = not is_gone and self._engine.still_s() < STILL_S
            channel.loss.look(now_us, totals, is_reading=is_reading, is_gone=is_gone)
            self.scribe.tally(name, channel.state, totals)
        self.scribe.map_clock()

    def _signal(self, name: str) -> Signal:
        books = self._books.get(name)
        signal = Signal.STARTING if books is None else books.signal()
        return Signal.FAILED if signal is Signal.STARTING and self._is_stuck(name) else signal

    def state(self, name: str) -> str:
        """Of a stream that there is: the name of a signal, `stale` or `idle`."""
        channel, now_us = self.channels[name], self._clock.boot_us()
        return channel.look(self._books.get(name), self._signal(name), self._engine, now_us)

    def watched(self, name: str, *, is_folder: bool) -> None:
        """What a source said of itself: a folder in which files turn up."""
        if name in self.channels:
            self.channels[name].is_watched = is_folder

    def _has_ended(self, name: str) -> bool:
        """A recording that came to its end as it should is nothing to repair."""
        books = self._books.get(name)
        return books is not None and bool(books.word(Word.ENDED))

    def _reason(self, name: str, channel: Channel, now_us: int) -> str | None:
        return channel.freshness.reason(now_us, self._signal(name), engine_up=self._engine.is_up)

    # ── followers ─────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def follow(self, stream: str) -> Iterator[AsyncIterator[bytes]]:
        """JSON lines of the latest results and blanks of one stream.

        Raises: KeyError for a stream that is not there, Overloaded when too many follow.
        """
        channel = self.channels[stream]
        if sum(len(c.followers) for c in self.channels.values()) >= self._max_followers:
            raise Overloaded(
                f"follow {stream}: {self._max_followers} followers already",
                hint="close another one, or raise console.max_followers",
            )
        follower = Follower()
        channel.followers.add(follower)
        reason = self._reason(stream, channel, self._clock.boot_us())
        if reason is not None:
            follower.tell(blank_line(stream, reason))
        try:
            yield follower.lines()
        finally:
            channel.followers.discard(follower)


def blank_line(stream: str, reason: str) -> bytes:
    """Tells a follower to stop showing."""
    return msgspec.json.encode({"stream": stream, "blank": reason})
