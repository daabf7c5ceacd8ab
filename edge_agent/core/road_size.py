"""How large a payload the road takes, learnt from what becomes of those that went.

Brokers bound payloads in two ways, and MQTT 3.1.1 tells of neither: one throws the client out that
publishes more (mosquitto's `max_packet_size`), the other confirms it and drops it without a word
(`message_size_limit`). So: a close while a larger one than any confirmed was on its way, or four
larger ones that nobody acknowledged while smaller ones, sent soon after them, arrived, lower the
limit; a trial seconds later tells whether that was chance. Below it, a trial from time to time
finds the true size, and whether the broker was mended. A road that loses anything at random loses
small ones too, and has to lose the more large ones. Pure: time is an argument, microseconds; sizes
are characters of a payload.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

SECOND_US: Final = 1_000_000
LEAST_CHARS: Final = 400  # a probe of one log, a short record: with less nothing could be said
WINDOW_US: Final = 60 * SECOND_US  # of what came and what did not
MAX_CHARS: Final = 1 << 20
MAX_FATES: Final = 256
MAX_SUSPECTS: Final = 64
TOO_LARGE: Final = 4  # so many of the largest lost, and none of that size arrived
SMALLER: Final = 4  # so many smaller ones arrived meanwhile
CHANCE: Final = 1e-3  # at most, that so many large ones were lost as small ones are
TIMES: Final = 4  # what has arrived, so many times at the most, is the next guess
FIRST_TIMES: Final = 8  # what is refused: there may be nothing else to try it with
CLOSE_ENOUGH: Final = 1.3  # refused over taken: the size is known
TRIAL_US: Final = 20 * SECOND_US  # between two; a trial costs a bundle that goes again
TRIAL_CLOSED_US: Final = 60 * SECOND_US  # where it costs the connection
TRIAL_KNOWN_US: Final = 600 * SECOND_US  # once the size is known: was the broker mended?
CONFIRM_US: Final = 3 * SECOND_US  # the first trial: is it really so?
VERDICT_US: Final = 15 * SECOND_US
BESIDE_US: Final = 5 * SECOND_US  # who was sent so soon after it travelled beside it


class Fate(NamedTuple):
    """What became of one payload."""

    at_us: int
    size: int
    arrived: bool


class Suspect(NamedTuple):
    """Nobody has acknowledged it in time."""

    sent_us: int
    size: int


class Narrow(NamedTuple):
    """takes: the largest that is known to pass, 0: none yet. refuses: the smallest that does not.

    closes: the broker throws us out for it; else it is dropped without a word.
    """

    takes: int
    refuses: int
    closes: bool


class RoadSize:
    """`limit` is what a payload may have now; None while nothing is known to be too much. lowered:
    so many times; what is on its way and larger will not arrive.
    """

    def __init__(self) -> None:
        self.lowered = 0  # so many times
        self._limit: int | None = None
        self._takes = 0  # under this limit
        self._refuses = 0
        self._by_close = False
        self._is_borne_out = False  # something has passed since the limit was set
        self._is_tested = False  # and what is said to be refused was refused once more
        self._fates: deque[Fate] = deque(maxlen=MAX_FATES)
        self._suspects: deque[Suspect] = deque(maxlen=MAX_SUSPECTS)
        self._came_us: deque[int] = deque(maxlen=MAX_FATES)  # when those went that have arrived
        self._trial_us = 0  # the next
        self._tried: Suspect | None = None  # one is on its way

    # ── what follows ──────────────────────────────────────────────────────────────────────────

    def limit(self, now_us: int) -> int | None:
        """In characters of a payload; more than usual while a trial is due."""
        if self._limit is None or self._tried is not None or now_us < self._trial_us:
            return self._limit
        if self._is_known or not self._is_tested:
            return (2 if self._is_tested else FIRST_TIMES) * self._refuses
        return max(self._limit, (self._limit + self._refuses) // 2)

    def narrow(self) -> Narrow | None:
        """What a person has to be told; None: nothing, or nothing sure yet."""
        if self._limit is None or not (self._is_borne_out and self._is_tested):
            return None
        return Narrow(self._takes, self._refuses, self._by_close)

    @property
    def _is_known(self) -> bool:
        return self._limit is not None and self._refuses <= CLOSE_ENOUGH * self._limit

    # ── what is seen ──────────────────────────────────────────────────────────────────────────

    def sent(self, size: int, now_us: int) -> None:
        """A payload goes. Larger than the limit, it is the trial."""
        if self._tried is not None and now_us - self._tried.sent_us >= VERDICT_US:
            self._tried = None  # nobody knows
            self._wait(now_us)
        if self._limit is not None and size > self._limit and self._tried is None:
            self._tried = Suspect(now_us, size)

    def late(self, size: int, sent_us: int, now_us: int) -> None:
        """Nobody acknowledged it in time; whether it is lost, what was sent soon after it tells."""
        one = Suspect(sent_us, size)
        if any(0 < came_us - sent_us <= BESIDE_US for came_us in self._came_us):
            self._lose([one], now_us)
        else:
            self._suspects.append(one)

    def arrived(self, size: int, sent_us: int, now_us: int) -> None:
        """The hot tier has it. What is overdue and was sent before it is lost."""
        self._fates.append(Fate(now_us, size, arrived=True))
        self._came_us.append(sent_us)
        before = [one for one in self._suspects if one.sent_us < sent_us]
        overdue = [one for one in before if sent_us - one.sent_us <= BESIDE_US]
        for one in before:
            self._suspects.remove(one)
        if self._limit is not None:
            self._learn(size, now_us)
        self._lose(overdue, now_us)  # older ones went into another weather

    def closed(self, unconfirmed: int, confirmed: int, now_us: int) -> None:
        """The other side ended the connection; the largest that was on its way to the broker then,
        and the largest that it had confirmed on it. 0: none.
        """
        tried, self._tried = self._tried, None
        self._suspects.clear()
        if unconfirmed <= confirmed:
            return
        if tried is not None and unconfirmed >= tried.size:
            self._by_close = True
            self._refused(tried.size, now_us)
            return
        self._by_close = True
        self._lower(unconfirmed, max(confirmed, self._passes_below(unconfirmed)), now_us)

    # ── what is made of it ────────────────────────────────────────────────────────────────────

    def _lose(self, lost: list[Suspect], now_us: int) -> None:
        for one in lost:
            self._fates.append(Fate(now_us, one.size, arrived=False))
        if self._tried is not None and self._tried in lost:
            self._refused(self._tried.size, now_us)
        while self._fates and now_us - self._fates[0].at_us > WINDOW_US:
            self._fates.popleft()
        if lost:
            self._judge(now_us)

    def _learn(self, size: int, now_us: int) -> None:
        """Something has passed."""
        assert self._limit is not None
        self._is_borne_out = True
        if size >= self._refuses:  # so it was not the size, or the broker was mended
            self._free()
            return
        self._takes = max(self._takes, size)
        if self._tried is not None and size >= self._tried.size:
            self._tried = None
            self._limit = max(self._limit, size)
            self._wait(now_us)

    def _refused(self, size: int, now_us: int) -> None:
        """The trial has failed."""
        self._tried, self._is_tested = None, True
        self._refuses = min(self._refuses, size)
        self._wait(now_us)

    def _judge(self, now_us: int) -> None:
        """Whether the largest of late were lost for their size."""
        passed = max((fate.size for fate in self._fates if fate.arrived), default=0)
        most = self._limit or MAX_CHARS  # beyond it they were trials, and are judged
        large = [fate for fate in self._fates if passed < fate.size <= most]
        if len(large) < TOO_LARGE or not passed:
            return
        small = [f for f in self._fates if f.size <= passed and f.at_us >= large[0].at_us]
        came = sum(fate.arrived for fate in small)
        share = (len(small) - came + 1) / (len(small) + 2)
        if came >= SMALLER and share ** len(large) <= CHANCE:
            self._by_close = False
            self._lower(min(fate.size for fate in large), passed, now_us)

    def _lower(self, refuses: int, passed: int, now_us: int) -> None:
        guess = min(refuses // 2, TIMES * passed) if passed else refuses // 2
        self._limit = max(LEAST_CHARS, guess, passed if passed < refuses else 0)
        self.lowered += 1
        self._refuses, self._takes = refuses, min(passed, refuses - 1)
        self._tried = None
        self._fates.clear()
        self._suspects.clear()
        self._came_us.clear()
        self._trial_us = now_us + CONFIRM_US

    def _free(self) -> None:
        self._limit = self._tried = None
        self._refuses = self._takes = 0
        self._is_borne_out = self._is_tested = False

    def _wait(self, now_us: int) -> None:
        soon_us = TRIAL_CLOSED_US if self._by_close else TRIAL_US
        pause_us = TRIAL_KNOWN_US if self._is_known else soon_us
        self._trial_us = now_us + (pause_us if self._is_tested else CONFIRM_US)

    def _passes_below(self, size: int) -> int:
        return max((f.size for f in self._fates if f.arrived and f.size < size), default=0)
