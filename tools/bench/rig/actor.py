"""A bench's other processes: told what to do by lines, answering by lines of JSON.

Their processor time is their own, so that each side's cost can be told apart.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[3]
END_S: Final = 20.0
Said = dict[str, Any]


class Actor:
    """One process. `ask` sends a line and waits for the answer, `hear` waits for what it says."""

    def __init__(self, command: Sequence[str]) -> None:
        self._name = command[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=ROOT, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> Said:
        """Raises RuntimeError when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait(END_S)
            raise RuntimeError(f"{self._name} ended with {code}")
        said: Said = json.loads(line)
        return said

    def ask(self, line: str) -> Said:
        self.tell(line)
        return self.hear()

    def end(self) -> None:
        """Closes its input, at which it ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def acting(*command: str) -> Iterator[Actor]:
    actor = Actor(command)
    try:
        yield actor
    finally:
        actor.end()


# ── inside of it ──────────────────────────────────────────────────────────────────────────────


async def until(condition: Callable[[], bool]) -> None:
    """Looks fifty times a second."""
    while not condition():  # noqa: ASYNC110 - of other threads
        await asyncio.sleep(0.02)


def say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


async def orders() -> AsyncIterator[list[str]]:
    """The words of each line that comes, until the input is closed."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        yield line.split()


def cpu_s() -> float:
    """Of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
