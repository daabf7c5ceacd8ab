"""Work asked of the spool's thread, and its answer; asked again after a disk's passing trouble."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Generic, TypeVar

from edge_agent.core.errors import Damaged, Overloaded
from edge_agent.stores.spool.front import MAX_REQUESTS, Front

MAX_TRIES = 5

T = TypeVar("T")


class Request(Generic[T]):
    """Called in the spool's thread."""

    def __init__(self, work: Callable[[], T], front: Front) -> None:
        self._work, self._front = work, front
        self._tries = 0
        self.answer: concurrent.futures.Future[T] = concurrent.futures.Future()

    def __call__(self) -> None:
        if self._tries == 0 and not self.answer.set_running_or_notify_cancel():
            return
        self._tries += 1
        try:
            self.answer.set_result(self._work())
        except Damaged as error:
            if self._tries < MAX_TRIES:
                with self._front.lock:
                    self._front.requests.appendleft(self)
            else:
                self.answer.set_exception(error)
            raise
        except BaseException as error:
            self.answer.set_exception(error)
            raise

    def refuse(self) -> None:
        """The thread has ended."""
        if self._tries or self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(Overloaded("ask the spool: it is closed"))


def ask(front: Front, work: Callable[[], T]) -> concurrent.futures.Future[T]:
    """Raises: Overloaded when too many wait, or the spool is closing."""
    request = Request(work, front)
    if not front.ask(request):
        raise Overloaded(f"ask the spool: {MAX_REQUESTS} requests wait, or it is closing")
    return request.answer


async def asked(front: Front, work: Callable[[], T]) -> T:
    """From a loop. Raises: Overloaded; Damaged when the disk refused five times."""
    return await asyncio.wrap_future(ask(front, work))
