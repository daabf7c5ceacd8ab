"""What has to be refused, or answered with a need: columns, records, documents, probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import zstandard

from edge_agent.core.wire.cursor import signed, varint
from edge_agent.core.wire.envelope import short_id
from tools.wire_vectors.bad import BAD_UTF8, bad
from tools.wire_vectors.good_bytes import DOUBLE, SCORE, asked, events, paper, scores
from tools.wire_vectors.hand import (
    EVENT,
    Column,
    Vector,
    block,
    body,
    bundle,
    entry,
    event,
    frame,
    int_,
    kinds,
    numbers_of,
    of_class,
    text,
)


def packed(values: object) -> Column:
    raw = msgspec.msgpack.encode(values)
    return 11, varint(len(raw)) + raw


def of_columns() -> Iterator[Vector]:
    yield bad("coding", events(1, {3: (13, b"")}), name="coding-13")
    yield bad(
        "coding",
        events(1, {3: text("x"), 99: (127, b"")}),
        name="coding-127",
        why="of an unknown field too",
    )
    yield bad(
        "coding",
        events(1, {3: (10, block([1]) + b"\x0a" + block([1]) + b"\x01\x00")}),
        name="coding-10-in-10",
    )
    for inner in (13, 128):
        yield bad(
            "coding",
            events(1, {3: text("x"), 2: (10, block([0]) + bytes((inner,)))}),
            name=f"coding-{inner}-in-10",
            why="also where no row has it",
        )
    yield bad("optional", events(1, {3: text("x"), 2: (10, block([2]) + b"\x01\x00")}))
    yield bad("text", events(1, {3: (4, varint(4) + BAD_UTF8)}), name="text-no-utf-8")
    yield bad("text", events(1, {3: (4, varint(131_074))}), name="text-too-long")
    yield bad(
        "text",
        events(2, {3: (8, varint(2) + entry("a") + varint(4) + BAD_UTF8 + block([0, 0]))}),
        name="text-unused",
    )
    yield bad("texts", events(1, {3: (8, varint(1) + entry("a") + block([1]))}), name="texts-index")
    yield bad(
        "texts", events(1, {3: (8, varint(1) + entry("a") + block([-1]))}), name="texts-negative"
    )
    yield from of_numbers()


def of_numbers() -> Iterator[Vector]:
    yield bad("texts", events(1, {3: (8, varint(0) + block([0]))}), name="texts-none")
    yield bad(
        "texts",
        events(1, {3: (8, varint(2) + entry("a") * 2 + block([0]))}),
        name="texts-more-than-rows",
    )
    for name, column in {
        "places": (2, signed(23) + signed(1)),
        "digits": (2, signed(0) + signed(1 << 53)),
        "fixed": (12, signed(-23) + block([0, 0])),
        "patched-row": (6, block([0, 99]) + block([1, 1]) + b"\x01\x01" + DOUBLE(1.5)),
    }.items():
        yield bad("decimal", scores(2, column), name=f"decimal-{name}")
    yield bad(
        "patch",
        scores(2, (6, block([0, 0]) + block([1, 1]) + b"\x01\x02" + DOUBLE(1.5))),
        name="patch-row",
    )
    yield bad(
        "patch",
        scores(2, (6, block([0, 0]) + block([1, 1]) + b"\x03" + (b"\0" + DOUBLE(1.5)) * 3)),
        name="patch-many",
    )
    yield from of_items()
    yield from of_blocks()
    yield from of_codings_to_come()


def of_items() -> Iterator[Vector]:
    nan, inf = float("nan"), float("inf")
    for name, column in {
        "nan": (3, DOUBLE(nan)),
        "infinity": (3, DOUBLE(-inf)),
        "patch": (6, block([0, 0]) + block([1, 1]) + b"\x01\x00" + DOUBLE(nan)),
        "planes": (
            7,
            b"".join(bytes(b) for b in zip(*(DOUBLE(v) for v in (0.5, inf)), strict=True)),
        ),
        "packed": packed([0.5, nan]),
    }.items():
        yield bad("finite", scores(2, column), name=f"finite-{name}")
    yield bad(
        "finite", events(1, {3: text("x"), 99: (3, DOUBLE(nan))}), name="finite-of-an-unknown-field"
    )
    for name, value in {
        "map": [{"a": 1}],
        "bool": [True],
        "bytes": [b"x"],
        "deep": [[[1]]],
        "count": ["a", "b"],
        "no-array": "a",
        "beyond-64-bits": [1 << 63],
    }.items():
        yield bad("packed", events(1, {3: text("x"), 99: packed(value)}), name=f"packed-{name}")
    rotten = {
        "utf-8": b"\x91\xa1\xff",
        "cut": b"\x92\x01",
        "behind": b"\x91\x01\x01",
        "lying": b"\xdd\xff\xff\xff\xff",
    }
    for name, raw in rotten.items():
        yield bad(
            "packed",
            events(1, {3: text("x"), 99: (11, varint(len(raw)) + raw)}),
            name=f"packed-{name}",
        )
    yield bad(
        "packed", events(1, {3: text("x"), 99: (11, varint((1 << 18) + 1))}), name="packed-long"
    )


def of_codings_to_come() -> Iterator[Vector]:
    yield bad("future", events(1, {3: (200, b"\x01x")}), name="future-of-a-known-field")
    yield bad(
        "future",
        bundle(
            of_class(
                "result",
                1,
                kinds(0),
                (2, 1, {17: int_(1)}),
                (3, 1, {**SCORE, 3: int_(1), 99: (128, b"\0")}, (99,)),
            )
        ),
        name="future-of-a-group",
    )
    yield bad(
        "body-end",
        bundle(event(body(kinds(5), (19, 1, {3: (200, b"\x01x")})) + b"\0")),
        name="body-end-before-future",
    )


def of_blocks() -> Iterator[Vector]:
    for name, made in {
        "packing-5": bytes((5 << 2,)),
        "packing-7": bytes((7 << 2,)),
        "lag-0": b"\x07\x00\x00" + b"\0" * 9,
        "lag-beyond": b"\x07\x0a\x00" + b"\0" * 9,
        "centres-without-lag": b"\x84" + block([0]) + b"\0" * 9,
        "centres-of-lag-7": b"\x87\x07\x00" + block([0, 0]) + b"\0" * 9,
        "planes-0": b"\x0c\x00",
        "planes-9": b"\x0c\x09" + bytes(81),
        "runs-short": b"\x10\x01\x00\x07",
        "runs-long": b"\x10\x01\x00\x09",
        "runs-many": b"\x10\x0a" + b"\0\0" * 10,
        "rice-k-57": b"\x08\x39\x02\xff\x80" + bytes(65),
        "rice-few-codes": b"\x08\x00\x01\xff",
        "rice-many-codes": b"\x08\x00\x02\xff\xc0",
        "rice-17-zeros": b"\x08\x00\x04\x00\x00\x7f\xff",
    }.items():
        yield bad("block", numbers_of(made, 9), name=f"block-{name}")


def of_records() -> Iterator[Vector]:
    yield bad("count", bundle(of_class("event", 2, kinds(5), (19, 1, EVENT))))
    yield bad("count", bundle(event(body((19, 1, EVENT)))), name="count-without-table-1")
    for name, column in {
        "6": int_(6),
        "negative": int_(-1),
        "text": text("5"),
        "null": (0, b""),
    }.items():
        yield bad(
            "kind",
            bundle(of_class("event", 1, (1, 1, {1: column}), (19, 1, EVENT))),
            name=f"kind-{name}",
        )
    yield bad("rows-of-kind", bundle(of_class("event", 2, kinds(5, 5), (19, 1, EVENT))))
    yield bad("rows-of-kind", bundle(event(body(kinds(5)))), name="rows-of-kind-none")
    yield bad("class-of-kind", bundle(event(klass=1)))
    yield bad(
        "table-of-nobody",
        bundle(event(body(kinds(5), (19, 1, EVENT), (14, 1, {1: text("a"), 2: int_(1)})))),
    )
    yield bad(
        "table-of-nobody",
        bundle(event(body(kinds(5), (19, 1, EVENT), (2, 1, {})))),
        name="table-of-another-kind",
    )
    yield bad(
        "missing", bundle(of_class("result", 1, kinds(0), (2, 1, {17: int_(1)}), (3, 1, SCORE)))
    )
    yield from of_types()


def of_types() -> Iterator[Vector]:
    for name, fields in {
        "text-for-integer": {2: text("5")},
        "integer-for-text": {3: int_(5)},
        "null-for-text": {3: (0, b"")},
        "double-for-integer": {2: (2, signed(0) + signed(1))},
        "null-among-texts": {3: (10, block([0]) + b"\x04")},
        "list-for-text": {3: packed([["a"]])},
    }.items():
        yield bad("type", events(1, fields), name=f"type-{name}")
    yield bad("type", scores(1, text("0.5")), name="type-text-for-decimal")
    yield bad(
        "type",
        bundle(of_class("result", 1, kinds(0), (2, 1, {20: int_(1)}))),
        name="type-half-a-spacing",
    )
    yield bad(
        "type",
        bundle(of_class("result", 1, kinds(0), (2, 1, {5: packed([["a", 1]])}))),
        name="type-flags",
    )
    yield from of_parts()
    for name, fields in {"state": {4: text("gone")}, "severity": {5: text("notice")}}.items():
        yield bad(
            "word", bundle(of_class("alarm", 1, kinds(4), (18, 1, fields))), name=f"word-{name}"
        )
    long = {3: text("x" * 65_000), 4: text("y" * 65_000)}
    many = bundle(of_class("event", 40, kinds(*[5] * 40), (19, 40, long)))
    yield bad("size-of-envelope", many, why="40 events of 130 kB: 5 MB out of 130 kB")


def result(*tables: tuple[object, ...], **fields: Column) -> bytes:
    own = {int(name[1:]): column for name, column in fields.items()}
    return bundle(of_class("result", 1, kinds(0), (2, 1, own), *tables))


def of_parts() -> Iterator[Vector]:
    label = (3, 1, {**SCORE, 3: int_(1)})
    yield bad("share", result(label), name="share-too-few")
    yield bad("share", result(label, f17=int_(2)), name="share-too-many")
    both = {17: (5, block([2, -1]))}
    yield bad(
        "share",
        bundle(of_class("result", 2, kinds(0, 0), (2, 2, both), label)),
        name="share-negative",
    )
    box = {n: int_(0) for n in (7, 8, 9, 10, 11)}
    mask = {n: int_(0) for n in range(4, 9)}
    yield bad("mask", result((4, 1, {**box, 2: int_(2)}), (5, 2, mask), f18=int_(1)))
    ringed = (4, 1, {**box, 2: int_(1)}), (5, 1, {**mask, 2: int_(1)}), (6, 1, {1: int_(2)})
    points, numbers = (7, 1, {1: int_(1), 2: int_(2)}), (8, 2, {1: int_(1)})
    yield bad(
        "table-of-nobody", result(*ringed, points, numbers, f18=int_(1)), name="table-8-beside-7"
    )
    yield bad(
        "flag",
        result((4, 1, {**box, 2: int_(1)}), (5, 1, {**mask, 1: int_(2)}), f18=int_(1)),
        name="flag-exact",
    )
    yield bad(
        "flag",
        bundle(of_class("event", 1, kinds(3), (17, 1, {5: int_(2)}))),
        name="flag-synchronised",
    )
    twice = (14, 2, {1: text("late"), 2: (5, block([1, 2]))})
    yield bad("reason", bundle(of_class("telemetry", 1, kinds(1), (13, 1, {7: int_(2)}), twice)))
    yield from of_measures()


def of_measures() -> Iterator[Vector]:
    for name, fields in {
        "without-a-box": {2: int_(1), 3: int_(0)},
        "4": {2: int_(4), 3: int_(0)},
        "negative": {2: int_(-1), 3: int_(0)},
        "far": {2: int_(0), 3: int_(1 << 62)},
    }.items():
        measure = {1: text("m"), 4: int_(1), 7: int_(1)}
        yield bad(
            "anchor", result((11, 1, measure), (12, 1, fields), f19=int_(1)), name=f"anchor-{name}"
        )
    for name, fields in {
        "none": {1: text("m")},
        "places": {8: int_(23), 9: int_(0)},
        "rest": {8: int_(0), 9: int_(1 << 62)},
        "digits": {8: int_(0), 9: int_(1 << 53)},
    }.items():
        yield bad(
            "value", result((11, 1, {1: text("m"), **fields}), f19=int_(1)), name=f"value-{name}"
        )
    text_ = {1: text("h" * 16_000), 2: text("l" * 20_000), 3: int_(1)}
    yield bad("size-of-record", result((3, 40, text_), f17=int_(40)), why="40 labels of 36 kB each")


def of_bundles_of_records() -> Iterator[Vector]:
    many = of_class("event", 4096, kinds(*[5] * 4096), (19, 4096, {3: text("x" * 480)}))
    yield Vector(
        name="size-of-bundle",
        rule="size-of-bundle",
        payloads=[bundle(*[many] * 5)],
        brief=True,
        why="five times 4,096 events of 992 bytes: the fifth is beyond 16 MiB",
    )


def of_papers() -> Iterator[Vector]:
    base, raw = b'{"a":1}', b'{"a":2}'
    named = {"ref": short_id(base), "result": short_id(raw)}
    prefix = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    delta = {"body": frame(raw, prefix), "raw_len": varint(len(raw)), **named}
    yield bad("base", bundle(paper(raw, 3, **delta)), why="it was not here")
    other = bundle(paper(b'{"b":1}'))
    yield bad(
        "base",
        other,
        bundle(paper(raw, 3, **delta)),
        name="base-have",
        why="another one is: `have` says so",
    )
    wrong = bundle(paper(raw, 3, **{**delta, "result": short_id(base)}))
    yield bad("result", bundle(paper(base)), wrong)
    forms = {"list": b"[1]", "nan": b'{"a":NaN}', "cut": b"{", "utf-8": b'{"a":"\xff"}',
             "deep": b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"}  # fmt: skip
    for name, content in forms.items():
        yield bad("document-form", bundle(paper(content)), name=f"document-form-{name}")
    long = b'{"a":"' + b"a" * 262_137 + b'"}'
    yield bad("document-form", bundle(paper(long, 1)), name="document-form-262145-bytes")
    yield bad("document-of-another", bundle(paper(raw, node=b"cart-09")))
    yield bad("document-without-name", bundle(paper(raw, stream=b"")))


def of_probes() -> Iterator[Vector]:
    log = {"node": "cart-07", "stream": "s", "class": "event", "epoch": 1, "floor": 1, "next": 3}
    good: Mapping[str, object] = {"schema": 1, "nonce": "n", "logs": [log]}
    changes: dict[str, Mapping[str, object]] = {
        "schema": {"schema": 2},
        "nonce-empty": {"nonce": ""},
        "nonce-letters": {"nonce": "a b"},
        "logs-65": {"logs": [log] * 65},
        "more": {"more": 1},
        "class": {"logs": [{**log, "class": "events"}]},
        "epoch": {"logs": [{**log, "epoch": -1}]},
        "stream": {"logs": [{**log, "stream": "S"}]},
        "voids-65": {"logs": [{**log, "void": [[1, 1, "x"]] * 65}]},
        "why": {"logs": [{**log, "void": [[1, 1, "X"]]}]},
        "why-line-end": {"logs": [{**log, "void": [[1, 1, "x\n"]]}]},
    }
    for name, change in changes.items():
        yield bad(
            "probe", bundle(asked(msgspec.json.encode({**good, **change}))), name=f"probe-{name}"
        )
    yield bad("probe", bundle(asked(b'{"schema":1,"nonce":"n"')), name="probe-no-json")
    strange = b'{"schema":1,"nonce":"n","later":"\xff"}'
    yield bad("probe", bundle(asked(strange)), name="probe-no-utf-8", why="in an unknown key, too")
    numbers: dict[str, Mapping[str, object]] = {
        "node": {"node": "cart-08"},
        "floor-0": {"floor": 0},
        "floor-above-next": {"floor": 4},
        "next-beyond-2e40": {"next": (1 << 40) + 1},
        "void-0": {"void": [[0, 1, "x"]]},
        "void-at-next": {"void": [[2, 3, "x"]]},
        "void-turned": {"void": [[2, 1, "x"]]},
    }
    for name, change in numbers.items():
        raw = msgspec.json.encode({**good, "logs": [{**log, **change}]})
        yield bad("probe-log", bundle(asked(raw)), name=f"probe-log-{name}")


FILES = {
    "errors-columns": of_columns,
    "errors-records": of_records,
    "errors-sums": of_bundles_of_records,
    "errors-documents": of_papers,
    "errors-probes": of_probes,
}
