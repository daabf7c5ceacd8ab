"""A backlog drains through EdgeCore's double while live results come: `tools/bench/uplink.py`.

    near (spool, uplink) ── broker ── EdgeCore's double ──Rule── far (hot tier)

Each is a process of its own: real spool, real uplink, real broker (mosquitto where it is found, as
config/kubeedge/mosquitto.conf has it, else the embedded one), real receiver; only the engine is
left out. A backlog of `--hours` with made-up times, two streams of 30 results a second, lies
committed in the spool of an earlier life; then 60 live results a second come and go on coming while
it drains. Once with detections of one or two objects, each with two measures, once with those and
contours of 64 points.

Faults. All the time: bytes that are no text are destroyed, 30 messages a second after a burst of
60, order lost among 18 neighbours, a downlink of 100 messages that drops its oldest, each post on a
connection of its own that nobody but the hot tier closes. Outages, the first after 10 s: the link
to the cloud is cut for 2 s and swallows 3 messages when it is back; the road is gone for a minute;
EdgeCore is away for 1 s and has lost all that it held; the road is silent for a minute, and what is
on it is lost. From a long one EdgeHub needs 20 to 55 s more to notice. These are 8 s apart; then
short ones go on in turn, 30 s after the last. With --quick there is one long outage of 2 s, noticed
within one, and then a short one each 12 s.

live_p99_ms        of the results that were made outside of outages: made to durable at the hot
                   tier, which is one clock, as all run here. An outage is its window, what was on
                   the road when it began (0.2 s), and what the uplink needs afterwards to find that
                   the road is open: 5 s, or what `road_found_s` says. `_all` has no such mercy: a
                   result that was made during a cut is as old as the cut is long.
road_found_s       the longest of the outages, from when EdgeHub has its link again until a result
                   is durable that was made since and is at most a second old.
drain_ratio        records of the backlog, acknowledged and gone, per second with a road, from
                   connecting until nothing of it is left, over the 60 that a second makes. What is
                   found out late counts: only the outages themselves, until EdgeHub has its link
                   again, are time without a road. `_whole` counts them too; `_clear` is of the
                   tenths of a second that no outage touches, nor what follows one.
spool_to_payload   bytes of the closed spool file over those of the bodies in it.
append_p99_ms      of `append` while the backlog drains and is acknowledged; `_ratio` over the
                   same with nothing connected.
lost, duplicates   committed, not evicted and not durable at the far side; durable there twice.
..._cpu_us         processor time of a side while it drains, all of its threads, over the records
                   that left the spool: on a busy machine it says more than time does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec

from tools.bench.common import Goal, figure, load
from tools.bench.rig.draining import (
    PER_S,
    Plan,
    Run,
    clear_ages,
    clear_course,
    committed,
    found_us,
    lost_records,
    measured,
    quantile_ms,
    road_s,
)

BENCH: Final = "uplink"
KINDS: Final = {"detections": 80.0, "contours": 20.0}  # kind to the goal of its drain ratio

LONG: Final = ("long-cut", "long-silent")
LONG_S: Final = 250.0  # both, until they are noticed


def planned() -> Plan:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--hours", type=float, default=1.0, help="of backlog, of each kind")
    parser.add_argument("--quick", action="store_true", help="within a minute")
    parser.add_argument("--kind", choices=tuple(KINDS), help="this one alone")
    parser.add_argument("--seconds", type=float, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    plan = _scaled(given)
    kinds = [given.kind] if given.kind else list(KINDS)
    return msgspec.structs.replace(plan, seconds={kind: plan.seconds[kind] for kind in kinds})


def _scaled(given: argparse.Namespace) -> Plan:
    if given.seconds is not None:  # for the bench's own test
        seconds = dict.fromkeys(KINDS, given.seconds)
        return Plan(
            seconds=seconds, limit_s=60, idle_s=0.5, tail_s=0.5, first_s=1.0, every_s=3.0,
            opening=dict.fromkeys(KINDS, LONG), gap_s=3.0, long_s=0.5, reconnect_s=(0.1, 0.3),
        )  # fmt: skip
    if given.quick:
        return Plan(
            seconds={"detections": 750.0, "contours": 150.0}, limit_s=20, idle_s=1.5, tail_s=1.0,
            first_s=4.0, every_s=12.0, opening={"detections": LONG[:1], "contours": LONG[1:]},
            gap_s=12.0, long_s=2.0, reconnect_s=(0.5, 1.0),
        )  # fmt: skip
    opening = ("cut", LONG[0], "restart", LONG[1])
    return Plan(
        seconds=dict.fromkeys(KINDS, given.hours * 3600), limit_s=given.hours * 450 + LONG_S,
        opening=dict.fromkeys(KINDS, opening),
    )  # fmt: skip


def main() -> int:
    plan = planned()
    for kind in plan.seconds:
        tail = "" if kind == "detections" else f"_{kind}"
        with tempfile.TemporaryDirectory(prefix="uplink-bench-") as folder:
            print_figures(measured(plan, kind, Path(folder)), KINDS[kind], tail)
    return 0


# ── figures ───────────────────────────────────────────────────────────────────────────────────


def print_figures(run: Run, ratio: float, tail: str) -> None:
    say_live(run, tail)
    say_found(run, tail)
    say_drain(run, ratio, tail)
    say_sums(run, tail)
    say_costs(run, tail)


def say_live(run: Run, tail: str) -> None:
    clear, every = clear_ages(run)
    windows = run.between["windows"]
    words = (
        f"{len(clear)} of {len(every)} results, outside of {len(windows)} outages; p50 "
        f"{quantile_ms(clear, 0.5):.1f}, p90 {quantile_ms(clear, 0.9):.1f}, worst "
        f"{quantile_ms(clear, 1):.1f}; over everything p50 {quantile_ms(every, 0.5):.1f}, "
        f"p99 {quantile_ms(every, 0.99):.0f} ms; {run.broker}; {load()}"
    )
    figure(BENCH, f"live_p99_ms{tail}", quantile_ms(clear, 0.99), "ms", goal=Goal(at_most=100),
           runs=1, notes=words)  # fmt: skip
    figure(BENCH, f"live_p99_all_ms{tail}", quantile_ms(every, 0.99), "ms", runs=1,
           notes=f"outages included, {len(every)} results")  # fmt: skip


def say_found(run: Run, tail: str) -> None:
    found = [(name, (found - end) / 1e6) for name, end, found in found_us(run)]
    words = ", ".join(f"{name} {seconds:.1f}" for name, seconds in found) or "no outage"
    figure(BENCH, f"road_found_s{tail}", max((seconds for _, seconds in found), default=0.0), "s",
           runs=1, notes=words)  # fmt: skip


def say_drain(run: Run, goal: float, tail: str) -> None:
    records, left = run.filled["records"] - run.drained["left"], run.drained["left"]
    whole_s, with_road_s = (run.drained["ended_us"] - run.drained["begun_us"]) / 1e6, road_s(run)
    note = f"{records} records in {with_road_s:.1f} s with a road, {left} left"
    names = f"outages: {' '.join(run.between['names']) or 'none'}; {load()}"
    figure(BENCH, f"drain_ratio{tail}", records / with_road_s / PER_S, "1",
           goal=Goal(at_least=goal), runs=1, notes=f"{note}; {names}")  # fmt: skip
    figure(BENCH, f"drain_whole_ratio{tail}", records / whole_s / PER_S, "1", runs=1,
           notes=f"{records} records in {whole_s:.1f} s, outages included")  # fmt: skip
    went, clear_s = clear_course(run)
    figure(BENCH, f"drain_clear_ratio{tail}", went / clear_s / PER_S, "1", runs=1,
           notes=f"{went} records in the {clear_s:.1f} s that no outage touched")  # fmt: skip


def say_sums(run: Run, tail: str) -> None:
    near, far = run.near, run.far
    body = run.filled["bodies"] / run.filled["records"]
    figure(BENCH, f"spool_to_payload{tail}", run.filled["file"] / run.filled["bodies"], "1",
           goal=Goal(at_most=1.3), runs=1, notes=f"bodies of {body:.0f} B")  # fmt: skip
    void = f"{near['evicted']} evicted, {near['corrupt']} corrupt, {near['left']} left in the spool"
    figure(BENCH, f"lost{tail}", lost_records(run), "records", goal=Goal(at_most=0), runs=1,
           notes=f"of {committed(run)}; {void}; findings {near['findings'] or 'none'}")  # fmt: skip
    wire = far["wire"]
    figure(BENCH, f"duplicates{tail}", far["doubled"], "records", goal=Goal(at_most=0), runs=1,
           notes=f"{far['repeated']} came again and were recognised")  # fmt: skip
    figure(BENCH, f"waiting_at_end{tail}", far["waiting"], "records", goal=Goal(at_most=0), runs=1,
           notes=f"{wire['bundles']} bundles, {wire['corrupt']} corrupt, {wire['refused']} "
           f"refused, {wire['overrun']} overrun; problems {far['problems'] or 'none'}")  # fmt: skip
    open_ = run.between["connections"]
    counts = {name: n for name, n in sorted(run.between["counts"].items()) if n}
    figure(BENCH, f"ack_bytes_max{tail}", near["ack_bytes"], "B", goal=Goal(at_most=32_000),
           runs=1, notes=f"the double: {counts}, {open_} connections open")  # fmt: skip


def say_costs(run: Run, tail: str) -> None:
    idle, busy = run.idle["p99_append_ms"], run.drained["p99_append_ms"]
    figure(BENCH, f"append_p99_ms{tail}", busy, "ms", runs=1, notes=f"idle {idle:.3f} ms")
    figure(BENCH, f"append_p99_ratio{tail}", busy / idle, "1", runs=1,
           notes="to the same with nothing connected; unmoved is about 1")  # fmt: skip
    went = max(1, run.drained["went"])
    for side, spent_s in (("near", run.drained["cpu_s"]), ("far", run.far_cpu_s)):
        figure(BENCH, f"{side}_cpu_us{tail}", spent_s / went * 1e6, "us/record", runs=1,
               notes="processor time while it drains, live results included")  # fmt: skip
    uplink = run.near["uplink"]
    figure(BENCH, f"sent_to_raw{tail}", uplink["sent_bytes"] / max(1, uplink["raw_bytes"]), "1",
           runs=1, notes=f"payloads, resends included, to compact JSON; {uplink['publishes']} "
           f"publishes, {uplink['resends']} envelopes again")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
