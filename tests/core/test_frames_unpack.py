"""A body that is no record is an error that says so, whatever its bytes are."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.frames import Event, pack, unpack

BODY = pack(Event(node="cart-3", stream="us", epoch=1, seq=1, name="started", what="words"))


def test_text_that_is_no_utf8_is_no_record() -> None:
    with pytest.raises(msgspec.DecodeError, match="no UTF-8"):
        unpack(BODY.replace(b"words", b"w\xff\xfeds"))


@given(st.integers(0, 8 * len(BODY) - 1))
def test_any_flipped_bit_is_another_record_or_an_error(place: int) -> None:
    flipped = bytearray(BODY)
    flipped[place // 8] ^= 1 << place % 8
    try:
        found = unpack(bytes(flipped))
    except msgspec.MsgspecError:
        return
    assert isinstance(found, msgspec.Struct)
