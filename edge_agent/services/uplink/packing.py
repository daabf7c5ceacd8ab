"""Records into cargo. One `Packer` per thread: the wire's compressors are not to be shared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from edge_agent.core.backfill import Want
from edge_agent.core.frames import AnyRecord, unpack
from edge_agent.core.lanes import Cargo, Span, key_of
from edge_agent.core.wire import envelope, records
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.dict_v1 import DICTIONARY_1

_json = msgspec.json.Encoder()
CLASS_BYTES = len(b',"class":""')


class Packer:
    """Encodes with the dictionary that the receiver announced, or plainly."""

    def __init__(self) -> None:
        self.codecs = Codecs((DICTIONARY_1,))
        self._plain = Codecs()

    def live(self, runs: Sequence[Sequence[AnyRecord]], dicts: Iterable[str]) -> list[Cargo]:
        """One envelope for each run, or a few. dicts: the dictionaries that may be used."""
        self.codecs.allow(dicts)
        return [cargo for run in runs for cargo in self._cargos(run, self.codecs, 1 << 20)]

    def backlog(
        self, rows: Sequence[tuple[int, bytes]], want: Want, dicts: Iterable[str]
    ) -> tuple[list[Cargo], int]:
        """What was read for a `Want`, and the bytes of its compact JSON. For a worker thread."""
        self.codecs.allow(dicts)
        codecs = self._plain if want.plain else self.codecs
        found = [unpack(body) for _, body in rows]
        cargos = [
            cargo for run in _runs(found) for cargo in self._cargos(run, codecs, want.max_bytes)
        ]
        return cargos, json_bytes(found)

    def _cargos(self, run: Sequence[AnyRecord], codecs: Codecs, max_bytes: int) -> Iterator[Cargo]:
        made = [(each, envelope.encode(each)) for each in records.encode_all(run, codecs)]
        if len(run) > 1 and sum(map(_payload_bytes, (body for _, body in made))) > max_bytes:
            half = len(run) // 2
            yield from self._cargos(run[:half], codecs, max_bytes)
            yield from self._cargos(run[half:], codecs, max_bytes)
            return
        for each, body in made:
            span = Span(key_of(run[0]), each.first, each.last)
            oldest_us = run[each.first - run[0].seq].at_us
            yield Cargo(span, _payload_bytes(body), body, 0, oldest_us)


def json_bytes(found: Iterable[AnyRecord]) -> int:
    """Of the same records as compact JSON, one by one."""
    return sum(len(_json.encode(r)) + CLASS_BYTES + len(r.klass.value) for r in found)


def _payload_bytes(body: bytes) -> int:
    return -(-len(body) * 5 // 4)


def _runs(found: Sequence[AnyRecord]) -> Iterator[Sequence[AnyRecord]]:
    """Runs of consecutive seqs."""
    start = 0
    for at in range(1, len(found) + 1):
        if at == len(found) or found[at].seq != found[at - 1].seq + 1:
            yield found[start:at]
            start = at
