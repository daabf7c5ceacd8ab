"""The sender keeps to what the receiver takes: sizes as decoded, finite numbers; nothing is lost
without a word.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from edge_agent.core import carriage
from edge_agent.core.backfill import Want
from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import AnyRecord, Event, Mask, ModelStats, Object, Result, pack
from edge_agent.core.lanes import key_of
from edge_agent.core.outbox import _fitting
from edge_agent.core.wire import Need, WireError, armour, bounds, records
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.columns import Coding
from edge_agent.core.wire.envelope import Envelope
from edge_agent.services.uplink.packing import Packer
from tests.wire import made, second_bytes, second_decoder
from tests.wire.test_hostile import first, raw_envelope, second
from tests.wire.test_records import body


def loud(size: int, **more: Any) -> Event:
    """An event of so many bytes of text, beside its name."""
    return Event(node="n", stream="s", name="x", what="w" * size, **more)


def test_the_largest_record_that_is_made_is_within_the_bound() -> None:
    ring = tuple(range(400))
    mask = Mask(area_px=1, box=(0, 0, 1, 1), rings=(ring,))
    item = Object(
        id=1, track=1, head="h" * 40, label="l" * 40, score=0.5, box=(0.0, 0.0, 1.0, 1.0), mask=mask
    )
    (largest,) = made.numbered([Result(node="n", stream="s", objects=(item,) * 100)])
    assert bounds.size_of(largest) < bounds.MAX_RECORD_BYTES
    envelope = records.encode([largest], made.codecs())
    assert records.decode(envelope, made.codecs()) == (largest,)


@settings(max_examples=60, deadline=None)
@given(made.BATCHES)
def test_both_sides_and_the_other_decoder_weigh_alike(batch: list[AnyRecord]) -> None:
    rows: list[dict[str, Any]] = msgspec.to_builtins(batch)
    for item in [item for row in rows for item in row.get("objects", ())]:
        mask = item.get("mask")
        whole = {"rings": [], "runs": [], **mask} if mask else None
        item.update(keypoints=item.get("keypoints", []), mask=whole)
    sizes = [bounds.size_of(record) for record in batch]
    assert sizes == [second_decoder.size_of(row) for row in rows]
    assert sum(sizes) <= bounds.at_most(batch)


def test_the_bound_of_a_record_is_met_to_the_byte_by_both_sides() -> None:
    for text, fits in ((16, True), (17, False)):
        (record,) = made.numbered([stats_of(65_503, text)])
        assert bounds.size_of(record) - bounds.MAX_RECORD_BYTES == text - 16
        envelope = raw_envelope(made.numbered([stats(0.5)]), records.raw_of([record]))
        assert (first(envelope) == (record,)) == (second(envelope) == [record]) == fits


def stats_of(scores: int, text: int) -> ModelStats:
    return ModelStats(node="n", stream="s", model="w" * text, scores=(0,) * scores)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_a_number_that_is_not_finite_is_neither_sent_nor_taken(odd: float, rows: int) -> None:
    batch = made.numbered([stats(0.5)] * (rows - 1) + [stats(odd)])
    with pytest.raises(ValueError, match="finite"):
        records.encode(batch, made.codecs())


def stats(mean: float) -> ModelStats:
    return ModelStats(node="n", stream="s", input_mean=mean, input_sd=1.0)


@pytest.mark.parametrize(
    "column",
    [
        (Coding.DOUBLE, b"\x00" * 6 + b"\xf8\x7f"),
        (Coding.DOUBLES, b"\x00" * 6 + b"\xf0\x7f"),
        (Coding.DECIMALS, b"\x00\x00\x01\x00" + b"\x00" * 6 + b"\xf0\xff"),
        (Coding.PACKED, b"\x0a\x91\xcb\x7f\xf8" + b"\x00" * 6),
        (Coding.OPTIONAL, b"\x20\x02\x03" + b"\x00" * 6 + b"\xf8\x7f"),
    ],
)
@pytest.mark.parametrize("field", [8, 77])
def test_no_coding_brings_in_a_nan_not_even_in_a_field_to_come(
    column: tuple[int, bytes], field: int
) -> None:
    one = (Coding.INT, b"\x02")
    table = (15, 1, {8: one, 9: one, field: column})
    raw = body((1, 1, {1: (Coding.INT, b"\x04")}), table)
    envelope = raw_envelope(made.numbered([stats(0.5)]), raw)
    assert first(envelope) == second(envelope) == "error"


def backlog(batch: list[AnyRecord]) -> Any:
    log = key_of(batch[0])
    want = Want(
        key=log, wanted=((1, len(batch)),), attempt=0, plain=False, max_bytes=100_000, line=0
    )
    return Packer().backlog([(record.seq, pack(record)) for record in batch], want)


ODD_ONES: list[AnyRecord] = [stats(math.nan), stats_of(70_000, 60_001)]


@pytest.mark.parametrize("odd", ODD_ONES)
def test_a_record_that_may_not_be_sent_is_unfit_and_told_the_others_go(odd: AnyRecord) -> None:
    batch = made.numbered([stats(0.5), stats(0.5), odd, stats(0.5)])
    packed = backlog(batch)
    assert packed.unfit == [3]
    assert [(cargo.span.a, cargo.span.b) for cargo in packed.cargos] == [(1, 2), (4, 4)]
    carried = carriage.pack_rows(
        "n", key_of(batch[0]), [(one.seq, pack(one)) for one in batch], made.codecs()
    )
    assert (carried.records, carried.unfit) == (3, 1)


def test_a_batch_that_is_heavy_is_halved_and_no_bundle_is_too_heavy() -> None:
    batch = made.numbered([loud(15_000)] * 1200)
    packed = backlog(batch)
    assert packed.unfit == []
    assert len(packed.cargos) > 4
    weights = [cargo.weight for cargo in packed.cargos]
    assert max(weights) <= bounds.MAX_BATCH_BYTES
    assert sum(weights) >= sum(map(bounds.size_of, batch))
    live = _fitting(packed.cargos)
    assert 0 < sum(cargo.weight for cargo in live) <= bounds.MAX_BUNDLE_BYTES // 2
    rows = [(one.seq, pack(one)) for one in batch]
    carried = carriage.pack_rows("n", key_of(batch[0]), rows, made.codecs())
    assert carried.records == 1200
    for bundle in carried.bundles:
        assert weighed(bundle) <= bounds.MAX_BUNDLE_BYTES


def weighed(bundle: bytes) -> int:
    total = 0
    for content in armour.unpack(bundle).contents:
        assert isinstance(content, Envelope)
        found = records.decode(content, made.codecs())
        assert not isinstance(found, Need)
        total += sum(map(bounds.size_of, found))
    return total


def test_one_text_in_all_rows_counts_in_all_rows() -> None:
    """Of a column of one text a few bytes say 4,000 times as many."""
    batch = made.numbered([loud(1)] * 300)
    with pytest.raises(Overloaded, match="decoded"):
        records.encode(made.numbered([loud(15_000)] * 300), made.codecs())
    kinds = (1, 300, {1: (Coding.INT, b"\x0a")})
    text = b"\xb0\xea\x01" + b"w" * 15_000
    raw = body(kinds, (19, 300, {3: (Coding.TEXT, b"\x02x"), 4: (Coding.TEXT, text)}))
    envelope = raw_envelope(batch, raw)
    with pytest.raises(WireError, match="decoded"):
        records.decode(envelope, made.codecs())
    assert second(envelope) == "error"


def test_bodies_of_a_bundle_are_bounded_together_before_any_is_opened() -> None:
    """64 of them, 1 MiB each, would keep a receiver busy for a minute."""
    raw = bytes(1 << 20)
    (event,) = made.numbered([loud(1)])
    squeezed = made.codecs(dictionary=False).squeeze(raw)
    whole = records.encode([event], made.codecs(dictionary=False))
    large = msgspec.structs.replace(whole, codec=squeezed[0], body=squeezed[2], raw_len=len(raw))
    encoded = envelopes.encode(large)
    assert len(armour.unpack(armour.pack("n", [encoded] * 16)).contents) == 16
    payload = armour.pack("n", [encoded] * 17)
    with pytest.raises(WireError, match="bodies"):
        armour.unpack(payload)
    with pytest.raises(second_bytes.Refused):
        second_bytes.open_bundle(payload)


@settings(max_examples=60, deadline=None)
@given(made.BATCHES)
def test_no_body_of_records_is_longer_than_its_records_weigh(batch: list[AnyRecord]) -> None:
    """So who keeps to the size of a bundle keeps to that of its bodies."""
    assert len(records.raw_of(batch)) <= sum(map(bounds.size_of, batch))
