"""`edge-agent status`: the whole agent on one screen. Standard library alone, also when it runs.

Every field may be missing: an older or newer daemon still gets its screen.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_agent.cli import client, exits
from edge_agent.cli.options import json_option
from edge_agent.cli.tables import Paint, duration, number, plain, share, size, table, width

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it

Status = Mapping[str, Any]

STATE_COLOURS = {
    "ok": "green",
    "starting": "blue",
    "stopping": "blue",
    "degraded": "yellow",
    "reopening": "yellow",
    "frozen": "red",
    "black": "red",
    "no_signal": "red",
    "failed": "red",
    "stale": "red",
    "idle": "blue",
}
DOWN = ("failed", "stale", "no_signal", "frozen", "reopening")
HEADER = (
    "stream", "source", ">fps in/out", ">p50/p99 ms", ">drop", "model", "state",
)  # fmt: skip
SHORTEST_WATCH_S = 0.2


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "status",
        help="the whole agent on one screen",
        description="The whole agent on one screen. Exits 0 whenever the daemon answered; with "
        "--check 3 when something is critical, stopped or never became ready, 4 for warnings only.",
    )
    client.add_daemon_options(parser)
    json_option(parser)
    parser.add_argument(
        "--check", action="store_true", help="exit 3 or 4 unless all is well; for monitoring"
    )
    parser.add_argument(
        "--watch", metavar="SECONDS", type=float, default=None, help="again and again"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    daemon = client.connect(args)
    status = daemon.json("/v1/status")
    show(status, as_json=args.json)
    if args.check:
        return verdict(status)
    while args.watch is not None:
        sys.stdout.flush()
        time.sleep(max(args.watch, SHORTEST_WATCH_S))
        status = daemon.json("/v1/status")
        if sys.stdout.isatty() and not args.json:
            print("\x1b[H\x1b[2J", end="")
        show(status, as_json=args.json)
    return exits.OK


def verdict(status: Status) -> int:
    """What `--check` ends with. A notice is no fault."""
    severities = {problem.get("severity") for problem in status.get("problems") or []}
    streams = (status.get("streams") or {}).values()
    is_down = any(stream.get("state") in DOWN and not stream.get("ended") for stream in streams)
    if "critical" in severities or is_down or status.get("state") in {"starting", "stopping"}:
        return exits.CHECK_FAILED
    is_well = status.get("state") == "ok" and "warning" not in severities
    return exits.OK if is_well else exits.WARNINGS


def show(status: Status, *, as_json: bool) -> None:
    """Prints one status; JSON goes out as it came, one object."""
    if as_json:
        print(json.dumps(status, ensure_ascii=False))
        return
    for line in lines(status, Paint.fitting(sys.stdout)):
        print(line)


def lines(status: Status, paint: Paint, columns: int | None = None) -> list[str]:
    """The screen as `status` prints it and `top` begins with.

    columns: of the terminal; where they are few, model and source go before the state is cut.
    """
    screen = [_headline(status, paint)]
    streams: Mapping[str, Status] = status.get("streams") or {}
    if streams:
        rows = [_stream_row(name, stream, paint) for name, stream in streams.items()]
        head, *body = _fitting(rows, [plain(one.get("state")) for one in streams.values()], columns)
        screen += [paint(head, "bold"), *body]
    else:
        screen.append("no streams configured")
    for line in (_spool(status), _uplink(status), _peers(status), _device(status)):
        if line:
            screen.append(line)
    return screen + _rollouts(status) + _health(status, paint)


def _fitting(
    rows: Sequence[Sequence[str]], states: Sequence[str], columns: int | None
) -> list[str]:
    """The table of the streams, with room for the word of each state; its reason may be cut."""
    for left_out in ((), ("model",), ("model", "source")):
        kept = [index for index, head in enumerate(HEADER) if head not in left_out]
        header = [HEADER[index] for index in kept]
        narrow = [[*(row[index] for index in kept[:-1]), state]
                  for row, state in zip(rows, states, strict=True)]  # fmt: skip
        if columns is None or max(map(width, table(header, narrow))) < columns:
            break
    return table(header, [[row[index] for index in kept] for row in rows])


def _rollouts(status: Status) -> list[str]:
    """A line for each model that is on its way, held, or did not become what is wanted."""
    desired: Status = status.get("desired") or {}
    became, reasons = desired.get("models") or {}, desired.get("reasons") or {}
    models: Mapping[str, Status] = status.get("models") or {}
    found = []
    for name in sorted({*models, *became}):
        rollout: Status = (models.get(name) or {}).get("rollout") or {}
        words, why = [], reasons.get(name) or ""
        if rollout.get("state") and not rollout.get("settled", True):
            words = [plain(rollout.get("version")), plain(rollout["state"])]
            why = rollout.get("waits_for") or why
        elif became.get(name, "applied") != "applied":
            words = [plain(became[name])]
        if rollout.get("pinned"):
            words.append(f"pinned to {plain(rollout['pinned'])}")
        if words:
            found.append(
                f"model     {plain(name)}  {'  '.join(words)}"
                + (f"  ({plain(why)})" if why else "")
            )
    return found


def _headline(status: Status, paint: Paint) -> str:
    state = plain(status.get("state"))
    words = [
        f"edge-agent {plain(status.get('version'))}",
        plain(status.get("node")),
        f"up {duration(status.get('uptime_s'))}",
    ]
    if status.get("level"):
        words.append(f"level {plain(status['level'])}")
    return "  ".join([*words, paint(state.upper(), "bold", STATE_COLOURS.get(state, ""))])


def _stream_row(name: str, stream: Status, paint: Paint) -> list[str]:
    state = plain(stream.get("state"))
    words = paint(state, STATE_COLOURS.get(state, ""))
    if state != "ok" and stream.get("reason"):
        words += f" ({plain(stream['reason'])})"
    return [
        plain(name),
        plain(stream.get("source")),
        f"{number(stream.get('fps_in'))}/{number(stream.get('fps_out'))}",
        percentiles(stream.get("latency_ms")),
        share(sum((stream.get("dropped") or {}).values()), stream.get("captured")),
        model_words(stream),
        words,
    ]


def percentiles(latency_ms: Status | None) -> str:
    """`p50/p99`."""
    latency_ms = latency_ms or {}
    return f"{number(latency_ms.get('p50'))}/{number(latency_ms.get('p99'))}"


def model_words(stream: Status) -> str:
    """`name@version`."""
    if not stream.get("model"):
        return plain(None)
    return f"{plain(stream['model'])}@{plain(stream.get('model_version'))}"


def _spool(status: Status) -> str:
    spool: Status = status.get("spool") or {}
    if not spool:
        return ""
    words = [
        f"spool     {spool.get('records', 0):,} records",
        f"{size(spool.get('bytes'))} of {size(spool.get('limit_bytes'))}",
    ]
    words[1] += f" ({share(spool.get('bytes'), spool.get('limit_bytes'))})"
    if spool.get("oldest_s") is not None:
        words.append(f"oldest {duration(spool['oldest_s'])}")
    words += [f"{spool[name]:,} {name}" for name in ("evicted", "corrupt") if spool.get(name)]
    if spool.get("volatile"):
        words.append("volatile: nothing survives a restart")
    return "  ".join(words)


def _uplink(status: Status) -> str:
    uplink: Status = status.get("uplink") or {}
    if "connected" not in uplink or uplink.get("configured") is False:
        return ""
    road = "connected" if uplink["connected"] else "offline"
    if uplink.get("since_s") is not None:
        road += f" for {duration(uplink['since_s'])}"
    words = [f"uplink    {road}", f"cloud {plain(uplink.get('cloud'))}"]
    if uplink.get("last_ack_s") is not None:
        words.append(f"last ack {duration(uplink['last_ack_s'])} ago")
    if uplink.get("reason"):
        words.append(f"({plain(uplink['reason'])})")
    return "  ".join(words)


def _peers(status: Status) -> str:
    peers: Mapping[str, Status] = status.get("peers") or {}
    if not peers:
        return ""
    alive = [name for name, peer in peers.items() if peer.get("alive")]
    near = ", ".join(f"{plain(name)} {number(peers[name].get('rtt_ms'))} ms" for name in alive)
    return f"peers     {len(alive)} of {len(peers)}" + (f" ({near})" if near else "")


def _device(status: Status) -> str:
    device: Status = status.get("device") or {}
    words = [plain(device["module"])] if device.get("module") else []
    if heat := device.get("temperature_celsius"):
        place = max(heat, key=lambda name: heat[name])
        words.append(f"{plain(place)} {number(heat[place], 0)} C")
    if device.get("memory_available_bytes") is not None:
        words.append(f"memory free {size(device['memory_available_bytes'])}")
    if device.get("disk_free_bytes") is not None:
        words.append(f"disk free {size(device['disk_free_bytes'])}")
    if device.get("load_1m") is not None:
        words.append(f"load {number(device['load_1m'], 2)}")
    return "  ".join(["device  ", *words]) if words else ""


def _health(status: Status, paint: Paint) -> list[str]:
    said = []
    for problem in status.get("problems") or []:
        severity = problem.get("severity")
        colour = {"critical": "red", "notice": ""}.get(str(severity), "yellow")
        word = "Note" if severity == "notice" else "Health"
        since = f" (for {duration(since_s)})" if (since_s := problem.get("since_s")) else ""
        line = paint(f"# {word}: {plain(problem.get('what'))}{since}", colour)
        said.append(line + (f"  -> {plain(problem['fix'])}" if problem.get("fix") else ""))
    return said
