"""What the rollouts remember over restarts: a document for each model, and one of what is wanted.

One that cannot be read is put aside and said aloud; then the store's pointers are what is left, and
they are enough to go on inferring.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

import msgspec

from edge_agent import logs
from edge_agent.core import desired, rollout
from edge_agent.core.desired import Memory
from edge_agent.core.errors import Damaged
from edge_agent.core.rollout import Rollout

MAX_MODELS: Final = 256
WANTED: Final = "desired"

log = logs.get("rollouts")
T = TypeVar("T", Rollout, Memory)


class Papers(Protocol):
    """`stores.papers.Papers`; blocks."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes | None: ...

    def write(self, name: str, content: bytes) -> None: ...

    def put_aside(self, name: str) -> None: ...


class Keep:
    """rollouts: a document for each model. wishes: one in all. Blocks; none is for the loop."""

    def __init__(self, rollouts: Papers, wishes: Papers) -> None:
        self._rollouts = rollouts
        self._wishes = wishes

    def rollouts(self) -> dict[str, Rollout]:
        """Every model that ever had one."""
        found = {}
        for name in self._rollouts.names()[:MAX_MODELS]:
            document = _read(self._rollouts, name, Rollout)
            if document is not None and document.model == name:
                found[name] = document
        return found

    def write(self, document: Rollout) -> None:
        """Raises: Damaged."""
        self._rollouts.write(document.model, rollout.encode(document))

    def memory(self) -> Memory:
        return _read(self._wishes, WANTED, Memory) or Memory()

    def write_memory(self, memory: Memory) -> None:
        """Raises: Damaged."""
        self._wishes.write(WANTED, desired.encode(memory))


def _read(papers: Papers, name: str, kind: type[T]) -> T | None:
    try:
        content = papers.read(name)
        return None if content is None else msgspec.json.decode(content, type=kind)
    except (Damaged, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("a document of the rollouts is damaged", name=name, error=str(error))
        papers.put_aside(name)
        return None
