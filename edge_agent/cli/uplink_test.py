"""`uplink test`: configuration, the road to the broker, and what the daemon knows of the rest."""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec

from edge_agent.cli import client, exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.status import Status, percentiles
from edge_agent.cli.tables import Paint, duration, plain
from edge_agent.config.load import load, node_name, paths
from edge_agent.config.structs import Config
from edge_agent.links.survey import Step, survey

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "dim"}


def run(args: argparse.Namespace) -> int:
    """3 when something fails, 4 on warnings."""
    paint = Paint.fitting(sys.stdout)
    steps = []
    for step in checks(args):
        steps.append(step)
        if not args.json:
            for line in lines(step, paint):
                print(line, flush=True)
    if args.json:
        print(json.dumps({"schema": 1, "checks": msgspec.to_builtins(steps)}))
    found = {step.status for step in steps}
    if "fail" in found:
        return exits.CHECK_FAILED
    return exits.WARNINGS if "warn" in found else exits.OK


def lines(step: Step, paint: Paint) -> Iterator[str]:
    took = f"  ({step.took_ms:.1f} ms)" if step.took_ms is not None else ""
    word = paint(step.status.upper(), "bold", COLOURS[step.status])
    yield f"{word}  {step.name:<7} {plain(step.what)}{took}"
    if step.fix and step.status != "skip":
        yield f"      -> {plain(step.fix)}"


def checks(args: argparse.Namespace) -> Iterator[Step]:
    loaded = load(paths(Path(args.config) if args.config else None), args.set or ())
    if loaded.config is None:
        words = "; ".join(loaded.text().splitlines())
        yield Step(name="config", status="fail", what=words, fix="edge-agent config check")
        return
    yield of_config(loaded.config)
    uplink = of_daemon(args)
    yield from walked(loaded.config, beside_agent=uplink is not None)
    yield from heard(uplink)


def of_config(config: Config) -> Step:
    if not config.uplink.enabled:
        what = "uplink.enabled is false: the agent sends nothing"
        return Step(name="config", status="warn", what=what, fix="set uplink.enabled = true")
    return Step(name="config", status="pass", what=f"node {config.node or 'by host name'}")


def walked(config: Config, *, beside_agent: bool) -> list[Step]:
    node = config.node or node_name(socket.gethostname())

    async def walk() -> list[Step]:
        road = survey(config.uplink, node=node, beside_agent=beside_agent)
        return [step async for step in road]

    return anyio.run(walk)


# ── what the daemon knows ─────────────────────────────────────────────────────────────────────


def of_daemon(args: argparse.Namespace) -> Status | None:
    """None: none runs."""
    try:
        found: Status = client.connect(args).json("/v1/uplink").get("uplink") or {}
    except CommandError as error:
        if error.code != exits.NOT_RUNNING:
            raise
        return None
    return found


def heard(uplink: Status | None) -> Iterator[Step]:
    """The daemon's connection, and whether anybody at the other end answers."""
    if uplink is None:
        yield Step(name="daemon", status="skip", what="edge-agent does not run")
        return
    if uplink.get("configured") is False:
        fix = "set uplink.enabled = true, then restart edge-agent"
        yield Step(name="daemon", status="warn", what="the daemon has no uplink", fix=fix)
        return
    if not uplink.get("connected"):
        why = plain(uplink.get("reason")) if uplink.get("reason") else "it is not connected"
        fix = "journalctl -u edge-agent -n 50"
        yield Step(name="daemon", status="fail", what=f"the daemon: {why}", fix=fix)
        return
    yield Step(name="daemon", status="pass", what="the daemon is connected")
    yield _of_cloud(uplink)


def _of_cloud(uplink: Status) -> Step:
    ack_s = uplink.get("last_ack_s")
    cloud = uplink.get("cloud")
    fix = "is EdgeCore connected (journalctl -u edgecore), and is its Rule in place?"
    if cloud == "down":
        return Step(name="cloud", status="fail", what="the hot tier does not answer", fix=fix)
    if ack_s is None:
        what = "the hot tier has not acknowledged anything yet"
        return Step(name="cloud", status="warn", what=what, fix=fix)
    latency = percentiles(uplink.get("latency_ms"))
    what = f"last ack {duration(ack_s)} ago, latency p50/p99 {latency} ms"
    return Step(name="cloud", status="pass", what=what)
