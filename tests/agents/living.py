"""Whole agents for tests: real child processes, phantom sources, tiny real models."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec

from edge_agent.agent import Agent
from edge_agent.config.structs import Config
from tests.tiny import write_package

PATIENCE_S = 25.0
PHANTOM = {"kind": "phantom", "scene": "ultrasound", "fps": 30.0, "size": [160, 120]}
TINY = {"name": "tiny", "version": "1.0.0"}


def stream(
    source: dict[str, Any] | None = None, model: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """One stream of a configuration; the phantom and the tiny model unless told otherwise."""
    return {"source": {**PHANTOM, **(source or {})}, "models": [model or TINY], **more}


def config_of(folder: Path, streams: dict[str, Any], **sections: Any) -> Config:
    """A house in `folder`, without HTTP and real-time policy; writes the tiny model once."""
    if not (folder / "models" / "tiny").exists():
        write_package(folder / "models")
    engine = {"realtime": False, **sections.pop("engine", {})}
    return msgspec.convert(
        {
            "node": "box",
            "state_dir": str(folder / "state"),
            "streams": streams,
            "engine": engine,
            "models": {"dirs": [str(folder / "models")], "shipped": False},
            "console": {"http": False},
            **sections,
        },
        Config,
    )


async def until(condition: Callable[[], Any], what: str) -> None:
    """Waits for it, bounded; `what` is said when it does not come."""
    with anyio.move_on_after(PATIENCE_S):
        while not condition():
            await anyio.sleep(0.02)
        return
    raise AssertionError(f"not within {PATIENCE_S} s: {what}")


def sums(agent: Agent, name: str) -> dict[str, Any]:
    """The stream as the status has it."""
    shown: dict[str, Any] = agent.views.status()["streams"][name]
    return shown


def inferred(agent: Agent, name: str) -> int:
    return int(sums(agent, name)["inferred"])


def is_balanced(shown: dict[str, Any]) -> bool:
    return bool(shown["captured"] == shown["inferred"] + sum(shown["dropped"].values()))


def children() -> list[int]:
    """Pids of our inference children."""
    found = []
    for pid in Path("/proc").iterdir():
        if not pid.name.isdigit():
            continue
        try:
            fields = (pid / "stat").read_text().rpartition(")")[2].split()
            words = (pid / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z" and b"edge_agent.inference" in words:
            found.append(int(pid.name))
    return found


def kill_child(number: signal.Signals) -> int:
    (pid,) = children()
    os.kill(pid, number)
    return pid


def words_of(agent: Agent) -> str:
    """All problems of the status in one text."""
    return "\n".join(f"{p['what']} -> {p['fix']}" for p in agent.views.status()["problems"])
