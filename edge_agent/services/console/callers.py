"""Who is connected, by which door and with which rights, and who has to go for whom. Pure.

Three shares, each with a bound of its own: what comes over loopback, what comes over the UNIX
socket without rights, and the operators. Whoever fills one takes nothing from the others. A full
share does not refuse at once: a connection that has waited longest, for a request that does not
come or a body that does not end, makes room. So a scraper is answered while others hold the port.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

SPARE_CONNECTIONS = 64  # beside the followers
STRANGERS = 16  # over the socket, who may only read
OWN_DESCRIPTORS = 24  # without a stream and without a caller
MAX_HEAD_BYTES = 128 << 10  # of a request that is not there whole


class Share(str, enum.Enum):
    LOOPBACK = "loopback"
    STRANGERS = "socket, without rights"
    OPERATORS = "socket"


class Stage(enum.Enum):
    """What a connection does now."""

    WAITS = "waits"  # for a request, or for the rest of one
    SENDS = "sends"  # the body of its request
    ANSWERED = "answered"  # its request is worked on


GRACE_S: Final[Mapping[Stage, float]] = {Stage.WAITS: 0.25, Stage.SENDS: 1.0, Stage.ANSWERED: 1.0}
"""For so long a connection makes room for nobody. An answer counts from when it is not read."""


class Caller:
    """One connection. abort: closes it at once, whatever is still to be written.

    since_s: of its stage. unread_s: since when its answer is not read; None while it is.
    """

    def __init__(self, share: Share, now_s: float) -> None:
        self.share = share
        self.stage = Stage.WAITS
        self.since_s = now_s
        self.unread_s: float | None = None
        self.head_bytes = 0  # of a request that is not there whole; -1: it is
        self.protocol: object = None  # the server's end of it
        self.served = False
        self.leaves = False
        self.abort: Callable[[], None] = _nothing

    def turn(self, stage: Stage, now_s: float) -> None:
        self.served = self.served or stage is not Stage.WAITS
        self.stage, self.since_s, self.head_bytes = stage, now_s, 0

    def held_s(self, now_s: float) -> float:
        """For how long it has held its place for nothing."""
        if self.stage is Stage.ANSWERED:
            return 0.0 if self.unread_s is None else now_s - self.unread_s
        return now_s - self.since_s


def _nothing() -> None:
    """There is nothing to close yet."""


def who_goes(callers: Iterable[Caller], now_s: float) -> Caller | None:
    """Who makes room for one more: an idle one first, then the one that holds its place longest."""
    held = [
        caller
        for caller in callers
        if not caller.leaves and caller.held_s(now_s) >= GRACE_S[caller.stage]
    ]
    return min(
        held,
        key=lambda one: (not (one.served and one.stage is Stage.WAITS), -one.held_s(now_s)),
        default=None,
    )


def seats_of(share: Share, max_followers: int) -> int:
    """Places for followers, by share: nobody takes those of the others."""
    return min(STRANGERS // 2, max_followers) if share is Share.STRANGERS else max_followers


def followers_of(max_followers: int) -> int:
    """All of them together."""
    return sum(seats_of(share, max_followers) for share in Share)


class DoorBounds(NamedTuple):
    """Connections by share, and the descriptors that no connection may get."""

    connections: Mapping[Share, int]
    descriptors: int
    reserve: Mapping[Share, int]


def bounds_of(descriptors: int, max_followers: int) -> DoorBounds:
    """descriptors: how many this process may open.

    The kernel gives the lowest free number: a connection that gets one of the last ones says that
    the table is nearly full, whoever filled it. Those are for the agent's own work.
    """
    most = max_followers + SPARE_CONNECTIONS
    room = max(4, descriptors - OWN_DESCRIPTORS)
    reserve = min(64, max(8, descriptors // 4))
    connections = {
        Share.LOOPBACK: min(most, max(2, room // 3)),
        Share.STRANGERS: min(STRANGERS, max(1, room // 6)),
        Share.OPERATORS: min(most, max(2, room // 3)),
    }
    reserves = dict.fromkeys(Share, reserve) | {Share.OPERATORS: reserve // 2}
    return DoorBounds(connections, descriptors, reserves)


class Callers:
    """Everybody who is connected. refused, evicted: by share, for whoever tells of them."""

    def __init__(self, bounds: DoorBounds) -> None:
        self._bounds = bounds
        self._inside: dict[Share, set[Caller]] = {share: set() for share in Share}
        self._of: dict[object, Caller] = {}
        self.refused: dict[Share, int] = dict.fromkeys(Share, 0)
        self.evicted: dict[Share, int] = dict.fromkeys(Share, 0)

    def know(self, caller: Caller, protocol: object) -> None:
        """protocol: the server's end of its connection."""
        caller.protocol = protocol
        self._of[protocol] = caller

    def of(self, protocol: object) -> Caller:
        """One that has left meanwhile is a stranger whom nobody knows."""
        return self._of.get(protocol) or Caller(Share.STRANGERS, 0.0)

    def admit(self, share: Share, descriptor: int, now_s: float) -> Caller | None:
        """The new caller; None: there is no place, and nobody who makes it."""
        inside = self._inside[share]
        is_full = len(inside) >= self._bounds.connections[share]
        is_short = descriptor >= self._bounds.descriptors - self._bounds.reserve[share]
        if (is_full or is_short) and not self.make_room(share, now_s):
            self.refused[share] += 1
            return None
        caller = Caller(share, now_s)
        inside.add(caller)
        return caller

    def make_room(self, share: Share, now_s: float) -> bool:
        """Whether somebody of the share had to go."""
        goes = who_goes(self._inside[share], now_s)
        if goes is None:
            return False
        self.evicted[share] += 1
        self.dismiss(goes)
        return True

    def dismiss(self, caller: Caller) -> None:
        caller.leaves = True
        caller.abort()

    def left(self, caller: Caller) -> None:
        self._inside[caller.share].discard(caller)
        self._of.pop(caller.protocol, None)

    def all(self) -> list[Caller]:
        return [caller for share in Share for caller in self._inside[share]]

    def dismiss_late(self, now_s: float, *, first_request_s: float, idle_s: float) -> None:
        """Those whose request does not come. A body and an answer have limits of their own."""
        for caller in self.all():
            limit_s = idle_s if caller.served else first_request_s
            if caller.stage is Stage.WAITS and now_s - caller.since_s >= limit_s:
                self.dismiss(caller)
