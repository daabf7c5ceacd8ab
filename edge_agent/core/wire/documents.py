"""The status document: latest wins, sent as what changed since one that the receiver has.

The sender takes as base only what was acknowledged, never what was merely sent: a lost message
costs bytes, never the document. Both sides keep the last 8. The delta is a zstd frame with the base
as its prefix; base and result are named in the envelope by their hash, and a result that does not
have its hash is not handed out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import zstandard

from edge_agent.core.errors import Overloaded
from edge_agent.core.wire.codec import Codecs, compressor, unzstd
from edge_agent.core.wire.envelope import (
    NO_ID,
    Codec,
    Envelope,
    Kind,
    need,
    short_id,
)
from edge_agent.core.wire.outcome import Need, WireError

KEPT: Final = 8
MAX_DOCUMENT_BYTES: Final = 1 << 18
MAX_DEPTH: Final = 64  # lists and objects inside one another
PREFIX_LEVEL: Final = 19  # once in ten seconds, on some kB: 1 ms for 4 bytes in 60
_sorted = msgspec.json.Encoder(order="sorted")


def canonical(document: Any) -> bytes:
    """Compact JSON with sorted keys: equal documents are equal bytes."""
    return _sorted.encode(document)


def prefix(base: bytes) -> zstandard.ZstdCompressionDict:
    """The base as bytes in front of the content, whatever they look like."""
    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


class Sender:
    """The edge's end of one document. Documents of one name and epoch, numbered from 1."""

    def __init__(self, node: str, name: str, epoch: int) -> None:
        self._node = node
        self._name = name
        self._epoch = epoch
        self._number = 0
        self._sent: dict[bytes, bytes] = {}  # id to document, oldest first; not acknowledged
        self._bases: dict[bytes, bytes] = {}  # acknowledged, oldest first

    def encode(self, document: bytes, codecs: Codecs) -> Envelope:
        """A delta where that is shorter than the document itself, else a key.

        Raises: Overloaded beyond 256 KiB.
        """
        if len(document) > MAX_DOCUMENT_BYTES:
            raise Overloaded(
                f"encode document {self._name}: expected {MAX_DOCUMENT_BYTES} bytes, "
                f"got {len(document)}"
            )
        self._number += 1
        name = short_id(document)
        if name not in self._bases:
            _keep(self._sent, name, document)
        codec, ref, body = codecs.squeeze(document)
        result = NO_ID
        base = next(reversed(self._bases), NO_ID)
        if base:
            delta = compressor(PREFIX_LEVEL, prefix(self._bases[base])).compress(document)
            if len(delta) + len(base) + len(name) < len(body) + len(ref):
                codec, ref, result, body = Codec.P, base, name, delta
        return Envelope(
            kind=Kind.DOCUMENT,
            codec=codec,
            node=self._node,
            stream=self._name,
            epoch=self._epoch,
            first=self._number,
            count=1,
            raw_len=len(document),
            ref=ref,
            result=result,
            body=body,
        )

    def acknowledge(self, ids: Iterable[str]) -> None:
        """What the receiver holds now, oldest first, hex16: all of it, in place of what it held.

        Unknown ids, and all that is no id, are passed over.
        """
        known = {**self._bases, **self._sent}
        held = {key: known[key] for key in map(_unhex, ids) if key in known}
        self._bases = dict(list(held.items())[-KEPT:])
        for key in held:
            self._sent.pop(key, None)

    def forget(self, have: Iterable[str]) -> None:
        """Answers `need`: what is not in `have` is no base any more."""
        there = set(map(_unhex, have))
        self._bases = {key: base for key, base in self._bases.items() if key in there}


class Receiver:
    """The other end of one document: the newest, and the last 8 as bases."""

    def __init__(self, kept: Iterable[bytes] = ()) -> None:
        """kept: documents from before a restart, oldest first."""
        self._bases = {short_id(document): document for document in list(kept)[-KEPT:]}
        self._latest = (0, 0)
        self.document = next(reversed(self._bases.values()), b"")

    @property
    def ids(self) -> tuple[str, ...]:
        """What to acknowledge, oldest first, hex16."""
        return tuple(name.hex() for name in self._bases)

    @property
    def size_bytes(self) -> int:
        """Of all that is kept."""
        return sum(map(len, self._bases.values()))

    def decode(self, envelope: Envelope, codecs: Codecs) -> bytes | Need:
        """The document in this envelope; `document` is it, unless a later one was here before.

        Raises: WireError.
        """
        if envelope.kind is not Kind.DOCUMENT:
            raise WireError(f"decode document: expected a document, got {envelope.kind.name}")
        document = self._expand(envelope, codecs)
        if isinstance(document, Need):
            return document
        _keep(self._bases, short_id(document), document)
        if (envelope.epoch, envelope.first) >= self._latest:
            self._latest = (envelope.epoch, envelope.first)
            self.document = document
        return document

    def _expand(self, envelope: Envelope, codecs: Codecs) -> bytes | Need:
        if envelope.raw_len > MAX_DOCUMENT_BYTES:
            raise WireError(
                f"decode document {envelope.stream}: expected {MAX_DOCUMENT_BYTES} bytes, "
                f"got {envelope.raw_len}"
            )
        if envelope.codec is not Codec.P or envelope.is_sealed:
            return codecs.expand(envelope)
        base = self._bases.get(envelope.ref)
        if base is None:
            return need(envelope, "base", tuple(reversed(self.ids)))
        document = unzstd(envelope.body, envelope.raw_len, prefix(base))
        if short_id(document) != envelope.result:
            raise WireError(
                f"decode document {envelope.stream}: expected {envelope.result.hex()}, "
                f"got {short_id(document).hex()}"
            )
        return document


def check(document: bytes) -> None:
    """That it is an object in JSON, and not too deep for whoever reads it.

    Raises: WireError.
    """
    try:
        inner: list[Any] = [msgspec.json.decode(document, type=dict[str, Any])]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(
            f"decode document: expected an object in JSON: {str(error)[:200]}"
        ) from None
    for _ in range(MAX_DEPTH):
        inner = [value for one in inner for value in _values(one) if isinstance(value, dict | list)]
    if inner:
        raise WireError(f"decode document: expected a depth of at most {MAX_DEPTH}, got more")


def _values(one: Any) -> Iterable[Any]:
    return one.values() if isinstance(one, dict) else one


def _keep(documents: dict[bytes, bytes], name: bytes, document: bytes) -> None:
    """As the newest of at most 8."""
    documents.pop(name, None)
    documents[name] = document
    while len(documents) > KEPT:
        del documents[next(iter(documents))]


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return NO_ID
