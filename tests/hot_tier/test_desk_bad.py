"""What one payload breaks costs that payload: counted, kept to be looked at, and no more."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from math import nan
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge_agent.core.frames import AnyRecord, Label, Result, pack
from edge_agent.core.wire import armour, bounds, envelope, records
from edge_agent.core.wire.columns import Coding
from edge_agent.core.wire.cursor import signed
from edge_agent.core.wire.envelope import Envelope
from tests.hot_tier.opened import opened
from tests.hot_tier.wire import CODECS, ask, balances, batch, bundle, offer, record
from tests.wire import made
from tests.wire.test_corpus import CORPUS, OUTCOMES
from tests.wire.test_hostile import raw_envelope
from tests.wire.test_records import body as body_of
from tools.hot_tier import papers, quarantine
from tools.hot_tier.__main__ import main
from tools.hot_tier.carried import take_in
from tools.hot_tier.desk import Bundle, Desk, Opened
from tools.hot_tier.quarantine import Bad, Quarantine


def payload_of(name: str) -> bytes:
    return (CORPUS / f"{name}.txt").read_bytes().strip()


def listed(folder: Path) -> list[dict[str, Any]]:
    return [told for told, _ in quarantine.kept(folder / "db")]


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_a_payload_of_the_corpus_costs_its_own_records_alone(tmp_path: Path, name: str) -> None:
    outcome = OUTCOMES[name]
    bad = ["error"] if outcome == "error" else [one for one in outcome if one == "error"]
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(1, 2)), payload_of(name), bundle(batch(3, 4))])
        assert at.held_of("a") == [1, 2, 3, 4]
        assert bool(at.held_of("mut-1")) == (is_of_records(name) and "values" in outcome)
        assert balances(at.sheet())
        assert at.sheet()["wire"]["corrupt"] == at.sheet()["wire"]["bad_kept"] == len(bad)
        assert at.sheet()["wire"]["needs"] == list(outcome).count("version")
    told = listed(tmp_path)
    assert [(one["carrier"], one["times"]) for one in told] == [("mut-1", 1)] * len(bad)
    assert all(one["reason"] for one in told)


def is_of_records(name: str) -> bool:
    return not name.startswith(("document", "probe"))


def test_an_export_with_a_poisoned_line_is_taken_in_but_for_that_line(tmp_path: Path) -> None:
    lines = [bundle(batch(1, 3)), payload_of("poison_2GB"), bundle(ask("nonce", offer(1, 4)))]
    (tmp_path / "out.eax").write_bytes(b"\n".join(lines) + b"\n")

    async def take() -> dict[str, Any]:
        return await take_in(tmp_path / "out.eax", db=tmp_path / "db", acks=tmp_path / "acks")

    found = anyio.run(take)
    assert (found["records"], found["corrupt"]) == (3, 1)
    assert len(listed(tmp_path)) == 1


def test_the_quarantine_is_listed_and_written_out_beside_a_receiver_at_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(tmp_path) as at:
        at.desk.take([payload_of("nan_score"), b"ea1 b !!!", payload_of("nan_score")])
        db, out = str(tmp_path / "db"), tmp_path / "bad"
        assert main(["quarantine", "--db", db, "--out", str(out)]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["carrier"], one["times"]) for one in told] == [("mut-1", 2), ("b", 1)]
    assert (out / told[0]["file"]).read_bytes() == payload_of("nan_score")
    assert (out / told[1]["file"]).read_bytes() == b"ea1 b !!!"
    assert main(["quarantine", "--db", str(tmp_path / "none")]) == 1
    assert main(["quarantine", "--db", db, "--empty"]) == 0
    assert listed(tmp_path) == []
    with opened(tmp_path) as at:
        assert (at.desk.counts["corrupt"], at.desk.counts["bad_kept"]) == (3, 0)
        assert main(["quarantine", "--db", db, "--empty"]) == 1  # at work


def test_the_quarantine_keeps_the_newest_within_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MAX_ROWS", 5)
    monkeypatch.setattr(quarantine, "MAX_BYTES", 1000)
    with opened(tmp_path) as at:
        kept = Quarantine(at.db, lambda: 0.0)
        for size in (10, 10, 300, 301, 302, 303, 20):
            with at.db.transaction():
                kept.put("a", Bad(bytes([size % 256]) * size, "r" * 1000))
        sizes = [told["bytes"] for told in listed(tmp_path)]
        assert sizes == [301, 302, 303, 20]
        assert all(len(told["reason"]) == 300 for told in listed(tmp_path))


def test_a_file_of_an_older_receiver_gets_its_quarantine(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(1, 2))])
    with closing(sqlite3.connect(tmp_path / "db")) as db, db:
        db.execute("DROP TABLE bad")
    assert listed(tmp_path) == []
    with opened(tmp_path) as at:
        at.desk.take([b"noise"])
        assert at.held() == [1, 2]
    assert len(listed(tmp_path)) == 1


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), OverflowError(), KeyError(7)])
def test_an_error_that_nobody_foresaw_costs_one_envelope(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    right = records.decode

    def wrong(given: Envelope, *more: Any) -> Any:
        if given.stream == "bad":
            raise error
        return right(given, *more)

    monkeypatch.setattr(records, "decode", wrong)
    with opened(tmp_path) as at:
        out = at.desk.take([bundle(batch(1, 2), batch(1, 1, stream="bad"), batch(3, 4))])
        assert at.held() == [1, 2, 3, 4]
        assert [one.seq for one in out.records] == [1, 2, 3, 4]
        assert at.sheet()["wire"]["corrupt"] == 1
        assert balances(at.sheet())
    (told,) = listed(tmp_path)
    assert type(error).__name__ in told["reason"]


def heavy(seqs: Sequence[int]) -> Envelope:
    """Nearly as large, decoded, as one envelope may be."""
    texts = "x" * 15_000
    some: list[AnyRecord] = [record(seq, what=texts) for seq in seqs]
    return records.encode(some, CODECS)


def test_a_bundle_gives_no_more_than_its_bound_decoded(tmp_path: Path) -> None:
    parts = [heavy(range(n * 250 + 1, n * 250 + 251)) for n in range(5)]
    size = 250 * bounds.size_of(record(1, what="x" * 15_000))
    assert 4 * size < bounds.MAX_BUNDLE_BYTES < 5 * size < 5 * bounds.MAX_BATCH_BYTES
    with opened(tmp_path) as at:
        at.desk.take([bundle(*parts)])
        assert at.sheet()["total"]["held"] == 1000
        assert at.sheet()["wire"]["corrupt"] == 1
        at.desk.take([bundle(parts[4])])
        assert at.sheet()["total"]["held"] == 1250


def test_bodies_that_are_errors_cost_no_more_than_a_bundle_may(tmp_path: Path) -> None:
    """64 of them, each of 260,000 values in one record, took 12 s of the desk."""
    labels = made.numbered([Result(node="n", stream="s")])
    one = (Coding.INT, b"\x02")
    text = (Coding.TEXT, b"\x02x")
    kinds, rows = (1, 1, {1: (Coding.INT, b"\x00")}), 65_000
    columns = {1: text, 2: text, 3: one}
    raw = body_of(kinds, (2, 1, {17: (Coding.INT, signed(rows))}), (3, rows, columns))
    bad = raw_envelope(labels, raw)
    with opened(tmp_path) as at:
        at.desk.take([bundle(*[bad] * 60, carrier="b"), bundle(batch(1, 2))])
        assert at.held() == [1, 2]
        assert at.sheet()["wire"]["corrupt"] == 60
        spent = Bundle()
        at.desk.keep([Opened("b", bad, spent)] * 60)
        assert 0 <= spent.budget.left[0] < 4 * (rows + 8)


def test_a_bad_body_makes_no_node_known(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        for n in range(50):
            forged = f"ea1 n{n} ".encode() + payload_of("nan_score").split(b" ")[2]
            at.desk.take([forged])
        assert at.desk._nodes == set()


def test_what_is_kept_of_a_bad_body_is_that_envelope_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        at.desk.take([payload_of("good_then_bad_body")])
    ((_, payload),) = quarantine.kept(tmp_path / "db")
    (one,) = armour.unpack(payload).contents
    assert one == armour.unpack(payload_of("good_then_bad_body")).contents[1]
    assert isinstance(one, envelope.Envelope)


def test_records_are_kept_in_memory_for_those_who_want_them_only(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        assert Desk(at.db, hears=False).take([bundle(batch(1, 2))]).records == []


def document(body: bytes, *, stream: str = "status", number: int = 1, node: str = "a") -> Envelope:
    return Envelope(
        kind=envelope.Kind.DOCUMENT, codec=envelope.Codec.RAW, node=node, stream=stream,
        epoch=1, first=number, count=1, raw_len=len(body), body=body,
    )  # fmt: skip


@pytest.mark.parametrize(
    "body", [b"[1]", b"\xff", b"", b'{"a":' * 5000, b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", b"{"]
)
def test_a_document_that_nobody_can_read_is_neither_kept_nor_a_base(
    tmp_path: Path, body: bytes
) -> None:
    with opened(tmp_path) as at:
        at.desk.take([bundle(document(b'{"n":1}'))])
        out = at.desk.take([bundle(document(body, number=2), batch(1, 1))])
        assert at.sheet()["wire"]["corrupt"] == 1
        assert len(out.docs["a"]["status"]) == 1
        assert at.desk.papers.newest("a", "status") == b'{"n":1}'


def test_documents_in_memory_are_bounded_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(papers, "MAX_CACHED_BYTES", 1 << 20)
    with opened(tmp_path) as at:
        for number in range(1, 40):
            text = b'{"n":%d,"x":"%s"}' % (number, b"x" * 100_000)
            node = f"n{number % 5}"
            at.desk.take([bundle(document(text, number=number, node=node), carrier=node)])
        cached = at.desk.papers._receivers.values()
        assert sum(one.size_bytes for one in cached) <= 1 << 20
        assert at.desk.counts["documents"] == 39


def test_a_nan_that_an_older_receiver_took_is_told_and_not_shown_as_null(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(1, 3))])
        odd = Result(
            node="a", stream="s", epoch=1, seq=2, labels=(Label(head="h", label="l", score=nan),)
        )
        body = pack(odd)
        with at.db.transaction():
            at.db.write("UPDATE r SET body = ?, crc = ? WHERE id & 255 = 2", body, zlib.crc32(body))
        at.write()
        for form in ("live", "ordered"):
            assert [one["kind"] for one in at.lines(form)] == ["event", "damaged", "event"]
