"""One column of values to bytes and back: integers, decimals, text, and `None` among them.

The coding byte says how; a value comes back exactly, whatever it was: what fits no better form is
kept as eight bytes of a double or as MessagePack, never rounded.
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import arrays
from edge_agent.core.wire.blocks import HIGHEST, LOWEST
from edge_agent.core.wire.cursor import Reader, signed, varint
from edge_agent.core.wire.decimals import (
    decimal_of,
    decimals_of,
    double_of,
    doubles_of,
    few_decimals,
)

MAX_TEXT_BYTES: Final = 65_536
MAX_PACKED_BYTES: Final = 1 << 20
_HEX = re.compile(r"(?:[0-9a-f]{2}){2,32}")
_DOUBLE = struct.Struct("<d")
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode


class Coding(enum.IntEnum):
    """How a column lies in the bytes. From 128 on: codings to come, behind a length."""

    NONE = 0  # every row is None
    INT = 1  # every row is this integer
    DECIMAL = 2  # every row is this decimal
    DOUBLE = 3  # every row is this double
    TEXT = 4  # every row is this text
    INTS = 5
    DECIMALS = 6
    DOUBLES = 7
    TEXTS = 8
    HEXES = 9
    OPTIONAL = 10  # None in some rows; another column holds the rest
    PACKED = 11  # MessagePack: whatever fits nothing else
    FIXED = 12  # decimals, all with as many places


_FLOATS = frozenset({Coding.DECIMAL, Coding.DOUBLE, Coding.DECIMALS, Coding.DOUBLES, Coding.FIXED})
FUTURE: Final = 128


class Hints(msgspec.Struct, frozen=True):
    """What the writer knows of a column. groups: one number a row, alike where rows are alike."""

    lags: tuple[int, ...] = ()
    groups: NDArray[np.int64] | None = None

    def only(self, rows: list[bool]) -> Hints:
        groups = None if self.groups is None else self.groups[np.array(rows, bool)]
        return Hints(self.lags, groups)


NO_HINTS: Final = Hints()


def encode(
    values: Sequence[Any] | NDArray[np.int64], hints: Hints = NO_HINTS
) -> tuple[Coding, bytes]:
    """At least one value; of one type, or None."""
    if isinstance(values, np.ndarray):
        return _encode_many_ints(values, hints)
    kinds = set(map(type, values))
    if type(None) in kinds:
        return _encode_optional(values, hints)
    if kinds <= {int, bool} and min(values) >= LOWEST and max(values) <= HIGHEST:
        return _encode_ints(values, hints)
    if (
        kinds <= {int, float}
        and float in kinds
        and (kinds == {float} or all(map(_is_double, values)))
    ):
        return _encode_floats(values, hints)
    if kinds == {str} and max(map(len, values)) * 4 <= MAX_TEXT_BYTES:
        return _encode_texts(values, hints)
    packed = _pack(list(values))
    return Coding.PACKED, varint(len(packed)) + packed


def _is_double(value: Any) -> bool:
    return isinstance(value, float) or bool(-(1 << 53) <= value <= 1 << 53)


def _encode_ints(values: Sequence[int], hints: Hints) -> tuple[Coding, bytes]:
    if len(values) >= arrays.SMALL:
        return _encode_many_ints(np.array(values, np.int64), hints)
    if values.count(values[0]) == len(values):
        return Coding.INT, signed(int(values[0]))
    return Coding.INTS, arrays.encode(values)


def _encode_many_ints(values: NDArray[np.int64], hints: Hints) -> tuple[Coding, bytes]:
    if (values == values[0]).all():
        return Coding.INT, signed(int(values[0]))
    return Coding.INTS, arrays.encode(values, hints.lags)


def _encode_optional(values: Sequence[Any], hints: Hints) -> tuple[Coding, bytes]:
    there = [value is not None for value in values]
    if not any(there):
        return Coding.NONE, b""
    coding, payload = encode([value for value in values if value is not None], hints.only(there))
    return Coding.OPTIONAL, arrays.encode(np.array(there, np.int64)) + bytes((coding,)) + payload


def _encode_floats(values: Sequence[float], hints: Hints) -> tuple[Coding, bytes]:
    first = _DOUBLE.pack(values[0])
    if all(value == values[0] and _DOUBLE.pack(value) == first for value in values):
        decimal = decimal_of(float(values[0]))
        if decimal is None:
            return Coding.DOUBLE, first
        return Coding.DECIMAL, signed(decimal[0]) + signed(decimal[1])
    few = len(values) < arrays.SMALL
    return (few and _encode_few_floats(values, hints)) or _encode_many_floats(
        np.array(values, np.float64), hints
    )


def _encode_few_floats(values: Sequence[float], hints: Hints) -> tuple[Coding, bytes] | None:
    """None: not all of them are short decimals."""
    groups = [0] * len(values) if hints.groups is None else hints.groups.tolist()
    found = few_decimals(values, groups)
    if found is None:
        return None
    places, digits = found
    if min(places) == max(places):
        return Coding.FIXED, signed(places[0]) + arrays.encode(digits)
    payload = arrays.encode(places) + arrays.encode(digits) + varint(0)
    return (Coding.DECIMALS, payload) if len(payload) <= 8 * len(values) else None


def _encode_many_floats(values: NDArray[np.float64], hints: Hints) -> tuple[Coding, bytes]:
    groups = np.zeros(len(values), np.int64) if hints.groups is None else hints.groups
    places, digits, odd = decimals_of(values, groups)
    if not odd.any() and (places == places[0]).all():
        return Coding.FIXED, signed(int(places[0])) + arrays.encode(digits, hints.lags)
    planes = values.astype("<f8").view(np.uint8).reshape(-1, 8).T.tobytes()
    patches = b""
    before = -1
    for row in np.flatnonzero(odd).tolist():
        patches += varint(row - before - 1) + _DOUBLE.pack(values[row])
        before = row
        if len(patches) > len(planes):
            return Coding.DOUBLES, planes
    blocks = arrays.encode(places) + arrays.encode(digits, hints.lags)
    payload = blocks + varint(int(odd.sum())) + patches
    return min((Coding.DECIMALS, payload), (Coding.DOUBLES, planes), key=lambda pair: len(pair[1]))


def _entry(value: str) -> bytes:
    """A text behind twice its length; hex digits as the bytes that they mean, plus one."""
    if _HEX.fullmatch(value):
        return varint(len(value) | 1) + bytes.fromhex(value)
    encoded = value.encode()
    return varint(2 * len(encoded)) + encoded


def _encode_texts(values: Sequence[str], hints: Hints) -> tuple[Coding, bytes]:
    distinct = {value: index for index, value in enumerate(dict.fromkeys(values))}
    if len(distinct) == 1:
        return Coding.TEXT, _entry(values[0])
    width = len(values[0])
    hexes = b""
    if all(len(value) == width and _HEX.fullmatch(value) for value in distinct):
        hexes = bytes((width // 2,)) + bytes.fromhex("".join(values))
        if len(distinct) == len(values):
            return Coding.HEXES, hexes
    indices = np.array([distinct[value] for value in values], np.int64)
    entries = b"".join(map(_entry, distinct))
    texts = varint(len(distinct)) + entries + arrays.encode(indices, hints.lags)
    if not hexes:
        return Coding.TEXTS, texts
    return min((Coding.TEXTS, texts), (Coding.HEXES, hexes), key=lambda pair: len(pair[1]))


def decode(coding: int, count: int, read: Reader) -> list[Any]:
    """The `count` values of a column, at least one. The caller bounds the count.

    Raises: WireError.
    """
    reader = _READERS.get(coding)
    if reader is None:
        raise read.fail("a coding from 0 to 12", coding)
    return reader(count, read)


def skip(coding: int, count: int, read: Reader) -> None:
    """Past a column that is not ours to understand."""
    if coding >= FUTURE:
        read.take(read.varint())
    else:
        decode(coding, count, read)


def _ints(count: int, read: Reader) -> list[int]:
    return arrays.numbers(count, read)


def _doubles(count: int, read: Reader) -> list[float]:
    planes = np.frombuffer(read.take(8 * count), np.uint8).reshape(8, count)
    found: list[float] = np.ascontiguousarray(planes.T).view("<f8").ravel().tolist()
    return found


def _fixed(count: int, read: Reader) -> list[float]:
    places = read.signed()
    if count < arrays.SMALL:
        return [double_of(places, digits, read) for digits in arrays.numbers(count, read)]
    found: list[float] = doubles_of(
        np.full(count, places), arrays.decode(count, read), read
    ).tolist()
    return found


def _decimal(count: int, read: Reader) -> list[float]:
    places, digits = read.signed(), read.signed()
    return [double_of(places, digits, read)] * count


def _decimals(count: int, read: Reader) -> list[float]:
    places, digits = arrays.decode(count, read), arrays.decode(count, read)
    values: list[float] = doubles_of(places, digits, read).tolist()
    row = -1
    for _ in range(read.varint(count)):
        row += read.varint(count) + 1
        if row >= count:
            raise read.fail(f"a row below {count}", row)
        values[row] = _DOUBLE.unpack(read.take(8))[0]
    return values


def _decode_entry(read: Reader) -> str:
    mark = read.varint(2 * MAX_TEXT_BYTES)
    if mark & 1:
        return read.take(mark >> 1).hex()
    try:
        return read.take(mark >> 1).decode()
    except UnicodeDecodeError as error:
        raise read.fail("UTF-8", "other bytes") from error


def _hexes(count: int, read: Reader) -> list[str]:
    digits = 2 * read.u8()
    joined = read.take(digits * count // 2).hex()
    return [joined[row * digits : (row + 1) * digits] for row in range(count)]


def _texts(count: int, read: Reader) -> list[str]:
    entries = [_decode_entry(read) for _ in range(read.varint(min(count, read.left)))]
    indices = arrays.numbers(count, read)
    if not entries or min(indices) < 0 or max(indices) >= len(entries):
        raise read.fail(f"indices below {len(entries)}", "others")
    return [entries[index] for index in indices]


def _decode_optional(count: int, read: Reader) -> list[Any]:
    there = arrays.numbers(count, read)
    if min(there) < 0 or max(there) > 1:
        raise read.fail("0 or 1 for each row", "others")
    coding = read.u8()
    if coding == Coding.OPTIONAL:
        raise read.fail("a plain column inside an optional one", "another optional one")
    rows = sum(there)
    values = iter(decode(coding, rows, read) if rows else ())
    return [next(values) if row else None for row in there]


def _decode_packed(count: int, read: Reader) -> list[Any]:
    packed = read.take(read.varint(MAX_PACKED_BYTES))
    try:
        values = _unpack(packed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise read.fail("MessagePack", str(error)) from error
    if len(values) != count:
        raise read.fail(f"{count} values", len(values))
    return values


_READERS: Final[dict[int, Callable[[int, Reader], list[Any]]]] = {
    Coding.NONE: lambda count, _: [None] * count,
    Coding.INT: lambda count, read: [read.signed()] * count,
    Coding.DECIMAL: _decimal,
    Coding.DOUBLE: lambda count, read: [_DOUBLE.unpack(read.take(8))[0]] * count,
    Coding.TEXT: lambda count, read: [_decode_entry(read)] * count,
    Coding.INTS: _ints,
    Coding.DECIMALS: _decimals,
    Coding.DOUBLES: _doubles,
    Coding.TEXTS: _texts,
    Coding.HEXES: _hexes,
    Coding.OPTIONAL: _decode_optional,
    Coding.PACKED: _decode_packed,
    Coding.FIXED: _fixed,
}
