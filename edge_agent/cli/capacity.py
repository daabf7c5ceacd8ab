"""What `bench` does: the raw loop of fill and run, on every lane at once, timed frame by frame."""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent import backends
from edge_agent.cli import exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.tables import plain
from edge_agent.core.frames import Frame
from edge_agent.cores import cores
from edge_agent.host import SystemClock
from edge_agent.inference.seats import Shelf
from edge_agent.ports import Bound, Clock
from edge_agent.stores.models import Models

FILL = 0.8  # of the capacity; the rest is for peaks
RATES_FPS = (30, 60)
FRAME_SIZE = (640, 480)
FRAMES = 8
SHORTEST_S, LONGEST_S = 0.2, 600.0
WARM_UP_RUNS = 5
MAX_LANES = 64


def run(args: argparse.Namespace) -> int:
    store = Models([Path(folder) for folder in args.models_dir], shipped=True)
    lanes = min(args.lanes if args.lanes > 0 else max(1, cores() - 1), MAX_LANES)
    seconds = min(max(args.seconds, SHORTEST_S), LONGEST_S)
    wanted = [args.model] if args.model else sorted(store.versions())
    if not wanted:
        raise CommandError(
            "bench: there is no model", hint="--models-dir DIR", code=exits.NOTHING_TO_DO
        )
    measured = []
    for title in wanted:
        measured.append(measure(store, title, lanes=lanes, seconds=seconds))
        if not args.json:
            print(sentence(measured[-1]), flush=True)
    if args.json:
        print(json.dumps({"schema": 1, "models": measured}))
    return exits.OK


def measure(store: Models, title: str, *, lanes: int, seconds: float) -> dict[str, Any]:
    """Loads `NAME[@VERSION]` and runs it on `lanes` threads for so long.

    Raises: Rejected, Damaged, Overloaded, BadFrame.
    """
    name, _, version = title.partition("@")
    folder = store.resolve(name, version)
    sha, is_known = store.identity(folder), bool(store.law(folder).sha)
    loaded = Shelf(backends.make("auto")).load(str(folder), sha, is_known=is_known)
    manifest, session = loaded.manifest, loaded.session
    clock = SystemClock()
    frames = synthetic(clock, channels=manifest.input.channels)
    try:
        with ThreadPoolExecutor(lanes) as pool:
            loops = [
                pool.submit(_loop, session.bind(), frames, clock, seconds) for _ in range(lanes)
            ]
            spent_us = [loop.result() for loop in loops]
    finally:
        session.close()
    spent_ms = np.concatenate(spent_us) / 1000.0
    frames_per_s = sum(1e6 * len(lane) / sum(lane) for lane in spent_us)
    return {
        "model": manifest.name,
        "version": manifest.version,
        "backend": session.backend,
        "variant": session.variant,
        "lanes": lanes,
        "runs": len(spent_ms),
        "p50_ms": round(float(np.percentile(spent_ms, 50)), 3),
        "p99_ms": round(float(np.percentile(spent_ms, 99)), 3),
        "frames_per_s": round(frames_per_s, 1),
        "streams": {str(fps): int(FILL * frames_per_s // fps) for fps in RATES_FPS},
    }


def synthetic(clock: Clock, *, channels: int) -> list[Frame]:
    """Noise: no model finds it easier than the real thing."""
    random = np.random.default_rng(1)
    width, height = FRAME_SIZE
    shape = (height, width) if channels == 1 else (height, width, channels)
    return [
        Frame(
            number=number,
            captured_us=clock.boot_us(),
            pixels=random.integers(0, 256, shape, dtype=np.uint8),
        )
        for number in range(1, FRAMES + 1)
    ]


def _loop(bound: Bound, frames: list[Frame], clock: Clock, seconds: float) -> list[int]:
    """Microseconds of each run."""
    roi = (0, 0, *FRAME_SIZE)
    for _ in range(WARM_UP_RUNS):
        bound.fill(frames[0], roi)
        bound.run()
    spent_us: list[int] = []
    until_us = clock.boot_us() + round(seconds * 1e6)
    while not spent_us or clock.boot_us() < until_us:
        begun_us = clock.boot_us()
        bound.fill(frames[len(spent_us) % len(frames)], roi)
        bound.run()
        spent_us.append(max(1, clock.boot_us() - begun_us))
    return spent_us


def sentence(measured: dict[str, Any]) -> str:
    """One model in words."""
    fits = [f"{count} x {fps} fps" for fps, count in measured["streams"].items() if count]
    one = f"1 x {FILL * measured['frames_per_s']:.1f} fps"
    return (
        f"{plain(measured['model'])}@{plain(measured['version'])}  {plain(measured['backend'])} "
        f"{plain(measured['variant'])}: p50 {measured['p50_ms']:.2f} ms, "
        f"p99 {measured['p99_ms']:.2f} ms on {measured['lanes']} lane(s), "
        f"{measured['frames_per_s']:.0f} frames/s; at {FILL:.0%} fit {' or '.join(fits) or one}"
    )
