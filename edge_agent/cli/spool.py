"""`edge-agent spool`: what waits for the hot tier; check it, carry it by hand, compact it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edge_agent.cli import client, exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.lazy import later
from edge_agent.cli.options import add_config_options, json_option
from edge_agent.cli.tables import NOTHING, duration, fields, plain, share, size, table

if TYPE_CHECKING:
    from edge_agent.cli.status import Status, Subparsers

MAX_LISTED = 256
BOOT_ID = "/proc/sys/kernel/random/boot_id"
_VERIFY = (
    "Reads every record back and checks it; what is damaged is declared and waited for no more. "
    "Exits 3 when something was. Asks the daemon; without one, opens the file itself."
)
_EXPORT = (
    "Writes all records to a new file that you alone can read, for the hot tier to receive. They "
    "are kept here until its acknowledgement is imported. Asks the daemon; without one, opens the "
    "spool itself."
)
_IMPORT = (
    "Applies the file of acknowledgements that the hot tier wrote for an export; what it holds "
    "goes here. Exits 7 when nothing was left to go. Asks the daemon; without one, opens the "
    "spool itself."
)
_COMPACT = (
    "Writes the spool anew without its free pages. Only while no daemon runs. Exits 7 when there "
    "is nothing to give back."
)
VERBS = {  # short help, description
    "verify": ("read everything back and check it", _VERIFY),
    "export": ("write all records to a file, to be carried to the hot tier", _EXPORT),
    "import": ("take back what the hot tier acknowledged of an export", _IMPORT),
    "compact": ("give free space in the file back, while no daemon runs", _COMPACT),
}


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "spool",
        help="what waits for the hot tier: status, list, verify, export, import, compact",
        description=__doc__,
    )
    verbs = parser.add_subparsers(dest="spool_verb", metavar="VERB", required=True)
    status = verbs.add_parser(
        "status", help="the balance", description="What came, what went, what is kept."
    )
    listing = verbs.add_parser(
        "list", help="the newest records, a line each", description="The newest records first."
    )
    listing.add_argument(
        "--limit", type=int, default=20, metavar="N", help=f"at most {MAX_LISTED} (20)"
    )
    for reading, run in ((status, run_status), (listing, run_list)):
        client.add_daemon_options(reading)
        json_option(reading)
        reading.set_defaults(run=run)
    for verb in VERBS:
        _add_worker(verbs, verb)


def _add_worker(verbs: Subparsers, verb: str) -> None:
    short, description = VERBS[verb]
    worker = verbs.add_parser(verb, help=short, description=description)
    if verb == "export":
        worker.add_argument("file", metavar="FILE", help="the file to write")
        worker.add_argument("-f", "--force", action="store_true", help="replace FILE if it exists")
        worker.add_argument(
            "--plain",
            action="store_true",
            help="larger, for a hot tier that says it needs a version",
        )
    if verb == "import":
        worker.add_argument("file", metavar="ACKFILE", help="what the hot tier wrote")
    client.add_socket_option(worker)
    add_config_options(worker)
    json_option(worker)
    worker.set_defaults(run=later("spool_work"))


# ── what the daemon says ──────────────────────────────────────────────────────────────────────


def run_status(args: argparse.Namespace) -> int:
    document = client.connect(args).json("/v1/spool")
    if args.json:
        print(json.dumps(document, ensure_ascii=False))
        return exits.OK
    for line in fields(balance(document.get("spool") or {})):
        print(line)
    return exits.OK


def balance(spool: Status) -> list[tuple[str, str]]:
    """Every field may be missing."""
    limit = spool.get("limit_bytes")
    used = f"{size(spool.get('bytes'))} of {size(limit)} ({share(spool.get('bytes'), limit)})"
    pairs = [
        ("records", f"{_count(spool, 'records')}, {used}"),
        ("oldest", duration(spool.get("oldest_s"))),
        ("appended", _count(spool, "appended")),
        *((name, _count(spool, name)) for name in ("acked", "evicted", "corrupt")),
        ("kept on", "memory: nothing survives a restart" if spool.get("volatile") else "disk"),
    ]
    if spool.get("trouble"):
        pairs.append(("trouble", plain(spool["trouble"])))
    return pairs


def _count(spool: Status, name: str) -> str:
    value = spool.get(name)
    return f"{value:,}" if isinstance(value, int) else NOTHING


def run_list(args: argparse.Namespace) -> int:
    if not 1 <= args.limit <= MAX_LISTED:
        raise CommandError(
            f"list: expected --limit 1 to {MAX_LISTED}, got {args.limit}", code=exits.USAGE
        )
    document = client.connect(args).json(f"/v1/spool/records?limit={args.limit}")
    if args.json:
        print(json.dumps(document, ensure_ascii=False))
        return exits.OK
    records = [one for one in document.get("records") or () if isinstance(one, Mapping)]
    header = (">age", "class", "stream", "epoch", ">seq", "says")
    boot, now_us = _boot(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
    for line in table(header, [_row(record, boot, now_us) for record in records]):
        print(line)
    return exits.OK


def _row(record: Status, boot: str, now_us: int) -> list[str]:
    at_us = record.get("at_us")
    same = record.get("boot") == boot and isinstance(at_us, int)  # else nobody knows how long ago
    epoch = record.get("epoch")
    return [
        duration((now_us - at_us) / 1e6) if same and isinstance(at_us, int) else NOTHING,
        plain(record.get("class")),
        plain(record.get("stream")),
        f"{epoch:x}" if isinstance(epoch, int) else NOTHING,
        plain(record.get("seq")),
        _says(record),
    ]


def _says(record: Status) -> str:
    """The record in a few words."""
    kind = record.get("kind")
    if kind == "result":
        found = f"{len(record.get('objects') or ())} objects"
        return (
            f"frame {plain(record.get('frame'))}  "
            f"{plain(record.get('model'))}@{plain(record.get('version'))}  {found}"
        )
    words = {
        "tally": ("state", "captured", "inferred"),
        "alarm": ("severity", "code", "state", "what"),
        "event": ("name", "what"),
        "model_stats": ("model", "version", "frames"),
    }.get(str(kind), ())
    said = [plain(record[word]) for word in words if record.get(word) not in (None, "")]
    return "  ".join([plain(kind), *said])


def _boot() -> str:
    """As records name it; "" where it is not told."""
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            return file.read(64).replace("-", "")[:8]
    except (OSError, UnicodeDecodeError):
        return ""
