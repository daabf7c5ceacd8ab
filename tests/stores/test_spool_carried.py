"""Records that are carried away by hand, and the word that is carried back; compaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from edge_agent.core import carriage
from edge_agent.core import probe as probes
from edge_agent.core.errors import Overloaded, Rejected
from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import Ack, LogKey
from edge_agent.core.probe import Probe
from edge_agent.core.wire import armour, records
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Envelope, Kind
from edge_agent.core.wire.outcome import Need
from edge_agent.stores.spool import Courier, DiskSpool, compact
from tests.stores.spooling import (
    KINDS,
    NODE,
    a_record,
    add,
    everything,
    is_balanced,
    open_small,
    settle,
)

SECRET = b"s" * 32

pytestmark = pytest.mark.anyio


def courier(spool: DiskSpool, secret: bytes = SECRET) -> Courier:
    return Courier(spool, node=NODE, secret=secret)


async def exported(spool: DiskSpool) -> list[bytes]:
    return [line async for line in courier(spool).export()]


def received(lines: Iterable[bytes]) -> tuple[dict[LogKey, list[int]], list[Probe]]:
    """As a receiver reads it."""
    found: dict[LogKey, list[int]] = {}
    asked: list[Probe] = []
    codecs = Codecs()
    for line in lines:
        bundle = armour.unpack(line.rstrip(b"\n"))
        assert bundle.carrier == NODE
        for envelope in bundle.contents:
            assert isinstance(envelope, Envelope)
            if envelope.kind is Kind.PROBE:
                probe = probes.decode(envelope, codecs)
                assert isinstance(probe, Probe)
                asked.append(probe)
                continue
            assert envelope.klass is not None
            key = LogKey(envelope.node, envelope.stream, envelope.klass, envelope.epoch)
            opened = records.decode(envelope, codecs)
            assert not isinstance(opened, Need)
            found.setdefault(key, []).extend(record.seq for record in opened)
    return found, asked


def answer(nonce: str, found: dict[LogKey, list[int]], **more: Any) -> bytes:
    """What a receiver that holds all of it writes."""
    acks = [
        {"node": k.node, "stream": k.stream, "class": k.klass.value, "epoch": k.epoch,
         "upto": max(seqs)}
        for k, seqs in found.items()
    ]  # fmt: skip
    said = {"schema": 1, "node": NODE, "rx": "r1", "n": 1, "echo": nonce, "acks": acks, **more}
    return json.dumps(said).encode() + b"\n"


async def test_what_is_exported_is_all_there_is_and_stays_until_acknowledged(
    tmp_path: Path,
) -> None:
    spool = open_small(tmp_path / "spool.db")
    for klass in KINDS:
        add(spool, 700, klass)
    settle(spool)
    lines = await exported(spool)
    found, asked = received(lines)
    assert found == await everything(spool)
    assert spool.stats().records == 2800
    looked = [carriage.look(line.rstrip(b"\n")) for line in lines]
    assert sum(line.records for line in looked) == 2800
    assert [line.is_seal for line in looked] == [False] * (len(lines) - 1) + [True]
    assert {offer.key: offer.next - 1 for offer in asked[0].logs} == dict.fromkeys(found, 700)
    said = await courier(spool).apply(answer(asked[0].nonce, found))
    assert said == {"logs": 4, "settled": 0, "records": 2800}
    stats = spool.stats()
    assert (stats.records, stats.acked) == (0, 2800)
    again = await courier(spool).apply(answer(asked[0].nonce, found))
    assert again["records"] == 0
    spool.close()


async def test_an_answer_counts_after_a_restart_and_spares_what_came_since(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    add(spool, 50)
    settle(spool)
    found, asked = received(await exported(spool))
    add(spool, 7)
    settle(spool)
    spool.close()
    spool = open_small(tmp_path / "spool.db")
    add(spool, 3)
    settle(spool)
    said = await courier(spool).apply(answer(asked[0].nonce, found))
    assert said["records"] == 50
    assert spool.stats().records == 10
    assert is_balanced(spool)
    spool.close()


async def test_an_answer_to_somebody_else_changes_nothing(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    add(spool, 5)
    settle(spool)
    found, asked = received(await exported(spool))
    nonce = asked[0].nonce
    wrong = [
        b"",
        b"not json\n",
        answer("", found),
        answer("AAAA", found),
        answer("x" + "é", found),
        answer(nonce[:-2] + ("AA" if nonce[-2:] != "AA" else "BB"), found),
        answer(carriage.mint(NODE, b"other", bytes(12)), found),
        answer(carriage.mint("cart-8", SECRET, bytes(12)), found),
        answer(nonce, found, node="cart-8"),
        answer(nonce, {key: [99] for key in found}),
        answer(nonce, found) + answer("AAAA", found),
        bytes(carriage.MAX_ACK_FILE_BYTES + 1),
    ]
    for content in wrong:
        with pytest.raises(Rejected):
            await courier(spool).apply(content)
    with pytest.raises(Rejected, match="an export of this agent"):
        await courier(spool, b"reset").apply(answer(nonce, found))
    assert spool.stats().records == 5
    spool.close()


async def test_logs_that_are_settled_and_forgotten_are_no_fault(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    key = add(spool, 5)
    settle(spool)
    found, asked = received(await exported(spool))
    spool.acknowledge([Ack(key, 5)])
    settle(spool)
    spool.close()
    spool = open_small(tmp_path / "spool.db")
    assert await spool.backlog.forget([key]) == 1
    said = await courier(spool).apply(answer(asked[0].nonce, found))
    assert said == {"logs": 1, "settled": 1, "records": 0}
    spool.close()


async def test_records_of_another_node_go_along_without_a_word_for_them(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    guest = msgspec.structs.replace(a_record(), node="cart-8")
    spool.append(guest)
    add(spool, 2)
    settle(spool)
    found, asked = received(await exported(spool))
    assert sorted(key.node for key in found) == [NODE, "cart-8"]
    assert [offer.node for probe in asked for offer in probe.logs] == [NODE]
    spool.close()


async def test_many_logs_and_large_records_are_split(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    for number in range(150):
        spool.append(a_record(RecordClass.EVENT, f"s{number}"))
    for number in range(30):  # hard to compress
        noise = "".join(chr(33 + (i * i * 7919 + number) % 90) for i in range(60_000))
        spool.append(msgspec.structs.replace(a_record(), model=noise))
    settle(spool)
    lines = await exported(spool)
    assert max(map(len, lines)) <= armour.MAX_BUNDLE_CHARS + 1
    found, asked = received(lines)
    assert found == await everything(spool)
    assert [len(probe.logs) for probe in asked] == [64, 64, 23]
    assert [probe.more for probe in asked] == [True, True, False]
    spool.close()


def test_what_is_no_record_is_left_here() -> None:
    key = LogKey(NODE, "us0", RecordClass.RESULT, 1)
    packed = carriage.pack_rows(NODE, key, [(1, b"\xc1"), (2, b"\x80")], Codecs())
    assert packed == carriage.Packed([], 0, 2)


async def test_one_request_at_a_time(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    add(spool, 5)
    settle(spool)
    desk = courier(spool)
    lines = desk.export()
    await anext(lines)
    with pytest.raises(Overloaded, match="export is under way"):
        await desk.verify()
    await lines.aclose()
    assert await desk.verify() == {"records": 5, "corrupt": 0}
    spool.close()


async def test_an_export_while_records_come_and_go_reaches_its_end(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    key = add(spool, 3000)
    settle(spool)
    lines = courier(spool).export()
    taken = [await anext(lines)]
    spool.acknowledge([Ack(key, 2500)])
    add(spool, 100)
    settle(spool)
    with anyio.fail_after(10):
        taken += [line async for line in lines]
    found, asked = received(taken)
    assert found[key][-1] == 3100
    assert asked[-1].logs[0].floor == 2501
    spool.close()


# ── compaction ────────────────────────────────────────────────────────────────────────────────


def test_compaction_gives_space_back_and_changes_no_record(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path)
    key = add(spool, 5000)
    settle(spool)
    spool.acknowledge([Ack(key, 4900)])
    settle(spool)
    before = spool.stats()
    with pytest.raises(Rejected, match="another process has it"):
        compact(path)
    spool.close()
    said = compact(path)
    assert said.after == path.stat().st_size < said.before / 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.compact*"))
    assert compact(path) == (said.after, said.after)
    spool = open_small(path)
    after = spool.stats()
    assert (after.appended, after.acked, after.records) == (5000, 4900, 100)
    assert after.bytes == before.bytes
    assert spool.epoch > key.epoch
    spool.close()


def test_a_compaction_that_was_cut_off_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path)
    add(spool, 10)
    settle(spool)
    spool.close()
    path.with_name("spool.db.compact").write_bytes(b"half")
    compact(path)
    assert not path.with_name("spool.db.compact").exists()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM r").fetchone() == (10,)
    connection.close()
