"""Forged and mutated bundles through a real desk: what it stores is what the independent decoder
reads, all is counted, and the memory stays flat.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from edge_agent.core.frames import AnyRecord, pack
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from tests.hot_tier.opened import Open, opened
from tests.wire import forger, second_bytes, second_decoder

Maker = Callable[[int, Sequence[list[AnyRecord]]], bytes]
MAX_GROWTH_MB = 150


@pytest.fixture(scope="module")
def stock() -> list[list[AnyRecord]]:
    return forger.batches()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with opened(tmp_path_factory.mktemp("forged")) as at:
        yield at


def read_by_the_second(payload: bytes) -> list[list[bytes] | None]:
    """Of each envelope the records as they are stored, None for those of which nothing is."""
    try:
        _, contents = second_bytes.open_bundle(payload)
    except second_bytes.Refused:
        return [None]
    return [None if isinstance(one, second_bytes.Wanting) else _records(one) for one in contents]


def _records(envelope: second_bytes.Envelope) -> list[bytes] | None:
    try:
        rows = second_decoder.open_records(envelope, [DICTIONARY_1])
        return [pack(record) for record in msgspec.convert(rows, list[AnyRecord])]
    except (second_bytes.Refused, second_bytes.Wanting, msgspec.ValidationError):
        return None


def taken(at: Open, payload: bytes) -> list[bytes]:
    """What the desk stored of it, and that it counted each envelope."""
    ((before,),) = at.db.rows("SELECT coalesce(max(n), 0) FROM came")
    counts = at.desk.counts.copy()
    out = at.desk.take([payload])
    said = sum(
        at.desk.counts[name] - counts[name]
        for name in ("corrupt", "needs", "refused", "probes", "documents")
    )
    came = at.db.rows("SELECT a, b FROM came WHERE n > ? ORDER BY n", before)
    envelopes = at.desk.counts["envelopes"] - counts["envelopes"]
    assert said + len(out.logs) == max(1, envelopes)
    return [
        body
        for a, b in came
        for (body,) in at.db.rows("SELECT body FROM r WHERE id BETWEEN ? AND ? ORDER BY id", a, b)
    ]


def resident_mb() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def checked(at: Open, payloads: Sequence[bytes]) -> int:
    """How many records they held; each is where both decoders want it."""
    held = 0
    for number, payload in enumerate(payloads):
        wanted = [one for part in read_by_the_second(payload) if part for one in part]
        found = taken(at, payload)
        assert found == wanted, (number, payload)
        held += len(found)
    return held


def through_the_desk(at: Open, make: Maker, seeds: range, stock: Sequence[list[AnyRecord]]) -> int:
    before_mb = resident_mb()
    held = checked(at, [make(seed, stock) for seed in seeds])
    assert resident_mb() < before_mb + MAX_GROWTH_MB
    ((rows, kept),) = at.db.rows("SELECT (SELECT count(*) FROM r), sum(held) FROM log")
    assert rows == kept == at.sheet()["total"]["held"]
    return held


@pytest.mark.parametrize("make", [forger.forged, forger.mutated])
def test_a_desk_takes_of_forged_bundles_what_the_other_decoder_reads(
    shared: Open, stock: list[list[AnyRecord]], make: Maker
) -> None:
    assert through_the_desk(shared, make, range(120), stock) > 0


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("make", [forger.forged, forger.mutated])
def test_a_desk_takes_of_thousands_what_the_other_decoder_reads(
    shared: Open, stock: list[list[AnyRecord]], make: Maker, part: int
) -> None:
    first = 1000 + 1000 * part
    assert through_the_desk(shared, make, range(first, first + 1000), stock) > 0
