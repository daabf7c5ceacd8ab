"""Every bound of the spool on one page, and what it says when something happened to it."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from edge_agent.core.logbook import Log, LogKey


class SpoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """limit_bytes: of the file, without its log. Two streams of 30 results/s: 2 to 6 GB a day.

    queue_*: of the queue in front of the disk. commit_ms, commit_rows: a commit waits for so long
    or so many. ballast_bytes: kept on the disk to be given back when the file system is full.
    """

    limit_bytes: Annotated[int, Meta(ge=1 << 17, le=1 << 43)] = 16 << 30
    ballast_bytes: Annotated[int, Meta(ge=0, le=1 << 30)] = 8 << 20
    queue_rows: Annotated[int, Meta(ge=1, le=1 << 20)] = 20_000
    queue_bytes: Annotated[int, Meta(ge=1 << 10, le=1 << 30)] = 16 << 20
    commit_ms: Annotated[int, Meta(ge=0, le=10_000)] = 20
    commit_rows: Annotated[int, Meta(ge=1, le=2000)] = 100
    max_logs: Annotated[int, Meta(ge=1, le=1 << 16)] = 1 << 14
    grace_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 5.0


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit changed: the logs as they are now on the disk."""

    why: Literal["written", "acked", "evicted", "corrupt", "lost"]
    logs: tuple[Log, ...]


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Something for the operator: `name` is stable, `records` is how many it concerns."""

    name: Literal["set-aside", "salvaged", "evicted", "corrupt", "full", "failing", "well", "shed"]
    what: str
    fix: str = ""
    records: int = 0


class Page(NamedTuple):
    """Records of one log: (seq, body) ascending, gaps allowed.

    through: everything wanted up to this seq has been looked at. corrupt: skipped, and void now.
    """

    key: LogKey
    rows: list[tuple[int, bytes]]
    through: int
    corrupt: int
