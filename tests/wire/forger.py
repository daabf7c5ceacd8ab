"""Bundles that somebody made who knows the wire: each check is right, the content is wrong.

Everything follows from one `random.Random`. What comes out is right now and then, too.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import zstandard

from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import AnyRecord, Mask, Object, RecordClass, Result
from edge_agent.core.wire import arrays, encoding, envelope, flatten, records
from edge_agent.core.wire.armour import arm
from edge_agent.core.wire.columns import Coding
from edge_agent.core.wire.cursor import signed, varint
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import Envelope, short_id
from edge_agent.core.wire.grids import Grids
from tests.wire import made

Coded = tuple[int, bytes]
ODD: list[Any] = [
    True, 1.0, -0.0, 1.5, -1, 0, 2, 99, 1 << 40, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1, "", "1",
    "mm", "px", "raised", "é" * 9, None, [], [1], ["a", "b"], {"a": 1}, b"x", [[["deep"]]],
    [None, 1.5, "x"],
]  # fmt: skip
DOUBLES = [math.nan, math.inf, -math.inf, -0.0, 1e308, 5e-324]


class Table:
    """Columns of values, or of bytes that are written as they are."""

    def __init__(
        self, number: int, rows: int, columns: dict[int, Any], groups: tuple[int, ...]
    ) -> None:
        self.number, self.rows, self.columns, self.groups = number, rows, columns, groups
        self.raw: dict[int, Coded] = {}
        self.twice = False

    def head(self) -> bytes:
        fields = list(self.columns) * (2 if self.twice else 1)
        numbers = (self.number, self.rows, len(self.groups), *self.groups, len(fields))
        codings = [varint(field) + bytes((self.coded(field)[0],)) for field in fields]
        return b"".join(map(varint, numbers)) + b"".join(codings)

    def coded(self, field: int) -> Coded:
        if field not in self.raw:
            self.raw[field] = _coded(self.columns[field])
        return self.raw[field]

    def body(self) -> bytes:
        return b"".join(self.coded(field)[1] for field in self.columns) * (2 if self.twice else 1)


def _coded(values: Sequence[Any]) -> Coded:
    if not values:
        return Coding.INT, b"\x02"
    try:
        return encoding.encode(values)
    except (TypeError, ValueError, OverflowError, Overloaded, msgspec.MsgspecError):
        packed = msgspec.msgpack.encode([0] * len(values))
        return Coding.PACKED, varint(len(packed)) + packed


def tables_of(batch: Sequence[AnyRecord], grids: Grids | None = None) -> list[Table]:
    found = []
    for one in flatten.tables_of(batch, grids):
        columns = {field: list(values) for field, values in one.columns.items()}
        table = Table(one.number, one.rows, columns, one.groups)
        for field, (coding, payload) in one.ready.items():
            table.columns[field] = []
            table.raw[field] = coding, varint(len(payload)) + payload
        if one.rows:
            found.append(table)
    return found


# ── what can be wrong with a body ─────────────────────────────────────────────────────────────


def _spot(tables: list[Table], chance: random.Random) -> tuple[Table, int]:
    table = chance.choice([table for table in tables if table.columns] or tables)
    return table, chance.choice(list(table.columns) or [1])


def odd_value(tables: list[Table], chance: random.Random) -> None:
    table, field = _spot(tables, chance)
    values = list(table.columns.get(field, [0] * table.rows))
    odd = chance.choice(ODD)
    if chance.random() < 0.4:
        values = [odd] * len(values)
    elif values:
        values[chance.randrange(len(values))] = odd
    table.columns[field] = values
    table.raw.pop(field, None)


def off_by_some(tables: list[Table], chance: random.Random) -> None:
    """A count that is not that of the rows which belong to it."""
    table, field = _spot(tables, chance)
    values = list(table.columns.get(field, [0] * table.rows))
    row = chance.randrange(len(values)) if values else 0
    if values and isinstance(values[row], int):
        values[row] += chance.choice([-2, -1, 1, 2, 1000])
        table.columns[field] = values
        table.raw.pop(field, None)


def odd_coding(tables: list[Table], chance: random.Random) -> None:
    table, field = _spot(tables, chance)
    table.raw[field] = chance.choice(CODINGS)(table.rows, chance)
    table.columns.setdefault(field, [])


def many_rows(tables: list[Table], chance: random.Random) -> None:
    """Constants in more rows than anybody has: a few bytes for all of them."""
    table = chance.choice(tables)
    table.rows = chance.choice([100, 4096, 5000, 1 << 14, 1 << 16, (1 << 16) + 1, 1 << 19])
    for field, values in table.columns.items():
        value = values[0] if values else 0
        table.raw[field] = _coded([value] * 3)
        if table.raw[field][0] not in (Coding.INT, Coding.TEXT, Coding.DECIMAL, Coding.NONE):
            table.raw[field] = (Coding.INT, signed(1))


def odd_groups(tables: list[Table], chance: random.Random) -> None:
    table, field = _spot(tables, chance)
    table.groups = chance.choice([(field,), (field, field), (*table.groups, field), (77,), ()])


def no_column(tables: list[Table], chance: random.Random) -> None:
    table, field = _spot(tables, chance)
    table.columns.pop(field, None)


def no_table(tables: list[Table], chance: random.Random) -> None:
    if len(tables) > 1:
        tables.remove(chance.choice(tables))


def unknown(tables: list[Table], chance: random.Random) -> None:
    rows = chance.choice([1, 7, 1 << 12])
    field = chance.choice([0, 40, 60_000])
    table = Table(chance.choice([0, 20, 99, 60_000]), rows, {field: []}, ())
    table.raw[field] = chance.choice(CODINGS)(rows, chance)
    if chance.random() < 0.5:
        tables.insert(chance.randint(0, len(tables)), table)
    else:
        chance.choice(tables).columns.setdefault(field, [])
        chance.choice(tables).raw[field] = (Coding.INT, b"\x02")


def bent_contours(tables: list[Table], chance: random.Random) -> None:
    """The column that holds whole points, with some bytes changed."""
    stepped = [one for one in tables if one.number == 7 and one.raw.get(1, (0, b""))[0] == 128]
    for table in stepped:
        content = table.raw[1][1]
        payload = bytearray(content)[len(varint(len(content) - 2)) :]
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(payload))
            new = chance.choice([b"", b"\x00", b"\x01", b"\x7f", b"\xf0", b"\xff", b"\x80\x01"])
            payload[at : at + chance.choice([0, 1, 1])] = new
        table.raw[1] = 128, varint(len(payload)) + bytes(payload)


def twice(tables: list[Table], chance: random.Random) -> None:
    table = chance.choice(tables)
    if chance.random() < 0.5:
        tables.append(table)
    else:
        table.twice = True


FORGERIES: list[Callable[[list[Table], random.Random], None]] = [
    odd_value, odd_value, off_by_some, odd_coding, odd_coding, odd_coding, many_rows, odd_groups,
    no_column, no_table, unknown, twice, bent_contours, bent_contours,
]  # fmt: skip


# ── columns, byte by byte ─────────────────────────────────────────────────────────────────────


def _packed(values: Any) -> Coded:
    content = msgspec.msgpack.encode(values)
    return Coding.PACKED, varint(len(content)) + content


def _packed_junk(rows: int, chance: random.Random) -> Coded:
    deep: Any = chance.choice(ODD)
    for _ in range(chance.choice([1, 2, 3, 40])):
        deep = [deep]
    odd = chance.choice([deep, {"k": [1]}, b"bytes", math.nan, [math.inf], "t" * 300])
    if chance.random() < 0.2:
        raw = b"\xdd" + chance.choice([rows, 1 << 20]).to_bytes(4, "big") + b"\x91" * 300
        return Coding.PACKED, varint(len(raw)) + raw
    return _packed([odd] * min(rows, 5000))


def _doubles(rows: int, chance: random.Random) -> Coded:
    values = [chance.choice([1.0, 2.5, *DOUBLES]) for _ in range(min(rows, 5000))]
    planes = [struct.pack("<d", value) for value in values]
    return Coding.DOUBLES, b"".join(bytes(p[i] for p in planes) for i in range(8))


def _double(_: int, chance: random.Random) -> Coded:
    return Coding.DOUBLE, struct.pack("<d", chance.choice(DOUBLES))


def _decimal(_: int, chance: random.Random) -> Coded:
    places = chance.choice([-23, -22, 0, 1, 22, 23])
    return Coding.DECIMAL, signed(places) + signed(chance.choice([7, (1 << 53) - 1, 1 << 53]))


def _fixed(rows: int, chance: random.Random) -> Coded:
    return Coding.FIXED, signed(chance.choice([-22, 1, 23])) + _block(rows, chance)


def _decimals(rows: int, chance: random.Random) -> Coded:
    patch = varint(chance.choice([0, rows - 1, rows])) + struct.pack("<d", chance.choice(DOUBLES))
    return Coding.DECIMALS, b"\x20\x02" + _block(rows, chance) + b"\x01" + patch


def _block(rows: int, chance: random.Random) -> bytes:
    """A block of so many integers, in some way or other."""
    return chance.choice(
        [
            b"\x00",
            b"\x20" + signed(chance.choice([1, -1, 1 << 40, -(1 << 63)])),
            b"\x21" + signed(5) + signed(3),
            b"\x04" + b"".join(signed(chance.randint(-2, 2)) for _ in range(min(rows, 5000))),
            b"\x50" + b"\x01" + varint(1) + varint(rows - 1),
            b"\x50" + b"\x02" + varint(1) + varint(rows - 1) + varint(2) + varint(0),
            b"\x08\x38" + varint(1 << 40),
            b"\x0c\x01" + bytes(min(rows, 5000)),
            b"\x03" + varint(rows + 1) + b"\x02",
            b"\x83" + varint(8) + signed(1) + b"\x00" + b"",
            b"\x1c",
        ]
    )


def _ints(rows: int, chance: random.Random) -> Coded:
    return Coding.INTS, _block(rows, chance)


def _texts(rows: int, chance: random.Random) -> Coded:
    some = chance.choice([["a"], ["a", "b"], ["x" * 3000], ["", "é"], ["a"] * 40])
    entries = b"".join(varint(2 * len(one.encode())) + one.encode() for one in some)
    return Coding.TEXTS, varint(len(some)) + entries + _block(rows, chance)


def _text(_: int, chance: random.Random) -> Coded:
    content = chance.choice([b"", b"\xff", b"x" * 65_535, "ü".encode() * 500])
    return Coding.TEXT, varint(2 * len(content) + chance.choice([0, 0, 1])) + content


def _hexes(rows: int, chance: random.Random) -> Coded:
    width = chance.choice([0, 1, 4, 255])
    return Coding.HEXES, bytes((width,)) + bytes(min(width * rows, 20_000))


def _optional(rows: int, chance: random.Random) -> Coded:
    there = arrays.encode([chance.randint(0, 1) for _ in range(min(rows, 5000))] or [1])
    inner = chance.choice([_ints, _texts, _double, _packed_junk, lambda *_: (10, b"\x00")])
    coding, payload = inner(max(1, rows // 2), chance)
    return Coding.OPTIONAL, there + bytes((coding,)) + payload


def _plain(_: int, chance: random.Random) -> Coded:
    return chance.choice(
        [
            (Coding.NONE, b""),
            (Coding.INT, signed(chance.choice([0, 1, -1, (1 << 63) - 1]))),
            (13, b""),
            (127, b"\x00"),
            (128, b"\x03abc"),
            (255, varint(1 << 40)),
            (Coding.INT, b"\x80\x00"),
            (Coding.PACKED, varint(1 << 18)),
        ]
    )


CODINGS = [
    _packed_junk, _doubles, _double, _decimal, _fixed, _decimals, _ints, _ints, _texts, _text,
    _hexes, _optional, _plain,
]  # fmt: skip


# ── envelopes and bundles ─────────────────────────────────────────────────────────────────────


def batches() -> list[list[AnyRecord]]:
    """What is forged: some of everything."""
    found: list[list[AnyRecord]] = [made.clip(1), made.clip(2, objects=3), made.clip(9, objects=1)]
    for some in made.BY_CLASS.values():
        found += [made.numbered([made.example(some, seed) for seed in range(n)]) for n in (1, 5)]
    return [*found, *(outlined(frames) for frames in (1, 2, 12))]


def outlined(frames: int) -> list[AnyRecord]:
    """Results with contours along the pixels of a mask, 7 x 5 eighths each, one ring of nothing."""
    chance = random.Random(frames)
    results: list[AnyRecord] = []
    for _ in range(frames):
        lines = [
            (chance.randint(0, 60), chance.randint(0, 60)) for _ in range(chance.randint(3, 40))
        ]
        ring = tuple(number for x, y in lines for number in (7 * x + 3, 5 * y))
        masks = [Mask(area_px=9, box=(0, 0, 9, 9), rings=rings) for rings in ((ring,), (ring, ()))]
        items = [
            Object(id=n, track=n, head="h", label="l", score=0.5, box=(0.0, 0.0, 9.0, 9.0), mask=m)
            for n, m in enumerate(masks, 1)
        ]
        results.append(Result(node="n", stream="s", objects=tuple(items)))
    return made.numbered(results)


def body(batch: Sequence[AnyRecord], chance: random.Random) -> bytes:
    tables = tables_of(batch, Grids() if chance.random() < 0.7 else None)
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        if tables:
            chance.choice(FORGERIES)(tables, chance)
    heads = b"".join(table.head() for table in tables)
    raw = varint(len(tables)) + heads + b"".join(table.body() for table in tables)
    if chance.random() < 0.05:
        raw = chance.choice([raw + b"\x00", raw[:-1], b"", raw * 2, bytes(300)])
    return raw[: envelope.MAX_RAW_BYTES]


def squeezed(raw: bytes, chance: random.Random) -> tuple[int, bytes, bytes, int]:
    """(codec, ref, body, raw_len): right, or nearly."""
    what = chance.choice(["raw", "raw", "raw", "zstd", "dict", "window", "id", "liar", "short"])
    if what == "raw":
        return 0, b"", raw, len(raw)
    trained = zstandard.ZstdCompressionDict(DICTIONARY_1)
    options: dict[str, Any] = {"window_log": 23} if what == "window" else {}
    parameters = zstandard.ZstdCompressionParameters.from_level(
        3,
        write_checksum=what != "short",
        write_content_size=True,
        write_dict_id=what == "id",
        **options,
    )
    primed = what in ("dict", "id")
    maker = zstandard.ZstdCompressor(
        dict_data=trained if primed else None, compression_params=parameters
    )
    frame = _streamed(maker, raw) if what == "window" else maker.compress(raw)
    length = len(raw) + (chance.choice([-1, 1, 5000]) if what == "liar" else 0)
    return 1 + primed, short_id(DICTIONARY_1) if primed else b"", frame[4:], max(0, length)


def _streamed(maker: zstandard.ZstdCompressor, raw: bytes) -> bytes:
    """With its window in the header."""
    worker = maker.compressobj(size=len(raw))
    return bytes(worker.compress(raw) + worker.flush())


EXTENSIONS = [
    b"\x07\x01x", b"\x02\x00", b"\x07\x05x", b"\x80\x00", b"\x06\x00", b"\x02\x29\x01" + bytes(40),
    b"\x02\x29\x02" + bytes(40), b"\x04\x49\x01" + bytes(72), b"\x04\x00\x07\x00",
    b"\x07\x00\x04\x49\x01" + bytes(72), b"\x02\x01\x02\x02\x01\x02",
]  # fmt: skip


class Head:
    """The fields of an envelope, as bytes or numbers, to be written without a look at them."""

    def __init__(self, whole: Envelope, stream: str) -> None:
        self.version, self.kind, self.flags = 1, int(whole.kind), 0
        self.node, self.stream = b"cart-07", stream.encode()
        self.klass = (None, *RecordClass).index(whole.klass)
        self.epoch, self.first, self.count = 5 << 32, 1, whole.count
        self.ext = b""

    def spoil(self, chance: random.Random) -> None:
        name, value = chance.choice(
            [
                ("count", chance.choice([0, 1, self.count + 1, 4096, 4097])),
                ("first", chance.choice([0, 2, (1 << 40) - self.count, 1 << 40, 1 << 62])),
                ("epoch", chance.choice([0, (1 << 63) - 1, 1 << 63])),
                ("klass", chance.choice([0, 1, 2, 3, 4, 5])),
                ("kind", chance.choice([0, 2, 3, 4, 5, 9])),
                ("flags", 1),
                ("version", 2),
                ("stream", chance.choice([b"-x", b"A", b"\xff", b"s" * 64])),
                ("ext", chance.choice(EXTENSIONS)),
            ]
        )
        setattr(self, name, value)

    def sealed(self, codec: int, ref: bytes, content: bytes, raw_len: int) -> bytes:
        numbers = map(varint, (self.epoch, self.first, self.count, raw_len))
        head = b"EA" + bytes((self.version, self.kind, codec, self.flags))
        names = [varint(len(name)) + name for name in (self.node, self.stream)]
        parts = (head, *names, bytes((self.klass,)), *numbers, ref, varint(len(self.ext)), self.ext)
        whole = b"".join((*parts, varint(len(content)), content))
        return whole + short_id(whole)


def forged(seed: int, stock: Sequence[list[AnyRecord]]) -> bytes:
    """One payload. stock: `batches()`. Each envelope is of a stream of its own."""
    chance = random.Random(seed)
    contents = []
    for place in range(chance.choice([1, 1, 1, 2, 4])):
        batch = chance.choice(stock)
        head = Head(records.encode(batch, made.codecs()), f"s{seed}-{place}")
        if chance.random() < 0.2:
            head.spoil(chance)
        contents.append(head.sealed(*squeezed(body(batch, chance), chance)))
    return b"ea1 cart-07 " + arm(b"".join(contents))


def mutated(seed: int, stock: Sequence[list[AnyRecord]]) -> bytes:
    """One payload of good envelopes, with a few bytes changed behind a check that holds."""
    chance = random.Random(seed)
    batch = chance.choice(stock)
    raw = bytearray(records.raw_of(batch, Grids() if chance.random() < 0.7 else None))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(raw) + 1)
        new = bytes(chance.choice([0, 1, 2, 127, 128, 255, at & 255]) for _ in range(2))
        raw[at : at + chance.choice([0, 1, 1, 2])] = new[: chance.choice([0, 1, 1, 2])]
    head = Head(records.encode(batch, made.codecs()), f"s{seed}")
    if chance.random() < 0.1:
        head.spoil(chance)
    payload = b"ea1 cart-07 " + arm(head.sealed(0, b"", bytes(raw), len(raw)))
    if chance.random() < 0.1:
        bent = bytearray(payload)
        bent[chance.randrange(len(bent))] ^= 1 << chance.randrange(7)
        return bytes(bent)
    return payload
