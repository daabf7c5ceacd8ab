"""What the rollouts remember over restarts: a document for each model, and one of what is wanted.

Each is kept twice on the disk. What is gone all the same is said, with the words for whoever has to
act on it, and never taken for a device that has no past: `lost`. Who gets an error instead tries
again: then nothing is gone, only nobody could read it just now.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from edge_agent import logs
from edge_agent.core import desired, rollout
from edge_agent.core.desired import Memory
from edge_agent.core.errors import Damaged, EdgeAgentError
from edge_agent.core.rollout import Rollout

MAX_MODELS: Final = 256
MAX_NAMED: Final = 8
WANTED: Final = "desired"

log = logs.get("rollouts")
T = TypeVar("T", Rollout, Memory)

Earlier = Callable[[], Mapping[str, bool]]
"""`stores.shelf.Shelf.earlier`: models in the store; True: a version of it was committed once."""


class Recalled(NamedTuple):
    """lost "": as it was written last, or a device that never remembered anything. Else what is
    gone, in words, and the memory is an empty one.
    """

    memory: Memory
    lost: str = ""


class RecalledRollouts(NamedTuple):
    """By model. lost: what is gone, in words; such a model has no document."""

    documents: dict[str, Rollout]
    lost: dict[str, str]


class Papers(Protocol):
    """`stores.papers.Papers`; blocks. Raises: Overloaded, Damaged."""

    def names(self) -> list[str]: ...

    def aside(self) -> list[str]: ...

    def has_begun(self) -> bool: ...

    def read(self, name: str) -> bytes | None: ...

    def write(self, name: str, content: bytes) -> None: ...

    def mend(self, name: str) -> None: ...

    def put_aside(self, name: str) -> None: ...


def _nothing() -> Mapping[str, bool]:
    return {}


class Keep:
    """rollouts: a document for each model. wishes: one in all. Blocks; none is for the loop.

    Every method raises Overloaded or Damaged while the disk or this process can't: try again.
    """

    def __init__(self, rollouts: Papers, wishes: Papers, *, earlier: Earlier = _nothing) -> None:
        self._rollouts = rollouts
        self._wishes = wishes
        self._earlier = earlier

    def rollouts(self) -> RecalledRollouts:
        """Every model that ever had one."""
        aside = {*self._rollouts.aside()}
        committed = {name for name, is_committed in self._earlier().items() if is_committed}
        found = RecalledRollouts({}, {})
        for name in sorted({*self._rollouts.names(), *aside, *committed})[:MAX_MODELS]:
            document, why = _read(self._rollouts, name, Rollout)
            if document is not None and document.model == name:
                found.documents[name] = document
                continue
            if document is not None:
                why = f"it is of model {document.model}"
                self._rollouts.put_aside(name)
            why = why or ("it was damaged" if name in aside else "it is gone, the model is not")
            found.lost[name] = f"what was refused of {name}, and how far its rollout was: {why}"
        return found

    def write(self, document: Rollout) -> None:
        """When it raises, the old one is believed."""
        self._rollouts.write(document.model, rollout.encode(document))

    def memory(self) -> Recalled:
        memory, why = _read(self._wishes, WANTED, Memory)
        if memory is not None:
            return Recalled(memory)
        why = why or self._signs()
        return Recalled(Memory(), f"pins, serial and what was wanted: {why}" if why else "")

    def write_memory(self, memory: Memory) -> None:
        """When it raises, the old one is believed."""
        self._wishes.write(WANTED, desired.encode(memory))

    def _signs(self) -> str:
        """Of an earlier life, in which it must have been written; "": there was none."""
        if self._wishes.aside():
            return "they were damaged"
        models = sorted({*self._rollouts.names(), *self._rollouts.aside(), *self._earlier()})
        if models:
            return f"they are gone, but {', '.join(models[:MAX_NAMED])} came here by a rollout"
        return "they were written once, and are gone" if self._wishes.has_begun() else ""


def _read(papers: Papers, name: str, kind: type[T]) -> tuple[T | None, str]:
    """None: not there, or, with the reason, lost. Raises: Overloaded, Damaged."""
    try:
        content = papers.read(name)
        if content is None:
            return None, ""
        found = msgspec.json.decode(content, type=kind)
    except (Damaged, msgspec.DecodeError, UnicodeDecodeError) as error:
        if isinstance(error, Damaged) and not error.healable:
            raise
        log.warning("a document of the rollouts is lost", name=name, error=str(error))
        papers.put_aside(name)
        return None, error.what if isinstance(error, Damaged) else str(error)
    with contextlib.suppress(EdgeAgentError):  # it can be read; the next write makes two of it
        papers.mend(name)
    return found, ""
