"""One column of values to bytes: the writer's half of `columns`.

A value comes back exactly, whatever it was: what fits no better form is kept as eight bytes of a
double or as MessagePack, never rounded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import copysign, isfinite
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import Overloaded
from edge_agent.core.wire import arrays
from edge_agent.core.wire.blocks import HIGHEST, LOWEST
from edge_agent.core.wire.columns import MAX_PACKED_BYTES, MAX_TEXT_BYTES, Coding
from edge_agent.core.wire.cursor import signed, varint
from edge_agent.core.wire.decimals import decimal_of, decimals_of, few_decimals
from edge_agent.core.wire.few import FEW

Coded = tuple[int, bytes]

HEX_DIGITS: Final = range(4, 65, 2)  # of a text that is kept as the bytes that it means
MAX_KNOWN_TEXTS: Final = 512  # what they look like as entries is remembered
MAX_KNOWN_CHARS: Final = 64
_HEX = re.compile(r"[0-9a-f]+")
_DOUBLE = struct.Struct("<d")
_INTEGERS: Final = frozenset({int, bool})
_NUMBERS: Final = frozenset({int, float})
_pack = msgspec.msgpack.Encoder().encode
# As plain integers: an enum's members are slow to look up where a column takes microseconds.
_NONE, _INT, _DECIMAL, _DOUBLE_ALL, _TEXT, _INTS, _DECIMALS = map(int, tuple(Coding)[:7])
_DOUBLES, _TEXTS, _HEXES, _OPTIONAL, _PACKED, _FIXED = map(int, tuple(Coding)[7:])


class Hints(msgspec.Struct, frozen=True):
    """What the writer knows of a column. groups: one number a row, alike where rows are alike."""

    lags: tuple[int, ...] = ()
    groups: NDArray[np.int64] | None = None

    def only(self, rows: list[bool]) -> Hints:
        groups = None if self.groups is None else self.groups[np.array(rows, bool)]
        return Hints(self.lags, groups)


NO_HINTS: Final = Hints()


def encode(values: Sequence[Any] | NDArray[np.int64], hints: Hints = NO_HINTS) -> Coded:
    """(coding, bytes) of at least one value; of one type, or None.

    Raises: Overloaded for more than a column can hold; ValueError for a number that is not finite.
    """
    if isinstance(values, np.ndarray):
        return _ints(values, hints)
    first = values[0]
    kind = type(first)
    if values[-1] == first and values.count(first) == len(values):
        alike = _ALIKE.get(kind) if len(values) == 1 or {*map(type, values)} == {kind} else None
        coded = alike(values) if alike else None
        if coded:
            return coded
    return _several(values, {*map(type, values)}, hints)


def _several(values: Sequence[Any], kinds: set[type], hints: Hints) -> Coded:
    if type(None) in kinds:
        return _optional(values, hints)
    if kinds <= _INTEGERS and min(values) >= LOWEST and max(values) <= HIGHEST:
        return _INTS, arrays.encode(values, hints.lags)
    if kinds <= _NUMBERS and float in kinds and (len(kinds) == 1 or all(map(_is_double, values))):
        return _floats(values, hints)
    if kinds == {str} and max(map(len, values)) * 4 <= MAX_TEXT_BYTES:
        return _texts(values, hints)
    if not all(isfinite(value) for value in values if isinstance(value, float)):
        raise _not_finite()
    if not all(LOWEST <= value <= HIGHEST for value in values if isinstance(value, int)):
        raise ValueError("encode column: expected integers of 64 bits with sign, got others")
    packed = _pack(list(values))
    if len(packed) > MAX_PACKED_BYTES:
        raise Overloaded(
            f"encode column: expected {MAX_PACKED_BYTES} bytes of MessagePack, got {len(packed)}"
        )
    return _PACKED, varint(len(packed)) + packed


def _not_finite() -> ValueError:
    return ValueError("encode column: expected finite numbers, got others")


def _is_double(value: Any) -> bool:
    return isinstance(value, float) or bool(-(1 << 53) <= value <= 1 << 53)


def _one_text(values: Sequence[str]) -> Coded | None:
    return (_TEXT, _entry(values[0])) if 4 * len(values[0]) <= MAX_TEXT_BYTES else None


def _one_integer(values: Sequence[int]) -> Coded | None:
    return (_INT, signed(int(values[0]))) if LOWEST <= values[0] <= HIGHEST else None


def _one_double(values: Sequence[float]) -> Coded | None:
    if not values[0] and len({copysign(1.0, zero) for zero in values}) > 1:
        return None
    if not isfinite(values[0]):
        raise _not_finite()
    decimal = decimal_of(values[0])
    if decimal is None:
        return _DOUBLE_ALL, _DOUBLE.pack(values[0])
    return _DECIMAL, signed(decimal[0]) + signed(decimal[1])


# Of one value in all rows; None when that has no coding of its own.
_ALIKE: Final[dict[type, Callable[[Any], Coded | None]]] = {
    type(None): lambda _: (_NONE, b""),
    str: _one_text,
    int: _one_integer,
    bool: _one_integer,
    float: _one_double,
}


def _ints(values: NDArray[np.int64], hints: Hints) -> Coded:
    if values[-1] == values[0] and (values == values[0]).all():
        return _INT, signed(int(values[0]))
    return _INTS, arrays.encode(values, hints.lags)


def _optional(values: Sequence[Any], hints: Hints) -> Coded:
    there = [value is not None for value in values]
    coding, payload = encode([value for value in values if value is not None], hints.only(there))
    return _OPTIONAL, arrays.encode(there) + bytes((coding,)) + payload


def _floats(values: Sequence[float], hints: Hints) -> Coded:
    few = _few_floats(values, hints) if len(values) < FEW else None
    return few or _many_floats(np.array(values, np.float64), hints)


def _few_floats(values: Sequence[float], hints: Hints) -> Coded | None:
    """None: not all of them are short decimals."""
    found = few_decimals(values, None if hints.groups is None else hints.groups.tolist())
    if found is None:
        return None
    places, digits = found
    if min(places) == max(places):
        return _FIXED, signed(places[0]) + arrays.encode(digits, hints.lags)
    payload = arrays.encode(places) + arrays.encode(digits, hints.lags) + varint(0)
    return (_DECIMALS, payload) if len(payload) <= 8 * len(values) else None


def _many_floats(values: NDArray[np.float64], hints: Hints) -> Coded:
    if not np.isfinite(values).all():
        raise _not_finite()
    groups = np.zeros(len(values), np.int64) if hints.groups is None else hints.groups
    places, digits, odd = decimals_of(values, groups)
    if not odd.any() and (places == places[0]).all():
        return _FIXED, signed(int(places[0])) + arrays.encode(digits, hints.lags)
    planes = values.astype("<f8").view(np.uint8).reshape(-1, 8).T.tobytes()
    patches = b""
    before = -1
    for row in np.flatnonzero(odd).tolist():
        patches += varint(row - before - 1) + _DOUBLE.pack(values[row])
        before = row
        if len(patches) > len(planes):
            return _DOUBLES, planes
    blocks = arrays.encode(places) + arrays.encode(digits, hints.lags)
    payload = blocks + varint(int(odd.sum())) + patches
    return (_DECIMALS, payload) if len(payload) <= len(planes) else (_DOUBLES, planes)


def _entry(value: str) -> bytes:
    return _known_entry(value) if len(value) <= MAX_KNOWN_CHARS else _new_entry(value)


def _new_entry(value: str) -> bytes:
    """A text behind twice its length; hex digits as the bytes that they mean, plus one."""
    if len(value) in HEX_DIGITS and _HEX.fullmatch(value):
        return varint(len(value) | 1) + bytes.fromhex(value)
    encoded = value.encode()
    return varint(2 * len(encoded)) + encoded


_known_entry = lru_cache(MAX_KNOWN_TEXTS)(_new_entry)


def _texts(values: Sequence[str], hints: Hints) -> Coded:
    distinct = dict.fromkeys(values)
    hexes = _hexes(values)
    if hexes and len(distinct) == len(values):
        return _HEXES, hexes
    places = {value: index for index, value in enumerate(distinct)}
    indices = arrays.encode([places[value] for value in values], hints.lags)
    texts = varint(len(distinct)) + b"".join(map(_entry, distinct)) + indices
    return (_HEXES, hexes) if hexes and len(hexes) < len(texts) else (_TEXTS, texts)


def _hexes(values: Sequence[str]) -> bytes:
    """The bytes that texts of hex digits mean, all of one length; b"" when they are none."""
    width = len(values[0])
    if width not in HEX_DIGITS or not _HEX.fullmatch(values[0]) or len({*map(len, values)}) > 1:
        return b""
    joined = "".join(values)
    return bytes((width // 2,)) + bytes.fromhex(joined) if _HEX.fullmatch(joined) else b""
