"""What an operator asks of a spool: read all of it, carry it away, take the receiver's word back.

It moves nothing by itself: records leave the spool by the receiver's acknowledgement alone.
Implements `ports.DurableSpool`.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import anyio
import anyio.to_thread

from edge_agent import logs
from edge_agent.core import carriage
from edge_agent.core.carriage import Packed
from edge_agent.core.edgecore import LogAck
from edge_agent.core.errors import LinkDenied, Overloaded, Rejected
from edge_agent.core.logbook import Ack, LogKey
from edge_agent.core.ranges import count, intersect, union
from edge_agent.core.wire.codec import CODINGS, Codecs
from edge_agent.core.wire.sealing import Protection, RoadKeys
from edge_agent.stores.spool.limits import Page
from edge_agent.stores.spool.spool import DiskSpool

APPLY_S = 60.0  # for the rows to go; what is left then goes later

log = logs.get("spool")


class Courier:
    """One request at a time. secret: of this state directory, for the nonces of exports. keys:
    reads those of the road, may raise LinkDenied; None: there are none.
    """

    def __init__(
        self,
        spool: DiskSpool,
        *,
        node: str,
        secret: bytes,
        keys: Callable[[], RoadKeys] | None = None,
    ) -> None:
        self._spool, self._node, self._secret, self._keys = spool, node, secret, keys
        self._busy = ""

    async def verify(self) -> Mapping[str, int]:
        """Reads everything pending: `records` sound ones, `corrupt` found damaged, void since.

        Raises: Overloaded, Damaged.
        """
        with self._alone("verify"):
            found = await self._spool.backlog.verify()
        return {"records": found.records, "corrupt": found.corrupt}

    async def export(self, *, plain: bool = False) -> AsyncGenerator[bytes, None]:
        """The lines of an export (`core.carriage`), read as they are taken. plain: without codings
        that a receiver from before does not know; it says then that it needs a newer version.

        Raises: Rejected when it has to be sealed or signed and the keys can't be read;
        Overloaded, Damaged.
        """
        with self._alone("export"):
            keys = await anyio.to_thread.run_sync(self._read_keys)
            codecs = Codecs()  # no dictionary: who will read it said nothing of any
            codecs.allow((), () if plain else CODINGS)
            nonce = carriage.mint(
                self._node, self._secret, secrets.token_bytes(carriage.RANDOM_BYTES)
            )
            unfit = 0
            async for page in self._spool.backlog.pages():
                packed = await anyio.to_thread.run_sync(self._pack, page, codecs, keys.protection)
                unfit += packed.unfit
                for bundle in packed.bundles:
                    yield bundle + b"\n"
            if unfit:
                log.warning("records that nobody can read stay here", records=unfit)
            for bundle in await anyio.to_thread.run_sync(
                self._seal, nonce, codecs, keys.protection
            ):
                yield bundle + b"\n"

    async def apply(self, content: bytes) -> Mapping[str, int]:
        """Takes the acknowledgements of a file, all or none.

        `logs` named, `records` that went, `settled` logs that are no longer in the books.
        Raises: Rejected, Overloaded, Damaged.
        """
        with self._alone("import"):
            keys = await anyio.to_thread.run_sync(self._read_keys)
            said = carriage.read_acks(self._node, content, self._secret, keys.verifier)
            named = joined(one for ack in said for one in ack.acks)
            acks = [ack for ack in named if self._spool.log(ack.key) is not None]
            records = sum(map(self._claimed, acks))
            self._spool.acknowledge(acks)
            with anyio.move_on_after(APPLY_S):
                await self._spool.backlog.applied()
            records -= sum(map(self._claimed, acks))
        return {"logs": len(named), "settled": len(named) - len(acks), "records": records}

    @contextmanager
    def _alone(self, verb: str) -> Iterator[None]:
        if self._busy:
            raise Overloaded(f"{verb} spool: {self._busy} is under way", hint="wait for its end")
        self._busy = verb
        try:
            yield
        finally:
            self._busy = ""

    def _read_keys(self) -> RoadKeys:
        try:
            return self._keys() if self._keys is not None else RoadKeys()
        except LinkDenied as error:
            raise Rejected(error.what, hint=error.hint) from None

    def _pack(self, page: Page, codecs: Codecs, way: Protection) -> Packed:
        return carriage.pack_rows(self._node, page.key, page.rows, codecs, encode=way.encode)

    def _seal(self, nonce: str, codecs: Codecs, way: Protection) -> list[bytes]:
        epoch, logs = self._spool.epoch, self._spool.logs()
        return carriage.seal(
            self._node, logs, epoch=epoch, nonce=nonce, codecs=codecs, encode=way.encode
        )

    def _claimed(self, ack: Ack) -> int:
        """Records still here that the receiver holds."""
        found = self._spool.log(ack.key)
        claims = union(((1, ack.upto),), ack.have)
        return count(intersect(found.pending(), claims)) if found else 0


def joined(said: Iterable[LogAck]) -> list[Ack]:
    """One a log: the highest `upto`, all ranges."""
    found: dict[LogKey, Ack] = {}
    for one in said:
        key = LogKey(one.node, one.stream, one.klass, one.epoch)
        old = found.get(key, Ack(key, 0))
        upto, lost = max(old.upto, one.upto), max(old.lost, one.lost)
        found[key] = Ack(key, upto, union(old.have, one.have), lost)
    return list(found.values())
