"""Tables of columns to a body and back. A body explains itself: readers skip what they do not know.

    body = tables | heads | columns
    head = table rows groups [field ...] columns [field coding ...]

All heads stand before all columns: the heads of two batches are nearly always the same bytes, and
then cost nothing behind a dictionary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import columns, encoding, rings
from edge_agent.core.wire.bounds import MAX_BATCH_BYTES, VALUE_BYTES, VALUES, Budget
from edge_agent.core.wire.cursor import Reader, varint, varints
from edge_agent.core.wire.encoding import Hints
from edge_agent.core.wire.outcome import Newer, WireError

MAX_TABLES: Final = 64
MAX_COLUMNS: Final = 64
MAX_ROWS: Final = 1 << 16
MAX_NUMBER_ROWS: Final = 1 << 19  # tables whose rows are but a number or two
MAX_CELLS: Final = 1 << 20  # of a whole body
FIELDS: Final = 1 << 16
RING_COLUMN: Final = (7, 1)  # table and field that may hold whole points: see `rings`
OTHER_OF_RING: Final = 2
GROUPED: Final = frozenset({3, 4, 11, 14})  # tables in which rows may be stored side by side


Column = Sequence[Any] | NDArray[np.int64]


class Ready(NamedTuple):
    """A column that is bytes already. payload: without its length."""

    coding: int
    payload: bytes


class Table(msgspec.Struct):
    """number: which table. columns: field to values, all in the stored order.

    groups: fields whose values say which rows belong together; see `side_by_side`. alike, for
    the writer: for each stored row the number of its group. codings, of the reader: field to how
    its column lay in the bytes. ready, of the writer: further columns.
    """

    number: int
    rows: int
    columns: dict[int, Column]
    groups: tuple[int, ...] = ()
    lags: tuple[int, ...] = ()
    alike: NDArray[np.int64] | None = None
    codings: dict[int, int] = {}
    ready: dict[int, Ready] = {}


class Head(NamedTuple):
    """What stands before the columns."""

    number: int
    rows: int
    groups: tuple[int, ...]
    codings: tuple[tuple[int, int], ...]


def _ranks(values: Column) -> list[int]:
    """For each value the number of its kind, in the order of their coming."""
    kinds = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return [kinds[value] for value in values]


def side_by_side(keys: Sequence[Sequence[Any]]) -> tuple[list[int], NDArray[np.int64]]:
    """(row numbers as `_order` has them, for each row in that order the number of its group)."""
    numbers = _ranks(keys[0])
    for key in keys[1:]:
        ranks = _ranks(key)
        width = max(ranks) + 1
        numbers = [number * width + rank for number, rank in zip(numbers, ranks, strict=True)]
    stored = sorted(range(len(numbers)), key=numbers.__getitem__)
    dense = {number: group for group, number in enumerate(sorted(set(numbers)))}
    return stored, np.array([dense[numbers[row]] for row in stored], np.int64)


def encode(tables: Sequence[Table]) -> bytes:
    """Tables without rows are left out. Group columns are stored in the rows' own order."""
    heads, payloads = [], []
    kept = [table for table in tables if table.rows]
    for table in kept:
        plain, hints = Hints(table.lags), Hints(table.lags, table.alike)
        codings: list[bytes] = []
        for field, values in table.columns.items():
            coding, payload = encoding.encode(values, plain if field in table.groups else hints)
            codings.append(varint(field) + bytes((coding,)))
            payloads.append(payload)
        for field, (coding, payload) in table.ready.items():
            codings.append(varint(field) + bytes((coding,)))
            payloads.append(varint(len(payload)) + payload)
        numbers = (table.number, table.rows, len(table.groups), *table.groups, len(codings))
        heads.append(varints(numbers) + b"".join(codings))
    return varint(len(kept)) + b"".join(heads) + b"".join(payloads)


class Known(NamedTuple):
    """A table as far as it is known here. most: rows."""

    fields: frozenset[int]
    most: int = MAX_ROWS


class Body(NamedTuple):
    """tables: by number, without what is not known. values: of all records together, as `bounds`
    counts them. longest: bytes of the longest text.
    """

    tables: dict[int, Table]
    values: int
    longest: int


def decode(body: bytes, known: Mapping[int, Known], budget: Budget | None = None) -> Body:
    """budget: of the bundle that it is from.

    Raises: Newer when a known column is coded in a way to come; WireError.
    """
    read = Reader(body, "columns")
    heads = [_head(read) for _ in range(read.varint(MAX_TABLES))]
    values = _bounded(heads, known, read, budget or Budget())
    found: dict[int, Table] = {}
    for head in heads:
        table = _columns(head, known.get(head.number), read)
        if head.number in known:
            found[head.number] = table
    read.end()
    for head in heads:  # only what can be read to its end may ask for a newer reader
        if head.number in found and _needed(head, known) - found[head.number].columns.keys():
            raise Newer(f"decode columns: table {head.number}: expected known codings")
    return Body(found, values, read.longest)


def _bounded(
    heads: Sequence[Head], known: Mapping[int, Known], read: Reader, budget: Budget
) -> int:
    """The values in all, before any of them is read. Raises: WireError."""
    if len({head.number for head in heads}) != len(heads):
        raise read.fail("each table once", "one twice")
    cells = sum(head.rows * max(1, len(head.codings)) for head in heads)
    if cells > MAX_CELLS:
        raise read.fail(f"at most {MAX_CELLS} cells", cells)
    values = sum(head.rows * VALUES.get(head.number, 2) for head in heads if head.number in known)
    if values * VALUE_BYTES > MAX_BATCH_BYTES:
        raise read.fail(f"at most {MAX_BATCH_BYTES // VALUE_BYTES} values", values)
    if not budget.spend(values, cells):
        raise read.fail("bodies of a bundle that cost no more to read", f"{values} values more")
    if any(head.groups and head.number in known.keys() - GROUPED for head in heads):
        raise read.fail(f"groups in tables {sorted(GROUPED)} only", "others")
    return values


def _needed(head: Head, known: Mapping[int, Known]) -> set[int]:
    """The fields of a known table that must be understood."""
    fields = {field for field, _ in head.codings}
    return fields & (known[head.number].fields | set(head.groups))


def _columns(head: Head, known: Known | None, read: Reader) -> Table:
    if known and head.rows > known.most:
        raise read.fail(f"at most {known.most} rows in table {head.number}", head.rows)
    table = Table(head.number, head.rows, {}, head.groups)
    needed = known.fields.union(head.groups) if known else ()
    for field, coding in head.codings:
        if coding == rings.CODING and (head.number, field) == RING_COLUMN:
            _rings(table, {one for one, _ in head.codings}, read)
        elif field in needed and coding < columns.FUTURE:
            table.columns[field] = columns.decode(coding, head.rows, read)
            table.codings[field] = coding
        else:
            columns.skip(coding, head.rows, read)
    return table


def _rings(table: Table, fields: set[int], read: Reader) -> None:
    """One column holds both numbers of each point."""
    if OTHER_OF_RING in fields:
        raise read.fail("x and y in one column", "another y")
    found = rings.decode(table.rows, read)
    for field, numbers in zip((RING_COLUMN[1], OTHER_OF_RING), found, strict=True):
        table.columns[field] = numbers
        table.codings[field] = columns.Coding.INTS


def _head(read: Reader) -> Head:
    number, rows = read.varint(FIELDS), read.varint(MAX_NUMBER_ROWS)
    if not rows:
        raise read.fail("rows", "a table without")
    groups = tuple(read.varint(FIELDS) for _ in range(read.varint(4)))
    codings = _codings(read.varint(MAX_COLUMNS), read)
    fields = {field for field, _ in codings}
    if len(fields) != len(codings) or not fields.issuperset(groups):
        raise read.fail("each field once, groups among them", f"{sorted(fields)} and {groups}")
    return Head(number, rows, groups, codings)


def _codings(count: int, read: Reader) -> tuple[tuple[int, int], ...]:
    """(field, coding) of each column; nearly always a byte each."""
    pairs = read.peek(2 * count)
    if len(pairs) == 2 * count and pairs[::2].isascii():
        read.at += 2 * count
        return tuple(zip(pairs[::2], pairs[1::2], strict=True))
    return tuple((read.varint(FIELDS), read.u8()) for _ in range(count))


def _order(keys: Sequence[Column], rows: int) -> list[int]:
    """Row numbers so that rows alike in all keys stand together: sorted by when each value first
    occurs in its key, the first key first; else as they were.
    """
    ranks = []
    for key in reversed(keys):
        values = key.tolist() if isinstance(key, np.ndarray) else key
        kinds = {value: number for number, value in enumerate(dict.fromkeys(values))}
        ranks.append(np.fromiter(map(kinds.__getitem__, values), np.int64, rows))
    return list(np.lexsort(ranks).tolist())


def stored_order(table: Table) -> list[int] | None:
    """Where each stored row belongs, None where rows are stored as they are. Raises: WireError."""
    if not table.groups:
        return None
    keys = [table.columns[field] for field in table.groups]
    for key in keys:  # numbers that are equal may be unlike: 1 and 1.0, 0.0 and -0.0
        if not isinstance(key, np.ndarray) and not set(map(type, key)) <= _GROUPING:
            raise WireError("decode columns: expected groups of integers, text and null")
    return _order(keys, table.rows)


_GROUPING: Final = frozenset({int, str, type(None)})
