"""Bytes that somebody else chose: an error, a need or values, in bounded memory and time."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.frames import AnyRecord, Event
from edge_agent.core.wire import Need, WireError, records
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.columns import Coding
from edge_agent.core.wire.cursor import varint
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import Codec, Envelope
from tests.wire import made, second_bytes, second_decoder
from tests.wire.test_records import body

MAX_MB = 192


def first(envelope: Envelope) -> Sequence[AnyRecord] | str:
    """Values, or how the first decoder ended."""
    try:
        decoded = records.decode(envelope, made.codecs())
    except WireError:
        return "error"
    return decoded.why if isinstance(decoded, Need) else decoded


def second(envelope: Envelope) -> Sequence[AnyRecord] | str:
    """The same of the other one."""
    try:
        opened = second_bytes.open_envelope(second_bytes.Bytes(envelopes.encode(envelope)))
        rows = second_decoder.open_records(opened, [DICTIONARY_1])
        return msgspec.convert(rows, list[AnyRecord])
    except second_bytes.Wanting as wanting:
        return wanting.why
    except (second_bytes.Refused, msgspec.ValidationError):
        return "error"


def told(outcome: Sequence[AnyRecord] | str) -> str | bytes:
    return outcome if isinstance(outcome, str) else made.packed(outcome)


def raw_envelope(batch: Sequence[AnyRecord], raw: bytes) -> Envelope:
    codecs = made.codecs(dictionary=False)
    whole = records.encode(batch, codecs)
    return msgspec.structs.replace(
        whole, codec=Codec.RAW, ref=b"", result=b"", raw_len=len(raw), body=raw
    )


@pytest.mark.parametrize("seed", range(12))
def test_both_decoders_agree_on_every_damaged_body(seed: int) -> None:
    chance = random.Random(seed)
    batch = made.clip(chance.choice([1, 2, 13]), seed, objects=seed % 4)
    raw = records.raw_of(batch)
    for _ in range(120):
        damaged = bytearray(raw)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(damaged))
            damaged[at : at + chance.choice([0, 1, 1])] = bytes(
                chance.choice([0, 1, 1, 2]) * [chance.choice([0, 1, 127, 128, 255, at & 255])]
            )
        envelope = raw_envelope(batch, bytes(damaged))
        assert told(first(envelope)) == told(second(envelope)), bytes(damaged).hex()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_as_a_body_end_well(raw: bytes) -> None:
    envelope = raw_envelope(made.clip(1), raw)
    assert told(first(envelope)) == told(second(envelope))


def test_every_bit_of_a_frame_is_watched() -> None:
    batch = made.clip(3)
    whole = records.encode(batch, made.codecs())
    assert whole.codec is Codec.ZSTD_DICT
    for bit in range(8 * len(whole.body)):
        damaged = bytearray(whole.body)
        damaged[bit // 8] ^= 1 << bit % 8
        outcome = first(msgspec.structs.replace(whole, body=bytes(damaged)))
        assert outcome == "error" or outcome == tuple(batch), f"bit {bit}"
    for size in range(len(whole.body)):
        assert first(msgspec.structs.replace(whole, body=whole.body[:size])) == "error"
    assert first(msgspec.structs.replace(whole, body=whole.body + b"x")) == "error"


def test_text_that_is_no_utf_8_is_refused_in_messagepack_too() -> None:
    batch = made.numbered([Event(node="n", stream="s", name="hi")])
    packed = (Coding.PACKED, b"\x03\x91\xa1\xff")
    raw = body((1, 1, {1: (Coding.INT, b"\x0a")}), (19, 1, {3: packed}))
    assert first(raw_envelope(batch, raw)) == "error"


def zstd_envelope(frame: bytes, raw_len: int) -> Envelope:
    return msgspec.structs.replace(
        raw_envelope(made.clip(1), b""), codec=Codec.ZSTD, raw_len=raw_len, body=frame[4:]
    )


def bombs() -> list[Envelope]:
    """Small, and large inside."""
    zeros = bytes(64 << 20)
    sized = zstandard.ZstdCompressor(write_checksum=True).compress(zeros)
    unsized = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compressobj()
    unknown = unsized.compress(zeros) + unsized.flush()
    liar = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(bytes(1 << 20)))
    cells = dict.fromkeys(range(1, 60), (Coding.INT, b"\x00"))
    rows: dict[int, tuple[int, bytes]] = {1: (Coding.INTS, b"\x00"), 2: (Coding.INTS, b"\x00")}
    nothing: dict[int, tuple[int, bytes]] = dict.fromkeys(range(1, 60), (0, b""))
    runs = b"\x10" + varint(1) + b"\x01" + varint((1 << 19) - 1)
    return [
        zstd_envelope(sized, 1 << 20),
        zstd_envelope(unknown, 1 << 20),
        zstd_envelope(bytes(liar), 1000),
        *(
            raw_envelope(made.clip(1), raw)
            for raw in (
                body((3, 1 << 16, cells), (4, 1 << 16, cells)),
                body((6, 1 << 19, rows), (7, 1 << 19, rows), (9, 1 << 19, rows)),
                body((99, 1 << 19, nothing)),
                body((7, 1 << 19, {1: (Coding.INTS, runs), 2: (Coding.INTS, runs)})),
                body((8, 1 << 19, {1: (Coding.INTS, b"\x08\x38" + varint(1 << 40))})),
                body((8, 1 << 19, {1: (Coding.TEXTS, varint(1 << 19))})),
                body((8, 1, {1: (Coding.PACKED, varint(9) + b"\xdd\xff\xff\xff\xff" + bytes(4))})),
                body((8, 1, {1: (Coding.PACKED, varint(60_001) + b"\x91" * 60_001)})),
                b"\x3f" + b"\xff" * 9 + b"\x01",
            )
        ),
    ]


@pytest.mark.parametrize("number", range(len(bombs())))
def test_a_bomb_is_refused_in_bounded_memory(number: int) -> None:
    bomb = bombs()[number]
    tracemalloc.start()
    try:
        assert first(bomb) == "error"
        assert tracemalloc.get_traced_memory()[1] < MAX_MB << 20
    finally:
        tracemalloc.stop()


def test_duplicates_and_another_order_change_nothing() -> None:
    batch = made.clip(40)
    codecs = made.codecs()
    parts = [records.encode(batch[at : at + 8], codecs) for at in range(0, 40, 8)]
    again = [records.encode(batch[3:21], codecs), *reversed(parts), *parts]
    held: dict[int, AnyRecord] = {}
    for envelope in again:
        decoded = records.decode(envelope, made.codecs())
        assert not isinstance(decoded, Need)
        for record in decoded:
            assert held.setdefault(record.seq, record) == record
    assert [held[seq] for seq in sorted(held)] == batch
