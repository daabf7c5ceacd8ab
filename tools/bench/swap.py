"""Swaps under a live stream of 60 fps: what it loses, what it waits, what it costs in memory.

The agent, its child and its engine are the real ones; only the camera is ours. Each swap is a whole
one: load beside the live version, swap between two frames, commit. Frames have numbers: each is a
result exactly once, or a drop. Beside each swap stands a control of as many frames in which nothing
happens, so that what the machine itself loses is not counted as the swap's.

frames_dropped     frames without a result around swaps, less those in the controls.
frames_doubled     frames with more than one result, in the whole run.
frames_unexplained captured less results less drops in the books, at the end.
added_wait_frames  p99 of the wait before a run around swaps, less that of the controls, in frames.
peak_memory_ratio  PSS of the child while models of 60 MB are swapped, to before.
rss_slope          of the child over the swaps of the demo models.
shadow_added       p99 of the wait with a shadow on every frame, less that without.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from edge_agent.cli.daemon import run_loop
from edge_agent.core.trial import ShadowCounts
from tools.bench.common import Goal, Scale, arguments, figure, load
from tools.bench.rig import models, swapping
from tools.bench.rig.swapping import FPS, Memory, Seen

Value = TypeVar("Value")
BENCH = "swap"
NONE = Goal(at_most=0)
SKIPPED_SHARE = 5  # the first fifth of the swaps is not in the slope: caches fill


def main() -> int:
    scale = arguments(__doc__, full=Scale(20.0, 500), quick=Scale(2.0, 8))
    demo, beside, counts = run(partial(demo_house, scale))
    with tempfile.TemporaryDirectory(prefix="ea-big-") as folder:
        big, memory = run(partial(big_house, Path(folder), scale))
    tell_frames("", demo)
    tell_frames("_60mb", big)
    tell_memory(demo, memory)
    tell_shadow(beside, counts)
    return 0


def tell_frames(tail: str, seen: Seen) -> None:
    swaps = len(seen.deeds)
    lost, usual = seen.missing(seen.deeds), seen.missing(seen.controls)
    figure(BENCH, f"frames_dropped{tail}", max(0, lost - usual), "1", goal=NONE, runs=swaps,
           notes=f"{lost} around swaps, {usual} in as many frames without; {load()}")  # fmt: skip
    figure(BENCH, f"frames_doubled{tail}", seen.doubled(), "1", goal=NONE, runs=swaps,
           notes=f"of {len(seen.results)} results")  # fmt: skip
    left = seen.captured - len(seen.results) - seen.dropped
    figure(BENCH, f"frames_unexplained{tail}", left, "1", goal=NONE, runs=swaps,
           notes=f"{seen.captured} captured, {seen.dropped} dropped in the books")  # fmt: skip
    deed, control = seen.waits_us(seen.deeds), seen.waits_us(seen.controls)
    added = frames(float(np.quantile(deed, 0.99) - np.quantile(control, 0.99)))
    figure(BENCH, f"added_wait_frames{tail}", max(0.0, added), "1", goal=Goal(at_most=1),
           runs=swaps, notes=f"most {frames(deed.max()):.2f}, without "
           f"{frames(control.max()):.2f}; {load()}")  # fmt: skip


def tell_memory(demo: Seen, memory: Memory) -> None:
    figure(BENCH, "peak_memory_ratio", memory.peak_mb / memory.before_mb, "1",
           goal=Goal(at_most=2.2), runs=memory.swaps, notes=f"PSS of the child, "
           f"{memory.before_mb:.0f} MB before, {memory.after_mb:.0f} MB after")  # fmt: skip
    held = demo.rss_mb[len(demo.rss_mb) // SKIPPED_SHARE :]
    slope = float(np.polyfit(np.arange(len(held)), held, 1)[0]) * 100
    figure(BENCH, "rss_slope_mb_per_100_swaps", slope, "MB", goal=Goal(at_most=0.5),
           runs=len(held), notes=f"{held[0]:.0f} to {held[-1]:.0f} MB")  # fmt: skip


def tell_shadow(seen: Seen, counts: Mapping[str, ShadowCounts]) -> None:
    with_us, without_us = seen.waits_us(seen.deeds), seen.waits_us(seen.controls)
    added = float(np.quantile(with_us, 0.99) - np.quantile(without_us, 0.99)) / 1000
    one = counts["s0"]
    figure(BENCH, "shadow_added_p99_ms", added, "ms", goal=Goal(at_most=0.5), runs=1,
           notes=f"p50 {np.median(with_us) / 1000:.2f} ms, without "
           f"{np.median(without_us) / 1000:.2f} ms; {one.frames} frames, {one.late} late; "
           f"{load()}")  # fmt: skip
    lost, usual = seen.missing(seen.deeds), seen.missing(seen.controls)
    figure(BENCH, "shadow_frames_dropped", max(0, lost - usual), "1", goal=NONE, runs=1,
           notes=f"{lost} with, {usual} without")  # fmt: skip


def frames(wait_us: float) -> float:
    return wait_us * FPS / 1e6


async def demo_house(scale: Scale) -> tuple[Seen, Seen, dict[str, ShadowCounts]]:
    async with swapping.house(swapping.demo(), "us-chamber", "1.0.0") as one:
        beside, counts = await one.beside(round(scale.seconds * FPS))
        await one.rounds(scale.rounds)
    return one.seen, beside, counts


async def big_house(folder: Path, scale: Scale) -> tuple[Seen, Memory]:
    async with swapping.house(swapping.big(folder), models.BIG_NAME, "1.0.0") as one:
        await one.rounds(max(2, scale.rounds // 25))
        memory = await one.memory(max(2, min(10, scale.rounds // 6)))
    return one.seen, memory


def run(cell: Callable[[], Awaitable[Value]]) -> Value:
    """One cell on a loop of its own."""
    found: list[Value] = []

    async def body() -> None:
        found.append(await cell())

    run_loop(body)
    return found[0]


if __name__ == "__main__":
    sys.exit(main())
