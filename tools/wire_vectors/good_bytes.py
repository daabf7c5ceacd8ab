"""What has to be read, by hand: every coding, block, codec, kind and field."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator
from typing import Any

import msgspec
import zstandard

from edge_agent.core import probe
from edge_agent.core.frames import (
    RecordClass,
)
from edge_agent.core.wire import documents
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.cursor import signed, varint
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from tools.wire_vectors.good import clip, one
from tools.wire_vectors.hand import (
    EVENT,
    NODE,
    STREAM,
    Forged,
    Vector,
    block,
    bundle,
    encoded,
    entry,
    event,
    frame,
    int_,
    kinds,
    numbers_of,
    of_class,
    text,
)

DOUBLE = struct.Struct("<d").pack


# ── every coding, by hand ─────────────────────────────────────────────────────────────────────

SCORE = {1: text("h"), 2: text("l")}


def scores(count: int, column: tuple[int, bytes]) -> bytes:
    """A result with so many labels, whose scores are this column."""
    result = {17: int_(count)}
    return bundle(of_class("result", 1, kinds(0), (2, 1, result), (3, count, {**SCORE, 3: column})))


def events(count: int, fields: dict[int, tuple[int, bytes]]) -> bytes:
    return bundle(of_class("event", count, kinds(*[5] * count), (19, count, fields)))


def codings() -> Iterator[Vector]:
    clock = {2: int_(-3), 3: (0, b""), 4: (0, b""), 5: int_(1)}
    yield one(
        "0-none", "null in every row", bundle(of_class("event", 2, kinds(3, 3), (17, 2, clock)))
    )
    yield one(
        "1-int", "one integer for all rows, here in a field of decimals too", scores(3, int_(2))
    )
    for name, places, digits in (("", 4, 9134), ("-large", -3, 12), ("-far", 22, (1 << 53) - 1)):
        yield one(
            f"2-decimal{name}",
            f"{digits} with {places} places",
            scores(2, (2, signed(places) + signed(digits))),
        )
    yield one("3-double", "one double for all rows", scores(2, (3, DOUBLE(0.1 + 0.2))))
    hexes = (4, varint(9) + bytes.fromhex("00ffab1c"))
    yield one(
        "4-text",
        "text, and hex digits as their bytes (an odd entry)",
        events(2, {1: hexes, 3: text("ä")}),
    )
    yield one("5-ints", "a block", events(3, {2: (5, block([5, -1, 4])), 3: text("e")}))
    patched = block([1, 0, 2, 0]) + block([5, 0, -7, 0]) + varint(2)
    patched += varint(1) + DOUBLE(math.pi) + varint(1) + DOUBLE(-0.0)
    yield one("6-decimals", "of different places, rows 1 and 3 patched", scores(4, (6, patched)))
    planes = b"".join(bytes(b) for b in zip(*(DOUBLE(v) for v in (0.5, -0.0, 1e-300)), strict=True))
    yield one("7-doubles", "planes of bytes", scores(3, (7, planes)))
    texts = varint(3) + entry("b") + entry("unused") + entry("b") + block([2, 0, 0])
    yield one("8-texts", "an entry twice, an entry unused", events(3, {3: (8, texts)}))
    yield from many_values()


def many_values() -> Iterator[Vector]:
    yield one(
        "9-hexes",
        "w = 2, and w = 0",
        events(2, {1: (9, b"\x02\x00\xff\xab\xcd"), 3: (9, b"\x00"), 4: text("x")}),
    )
    optional = block([1, 0, 1]) + b"\x05" + block([7, -7])
    yield one(
        "10-optional",
        "null among integers, none at all, and none that is null",
        bundle(
            of_class(
                "event",
                3,
                kinds(3, 3, 3),
                (
                    17,
                    3,
                    {
                        2: (10, block([1, 1, 1]) + b"\x01" + signed(9)),
                        3: (10, optional),
                        4: (10, block([0, 0, 0]) + b"\x05"),
                    },
                ),
            )
        ),
    )
    packed = msgspec.msgpack.encode([0.5, 3, -0.25])
    yield one("11-packed", "MessagePack", scores(3, (11, varint(len(packed)) + packed)))
    yield one("12-fixed", "all with two places", scores(3, (12, signed(2) + block([50, -1, 7]))))
    yield from to_come()
    yield from groups()


def to_come() -> Iterator[Vector]:
    later = (200, b"\x03???")
    yield one(
        "unknown-fields-and-tables",
        "read past, in codings of today and of tomorrow",
        bundle(
            of_class(
                "event",
                1,
                kinds(5),
                (19, 1, {**EVENT, 77: later, 78: int_(1), 65535: text("x")}),
                (99, 3, {1: later, 2: (5, block([1, 2, 3]))}, (1, 1)),
            )
        ),
    )


def groups() -> Iterator[Vector]:
    """Three labels as on the page."""
    texts = varint(2) + entry("b") + entry("a") + block([0, 1, 0])
    column = (12, signed(1) + block([1, 3, 2]))
    by_label = (3, 3, {1: text("h"), 2: (8, texts), 3: column}, (2,))
    yield one(
        "groups",
        "the example of section 4: b 0.1, a 0.2, b 0.3",
        bundle(of_class("result", 1, kinds(0), (2, 1, {17: int_(3)}), by_label)),
    )
    null = (10, block([1, 0, 1]) + b"\x05" + block([4, 4]))
    by_other = (3, 3, {1: text("h"), 2: (8, texts), 3: column, 99: null}, (99, 2, 99))
    yield one(
        "groups-of-an-unknown-field",
        "null is a value of a group; a group may stand twice",
        bundle(of_class("result", 1, kinds(0), (2, 1, {17: int_(3)}), by_other)),
    )
    boxes = {n: (12, signed(0) + block([n, 2 * n, 3 * n, 4 * n])) for n in (7, 8, 9, 10, 11)}
    objects = (
        4,
        4,
        {1: int_(0), 3: (5, block([1, 1, 0, 2])), 4: (5, block([7, 8, 7, 8])), **boxes},
        (4,),
    )
    points = (10, 4, {n: (12, signed(1) + block([n, 2 * n, 3 * n, 4 * n])) for n in (1, 2, 3)})
    yield one(
        "groups-with-children",
        "keypoints follow the stored order of their objects; ids do not",
        bundle(
            of_class("result", 2, kinds(0, 0), (2, 2, {18: (5, block([1, 3]))}), objects, points)
        ),
    )


# ── every block ───────────────────────────────────────────────────────────────────────────────


def blocks() -> Iterator[Vector]:
    chance = random.Random(3)
    wave = [round(500 + 200 * math.sin(i / 4) + chance.gauss(0, 5)) for i in range(40)]
    names = ("plain", "delta", "delta2", "lag")
    for transform, name in enumerate(names):
        settings: dict[str, Any] = {"start": 480, "slope": 3, "lag": 10}
        for how, packing in ((1, "varints"), (2, "rice"), (3, "planes"), (4, "runs")):
            made = block(wave, transform, how, **settings, k=4, width=2)
            yield one(
                f"{name}-{packing}",
                f"transform {transform}, packing {how}, zigzag",
                numbers_of(made, len(wave)),
            )
    straight: dict[str, tuple[list[int], dict[str, Any]]] = {
        "plain": ([7] * 5, {"offset": 7}),
        "delta": ([100, 133, 166, 199], {"start": 67, "offset": 33}),
        "delta2": ([1, 3, 6, 10, 15], {"start": 0, "slope": 0, "offset": 1}),
        "lag": ([5, 5, 9, 9, 13, 13], {"start": 5, "lag": 2, "centres": ()}),
    }
    for transform, name in enumerate(names[:3]):
        numbers, simple = straight[name]
        yield one(
            f"{name}-constant",
            "only an offset is left",
            numbers_of(block(numbers, transform, 0, **simple), len(numbers)),
        )
    yield one(
        "lag-constant",
        "the same pair again and again",
        numbers_of(block([0, 0] * 4, 3, 0, lag=2), 8),
    )
    yield one(
        "unsigned",
        "from the smallest upwards",
        numbers_of(block(wave, 0, 2, offset=min(wave), unsigned=True, k=6), len(wave)),
    )
    yield from odd_blocks()


def odd_blocks() -> Iterator[Vector]:
    shifted = [n + 1000 * (i // 8) for i, n in enumerate([3, 1, 4, 1, 5, 9, 2, 6] * 4 + [3, 1])]
    yield one(
        "centres",
        "each period of 8 moved by its own number, the last one short",
        numbers_of(
            block(shifted, 3, 1, lag=8, start=3, offset=2, centres=[1, 1000, 1000, 1000, 1000]),
            len(shifted),
        ),
    )
    far = (1 << 63) - 1
    yield one(
        "far",
        "64 bits, and sums that go around",
        numbers_of(block([far, -far - 1, 0, far], 1, 1, start=-far - 1), 4),
    )
    yield one(
        "rice-escape",
        "a unary code of 16: an excess follows, once as far as it goes",
        numbers_of(block([0, 3, 1 << 40, -(1 << 63), 2, -1], 0, 2, k=0), 6),
    )
    yield one("rice-wide", "k = 56", numbers_of(block([1 << 60, 5, -(1 << 61)], 0, 2, k=56), 3))
    yield one("planes-wide", "w = 8", numbers_of(block([1 << 62, -5, 7], 0, 3, width=8), 3))
    yield one(
        "one-number",
        "a lag as long as the column",
        numbers_of(block([-9], 3, 1, lag=1, start=4), 1),
    )


# ── envelopes, documents, probes ──────────────────────────────────────────────────────────────


def bundles() -> Iterator[Vector]:
    good = event()
    yield one(
        "two-envelopes",
        "in their order, of two logs",
        bundle(good, event(first=varint(7), stream=b"")),
    )
    yield one(
        "carried", "the carrier is another node than the origin", bundle(good, carrier="cart-08")
    )
    yield one(
        "full", "64 envelopes", bundle(*[event(first=varint(n)) for n in range(1, 65)]), brief=True
    )
    odd = varint(7) + varint(3) + b"abc" + varint(301) + varint(0)
    yield one("odd-extensions", "types 7 and 301: skipped", bundle(event(ext=odd)))
    yield one("largest-seq", "2^40 - 1", bundle(event(first=varint((1 << 40) - 1))))
    yield one("largest-epoch", "2^63 - 1", bundle(event(epoch=varint((1 << 63) - 1))))
    whole = encoded(clip(2), 1)
    yield one(
        "good-beside-bad", "a bad body costs its own envelope", bundle(good, event(b"\xff"), whole)
    )
    yield one(
        "good-before-newer",
        "what stands behind another version can't be read",
        bundle(good, event(version=2), good),
    )


def papers() -> Iterator[Vector]:
    sender, receiver = documents.Sender(NODE, "status", 5 << 32), documents.Receiver()
    codecs, lines = Codecs(), []
    contents = [
        {
            "fps": [30, n, 30],
            "model": "us-chamber 1.0.0",
            "n": n,
            "state": "ok, all streams live and well for so long" * 3,
        }
        for n in range(4)
    ]
    for content in contents:
        sent = sender.encode(documents.canonical(content), codecs)
        lines.append(bundle(envelopes.encode(sent)))
        receiver.decode(sent, codecs)
        sender.acknowledge(receiver.ids)
    yield one("chain", "a key, then changes against the newest", *lines)
    yield one(
        "late",
        "an older one comes after a newer: kept as a base",
        lines[0],
        lines[1],
        lines[0],
        lines[2],
    )
    raw = documents.canonical({"a": "€", "b": [1, 2.5, None, True]})
    for codec, name in ((0, "raw"), (1, "zstd"), (2, "dictionary")):
        yield one(f"key-{name}", f"codec {codec}", bundle(paper(raw, codec)))


def paper(raw: bytes, codec: int = 0, **other: object) -> bytes:
    trained = zstandard.ZstdCompressionDict(DICTIONARY_1) if codec == 2 else None
    content = frame(raw, trained) if codec in (1, 2) else raw
    fields = {
        "kind": 2,
        "klass": 0,
        "stream": b"status",
        "codec": codec,
        "body": content,
        "count": b"\1",
        "raw_len": varint(len(raw)),
        "ref": envelopes.short_id(DICTIONARY_1) if codec == 2 else b"",
        **other,
    }
    return Forged(**fields).bytes()  # type: ignore[arg-type]


def asked(raw: bytes, **other: object) -> bytes:
    """A probe of any body."""
    fields = {"kind": 3, "klass": 0, "stream": b"", "epoch": b"\0", "first": b"\0", "count": b"\0"}
    return Forged(**{**fields, "body": raw, **other}).bytes()  # type: ignore[arg-type]


def probes() -> Iterator[Vector]:
    offers = tuple(
        probe.Offer(
            node=NODE,
            stream=stream,
            klass=klass,
            epoch=5 << 32,
            floor=floor,
            next=last,
            closed=closed,
            void=void,
        )
        for stream, klass, floor, last, closed, void in (
            (STREAM, RecordClass.RESULT, 4, 9, False, ((6, 6, "evicted"), (7, 8, "corrupt"))),
            ("", RecordClass.EVENT, 1, 1, True, ()),
            (STREAM, RecordClass.ALARM, 1 << 40, 1 << 40, False, ((1, 2, "lost-at-receiver"),)),
        )
    )
    whole = probe.Probe(nonce="6f1d0c9a2b7e4d35", logs=offers, more=True)
    yield one(
        "probe",
        "three logs, voids, more to follow",
        bundle(envelopes.encode(probe.encode(NODE, whole, Codecs()))),
    )
    yield one(
        "probe-without-logs",
        "a question all the same; unknown keys are ignored",
        bundle(asked(b'{"schema":1,"nonce":"n-_1","later":{"a":[1]}}')),
    )
    raw = b'{"schema":1,"nonce":"n","logs":[],"more":false}'
    trained = zstandard.ZstdCompressionDict(DICTIONARY_1)
    primed = asked(
        raw,
        codec=2,
        ref=envelopes.short_id(DICTIONARY_1),
        body=frame(raw, trained),
        raw_len=varint(len(raw)),
    )
    yield one("probe-with-dictionary", "codec 2", bundle(primed))
    yield one(
        "probe-beside-records",
        "one bundle, two kinds",
        bundle(event(), asked(b'{"schema":1,"nonce":"n"}')),
    )


def fields() -> Iterator[Vector]:
    """By hand: each field of a result, a measure and a tally, none left to its default."""
    texts = {n: text(f"t{n}") for n in (1, 2, 3, 4, 6, 22, 23, 24, 25, 35)}
    numbers = {n: int_(n) for n in (8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 21, 26, 27, 28, 29, 30)}
    later = {n: int_(1000 * n) for n in (31, 32, 33, 34)}
    result = {**texts, **numbers, **later, 5: text("replay,degraded"), 7: int_(1), 19: int_(1)}
    measure = {
        1: text("m"),
        2: text("mm"),
        3: text("by hand"),
        4: int_(2),
        5: int_(9),
        6: (2, signed(1) + signed(5)),
        7: int_(3),
        8: int_(30),
        9: int_(1 << 62),
    }
    points = {1: (12, signed(1) + block([15, 25])), 2: int_(9), 3: int_(0)}
    yield one(
        "every-field-of-a-result",
        "value there: places and rest mean nothing; number there: nor do anchors",
        bundle(of_class("result", 1, kinds(0), (2, 1, result), (11, 1, measure), (12, 2, points))),
    )
    lagged = {
        28: (10, block([1, 0]) + b"\x01" + signed(7)),
        29: (5, block([100, 200])),
        36: (10, block([0, 1]) + b"\x01" + signed(30)),
    }
    yield one(
        "pts-and-lag",
        "pts_us of one record as it is, of the other 30 before it was captured",
        bundle(of_class("result", 2, kinds(0, 0), (2, 2, lagged))),
    )
    tally = {
        1: text("b"),
        2: int_(2),
        3: text("frozen"),
        4: int_(4),
        5: int_(5),
        6: int_(6),
        7: int_(0),
    }
    yield one(
        "every-field-of-a-tally",
        "and no reasons",
        bundle(of_class("telemetry", 1, kinds(1), (13, 1, tally))),
    )


FILES = {
    "fields": fields,
    "codings": codings,
    "blocks": blocks,
    "bundles": bundles,
    "documents": papers,
    "probes": probes,
}
