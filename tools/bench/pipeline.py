"""The real-time path against the raw limit, in one run: ratios, added latency, growth, start.

Model: a detector of about 5 ms, random weights, made on the spot; frames 640x480 drawn beforehand.
The agent is the real one; only the camera is ours, and a meter stands around fill and run.

throughput_ratio   slices of flat-out pipeline (child process, one lane, 1 stream) and of the raw
                   loop (fill and run with IOBinding, one thread) alternate; median of the ratios.
added_inlane       60 fps, child process: capture to in-lane listener, less fill and run.
floor              lateness of a bare sleep at the lane's own policy, between those rounds.
added_callback     60 fps: capture to the callback on the loop, less fill and run; in threads, and
                   with a child (`…_process`), under JSON, zlib and SQLite work in worker threads.
overload           a high stream of 30 fps beside low ones that ask for twice the machine: the share
                   of the high stream's frames that were late, missed or replaced.
growth             64 fps over 1, 2, 4, 8, 16 streams: CPU per frame of agent and child, less the
                   model's; each also printed as `overhead_<n>_us`.
idle_rss, first    `edge-agent run` with one phantom stream: PSS of its processes, and exec to the
                   first result.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


from edge_agent.cli.daemon import run_loop
from tools.bench.common import Goal, Scale, arguments, figure, load, median, spread
from tools.bench.rig import cells
from tools.bench.rig.agent import Mode

BENCH = "pipeline"
STREAMS = (1, 2, 4, 8, 16)


def main() -> int:
    scale = arguments(__doc__, full=Scale(6.0, 7), quick=Scale(0.8, 1))
    throughput(scale)
    latency(scale)
    overload(scale)
    growth(scale)
    daemon(scale)
    return 0


def throughput(scale: Scale) -> None:
    slices = max(4, scale.rounds * 10)
    ratios = collect(lambda: cells.throughput(slices, scale.seconds / 6), 1)[0]
    figure(
        BENCH, "throughput_ratio", median(ratios), "1", goal=Goal(at_least=0.98), runs=len(ratios),
        notes=f"slices {spread(ratios)}; child process, 1 lane; {load()}",
    )  # fmt: skip


def latency(scale: Scale) -> None:
    rounds = max(1, scale.rounds // 2)
    inlane, floors, policy = [], [], ""
    for _ in range(rounds):
        floor, policy = cells.floor(min(2.0, scale.seconds))
        floors.append(floor)
        inlane.append(run(lambda: cells.inlane(scale.seconds)))
    figure(BENCH, "added_inlane_p99_ms", median(inlane), "ms",
           goal=Goal(at_most=max(0.3, median(floors) + 0.15)), runs=rounds,
           notes=f"{spread(inlane)}; process, {policy}; {load()}")  # fmt: skip
    figure(
        BENCH, "floor_p99_ms", median(floors), "ms", runs=rounds, notes=f"a bare sleep, {policy}"
    )
    goals: dict[Mode, tuple[Goal | None, Goal | None]] = {
        "thread": (Goal(at_most=0.2), Goal(at_most=0.8)),
        "process": (None, None),
    }
    for mode, (half, most) in goals.items():
        pairs = [run(partial(cells.callback, mode, scale.seconds)) for _ in range(rounds)]
        tail = "" if mode == "thread" else "_process"
        for index, (share, goal) in enumerate((("p50", half), ("p99", most))):
            values = [pair[index] for pair in pairs]
            figure(BENCH, f"added_callback_{share}_ms{tail}", median(values), "ms", goal=goal,
                   runs=rounds, notes=f"{spread(values)}; {mode}, {policy}, busy loop, "
                   f"floor p99 {median(floors):.3f} ms; {load()}")  # fmt: skip


def overload(scale: Scale) -> None:
    shares = [run(lambda: cells.overload(max(1.0, scale.seconds))) for _ in range(scale.rounds)]
    figure(BENCH, "overload_high_miss_ratio", median(shares), "1", goal=Goal(at_most=0.01),
           runs=len(shares), notes=f"{spread(shares)}; {load()}")  # fmt: skip


def growth(scale: Scale) -> None:
    rounds = max(1, scale.rounds // 2)
    costs: dict[int, list[float]] = {n: [] for n in STREAMS}
    for _ in range(rounds):
        for n in STREAMS:
            costs[n].append(run(partial(cells.overhead_us, n, scale.seconds)))
    for n in STREAMS:
        figure(BENCH, f"overhead_{n}_us", median(costs[n]), "us", runs=rounds,
               notes=f"CPU a frame, less the model's; {spread(costs[n])}")  # fmt: skip
    pairs = zip(costs[1], costs[16], strict=True)
    ratio = median([most / least for least, most in pairs])
    goal = Goal(at_most=1.3)
    figure(BENCH, "growth_16_ratio", ratio, "1", goal=goal, runs=rounds, notes=load())


def daemon(scale: Scale) -> None:
    seen = [
        cells.daemon(settle_s=min(3.0, scale.seconds)) for _ in range(max(1, scale.rounds // 2))
    ]
    first, pss = [one[0] for one in seen], [one[1] for one in seen]
    figure(BENCH, "idle_rss_mb", median(pss), "MB", goal=Goal(at_most=180), runs=len(seen),
           notes="PSS of agent and child; there are no peers and no rollouts yet")  # fmt: skip
    figure(BENCH, "first_result_s", median(first), "s", goal=Goal(at_most=2), runs=len(seen),
           notes=f"exec to the first result, {spread(first)}; {load()}")  # fmt: skip


def run(cell: cells.Cell) -> cells.Value:
    """One cell on a loop of its own."""
    found: list[cells.Value] = []

    async def body() -> None:
        found.append(await cell())

    run_loop(body)
    return found[0]


def collect(cell: cells.Cell, rounds: int) -> list[cells.Value]:
    return [run(cell) for _ in range(rounds)]


if __name__ == "__main__":
    sys.exit(main())
