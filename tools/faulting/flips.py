"""Bits flip, files end too soon: no wrong record comes out, every start works, skips are counted.

Each cycle damages a copy of one spool and opens it. What comes out is compared with what went in:
by identity and, as content follows from it, by content. How much is gone can be told as long as the
page with the books is there; where it was hit or cut off too, what its lines said is not known.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.core.errors import EdgeAgentError
from edge_agent.core.frames import Alarm, AnyRecord, Event, Result, Tally, to_json, unpack
from edge_agent.core.logbook import Ack
from edge_agent.host import SystemClock
from edge_agent.stores.spool import DiskSpool, SpoolLimits, open_spool
from edge_agent.stores.spool.schema import PAGE_BYTES
from tools.faulting.content import NODE, STREAMS, content_of, is_right

LIMITS: Final = SpoolLimits(limit_bytes=8 << 20, ballast_bytes=0, commit_ms=0)
ONE_COMMIT: Final = msgspec.structs.replace(LIMITS, commit_ms=10_000, commit_rows=2000)
RECORDS: Final = 400
KINDS: Final = (Result, Result, Result, Tally, Event, Alarm)
FLIPS: Final = (1, 1, 4, 32)
TORN_SHARE: Final = 1 / 6
SALVAGE_S: Final = 20.0
MAX_SHOWN: Final = 8
Id = tuple[str, str, int, int]


class Origin(msgspec.Struct):
    """The spool that is damaged: what it holds, and the content of its file."""

    ids: set[Id]
    appended: int
    content: bytes


class Outcome(msgspec.Struct, frozen=True):
    """Of one start. exact: sound and skipped records are all that there were. books: their page is
    as it was.
    """

    how: str
    books: bool
    read: int
    corrupt: int
    wrong: int
    exact: bool
    open_ms: float


def opened(
    path: Path, dice: random.Random | None = None, limits: SpoolLimits = LIMITS
) -> DiskSpool:
    dice = dice or random.Random()
    return open_spool(
        path, node=NODE, clock=SystemClock(), random32=lambda: dice.getrandbits(32),
        boot="0badcafe", limits=limits,
    )  # fmt: skip


def origin(folder: Path, dice: random.Random) -> Origin:
    """Of two lives, some of it acknowledged; the same file for the same dice."""
    path = folder / "spool.db"
    for _ in range(2):
        spool = opened(path, dice, ONE_COMMIT)
        _fill(spool, dice, RECORDS // 2)
        spool.close()
    spool = opened(path, dice)
    spool.acknowledge([Ack(log.key, (log.next - 1) // 8) for log in spool.logs()])
    while any(log.upto < (log.next - 1) // 8 for log in spool.logs()):
        time.sleep(0.001)
    ids = {
        (log.key.stream, log.key.klass.value, log.key.epoch, seq)
        for log in spool.logs()
        for a, b in log.pending()
        for seq in range(a, b + 1)
    }
    appended = spool.stats().appended
    spool.close()
    return Origin(ids=ids, appended=appended, content=path.read_bytes())


def _fill(spool: DiskSpool, dice: random.Random, number: int) -> None:
    seqs: Counter[tuple[str, type[AnyRecord]]] = Counter()
    for at_us in range(number):
        stream, kind = dice.choice(STREAMS), dice.choice(KINDS)
        seqs[stream, kind] += 1
        seq = seqs[stream, kind]
        spool.append(content_of(kind, stream, epoch=spool.epoch, seq=seq, at_us=at_us))


def has_books(content: bytes, before: bytes) -> bool:
    """Whether their page, the third of every such small file, is as it was."""
    page = slice(2 * PAGE_BYTES, 3 * PAGE_BYTES)
    return content[page] == before[page]


def damaged(content: bytes, dice: random.Random) -> tuple[str, bytes]:
    """In words, and the file as it is then."""
    if dice.random() < TORN_SHARE:
        size = dice.randrange(len(content))
        return f"torn after {size} of {len(content)} B", content[:size]
    file, number = bytearray(content), dice.choice(FLIPS)
    places = sorted(dice.randrange(8 * len(file)) for _ in range(number))
    for place in places:
        file[place // 8] ^= 1 << place % 8
    return (
        f"{number} bits flipped in pages {sorted({p // 8 // PAGE_BYTES for p in places})[:6]}",
        bytes(file),
    )


async def outcome(path: Path, made: Origin, how: str) -> Outcome:
    """Opens it and reads all that can be read. Raises: EdgeAgentError when it does not start."""
    books = has_books(path.read_bytes(), made.content)  # noqa: ASYNC240
    start_s = time.monotonic()
    spool = await asyncio.to_thread(opened, path)
    open_ms = (time.monotonic() - start_s) * 1000
    try:
        await asyncio.wait_for(_found_out(spool), SALVAGE_S)
        seen: Counter[Id] = Counter()
        wrong = 0
        async for page in spool.backlog.pages():
            for _, body in page.rows:
                line = msgspec.json.decode(to_json(unpack(body)))
                one = (line["stream"], line["class"], line["epoch"], line["seq"])
                seen[one] += 1
                wrong += one not in made.ids or not is_right(line) or seen[one] > 1
        corrupt = spool.stats().corrupt
    finally:
        await spool.aclose()
    exact = len(seen) + corrupt == len(made.ids)
    return Outcome(how, books, len(seen), corrupt, wrong, exact, open_ms)


async def _found_out(spool: DiskSpool) -> None:
    """All damage is found, and what a broken file still had is here."""
    while (await spool.backlog.verify()).corrupt or spool.health().salvaging:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def flips(folder: Path, cycles: int, seed: int, only: int | None = None) -> dict[str, Any]:
    """The figures; `ok` without a wrong record, a failed start or a count that is not exact.

    only: of all cycles this one, the first is 0.
    """
    dice, start_s = random.Random(seed), time.monotonic()
    made = origin(folder, dice)
    found: list[Outcome] = []
    failed: list[str] = []
    for n in range(cycles if only is None else only + 1):
        how, content = damaged(made.content, dice)
        if only not in (None, n):
            continue
        how = f"{n}: {how}"
        place = folder / "damaged"
        place.mkdir()
        (place / "spool.db").write_bytes(content)
        try:
            found.append(await outcome(place / "spool.db", made, how))
        except (EdgeAgentError, asyncio.TimeoutError) as error:
            failed.append(f"{how}: {type(error).__name__} {error}")
        shutil.rmtree(place)
    inexact = [one for one in found if not one.exact and one.books]
    blurred = [one for one in found if not one.exact and not one.books]
    wrong = sum(one.wrong for one in found)
    return {
        "cycles": len(found) + len(failed),
        "seed": seed,
        "records": len(made.ids),
        "wrong": wrong,
        "failed_starts": len(failed),
        "harmed": sum(one.corrupt > 0 for one in found),
        "skipped": sum(one.corrupt for one in found),
        "inexact": len(inexact),
        "books_hit": sum(not one.books for one in found),
        "books_hit_inexact": len(blurred),
        "shown": [*failed, *(f"{o.how}: {o.read} + {o.corrupt}" for o in (*inexact, *blurred))][
            :MAX_SHOWN
        ],
        "open_ms_p50": round(statistics.median([one.open_ms for one in found] or [0.0]), 1),
        "open_ms_max": round(max((one.open_ms for one in found), default=0.0), 1),
        "seconds": round(time.monotonic() - start_s, 1),
        "ok": not (wrong or failed or inexact),
    }
