"""EdgeCore's stand-in as a command: `python -m tools.edgecore_double --port 1883 --node cart-3`.

Forwards what the agent sends up by Rules, and what comes down, with every fault that was measured
on a real one unless it is switched off. At the end one JSON line says what became of it all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from typing import Final

import msgspec

from tools.edgecore.cloud import Rule
from tools.edgecore.double import EdgeCoreDouble
from tools.edgecore.road import NO_FAULTS, Faults

__all__ = ["NO_FAULTS", "EdgeCoreDouble", "Faults", "Rule"]

SWITCHES: Final = {
    "seed": "of all chance",
    "mangle": "bytes that are no UTF-8 become U+FFFD, both ways",
    "rate_per_s": "messages to the cloud, of the whole node; 0: no limit",
    "burst": "so many at once, after a pause",
    "reorder_within": "places by which a message may be overtaken; 0: none",
    "reorder_share": "of messages that overtake others",
    "lose_after_cut": "so many of the first are swallowed once the link is back",
    "requeue": "KubeEdge PR #7164: none is swallowed",
    "lose_at_restart": "what waits in memory dies with the process",
    "reconnect_least_s": "EdgeHub notices that the road is back, after so long at the soonest",
    "reconnect_most_s": "and so long at the latest",
    "down_queue": "messages on their way down, the oldest is dropped; 0: no limit",
    "keep_connections": "of posts, one each and never closed; the bound of this process",
    "max_rest_bytes": "of a body at CloudCore's REST door",
    "max_waiting": "messages in memory; EdgeCore itself has no bound",
}


def rule(text: str) -> Rule:
    """`TOPIC=http://…` or `TOPIC=topic/of/the/broker`."""
    topic, _, target = text.partition("=")
    if not topic or not target:
        raise argparse.ArgumentTypeError(f"expected TOPIC=URL or TOPIC=TOPIC, got {text}")
    if "://" in target:
        return Rule(topic=topic, url=target)
    return Rule(topic=topic, publish=target)


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=1883, help="of the broker on this machine")
    parser.add_argument("--node", required=True)
    parser.add_argument(
        "--rule",
        type=rule,
        action="append",
        default=[],
        metavar="TOPIC=TARGET",
        help="as NS/user/edge-agent/NODE/up=http://127.0.0.1:8080/up/NODE; may be repeated",
    )
    parser.add_argument("--device", action="append", default=[], metavar="NS/DEVICE")
    parser.add_argument("--rest", action="store_true", help="open the REST door, print its port")
    parser.add_argument(
        "--outage", type=float, nargs=2, metavar=("AFTER_S", "LASTS_S"), help="one, of the road up"
    )
    parser.add_argument(
        "--silent", action="store_true", help="it swallows all, and ends in a reset"
    )
    parser.add_argument("--no-faults", action="store_true", help="only those that are named")
    for name, default in msgspec.structs.asdict(Faults()).items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=SWITCHES[name])
        else:
            parser.add_argument(flag, type=type(default), metavar=str(default), help=SWITCHES[name])
    return parser.parse_args(arguments)


def faults_of(options: argparse.Namespace) -> Faults:
    """Those that are named, over all or none."""
    base = NO_FAULTS if options.no_faults else Faults()
    named = {
        name: value
        for name in base.__struct_fields__
        if (value := getattr(options, name)) is not None
    }
    return msgspec.structs.replace(base, **named)


async def _outage(double: EdgeCoreDouble, options: argparse.Namespace) -> None:
    if options.outage is not None:
        after_s, lasts_s = options.outage
        await asyncio.sleep(after_s)
        await double.outage(lasts_s, silent=options.silent)


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with EdgeCoreDouble(
        port=options.port,
        node=options.node,
        rules=tuple(options.rule),
        faults=faults_of(options),
        devices=tuple(options.device) or (f"default/{options.node}",),
        rest=options.rest,
    ) as double:
        print(json.dumps({"ready": True, "rest_port": double.rest_port}), flush=True)
        outage = asyncio.ensure_future(_outage(double, options))
        await stop.wait()
        outage.cancel()
        print(json.dumps({"waiting": double.waiting, **double.counts}), flush=True)


def main() -> int:
    """Exit code."""
    asyncio.run(_run(parsed()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
