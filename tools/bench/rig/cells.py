"""The cells of the pipeline bench: each sets up a house, measures one thing, and takes it down."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import numpy as np

from edge_agent import backends
from edge_agent.config.structs import PhantomSource
from edge_agent.core.frames import Frame
from edge_agent.inference.realtime import LANE_PRIORITY, go_realtime
from edge_agent.stores.models import Models
from tools.bench.rig import models
from tools.bench.rig.agent import FRAME, Bench, cpu_ns, rig, stream
from tools.bench.rig.camera import bank
from tools.bench.rig.meter import FIELDS

Value = Any
Cell = Callable[[], Awaitable[Any]]
STREAM, FRAME_NO, CAPTURED, MODEL, MODEL_CPU, SHOWN = range(len(FIELDS))
WARM_S = 0.4
START_TIMEOUT_S = 20.0


class Raw:
    """The limit: fill and run in one thread, nothing else."""

    def __init__(self, folder: Path) -> None:
        models.write_detector(folder)
        store = Models([folder], shipped=False)
        package = store.resolve(models.NAME, models.VERSION)
        session = backends.make("onnx", threads=1).load(package, store.manifest(package))
        self._bound = session.bind()
        pictures = bank(PhantomSource(scene="endoscope", size=FRAME))
        self._frames = [Frame(number=i, captured_us=0, pixels=p) for i, p in enumerate(pictures)]

    def fps(self, seconds: float) -> float:
        go_realtime(LANE_PRIORITY)
        count, until, start = 0, time.perf_counter() + seconds, time.perf_counter()
        while time.perf_counter() < until:
            self._bound.fill(self._frames[count % len(self._frames)], (0, 0, *FRAME))
            self._bound.run()
            count += 1
        return count / (time.perf_counter() - start)


async def throughput(slices: int, seconds: float) -> list[float]:
    """Pipeline over raw, by alternating slices."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        raw = Raw(Path(folder))
        raw.fps(0.3)
        async with rig([stream(1000.0, max_age_ms=60000.0)], "process", lanes=1) as bench:
            for _ in range(slices):
                limit = await anyio.to_thread.run_sync(raw.fps, seconds)
                rows = await measured(bench, seconds)
                span_us = rows[-1, SHOWN] - rows[0, SHOWN]
                ratios.append((len(rows) - 1) * 1e6 / span_us / limit)
    return ratios


async def measured(bench: Bench, seconds: float) -> Any:
    """Rows of so many seconds with the gate open, less the first few."""
    head = bench.meter.head
    bench.meter.gate(is_open=True)
    await anyio.sleep(seconds)
    bench.meter.gate(is_open=False)
    await anyio.sleep(0.1)
    rows = bench.meter.since(head)
    return rows[min(3, len(rows) // 2) :]


def floor(seconds: float) -> tuple[float, str]:
    """(p99 ms of a bare sleep's lateness, policy) in a thread at the lanes' priority."""
    late: list[float] = []
    policy: list[str] = []

    def body() -> None:
        policy.append("SCHED_RR" if go_realtime(LANE_PRIORITY) else "SCHED_OTHER")
        until = time.perf_counter() + seconds
        while (due := time.perf_counter() + 0.005) < until:
            time.sleep(0.005)
            late.append((time.perf_counter() - due) * 1000)

    async def run() -> None:
        await anyio.to_thread.run_sync(body)

    anyio.run(run)
    return float(np.quantile(late, 0.99)), policy[0]


async def inlane(seconds: float) -> float:
    """p99 ms from capture to in-lane listener, less fill and run."""
    async with rig([stream(60.0)], "process", lanes=1) as bench:
        await measured(bench, WARM_S)
        rows = await measured(bench, seconds)
    return float(np.quantile(rows[:, SHOWN] - rows[:, CAPTURED] - rows[:, MODEL], 0.99)) / 1000


async def callback(mode: Literal["thread", "process"], seconds: float) -> tuple[float, float]:
    """(p50, p99) ms from capture to the callback on a busy loop, less fill and run."""
    async with rig([stream(60.0)], mode, lanes=1) as bench, anyio.create_task_group() as group:
        group.start_soon(chatter)
        group.start_soon(crunch)
        group.start_soon(commits)
        await measured(bench, WARM_S)
        bench.callbacks.clear()
        rows = await measured(bench, seconds)
        group.cancel_scope.cancel()
    cost = {(int(r[STREAM]), int(r[FRAME_NO])): r[CAPTURED] + r[MODEL] for r in rows}
    added = [at - cost[s, n] for s, n, at in bench.callbacks if (s, n) in cost]
    return float(np.quantile(added, 0.5)) / 1000, float(np.quantile(added, 0.99)) / 1000


async def chatter() -> None:
    """200 messages a second, as an uplink would make them."""
    message = {"objects": [{"box": [1.0, 2.0, 3.0, 4.0], "score": 0.5, "label": "polyp"}] * 3}
    while True:
        json.loads(json.dumps(message))
        await anyio.sleep(0.005)


async def crunch() -> None:
    """10 compressions a second of 200 kB, in a worker thread."""
    block = os.urandom(20_000) * 10
    while True:
        await anyio.to_thread.run_sync(zlib.compress, block, 1)
        await anyio.sleep(0.1)


async def commits() -> None:
    """20 transactions a second of 20 rows, in a worker thread."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/spool.db"

        def commit() -> None:
            with sqlite3.connect(path) as db:
                db.execute("create table if not exists r (id integer primary key, body blob)")
                db.executemany("insert into r (body) values (?)", [(b"x" * 300,)] * 20)
            db.close()

        while True:
            await anyio.to_thread.run_sync(commit)
            await anyio.sleep(0.05)


async def overload(seconds: float) -> float:
    """Share of the high stream's frames that came to nothing or too late, at twice the machine."""
    with tempfile.TemporaryDirectory() as folder:
        limit_fps = await anyio.to_thread.run_sync(Raw(Path(folder)).fps, 0.5)
    low_fps = (2 * limit_fps - 30.0) / 3
    streams = [stream(30.0, priority="high")]
    streams += [stream(low_fps, priority="low") for _ in range(3)]
    async with rig(streams, "process", lanes=1) as bench:
        await measured(bench, seconds)
        shown = bench.agent.views.status()["streams"]["s0"]
    bad = shown["missed"] + sum(shown["dropped"].values())
    return float(bad) / max(1, int(shown["captured"]))


async def overhead_us(n: int, seconds: float) -> float:
    """CPU per frame of agent and child, less the model's own; 64 fps over n streams."""
    async with rig([stream(64.0 / n) for _ in range(n)], "process", lanes=1) as bench:
        await measured(bench, WARM_S)
        pids = [os.getpid(), *bench.pids]
        before = sum(map(cpu_ns, pids))
        head = bench.meter.head
        bench.meter.gate(is_open=True)
        await anyio.sleep(max(seconds, 1.5))
        spent_us = (sum(map(cpu_ns, pids)) - before) / 1000
        rows = bench.meter.since(head)
        bench.meter.gate(is_open=False)
    model_us = float(rows[:, MODEL_CPU].sum())
    return (spent_us - model_us) / len(rows)


CONFIG = """\
node = "bench"
state_dir = "{folder}"
[console]
port = 0
[streams.s0.source]
kind = "phantom"
fps = 30
[[streams.s0.models]]
name = "us-chamber"
version = "1.0.0"
"""


def daemon(settle_s: float) -> tuple[float, float]:
    """(seconds from exec to the first result, PSS in MB of all its processes)."""
    with tempfile.TemporaryDirectory(prefix="ea-b-") as folder:
        config = Path(folder) / "c.toml"
        config.write_text(CONFIG.format(folder=folder))
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "run", "--config", str(config)],
            stderr=subprocess.DEVNULL,
        )
        try:
            while not inferred(f"{folder}/run/control.sock"):
                if time.perf_counter() - start > START_TIMEOUT_S:
                    return float("nan"), float("nan")
                time.sleep(0.01)
            first_s = time.perf_counter() - start
            time.sleep(settle_s)
            return first_s, sum(map(pss_mb, tree(process.pid)))
        finally:
            process.terminate()
            process.wait(10)


def inferred(path: str) -> int:
    """Results of the daemon behind that socket; 0 while it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(1.0)
            sock.connect(path)
            sock.sendall(b"GET /v1/status HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = b""
            while chunk := sock.recv(1 << 16):
                answer += chunk
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        return int(body["streams"]["s0"]["inferred"])
    except (OSError, ValueError, KeyError):
        return 0


def tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in tree(int(child)))]


def pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0
