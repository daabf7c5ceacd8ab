"""What the uplink needs of others, in its own words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from edge_agent.core.edgecore import Desired, Tuf
from edge_agent.core.logbook import Ack, Log, LogKey
from edge_agent.core.ranges import Ranges
from edge_agent.core.twin import DeviceState, Value
from edge_agent.core.witness import Finding


class Page(Protocol):
    """Records of one log: (seq, body), ascending, gaps allowed."""

    @property
    def rows(self) -> list[tuple[int, bytes]]: ...


class Pages(Protocol):
    """Awaited reads and rare changes of the spool. Each may raise: Damaged, Overloaded."""

    async def read(self, key: LogKey, wanted: Ranges, *, max_rows: int, max_bytes: int) -> Page: ...

    async def forfeit(self, acks: Iterable[Ack]) -> int: ...

    async def forget(self, keys: Iterable[LogKey]) -> int: ...


class Shelf(Protocol):
    """The spool's end towards the uplink; none of these waits."""

    @property
    def epoch(self) -> int: ...

    @property
    def backlog(self) -> Pages: ...

    def logs(self) -> list[Log]: ...

    def acknowledge(self, acks: Iterable[Ack]) -> None:
        """Raises: Rejected."""
        ...


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent tells of itself, and whom it tells what came. All are called on the loop.

    document: the status document, as JSON can hold it.
    """

    document: Callable[[], Any]
    twin: Callable[[], Mapping[str, Value | None]]
    state: Callable[[], DeviceState]
    on_event: Callable[[Desired | Tuf], None]
    on_finding: Callable[[Finding], None]
