"""Sealed and signed envelopes: who may read a body, and who says so. Pure; keys are behind ports.

A seal hides the body alone: head, extensions and sizes stay readable, so that a carrier can route
what it cannot read. The body is sealed after its codec and bound to the head, so that nothing of
the head can be changed. A signature speaks of everything in the envelope but itself and the check.
`docs/wire.md` has the bytes. No replay is kept out here: records are known by their ids.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from edge_agent.core.errors import Overloaded
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.envelope import (
    ID_BYTES,
    MAX_BODY_BYTES,
    SUITE,
    TAG_BYTES,
    Envelope,
    Ext,
    need,
)
from edge_agent.core.wire.outcome import Need

SIGNATURE_BYTES: Final = 64
SEAL_COST_BYTES: Final = 2 + 1 + ID_BYTES + 32 + TAG_BYTES  # of an envelope, before the armour
SIGNATURE_COST_BYTES: Final = 2 + 1 + ID_BYTES + SIGNATURE_BYTES
_CONTEXT: Final = b"edge-agent envelope 1\n"  # no signature over anything else is one of these


class Sealer(Protocol):
    """Hides bytes from all but one receiver. id: 8 B, names its key."""

    @property
    def id(self) -> bytes: ...

    def seal(self, plain: bytes, head: bytes) -> tuple[bytes, bytes]:
        """(ephemeral key of 32 B, fresh for each call; `plain` sealed, bound to `head`)."""
        ...


class Opener(Protocol):
    """The receiver's keys. ids: of all that it holds, newest first."""

    @property
    def ids(self) -> Sequence[bytes]: ...

    def open(self, key: bytes, ephemeral: bytes, sealed: bytes, head: bytes) -> bytes:
        """Raises: WireError when it was not sealed for this head; KeyError for a key not held."""
        ...


class Signer(Protocol):
    """One private key. id: 8 B, names its public half."""

    @property
    def id(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes:
        """64 B."""
        ...


class Verifier(Protocol):
    """The public keys of one other side. ids: of all of them, newest first."""

    @property
    def ids(self) -> Sequence[bytes]: ...

    def verify(self, key: bytes, signature: bytes, message: bytes) -> bool:
        """False for a key that is not among them."""
        ...


class Protection(NamedTuple):
    """What a sender does to each envelope; by default nothing."""

    sealer: Sealer | None = None
    signer: Signer | None = None

    def encode(self, envelope: Envelope) -> bytes:
        """The envelope as it goes out, check included.

        Raises: Overloaded when no room is left for a seal; ValueError as `envelope.encode`.
        """
        if self.sealer is not None:
            envelope = sealed(envelope, self.sealer)
        if self.signer is not None:
            envelope = signed(envelope, self.signer)
        return envelopes.encode(envelope)


PLAIN: Final = Protection()


class RoadKeys(NamedTuple):
    """What one end has of keys. verifier: of the other end; None: nothing is checked."""

    protection: Protection = PLAIN
    verifier: Verifier | None = None


class Signed(enum.Enum):
    """What can be said of a signature."""

    ABSENT = "unsigned"
    UNKNOWN = "signed with a key that is not enrolled"
    WRONG = "signed wrongly"
    GOOD = "signed"


def sealed(envelope: Envelope, sealer: Sealer) -> Envelope:
    """Raises: Overloaded."""
    if len(envelope.body) + TAG_BYTES > MAX_BODY_BYTES:
        raise Overloaded(
            f"seal envelope of {envelope.node}: expected at most {MAX_BODY_BYTES - TAG_BYTES} "
            f"bytes, got {len(envelope.body)}"
        )
    ephemeral, body = sealer.seal(envelope.body, envelopes.head(envelope))
    value = SUITE + sealer.id + ephemeral
    ext = (*envelope.ext, (int(Ext.SEAL), value))
    return msgspec.structs.replace(envelope, body=body, ext=ext)


def opened(envelope: Envelope, opener: Opener | None) -> Envelope | Need:
    """Without its seal. `Need` when it was sealed for a key that is not here.

    Raises: WireError when the body was not sealed for this head.
    """
    value = envelope.extension(Ext.SEAL)
    if not value:
        return envelope
    key, ephemeral = value[1 : 1 + ID_BYTES], value[1 + ID_BYTES :]
    held = () if opener is None else opener.ids
    if opener is None or key not in held:
        return need(envelope, "key", tuple(one.hex() for one in held))
    body = opener.open(key, ephemeral, envelope.body, envelopes.head(envelope))
    ext = tuple(one for one in envelope.ext if one[0] != Ext.SEAL)
    return msgspec.structs.replace(envelope, body=body, ext=ext)


def signed(envelope: Envelope, signer: Signer) -> Envelope:
    """As the last extension; whatever was sealed is sealed by now."""
    blank = _with(envelope, SUITE + signer.id + bytes(SIGNATURE_BYTES))
    signature = signer.sign(_CONTEXT + envelopes.unchecked(blank))
    return _with(envelope, SUITE + signer.id + signature)


def verdict(envelope: Envelope, verifier: Verifier) -> Signed:
    """Of an envelope as it came, seal and all."""
    value = envelope.extension(Ext.SIGNATURE)
    if not value:
        return Signed.ABSENT
    key, signature = value[1 : 1 + ID_BYTES], value[1 + ID_BYTES :]
    if key not in verifier.ids:
        return Signed.UNKNOWN
    blank = _with(envelope, SUITE + key + bytes(SIGNATURE_BYTES))
    message = _CONTEXT + envelopes.unchecked(blank)
    return Signed.GOOD if verifier.verify(key, signature, message) else Signed.WRONG


def _with(envelope: Envelope, value: bytes) -> Envelope:
    others = tuple(one for one in envelope.ext if one[0] != Ext.SIGNATURE)
    return msgspec.structs.replace(envelope, ext=(*others, (int(Ext.SIGNATURE), value)))
