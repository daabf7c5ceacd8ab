"""What has to be refused, or answered with a need: bundles, envelopes, frames, heads of tables."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import zstandard

from edge_agent.core.wire.cursor import signed, varint
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import short_id
from tools.wire_vectors.good_bytes import DOUBLE, SCORE, asked, paper
from tools.wire_vectors.hand import (
    EVENT,
    Forged,
    Vector,
    block,
    body,
    bundle,
    entry,
    event,
    frame,
    head,
    int_,
    kinds,
    of_class,
)

RAW = body(kinds(5), (19, 1, EVENT))
BAD_UTF8 = b"\xc3\x28"


def bad(rule: str, *payloads: bytes, why: str = "", name: str = "") -> Vector:
    return Vector(name=name or rule, why=why, payloads=list(payloads), rule=rule)


def of_bundles() -> Iterator[Vector]:
    good = bundle(event())
    yield bad("bundle-length", b"ea1 cart-07 " + b"0" * 255_989)
    heads = {
        "other": good.replace(b"ea1", b"ea2"),
        "upper": good.replace(b"cart", b"Cart"),
        "none": good[4:],
        "dash": good.replace(b" cart-07", b" -cart"),
        "empty": b"",
        "two-spaces": good.replace(b"ea1 ", b"ea1  "),
        "long": good.replace(b"cart-07", b"a" * 64),
        "line-end": good.replace(b"cart-07", b"cart-07\n"),
    }
    for name, payload in heads.items():
        yield bad("bundle-head", payload, name=f"bundle-head-{name}")
    yield bad("armour-digit", good[:-1] + b"&")
    yield bad(
        "armour-digit", good + b"\n", name="armour-digit-line-end", why="a line end is no digit"
    )
    yield bad("armour-digit", good + " ä".encode(), name="armour-digit-no-ascii")
    yield bad("armour-left-over", good + b"0" * ((1 - len(good[12:])) % 5))
    yield bad("armour-group", good[:12] + b"~~~~~" + good[17:])
    yield bad("armour-spelling", b"ea1 a 009C6{|", why="00 01 02 03 ff is 009C6{{")
    yield bad("bundle-empty", b"ea1 cart-07 ")
    yield bad("bundle-many", bundle(*[event(first=varint(n)) for n in range(1, 66)]))


def of_envelopes() -> Iterator[Vector]:
    yield bad("magic", bundle(event(mark=b"EB")))
    yield bad(
        "magic", bundle(event() + b"\0"), name="magic-behind", why="one byte behind the last one"
    )
    yield bad("version", bundle(event(version=2)), why="the carrier stands for the node")
    whole = event()
    for size in (3, 9, 30, len(whole) - 1):
        yield bad("short", bundle(whole[:size]), name=f"short-{size}")
    yield bad(
        "short",
        bundle(event(body_len=varint(1 << 20))),
        name="short-body",
        why="a length beyond the bytes",
    )
    yield bad("varint", bundle(event(first=b"\x81\x00")), name="varint-padded")
    yield bad("varint", bundle(event(first=b"\xff" * 10 + b"\x01")), name="varint-long")
    yield bad("varint", bundle(event(epoch=b"\xff" * 9 + b"\x02")), name="varint-beyond-64-bits")
    beyond: dict[str, dict[str, Any]] = {
        "name": {"node": b"a" * 64},
        "epoch": {"epoch": varint(1 << 63)},
        "first": {"first": varint(1 << 63)},
        "count": {"count": varint(4097)},
        "raw-len": {"raw_len": varint((1 << 20) + 1)},
        "ext-len": {"ext_len": varint(4097)},
        "body-len": {"body_len": varint((1 << 20) + 1)},
    }
    for name, fields in beyond.items():
        yield bad("head-bound", bundle(event(**fields)), name=f"head-bound-{name}")
    yield bad("head-text", bundle(event(node=BAD_UTF8)))
    yield bad("check", bundle(event(check=bytes(8))))
    yield bad(
        "check",
        bundle(event(), event(check=bytes(8))),
        name="check-of-the-second",
        why="refuses the first too",
    )
    yield bad("check", bundle(event(kind=9, check=bytes(8))), name="check-before-need")
    unknown: dict[str, dict[str, Any]] = {
        "kind": {"kind": 6}, "codec": {"codec": 5}, "flags": {"flags": 1}, "class": {"klass": 5},
    }  # fmt: skip
    for name, fields in unknown.items():
        yield bad("unknown", bundle(event(**fields)), name=f"unknown-{name}")
    yield bad(
        "unknown",
        bundle(event(kind=6, node=b"Cart 7", stream=b"../x")),
        name="unknown-without-names",
        why="what is no name is not repeated",
    )
    yield from of_rules()


def of_rules() -> Iterator[Vector]:
    yield bad("ext-form", bundle(event(ext=b"\x07\x05ab")))
    yield bad(
        "ext-form", bundle(event(ext=b"\x08")), name="ext-form-cut", why="before the need of type 8"
    )
    codecs: dict[str, dict[str, Any]] = {
        "records-3": {"codec": 3, "ref": bytes(8), "result": bytes(8)},
        "records-4": {"codec": 4, "ref": bytes(8), "result": bytes(8)},
    }
    for name, fields in codecs.items():
        yield bad("codec-of-kind", bundle(event(**fields)), name=f"codec-of-{name}")
    yield bad(
        "codec-of-kind",
        bundle(paper(b"{}", 4, ref=bytes(8), result=bytes(8))),
        name="codec-of-document-4",
    )
    yield bad(
        "codec-of-kind",
        bundle(asked(b"{}", codec=3, ref=bytes(8), result=bytes(8))),
        name="codec-of-probe-3",
    )
    for node in (b"", b"Cart", b"-a", b"a.b", b"a\n"):
        yield bad("name", bundle(event(node=node)), name=f"name-of-node-{node.hex() or 'empty'}")
    yield bad("name", bundle(event(stream=b"A/b")), name="name-of-stream")
    yield bad("class", bundle(event(klass=0)))
    yield bad("class", bundle(paper(b"{}", klass=1)), name="class-of-a-document")
    yield bad("seqs", bundle(event(count=b"\0")), name="seqs-none")
    yield bad("seqs", bundle(event(first=b"\0")), name="seqs-from-0")
    yield bad("seqs", bundle(event(first=varint(1 << 40))), name="seqs-2e40")
    yield bad(
        "seqs", bundle(event(first=varint((1 << 40) - 1), count=varint(2))), name="seqs-to-2e40"
    )
    yield bad(
        "seqs",
        bundle(paper(b"{}", first=varint((1 << 63) - 1), count=b"\1")),
        name="seqs-of-a-document",
    )
    yield bad("raw-length", bundle(event(raw_len=varint(len(RAW) + 1))))
    yield bad("ext-needed", bundle(event(ext=b"\x08\x00")))
    for kind in (4, 5):
        yield bad("reserved", bundle(event(kind=kind, klass=0)), name=f"reserved-{kind}")


def of_frames() -> Iterator[Vector]:
    def of(content: bytes, raw_len: int = len(RAW), **other: object) -> bytes:
        return bundle(Forged(codec=1, body=content, raw_len=varint(raw_len), **other).bytes())  # type: ignore[arg-type]

    whole = frame(RAW)
    yield bad("frame", of(b""), name="frame-empty")
    yield bad("frame", of(b"\x28\xb5\x2f\xfd" + whole), name="frame-with-magic")
    yield bad("frame", of(whole + b"\0"), name="frame-and-more")
    yield bad("frame", of(whole + whole), name="frame-twice")
    yield bad("frame", of(whole[:-1]), name="frame-cut")
    yield bad("frame", of(whole[:-1] + bytes((whole[-1] ^ 1,))), name="frame-checksum-wrong")
    yield bad("frame-size", of(whole, len(RAW) + 1), name="frame-size-other")
    yield bad("frame-size", of(frame(RAW, write_content_size=False)), name="frame-size-none")
    bomb = frame(bytes(64 << 20))
    yield bad(
        "frame-size",
        of(bomb, 1 << 20),
        name="frame-size-64-MiB",
        why="refused before memory is taken",
    )
    yield bad("frame-checksum", of(frame(RAW, write_checksum=False)))
    window = bytes((0x84, 0x68)) + struct.pack("<I", len(RAW)) + whole[2:]
    yield bad("frame-window", of(window), why="8 MiB, said in the header")
    trained = zstandard.ZstdCompressionDict(DICTIONARY_1)
    named = frame(RAW, trained, write_dict_id=True)
    yield bad(
        "frame-dictionary",
        bundle(
            Forged(
                codec=2, ref=short_id(DICTIONARY_1), body=named, raw_len=varint(len(RAW))
            ).bytes()
        ),
    )
    yield bad(
        "dict",
        bundle(
            Forged(
                codec=2,
                ref=bytes(range(8)),
                body=whole,
                raw_len=varint(len(RAW)),
                first=varint(3),
                count=varint(2),
            ).bytes()
        ),
    )
    yield from of_headers()


def of_headers() -> Iterator[Vector]:
    yield bad(
        "dict",
        bundle(asked(RAW, codec=2, ref=bytes(8), body=b"", raw_len=b"\0")),
        name="dict-of-a-probe",
    )
    yield bad(
        "dict",
        bundle(Forged(codec=2, ref=bytes(8), body=b"rubbish", raw_len=b"\7").bytes()),
        name="dict-before-frame",
        why="the frame is not looked at",
    )


def of_tables() -> Iterator[Vector]:
    def of(raw: bytes, **other: object) -> bytes:
        return bundle(event(raw, **other))

    yield bad("body-short", of(b""), name="body-empty")
    yield bad("body-short", of(RAW[:-1]), name="body-cut")
    yield bad(
        "body-short", of(b"\x01" + b"\x13\x01\x00\x01\x03\x08" + b"\x7f"), name="body-short-texts"
    )
    yield bad("body-end", of(RAW + b"\0"))
    yield bad("heads", of(varint(65) + head(99, 1, []) * 65), name="heads-65-tables")
    yield bad("heads", of(body(kinds(5), (19, 1, EVENT), (19, 1, EVENT))), name="heads-table-twice")
    yield bad("heads", of(body(kinds(5), (19, 1, EVENT), (99, 0, {}))), name="heads-no-rows")
    yield bad(
        "heads",
        of(body(kinds(5), (19, 1, EVENT), (99, 1, {1: int_(0)}, (1,) * 5))),
        name="heads-5-groups",
    )
    yield bad(
        "heads",
        of(body(kinds(5), (19, 1, EVENT), (99, 1, {n: int_(0) for n in range(65)}))),
        name="heads-65-columns",
    )
    twice = b"\x02" + head(1, 1, [(1, 1)]) + head(19, 1, [(3, 4), (3, 4)])
    yield bad("heads", of(twice + signed(5) + entry("a") + entry("b")), name="heads-field-twice")
    yield bad(
        "heads",
        of(body(kinds(5), (19, 1, EVENT), (99, 1, {1: int_(0)}, (2,)))),
        name="heads-group-is-no-column",
    )
    yield bad("heads", of(body(kinds(5), (19, 1, EVENT), (65537, 1, {}))), name="heads-table-65537")
    yield bad("rows", bundle(of_class("result", 1, kinds(0), (2, 65537, {}))), name="rows-65537")
    yield bad(
        "rows", of(body(kinds(5), (19, 1, EVENT), (99, (1 << 19) + 1, {}))), name="rows-524289"
    )
    wide = dict.fromkeys(range(1, 5), (0, b""))
    yield bad("cells", of(body(kinds(5), (19, 1, EVENT), (99, 1 << 18, {**wide, 5: int_(0)}))))
    yield from of_sums()


def of_sums() -> Iterator[Vector]:
    yield bad(
        "values",
        bundle(
            of_class(
                "result",
                1,
                kinds(0),
                (2, 1, {18: int_(16384)}),
                (4, 16384, {n: int_(0) for n in (7, 8, 9, 10, 11)}),
            )
        ),
        why="16,384 objects of 16, and a result of 32",
    )
    yield from of_groups()


def of_groups() -> Iterator[Vector]:
    for name, table in {
        "1": (1, 2, {1: (5, block([5, 5]))}, (1,)),
        "19": (19, 2, {3: (8, varint(2) + entry("a") + entry("b") + block([0, 1]))}, (3,)),
    }.items():
        others = [(19, 2, EVENT)] if name == "1" else [kinds(5, 5)]
        tables = [table, *others] if name == "1" else [*others, table]
        yield bad(
            "group-table", bundle(of_class("event", 2, *tables)), name=f"group-in-table-{name}"
        )
    grouped = {1: (8, varint(2) + entry("a") + entry("b") + block([1, 0])), 2: int_(0)}
    yield bad(
        "group-table",
        bundle(of_class("telemetry", 2, kinds(1, 1), (13, 2, {3: grouped[1]}, (3,)))),
        name="group-in-table-13",
    )
    yield bad(
        "group-table",
        bundle(of_class("result", 2, kinds(0, 0), (2, 2, {1: grouped[1]}, (1,)))),
        name="group-in-table-2",
    )
    for name, column in {
        "double": (12, signed(1) + block([1, 2, 1])),
        "zeros": (7, b"".join(bytes(b) for b in zip(*map(DOUBLE, (0.0, -0.0, 0.0)), strict=True))),
        "lists": (11, b"\x07\x93\x91\x01\x91\x01\x91\x02"),
    }.items():
        labels = (3, 3, {**SCORE, 3: int_(1), 9: column}, (9,))
        yield bad(
            "group-type",
            bundle(of_class("result", 1, kinds(0), (2, 1, {17: int_(3)}), labels)),
            name=f"group-of-{name}",
        )


FILES = {
    "errors-bundles": of_bundles,
    "errors-envelopes": of_envelopes,
    "errors-frames": of_frames,
    "errors-tables": of_tables,
}
