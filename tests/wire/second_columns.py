"""The second decoder, sections 4 and 5 of docs/wire.md: tables, columns, blocks of integers."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import msgspec

from tests.wire.second_bytes import Bytes, Refused, Wanting, check, text, unzigzag, wrapped

MANY_ROWS = (6, 7, 8, 9, 12)
GROUPED = (3, 4, 11, 14)
VALUES = {
    1: 0, 2: 32, 3: 4, 4: 16, 5: 16, 6: 1, 7: 2, 8: 1, 9: 1, 10: 4, 11: 8, 12: 1, 13: 32, 14: 2,
    15: 32, 16: 1, 17: 32, 18: 32, 19: 32,
}  # fmt: skip


@dataclass
class Table:
    rows: int
    groups: list[int]
    columns: dict[int, list[Any]] = field(default_factory=dict)

    def stored_order(self) -> list[int]:
        ranks = []
        for group in self.groups:
            seen: list[Any] = []
            seen_at: dict[Any, int] = {}
            for value in self.columns[group]:
                check(type(value) in (int, str, type(None)), "group of another type")
                if value not in seen_at:
                    seen_at[value] = len(seen)
                    seen.append(value)
            ranks.append([seen_at[value] for value in self.columns[group]])
        return sorted(range(self.rows), key=lambda row: tuple(rank[row] for rank in ranks))


def open_tables(body: bytes, known: Mapping[int, Collection[int]]) -> dict[int, Table]:
    given = Bytes(body)
    heads = []
    for _ in range(given.varint(64)):
        number, rows = given.varint(1 << 16), given.varint(1 << 19)
        check(rows > 0, "no rows")
        groups = [given.varint(1 << 16) for _ in range(given.varint(4))]
        fields = [(given.varint(1 << 16), given.u8()) for _ in range(given.varint(64))]
        names = [number for number, _ in fields]
        check(len(set(names)) == len(names) and set(groups) <= set(names), "fields")
        check(number not in known or number in MANY_ROWS or rows <= 65_536, "rows")
        check(not groups or number in GROUPED or number not in known, "groups")
        heads.append((number, rows, groups, fields))
    check(len({head[0] for head in heads}) == len(heads), "a table twice")
    check(sum(head[1] * max(1, len(head[3])) for head in heads) <= 1 << 20, "cells")
    check(sum(head[1] * VALUES.get(head[0], 0) for head in heads) <= 1 << 18, "values")
    found = {}
    newer = False
    for number, rows, groups, fields in heads:
        table = found[number] = Table(rows, groups)
        for name, coding in fields:
            if coding < 128:
                table.columns[name] = column(coding, rows, given)
                continue
            content = given.take(given.varint())
            if (number, name, coding) == (7, 1, 128):
                check(2 not in names, "y twice")
                table.columns[1], table.columns[2] = rings(content, rows)
                continue
            newer |= number in known and (name in known[number] or name in groups)
    check(given.done, "bytes left over")
    if newer:
        raise Wanting("version")
    return found


def column(coding: int, n: int, given: Bytes) -> list[Any]:
    check(coding in CODINGS, f"coding {coding}")
    return CODINGS[coding](n, given)


def double(given: bytes) -> float:
    value: float = struct.unpack("<d", given)[0]
    check(math.isfinite(value), "not finite")
    return value


def decimal(places: int, digits: int) -> float:
    check(abs(places) <= 22 and abs(digits) < 1 << 53, "decimal")
    return digits / 10.0**places if places >= 0 else digits * 10.0**-places


def coded_decimal(n: int, given: Bytes) -> list[Any]:
    places, digits = given.signed(), given.signed()
    return [decimal(places, digits)] * n


def coded_decimals(n: int, given: Bytes) -> list[Any]:
    places, digits = block(n, given), block(n, given)
    values = [decimal(p, d) for p, d in zip(places, digits, strict=True)]
    row = -1
    for _ in range(given.varint(n)):
        row += 1 + given.varint(n)
        check(row < n, "patch outside")
        values[row] = double(given.take(8))
    return values


def coded_doubles(n: int, given: Bytes) -> list[Any]:
    planes = given.take(8 * n)
    return [double(planes[row::n]) for row in range(n)]


def coded_fixed(n: int, given: Bytes) -> list[Any]:
    places = given.signed()
    return [decimal(places, digits) for digits in block(n, given)]


def entry(given: Bytes) -> str:
    mark = given.varint(131_072)
    content = given.take(mark // 2)
    return content.hex() if mark % 2 else text(content)


def coded_texts(n: int, given: Bytes) -> list[Any]:
    entries = [entry(given) for _ in range(given.varint(n))]
    indices = block(n, given)
    check(all(0 <= index < len(entries) for index in indices), "index")
    return [entries[index] for index in indices]


def coded_hexes(n: int, given: Bytes) -> list[Any]:
    width = given.u8()
    return [given.take(width).hex() for _ in range(n)]


def coded_optional(n: int, given: Bytes) -> list[Any]:
    there = block(n, given)
    check(set(there) <= {0, 1}, "neither 0 nor 1")
    coding = given.u8()
    check(coding in CODINGS and coding != 10, "optional in optional")
    values = column(coding, sum(there), given) if any(there) else []
    left = iter(values)
    return [next(left) if row else None for row in there]


def coded_packed(n: int, given: Bytes) -> list[Any]:
    packed = given.take(given.varint(1 << 18))
    try:
        values = msgspec.msgpack.decode(packed, type=list[Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(str(error)) from None
    check(len(values) == n, "items")
    for value in values:
        for item in value if isinstance(value, list) else [value]:
            check(type(item) in (int, float, str, type(None)), "item of another type")
            check(not isinstance(item, float) or math.isfinite(item), "not finite")
            check(not isinstance(item, int) or -(1 << 63) <= item < 1 << 63, "beyond 64 bits")
    return values


# --- section 5


def block(n: int, given: Bytes) -> list[int]:
    mode = given.u8()
    transform = mode & 3
    lag = given.varint(max(n, 1)) if transform == 3 else 1
    check(lag >= 1, "lag")
    start = given.signed() if transform else 0
    slope = given.signed() if transform == 2 else 0
    centres = [0] * n
    if mode & 128:
        check(transform == 3 and lag >= 8, "centres")
        per_period = block(-(-n // lag), given)
        centres = [per_period[i // lag] for i in range(n)]
    offset = given.signed() if mode & 32 else 0
    numbers = unpack(mode >> 2 & 7, n, given)
    r = [
        wrapped((u if mode & 64 else unzigzag(u)) + offset + centre)
        for u, centre in zip(numbers, centres, strict=True)
    ]
    return predict(transform, lag, start, slope, r)


def predict(transform: int, lag: int, start: int, slope: int, r: list[int]) -> list[int]:
    x: list[int] = []
    step = slope
    for i, rest in enumerate(r):
        before = x[i - 1] if i else start
        step = wrapped(step + rest)
        if transform == 0:
            x.append(rest)
        elif transform == 1:
            x.append(wrapped(before + rest))
        elif transform == 2:
            x.append(wrapped(before + step))
        else:
            x.append(wrapped((before if i < lag else x[i - lag]) + rest))
    return x


def unpack(packing: int, n: int, given: Bytes) -> list[int]:
    if packing == 0:
        return [0] * n
    if packing == 1:
        return [given.varint() for _ in range(n)]
    if packing == 2:
        return rice(n, given)
    if packing == 3:
        w = given.u8()
        check(1 <= w <= 8, "width")
        planes = given.take(w * n)
        return [int.from_bytes(planes[row::n], "big") for row in range(n)]
    check(packing == 4, "packing")
    numbers: list[int] = []
    for _ in range(given.varint(n)):
        u, length = given.varint(), given.varint(n) + 1
        check(len(numbers) + length <= n, "runs")
        numbers += [u] * length
    check(len(numbers) == n, "runs")
    return numbers


def bits_of(given: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in given)


def rice(n: int, given: Bytes) -> list[int]:
    k = given.u8()
    check(k <= 56, "k")
    codes = bits_of(given.take(given.varint())).split("1")
    check(len(codes) == n + 1, "unary codes")
    low = bits_of(given.take(-(-n * k // 8)))
    numbers = []
    for i, zeros in enumerate(codes[:n]):
        q = len(zeros)
        check(q <= 16, "a long unary code")
        if q == 16:
            q += given.varint((1 << 64) - 17)
        digits = low[i * k : (i + 1) * k]
        numbers.append((q << k | int(digits or "0", 2)) & (1 << 64) - 1)
    return numbers


CODINGS: Mapping[int, Callable[[int, Bytes], list[Any]]] = {
    0: lambda n, _: [None] * n,
    1: lambda n, given: [given.signed()] * n,
    2: coded_decimal,
    3: lambda n, given: [double(given.take(8))] * n,
    4: lambda n, given: [entry(given)] * n,
    5: block,
    6: coded_decimals,
    7: coded_doubles,
    8: coded_texts,
    9: coded_hexes,
    10: coded_optional,
    11: coded_packed,
    12: coded_fixed,
}


# --- section 5, contours


def rings(content: bytes, n: int) -> tuple[list[Any], list[Any]]:
    given = Bytes(content)
    grids = [(axis_of(given), axis_of(given)) for _ in range(given.varint(8))]
    form = given.varint(1)
    begins, walk = blocks_of_rings(n, len(grids), given) if form else bytes_of_rings(n, given)
    found: list[list[Any]] = [[], []]
    m = [0, 0]
    grid = -1
    for i in range(n):
        grid = begins.get(i, grid)
        check(0 <= grid < len(grids), "grid")
        m = walk[i] if i in begins else [m[0] + walk[i][0], m[1] + walk[i][1]]
        for a in (0, 1):
            check(abs(m[a]) <= 1 << 32, "line")
            found[a].append(place(grids[grid][a], m[a]))
    row = -1
    for _ in range(given.varint(n)):
        row += 1 + given.varint(n)
        check(row < n, "patch outside")
        for a in (0, 1):
            found[a][row] += within(given.signed(), 40)
    check(given.done, "bytes left over in rings")
    return found[0], found[1]


def within(number: int, bits: int) -> int:
    check(abs(number) <= 1 << bits, "too large")
    return number


def axis_of(given: Bytes) -> tuple[int, int, int, list[int]]:
    scale, below, offset = given.varint(1 << 24), given.varint(1 << 24), within(given.signed(), 53)
    between = [within(given.signed(), 53) for _ in range(2)] if given.varint(1) else []
    check(scale > 0 and below > 0 and between == sorted(between), "axis")
    return scale, below, offset, between


def place(axis: tuple[int, int, int, list[int]], m: int) -> int:
    scale, below, offset, between = axis
    v = round(Fraction(scale * m + offset, below))  # ties to even
    return min(max(v, between[0]), between[1]) if between else v


def both(n: int, given: Bytes) -> list[list[int]]:
    columns = [block(n, given), block(n, given)]
    return [[within(x, 40), within(y, 40)] for x, y in zip(*columns, strict=True)]


def bytes_of_rings(n: int, given: Bytes) -> tuple[dict[int, int], list[list[int]]]:
    pairs = given.take(2 * n)
    marks = {i: pairs[2 * i] for i in range(n) if pairs[2 * i] >= 240}
    check(all(pairs[2 * i + 1] == 0 for i in marks), "behind a mark")
    begins = {i: mark - 240 for i, mark in marks.items() if mark < 255}
    check(0 in begins, "no ring begins")
    walk = [[unzigzag(pairs[2 * i]), unzigzag(pairs[2 * i + 1])] for i in range(n)]
    for i, pair in zip(begins, both(len(begins), given), strict=True):
        walk[i] = pair
    far = [i for i, mark in marks.items() if mark == 255]
    if far:
        for i, pair in zip(far, both(len(far), given), strict=True):
            walk[i] = pair
    return begins, walk


def blocks_of_rings(n: int, grids: int, given: Bytes) -> tuple[dict[int, int], list[list[int]]]:
    count = given.varint(n)
    check(count > 0, "no ring")
    sizes = block(count, given)
    check(min(sizes) > 0 and sum(sizes) == n, "sizes")
    kinds = block(count, given) if grids > 1 else [0] * count
    begins = {sum(sizes[:i]): kind for i, kind in enumerate(kinds)}
    starts = iter(both(count, given))
    steps = iter(both(n - count, given) if n > count else [])
    return begins, [next(starts) if i in begins else next(steps) for i in range(n)]
