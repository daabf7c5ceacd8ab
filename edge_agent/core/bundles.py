"""A payload to all that it says: `docs/wire.md`, read to the end, for people and for tests.

Envelope by envelope: records, a document, a probe, what is needed to read it, or what is wrong with
it. Nothing is kept but the last documents, as bases of those that follow. The hot tier has a desk
of its own, which writes and acknowledges; both end alike.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from edge_agent.core import probe as probes
from edge_agent.core.frames import AnyRecord
from edge_agent.core.wire import armour, bounds, documents, records
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.documents import Receiver
from edge_agent.core.wire.envelope import Envelope, Kind, short_id
from edge_agent.core.wire.outcome import Need, WireError

MAX_NAMES: Final = 16  # documents whose last 8 are kept, of 1 MiB at most each

Content = tuple[AnyRecord, ...] | bytes | probes.Probe | Need | WireError


class Part(msgspec.Struct, frozen=True):
    """One envelope. envelope: None where its head could not be read. content: records, the bytes of
    a document, a probe; or why it is none.
    """

    envelope: Envelope | None
    content: Content


class Bundle(msgspec.Struct, frozen=True):
    """Who published it, and what stood in it."""

    carrier: str
    parts: tuple[Part, ...]


class Bundles:
    """Reads payloads in their order. Not to be shared between threads."""

    def __init__(self, dictionaries: Iterable[bytes]) -> None:
        self._codecs = Codecs(dictionaries)
        self._documents: OrderedDict[tuple[str, str], tuple[bytes, ...]] = OrderedDict()
        self._room_bytes = 0  # of decoded records, in this bundle

    def open(self, payload: bytes) -> Bundle:
        """Everything in a bundle; what is wrong in one body costs that envelope.

        Raises: WireError when nothing of it may be used.
        """
        found = armour.unpack(payload)
        self._room_bytes = bounds.MAX_BUNDLE_BYTES
        parts = tuple(self._part(found.carrier, one) for one in found.contents)
        return Bundle(found.carrier, parts)

    def _part(self, carrier: str, content: Envelope | Need) -> Part:
        if isinstance(content, Need):
            named = content if content.node else msgspec.structs.replace(content, node=carrier)
            return Part(None, named)
        try:
            return Part(content, self._content(carrier, content))
        except WireError as error:
            return Part(content, error)

    def _content(self, carrier: str, envelope: Envelope) -> Content:
        readers: dict[Kind, Callable[[str, Envelope], Content]] = {
            Kind.RECORDS: self._records,
            Kind.DOCUMENT: self._document,
            Kind.PROBE: lambda _, asked: probes.decode(asked, self._codecs),
        }
        return readers[envelope.kind](carrier, envelope)

    def _records(self, _: str, envelope: Envelope) -> Content:
        found = records.decode(envelope, self._codecs)
        if isinstance(found, Need):
            return found
        left = self._room_bytes - sum(map(bounds.size_of, found))
        if left < 0:
            most = bounds.MAX_BUNDLE_BYTES
            raise WireError(f"decode bundle: expected at most {most} bytes of records, got more")
        self._room_bytes = left
        return found

    def _document(self, carrier: str, envelope: Envelope) -> Content:
        name = envelope.stream
        if carrier != envelope.node or not name:
            raise WireError(
                f"decode document: expected it from {envelope.node} itself, with a name, got "
                f"{name!r} from {carrier}"
            )
        kept = self._documents.get((carrier, name), ())
        document = Receiver(kept).decode(envelope, self._codecs)
        if isinstance(document, Need):
            return document
        documents.check(document)  # what is refused is no base either
        others = [one for one in kept if one != document]
        self._documents[carrier, name] = (*others, document)[-documents.KEPT :]
        self._documents.move_to_end((carrier, name))
        while len(self._documents) > MAX_NAMES:
            self._documents.popitem(last=False)
        return document


def id_of(document: bytes) -> str:
    """What names it as a base, hex16."""
    return short_id(document).hex()
