"""Whose fault it is that something took too long, or did not get its memory. Pure.

A package is at fault for what it did with what it had. A machine that is loaded by others gives a
run no core, no page of its file and no memory, and from outside that looks just like a model that
never returns. So time counts against a package only where it was its own: on a core, or asleep by
its own will.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

TICK_US: Final = 10_000  # of /proc/PID/stat, on every Linux
_AVAILABLE: Final = re.compile(r"MemAvailable:\s+([0-9]{1,12})\b")
HELD: Final = frozenset("RDTt")  # runnable, waiting for a disk, stopped by somebody
MEMORY: Final = (
    "bad_alloc", "bad allocation", "failed to allocate", "unable to allocate",
    "cannot allocate memory", "out of memory",
)  # fmt: skip


class Spent(NamedTuple):
    """Of one or more threads. ran_us: on a core. waited_us: runnable, without one.

    is_held: at that moment one of them was runnable, waited for a disk or was stopped, so that
    what is not yet in the other two is no sleep.
    """

    ran_us: float = 0.0
    waited_us: float = 0.0
    is_held: bool = False

    def since(self, before: Spent) -> Spent:
        ran_us, waited_us = self.ran_us - before.ran_us, self.waited_us - before.waited_us
        return Spent(ran_us, waited_us, self.is_held)

    def own_us(self, elapsed_us: float) -> float:
        """How much of `elapsed_us` was theirs to use."""
        if self.is_held:
            return self.ran_us
        return max(self.ran_us, elapsed_us - self.waited_us)


def spent_of(tasks: Iterable[tuple[str, str]]) -> Spent:
    """tasks: `schedstat` ("" where the kernel has none) and `stat` of each thread."""
    known = [spent for task in tasks if (spent := _of_one(*task)) is not None]
    return Spent(
        sum(spent.ran_us for spent in known),
        sum(spent.waited_us for spent in known),
        any(spent.is_held for spent in known),
    )


def _of_one(schedstat: str, stat: str) -> Spent | None:
    """None where the kernel told nothing: the thread has ended while it was read."""
    try:
        on_core, waiting = (float(word) / 1000 for word in (schedstat.split() or ["0", "0"])[:2])
        words = stat.rpartition(")")[2].split()  # a name may have spaces in it
        ticks = int(words[11]) + int(words[12])
    except (ValueError, IndexError):
        return None
    return Spent(max(on_core, float(ticks * TICK_US)), waiting, words[0] in HELD)


def is_of_memory(words: str) -> bool:
    """Whether a runtime says that it got no memory: it has no class for that."""
    low = words.lower()
    return any(sign in low for sign in MEMORY)


def free_bytes_of(meminfo: str) -> int | None:
    """`MemAvailable` of /proc/meminfo; None where it is not told."""
    for line in meminfo.splitlines():
        if found := _AVAILABLE.match(line):
            return int(found[1]) << 10
    return None
