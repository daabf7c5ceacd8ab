"""`edge-agent streams`: list, probe, snapshot and follow."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_agent.cli import client, exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.lazy import later
from edge_agent.cli.options import add_config_options, json_option
from edge_agent.cli.status import STATE_COLOURS, model_words
from edge_agent.cli.tables import Paint, number, plain, table

if TYPE_CHECKING:
    from edge_agent.cli.status import Status, Subparsers

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "streams", help="what comes in: list, probe, snapshot, follow", description=__doc__
    )
    verbs = parser.add_subparsers(dest="streams_verb", metavar="VERB", required=True)
    _add_list(verbs)
    _add_probe(verbs)
    _add_snapshot(verbs)
    _add_follow(verbs)


def _add_list(verbs: Subparsers) -> None:
    listing = verbs.add_parser(
        "list", help="a line per stream", description="A line per stream of the running daemon."
    )
    client.add_daemon_options(listing)
    json_option(listing)
    listing.set_defaults(run=run_list)


def _add_probe(verbs: Subparsers) -> None:
    probe = verbs.add_parser(
        "probe",
        help="what a source delivers, and why it does not",
        description="What a source delivers: rate, size, signal, calibration and the reason where "
        "there is none. Asks the daemon; without one, opens the source itself. "
        "Exits 3 when the source does not deliver.",
    )
    probe.add_argument("stream", metavar="NAME", help="the stream")
    client.add_socket_option(probe)
    add_config_options(probe)
    probe.add_argument(
        "--direct", action="store_true", help="open the source here, also when a daemon runs"
    )
    probe.add_argument(
        "--seconds", type=float, default=2.0, metavar="S", help="with --direct: for so long (2)"
    )
    json_option(probe)
    probe.set_defaults(run=later("probe"))


def _add_snapshot(verbs: Subparsers) -> None:
    snapshot = verbs.add_parser(
        "snapshot",
        help="the newest picture with its findings drawn, as PNG",
        description="Writes the newest picture with its findings drawn, readable by you alone.",
    )
    snapshot.add_argument("stream", metavar="NAME", help="the stream")
    snapshot.add_argument(
        "-o", "--out", metavar="FILE", default=None, help="default: NAME-UTC.png, here"
    )
    snapshot.add_argument("-f", "--force", action="store_true", help="replace FILE if it exists")
    client.add_daemon_options(snapshot)
    json_option(snapshot)
    snapshot.set_defaults(run=later("snapshot"))


def _add_follow(verbs: Subparsers) -> None:
    follow = verbs.add_parser(
        "follow",
        help="results as they come",
        description="Prints results as they come; a slow reader gets the latest, not all.",
    )
    follow.add_argument("stream", metavar="NAME", help="the stream")
    follow.add_argument("--limit", type=int, default=None, metavar="N", help="end after N lines")
    client.add_daemon_options(follow)
    json_option(follow)
    follow.set_defaults(run=run_follow)


def run_list(args: argparse.Namespace) -> int:
    document = client.connect(args).json("/v1/streams")
    if args.json:
        print(json.dumps(document, ensure_ascii=False))
        return exits.OK
    streams: Mapping[str, Status] = document.get("streams") or {}
    if not streams:
        print("no streams configured")
        return exits.NOTHING_TO_DO
    paint = Paint.fitting(sys.stdout)
    header = ("stream", "title", "room", "source", ">fps", "model", "calibrated", "state")
    for line in table(header, [_row(name, stream, paint) for name, stream in streams.items()]):
        print(line)
    return exits.OK


def _row(name: str, stream: Status, paint: Paint) -> list[str]:
    state = plain(stream.get("state"))
    return [
        plain(name),
        plain(stream.get("title")),
        plain(stream.get("room")),
        plain(stream.get("source")),
        number(stream.get("fps_in")),
        model_words(stream),
        "yes" if stream.get("calibrated") else "no",
        paint(state, STATE_COLOURS.get(state, "")),
    ]


def run_follow(args: argparse.Namespace) -> int:
    target = f"/v1/results?stream={checked_name(args.stream)}"
    for count, line in enumerate(client.connect(args).lines(target), start=1):
        print(line.decode("utf-8", "replace") if args.json else _said(line), flush=True)
        if args.limit is not None and count >= args.limit:
            break
    return exits.OK


def _said(line: bytes) -> str:
    """One followed line in words: a result, or that nothing may be shown."""
    try:
        record: Any = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise CommandError(f"follow: expected a JSON object a line, got {line[:40]!r}")
    if "blank" in record:
        return f"blank  {plain(record['blank'])}"
    found = [_finding(item) for item in record.get("objects") or ()]
    found += [_finding(item) for item in record.get("labels") or ()]
    found += [
        f"{plain(item.get('name'))} {number(item.get('value'), 2)} {plain(item.get('unit'))}"
        for item in record.get("measures") or ()
    ]
    latency_ms = record.get("latency_us", 0) / 1000
    words = f"frame {plain(record.get('frame'))}  {latency_ms:.1f} ms  {_model(record)}"
    flags = " ".join(plain(flag) for flag in record.get("flags") or ())
    return "  ".join(filter(None, [words, ", ".join(found) or "nothing found", flags]))


def _finding(item: Status) -> str:
    return f"{plain(item.get('label'))} {number(item.get('score'), 2)}"


def _model(record: Status) -> str:
    return f"{plain(record.get('model'))}@{plain(record.get('version'))}"


def checked_name(name: str) -> str:
    """A stream's name, fit for a URL and a file name.

    Raises: CommandError.
    """
    if not _NAME.match(name):
        raise CommandError(
            f"stream {name!r}: expected a name of a-z, 0-9 and -",
            hint="edge-agent streams list",
            code=exits.USAGE,
        )
    return name
