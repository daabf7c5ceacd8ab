"""`uplink test`: configuration, the road to the broker, and what the daemon knows of the rest."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import anyio
import msgspec

from edge_agent.cli import client, exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.status import Status, percentiles
from edge_agent.cli.tables import Paint, duration, plain
from edge_agent.config.check_uplink import is_loopback
from edge_agent.config.load import load, paths
from edge_agent.config.naming import node_name
from edge_agent.config.structs import Config
from edge_agent.core import kubeedge
from edge_agent.core.edgecore import Topics
from edge_agent.core.errors import LinkDenied, Rejected
from edge_agent.links.road_keys import NODE_KEY, read_keys
from edge_agent.links.survey import Step, survey
from edge_agent.stores.files import read_bounded

EDGECORE_CONFIG = Path("/etc/kubeedge/config/edgecore.yaml")
MAX_EDGECORE_BYTES = 1 << 20
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
    host_name = socket.gethostname()
    node = loaded.config.node or node_name(host_name)
    yield of_node(loaded.config, node, host_name, override_of(EDGECORE_CONFIG))
    yield from of_keys(loaded.config)
    uplink = of_daemon(args)
    yield from walked(loaded.config, node, beside_agent=uplink is not None)
    yield from heard(uplink, Topics.of(loaded.config.uplink.ns, node).up)


def of_config(config: Config) -> Step:
    if not config.uplink.enabled:
        what = "uplink.enabled is false: the agent sends nothing"
        return Step(name="config", status="warn", what=what, fix="set uplink.enabled = true")
    return Step(name="config", status="pass", what="sound")


def override_of(edgecore: Path) -> str:
    """What EdgeCore here calls the machine; "" where there is none, or we may not look."""
    with suppress(OSError, Rejected):
        settings = read_bounded(edgecore, MAX_EDGECORE_BYTES)
        return kubeedge.override_in(settings.decode(errors="replace"))
    return ""


def of_node(config: Config, node: str, host_name: str, override: str = "") -> Step:
    """Whether KubeEdge's node can be, and is, called as this one. Whoever answers by CloudCore's
    REST door has to name both. override: what EdgeCore says itself, "" where that is not known.
    """
    told = config.uplink.kubeedge_node
    words = f"{node}, which KubeEdge calls {told}" if told else node
    if not is_loopback(config.uplink.host):  # no EdgeCore's broker
        return _node("pass", words)
    if override:
        return _by_settings(node, told, override)
    return _node("pass", words) if told else _by_host(config, node, host_name)


def _by_settings(node: str, told: str, override: str) -> Step:
    if override != (told or node):
        words = f"{node}: EdgeCore calls this machine {override}, not {told or node}"
        return _node("warn", words, f'uplink.kubeedge_node = "{override}"')
    return _node("pass", f"{node}, and EdgeCore calls this machine {override}")


def _by_host(config: Config, node: str, host_name: str) -> Step:
    known = kubeedge.default_node(host_name)
    if not kubeedge.is_node(node):
        words = f"{node}: no node of KubeEdge can be called so, it ends in a letter or a digit"
        return _node("warn", words, "set uplink.kubeedge_node to its name in kubectl get nodes")
    if config.node or known == node:
        words = "KubeEdge's node has to have the same name, or to be set as uplink.kubeedge_node"
        return _node("pass", f"{node}: {words}")
    if known == kubeedge.UNUSABLE_HOST:
        words = f"EdgeCore cannot use this host name, and calls the machine {known}"
        fix = f'set hostnameOverride: "{node}" in edgecore.yaml before it joins'
        return _node("warn", f"{node}: {words}", fix)
    words = f"{node}: EdgeCore calls this machine {known}, unless its hostnameOverride differs"
    return _node("warn", words, f'uplink.kubeedge_node = "{known}"')


def of_keys(config: Config) -> Iterator[Step]:
    """Who may read, who says so, and who is believed; nothing where all of it is off."""
    uplink, path = config.uplink, Path(config.state_dir) / NODE_KEY
    if not (uplink.seal or uplink.sign or uplink.hot_tier_keys is not None):
        return
    if uplink.sign and not os.access(path, os.R_OK):
        what = "the key of this machine is not there, or not for you to read"
        yield Step(name="keys", status="warn", what=what, fix="sudo edge-agent uplink key")
        return
    try:
        keys = read_keys(uplink, path)
    except LinkDenied as wrong:
        yield Step(name="keys", status="fail", what=wrong.what, fix=wrong.hint)
        return
    sealer, signer = keys.protection
    words = [
        f"sealed for {sealer.id.hex()}" if sealer else "not sealed",
        f"signed as {signer.id.hex()}" if signer else "not signed",
        f"answers by {', '.join(key.hex() for key in keys.verifier.ids)}"
        if keys.verifier
        else "any answer is believed",
    ]
    yield Step(name="keys", status="pass", what="; ".join(words))


def _node(status: Literal["pass", "warn"], what: str, fix: str = "") -> Step:
    return Step(name="node", status=status, what=what, fix=fix)


def walked(config: Config, node: str, *, beside_agent: bool) -> list[Step]:
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


def heard(uplink: Status | None, topic: str = "") -> Iterator[Step]:
    """The daemon's connection, and whether anybody at the other end answers. topic: where it
    publishes.
    """
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
    yield _of_cloud(uplink, topic)


def _of_cloud(uplink: Status, topic: str) -> Step:
    ack_s = uplink.get("last_ack_s")
    cloud = uplink.get("cloud")
    fix = (
        "is EdgeCore connected (journalctl --namespace='*' -u edgecore), and are both Rules in "
        f"place (kubectl get rules), the one up for {topic} to the letter? docs/uplink.md, step 8"
    )
    if cloud == "down":
        return Step(name="cloud", status="fail", what="the hot tier does not answer", fix=fix)
    if ack_s is None:
        what = "the hot tier has not acknowledged anything yet"
        return Step(name="cloud", status="warn", what=what, fix=fix)
    latency = percentiles(uplink.get("latency_ms"))
    what = f"last ack {duration(ack_s)} ago, latency p50/p99 {latency} ms"
    return Step(name="cloud", status="pass", what=what)
