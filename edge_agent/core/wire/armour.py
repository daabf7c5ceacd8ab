"""A bundle: envelopes as one line of text that every hop leaves alone.

EdgeCore turns payloads into JSON strings twice: bytes that are not UTF-8 are destroyed, and Go
writes `<`, `>` and `&` as six characters each. Base85 in the alphabet of Python's `b85encode`, with
`&`, `<`, `>` replaced by `,`, `.`, `/`, has no quote, no backslash and none of those: 1.25
characters a byte all the way.

    ea1 <carrier node> <base85 of the envelopes, one after the other>
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.envelope import Envelope
from edge_agent.core.wire.outcome import Need, WireError

MAX_BUNDLE_CHARS: Final = 256_000
MAX_ENVELOPES: Final = 64
MAX_RAW_BYTES: Final = 1 << 24  # of all bodies together; records within their sizes have less
ALPHABET: Final = (
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%,()*+-;.=/?@^_`{|}~"
)
_HEAD = re.compile(rb"ea1 ([a-z0-9][a-z0-9-]{0,62}) ")
_LETTERS = np.frombuffer(ALPHABET, np.uint8)
_POWERS = np.array([85**4, 85**3, 85**2, 85, 1], np.uint64)
_NOT_A_DIGIT = 255
_DIGITS = np.full(256, _NOT_A_DIGIT, np.uint8)
_DIGITS[_LETTERS] = np.arange(85, dtype=np.uint8)


class Bundle(msgspec.Struct, frozen=True):
    """carrier: who sent it; the origin stands in each envelope. A `Need` ends or stands for one."""

    carrier: str
    contents: tuple[Envelope | Need, ...]


def arm(given: bytes) -> bytes:
    """Base85: four bytes, big-endian, to five letters; the last 1 to 3 bytes to one more."""
    short = -len(given) % 4
    words = np.frombuffer(given + bytes(short), ">u4").astype(np.uint64)
    digits = words[:, None] // _POWERS % np.uint64(85)
    letters: bytes = _LETTERS[digits.astype(np.intp)].tobytes()
    return letters[: len(letters) - short]


def disarm(given: bytes) -> bytes:
    """The inverse of `arm`, which is one to one.

    Raises: WireError.
    """
    digits = _DIGITS[np.frombuffer(given, np.uint8)]
    if (digits == _NOT_A_DIGIT).any():
        at = int(np.argmax(digits == _NOT_A_DIGIT))
        raise WireError(
            f"decode base85: letter {at}: expected one of 85, got {given[at : at + 1]!r}"
        )
    if len(given) % 5 == 1:
        raise WireError("decode base85: expected whole groups, got one letter at the end")
    short = -len(given) % 5
    padded = np.concatenate([digits, np.full(short, 84, np.uint8)]).reshape(-1, 5)
    words: NDArray[np.uint64] = (padded * _POWERS).sum(axis=1, dtype=np.uint64)
    if (words >> np.uint64(32)).any():
        raise WireError("decode base85: expected groups below 2**32, got a larger one")
    out = words.astype(">u4").tobytes()[: len(words) * 4 - short]
    if short and arm(out[len(out) // 4 * 4 :]) != given[len(given) // 5 * 5 :]:
        raise WireError("decode base85: expected the one spelling of the last group, got another")
    return out


def room_bytes(carrier: str) -> int:
    """How many bytes of envelopes one bundle of this carrier can hold."""
    chars = MAX_BUNDLE_CHARS - len(f"ea1 {carrier} ")
    return chars // 5 * 4


def pack(carrier: str, contents: Sequence[bytes]) -> bytes:
    """One payload of encoded envelopes. Raises ValueError beyond the bounds."""
    if not 1 <= len(contents) <= MAX_ENVELOPES:
        raise ValueError(
            f"bundle of {carrier}: expected 1 to {MAX_ENVELOPES} envelopes, got {len(contents)}"
        )
    payload = f"ea1 {carrier} ".encode() + arm(b"".join(contents))
    if len(payload) > MAX_BUNDLE_CHARS:
        raise ValueError(
            f"bundle of {carrier}: expected {MAX_BUNDLE_CHARS} characters, got {len(payload)}"
        )
    if not _HEAD.match(payload):
        raise ValueError(f"bundle: expected a carrier's name, got {carrier!r}")
    return payload


def carrier_of(payload: bytes) -> str:
    """Whom a payload names as its carrier, before anything of it is checked; "" for nobody."""
    head = _HEAD.match(payload)
    return head[1].decode() if head else ""


def unpack(payload: bytes) -> Bundle:
    """Everything in a bundle, or nothing.

    Raises: WireError.
    """
    if len(payload) > MAX_BUNDLE_CHARS:
        raise WireError(
            f"decode bundle: expected at most {MAX_BUNDLE_CHARS} characters, got {len(payload)}"
        )
    head = _HEAD.match(payload)
    if head is None:
        raise WireError(f"decode bundle: expected 'ea1 <node> ', got {bytes(payload[:16])!r}")
    given = disarm(payload[head.end() :])
    contents: list[Envelope | Need] = []
    at = 0
    while at < len(given):
        if len(contents) == MAX_ENVELOPES:
            raise WireError(f"decode bundle: expected at most {MAX_ENVELOPES} envelopes, got more")
        opened, at = envelopes.decode(given, at)
        contents.append(opened)
    if not contents:
        raise WireError("decode bundle: expected envelopes, got none")
    raw = sum(one.raw_len for one in contents if isinstance(one, Envelope))
    if raw > MAX_RAW_BYTES:
        raise WireError(f"decode bundle: expected bodies of {MAX_RAW_BYTES} bytes, got {raw}")
    return Bundle(head[1].decode(), tuple(contents))
