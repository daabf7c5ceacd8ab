"""Contours by their steps: exact by both decoders, only for who knows them, and well bounded."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import edgecore
from edge_agent.core.backfill import Want
from edge_agent.core.frames import AnyRecord, Mask, Object, Result, pack, to_json
from edge_agent.core.lanes import key_of
from edge_agent.core.vision import Rect, fit_region
from edge_agent.core.wire import Need, grids, records, rings, tables
from edge_agent.core.wire.codec import CODINGS, Codecs
from edge_agent.core.wire.cursor import Reader, signed, varint
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.outcome import WireError
from edge_agent.core.wire.schema import KNOWN
from edge_agent.inference.contours import blobs, outline
from edge_agent.services.uplink.packing import Packer
from tests.wire import made
from tests.wire.test_hostile import first, raw_envelope, second, told
from tests.wire.test_page import PAGE


def knowing(*, dictionary: bool = True) -> Codecs:
    """Towards a receiver that announced all that there is."""
    codecs = Codecs([DICTIONARY_1] if dictionary else [])
    codecs.allow(codecs.ids, CODINGS)
    return codecs


def with_rings(found: Sequence[Sequence[tuple[int, ...]]], **same: Any) -> list[AnyRecord]:
    """A record for each of these objects' rings."""
    return made.numbered(
        [
            Result(
                node="n", stream="s", roi=(0, 0, 640, 480), **same,
                objects=(
                    Object(id=1, track=1, head="h", label="l", score=0.5, box=(0.0, 0.0, 1.0, 1.0),
                           mask=Mask(area_px=1, box=(0, 0, 1, 1), rings=tuple(some))),
                ),
            )
            for some in found
        ]
    )  # fmt: skip


def drawn(
    kind: Any, roi: Rect, size: tuple[int, int], *, step: int = 1, frames: int = 3, seed: int = 1
) -> list[list[tuple[int, ...]]]:
    """Rings of noisy blobs on a raster, one set a frame, as the agent outlines them."""
    chance = np.random.default_rng(seed)
    grid = fit_region(kind, roi, size).grid(size[0] // step, size[1] // step)
    high, wide = size[1] // step, size[0] // step
    rows, columns = np.mgrid[:high, :wide]
    found = []
    for _ in range(frames):
        angle = np.arctan2(rows - high / 2, columns - wide / 2)
        edge = 0.25 + 0.05 * np.sin(3 * angle + chance.uniform(0, 6)) + 0.15 * chance.random()
        away = np.hypot((rows - high / 2) / high, (columns - wide / 2) / wide)
        mask = (away + 0.01 * chance.standard_normal((high, wide)) < edge).astype(np.uint8)
        blob = blobs(mask, grid, least_pixels=9, limit=1)[0][0]
        found.append(list(outline(blob, grid)[0]))
    return found


def is_stepped(raw: bytes) -> bool:
    """Table 7 has one column: field 1, coding 128."""
    return b"\x01\x01\x80" in raw


def exact(batch: Sequence[AnyRecord], codecs: Codecs) -> bool:
    """Comes back to the last bit from both decoders. Whether it went by steps."""
    envelope = records.encode(batch, codecs)
    assert told(first(envelope)) == told(second(envelope)) == made.packed(batch)
    return is_stepped(records.raw_of(batch, codecs.grids))


VIEWS = [
    ("letterbox", (29, 36, 582, 410), (256, 192), 1),
    ("letterbox", (0, 0, 592, 480), (256, 256), 1),  # lines that lie half way between units
    ("letterbox", (55, 72, 1170, 821), (640, 640), 4),
    ("stretch", (0, 0, 640, 480), (192, 192), 1),
    ("stretch", (17, 3, 500, 411), (192, 192), 1),  # lines half way, but for rounding of doubles
    ("stretch", (0, 0, 1920, 1080), (96, 96), 1),
    ("crop", (10, 20, 700, 500), (224, 224), 2),
]


@pytest.mark.parametrize(("kind", "roi", "size", "step"), VIEWS)
@pytest.mark.parametrize("frames", [1, 12])
def test_outlines_go_by_steps_and_come_back_exactly(
    kind: str, roi: Rect, size: tuple[int, int], step: int, frames: int
) -> None:
    batch = with_rings(drawn(kind, roi, size, step=step, frames=frames))
    assert exact(batch, knowing())


def test_a_clip_that_repeats_takes_less_than_its_json() -> None:
    some = drawn("letterbox", (29, 36, 582, 410), (256, 192), frames=20)
    batch = with_rings([some[i % 20] for i in range(200)])
    codecs = knowing(dictionary=False)
    plain = len(records.encode(batch, Codecs()).body)
    text = Codecs().squeeze(b"\n".join(map(to_json, batch)))[2]
    assert exact(batch, codecs)
    assert len(records.encode(batch, codecs).body) < min(0.6 * plain, len(text))


def test_two_models_on_one_stream_have_a_grid_each() -> None:
    one = with_rings(drawn("letterbox", (29, 36, 582, 410), (256, 192), frames=10), model="a")
    other = with_rings(drawn("stretch", (0, 0, 640, 480), (192, 192), frames=10), model="b")
    both = [record for pair in zip(one, other, strict=True) for record in pair]
    for count in (2, 20):
        assert exact(made.numbered(both[:count]), knowing())


def test_a_region_that_cuts_a_pixel_of_the_mask_is_no_hindrance() -> None:
    batch = with_rings([[(0, 0, 37, 0, 73, 37, 110, 73, 128, 110, 128, 128, 0, 128)]])
    assert exact(batch, knowing())


@pytest.mark.parametrize("count", [1, 2, 12, 30, 300])
def test_contours_that_lie_on_no_grid_go_as_before(count: int) -> None:
    batch = made.clip(count)
    assert not exact(batch, knowing())
    assert records.encode(batch, knowing()).body == records.encode(batch, made.codecs()).body


WHOLE = st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-100, 5000)
ON_GRID = st.tuples(st.integers(3, 99), st.integers(-(1 << 40), 1 << 40)).flatmap(
    lambda at: st.lists(st.integers(-300, 300).map(lambda m: at[0] * m + at[1]), max_size=40)
)
ODD_RINGS = st.one_of(
    ON_GRID.map(lambda ring: tuple(ring[: len(ring) & ~1])),
    st.lists(WHOLE, max_size=12).map(tuple),
    st.lists(WHOLE, min_size=2, max_size=2).map(tuple),
    st.tuples(WHOLE, WHOLE).map(lambda point: point * 5),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(ODD_RINGS, max_size=3), min_size=1, max_size=4), st.integers(1, 30))
def test_any_rings_come_back_exactly(found: list[list[tuple[int, ...]]], times: int) -> None:
    exact(with_rings(found * times), knowing())


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 1 << 24), st.integers(1, 8192), st.integers(-(1 << 40), 1 << 40), st.data())
def test_a_line_is_an_exact_fraction_rounded_to_even(
    scale: int, below: int, offset: int, data: st.DataObject
) -> None:
    from fractions import Fraction  # noqa: PLC0415 - of this test alone

    lines = data.draw(st.lists(st.integers(-(1 << 32), 1 << 32), min_size=1, max_size=9))
    axis = rings.Axis(scale, below, offset)
    assert axis.at(np.array(lines, np.int64)).tolist() == [
        round(Fraction(scale * m + offset, below)) for m in lines
    ]


# ── who knows them ────────────────────────────────────────────────────────────────────────────


def test_only_who_announced_the_coding_gets_it() -> None:
    batch = with_rings(drawn("stretch", (0, 0, 640, 480), (192, 192)))
    codecs = made.codecs()
    assert not exact(batch, codecs)
    codecs.allow(codecs.ids, (129, *CODINGS))
    assert exact(batch, codecs)
    codecs.allow(codecs.ids)
    assert not exact(batch, codecs)


def test_who_does_not_know_the_coding_needs_a_newer_version() -> None:
    batch = with_rings(drawn("stretch", (0, 0, 640, 480), (192, 192)))
    raw = bytearray(records.raw_of(batch, knowing().grids))
    at = raw.index(b"\x01\x01\x80") + 2
    raw[at] += 1  # to a reader of version 1 all of these are alike
    envelope = raw_envelope(batch, bytes(raw))
    assert isinstance(records.decode(envelope, knowing()), Need)
    assert told(second(envelope)) == "version"


def test_an_agent_reads_what_a_receiver_knows_and_an_old_one_passes_over_it() -> None:
    topics = edgecore.Topics.of("default", "cart-07")
    ack = edgecore.Ack(schema=1, node="cart-07", rx="r", n=1, can=edgecore.Can(codings=CODINGS))
    said = edgecore.read(topics, "edge-agent/cart-07/down/ack", edgecore.encode(ack))
    assert isinstance(said, edgecore.Ack)
    assert said.can.codings == (128,)
    assert b'"coding":[128]' in edgecore.encode(ack)
    old = b'{"schema":1,"node":"cart-07","rx":"r","n":1,"can":{"version":[1],"dict":[]}}'
    before = edgecore.read(topics, "edge-agent/cart-07/down/ack", old)
    assert isinstance(before, edgecore.Ack)
    assert before.can.codings == ()


# ── what is damaged or forged ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(8))
def test_both_decoders_agree_on_every_damaged_contour(seed: int) -> None:
    chance = random.Random(seed)
    frames = chance.choice([1, 2, 14])
    batch = with_rings(drawn("letterbox", (29, 36, 582, 410), (96, 64), frames=frames, seed=seed))
    raw = records.raw_of(batch, knowing().grids)
    start = raw.index(b"\x01\x01\x80")
    outcomes = set()
    for _ in range(80):
        damaged = bytearray(raw)
        for _ in range(chance.randint(1, 2)):
            at = chance.randrange(start, len(damaged))
            damaged[at] = chance.choice([0, 1, 127, 128, 240, 247, 255, damaged[at] ^ 1])
        envelope = raw_envelope(batch, bytes(damaged))
        outcome = told(first(envelope))
        assert outcome == told(second(envelope)), bytes(damaged).hex()
        outcomes.add(outcome if isinstance(outcome, str) else "read")
    assert "error" in outcomes


def column(payload: bytes) -> Reader:
    return Reader(varint(len(payload)) + payload, "test")


AXIS = b"\x14\x01\x00\x00"
ONE = b"\x01" + AXIS + AXIS
FORGED = {
    "no grid": b"\x00" + b"\x00" + b"\xf0\x00" * 2,
    "another grid": ONE + b"\x00" + b"\xf1\x00\x02\x02" + b"\x00\x00" + b"\x00",
    "no start": ONE + b"\x00" + b"\x02\x02\x02\x02" + b"\x00\x00" + b"\x00",
    "a byte behind a mark": ONE + b"\x00" + b"\xf0\x01\x02\x02" + b"\x00\x00" + b"\x00",
    "scale 0": b"\x01" + b"\x00\x01\x00\x00" + AXIS,
    "below 0": b"\x01" + b"\x01\x00\x00\x00" + AXIS,
    "falling bounds": b"\x01" + b"\x01\x01\x00\x01\x04\x02" + AXIS,
    "sizes of more": ONE + b"\x01" + b"\x01" + b"\x20\x06" + b"\x00" * 4 + b"\x00",
    "sizes of nothing": ONE + b"\x01" + b"\x02" + b"\x00" + b"\x00" * 4 + b"\x00",
    "no rings": ONE + b"\x01" + b"\x00" + b"\x00" * 6,
    "huge steps": ONE + b"\x01\x01\x20\x04" + b"\x00\x00" + b"\x20" + signed(1 << 41) + b"\x00\x00",
    "far away": ONE + b"\x01\x01\x20\x04" + b"\x20" + signed(1 << 33) + b"\x00\x00\x00\x00",
    "a patch outside": ONE + b"\x01\x01\x20\x04" + b"\x00" * 4 + b"\x01\x02\x02\x02",
    "something behind": ONE + b"\x01\x01\x20\x04" + b"\x00" * 4 + b"\x00\x00",
    "another form": ONE + b"\x02" + b"\x00" * 9,
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_no_writer_writes_is_refused(name: str) -> None:
    with pytest.raises(WireError):
        rings.decode(2, column(FORGED[name]))


def test_the_example_of_two_points() -> None:
    payload = ONE + b"\x00" + b"\xf0\x00\x02\x01" + b"\x20\x06\x20\x04\x00"
    assert f"`{payload.hex()}`" in PAGE
    found = rings.decode(2, column(payload))
    assert [axis.tolist() for axis in found] == [[60, 80], [40, 20]]


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 40), st.binary(max_size=120))
def test_any_bytes_as_contours_end_well(count: int, payload: bytes) -> None:
    try:
        found = rings.decode(count, column(ONE + payload))
    except WireError:
        return
    assert [len(axis) for axis in found] == [count, count]


def test_y_beside_whole_points_is_refused() -> None:
    batch = with_rings(drawn("stretch", (0, 0, 640, 480), (192, 192), frames=1))
    raw = records.raw_of(batch, knowing().grids)
    at = raw.index(b"\x01\x01\x80")
    twice = raw[:at] + b"\x02\x01\x80\x02\x01" + raw[at + 3 :] + b"\x00"
    with pytest.raises(WireError):
        tables.decode(twice, KNOWN)
    assert told(second(raw_envelope(batch, twice))) == "error"


# ── looking for a grid ────────────────────────────────────────────────────────────────────────


def test_a_grid_once_found_is_remembered_and_found_anew_when_it_changes() -> None:
    codecs = knowing()
    for roi in ((29, 36, 582, 410), (0, 0, 640, 480), (29, 36, 582, 410)):
        assert exact(with_rings(drawn("stretch", roi, (192, 192))), codecs)


def test_noise_is_not_taken_for_a_grid() -> None:
    chance = random.Random(1)
    ring = [round(800 + 200 * math.cos(k / 5) + chance.gauss(0, 4)) for k in range(128)]
    contours = grids.Contours([64], ["a"], np.array(ring).reshape(-1, 2), few=True)
    assert grids.Grids().encode(contours) is None


def test_a_record_has_the_same_content_whoever_asks() -> None:
    batch = with_rings(drawn("stretch", (0, 0, 640, 480), (192, 192)))
    found = records.decode(records.encode(batch, knowing()), knowing())
    assert not isinstance(found, Need)
    assert [msgspec.json.encode(one) for one in found] == [msgspec.json.encode(o) for o in batch]


def test_the_uplink_says_contours_shortly_once_it_was_told_and_plainly_when_asked() -> None:
    batch = with_rings(drawn("letterbox", (29, 36, 582, 410), (256, 192), frames=20))
    rows = [(record.seq, pack(record)) for record in batch]
    packer = Packer()

    def sent(*, plain: bool = False) -> int:
        want = Want(key=key_of(batch[0]), wanted=((1, 20),), max_bytes=1 << 20, plain=plain)
        found = packer.backlog(rows, want)
        assert not found.unfit
        return sum(cargo.size for cargo in found.cargos)

    before = sent()
    packer.allow((), CODINGS)
    assert sent() < 0.75 * before
    assert sent(plain=True) == before
    assert sum(cargo.size for cargo in packer.live([batch])) == sent()
    packer.allow((), ())
    assert sent() == before


def test_what_lies_on_no_grid_is_looked_at_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []
    sought = grids._sought

    def counted(points: Any) -> Any:
        looks.append(len(points))
        return sought(points)

    monkeypatch.setattr(grids, "_sought", counted)
    ring = np.array([[0, 0], [7, 1], [8, 9], [1, 22], [40, 41]])
    found = grids.Grids()
    for _ in range(1000):
        assert found.encode(grids.Contours([5], ["a"], ring, few=True)) is None
    assert len(looks) == 22
