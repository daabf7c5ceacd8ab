"""The balance sheet as JSON. Per log and in total: held + void + waiting = expected.

{"schema":1,"rx","total":{...},"logs":[...],"logs_left_out","wire":{...},"documents","nodes",
 "problems":[{"code","what","fix"}]}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tools.hot_tier.receiver import REASONS, Log
from tools.hot_tier.store import Total

MAX_SHOWN_LOGS: Final = 8192
WIRE: Final = (
    "bundles",  # payloads that were opened, or not
    "bytes",  # of these payloads, as they came
    "envelopes",
    "corrupt",  # bundles and envelopes that nothing could be read of
    "refused",  # whole, but beyond a bound, not for us, or for nobody here
    "unsigned",  # not signed, or with a key that is not enrolled, where a signature is asked for
    "forged",  # not signed by whom they name
    "needs",
    "probes",
    "documents",
    "bad_kept",  # of corrupt ones, in the quarantine: `hot_tier quarantine`
    "bad_dropped",  # the oldest of them, for want of room
    "quarantined",  # records with the id of another one
    "unquarantined",  # conflicts that found no room any more
    "overrun",  # payloads that were not opened: too many at once
    "foreign",  # payloads or envelopes of another node than may come by this path
    "unknown_path",  # posts to a path that is neither / nor /up nor /up/<node>
    "raw_dropped",  # payloads that are not in the file of --raw
    "turned_away",  # connections that were answered 503: too many at once
    "timed_out",  # connections that sent no whole request in time
)


def log_sheet(log: Log) -> dict[str, Any]:
    node, stream, klass, epoch = log.key
    return {
        "node": node,
        "stream": stream,
        "class": klass.value,
        "epoch": epoch,
        "floor": log.floor,
        "next": log.next,
        "closed": log.end > 0,
        "upto": log.upto,
        "held": log.held,
        "void": dict(zip(REASONS, log.voided, strict=True)),
        "waiting": log.waiting,
        "duplicates": log.duplicates,
        "conflicts": log.conflicts,
        "bytes": log.bytes,
    }


def total_sheet(total: Total) -> dict[str, Any]:
    void = (total.evicted, total.corrupt, total.lost, total.other)
    return {
        "logs": total.logs,
        "expected": total.expected,
        "held": total.held,
        "void": dict(zip(REASONS, void, strict=True)),
        "waiting": total.expected - total.held - sum(void),
        "duplicates": total.duplicates,
        "conflicts": total.conflicts,
        "bytes": total.bytes,
    }


def sheet(rx: str, total: Total, logs: Iterable[Log], counts: Mapping[str, int]) -> dict[str, Any]:
    """What the database says; who runs it adds what only he knows."""
    shown = [log_sheet(log) for log in logs][:MAX_SHOWN_LOGS]
    return {
        "schema": 1,
        "rx": rx,
        "total": total_sheet(total),
        "logs": shown,
        "logs_left_out": total.logs - len(shown),
        "wire": {name: counts.get(name, 0) for name in WIRE},
    }


def problems(total: Total, counts: Mapping[str, int], doubles: Iterable[str]) -> list[Any]:
    """What somebody has to look at, in words."""
    found = [
        (
            "duplicate-node",
            f"two agents run as {node}",
            "give each box a name of its own; a cloned state_dir belongs to one of them",
        )
        for node in doubles
    ]
    if total.conflicts:
        words = f"{total.conflicts} records came with the id of another one; they are kept apart"
        found.append(("identity-conflict", words, "look for a cloned state_dir"))
    if total.lost:
        words = f"{total.lost} records were acknowledged once and are not here"
        found.append(("lost-at-receiver", words, "was the database restored or replaced?"))
    if counts.get("bad_kept"):
        words = f"{counts['bad_kept']} payloads could not be read; nothing of them is acknowledged"
        found.append(("bad-payloads", words, "python -m tools.hot_tier quarantine --db FILE"))
    if counts.get("unquarantined"):
        words = f"{counts['unquarantined']} records with the id of another one found no room"
        found.append(("quarantine-full", words, "export and empty the table odd"))
    return [{"code": code, "what": what, "fix": fix} for code, what, fix in found]
