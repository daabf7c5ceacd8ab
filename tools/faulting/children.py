"""The nursery, seen from the loop of whoever kills."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tools.faulting.broker import ROOT

MAX_LOG_BYTES: Final = 4000


class Fell(Exception):
    """A child ended by itself, and should not have; with the end of its log."""


class Children:
    """Starts and kills; `started` counts them."""

    def __init__(self, nursery: asyncio.subprocess.Process, log: Path) -> None:
        self._nursery, self._log = nursery, log
        self.started = 0

    async def start(self, what: str, **order: Any) -> int:
        """Its pid."""
        self.started += 1
        answer = await self._asked({"start": what, "log": str(self._log), **order})
        return int(answer["pid"])

    async def kill(self, pid: int) -> None:
        """kill -9. Raises: Fell when it had ended before."""
        code = (await self._asked({"end": pid, "signal": signal.SIGKILL}))["code"]
        if code != -signal.SIGKILL:
            raise Fell(f"ended with {code} before it was killed\n{self.said()}")

    async def stop(self, pid: int) -> None:
        """SIGTERM. Raises: Fell when it does not end well."""
        code = (await self._asked({"end": pid, "signal": signal.SIGTERM}))["code"]
        if code != 0:
            raise Fell(f"ended with {code} when it was stopped\n{self.said()}")

    def said(self) -> str:
        """The end of what the children wrote into their log."""
        content = self._log.read_bytes() if self._log.exists() else b""
        return content[-MAX_LOG_BYTES:].decode(errors="replace")

    async def _asked(self, order: dict[str, Any]) -> dict[str, Any]:
        reader, writer = self._nursery.stdout, self._nursery.stdin
        assert reader is not None
        assert writer is not None
        writer.write(json.dumps(order).encode() + b"\n")
        await writer.drain()
        answer: dict[str, Any] = json.loads(await reader.readline())
        return answer


@asynccontextmanager
async def nursery(log: Path) -> AsyncIterator[Children]:
    """For as long as the block lasts; no child outlives it."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tools.faulting.nursery", cwd=ROOT, env=env,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Children(process, log)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
