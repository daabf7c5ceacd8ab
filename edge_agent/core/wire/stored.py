"""The columns of a table by name, each of one type: checked once a column, not once a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import schema, tables
from edge_agent.core.wire.blocks import HIGHEST, LOWEST
from edge_agent.core.wire.columns import Coding
from edge_agent.core.wire.cursor import wrap
from edge_agent.core.wire.outcome import WireError
from edge_agent.core.wire.schema import Spec
from edge_agent.core.wire.tables import Table

Columns = dict[str, Sequence[Any]]
Found = Mapping[int, Table]
Longs = Sequence[int] | NDArray[np.int64]
MAX_SHOWN: Final = 200  # characters of what the decoder says, which quotes values
MAX_ZIPPED: Final = 256  # iterators side by side


class Kind(NamedTuple):
    """What a column must be. sure: codings that hold nothing else; many: the type of all values,
    None for integers and nothing that only equals one. is_array: of 64 bits, for arithmetic.
    """

    sure: frozenset[int]
    many: Any
    is_array: bool = False


_NONE: Final = frozenset({Coding.NONE})
_INTS: Final = frozenset({Coding.INT, Coding.INTS})
_FLOATS: Final = frozenset(
    {Coding.DECIMAL, Coding.DOUBLE, Coding.DECIMALS, Coding.DOUBLES, Coding.FIXED}
)
TEXTS: Final = frozenset({Coding.TEXT, Coding.TEXTS, Coding.HEXES})
ANY: Final = Kind(frozenset(Coding), Any)
WHOLE: Final = Kind(_INTS, None)
LONG: Final = Kind(_INTS, None, is_array=True)
MAYBE_LONG: Final = Kind(frozenset(Coding), Any, is_array=True)
INT: Final = Kind(_INTS, list[int])
FLOAT: Final = Kind(_FLOATS, list[float])
TEXT: Final = Kind(TEXTS, list[str])
MAYBE_INT: Final = Kind(_INTS | _NONE, list[int | None])
MAYBE_FLOAT: Final = Kind(_FLOATS | _NONE, list[float | None])


class Shape:
    """A table as it is read. kinds: names to what they must be; others are taken as they come."""

    def __init__(self, spec: Spec, kinds: Mapping[Kind, str]) -> None:
        of = {name: kind for kind, names in kinds.items() for name in names.split()}
        self.number = spec.number
        self.columns = [(f.number, f.name, f.default, of.get(f.name, ANY)) for f in spec.fields]
        self.none: Columns = dict.fromkeys((field.name for field in spec.fields), ())


class Rows(NamedTuple):
    """A table in its stored order: what belongs to rows of another table follows it.

    moved: where each row belongs, None where rows are stored as they are.
    """

    size: int
    columns: Columns
    moved: Sequence[int] | None = None

    def own_order(self, stored: Sequence[Any]) -> Sequence[Any]:
        """The inverse of storing rows alike side by side."""
        if self.moved is None:
            return stored
        rows: list[Any] = [None] * len(stored)
        for row, place in zip(stored, self.moved, strict=True):
            rows[place] = row
        return rows


def rows_of(found: Found, shape: Shape) -> Rows:
    """Raises: WireError."""
    table = found.get(shape.number)
    if table is None:
        return Rows(0, shape.none.copy())
    moved = tables.stored_order(table)
    columns: Columns = {}
    for number, name, default, kind in shape.columns:
        values: Any = table.columns.get(number)
        if values is None:
            if default is schema.REQUIRED:
                raise WireError(f"decode records: table {shape.number}: expected field {name}")
            columns[name] = [default] * table.rows
            continue
        if isinstance(values, np.ndarray) and not kind.is_array:
            values = values.tolist()
        if moved is not None and number in table.groups:
            values = [values[row] for row in moved]
        if table.codings[number] not in kind.sure:
            values = whole(values) if kind.many is None else typed(values, kind.many)
            values = longs(values) if kind.is_array else values
        columns[name] = values
    return Rows(table.rows, columns, moved)


def typed(values: Sequence[Any], many: Any) -> Any:
    """Raises: WireError."""
    try:
        return msgspec.convert(values, many)
    except (msgspec.ValidationError, OverflowError) as error:
        raise WireError(f"decode records: {str(error)[:MAX_SHOWN]}") from error


def whole(values: Sequence[Any]) -> Sequence[int]:
    """Raises: WireError."""
    if not set(map(type, values)) <= {int}:
        raise WireError("decode records: expected integers, got others")
    return values


def flags(values: Sequence[Any]) -> list[bool]:
    """Raises: WireError for what is neither 0 nor 1."""
    if not set(map(type, values)) <= {int} or not set(values) <= {0, 1}:
        raise WireError("decode records: expected 0 or 1, got others")
    return list(map(bool, values))


def longs(values: Longs) -> Longs:
    """Modulo 2**64.

    Raises: WireError.
    """
    if isinstance(values, np.ndarray):
        return values
    if min(whole(values), default=0) >= LOWEST and max(values, default=0) <= HIGHEST:
        return values
    return [wrap(value) for value in values]


def together(columns: Columns, *names: str) -> list[tuple[Any, ...]]:
    """Side by side."""
    return list(zip(*map(columns.__getitem__, names), strict=True))


def check(counts: Sequence[int], name: str, children: int) -> None:
    """Raises: WireError when they do not hand out all of so many children."""
    if min(counts, default=0) < 0 or sum(counts) != children:
        raise WireError(f"decode records: expected {name} of {children} in all, got others")


def hand_out(counts: Sequence[int], name: str, children: Sequence[Any]) -> list[tuple[Any, ...]]:
    """For each count so many of the children.

    Raises: WireError.
    """
    check(counts, name, len(children))
    if not children:
        return [()] * len(counts)
    most = max(counts)
    if most <= MAX_ZIPPED and most == min(counts):
        return list(zip(*[iter(children)] * most, strict=True))
    children = tuple(children)
    return [children[a:b] for a, b in pairwise(accumulate(counts, initial=0))]
