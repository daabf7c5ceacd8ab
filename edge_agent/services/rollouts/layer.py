"""Takes a configuration that came down: checked whole with the files here, kept, applied, or the
reason why not. What ran before runs on until the new one has been taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread

from edge_agent.config import pushed
from edge_agent.config.load import Paths, load_over
from edge_agent.config.problems import shareable
from edge_agent.core.errors import Damaged

MAX_TOLD: Final = 5  # problems in a reason


class Kept(Protocol):
    """The file of the layer; blocks. `write` Raises: Damaged."""

    def read(self) -> bytes | None: ...

    def write(self, content: bytes) -> None: ...


class Layer:
    """reload: has the running house read its files again, as a SIGHUP does."""

    def __init__(
        self,
        where: Paths,
        overrides: Sequence[str],
        kept: Kept,
        reload: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self._where = where
        self._overrides = overrides
        self._kept = kept
        self._reload = reload
        self._turn = anyio.Lock()

    async def apply(self, text: str, _version: str) -> str:
        """Why it is not in force; "" when it is."""
        async with self._turn:
            reason = await anyio.to_thread.run_sync(self._flaws, text)
            if reason:
                return reason
            before = await anyio.to_thread.run_sync(self._kept.read) or b""
            try:
                await anyio.to_thread.run_sync(self._kept.write, text.encode())
                told = await self._reload()
                if told.get("reloaded"):
                    return ""
                await anyio.to_thread.run_sync(self._kept.write, before)
            except Damaged as disk:
                return disk.what
            return shareable(str(told.get("why") or "the agent did not take it"))

    def _flaws(self, text: str) -> str:
        if len(text.encode()) > pushed.MAX_BYTES:
            return f"expected at most {pushed.MAX_BYTES} bytes, got {len(text.encode())}"
        errors = load_over(text, self._where, self._overrides).errors
        more = f"; and {len(errors) - MAX_TOLD} more" if len(errors) > MAX_TOLD else ""
        return "; ".join(shareable(problem.text()) for problem in errors[:MAX_TOLD]) + more
