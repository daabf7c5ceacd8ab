"""`edge-agent uplink`: the road to the hot tier; how it is, where it ends, whether all is there."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from edge_agent.cli import client, exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.lazy import later
from edge_agent.cli.options import add_config_options, json_option
from edge_agent.cli.status import percentiles
from edge_agent.cli.tables import NOTHING, duration, fields, plain, share, size

if TYPE_CHECKING:
    from edge_agent.cli.status import Status, Subparsers

POLL_S = 0.25


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "uplink", help="the road to the hot tier: status, test, key, drain", description=__doc__
    )
    verbs = parser.add_subparsers(dest="uplink_verb", metavar="VERB", required=True)
    status = verbs.add_parser(
        "status", help="connection, acknowledgements, bytes", description="How the uplink is doing."
    )
    client.add_daemon_options(status)
    json_option(status)
    status.set_defaults(run=run_status)
    test = verbs.add_parser(
        "test",
        help="where the road ends, and what to do",
        description="Configuration, files, name, TCP, TLS and MQTT, one after the other, and what "
        "the running daemon says. Publishes nothing. Exits 3 when something fails, 4 on warnings.",
    )
    client.add_socket_option(test)
    add_config_options(test)
    json_option(test)
    test.set_defaults(run=later("uplink_test"))
    key = verbs.add_parser(
        "key",
        help="the public key of this machine, to be enrolled at the hot tier",
        description="Prints the public half of the key that this machine signs with "
        "(`uplink.sign`), and makes it where there is none. To change it: `--next`, enrol what it "
        "prints beside the old one, then `--succeed`. Exits 6 when the key can't be read.",
    )
    change = key.add_mutually_exclusive_group()
    change.add_argument("--next", action="store_true", help="make and print the one that follows")
    change.add_argument("--succeed", action="store_true", help="let it take the place of the old")
    add_config_options(key)
    json_option(key)
    key.set_defaults(run=later("uplink_key"))
    drain = verbs.add_parser(
        "drain",
        help="wait until the hot tier has everything",
        description="Waits until the hot tier has acknowledged every record that was there when "
        "this began. Exits 1 when time is over, 4 when some of them were evicted meanwhile.",
    )
    drain.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="wait at most so long (60)"
    )
    client.add_daemon_options(drain)
    json_option(drain)
    drain.set_defaults(run=run_drain)


def run_status(args: argparse.Namespace) -> int:
    document = client.connect(args).json("/v1/uplink")
    if args.json:
        print(json.dumps(document, ensure_ascii=False))
        return exits.OK
    uplink: Status = document.get("uplink") or {}
    if uplink.get("configured") is False:
        print("no uplink is configured: records stay here")
        return exits.OK
    for line in fields(said(uplink)):
        print(line)
    return exits.OK


def said(uplink: Status) -> list[tuple[str, str]]:
    """Every field may be missing."""
    connected, since = uplink.get("connected"), uplink.get("since_s")
    words = ("connected" if connected else "offline") if connected is not None else NOTHING
    if since is not None:
        words += f" for {duration(since)}"
    raw, sent = uplink.get("raw_bytes"), uplink.get("sent_bytes")
    pairs = [
        ("broker", words),
        ("cloud", _cloud(uplink)),
        ("last ack", _ago(uplink.get("last_ack_s"))),
        ("latency", f"{percentiles(uplink.get('latency_ms'))} ms (p50/p99, until acknowledged)"),
        ("sent", f"{size(sent)} for {size(raw)} of records ({share(sent, raw)})"),
        ("in flight", plain(uplink.get("inflight"))),
    ]
    if (payload := uplink.get("payload")) is not None:
        takes, refuses = payload.get("takes") or 0, payload.get("refuses") or 0
        words = f"{takes:,} characters arrive, {refuses:,} do not"
        pairs.append(("payload", f"{words}; {uplink.get('too_large') or 0:,} records are larger"))
    if uplink.get("reason"):
        pairs.insert(1, ("reason", plain(uplink["reason"])))
    return pairs


def _cloud(uplink: Status) -> str:
    words, next_s = plain(uplink.get("cloud")), uplink.get("next_probe_s")
    if uplink.get("cloud") != "down" or next_s is None:
        return words
    return f"{words} (next question in {duration(next_s)})"


def _ago(seconds: object) -> str:
    return f"{duration(seconds)} ago" if seconds is not None else "never"


# ── drain ─────────────────────────────────────────────────────────────────────────────────────


def run_drain(args: argparse.Namespace) -> int:
    daemon = client.connect(args)
    began_s = time.monotonic()
    first = _spool(daemon)
    if first.get("volatile"):
        raise CommandError(
            "drain: the spool is a volatile one, which nobody acknowledges",
            hint="edge-agent status says why",
        )
    if (daemon.json("/v1/uplink").get("uplink") or {}).get("configured") is False:
        raise CommandError(
            "drain: no uplink is configured",
            hint="set uplink.enabled = true; or carry it: edge-agent spool export FILE",
        )
    spool, asked_s = first, began_s
    while not (done := is_drained(spool, asked_s - began_s)):
        _show_left(spool)
        if time.monotonic() - began_s >= args.timeout:
            break
        time.sleep(POLL_S)
        asked_s = time.monotonic()
        spool = _spool(daemon)
    evicted = sum(_grown(first, spool, name) for name in ("evicted", "corrupt"))
    _report(args, spool, evicted=evicted, done=done, took_s=time.monotonic() - began_s)
    if not done:
        return exits.ERROR
    return exits.WARNINGS if evicted else exits.OK


def is_drained(spool: Status, waited_s: float) -> bool:
    """Nothing is here that was here before we waited; what came since is younger than that."""
    if spool.get("records") == 0:
        return True
    oldest_s = spool.get("oldest_s")
    return isinstance(oldest_s, int | float) and oldest_s < waited_s


def _spool(daemon: client.Client) -> Status:
    found: Status = daemon.json("/v1/spool").get("spool") or {}
    return found


def _grown(before: Status, after: Status, name: str) -> int:
    return int(after.get(name) or 0) - int(before.get(name) or 0)


def _show_left(spool: Status) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{_left(spool)}", end="", file=sys.stderr, flush=True)


def _left(spool: Status) -> str:
    records = spool.get("records")
    count = f"{records:,}" if isinstance(records, int) else NOTHING
    oldest = duration(spool.get("oldest_s"))
    return f"{count} records, {size(spool.get('bytes'))}, oldest {oldest}"


def _report(
    args: argparse.Namespace, spool: Status, *, evicted: int, done: bool, took_s: float
) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if args.json:
        left = 0 if done else spool.get("records")
        document = {"schema": 1, "drained": done, "left": left, "evicted": evicted}
        print(json.dumps({**document, "seconds": round(took_s, 1)}))
        return
    if not done:
        print(f"not drained after {duration(took_s)}: {_left(spool)} left; edge-agent uplink test")
        return
    print(f"drained: the hot tier has everything ({duration(took_s)})")
    if evicted:
        print(f"but {evicted:,} records were evicted or damaged meanwhile")
