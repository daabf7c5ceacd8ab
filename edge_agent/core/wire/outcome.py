"""How decoding ends when it does not end in values."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_agent.core.errors import Rejected

SCHEMA = 1


class WireError(Rejected):
    """Bytes from outside are damaged, forged, or beyond a bound. Nothing of them was used."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """The bytes are whole, but made with something that is not here. Answered by a key or by a
    plain batch.

    a, b: first and last seq. name: of the document, or `stream/class` of the records.
    have: ids (hex16) of what could be used instead, newest first, at most 8. key: sealed for, or
    signed with, a key that the receiver does not have.
    """

    schema: int = SCHEMA
    node: str
    kind: str
    name: str
    epoch: int
    a: int
    b: int
    why: Literal["base", "dict", "version", "key"]
    have: tuple[str, ...] = ()


class Newer(WireError):
    """A newer agent wrote something here that must be understood; decoders turn it into `Need`."""
