"""`audit verify|show`: reads the files of the log, never writes them; the daemon is not asked."""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from pathlib import Path
from typing import Any

from edge_agent.cli import exits
from edge_agent.cli.audit import MAX_SHOWN
from edge_agent.cli.exits import CommandError
from edge_agent.cli.settings import config_of
from edge_agent.cli.tables import NOTHING, duration, plain, table
from edge_agent.core import audit
from edge_agent.core.audit import Head
from edge_agent.stores.audit import check, files_of, lines_of, log_files


def run(args: argparse.Namespace) -> int:
    folder = folder_of(args)
    try:
        if not log_files(folder):
            raise CommandError(
                f"{args.audit_verb} audit log: there is none in {folder}",
                hint="name its configuration: --config FILE",
                code=exits.NOTHING_TO_DO,
            )
        return run_verify(args, folder) if args.audit_verb == "verify" else run_show(args, folder)
    except FileNotFoundError as error:
        raise CommandError(
            f"{args.audit_verb} audit log: there is no {folder}", code=exits.NOTHING_TO_DO
        ) from error
    except PermissionError as error:
        raise CommandError(
            f"read {folder}: {error.strerror}", hint="use sudo", code=exits.REFUSED
        ) from error
    except OSError as error:
        raise CommandError(f"read audit log: {error.strerror}") from error


def folder_of(args: argparse.Namespace) -> Path:
    """Raises: CommandError."""
    return Path(args.dir) if args.dir else Path(config_of(args).state_dir)


def run_verify(args: argparse.Namespace, folder: Path) -> int:
    told = audit.parse_head({"count": args.count, "hash": args.head or audit.GENESIS})
    if told is None or bool(args.count) != bool(args.head):
        raise CommandError(
            "verify: expected --count and --head together, a number and 64 hex digits",
            code=exits.USAGE,
        )
    found = check(folder, [told] if told.entries else [])
    if args.json:
        print(json.dumps(_words(found), ensure_ascii=False))
    else:
        _say(found)
    if found.faults:
        return exits.CHECK_FAILED
    return exits.WARNINGS if found.starts_after else exits.OK


def _words(found: audit.Check) -> dict[str, Any]:
    return {
        "schema": 1,
        "ok": not found.faults,
        "entries": found.entries,
        "files": found.files,
        "starts_after": found.starts_after or 0,
        "head": found.head.words(),
        "faults": [fault._asdict() for fault in found.faults],
    }


def _say(found: audit.Check) -> None:
    head: Head = found.head
    for fault in found.faults:
        where = f"{fault.file}:{fault.line}" if fault.file else "audit log"
        print(f"{where}: {fault.why}")
    if found.faults:
        print("the audit log is not as it was written: keep a copy before anything else")
        return
    print(f"{found.entries:,} entries in {found.files} files are one chain; entry {head.entries} "
          f"has hash {head.hash}")  # fmt: skip
    if found.starts_after:
        print(f"it begins after entry {found.starts_after}: older files were moved away")


def run_show(args: argparse.Namespace, folder: Path) -> int:
    if not 1 <= args.limit <= MAX_SHOWN:
        raise CommandError(
            f"show: expected --limit 1 to {MAX_SHOWN}, got {args.limit}", code=exits.USAGE
        )
    newest: deque[dict[str, Any]] = deque(maxlen=args.limit)
    skipped = 0
    for _, file in files_of(folder):
        for number, (line, is_whole) in enumerate(lines_of(file)):
            entry = audit.parse_entry(line) if number and is_whole else None
            if entry is not None:
                newest.append(entry)
            skipped += number > 0 and is_whole and entry is None
    if args.json:
        document = {"schema": 1, "entries": list(newest), "unreadable": skipped}
        print(json.dumps(document, ensure_ascii=False))
        return exits.OK
    header = (">entry", "when", "who", "what", "object", "detail")
    print("\n".join(table(header, [_row(entry) for entry in newest])))
    if skipped:
        print(f"{skipped} lines can't be read: edge-agent audit verify", file=sys.stderr)
    return exits.OK


def _row(entry: dict[str, Any]) -> list[str]:
    """Every field may be anything: nobody has checked it."""
    at, detail = entry.get("at"), entry.get("detail")
    pairs = detail.items() if isinstance(detail, dict) else ()
    return [
        plain(entry.get("seq")),
        _when(at if isinstance(at, dict) else {}, entry.get("boot")),
        plain(entry.get("who")),
        plain(entry.get("what")),
        plain(entry.get("object")),
        ", ".join(f"{plain(key)} {plain(value)}" for key, value in pairs) or NOTHING,
    ]


def _when(at: dict[str, Any], boot: object) -> str:
    """UTC, or how long after which start when the clock was not set."""
    if isinstance(at.get("utc"), str):
        return plain(at["utc"])
    boot_us = at.get("boot_us")
    since = duration(boot_us / 1e6) if isinstance(boot_us, int) else NOTHING
    return f"{since} after start {plain(boot)}"
