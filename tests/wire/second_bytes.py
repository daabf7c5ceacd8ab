"""The second decoder, sections 1 to 3 of docs/wire.md: bytes, bundles, envelopes, codecs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
import zstandard

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%,()*+-;.=/?@^_`{|}~"
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
KINDS = ("", "records", "document", "probe", "frames", "model")
DICTIONARY = Path(__file__).resolve().parents[2] / "edge_agent/core/wire/dictionary-1.zdict"
DICTIONARIES = [DICTIONARY.read_bytes()]
CLASSES = ("", "alarm", "event", "result", "telemetry")


class Refused(Exception):
    """The page calls it an error."""


class Wanting(Exception):
    """The page calls it a need."""

    def __init__(self, why: str, *, ends: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.ends = ends  # nothing behind it in the bundle can be read
        self.of: Envelope | None = None  # None: its head can't be read
        self.head = ("", "", 0, 0, 0)  # then node, stream, epoch, a, b
        self.have: list[str] = []

    def need(self, carrier: str) -> dict[str, Any]:
        """Section 8, said by a receiver."""
        one = self.of
        if one is None:
            node, name, epoch, a, b = self.head
            kind = ""
        else:
            node, kind, epoch, a = one.node, KINDS[one.kind], one.epoch, one.first
            name = f"{one.stream}/{one.klass}" if one.kind == 1 else one.stream
            b = max(a, a + one.count - 1)
        if self.why == "dict":
            self.have = [name_of(content).hex() for content in DICTIONARIES]
        return {
            "schema": 1, "node": node or carrier, "kind": kind, "name": name, "epoch": epoch,
            "a": a, "b": b, "why": self.why, "have": self.have,
        }  # fmt: skip


def check(holds: bool, what: str) -> None:
    if not holds:
        raise Refused(what)


def wrapped(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def unzigzag(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


# --- section 1


class Bytes:
    def __init__(self, given: bytes) -> None:
        self.given = given
        self.at = 0

    def take(self, size: int) -> bytes:
        check(0 <= size <= len(self.given) - self.at, "too short")
        self.at += size
        return self.given[self.at - size : self.at]

    def u8(self) -> int:
        return self.take(1)[0]

    def varint(self, most: int = (1 << 64) - 1) -> int:
        value = 0
        for index in range(10):
            byte = self.u8()
            value |= (byte & 127) << (7 * index)
            if byte < 128:
                check(byte != 0 or index == 0, "padded varint")
                check(value <= most, f"{value} above {most}")
                return value
        raise Refused("long varint")

    def signed(self) -> int:
        return unzigzag(self.varint())

    def name(self) -> str:
        return text(self.take(self.varint(63)))

    @property
    def done(self) -> bool:
        return self.at == len(self.given)


def text(given: bytes) -> str:
    try:
        return given.decode()
    except UnicodeDecodeError:
        raise Refused("not UTF-8") from None


def name_of(content: bytes) -> bytes:
    return xxhash.xxh3_64_intdigest(content).to_bytes(8, "big")


# --- section 2


def disarm(given: str) -> bytes:
    check(all(letter in DIGITS for letter in given), "a letter that is no digit")
    out = b""
    for at in range(0, len(given), 5):
        group = given[at : at + 5]
        kept = len(group) - 1
        check(kept > 0, "one digit left over")
        value = 0
        for letter in group.ljust(5, "~"):
            value = value * 85 + DIGITS.index(letter)
        check(value < 1 << 32, "group of 2**32 or more")
        piece = value.to_bytes(4, "big")[:kept]
        check(arm_group(piece) == group, "group with two spellings")
        out += piece
    return out


def arm_group(piece: bytes) -> str:
    value = int.from_bytes(piece.ljust(4, b"\0"), "big")
    letters = ""
    for _ in range(5):
        value, digit = divmod(value, 85)
        letters = DIGITS[digit] + letters
    return letters[: len(piece) + 1]


def open_bundle(payload: bytes) -> tuple[str, list[Envelope | Wanting]]:
    check(len(payload) <= 256_000, "too long")
    try:
        parts = payload.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise Refused("not ASCII") from None
    check(len(parts) == 3 and parts[0] == "ea1", "no bundle")
    check(NAME.fullmatch(parts[1]) is not None, "no carrier")
    given = Bytes(disarm(parts[2]))
    found: list[Envelope | Wanting] = []
    while not given.done:
        check(len(found) < 64, "more than 64 envelopes")
        try:
            found.append(open_envelope(given))
        except Wanting as wanting:
            found.append(wanting)
            if wanting.ends:
                break
    check(bool(found), "no envelope")
    raw = sum(one.raw_len for one in found if isinstance(one, Envelope))
    check(raw <= 16_777_216, "bodies of more than 16 MiB")
    return parts[1], found


# --- section 3


@dataclass
class Envelope:
    kind: int
    codec: int
    node: str
    stream: str
    klass: str
    epoch: int
    first: int
    count: int
    raw_len: int
    ref: bytes
    result: bytes
    body: bytes


def open_envelope(given: Bytes) -> Envelope:
    start = given.at
    check(given.take(2) == b"EA", "no envelope")
    if given.u8() != 1:
        raise Wanting("version", ends=True)
    kind, codec, flags = given.u8(), given.u8(), given.u8()
    node, stream, klass = given.name(), given.name(), given.u8()
    epoch, first = given.varint((1 << 63) - 1), given.varint((1 << 63) - 1)
    count, raw_len = given.varint(4096), given.varint(1 << 20)
    ref = given.take(8) if codec in (2, 3, 4) else b""
    result = given.take(8) if codec in (3, 4) else b""
    ext = Bytes(given.take(given.varint(4096)))
    body = given.take(given.varint(1 << 20))
    whole = given.given[start : given.at]
    check(given.take(8) == name_of(whole), "check does not hold")
    if flags or not 1 <= kind <= 5 or codec > 4 or klass > 4:
        names = [one if NAME.fullmatch(one) else "" for one in (node, stream)]
        newer = Wanting("version")
        newer.head = (names[0], names[1], epoch, first, max(first, first + count - 1))
        raise newer
    extended = extensions(ext)
    essential = any(
        kind % 2 == 0 and (kind not in EXTENSIONS or value[:1] != b"\1") for kind, value in extended
    )
    seal = next((value for kind, value in extended if kind == 2), b"")
    check(NAME.fullmatch(node) is not None, "bad node")
    check(stream == "" or NAME.fullmatch(stream) is not None, "bad stream")
    check((klass != 0) == (kind == 1), "class and kind")
    check(kind != 1 or (count >= 1 and first >= 1), "no seqs")
    check(first + count <= 1 << 40 if kind == 1 else first + count < 1 << 63, "seqs")
    check(codec <= {1: 2, 2: 3, 3: 2}.get(kind, 4), "codec and kind")
    if codec == 0 and seal[:1] in (b"", b"\1"):
        check(len(body) == raw_len + (16 if seal else 0), "length of a raw body")
    found = Envelope(
        kind, codec, node, stream, CLASSES[klass], epoch, first, count, raw_len, ref, result, body
    )
    if essential or seal or kind > 3:
        newer = Wanting("version" if essential or kind > 3 else "key")
        newer.of = found
        raise newer
    return found


EXTENSIONS = {2: 41, 4: 73}


def extensions(ext: Bytes) -> list[tuple[int, bytes]]:
    found = []
    while not ext.done:
        kind = ext.varint()
        found.append((kind, ext.take(ext.varint(4096))))
    kinds = [kind for kind, _ in found]
    check(kinds.count(2) <= 1 and kinds.count(4) <= 1 and 4 not in kinds[:-1], "extensions")
    for kind, value in found:
        if kind in EXTENSIONS and value[:1] in (b"", b"\1"):
            check(len(value) == EXTENSIONS[kind], "length of an extension")
    return found


def unzstd(frame: bytes, raw_len: int, dictionary: Any = None) -> bytes:
    whole = b"\x28\xb5\x2f\xfd" + frame
    try:
        facts = zstandard.get_frame_parameters(whole)
        check(facts.content_size == raw_len and facts.has_checksum, "frame header")
        check(facts.dict_id == 0 and facts.window_size <= 4 << 20, "frame header")
        worker = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << 22)
        content = worker.decompress(whole, max_output_size=raw_len or 1, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Refused(str(error)) from None
    check(len(content) == raw_len, "content size")
    return content


def raw_of(envelope: Envelope, dictionaries: Sequence[bytes] = ()) -> bytes:
    if envelope.codec == 0:
        return envelope.body
    if envelope.codec == 1:
        return unzstd(envelope.body, envelope.raw_len)
    check(envelope.codec == 2, "a codec that needs a base")
    for content in dictionaries:
        if name_of(content) == envelope.ref:
            trained = zstandard.ZstdCompressionDict(content)
            return unzstd(envelope.body, envelope.raw_len, trained)
    raise Wanting("dict")
