"""Every record comes back exactly, by both decoders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import AnyRecord, Event, Mask, Object, Result
from edge_agent.core.wire import Need, WireError, arrays, records, singly
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.columns import Coding
from edge_agent.core.wire.cursor import Reader, signed, varint
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import Codec, Envelope
from tests.wire import made, second_bytes, second_columns, second_decoder


def by_the_second(envelope: Envelope) -> list[AnyRecord]:
    """What the independent decoder makes of the bytes."""
    opened = second_bytes.open_envelope(second_bytes.Bytes(envelopes.encode(envelope)))
    rows = second_decoder.open_records(opened, [DICTIONARY_1])
    return msgspec.convert(rows, list[AnyRecord])


@settings(max_examples=150, deadline=None)
@given(made.BATCHES)
def test_any_batch_comes_back_exactly_from_both_decoders(batch: list[AnyRecord]) -> None:
    codecs = made.codecs()
    envelope = records.encode(batch, codecs)
    decoded = records.decode(envelope, codecs)
    assert not isinstance(decoded, Need)
    assert made.packed(decoded) == made.packed(batch)
    assert made.packed(by_the_second(envelope)) == made.packed(batch)


@pytest.mark.parametrize("count", [1, 2, 11, 12, 30, 300])
@pytest.mark.parametrize("objects", [0, 1, 2, 3])
def test_a_clip_comes_back_exactly_at_every_batch_size(count: int, objects: int) -> None:
    batch = made.clip(count, objects=objects)
    codecs = made.codecs()
    envelope = records.encode(batch, codecs)
    assert records.decode(envelope, codecs) == tuple(batch)
    assert by_the_second(envelope) == batch
    assert (envelope.first, envelope.last, envelope.count) == (1, count, count)


@pytest.mark.parametrize("odd", [5e-324, 1.7e308, 0.1 + 0.2, -0.0, 1e300, math.pi, 2.0**60])
def test_one_number_off_the_quantum_is_kept_to_the_last_bit(odd: float) -> None:
    batch = made.clip(40)
    first = batch[17]
    assert isinstance(first, Result)
    box = (odd, *first.objects[0].box[1:])
    changed = msgspec.structs.replace(first.objects[0], box=box)
    batch[17] = msgspec.structs.replace(first, objects=(changed, *first.objects[1:]))
    codecs = made.codecs()
    envelope = records.encode(batch, codecs)
    decoded = records.decode(envelope, codecs)
    assert not isinstance(decoded, Need)
    assert made.packed(decoded) == made.packed(batch) == made.packed(by_the_second(envelope))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(made.INT64, max_size=100) | st.lists(st.integers(-9, 9), max_size=200),
    st.lists(st.integers(2, 30), max_size=2),
)
def test_a_block_of_integers_comes_back_from_both_decoders(
    values: list[int], lags: list[int]
) -> None:
    block = arrays.encode(np.array(values, np.int64), lags)
    read = Reader(block, "block")
    assert arrays.decode(len(values), read).tolist() == values
    read.end()
    assert second_columns.block(len(values), second_bytes.Bytes(block)) == values
    assert singly.numbers(len(values), Reader(block, "block")) == values


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 40), st.binary(min_size=1, max_size=60))
def test_any_block_is_the_same_with_arrays_and_without(count: int, block: bytes) -> None:
    ends: list[tuple[list[int], int] | None] = []
    for decode in (singly.numbers, lambda n, read: arrays.decode(n, read).tolist()):
        read = Reader(block, "block")
        try:
            ends.append((decode(count, read), read.at))
        except WireError:
            ends.append(None)
    assert ends[0] == ends[1]


@pytest.mark.parametrize("noise", [0.6, 3.0, 40.0, 3000.0])
def test_noise_costs_hardly_more_than_its_entropy(noise: float) -> None:
    chance = np.random.default_rng(4)
    values = np.rint(chance.normal(0, noise, 20_000)).astype(np.int64)
    _, times = np.unique(values, return_counts=True)
    share = times / times.sum()
    floor_bytes = -(share * np.log2(share)).sum() * len(values) / 8
    assert len(arrays.encode(values)) < 1.15 * floor_bytes + 16


def test_records_of_two_logs_do_not_share_an_envelope() -> None:
    batch = made.clip(3)
    for other in (
        msgspec.structs.replace(batch[1], stream="other"),
        msgspec.structs.replace(batch[1], epoch=1),
        msgspec.structs.replace(batch[1], seq=3),
        made.numbered([Event(node="n", stream="s")], first=2)[0],
    ):
        with pytest.raises(ValueError, match="expected seq 2"):
            records.encode([batch[0], other, batch[2]], made.codecs())
    with pytest.raises(ValueError, match="got none"):
        records.encode([], made.codecs())


def large(points: int) -> Result:
    ring = tuple(range(points))
    mask = Mask(area_px=1, box=(0, 0, 1, 1), rings=(ring,))
    item = Object(
        id=1, track=0, head="h", label="l", score=0.5, box=(0.0, 0.0, 1.0, 1.0), mask=mask
    )
    return Result(node="n", stream="s", objects=(item,))


def test_a_batch_beyond_the_bounds_is_halved_until_it_fits() -> None:
    batch = made.numbered([large(60_000)] * 8)
    with pytest.raises(Overloaded):
        records.encode(batch, made.codecs())
    halves = records.encode_all(batch, made.codecs())
    assert len(halves) > 1
    decoded = [records.decode(half, made.codecs()) for half in halves]
    assert [r for some in decoded if not isinstance(some, Need) for r in some] == batch
    with pytest.raises(Overloaded, match="halves"):
        records.encode_all(made.numbered([large(70_000)]), made.codecs())


def plain(batch: list[AnyRecord], raw: bytes) -> Envelope:
    """The envelope of this batch with another body."""
    envelope = records.encode(batch, made.codecs())
    return msgspec.structs.replace(envelope, codec=Codec.RAW, ref=b"", raw_len=len(raw), body=raw)


def body(*tables: tuple[int, int, Mapping[int, tuple[int, bytes]]]) -> bytes:
    """(number, rows, {field: (coding, payload)}) each."""
    heads, payloads = b"", b""
    for number, rows, columns in tables:
        heads += varint(number) + varint(rows) + b"\x00" + varint(len(columns))
        for field, (coding, payload) in columns.items():
            heads += varint(field) + bytes((coding,))
            payloads += payload
    return varint(len(tables)) + heads + payloads


EVENT: dict[int, tuple[int, bytes]] = {3: (Coding.TEXT, b"\x04hi")}
KIND: tuple[int, int, dict[int, tuple[int, bytes]]] = (1, 1, {1: (Coding.INT, signed(5))})
LATER: tuple[int, bytes] = (200, b"\x03???")


def test_columns_and_tables_to_come_are_passed_over() -> None:
    batch = made.numbered([Event(node="n", stream="s", name="hi")])
    newer = body(
        KIND, (19, 1, {**EVENT, 77: LATER, 78: (Coding.INT, b"\x02")}), (99, 3, {1: LATER})
    )
    envelope = plain(batch, newer)
    assert records.decode(envelope, made.codecs()) == tuple(batch)
    assert by_the_second(envelope) == batch


@pytest.mark.parametrize(
    "newer",
    [
        body(KIND, (19, 1, {3: LATER})),
        body((1, 1, {1: (Coding.INT, signed(6))}), (19, 1, EVENT)),
    ],
)
def test_what_must_be_understood_and_is_not_is_a_need(newer: bytes) -> None:
    envelope = plain(made.numbered([Event(node="n", stream="s", name="hi")]), newer)
    wanted = records.decode(envelope, made.codecs())
    assert isinstance(wanted, Need)
    assert (wanted.why, wanted.kind, wanted.name) == ("version", "records", "probe-a/event")
    with pytest.raises(second_bytes.Wanting, match="version"):
        by_the_second(envelope)


def test_a_dictionary_that_is_not_here_is_needed_and_said() -> None:
    batch = made.clip(1)
    envelope = records.encode(batch, made.codecs())
    assert envelope.codec is Codec.ZSTD_DICT
    wanted: Any = records.decode(envelope, made.codecs(dictionary=False))
    assert wanted == Need(
        node="cart-07", kind="records", name="probe-a/result", epoch=5 << 32, a=1, b=1,
        why="dict", have=(),
    )  # fmt: skip


def test_only_a_dictionary_that_was_announced_is_used() -> None:
    codecs = made.codecs()
    codecs.allow(["0" * 16])
    assert records.encode(made.clip(1), codecs).codec is not Codec.ZSTD_DICT
    codecs.allow(["0" * 16, *codecs.ids])
    assert records.encode(made.clip(1), codecs).codec is Codec.ZSTD_DICT
