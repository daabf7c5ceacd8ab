"""Who is told of commits and of trouble; told on their loop, never made to wait for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from edge_agent import logs
from edge_agent.stores.spool.limits import Change, Notice

T = TypeVar("T")
Listener = tuple[Callable[[T], None], asyncio.AbstractEventLoop | None]

log = logs.get("spool")


class Voices:
    """`change` and `notice` are called in the spool's thread."""

    def __init__(self) -> None:
        self._changes: tuple[Listener[Change], ...] = ()
        self._notices: tuple[Listener[Notice], ...] = ()
        self._early: list[Notice] = []  # before anybody listened

    def on_change(self, then: Callable[[Change], None]) -> None:
        """`then` runs on the running loop; without one in the spool's thread, and must not wait."""
        self._changes = (*self._changes, (then, _loop()))

    def on_notice(self, then: Callable[[Notice], None]) -> None:
        """As `on_change`; what happened at the opening is told at once."""
        self._notices = (*self._notices, (then, _loop()))
        early, self._early = self._early, []
        for notice in early:
            then(notice)

    def change(self, change: Change) -> None:
        for listener in self._changes:
            _tell(listener, change)

    def notice(self, notice: Notice) -> None:
        write = log.info if notice.name in ("well", "shed") else log.warning
        write(notice.what, name=notice.name, fix=notice.fix, records=notice.records)
        if not self._notices:
            self._early = [*self._early[-15:], notice]
        for listener in self._notices:
            _tell(listener, notice)


def _loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _tell(listener: Listener[T], said: T) -> None:
    then, loop = listener
    if loop is None:
        then(said)
    else:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(then, said)
