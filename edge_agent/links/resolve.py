"""Names of hosts, resolved in threads that nobody waits for.

A resolver that hangs cannot be interrupted: the C library waits for its name server, for half a
minute and more. Threads of an event loop's pool would be waited for when the loop or the process
ends. These are daemons, and there are never more than a few.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import threading
from contextlib import suppress
from typing import Any, Final

MAX_UNANSWERED: Final = 4

_free = threading.BoundedSemaphore(MAX_UNANSWERED)


async def addresses(host: str, port: int) -> list[str]:
    """Of a host, as numbers, in the order of preference; at once for one that is a number.

    Gives up when it is cancelled; the question may go on. Raises: OSError, of which `gaierror` is
    one; EBUSY while earlier questions are not answered.
    """
    with suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def ask() -> None:
        found: list[str] | OSError
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except OSError as error:
            found = error
        except UnicodeError:  # a label that is too long, or empty
            found = socket.gaierror(socket.EAI_NONAME, "this is no name of a host")
        finally:
            _free.release()
        with suppress(RuntimeError):  # the loop has ended; nobody waits
            loop.call_soon_threadsafe(_give, answer, found)

    if not _free.acquire(blocking=False):
        raise OSError(errno.EBUSY, "the name server has not answered earlier questions")
    try:
        threading.Thread(target=ask, name="resolver", daemon=True).start()
    except RuntimeError:
        _free.release()
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
    return await answer


def _give(answer: asyncio.Future[Any], found: list[str] | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)
