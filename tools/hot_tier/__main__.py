"""`python -m tools.hot_tier receive`: the hot tier as a process of its own.

Prints one line of JSON when it is ready, `{"rx","road"}`, and stops at SIGINT and SIGTERM. What it
acknowledged is in the database, however it ends. `pack` makes a package of a foreign model.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import msgspec

from edge_agent import logs
from edge_agent.config.structs import LogConfig, SuperviseConfig, UplinkConfig
from edge_agent.core.errors import EdgeAgentError, Rejected
from edge_agent.ports import Link
from edge_agent.supervise import Run, rooms
from tools.hot_tier import HotTier, HttpRoad, MqttRoad, Pair, quarantine, releases, uplink_keys
from tools.hot_tier.announcer import Announcer, announce
from tools.hot_tier.carried import take_in, untaken
from tools.hot_tier.carriers import is_node
from tools.hot_tier.notices import HOLDS_S, Notices
from tools.hot_tier.packing import command as packing
from tools.hot_tier.places import Places
from tools.hot_tier.raw_file import DEFAULT_MAX_MIB, RawFile
from tools.hot_tier.router import router_url
from tools.hot_tier.sheet_file import SheetFile

SETTLE_S: Final = 3.0  # for what has come, at the end
NOBODY: Final = "nothing reads what it prints; the line is not needed"
MQTT_PORT: Final = 1883
MAX_PORT: Final = 65_535
MAX_RAW_MIB: Final = 1 << 20


def main(arguments: list[str] | None = None) -> int:
    """Exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.hot_tier", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_receive(verbs.add_parser("receive", help="take records, acknowledge what is durable"))
    _add_import(verbs.add_parser("import", help="take an export that was carried here by hand"))
    packing.add(verbs.add_parser("pack", help="make a package of a foreign ONNX file"))
    releases.add(verbs)
    quarantine.add(verbs)
    uplink_keys.add(verbs)
    options = parser.parse_args(arguments)
    if options.verb == "pack":
        return int(options.run(options))
    if hasattr(options, "run"):
        return releases.run(options)
    if options.verb == "receive" and options.mqtt is None and options.http is None:
        parser.error("receive: give --mqtt, --http, or both")
    logs.setup(LogConfig(level="warning"), sys.stderr)
    try:
        return anyio.run(_receive if options.verb == "receive" else _import, options)
    except EdgeAgentError as error:
        print(f"hot_tier: {error}", file=sys.stderr)
        return 1


def _add_receive(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--db",
        type=Path,
        required=True,
        metavar="FILE",
        help="the database; made if it is not there",
    )
    add("--mqtt", type=_place, metavar="HOST[:PORT]", help="a broker that has the nodes' topics")
    add("--http", type=_port, metavar="PORT", help="listen for KubeEdge Rules, on /up/<node>, /up "
        "and /; with --mqtt, the way back is MQTT")  # fmt: skip
    add("--bind", default="127.0.0.1", metavar="HOST", help="where --http listens")
    add(
        "--router",
        default="",
        type=_router,
        metavar="URL",
        help="with --http: CloudCore's REST, the way back",
    )
    add(
        "--ns",
        default="",
        type=_ns,
        help="KubeEdge namespace; any with --mqtt, `default` with --router",
    )
    add(
        "--node",
        action="append",
        default=[],
        type=_name,
        help="take only this one's; repeat for more",
    )
    add("--live", type=Path, metavar="OUT.jsonl", help="records as they come")
    add("--ordered", type=Path, metavar="OUT.jsonl", help="records of each log in order")
    add("--sheet", type=Path, metavar="OUT.json", help="the balance sheet, each second")
    add("--relay", action="append", default=[], type=_name, metavar="NODE",
        help="may bring records of other nodes, as one that had another name before")  # fmt: skip
    add("--raw", type=Path, metavar="FILE", help="payloads as they come, one a line, the newest, "
        "in FILE and FILE.1")  # fmt: skip
    add("--raw-max-mib", type=_mib, default=DEFAULT_MAX_MIB, metavar="N",
        help="of both files together (default %(default)s)")  # fmt: skip
    add("--repository", type=Path, metavar="FOLDER", help="tell nodes what is wanted of them")
    add("--username", default="", help="for the broker")
    add("--password-file", default=None, metavar="FILE")
    add("--ca-file", default=None, metavar="FILE", help="for TLS to the broker")
    uplink_keys.add_options(parser)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="what `edge-agent spool export` wrote")
    parser.add_argument("--db", type=Path, required=True, metavar="FILE", help="the database")
    parser.add_argument("--acks", type=Path, required=True, metavar="OUT.jsonl",
                        help="to carry back, for `edge-agent spool import`")  # fmt: skip
    uplink_keys.add_options(parser)


async def _import(options: argparse.Namespace) -> int:
    """The exit code: 3 where something of the file was not taken."""
    found = await take_in(
        options.file, db=options.db, acks=options.acks, keys=uplink_keys.load(options)
    )
    print(msgspec.json.encode(found).decode())
    if missing := untaken(found):
        print(f"hot_tier: import {options.file.name}: {missing}", file=sys.stderr)
    return 3 if missing else 0


def _place(given: str) -> tuple[str, int]:
    host, _, port = given.removeprefix("mqtt://").partition(":")
    if port and not (port.isdigit() and 0 < int(port) <= MAX_PORT):
        raise argparse.ArgumentTypeError("expected HOST[:PORT], a port from 1 to 65535")
    return host or "127.0.0.1", int(port or MQTT_PORT)


def _port(given: str) -> int:
    if not given.isdigit() or int(given) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"expected a port, 0 to {MAX_PORT}; 0 takes a free one")
    return int(given)


def _name(given: str) -> str:
    if not is_node(given):
        raise argparse.ArgumentTypeError("expected a name of lower case letters, digits and -")
    return given


def _ns(given: str) -> str:
    return given and _name(given)


def _mib(given: str) -> int:
    if not given.isdigit() or not 1 <= int(given) <= MAX_RAW_MIB:
        raise argparse.ArgumentTypeError(f"expected 1 to {MAX_RAW_MIB}")
    return int(given)


def _router(given: str) -> str:
    try:
        return router_url(given) if given else ""
    except Rejected as error:
        raise argparse.ArgumentTypeError(f"{error.what}; {error.hint}") from None


def _road(
    options: argparse.Namespace, places: Places, notices: Notices
) -> tuple[Link, HttpRoad | None]:
    http = mqtt = None
    if options.http is not None:
        ns = options.ns or "default"
        http = HttpRoad(
            options.http,
            host=options.bind,
            router=options.router,
            ns=ns,
            places=places,
            notices=notices,
        )
    if options.mqtt is not None:
        config = UplinkConfig(
            tls=options.ca_file is not None,
            ca_file=options.ca_file,
            username=options.username,
            password_file=options.password_file,
        )
        host, port = options.mqtt
        nodes = tuple(options.node)
        mqtt = MqttRoad(
            host,
            port,
            nodes=nodes,
            ns=options.ns or "+",
            config=config,
            is_way_back=http is not None,
        )
    if http and mqtt:
        return Pair(http, mqtt), http
    found = http or mqtt
    assert found is not None
    return found, http


async def _receive(options: argparse.Namespace) -> int:
    places, notices = Places(), Notices()
    road, http = _road(options, places, notices)
    raw = None
    if options.raw is not None:
        raw = RawFile(options.raw, notices, max_bytes=options.raw_max_mib << 20)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with HotTier(
            options.db, road, nodes=options.node, live=options.live, ordered=options.ordered,
            places=places, notices=notices, relays=options.relay, raw=raw.keep if raw else None,
            keys=uplink_keys.load(options),
        ) as tier:  # fmt: skip
            where = f"http://{options.bind}:{http.port}" if http else "mqtt"
            _say_ready({"rx": tier.sheet()["rx"], "road": where}, notices)
            sheet = SheetFile(options.sheet, tier.sheet, notices) if options.sheet else None
            config = SuperviseConfig()
            async with rooms("reports", config=config, on_state=tier.note) as floor:
                if raw is not None:
                    floor.begin("raw", raw.run)
                if sheet is not None:
                    floor.begin("sheet", sheet.keep)
                if options.repository is not None:
                    floor.begin("announcer", _announcing(tier, options.repository))
                async for _ in signals:
                    break
            for last in (tier.settle, raw and raw.write, sheet and sheet.write):
                with anyio.move_on_after(SETTLE_S):
                    await (last or anyio.lowlevel.checkpoint)()
    return 0


def _announcing(tier: HotTier, folder: Path) -> Run:
    announcer = Announcer(folder)

    async def run(ready: Callable[[], None]) -> None:
        ready()
        await announce(tier, announcer)

    return run


def _say_ready(said: dict[str, str], notices: Notices) -> None:
    """Whoever started us may not listen any more; that is no reason to stop."""
    try:
        print(msgspec.json.encode(said).decode(), flush=True)
    except OSError as error:
        notices.tell("stdout", f"say that it is ready: {error.strerror}", NOBODY, for_s=HOLDS_S)
        with suppress(OSError):  # or what is still buffered fails once more at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    raise SystemExit(main())
