"""The documents of the nodes: the last 8 of each name, as bases of what comes next.

Written inside the transaction of whoever calls; after one that failed, `forget` what it had read.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from edge_agent.core.errors import Overloaded, Rejected
from edge_agent.core.wire import documents
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Envelope
from edge_agent.core.wire.outcome import Need, WireError
from tools.hot_tier.database import Database
from tools.hot_tier.store import Shelf

MAX_NAMES: Final = 16  # of one node: what an acknowledgement can say
MAX_CACHED: Final = 256  # names in memory
MAX_CACHED_BYTES: Final = 32 << 20  # of their documents

Docs = dict[str, tuple[str, ...]]  # by name: hex16, oldest first


class Papers:
    """By node and name."""

    def __init__(self, db: Database) -> None:
        self._shelf = Shelf(db)
        self._receivers: OrderedDict[tuple[str, str], documents.Receiver] = OrderedDict()
        self._names: dict[str, list[str]] = {}
        self.forget()

    def forget(self) -> None:
        """Only what the database has is known."""
        self._receivers.clear()
        self._names.clear()
        for node, name in self._shelf.names():
            self._names.setdefault(node, []).append(name)

    def nodes(self) -> set[str]:
        return set(self._names)

    def take(self, carrier: str, envelope: Envelope, codecs: Codecs) -> Need | None:
        """Keeps the document, or says what it lacks.

        Raises: WireError, Rejected, Overloaded.
        """
        node, name = envelope.node, envelope.stream
        names = self._names.get(node, [])
        if carrier != node or not name:
            raise Rejected(f"take document of {node}: expected it from itself, with a name")
        if name not in names and len(names) >= MAX_NAMES:
            raise Overloaded(f"take document of {node}: expected at most {MAX_NAMES} names")
        document = self._receiver(node, name).decode(envelope, codecs)
        if isinstance(document, Need):
            return document
        try:
            documents.check(document)
        except WireError:
            del self._receivers[(node, name)]  # which has taken it for a base
            raise
        self._cut()
        number = (envelope.epoch, envelope.first)
        self._shelf.put(node, name, number=number, body=document, keep=documents.KEPT)
        if name not in names:
            self._names.setdefault(node, []).append(name)
        return None

    def newest(self, node: str, name: str) -> bytes:
        """b"" without any."""
        kept = self._shelf.kept(node, name)
        return max(kept)[2] if kept else b""

    def ids(self, node: str) -> Docs:
        return {name: self._receiver(node, name).ids for name in self._names.get(node, ())}

    def _receiver(self, node: str, name: str) -> documents.Receiver:
        key = (node, name)
        is_new = key not in self._receivers
        if is_new:
            kept = [body for _, _, body in self._shelf.kept(node, name)]
            self._receivers[key] = documents.Receiver(kept)
        self._receivers.move_to_end(key)
        if is_new:
            self._cut()
        return self._receivers[key]

    def _cut(self) -> None:
        """All but the newest may go."""
        size = sum(one.size_bytes for one in self._receivers.values())
        while len(self._receivers) > 1:
            if len(self._receivers) <= MAX_CACHED and size <= MAX_CACHED_BYTES:
                break
            size -= self._receivers.popitem(last=False)[1].size_bytes
