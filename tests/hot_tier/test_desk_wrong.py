"""What is wrong is counted, refused, or waited for; it never crashes the desk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import ConfigError
from edge_agent.core.wire import armour, envelope
from edge_agent.core.wire.envelope import Kind
from tests.hot_tier.opened import Open, opened
from tests.hot_tier.wire import balances, batch, bundle
from tools.hot_tier.database import Database, DiskFull
from tools.hot_tier.desk import Desk


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_garbage_is_counted_and_never_taken(shared: Open, noise: bytes, at: int, flip: int) -> None:
    good = bundle(batch(1, 3))
    bent = bytearray(good)
    head = len(b"ea1 a ")  # who carries it is under no check
    bent[head + at % (len(good) - head)] ^= flip
    before = shared.desk.counts["corrupt"] + shared.desk.counts["needs"]
    for payload in (noise, b"ea1 a " + armour.arm(noise), bytes(bent), good[: at % len(good)]):
        if payload == good:
            continue
        shared.desk.take([payload])
    assert shared.desk.counts["corrupt"] + shared.desk.counts["needs"] >= before + 3
    assert shared.held() == []


@given(st.binary(max_size=200), st.sampled_from(Kind), st.integers(0, 60))
@settings(max_examples=300, deadline=None)
def test_sealed_garbage_is_counted_and_never_taken(
    shared: Open, noise: bytes, kind: Kind, count: int
) -> None:
    """An attacker can compute the check of an envelope."""
    whole = batch(1, max(1, count))
    raw = msgspec.structs.replace(
        whole, kind=kind, codec=envelope.Codec.RAW, raw_len=len(noise), body=noise, ref=b"",
        klass=whole.klass if kind is Kind.RECORDS else None,
    )  # fmt: skip
    shared.desk.take([bundle(raw, carrier="b")])
    assert shared.held() == []


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    with opened(tmp_path_factory.mktemp("garbage")) as at:
        yield at


def test_one_bad_envelope_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    bad = msgspec.structs.replace(batch(1, 2), raw_len=3, body=b"bad", codec=envelope.Codec.RAW)
    with opened(tmp_path) as at:
        at.desk.take([bundle(bad, batch(3, 4))])
        assert at.held() == [3, 4]
        assert at.sheet()["wire"]["corrupt"] == 1


def test_a_full_disk_takes_nothing_and_recovers(tmp_path: Path) -> None:
    with opened(tmp_path, max_bytes=40 * 4096) as at:
        taken = 0
        with pytest.raises(DiskFull):
            for n in range(200):
                at.desk.take([bundle(batch(n * 20 + 1, n * 20 + 20))])
                taken = n * 20 + 20
        assert at.sheet()["total"]["held"] == taken
        assert balances(at.sheet())
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(taken + 1, taken + 20))])
        assert at.held() == list(range(1, taken + 21))


def test_only_the_nodes_given_are_taken(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        desk = Desk(at.db, ["b"])
        assert desk.take([bundle(batch(1, 2))]).logs == {}
        assert desk.counts["refused"] == 1


def test_a_second_receiver_does_not_open_the_same_file(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(ConfigError):
        Open(tmp_path)


def test_the_identity_stays_with_the_file(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        opens = at.db.opens
    with closing(Database(tmp_path / "db", mint="other")) as db:
        assert (db.rx, db.opens) == ("rx", opens + 1)


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "db")) as db, db:
        db.execute("CREATE TABLE x(y)")
    with pytest.raises(ConfigError):
        Open(tmp_path)
