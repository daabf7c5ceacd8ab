"""The desk on a real file: once is enough, nothing is lost, garbage is counted."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import Damaged
from edge_agent.core.frames import unpack
from edge_agent.core.wire import documents, envelope
from tests.hot_tier.opened import Open, opened
from tests.hot_tier.wire import CODECS, EPOCH, ask, balances, batch, bundle, offer

MOST = 30


def test_a_batch_is_held_once_however_often_and_however_cut_it_comes(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        first = at.desk.take([bundle(batch(1, 5)), bundle(batch(4, 9))])
        assert [one.seq for one in first.records] == list(range(1, 10))
        again = at.desk.take([bundle(batch(2, 8), carrier="b")])
        assert again.records == []
        total = at.sheet()["total"]
        assert (total["held"], total["duplicates"]) == (9, 9)
        assert at.held() == list(range(1, 10))


def test_the_same_id_with_other_content_is_kept_apart(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(1, 3))])
        out = at.desk.take([bundle(batch(2, 4, what="another"))])
        assert [one.seq for one in out.records] == [4]
        total = at.sheet()["total"]
        assert (total["held"], total["conflicts"], total["duplicates"]) == (4, 2, 0)
        odd = [unpack(body) for (body,) in at.db.rows("SELECT body FROM odd ORDER BY id")]
        assert [(one.seq, getattr(one, "what", "")) for one in odd] == [
            (2, "another"),
            (3, "another"),
        ]


def test_what_was_given_up_and_comes_after_all_stands_once_in_each_file(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        at.desk.take(
            [bundle(batch(1, 2)), bundle(ask("n", offer(3, 8, void=((3, 4, "evicted"),))))]
        )
        at.desk.take([bundle(batch(5, 7))])
        at.write()
        gap = at.lines("ordered")[2]
        assert (gap["kind"], gap["first"], gap["last"], gap["why"]) == ("void", 3, 4, "evicted")
        at.desk.take([bundle(batch(3, 6))])
        at.write()
        ordered = [
            (one["seq"], one.get("late", False)) for one in at.lines("ordered") if "seq" in one
        ]
        assert ordered == [(n, False) for n in (1, 2, 5, 6, 7)] + [(3, True), (4, True)]
        assert [one["seq"] for one in at.lines("live")] == [1, 2, 5, 6, 7, 3, 4]
        assert balances(at.sheet())


def test_a_file_that_is_gone_is_written_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(3, 4)), bundle(batch(1, 2))])
        at.write()
    for form in ("live", "ordered"):
        (tmp_path / form).unlink()
    with opened(tmp_path) as at:
        at.write()
        assert [one["seq"] for one in at.lines("live")] == [3, 4, 1, 2]
        assert [one["seq"] for one in at.lines("ordered")] == [1, 2, 3, 4]


def test_what_a_crash_left_behind_the_known_end_of_a_file_is_cut_off(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(1, 4))])
        at.write()
    for form in ("live", "ordered"):
        with (tmp_path / form).open("ab") as file:
            file.write(b'{"torn')
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(5, 6))])
        at.write()
        for form in ("live", "ordered"):
            assert [one["seq"] for one in at.lines(form)] == [1, 2, 3, 4, 5, 6]


def test_a_record_that_the_disk_damaged_is_told_and_not_made_up(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(1, 3))])
    with closing(sqlite3.connect(tmp_path / "db")) as db, db:
        db.execute("UPDATE r SET body = zeroblob(length(body)) WHERE id & 255 = 2")
    with opened(tmp_path) as at:
        at.write()
        assert [one["kind"] for one in at.lines("ordered")] == ["event", "damaged", "event"]


actions = st.one_of(
    st.tuples(st.just("come"), st.integers(1, MOST), st.integers(0, 9)),
    st.tuples(st.just("probe"), st.integers(1, MOST), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(1, MOST), st.integers(0, 9)),
    st.tuples(st.sampled_from(["write", "restart"]), st.just(0), st.just(0)),
)


@given(st.lists(actions, max_size=25))
@settings(max_examples=40, deadline=None)
def test_restarts_and_failed_commits_neither_lose_nor_double(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    at = Open(tmp_path_factory.mktemp("desk"))
    promised: set[int] = set()
    void: set[int] = set()
    try:
        for verb, first, more in steps:
            if verb == "restart":
                at.close()
                at = Open(at.folder)
            elif verb == "write":
                at.write()
            else:
                _act(at, verb, first, first + more)
            promised, void = _checked(at, promised, void)
        at.write()
        for form in ("live", "ordered"):
            seqs = [one["seq"] for one in at.lines(form) if "seq" in one]
            assert len(seqs) == len(set(seqs))
            assert set(seqs) <= set(at.held())
        assert sorted(one["seq"] for one in at.lines("live")) == at.held()
        ordered = [one["seq"] for one in at.lines("ordered") if "seq" in one and "late" not in one]
        assert ordered == sorted(ordered)
    finally:
        at.close()


def _act(at: Open, verb: str, first: int, last: int) -> None:
    probe = ask("n", offer(1, last + 3, void=((first, last, "evicted"),)))
    if verb == "fail":  # the disk says no at the last moment
        at.db.write("PRAGMA query_only = 1")
        with pytest.raises(Damaged):
            at.desk.take([bundle(batch(first, last), probe)])
        at.db.write("PRAGMA query_only = 0")
    elif verb == "come":
        at.desk.take([bundle(batch(first, last)), bundle(batch(max(1, first - 2), last))])
    else:
        at.desk.take([bundle(probe)])


def _checked(at: Open, promised: set[int], void: set[int]) -> tuple[set[int], set[int]]:
    """What an ack would say now, and that nothing of what it said before is gone."""
    found = at.sheet()
    assert balances(found)
    logs = at.desk.logs.recent(10)
    if not logs:
        return promised, void
    (log,) = logs
    held = set(at.held())
    ranges = at.db.rows("SELECT a, b FROM void")
    void = {n for a, b in ranges for n in range(a, b + 1)}
    assert not held & void
    assert (len(held), len(void)) == (log.held, sum(log.voided))
    now = set(range(1, log.upto + 1)) | {n for a, b in log.have for n in range(a, b + 1)}
    assert now <= held | void
    assert promised <= now
    assert (
        found["total"]["bytes"] == at.db.rows("SELECT coalesce(sum(length(body)), 0) FROM r")[0][0]
    )
    return now, void


# ── probes, needs, documents ──────────────────────────────────────────────────────────────────


def test_a_probe_is_answered_with_the_logs_that_it_names(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        out = at.desk.take([bundle(ask("n1", offer(1, 5), offer(1, 3, stream="t", closed=True)))])
        (asked,) = out.asked
        assert (asked.nonce, len(asked.keys), asked.live) == ("n1", 2, frozenset({EPOCH}))
        assert {key.stream: log.waiting for key, log in out.logs.items()} == {"s": 4, "t": 2}


def test_a_probe_about_logs_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        out = at.desk.take([bundle(ask("n", offer(9, 9), node="b"), carrier="b")])
        assert out.asked == []
        assert at.sheet()["wire"]["corrupt"] == 1


def test_an_unknown_dictionary_is_needed_and_nothing_is_acknowledged(tmp_path: Path) -> None:
    odd = msgspec.structs.replace(batch(1, 1), codec=envelope.Codec.ZSTD_DICT, ref=b"stranger")
    with opened(tmp_path) as at:
        out = at.desk.take([bundle(odd, carrier="b")])
        ((carrier, need),) = out.needs
        assert (carrier, need.why, need.a, need.b) == ("b", "dict", 1, 1)
        assert need.have == at.desk.codecs.ids
        assert out.logs == {}


def test_documents_are_kept_across_a_restart_and_serve_as_bases(tmp_path: Path) -> None:
    sender = documents.Sender("a", "twin", EPOCH)
    words = secrets.token_hex(300).encode()
    texts = [b'{"n":%d,"x":"%s"}' % (n, words) for n in range(12)]
    for text in texts:
        with opened(tmp_path) as at:
            out = at.desk.take([bundle(sender.encode(text, CODECS))])
            assert out.fresh_docs == {"a"}
            sender.acknowledge(out.docs["a"]["twin"])
            assert at.desk.papers.newest("a", "twin") == text
    assert len(out.docs["a"]["twin"]) == documents.KEPT
    assert sender.encode(texts[0], CODECS).codec is envelope.Codec.P


def test_a_base_that_is_not_here_is_needed(tmp_path: Path) -> None:
    sender = documents.Sender("a", "twin", EPOCH)
    base = b'{"n":1,"x":"%s"}' % (b"0123456789" * 30)
    sender.encode(base, CODECS)
    sender.acknowledge([envelope.short_id(base).hex()])
    with opened(tmp_path) as at:
        out = at.desk.take([bundle(sender.encode(base.replace(b"1", b"2", 1), CODECS))])
        assert [need.why for _, need in out.needs] == ["base"]
