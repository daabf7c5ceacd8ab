"""When may a result be shown? Never when stale, frozen, lost, or when the engine is down.

What a stream is called in the status follows from the same facts (`stream_state`).

One of these stands in the lane (time-critical listeners) and one in the agent (page, CLI); both
ask the same question with their own `now`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from edge_agent.core.frames import Signal

STALE: Final = "stale"  # frames come, or should, and no result is fresh
IDLE: Final = "idle"  # a watched folder in which nothing new has turned up
STALE_AFTER_US: Final = 1_000_000  # a slow source has a moment without a fresh result by nature

BLANKING = {
    Signal.NO_SIGNAL: "no signal",
    Signal.FROZEN: "frozen picture",
    Signal.BLACK: "black picture",
    Signal.REOPENING: "source lost",
    Signal.PAUSED: "paused",
    Signal.FAILED: "stream failed",
    Signal.STARTING: "starting",
}


class Freshness:
    """Says when a blank is due, once per spell: `blank` returns a reason only when it is news."""

    def __init__(self, max_age_us: int) -> None:
        self.max_age_us = max_age_us
        self._captured_us: int | None = None
        self._shown_reason: str | None = None

    def result(self, captured_us: int) -> None:
        """A result of a frame captured then is at hand."""
        self._captured_us = captured_us

    def may_show(
        self, captured_us: int, now_us: int, signal: Signal, *, engine_up: bool = True
    ) -> bool:
        """Whether a result of a frame captured then may go to listeners now.

        True re-arms the blank: whatever reason was told before is told again when it comes again.
        """
        if not engine_up or signal in BLANKING or now_us - captured_us > self.max_age_us:
            return False
        self._shown_reason = None
        return True

    def age_us(self, now_us: int) -> int | None:
        """None when there never was a result."""
        return None if self._captured_us is None else max(0, now_us - self._captured_us)

    def reason(self, now_us: int, signal: Signal, *, engine_up: bool = True) -> str | None:
        """Why nothing may be shown now; None: the newest result is fresh."""
        if not engine_up:
            return "engine down"
        if signal in BLANKING:
            return BLANKING[signal]
        age_us = self.age_us(now_us)
        if age_us is None:
            return "no result yet"
        return "stale" if age_us > self.max_age_us else None

    def blank(self, now_us: int, signal: Signal, *, engine_up: bool = True) -> str | None:
        """The reason, if listeners have not been told of it yet; a fresh result re-arms it."""
        reason = self.reason(now_us, signal, engine_up=engine_up)
        news = reason if reason != self._shown_reason else None
        self._shown_reason = reason
        return news


class Observation(NamedTuple):
    """What is known of a stream at one moment.

    has_result: one that is fresh, or was a moment ago. stale_us: a picture is there, and no fresh
    result for so long. starting_us: STARTING for so long. quiet_us: since its newest frame, or
    since it began. expect_us: a watched folder's longest silence, 0: any. watched: the source is
    such a folder. answered: the newest result is of its newest frames, so nothing is owed.
    """

    signal: Signal
    engine_up: bool = True
    engine_failed: bool = False
    has_result: bool = True
    stale_us: int = 0
    starting_us: int = 0
    start_limit_us: int = 60_000_000
    watched: bool = False
    quiet_us: int = 0
    expect_us: int = 0
    answered: bool = False


def stream_state(sight: Observation) -> str:
    """A signal's name, `stale` or `idle`. Never `ok` without a fresh result for a second."""
    signal = sight.signal
    if not sight.engine_up and signal is not Signal.FAILED:
        return STALE if sight.engine_failed else Signal.STARTING.value
    if signal is Signal.STARTING and sight.starting_us >= sight.start_limit_us:
        return Signal.NO_SIGNAL.value
    has_shown_all = signal is Signal.OK and sight.answered and sight.stale_us >= STALE_AFTER_US
    if sight.watched and (signal is Signal.NO_SIGNAL or has_shown_all):
        is_late = 0 < sight.expect_us <= sight.quiet_us
        return Signal.NO_SIGNAL.value if is_late else IDLE
    if signal is not Signal.OK or sight.stale_us < STALE_AFTER_US:
        return signal.value if sight.has_result or signal is not Signal.OK else "starting"
    return STALE
