"""How fast the uplink may speak, so that live results never queue behind the backlog.

EdgeCore forwards 30 messages a second for the whole node, first come first served, and whatever is
handed to it waits there. So: few publishes, all logs in one; alarms have a little extra; the
backlog gets bytes a second, less in one publish where the road is slow, and half as much whenever
the round trips of probes say that something queues: two in a row, for a queue delays them all, and
one that is late by itself was late by chance. When next to no backlog is left to blame, what they
take then is what they take: so a machine that is only busy does not hold it back for ever. Pure:
time is an argument, microseconds.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

SECOND_US: Final = 1_000_000
MIN_SPACING_US: Final = 50_000
BURST_US: Final = 15_000  # how long one publish may keep the road busy
QUEUEING_US: Final = 25_000  # so much over the least round trip, or as much again, means a queue
QUEUEING_TIMES: Final = 2  # in a row
OUTAGE_US: Final = 2_000_000  # one so long was no queue: the road was cut under it
WAITED_US: Final = 30_000_000  # one so long lay somewhere until the road was there again
LEAST_SHARE: Final = 1 / 64
BLAMELESS_SHARE: Final = 1 / 32  # with so little, it is not the backlog that queues
LEAST_BYTES: Final = 2_000  # of backlog in a publish, on the slowest road
LEAST_BATCH_BYTES: Final = 8_000  # smaller ones compress worse
FIRST_RATE: Final = 1_000_000.0  # bytes a second, until one was measured
TELLING_BYTES: Final = 2_000  # smaller publishes say nothing of the rate
MINIMUM_HELD_US: Final = 30 * SECOND_US  # the least round trip is of the last 30 to 60 s


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the uplink never exceeds. Bytes are those of payloads, armour included."""

    publishes_per_s: float = 20.0
    alarms_per_s: int = 5  # extra
    backfill_bytes_per_s: int = 256_000
    backfill_publish_bytes: int = 64_000
    inflight_bundles: int = 40
    inflight_backfill_bytes: int = 256 << 10


class Governor:
    """Slots for publishes, room for backlog, round trips."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._spacing_us = max(MIN_SPACING_US, round(SECOND_US / limits.publishes_per_s))
        self._last_us = -(1 << 62)
        self._alarms_us: deque[int] = deque(maxlen=limits.alarms_per_s)
        self._tokens = float(limits.backfill_publish_bytes)
        self._refilled_us: int | None = None
        self._rate = FIRST_RATE
        self._share = 1.0
        self._least_us: tuple[int | None, int | None] = (None, None)  # earlier half, this half
        self._half_us = 0
        self._late = 0  # round trips, in a row
        self.round_trip_us = 0  # smoothed; 0 while unknown

    # ── slots ─────────────────────────────────────────────────────────────────────────────────

    def slot_us(self) -> int:
        """From when on the next publish may go."""
        return self._last_us + self._spacing_us

    def alarm_slot_us(self) -> int:
        """From when on one with nothing but alarms may."""
        full = len(self._alarms_us) == self._alarms_us.maxlen
        extra = self._alarms_us[0] + SECOND_US if full else -(1 << 62)
        return min(self.slot_us(), extra)

    def took_slot(self, now_us: int) -> None:
        """A publish goes now, in the ordinary slot when that is free, else as an alarm's."""
        if now_us >= self.slot_us():
            self._last_us = now_us
        else:
            self._alarms_us.append(now_us)

    # ── bytes of backlog ──────────────────────────────────────────────────────────────────────

    def publish_bytes(self) -> int:
        """The most backlog in one publish."""
        measured = self._rate * BURST_US / SECOND_US
        most = min(float(self._limits.backfill_publish_bytes), max(LEAST_BYTES, measured))
        return max(1, int(most * self._share))

    def batch_bytes(self) -> int:
        """What to pack at once: about what one slot may carry, so that neither side is held up by
        much of it at a time.
        """
        steady = self._bytes_per_s() * self._spacing_us / SECOND_US
        return min(self.publish_bytes(), max(LEAST_BATCH_BYTES, int(steady)))

    def room_bytes(self, now_us: int) -> int:
        """For backlog in a publish now; 0 or less: none."""
        self._refill(now_us)
        return 0 if self._tokens <= 0 else self.publish_bytes()

    def room_us(self, now_us: int) -> int:
        """From when on there is room."""
        self._refill(now_us)
        if self._tokens > 0:
            return now_us
        return now_us + 1 + int(-self._tokens / self._bytes_per_s() * SECOND_US)

    def spent(self, size: int) -> None:
        """So many bytes of backlog went; a publish may leave a debt, which is waited for."""
        self._tokens -= size

    def _refill(self, now_us: int) -> None:
        if self._refilled_us is not None:
            gained = (now_us - self._refilled_us) * self._bytes_per_s() / SECOND_US
            # no savings: a second's bytes are a second's bytes, whatever came before
            most = self._bytes_per_s() * self._spacing_us / SECOND_US
            self._tokens = min(most, self._tokens + gained)
        self._refilled_us = now_us

    def _bytes_per_s(self) -> float:
        return self._limits.backfill_bytes_per_s * self._share

    # ── what the road says ────────────────────────────────────────────────────────────────────

    def wrote(self, size: int, took_us: int) -> None:
        """A publish of `size` bytes was taken by the first hop in so long."""
        if size >= TELLING_BYTES:
            sample = size * SECOND_US / max(took_us, 100)
            self._rate += (sample - self._rate) / 4

    def answered(self, now_us: int, round_trip_us: int) -> None:
        """A probe came back."""
        if round_trip_us >= WAITED_US:
            return
        smoothed = self.round_trip_us or round_trip_us
        self.round_trip_us = smoothed + (round_trip_us - smoothed) // 4
        if round_trip_us >= OUTAGE_US:
            return
        least_us = self._least(now_us, round_trip_us)
        late = round_trip_us > least_us + max(QUEUEING_US, least_us)
        self._late = self._late + 1 if late else 0
        if self._late >= QUEUEING_TIMES:
            self._share = max(LEAST_SHARE, self._share / 2)
            if self._share <= BLAMELESS_SHARE:
                self._least_us = (None, None)
        elif not late:
            self._share = min(1.0, self._share * 1.5)

    def _least(self, now_us: int, round_trip_us: int) -> int:
        earlier, this = self._least_us
        if now_us - self._half_us >= MINIMUM_HELD_US:
            earlier, this, self._half_us = this, None, now_us
        this = round_trip_us if this is None else min(this, round_trip_us)
        self._least_us = (earlier, this)
        return this if earlier is None else min(earlier, this)
