"""Coding 128 of table 7: rings as steps on a grid; what has to be read, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_agent.core.wire.cursor import signed, varint, zigzag
from tools.wire_vectors.bad import bad
from tools.wire_vectors.good import one
from tools.wire_vectors.hand import Column, Vector, block, bundle, int_, kinds, of_class

Point = tuple[int, int]


def axis(scale: int, below: int, offset: int, *between: int) -> bytes:
    cut = varint(len(between) // 2) + b"".join(map(signed, between))
    return varint(scale) + varint(below) + signed(offset) + cut


EIGHTHS = axis(8, 1, 4)  # the middle of each px
GRIDS = varint(1) + EIGHTHS * 2


def pairs(points: Sequence[Point]) -> bytes:
    return block([x for x, _ in points]) + block([y for _, y in points])


def step(x: int, y: int) -> bytes:
    return bytes((zigzag(x), zigzag(y)))


START, FAR, NONE = b"\xf0\x00", b"\xff\x00", b"\x00"
SQUARE = START + step(5, 0) + step(0, 5) + step(-5, 0)


def contours(content: bytes, *sizes: int, **more: Column) -> bytes:
    """One object whose mask has rings of so many points."""
    box = {n: int_(0) for n in (7, 8, 9, 10, 11)}
    mask = {2: int_(len(sizes)), **{n: int_(0) for n in range(4, 9)}}
    rings = (6, len(sizes), {1: (5, block([2 * size for size in sizes]))})
    points = {1: (128, varint(len(content)) + content), **{int(n[1:]): c for n, c in more.items()}}
    return bundle(of_class(
        "result", 1, kinds(0), (2, 1, {18: int_(1)}), (4, 1, {2: int_(1), **box}), (5, 1, mask),
        rings, (7, sum(sizes), points),
    ))  # fmt: skip


def good() -> Iterator[Vector]:
    yield one("bytes", "a square on the middles of px: (84, 84) and three steps of 40",
              contours(GRIDS + NONE + SQUARE + pairs([(10, 10)]) + NONE, 4))  # fmt: skip
    far = START + FAR + step(-1, 1) + START + step(2, 2)
    walk = pairs([(0, 0), (-3, 7)]) + pairs([(1000, -1000)])
    yield one("bytes-far", "two rings, a far step in the first",
              contours(GRIDS + NONE + far + walk + NONE, 3, 2))  # fmt: skip
    grids = varint(2) + EIGHTHS * 2 + axis(16, 3, -1) + axis(7, 2, 0, 1, 20)
    walk = varint(2) + block([2, 4]) + block([0, 1])
    walk += pairs([(1, 2), (3, 0)]) + pairs([(1, 1), (1, 1), (1, 2), (-3, 4)])
    patches = varint(2) + varint(0) + signed(1) + signed(-1) + varint(3) + signed(0) + signed(5)
    yield one("blocks", "two grids: thirds, halves to the even one, cut at 1 and 20; two patches",
              contours(grids + b"\x01" + walk + patches, 2, 4))  # fmt: skip


def wrong() -> Iterator[Vector]:
    walk = SQUARE + pairs([(10, 10)])
    one_ring = GRIDS + b"\x01" + varint(1) + block([5]) + pairs([(0, 0)]) + pairs([(1, 1)] * 3)
    no_size = varint(2) + block([0, 4]) + pairs([(0, 0)] * 2) + pairs([(1, 1)] * 2)
    cases = {
        "short": GRIDS + NONE + walk,
        "behind": GRIDS + NONE + walk + NONE * 2,
        "9-grids": varint(9) + EIGHTHS * 18 + NONE + walk + NONE,
        "form-2": GRIDS + b"\x02" + walk + NONE,
        "scale-0": varint(1) + axis(0, 1, 0) + EIGHTHS + NONE + walk + NONE,
        "below-0": varint(1) + axis(1, 0, 0) + EIGHTHS + NONE + walk + NONE,
        "bounds-fall": varint(1) + axis(8, 1, 0, 9, 8) + EIGHTHS + NONE + walk + NONE,
        "offset": varint(1) + axis(8, 1, (1 << 53) + 1) + EIGHTHS + NONE + walk + NONE,
        "no-start": GRIDS + NONE + step(1, 1) * 4 + NONE,
        "grid-beyond": GRIDS + NONE + b"\xf1\x00" + SQUARE[2:] + pairs([(10, 10)]) + NONE,
        "behind-a-mark": GRIDS + NONE + b"\xf0\x01" + SQUARE[2:] + pairs([(10, 10)]) + NONE,
        "sizes": one_ring + NONE,
        "size-0": GRIDS + b"\x01" + no_size + NONE,
        "step": GRIDS + NONE + SQUARE + pairs([((1 << 40) + 1, 0)]) + NONE,
        "line": GRIDS + NONE + SQUARE + pairs([((1 << 32) + 1, 0)]) + NONE,
        "patch-row": GRIDS + NONE + walk + varint(1) + varint(4) + signed(0) * 2,
        "patch": GRIDS + NONE + walk + varint(1) + varint(0) + signed((1 << 40) + 1) + signed(0),
    }  # fmt: skip
    for name, content in cases.items():
        yield bad("rings", contours(content, 4), name=f"rings-{name}")
    yield bad("rings", contours(GRIDS + NONE + walk + NONE, 4, f2=int_(1)), name="rings-beside-y")


FILES = {"contours": good, "errors-contours": wrong}
