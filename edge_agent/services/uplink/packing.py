"""Records into cargo. One `Packer` per thread: the wire's compressors are not to be shared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from edge_agent.core.backfill import Want
from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import AnyRecord, unpack
from edge_agent.core.lanes import Cargo, Span, key_of
from edge_agent.core.logbook import LogKey
from edge_agent.core.wire import envelope, records
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import Envelope

Encode = Callable[[Envelope], bytes]  # may raise Overloaded, ValueError

_json = msgspec.json.Encoder()
CLASS_BYTES = len(b',"class":""')
SLACK: Final = 1.5  # beyond what was wanted: encoding anew costs more than a debt to the governor
MAX_CARGO_BYTES: Final = 120_000  # of payload; with as much of live records it fits into one


class Packed(NamedTuple):
    """raw_bytes: of the records' compact JSON. unfit: seqs that no envelope can hold. wide: seqs
    and bytes of payload of those that are too large for the road, each alone.
    """

    cargos: list[Cargo]
    raw_bytes: int
    unfit: list[int]
    wide: list[tuple[int, int]]


class Bounds(NamedTuple):
    """Bytes of payload: of what has more than one record, and of anything."""

    most: int
    hard: int


class Wrap(NamedTuple):
    """How records become bytes."""

    codecs: Codecs
    encode: Encode


class Packer:
    """Encodes with the dictionary and codings that the receiver announced, or plainly.

    encode: an envelope into its bytes, sealed and signed where that is wanted.
    """

    def __init__(self, encode: Encode = envelope.encode) -> None:
        self.codecs = Codecs((DICTIONARY_1,))
        self._plain = Codecs()
        self._encode = encode

    def allow(self, dicts: Iterable[str], codings: Iterable[int]) -> None:
        """What the receiver announced last; not while a thread is packing."""
        self.codecs.allow(dicts, codings)

    def live(
        self, runs: Sequence[Sequence[AnyRecord]], hard_bytes: int | None = None
    ) -> list[Cargo]:
        """One envelope for each run, or a few. hard_bytes: what the road takes in one payload.

        What no envelope can hold is left out: it is met again in the spool.
        """
        wrap = Wrap(self.codecs, self._encode)
        most = min(hard_bytes or MAX_CARGO_BYTES, MAX_CARGO_BYTES)
        bounds, left = Bounds(most, most), Packed([], 0, [], [])
        return [c for run in runs for c in _cargos(run, wrap, bounds, left)]

    def backlog(self, rows: Sequence[tuple[int, bytes]], want: Want) -> Packed:
        """What was read for a `Want`. For a worker thread."""
        wrap = Wrap(self._plain if want.plain else self.codecs, self._encode)
        left = Packed([], 0, [], [])
        found = list(_readable(want.key, rows, left.unfit))
        hard = min(want.hard_bytes or MAX_CARGO_BYTES, MAX_CARGO_BYTES)
        bounds = Bounds(min(int(SLACK * want.max_bytes), hard), hard)
        cargos = [cargo for run in _runs(found) for cargo in _cargos(run, wrap, bounds, left)]
        gone = {*left.unfit, *(seq for seq, _ in left.wide)}
        raw_bytes = json_bytes(r for r in found if r.seq not in gone)
        return left._replace(cargos=cargos, raw_bytes=raw_bytes)


def _readable(
    key: LogKey, rows: Iterable[tuple[int, bytes]], unfit: list[int]
) -> Iterator[AnyRecord]:
    """Those that are what their row says; a newer agent may have written others."""
    for seq, body in rows:
        try:
            record = unpack(body)
        except msgspec.MsgspecError:
            unfit.append(seq)
            continue
        if record.seq == seq and key_of(record) == key:
            yield record
        else:
            unfit.append(seq)


def _cargos(run: Sequence[AnyRecord], wrap: Wrap, bounds: Bounds, left: Packed) -> Iterator[Cargo]:
    """Halves until each fits; a single record may be larger than `bounds.most`. What does not fit
    is put down in `left`.
    """
    body, weight = _envelope(run, wrap)
    size = _payload_bytes(body)
    if body and size <= (bounds.most if len(run) > 1 else bounds.hard):
        span = Span(key_of(run[0]), run[0].seq, run[-1].seq)
        yield Cargo(span, size, body, 0, run[0].at_us, weight)
    elif len(run) > 1:
        half = len(run) // 2
        yield from _cargos(run[:half], wrap, bounds, left)
        yield from _cargos(run[half:], wrap, bounds, left)
    elif body and size <= MAX_CARGO_BYTES:
        left.wide.append((run[0].seq, size))
    else:
        left.unfit.append(run[0].seq)


def _envelope(run: Sequence[AnyRecord], wrap: Wrap) -> tuple[bytes, int]:
    """The envelope, and what it weighs (`Cargo`); b"" when it would be beyond the bounds of one, or
    when it can't be said in one.
    """
    try:
        found, weight = records.encode_weighed(run, wrap.codecs)
        return wrap.encode(found), weight
    except (Overloaded, ValueError):
        return b"", 0


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
