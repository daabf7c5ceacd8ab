"""What the spool holds: a record by itself, smaller, and read by every agent that knows how."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import shrunk
from edge_agent.core.frames import AnyRecord, Event, Record, pack, plain, unpack
from tests.wire import made

SHRINKER = shrunk.Shrinker()


@settings(max_examples=200, deadline=None)
@given(st.one_of(*made.BY_CLASS.values()))
def test_any_record_comes_back_exactly(record: AnyRecord) -> None:
    body = SHRINKER.shrink(pack(record))
    assert bytes(plain(body)) == pack(record)
    assert pack(unpack(body)) == pack(record)
    assert pack(unpack(memoryview(body))) == pack(record)


def test_a_record_with_contours_takes_less_than_half() -> None:
    packed = pack(made.clip(1)[0])
    assert len(SHRINKER.shrink(packed)) < len(packed) / 2


def test_what_is_no_smaller_stays_as_it_was_packed() -> None:
    assert SHRINKER.shrink(b"\x80") == b"\x80"
    assert SHRINKER.shrink(b"") == b""
    large = bytes(shrunk.MAX_BYTES + 1)
    assert SHRINKER.shrink(large) == large


def test_bodies_of_older_agents_are_read_as_ever() -> None:
    record = made.clip(1)[0]
    assert unpack(pack(record)) == record
    assert plain(pack(record)) == pack(record)


def test_an_agent_that_does_not_know_these_bodies_takes_them_for_none_of_its_own() -> None:
    """It leaves them in its spool: see `services.uplink.packing`."""
    old = msgspec.msgpack.Decoder(AnyRecord)
    body = SHRINKER.shrink(pack(made.clip(1)[0]))
    with pytest.raises(msgspec.DecodeError):
        old.decode(body)


def test_a_body_of_a_later_kind_is_unfit_here_in_turn() -> None:
    body = SHRINKER.shrink(pack(made.clip(1)[0]))
    with pytest.raises(msgspec.DecodeError):
        unpack(b"\xc1\x02" + body[2:])


def test_what_is_damaged_is_refused_or_read_and_nothing_else() -> None:
    """Rows have a check of their own; this is about what gets past it."""
    body = SHRINKER.shrink(pack(made.clip(1)[0]))
    for at in range(len(body)):
        for bit in (1, 16, 128):
            damaged = bytearray(body)
            damaged[at] ^= bit
            refused_or_read(bytes(damaged))
        refused_or_read(body[:at])
    refused_or_read(body + b"x")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_end_well(frame: bytes) -> None:
    refused_or_read(shrunk.HEAD + frame)


def test_a_small_body_that_means_much_is_refused_before_memory_is_taken() -> None:
    bomb = shrunk.Shrinker()._zstd.compress(bytes(64 << 20))
    assert len(bomb) < 10_000
    with pytest.raises(ValueError, match="at most"):
        shrunk.grown(shrunk.HEAD + bomb)


def refused_or_read(body: bytes) -> None:
    try:
        record = unpack(body)
    except msgspec.MsgspecError:
        return
    assert isinstance(record, Record)


def test_the_dictionary_is_the_one_that_spools_were_written_with() -> None:
    """A change of `records-1.zdict` makes every spool in the field unreadable."""
    event = Event(node="cart-07", stream="probe-a", boot="0badcafe", at_us=1000, name="started")
    assert unpack(bytes.fromhex(WRITTEN)) == event


WRITTEN = "c101205e85000018cd03e803dc0bfae64cb1e6006f042c"
