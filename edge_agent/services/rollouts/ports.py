"""Whom the rollouts ask: the inference side, the store, an installer, the rest of the house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from edge_agent.config.structs import StreamConfig
from edge_agent.core.trial import Probation, ShadowCounts
from edge_agent.errands import Errand


class Version(Protocol):
    """What runs on the streams now."""

    @property
    def sha(self) -> str: ...

    @property
    def version(self) -> str: ...


class Rest(Protocol):
    """How a stream rests, see `core.moment.Idle`."""

    @property
    def exam(self) -> str: ...

    @property
    def no_signal_s(self) -> float: ...

    @property
    def since_exam_s(self) -> float: ...


class Side(Protocol):
    """The engine. Each verb raises SideDied when there is no side, else what the side said, as the
    class that it had there.

    starts: rises with each side; what was loaded is gone with the one before. crashed: the last one
    died by itself, and nobody outside ended it.
    """

    starts: int
    is_up: bool
    crashed: bool

    async def load(self, model: str, folder: str, sha: str) -> int: ...

    async def shadow(self, model: str, sha: str, every: int = 1) -> Mapping[str, ShadowCounts]: ...

    async def swap(self, model: str, sha: str, *, trial: bool = True) -> int: ...

    async def figures(self, model: str) -> Mapping[str, Probation]: ...

    async def commit(self, model: str) -> None: ...

    async def roll_back(self, model: str) -> int: ...

    async def unload(self, model: str, sha: str) -> None: ...

    def end_side(self) -> None: ...

    def is_on_trial(self, model: str) -> bool: ...

    def live(self, model: str) -> Version | None: ...

    def rest(self, model: str, now_us: int) -> Mapping[str, Rest]: ...


class Pointed(Protocol):
    """Ids of the packages that are current and previous; "" for none."""

    @property
    def current(self) -> str: ...

    @property
    def previous(self) -> str: ...


class Package(NamedTuple):
    """What an operator named."""

    name: str
    version: str
    sha: str


class Had(Protocol):
    """A package that is installed."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def sha(self) -> str: ...


class Store(Protocol):
    """`stores.installed.Installed`, as far as the agent uses it; blocks."""

    def have(self) -> Sequence[Had]: ...

    def folder(self, sha: str) -> Path | None: ...

    def has(self, sha: str) -> bool: ...

    def pointers(self, name: str) -> Pointed: ...

    def commit(self, name: str, sha: str) -> None: ...

    def revert(self, name: str, leaving: str, target: str) -> None: ...


class Live(NamedTuple):
    """What a model resolves to when a stream asks for no version."""

    folder: Path
    sha: str
    version: str


class Progress(NamedTuple):
    """done and of: bytes; 0 of 0 for a step that has no end in sight."""

    what: str
    done: int = 0
    of: int = 0


OnProgress = Callable[[str, Mapping[str, object]], None]


class Crew(Protocol):
    """Starts installers."""

    async def run(self, errand: Errand, told: OnProgress) -> dict[str, object]:
        """Its facts. Raises: EdgeAgentError of the class it had there; cancelling it ends it."""
        ...


class House(NamedTuple):
    """What the rest of the house does for us.

    resolve: of a model, blocks; Raises: Rejected, Damaged, Overloaded. resolve_to: that package of
    it, "" for what the folders say. blocked: why a version may not run here, "" when it may. first:
    a version that is on trial where none is live (folder, sha), None to take it away. keep_first:
    it was committed. reorder: the store's pointers moved, and no swap did it. tell: an event
    record. apply: a configuration that came down, as text; "" or why it is refused.
    """

    streams: Callable[[], Mapping[str, StreamConfig]]
    resolve: Callable[[str], Live]
    resolve_to: Callable[[str, str], Live]
    blocked: Callable[[str, str], str]
    first: Callable[[str, Path | None, str], Awaitable[None]]
    keep_first: Callable[[str], None]
    reorder: Callable[[], Awaitable[None]]
    tell: Callable[[str, str], None]
    apply: Callable[[str, str], Awaitable[str]]
