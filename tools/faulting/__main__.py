"""`python -m tools.faulting VERB`, the verbs of `tools/faults`, which prepares what it needs.

The last line of standard output is one of JSON; the exit code is 1 when its `ok` is false.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from tools.faulting.children import Fell
from tools.faulting.drain import drain
from tools.faulting.flips import flips
from tools.faulting.kill import ordeal, whole_ordeal
from tools.faulting.million import million
from tools.faulting.outage import Plan as OutagePlan
from tools.faulting.outage import outage
from tools.faulting.soak import soak
from tools.faulting.ward import AGENT_LIFE_S, Plan


def main(arguments: list[str] | None = None) -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="tools/faults", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    kill = verbs.add_parser("kill", help="kill -9 at any moment, everything else falls over too")
    kill.add_argument("--cycles", type=int, default=100, metavar="N")
    kill.add_argument(
        "--agent", action="store_true", help="the whole agent, not its spool and uplink alone"
    )
    kill.add_argument("--seed", type=int, default=1)
    kill.set_defaults(run=_kill)
    flip = verbs.add_parser("flips", help="bits flip in the spool's file, or it ends too soon")
    flip.add_argument("--cycles", type=int, default=1000, metavar="N")
    flip.add_argument("--seed", type=int, default=1)
    flip.add_argument("--only", type=int, metavar="N", help="of these cycles the N-th, from 0")
    flip.set_defaults(run=_flips)
    many = verbs.add_parser("million", help="a million records: opened again, and acknowledged")
    many.add_argument("--records", type=int, default=1_000_000, metavar="N")
    many.set_defaults(run=_million)
    long = verbs.add_parser("drain", help="hours of backlog, through all faults of EdgeCore")
    long.add_argument("--hours", type=float, default=1.0, metavar="H")
    long.set_defaults(run=_drain)
    away = verbs.add_parser("outage", help="hours without a road, in simulated time")
    away.add_argument("--hours", type=float, default=10.0, metavar="H")
    away.add_argument("--seed", type=int, default=1)
    away.add_argument("--per-s", type=int, default=30, metavar="N", help="results of each stream")
    away.add_argument("--silent", action="store_true", help="swallows everything, then a reset")
    away.add_argument("--requeue", action="store_true", help="with KubeEdge PR #7164")
    away.set_defaults(run=_outage)
    rough = verbs.add_parser(
        "soak", help="one agent, silent roads, a broker that dies with EdgeCore"
    )
    rough.add_argument("--seconds", type=float, default=60.0, metavar="S")
    rough.add_argument("--agent", action="store_true", help="the whole agent")
    rough.add_argument("--seed", type=int, default=1)
    rough.set_defaults(run=_soak)
    down = verbs.add_parser("rollouts", help="models come and go while everything falls over")
    down.add_argument("--cycles", type=int, default=10, metavar="N")
    down.add_argument("--seed", type=int, default=1)
    down.add_argument("--first", type=int, default=1, metavar="N", help="number of the first cycle")
    down.add_argument("--trace", action="store_true", help="what was seen of every cycle")
    down.set_defaults(run=_rollouts)
    options = parser.parse_args(arguments)
    logging.getLogger("edge_agent").setLevel(logging.CRITICAL)  # all these faults are ours
    with tempfile.TemporaryDirectory(prefix="ea-faults-") as folder:
        found = options.run(Path(folder), options)
    print(json.dumps(found), flush=True)
    return 0 if found["ok"] else 1


def _drain(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    return drain(folder, options.hours)


def _outage(_: Path, options: argparse.Namespace) -> dict[str, Any]:
    names = OutagePlan.__struct_fields__
    return outage(OutagePlan(**{name: getattr(options, name) for name in names}))


def _rollouts(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    # only who asks for it needs what makes models
    from tools.faulting import rollouts  # noqa: PLC0415

    order = rollouts.Plan(
        cycles=options.cycles, seed=options.seed, first=options.first, trace=options.trace
    )
    return asyncio.run(rollouts.rollouts(folder, order))


def _million(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    return asyncio.run(million(folder, options.records))


def _flips(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    return asyncio.run(flips(folder, options.cycles, options.seed, options.only))


def _kill(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    plan, suffer = Plan(cycles=options.cycles, seed=options.seed), ordeal
    if options.agent:
        plan, suffer = msgspec.structs.replace(plan, life_s=AGENT_LIFE_S), whole_ordeal
    return _unless_it_fell(suffer(folder, plan), {"cycles": options.cycles, "seed": options.seed})


def _soak(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    suffered = soak(folder, options.seconds, options.seed, whole=options.agent)
    return _unless_it_fell(suffered, {"seed": options.seed})


def _unless_it_fell(
    suffered: Coroutine[Any, Any, dict[str, Any]], order: dict[str, Any]
) -> dict[str, Any]:
    try:
        return asyncio.run(suffered)
    except Fell as fell:
        print(fell, file=sys.stderr)
        return {**order, "ok": False, "fell": str(fell)[:200]}


if __name__ == "__main__":
    raise SystemExit(main())
