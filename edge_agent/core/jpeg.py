"""What a JPEG says of itself: its size, its components, its scans. Bytes in, facts out; no pixels.

SOI | APP0, APP14 | SOF: size, components | DHT, DRI | SOS: a scan | .. | EOI
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

SOI, EOI, SOS, DHT, DRI, APP0, APP14 = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD, 0xE0, 0xEE
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF of every process
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
SEQUENTIAL, PROGRESSIVE = (0xC0, 0xC1), 0xC2  # of those with Huffman codes and without loss
MAX_SCANS = 1024
BLOCK = 8  # px a side


class Damaged(ValueError):
    """A JPEG that is not whole; its words hold numbers only."""


class Component(msgspec.Struct, frozen=True):
    """ident: its number in the file. across, down: its sampling factors."""

    ident: int
    across: int
    down: int


class Code(msgspec.Struct, frozen=True):
    """A Huffman table. counts: codes of 1 to 16 bits. symbols: in the order of their codes."""

    counts: bytes
    symbols: bytes


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """An entropy-coded part: which components, which of their coefficients, and where.

    parts: (begin, end) in the data of each restart interval. first, last: coefficients in zigzag
    order. before, after: the bits of successive approximation.
    """

    components: tuple[int, ...]  # indices into `Facts.components`
    dc: tuple[Code | None, ...]
    ac: tuple[Code | None, ...]
    interval: int  # MCUs between restarts; 0: none
    first: int
    last: int
    before: int
    after: int
    parts: tuple[tuple[int, int], ...]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """size: [width, height] px. process: its SOF marker. adobe: the transform of APP14."""

    size: tuple[int, int]
    components: tuple[Component, ...]
    precision: int
    process: int
    adobe: int | None = None
    is_jfif: bool = False

    @property
    def is_subsampled(self) -> bool:
        """Whether components differ in resolution: then they are luma and chroma."""
        return len({(one.across, one.down) for one in self.components}) > 1

    @property
    def has_rgb_idents(self) -> bool:
        return bytes(one.ident & 0xFF for one in self.components) in (b"RGB", b"rgb")

    @property
    def mcu(self) -> tuple[int, int]:
        """[width, height] px of a minimum coded unit of all components."""
        across = max(one.across for one in self.components)
        down = max(one.down for one in self.components)
        return across * BLOCK, down * BLOCK


def facts(data: bytes) -> Facts:
    """Of the header alone. Raises: Damaged."""
    return _Reader(data).facts()


def scans(data: bytes) -> tuple[Facts, list[Scan]]:
    """All scans up to the end marker. Raises: Damaged, also where there is no end marker."""
    reader = _Reader(data)
    return reader.facts(), list(reader.scans())


def as_rgb(data: bytes) -> bytes:
    """A JPEG without markers of its colours, told to be RGB: names of components alone do not keep
    every decoder from converting it.
    """
    return data[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0" + data[2:]


class _Reader:
    """Goes through the markers once."""

    def __init__(self, data: bytes) -> None:
        if data[:2] != b"\xff\xd8":
            raise Damaged("no start of a JPEG")
        self._data = data
        self._at = 2
        self._facts: Facts | None = None
        self._adobe: int | None = None
        self._is_jfif = False
        self._codes: dict[int, Code] = {}  # by class and number, as in DHT
        self._interval = 0
        self._markers: list[int] | None = None

    def facts(self) -> Facts:
        """Reads on up to the first scan. Raises: Damaged."""
        while self._facts is None:
            marker, body = self._segment()
            if marker in (SOS, EOI):
                raise Damaged("a JPEG without a header of its frame")
            self._take(marker, body)
        while self._peek() not in (SOS, EOI):
            self._take(*self._segment())
        return msgspec.structs.replace(self._facts, adobe=self._adobe, is_jfif=self._is_jfif)

    def scans(self) -> Iterator[Scan]:
        """Raises: Damaged."""
        for _ in range(MAX_SCANS):
            marker, body = self._segment()
            while marker not in (SOS, EOI):
                self._take(marker, body)
                marker, body = self._segment()
            if marker == EOI:
                return
            yield self._scan(body)
        raise Damaged(f"a JPEG of more than {MAX_SCANS} scans")

    def _peek(self) -> int:
        """The marker here; fill bytes before it are passed over."""
        data, at = self._data, self._at
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 2 > len(data):
            raise Damaged(f"a JPEG without its end, of {len(data)} bytes")
        if data[at] != 0xFF or data[at + 1] == 0:
            raise Damaged(f"no marker at byte {at} of {len(data)}")
        self._at = at
        return data[at + 1]

    def _segment(self) -> tuple[int, bytes]:
        marker = self._peek()
        start = self._at + 2
        if marker in ALONE or marker == EOI:
            self._at = start
            return marker, b""
        length = int.from_bytes(self._data[start : start + 2], "big")
        if length < 2 or start + length > len(self._data):
            raise Damaged(f"a segment that does not end, at byte {start} of {len(self._data)}")
        self._at = start + length
        return marker, self._data[start + 2 : self._at]

    def _take(self, marker: int, body: bytes) -> None:
        if marker == DHT:
            self._take_codes(body)
        elif marker == DRI and len(body) >= 2:
            self._interval = int.from_bytes(body[:2], "big")
        elif marker == APP0 and body[:5] == b"JFIF\0":
            self._is_jfif = True
        elif marker == APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            self._adobe = body[11]
        elif marker in FRAMES:
            if self._facts is not None:
                raise Damaged("a second header of a frame inside one JPEG")
            self._facts = _frame(marker, body)

    def _take_codes(self, body: bytes) -> None:
        at = 0
        while at + 17 <= len(body):
            counts = body[at + 1 : at + 17]
            many = sum(counts)
            symbols = body[at + 17 : at + 17 + many]
            if len(symbols) < many or many > 256:
                break
            self._codes[body[at]] = Code(counts, symbols)
            at += 17 + many
        if at != len(body):
            raise Damaged("a Huffman table that does not fit its segment")

    def _scan(self, body: bytes) -> Scan:
        assert self._facts is not None
        idents = [one.ident for one in self._facts.components]
        many = body[0] if body else 0
        if not 1 <= many <= 4 or len(body) < 4 + 2 * many:
            raise Damaged("a scan of no component")
        chosen = [(body[1 + 2 * n], body[2 + 2 * n]) for n in range(many)]
        if any(ident not in idents for ident, _ in chosen):
            raise Damaged("a scan of a component that the frame lacks")
        first, last, bits = body[1 + 2 * many : 4 + 2 * many]
        return Scan(
            components=tuple(idents.index(ident) for ident, _ in chosen),
            dc=tuple(self._codes.get(tables >> 4) for _, tables in chosen),
            ac=tuple(self._codes.get(0x10 | tables & 15) for _, tables in chosen),
            interval=self._interval,
            first=first,
            last=last,
            before=bits >> 4,
            after=bits & 15,
            parts=tuple(self._parts()),
        )

    def _parts(self) -> Iterator[tuple[int, int]]:
        """The restart intervals from here to the next other marker, where reading goes on."""
        if self._markers is None:
            found = np.frombuffer(self._data, np.uint8)
            here, after = found[:-1], found[1:]
            self._markers = np.flatnonzero((here == 0xFF) & (after != 0) & (after != 0xFF)).tolist()
            self._markers.reverse()
        number = 0
        while self._markers:
            at = self._markers.pop()
            if at < self._at:
                continue
            yield self._at, at
            self._at = at
            marker = self._data[at + 1]
            if not 0xD0 <= marker <= 0xD7:
                return
            if marker & 7 != number & 7:
                raise Damaged(f"restart marker {marker & 7} where {number & 7} is due")
            self._at, number = at + 2, number + 1
        raise Damaged(f"a JPEG without its end, of {len(self._data)} bytes")


def _frame(process: int, body: bytes) -> Facts:
    many = body[5] if len(body) >= 6 else 0
    if not 1 <= many <= 4 or len(body) < 6 + 3 * many:
        raise Damaged("a header of a frame that is too short")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if not width or not height:
        raise Damaged(f"a JPEG of {width} x {height} px")
    parts = [body[6 + 3 * n : 9 + 3 * n] for n in range(many)]
    components = tuple(Component(ident, both >> 4, both & 15) for ident, both, _ in parts)
    if not all(1 <= one.across <= 4 and 1 <= one.down <= 4 for one in components):
        raise Damaged("sampling factors out of 1 to 4")
    return Facts(size=(width, height), components=components, precision=body[0], process=process)
