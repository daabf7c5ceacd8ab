"""How long to wait before the next probe while nobody answers.

EdgeCore keeps what is published while its link is down and sends it first when the link is back,
30 messages a second: each unanswered probe of an outage delays the first live result after it. So
the pauses double from a second to five minutes and a little; ten hours cost at most 128 probes, and
5 more where the broker comes and goes. Pure: time is an argument in microseconds, chance a number
in [0, 1).
"""

from __future__ import annotations

from typing import Final

FIRST_US: Final = 1_000_000
LONGEST_US: Final = 300_000_000
JITTER: Final = 0.1  # of a pause it may be longer, so that a fleet does not ask at once
SILENT_PROBES: Final = 4  # so many without an answer, over 6 s or over as many connections
SIGN_US: Final = 60_000_000  # one sign in so long is believed: it proves nothing of the way up
SIGN_TIMES: Final = 4  # the pause to the next that is, while nothing is answered
RECONNECT_US: Final = 7_200_000_000  # one new connection in so long is worth a question at once
NEVER_US: Final = -(1 << 62)


class ProbeBackoff:
    """unanswered: probes since the last answer. It outlives connections: a broker that comes and
    goes says nothing of the cloud.
    """

    def __init__(self) -> None:
        self.unanswered = self._step = 0
        self._signed_us, self._sign_pause_us = NEVER_US, SIGN_US
        self._reconnected_us = NEVER_US

    @property
    def is_silent(self) -> bool:
        return self.unanswered >= SILENT_PROBES

    def asked(self, chance: float, usual_us: int) -> int:
        """The pause after one more probe. usual_us: where the one before was answered."""
        self.unanswered += 1
        self._step += 1
        if self.unanswered == 1:
            return usual_us
        pause_us = min(FIRST_US << min(self._step - 1, 16), LONGEST_US)
        return int(pause_us * (1 + JITTER * chance))

    def answered(self) -> None:
        """Any probe was, or what was published has arrived."""
        self.unanswered = self._step = 0
        self._signed_us, self._sign_pause_us = NEVER_US, SIGN_US

    def sign(self, now_us: int) -> bool:
        """Something else came from the cloud; True: worth a question at once, and soon again, for
        EdgeHub swallows the first of what it is given after a silence.
        """
        if now_us - self._signed_us < self._sign_pause_us:
            return False
        if self._signed_us != NEVER_US:
            self._sign_pause_us = min(SIGN_TIMES * self._sign_pause_us, RECONNECT_US)
        self._signed_us, self._step = now_us, 0
        return True

    def reconnected(self, now_us: int) -> bool:
        """The broker is there again; True: worth a question at once. What it restarted with may be
        EdgeCore itself.
        """
        if self.is_silent and now_us - self._reconnected_us < RECONNECT_US:
            return False
        self._reconnected_us = now_us if self.is_silent else self._reconnected_us
        return True
