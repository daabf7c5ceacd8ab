"""What must not run any more, in the desired states: put on the list, taken off it, kept in bounds.

Pure. The newest halt of a model is the last of its list, and the model that was halted last is the
last of the table: what has to give way to a bound is at the front.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from edge_agent.core.desired import (
    MAX_BYTES,
    MAX_HALT_CHARS,
    MAX_HALTED,
    MAX_HALTS,
    Desired,
    Halt,
)

Halted = dict[str, tuple[Halt, ...]]


class Fitted(NamedTuple):
    """dropped: the halts that gave way, in words."""

    state: Desired
    dropped: tuple[str, ...]


def halt(sha256: str, version: str, reason: str) -> Halt:
    return Halt(sha256=sha256, version=version, reason=reason[:MAX_HALT_CHARS])


def is_halted(state: Desired, name: str, sha256: str) -> bool:
    return any(one.sha256 == sha256 for one in state.halted.get(name, ()))


def halting(state: Desired, name: str, halt: Halt) -> Desired:
    """With this version on the list, and no longer wanted."""
    others = tuple(one for one in state.halted.get(name, ()) if one.sha256 != halt.sha256)
    halted = {model: every for model, every in state.halted.items() if model != name}
    halted[name] = (*others, halt)
    models = dict(state.models)
    if name in models and models[name].sha256 == halt.sha256:
        del models[name]
    return msgspec.structs.replace(state, models=models, halted=halted)


def lifted(halted: Halted, name: str, sha256: str) -> Halted:
    """Without this version: somebody wants it again."""
    left = tuple(one for one in halted.get(name, ()) if one.sha256 != sha256)
    others = {model: every for model, every in halted.items() if model != name}
    return {**others, name: left} if left else others


def merged(state: Desired, more: Halted) -> Desired:
    """With those that it doesn't have yet and doesn't want."""
    for name, every in more.items():
        for one in every:
            wanted = state.models.get(name)
            if not is_halted(state, name, one.sha256) and (
                wanted is None or wanted.sha256 != one.sha256
            ):
                state = halting(state, name, one)
    return state


def fitted(state: Desired) -> Fitted:
    """Within every bound of the document: the oldest halts give way."""
    dropped: list[str] = []
    while name := _over(state):
        oldest = state.halted[name][0]
        dropped.append(f"{name} {oldest.version} ({oldest.sha256[:16]})")
        left = lifted(state.halted, name, oldest.sha256)
        order = [model for model in state.halted if model in left]  # where it stood
        halted = {model: left[model] for model in order}
        state = msgspec.structs.replace(state, halted=halted)
    return Fitted(state, tuple(dropped))


def _over(state: Desired) -> str:
    """The model whose oldest halt has to go; "" when all is within its bounds."""
    for name, every in state.halted.items():
        if len(every) > MAX_HALTS:
            return name
    first = next(iter(state.halted), "")
    is_over = len(state.halted) > MAX_HALTED or len(msgspec.json.encode(state)) > MAX_BYTES
    return first if is_over else ""
