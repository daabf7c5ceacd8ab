"""Numbers and names as bytes: LEB128 varints, zigzag, counted text; and a bounded reader."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.core.wire.outcome import WireError

MAX_VARINT_BYTES = 10
MASK = (1 << 64) - 1
_SINGLE = [bytes((value,)) for value in range(0x80)]


def varint(value: int) -> bytes:
    """LEB128: seven bits a byte, least significant first, the top bit set on all but the last.

    value: 0 to 2**64 - 1.
    """
    if 0 <= value < 0x80:
        return _SINGLE[value]
    if 0 <= value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if not 0 <= value <= MASK:
        raise ValueError(f"varint: expected 0 to 2**64 - 1, got {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varints(values: Sequence[int]) -> bytes:
    """Of all of them, one after the other."""
    if values and min(values) >= 0 and max(values) < 0x80:
        return bytes(values)
    return b"".join(map(varint, values))


def zigzag(value: int) -> int:
    """0, -1, 1, -2 ... to 0, 1, 2, 3 ... value: -2**63 to 2**63 - 1."""
    return ((value << 1) ^ (value >> 63)) & MASK


def wrap(value: int) -> int:
    """Modulo 2**64 into -2**63 to 2**63 - 1."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def signed(value: int) -> bytes:
    """A zigzag varint."""
    return varint(value << 1 if value >= 0 else ~(value << 1))


def text(value: str) -> bytes:
    """UTF-8 behind its length in bytes."""
    encoded = value.encode()
    return varint(len(encoded)) + encoded


class Reader:
    """Walks over bytes and never past their end.

    Every method raises WireError on bytes that are too short or malformed. longest: bytes of the
    longest text of a column so far, for whoever bounds what a column is repeated to.
    """

    __slots__ = ("_bytes", "_end", "at", "longest", "what")

    def __init__(self, given: bytes, what: str, at: int = 0) -> None:
        self._bytes = given
        self._end = len(given)
        self.at = at
        self.what = what
        self.longest = 0

    @property
    def left(self) -> int:
        return self._end - self.at

    def fail(self, expected: str, got: object) -> WireError:
        """The error to raise here."""
        return WireError(f"decode {self.what}: byte {self.at}: expected {expected}, got {got}")

    def u8(self) -> int:
        at = self.at
        if at >= self._end:
            raise self.fail("a byte", "the end")
        self.at = at + 1
        return self._bytes[at]

    def take(self, size_bytes: int) -> bytes:
        """A copy of the next bytes; the size is checked before anything is copied."""
        if size_bytes > self.left:
            raise self.fail(f"{size_bytes} bytes", f"{self.left}")
        piece = self._bytes[self.at : self.at + size_bytes]
        self.at += size_bytes
        return piece

    def peek(self, size_bytes: int) -> bytes:
        """A copy of the next bytes, as many of them as there are."""
        return self._bytes[self.at : self.at + size_bytes]

    def varint(self, most: int = MASK) -> int:
        """The shortest form only: a number has one spelling."""
        at = self.at
        value = self._bytes[at] if at < self._end else 0x80
        if value < 0x80:
            self.at = at + 1
        else:
            value = self._long(at)
        if value > most:
            raise self.fail(f"a number up to {most}", value)
        return value

    def _long(self, start: int) -> int:
        """A varint of more than one byte."""
        value = shift = 0
        for at in range(start, min(start + MAX_VARINT_BYTES, self._end)):
            byte = self._bytes[at]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                self.at = at + 1
                if not byte:
                    raise self.fail("a varint in its shortest form", "a padded one")
                return value
        if self._end - start < MAX_VARINT_BYTES:
            raise self.fail("a byte", "the end")
        raise self.fail(f"a varint of at most {MAX_VARINT_BYTES} bytes", "a longer one")

    def signed(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def text(self, most_bytes: int) -> str:
        encoded = self.take(self.varint(most_bytes))
        try:
            return encoded.decode()
        except UnicodeDecodeError as error:
            raise self.fail("UTF-8", encoded[:16].hex()) from error

    def end(self) -> None:
        if self.left:
            raise self.fail("the end", f"{self.left} bytes more")
