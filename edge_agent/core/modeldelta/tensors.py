"""Where the tensors lie in a package: a walk over tar headers and over the protobuf of ONNX files.

Only the publisher walks. Nothing here may refuse a file: what is no tar, no ONNX or oddly made has
no tensors, and goes as bytes. The decoder knows neither tar nor ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from edge_agent.core.modeldelta.lanes import WIDTH, Kind

BLOCK: Final = 512  # of a tar
MIN_TENSOR_BYTES: Final = 32  # below, its line in the table of spans costs what it saves
MAX_TENSORS: Final = 65_536  # of one package; what is beyond goes as bytes
MAX_DIMS: Final = 16
MAX_FIELDS: Final = 1 << 20  # of one message; what has more was hardly meant as one
_KINDS: Final = {  # TensorProto.DataType
    1: Kind.F32, 2: Kind.I8, 3: Kind.I8, 4: Kind.I16, 5: Kind.I16, 6: Kind.I32, 7: Kind.I64,
    10: Kind.F16, 11: Kind.F64, 12: Kind.I32, 13: Kind.I64, 16: Kind.BF16,
}  # fmt: skip
_VARINT, _FIXED64, _COUNTED, _FIXED32 = 0, 1, 2, 5
# Fields of onnx.proto: graph, initializer; graph, node, attribute, value.
_PATHS: Final = ((7, 5), (7, 1, 5, 5))
_DIMS, _TYPE, _FLOATS, _NAME, _RAW = 1, 2, 4, 8, 9

Span = tuple[int, int]  # from, to


class Member(NamedTuple):
    """A file of the package: its bytes are at `start` up to `end`."""

    name: bytes
    start: int
    end: int


class Tensor(NamedTuple):
    """The numbers of one tensor: `size` bytes at `at`."""

    member: bytes
    name: bytes
    kind: Kind
    dims: tuple[int, ...]
    at: int
    size: int


class NotThis(Exception):
    """These bytes are not what the walk took them for."""


def members(package: bytes) -> list[Member]:
    """The files of a tar in their order; the whole as one, without a name, where it is no tar."""
    found = []
    at = 0
    while package[at : at + 1].strip(b"\0"):
        header = package[at : at + BLOCK]
        size = _octal(header[124:136])
        if size is None or header[257:262] != b"ustar" or at + BLOCK + size > len(package):
            return [Member(b"", 0, len(package))]
        if header[156:157] in (b"0", b"\0"):
            name = header[345:500].rstrip(b"\0") + b"/" + header[:100].rstrip(b"\0")
            found.append(Member(name, at + BLOCK, at + BLOCK + size))
        at += BLOCK + -(-size // BLOCK) * BLOCK
    return found or [Member(b"", 0, len(package))]


def _octal(field: bytes) -> int | None:
    digits = field.rstrip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def tensors(package: bytes, files: list[Member]) -> list[Tensor]:
    """Every tensor of every ONNX file, in the order of their bytes, none overlapping another."""
    found: list[Tensor] = []
    for file in files:
        try:
            found += _model(package, file)
        except NotThis:
            continue
        if len(found) > MAX_TENSORS:
            break
    found.sort(key=lambda tensor: tensor.at)
    return found[:MAX_TENSORS]


def _model(package: bytes, file: Member) -> list[Tensor]:
    """Raises: NotThis."""
    found = []
    for path in _PATHS:
        parts = [(file.start, file.end)]
        for field in path:
            parts = [part for span in parts for part in _inside(package, span, field)]
        for part in parts:
            found += _tensor(package, file.name, part)
    return found


def _tensor(package: bytes, member: bytes, span: Span) -> list[Tensor]:
    """Nothing where its numbers are kept otherwise than as raw bytes, or are few."""
    name, kind, dims, numbers = b"", None, [], (0, 0)
    for field, wire, at, value in _fields(package, span):
        if field == _DIMS:
            dims += _numbers(package, wire, at, value)
        elif field == _TYPE and wire == _VARINT:
            kind = _KINDS.get(value)
        elif field == _NAME and wire == _COUNTED:
            name = package[at : at + value]
        elif field in (_RAW, _FLOATS) and wire == _COUNTED:
            numbers = (at, value)
    at, size = numbers
    if kind is None or size < MIN_TENSOR_BYTES or len(dims) > MAX_DIMS:
        return []
    if math.prod(dims) * WIDTH[kind] != size:
        return []
    return [Tensor(member, name, kind, tuple(dims), at, size)]


def _numbers(package: bytes, wire: int, at: int, value: int) -> list[int]:
    """One number, or the packed ones."""
    if wire == _VARINT:
        return [value]
    found: list[int] = []
    end = at + value
    while wire == _COUNTED and at < end and len(found) <= MAX_DIMS:
        number, at = _varint(package, at, end)
        found.append(number)
    return found


def _inside(package: bytes, span: Span, wanted: int) -> Iterator[Span]:
    """The messages that are field `wanted` of the message in `span`."""
    for field, wire, at, value in _fields(package, span):
        if field == wanted and wire == _COUNTED:
            yield at, at + value


def _fields(package: bytes, span: Span) -> Iterator[tuple[int, int, int, int]]:
    """(field, wire type, where its value begins, the number or the length).

    Raises: NotThis.
    """
    at, end = span
    for _ in range(MAX_FIELDS):
        if at >= end:
            return
        tag, at = _varint(package, at, end)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, after = _varint(package, at, end)
        elif wire == _COUNTED:
            value, at = _varint(package, at, end)
            after = at + value
        elif wire in (_FIXED64, _FIXED32):
            value = 8 if wire == _FIXED64 else 4
            after = at + value
        else:
            raise NotThis
        if not field or after > end:
            raise NotThis
        yield field, wire, at, value
        at = after
    raise NotThis


def _varint(package: bytes, at: int, end: int) -> tuple[int, int]:
    """(number, where the next byte is). Raises: NotThis."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise NotThis
        byte = package[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise NotThis
