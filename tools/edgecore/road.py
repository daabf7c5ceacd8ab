"""What EdgeCore does to messages on their way to the cloud. Pure: fed with the time, seeded.

Measured on a running one: text is all that survives, 30 messages a second after a burst of 60 for
the whole node, order lost among 18 neighbours, the first ones after a cut swallowed, everything
that waits lost with the process. A road that is silent takes all there is, and nothing arrives; it
ends with a reset. When the road is back, EdgeHub notices after 20 to 55 s, and what was published
meanwhile goes first. It confirms to its clients what it then loses.
"""

from __future__ import annotations

import codecs
import random
from collections import Counter, deque
from typing import Final

import msgspec

REPLACED: Final = "go-replace"


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Each fault by itself; the defaults are those of EdgeCore. The same seed does the same."""

    seed: int = 1
    mangle: bool = True  # bytes that are no UTF-8 become U+FFFD, both ways
    rate_per_s: float = 30.0  # 0: no limit
    burst: int = 60
    reorder_within: int = 18  # places; 0: order is kept
    reorder_share: float = 0.13  # of what waits behind something else
    lose_after_cut: int = 3
    requeue: bool = False  # KubeEdge PR #7164, not merged: what was in flight at a cut goes again
    lose_at_restart: bool = True
    reconnect_least_s: float = 20.0  # so long after the road is back it is noticed, at the soonest
    reconnect_most_s: float = 55.0
    down_queue: int = 100  # the oldest goes first; 0: no limit
    keep_connections: int = 256  # of posts; the Router never closes one. 0: each is closed
    max_rest_bytes: int = 12 << 20  # of CloudCore's door; EdgeCore itself has no bound
    max_waiting: int = 100_000  # EdgeCore has no bound but the memory of the machine


NO_FAULTS: Final = Faults(
    mangle=False,
    rate_per_s=0,
    reorder_within=0,
    lose_after_cut=0,
    lose_at_restart=False,
    reconnect_least_s=0,
    reconnect_most_s=0,
    down_queue=0,
    keep_connections=0,
)


class Upload(msgspec.Struct, frozen=True):
    """On its way to the cloud."""

    topic: str
    payload: bytes


def _one_for_each(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(REPLACED, _one_for_each)


def mangled(payload: bytes) -> bytes:
    """As a Go string through JSON: each byte that is no UTF-8 is three others afterwards."""
    return payload.decode("utf-8", REPLACED).encode()


class TokenBucket:
    """So many a second, after a burst. Rate 0: as many as come."""

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate = rate_per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at_s: float | None = None

    def take(self, now_s: float) -> bool:
        """Takes one, when there is one."""
        if not self._rate:
            return True
        self._fill(now_s)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def wait_s(self, now_s: float) -> float:
        """Until there is one."""
        if not self._rate:
            return 0.0
        self._fill(now_s)
        return max(0.0, 1 - self._tokens) / self._rate

    def _fill(self, now_s: float) -> None:
        if self._at_s is not None:
            self._tokens = min(
                self._burst, self._tokens + max(0.0, now_s - self._at_s) * self._rate
            )
        self._at_s = now_s


class Waiting(msgspec.Struct):
    upload: Upload
    overtaken: int = 0


class Upstream:
    """EdgeHub: what waits for the cloud, in memory alone."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._random = random.Random(faults.seed)
        self._waiting: deque[Waiting] = deque()
        self._bucket = TokenBucket(faults.rate_per_s, faults.burst)
        self._to_lose = 0
        self.connected = True  # as EdgeHub has it
        self.is_silent = False  # and nothing arrives all the same
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, upload: Upload) -> None:
        """From the broker, which has confirmed it already."""
        self.counts["received"] += 1
        if self._faults.mangle:
            text = mangled(upload.payload)
            self.counts["mangled"] += text != upload.payload
            upload = Upload(upload.topic, text)
        if len(self._waiting) >= self._faults.max_waiting:
            self.counts["overflow"] += 1
            return
        self._waiting.append(Waiting(upload))

    def take(self, now_s: float) -> Upload | None:
        """The next one to arrive at the cloud, if one may now."""
        if not self.connected:
            return None
        if self.is_silent:
            self._swallow(now_s)
            return None
        while self._to_lose and self._waiting:
            self._waiting.popleft()
            self._to_lose -= 1
            self.counts["lost_after_cut"] += 1
        if not self._waiting or not self._bucket.take(now_s):
            return None
        place = self._place()
        self.counts["reordered"] += place > 0
        for n in range(place):
            self._waiting[n].overtaken += 1
        taken = self._waiting[place]
        del self._waiting[place]
        self.counts["forwarded"] += 1
        return taken.upload

    def wait_s(self, now_s: float) -> float | None:
        """Until `take` may do something; None: not before something else happens."""
        if not self.connected or not self._waiting:
            return None
        return self._bucket.wait_s(now_s)

    def cut(self) -> None:
        """The link to the cloud is reset, and gone. Clients are not told."""
        self.connected, self.is_silent = False, False

    def silence(self) -> None:
        """Nothing arrives from now on, and nobody is told: not even EdgeHub, which goes on."""
        self.is_silent = self.connected

    def restore(self) -> None:
        """EdgeHub has a link again; what waits first, or comes first, is swallowed."""
        if not self.connected:
            self._to_lose = 0 if self._faults.requeue else self._faults.lose_after_cut
        self.connected, self.is_silent = True, False

    def notices_after_s(self) -> float:
        """From when the road is back until EdgeHub has a link again; another each time."""
        return self._random.uniform(self._faults.reconnect_least_s, self._faults.reconnect_most_s)

    def restart(self) -> None:
        """The process ends and starts again, on a link that is as it was."""
        if self._faults.lose_at_restart:
            self.counts["lost_at_restart"] += len(self._waiting)
            self._waiting.clear()
        self._to_lose = 0  # what would have taken them died too
        self._bucket = TokenBucket(self._faults.rate_per_s, self._faults.burst)

    def _swallow(self, now_s: float) -> None:
        while self._waiting and self._bucket.take(now_s):
            self._waiting.popleft()
            self.counts["lost_in_silence"] += 1

    def _place(self) -> int:
        """Whose turn it is: mostly the first's."""
        within = self._faults.reorder_within
        last = min(within, len(self._waiting) - 1)
        if last < 1 or self._random.random() >= self._faults.reorder_share:
            return 0
        oldest = max(self._waiting[n].overtaken for n in range(last))
        return 0 if oldest >= within else self._random.randint(1, last)


class Downstream:
    """From the cloud to the edge: a short queue that drops its oldest, and tells nobody."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._queue: deque[Upload] = deque()
        self.counts: Counter[str] = Counter()

    def push(self, topic: str, payload: bytes) -> None:
        self.counts["down_taken"] += 1
        if self._faults.mangle:
            payload = mangled(payload)
        self._queue.append(Upload(topic, payload))
        while self._faults.down_queue and len(self._queue) > self._faults.down_queue:
            self._queue.popleft()
            self.counts["down_dropped"] += 1

    def take(self) -> Upload | None:
        return self._queue.popleft() if self._queue else None

    def restart(self) -> None:
        self.counts["down_dropped"] += len(self._queue)
        self._queue.clear()
