"""What the killed agents had promised, and whether the far end has it. Reads files, decides."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.core.frames import unpack
from tools.faulting.content import is_right
from tools.hot_tier.store import SEQ_BITS, SEQ_MASK

Key = tuple[str, str, int]  # stream, class, epoch
MAX_SHOWN: Final = 5


class Told(msgspec.Struct):
    """The lines of the agents. next: promised up to there. closed: the ends of logs, as found by
    the life after.
    """

    next: dict[Key, int] = {}
    closed: dict[Key, int] = {}
    reopen_ms: list[float] = []
    findings: list[str] = []
    sheet: dict[str, int] = {}


def read_told(path: Path) -> Told:
    """A torn last line is no promise."""
    told = Told()
    for line in path.read_bytes().split(b"\n")[:-1]:
        word, _, rest = line.decode().partition(" ")
        if word in ("next", "closed"):
            stream, klass, epoch, number = rest.split(" ")  # the stream may be ""
            getattr(told, word)[stream, klass, int(epoch)] = int(number)
        elif word == "open":
            told.reopen_ms.append(float(rest.split()[1]))
        elif word == "finding":
            told.findings.append(rest)
        elif word == "sheet":
            told.sheet = json.loads(rest)
    return told


class Found(msgspec.Struct):
    """What is at the receiver: seqs by log, and its books."""

    held: dict[Key, set[int]]
    books: dict[Key, dict[str, int]]
    files: dict[str, list[dict[str, Any]]]


def read_receiver(folder: Path) -> Found:
    """Its database and its files; nobody may have them open."""
    with closing(sqlite3.connect(folder / "db")) as db:
        names = {id_: (s, k, e) for id_, s, k, e in
                 db.execute("SELECT id, stream, class, epoch FROM log")}  # fmt: skip
        held: dict[Key, set[int]] = {key: set() for key in names.values()}
        for (id_,) in db.execute("SELECT id FROM r"):
            held[names[id_ >> SEQ_BITS]].add(id_ & SEQ_MASK)
        columns = "id, next, held, evicted, corrupt, lost, other, conflicts"
        books = {
            names[row[0]]: dict(zip(columns.split(", ")[1:], row[1:], strict=True))
            for row in db.execute(f"SELECT {columns} FROM log")
        }
    files = {
        name: [json.loads(line) for line in (folder / name).read_bytes().splitlines()]
        for name in ("live", "ordered")
    }
    return Found(held=held, books=books, files=files)


def differing(folder: Path, bodies: dict[tuple[Key, int], bytes]) -> int:
    """How many records at the receiver are other ones than those seen at the agent."""
    with closing(sqlite3.connect(folder / "db")) as db:
        logs = {(s, k, e): id_ for id_, s, k, e in
                db.execute("SELECT id, stream, class, epoch FROM log")}  # fmt: skip
        here = dict(db.execute("SELECT id, body FROM r"))
    return sum(
        unpack(here.get(logs[key] << SEQ_BITS | seq, body))
        != unpack(body)  # each keeps its own form
        for (key, seq), body in bodies.items()
        if key in logs
    )


def verdict(told: Told, found: Found, *, wrong: int | None = None) -> dict[str, Any]:
    """The figures; `ok` when nothing is lost, doubled, wrong, waited for, and all adds up.

    wrong: as found out already; None: to be told by the content.
    """
    missing = [
        (key, seq)
        for key, end in told.next.items()
        for seq in range(1, end)
        if seq not in found.held.get(key, ())
    ]
    doubled, strange = 0, 0
    for lines in found.files.values():
        records = [line for line in lines if line["kind"] != "void"]
        ids = Counter((r["stream"], r["class"], r["epoch"], r["seq"]) for r in records)
        doubled += len(records) - len(ids)
        strange += sum(wrong is None and not is_right(record) for record in records)
    wrong = strange if wrong is None else wrong
    books = found.books.items()
    waiting = sum(b["next"] - 1 - b["held"] - _void(b) for _, b in books)
    beyond = sum(b["next"] - told.closed.get(key, 1) for key, b in books)
    flaws = _flaws(told, found)
    sheet = told.sheet
    result = {
        "promised": sum(end - 1 for end in told.next.values()),
        "committed": sheet.get("appended", 0),
        "received": sum(map(len, found.held.values())),
        "beyond_commit": beyond,  # sent, and their commit died with the agent
        "lost": len(missing),
        "doubled": doubled,
        "wrong": wrong,
        "waiting": waiting,
        "sheets_exact": not flaws,
        "flaws": [*flaws, *(f"lost {one}" for one in missing)][:MAX_SHOWN],
        "findings": sorted(set(told.findings))[:MAX_SHOWN],
    }
    result["ok"] = not (missing or doubled or wrong or waiting or flaws or told.findings)
    return result


def _ids(lines: list[dict[str, Any]]) -> set[tuple[Key, int]]:
    return {((r["stream"], r["class"], r["epoch"]), r["seq"]) for r in lines if r["kind"] != "void"}


def _void(book: dict[str, int]) -> int:
    return sum(book[name] for name in ("evicted", "corrupt", "lost", "other"))


def _flaws(told: Told, found: Found) -> list[str]:
    """Where a balance does not add up, or the two sides do not agree."""
    return [*_of_agent(told), *_of_files(told, found), *_of_logs(told, found)]


def _of_agent(told: Told) -> list[str]:
    flaws, s = [], told.sheet
    if not s or s["appended"] != s["acked"] + s["evicted"] + s["corrupt"] + s["records"]:
        flaws.append(f"the agent's sheet: {s}")
    elif s["records"] or s["evicted"] or s["corrupt"]:
        flaws.append(f"the agent gave records up, or holds some: {s}")
    if s and s["appended"] != sum(end - 1 for end in told.closed.values()):
        flaws.append(f"appended {s['appended']}, the logs say otherwise")
    for key, end in told.next.items():
        if told.closed.get(key, 0) < end:
            flaws.append(f"{key} was promised up to {end}, and ends at {told.closed.get(key)}")
    return flaws


def _of_files(told: Told, found: Found) -> list[str]:
    flaws = []
    held = {(key, seq) for key, seqs in found.held.items() for seq in seqs}
    committed = {(key, seq) for key, seq in held if seq < told.closed.get(key, 1)}
    for name, lines in found.files.items():
        ids = _ids(lines)
        # what was never committed may lie above a gap for ever: then it is not in order
        if not committed <= ids <= held or (name == "live" and ids != held):
            flaws.append(f"{name} has {len(ids)} records, the database {len(held)}")
    return flaws


def _of_logs(told: Told, found: Found) -> list[str]:
    flaws = []
    for key, book in found.books.items():
        end, held = told.closed.get(key, 1), found.held[key]
        if len(held) != book["held"] or book["conflicts"]:
            flaws.append(f"{key}: {len(held)} records, the book says {book}")
        if book["next"] < end or book["evicted"] or book["corrupt"] or book["lost"]:
            flaws.append(f"{key} ends at {end}: {book}")
        if not held.issuperset(range(1, end)):
            flaws.append(f"{key} was committed up to {end}, {len(held)} are held")
    return flaws
