"""A real agent on the rig: n paced streams of one model, in threads or with a child process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.cli.daemon import in_threads
from edge_agent.config.structs import Config
from edge_agent.core.frames import Record, Result
from edge_agent.host import SystemClock
from tools.bench.rig import models
from tools.bench.rig.child import LISTENER, LaunchChild, equip
from tools.bench.rig.meter import Meter, create

Mode = Literal["process", "thread"]
FRAME = (640, 480)


class Bench(msgspec.Struct):
    """A running agent with its meter. callbacks: (stream, frame, boot_us) of each callback."""

    agent: Agent
    meter: Meter
    pids: list[int]
    callbacks: list[tuple[int, int, int]]


def stream(fps: float, **more: Any) -> dict[str, Any]:
    source = {"kind": "phantom", "scene": "endoscope", "fps": fps, "size": FRAME}
    return {"source": source, "models": [{"name": models.NAME, "version": models.VERSION}], **more}


@asynccontextmanager
async def rig(streams: list[dict[str, Any]], mode: Mode, *, lanes: int) -> AsyncIterator[Bench]:
    """Gate closed; open it with `bench.meter.gate(is_open=True)`."""
    fd = create()
    meter = Meter(fd)
    launch = LaunchChild(fd)
    if mode == "thread":
        equip(meter)
    clock = SystemClock()
    callbacks: list[tuple[int, int, int]] = []

    def heard(record: Record) -> None:
        if isinstance(record, Result):
            callbacks.append((int(record.stream[1:]), record.frame, clock.boot_us()))

    with tempfile.TemporaryDirectory(prefix="ea-bench-") as folder:
        models.write_detector(Path(folder) / "models")
        config = msgspec.convert(
            {
                "node": "bench",
                "state_dir": folder,
                "streams": {f"s{i}": one for i, one in enumerate(streams)},
                # "thread" also for the child: then `running` starts the side by our launcher
                "engine": {"isolation": "thread", "lanes": lanes, "listeners": [LISTENER]},
                "models": {"dirs": [f"{folder}/models"], "shipped": False},
                "console": {"http": False},
            },
            Config,
        )
        start = in_threads if mode == "thread" else launch
        async with running(config, in_process=start, on_record=heard) as agent:
            yield Bench(agent=agent, meter=meter, pids=launch.pids, callbacks=callbacks)
    os.close(fd)


def cpu_ns(pid: int) -> int:
    """Time on a core of all threads of a process, from the scheduler's own books."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total
