"""Whether the packets of a live stream come late, though each looks new when it is read.

What waits in a camera, on the road or in the kernel has no mark of its age. Two things tell: a
reader that never has to wait has a queue before it that does not end, and after a silence the next
packet in line is as old as the silence was long. Pure: times are arguments.
"""

from __future__ import annotations

from collections import deque

WAIT_US = 500  # so long a reader waits at least when there is nothing yet
QUEUE_US = 2_000_000  # without a wait for so long: more comes than can be decoded
SILENCE_US = 1_000_000
UNUSUAL, USUAL = 4, 16  # times the longest of so many gaps before it, and it is a silence
NEXT_US = 500_000  # a stamp so little further on is that of the next picture


class Lateness:
    """has_stamps: the stamps are the sender's own, not made up from a rate."""

    def __init__(self, start_us: int, *, has_stamps: bool) -> None:
        self._has_stamps = has_stamps
        self._waited_us = start_us  # when a read last had to wait
        self._before: tuple[int, int | None] | None = None  # came, stamp
        self._gaps_us: deque[int] = deque(maxlen=USUAL)

    def packet(self, asked_us: int, came_us: int, stamp_us: int | None) -> str:
        """Why what comes is old, in words; "": it is not known to be.

        asked_us, came_us: when it was asked for and when it was there. stamp_us: in the order of
        decoding.
        """
        if came_us - asked_us >= WAIT_US:
            self._waited_us = came_us
        before, self._before = self._before, (came_us, stamp_us)
        if came_us - self._waited_us > QUEUE_US:
            return "more of it comes than can be decoded here"
        if before is None:
            return ""
        gap_us = came_us - before[0]
        usual_us = max(self._gaps_us) if len(self._gaps_us) == USUAL else gap_us
        self._gaps_us.append(gap_us)
        if not self._has_stamps or stamp_us is None or before[1] is None:
            return ""
        is_silence = gap_us >= SILENCE_US and gap_us > UNUSUAL * usual_us
        if is_silence and 0 <= stamp_us - before[1] <= NEXT_US:
            return f"what follows a silence of {gap_us / 1e6:.1f} s is as old as that"
        return ""
