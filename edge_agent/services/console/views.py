"""What the console asks of the agent: a snapshot per question, nothing that can be changed.

Every document is made of plain types, new at each call. The keys are those of `/v1/status`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from edge_agent.core.frames import Result

Document = dict[str, Any]


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One frame. pixels: uint8, row-major, w * h * channels bytes, BGR when there are three."""

    w: int
    h: int
    channels: int
    pixels: bytes
    number: int
    age_ms: float


class Shot(msgspec.Struct, frozen=True, kw_only=True):
    """A frame and the result that belongs to it, if there is one."""

    frame: Picture
    result: Result | None = None


class SpoolViews(Protocol):
    """What is asked of the spool beyond its numbers.

    Each raises: Overloaded, Damaged; Rejected where the spool is a volatile one, with a hint.
    """

    def spool_records(self, limit: int) -> list[Any]:
        """The newest, newest first; plain types, with their `class`."""
        ...

    async def spool_verify(self) -> Document: ...

    def spool_export(self, *, plain: bool = False) -> AsyncGenerator[bytes, None]:
        """Lines, read as they are taken."""
        ...

    async def spool_import(self, content: bytes) -> Document:
        """Raises: Rejected for a file that is none, or not ours."""
        ...


class ModelViews(Protocol):
    """What may be done with models by hand. Each raises EdgeAgentError with why not."""

    def models_history(self, model: str) -> list[Any]:
        """Reports of past rollouts, newest first; model "": of all."""
        ...

    async def models_install(self, asked: Document) -> Document:
        """asked: `file`, `usb`, or `model` and `version`; `models` that are under way."""
        ...

    async def models_roll_back(self, model: str) -> Document: ...

    async def models_pin(self, model: str, version: str | None, by: str) -> Document:
        """Version "": what is live; None takes the pin off."""
        ...


class Views(SpoolViews, ModelViews, Protocol):
    """Implemented by the app. Called on the loop; must not block."""

    def status(self) -> Document: ...

    def streams(self) -> Document:
        """By name, with the facts of each source."""
        ...

    def models(self) -> Document: ...

    def spool(self) -> Document: ...

    def uplink(self) -> Document: ...

    def peers(self) -> Document: ...

    def device(self) -> Document: ...

    def events(self) -> list[Any]:
        """Newest first, bounded."""
        ...

    def subscribe(self, stream: str) -> AbstractContextManager[AsyncIterator[bytes]]:
        """The newest line of a stream whenever there is a new one: JSON of a Result, or
        `{"blank": reason}`. The console asks only for streams that `streams` names.
        """
        ...

    def frame(self, stream: str) -> Shot | None:
        """None while there is no frame."""
        ...

    async def metrics(self) -> bytes:
        """Prometheus text; reading procfs is for a thread."""
        ...

    def ready(self) -> bool: ...

    def desired_hint(self, body: bytes) -> Document:
        """A wanted state that somebody tells of, unsigned. Raises: Rejected."""
        ...

    def audited(self, who: str, verb: str, fields: Mapping[str, object]) -> None:
        """For the audit log: who asked for what. At once."""
        ...

    async def reload(self) -> Document:
        """Raises: ConfigError, with the old configuration still running."""
        ...
