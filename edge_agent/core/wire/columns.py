"""One column of values out of its bytes: integers, decimals, text, and `None` among them.

The coding byte says how. `encoding` is the other half.
"""

from __future__ import annotations

import enum
import math
import re
import struct
from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import arrays, singly
from edge_agent.core.wire.blocks import HIGHEST, LOWEST
from edge_agent.core.wire.cursor import Reader
from edge_agent.core.wire.decimals import (
    MAX_PLACES,
    double_of,
    doubles_of,
    few_doubles,
)

MAX_TEXT_BYTES: Final = 65_536
MAX_PACKED_BYTES: Final = 1 << 18  # each of them may become a value of 50 bytes
_HEX = re.compile(r"(?:[0-9a-f]{2}){2,32}")
_DOUBLE = struct.Struct("<d")
_pack = msgspec.msgpack.Encoder().encode
_Plain = int | float | str | None
_unpack = msgspec.msgpack.Decoder(list[_Plain | list[_Plain]]).decode


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


def decode(coding: int, count: int, read: Reader) -> list[Any] | NDArray[np.int64]:
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


def _ints(count: int, read: Reader) -> list[int] | NDArray[np.int64]:
    """An array when they are many."""
    return arrays.decode(count, read) if count >= singly.FEW else singly.numbers(count, read)


def _doubles(count: int, read: Reader) -> list[float]:
    planes = np.frombuffer(read.take(8 * count), np.uint8).reshape(8, count)
    doubles = np.ascontiguousarray(planes.T).view("<f8").ravel()
    if not np.isfinite(doubles).all():
        raise read.fail("finite numbers", "others")
    found: list[float] = doubles.tolist()
    return found


def _double(read: Reader) -> float:
    value: float = _DOUBLE.unpack(read.take(8))[0]
    if not math.isfinite(value):
        raise read.fail("a finite number", value)
    return value


def _fixed(count: int, read: Reader) -> list[float]:
    places = read.signed()
    if count < singly.FEW:
        return few_doubles(places, singly.numbers(count, read), read)
    if abs(places) > MAX_PLACES:
        raise read.fail(f"at most {MAX_PLACES} places", places)
    digits = arrays.decode(count, read)
    found: list[float] = doubles_of(np.full(count, places), digits, read).tolist()
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
        values[row] = _double(read)
    return values


def _decode_entry(read: Reader) -> str:
    mark = read.varint(2 * MAX_TEXT_BYTES)
    read.longest = max(read.longest, mark)
    if mark & 1:
        return read.take(mark >> 1).hex()
    try:
        return read.take(mark >> 1).decode()
    except UnicodeDecodeError as error:
        raise read.fail("UTF-8", "other bytes") from error


def _hexes(count: int, read: Reader) -> list[str]:
    digits = 2 * read.u8()
    read.longest = max(read.longest, digits)
    joined = read.take(digits * count // 2).hex()
    return [joined[row * digits : (row + 1) * digits] for row in range(count)]


def _texts(count: int, read: Reader) -> list[str]:
    entries = [_decode_entry(read) for _ in range(read.varint(min(count, read.left)))]
    indices = singly.numbers(count, read)
    if not entries or min(indices) < 0 or max(indices) >= len(entries):
        raise read.fail(f"indices below {len(entries)}", "others")
    return [entries[index] for index in indices]


def _decode_optional(count: int, read: Reader) -> list[Any]:
    there = singly.numbers(count, read)
    if min(there) < 0 or max(there) > 1:
        raise read.fail("0 or 1 for each row", "others")
    coding = read.u8()
    if coding == Coding.OPTIONAL or coding not in _READERS:
        raise read.fail("a plain column inside an optional one", f"coding {coding}")
    rows = sum(there)
    found = decode(coding, rows, read) if rows else []
    values = iter(found if isinstance(found, list) else found.tolist())
    return [next(values) if row else None for row in there]


def _decode_packed(count: int, read: Reader) -> list[Any]:
    packed = read.take(read.varint(MAX_PACKED_BYTES))
    read.longest = max(read.longest, len(packed))
    try:
        values: list[Any] = _unpack(packed)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise read.fail("MessagePack", str(error)) from error
    if len(values) != count:
        raise read.fail(f"{count} values", len(values))
    if _MAY_BE_ODD.search(packed) and not all(map(_is_kept, values)):
        raise read.fail("finite numbers, integers of 64 bits with sign", "others")
    return values


# What others begin with: doubles and floats that are not finite, integers of 2**63 and more.
_MAY_BE_ODD: Final = re.compile(
    rb"\xcb[\x7f\xff][\xf0-\xff]|\xca[\x7f\xff][\x80-\xff]|\xcf[\x80-\xff]"
)


def _is_kept(value: Any) -> bool:
    """Of what `_unpack` gives."""
    if isinstance(value, list):
        return all(map(_is_kept, value))
    if isinstance(value, int):
        return LOWEST <= value <= HIGHEST
    return not isinstance(value, float) or math.isfinite(value)


_READERS: Final[dict[int, Callable[[int, Reader], list[Any] | NDArray[np.int64]]]] = {
    Coding.NONE: lambda count, _: [None] * count,
    Coding.INT: lambda count, read: [read.signed()] * count,
    Coding.DECIMAL: _decimal,
    Coding.DOUBLE: lambda count, read: [_double(read)] * count,
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
