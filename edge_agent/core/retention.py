"""Which records go first when space runs out, and which are offered first.

Going: guests of other nodes before our own, the lowest class before any higher, the oldest epoch
before any younger. Offering: the highest class first, in it the oldest epoch. Logs of one class and
epoch are a group; within it records are interleaved by age.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from edge_agent.core.frames import KEEP_ORDER, RecordClass
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.ranges import Ranges, subtract, union

RANK = {klass: rank for rank, klass in enumerate(KEEP_ORDER)}  # 0 is kept longest


def rank(klass: RecordClass) -> int:
    return RANK[klass]


def offer_order(log: Log) -> tuple[int, int, str, str]:
    """Sorts logs as they are offered."""
    return rank(log.key.klass), log.key.epoch, log.key.stream, log.key.node


def victims(logs: Iterable[Log], node: str) -> list[Log]:
    """The group that gives up records first; empty when nothing is pending."""
    best: tuple[bool, int, int] | None = None
    group: list[Log] = []
    for log in logs:
        if log.floor == log.next:
            continue
        order = (log.key.node == node, -rank(log.key.klass), log.key.epoch)
        if best is None or order < best:
            best, group = order, [log]
        elif order == best:
            group.append(log)
    return group


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Where a walk through the backlog stands: seqs below `at[key]` were taken, `last` served."""

    at: Mapping[LogKey, int] = {}
    last: LogKey | None = None


class Next(msgspec.Struct, frozen=True, kw_only=True):
    """The log to read next, and its seqs that are wanted."""

    log: Log
    wanted: Ranges


def next_offer(
    logs: Iterable[Log], position: Position, skip: Mapping[LogKey, Ranges]
) -> Next | None:
    """The next log with something to offer: class, then epoch, then in turn; None at the end.

    skip: seqs not wanted now, such as those in flight.
    """
    best: tuple[int, int, bool, str, str] | None = None
    found: Next | None = None
    served = position.last
    for log in logs:
        key = log.key
        # in turn: those after the one served last come before those up to it
        behind = served is not None and (key.stream, key.node) <= (served.stream, served.node)
        order = (rank(key.klass), key.epoch, behind, key.stream, key.node)
        if best is not None and order >= best:
            continue
        wanted = wanted_of(log, position.at.get(key, 1), skip.get(key, ()))
        if wanted:
            best, found = order, Next(log=log, wanted=wanted)
    return found


def wanted_of(log: Log, first: int, skip: Ranges) -> Ranges:
    """The pending seqs from `first` on that are not to be skipped."""
    if log.floor == log.next:
        return ()
    below = ((1, first - 1),) if first > 1 else ()
    return subtract(log.pending(), union(below, skip))
