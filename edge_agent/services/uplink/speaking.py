"""The way up: publishes what the outbox loads, reads ahead of it."""

from __future__ import annotations

import secrets
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from edge_agent import logs
from edge_agent.core import probe
from edge_agent.core.backfill import Want
from edge_agent.core.errors import Damaged, Overloaded
from edge_agent.core.lanes import Cargo
from edge_agent.core.outbox import Draft, Load
from edge_agent.core.wire import armour
from edge_agent.ports import LinkSession
from edge_agent.services.uplink.desk import Desk
from edge_agent.services.uplink.packing import Packed, Packer, json_bytes

INLINE_RECORDS: Final = 24  # so many are encoded on the loop, in about a millisecond
IDLE_S: Final = 1.0
SPOOL_PAUSE_S: Final = 0.05  # after a read that found nothing
READ_BYTES: Final = 1 << 20
NOTHING: Final = Packed([], 0, [], [])

log = logs.get("uplink")


class Speaking:
    """`publish` and `read_ahead` run side by side for as long as a connection lasts."""

    def __init__(self, desk: Desk, *, node: str, topic: str, via: str = "") -> None:
        self._desk, self._outbox, self._node, self._topic = desk, desk.outbox, node, topic
        self._via = via or msgspec.UNSET
        self._packer, self._worker = Packer(desk.encoded), Packer(desk.encoded)
        self._room_bytes = armour.room_bytes(node)

    async def publish(self, session: LinkSession) -> None:
        while True:
            self._desk.look()
            now_us = self._desk.now_us()
            if (late := self._desk.document.overdue(now_us)) is not None:
                self._outbox.size.late(*late, now_us)
            self._outbox.turn(now_us, self._desk.rooms.chance())
            draft = self._outbox.draft(now_us)
            if draft is None and self._paper_is_due(now_us):
                self._outbox.governor.took_slot(now_us)
                await self._hand_over(session, [], now_us, Load())
            if draft is not None:
                await self._send(session, draft)
                continue
            self._desk.room.set()
            due_us = self._outbox.due_us(now_us)
            wait_s = IDLE_S if due_us is None else min(IDLE_S, (due_us - now_us) / 1e6)
            with anyio.move_on_after(max(0.0005, wait_s)):
                await self._desk.news.wait()
            self._desk.news = anyio.Event()

    async def _send(self, session: LinkSession, draft: Draft) -> None:
        live = await self._encoded(draft)
        now_us = self._desk.now_us()
        load = self._outbox.load(
            draft, live, now_us=now_us, chance=self._desk.rooms.chance(), nonce=secrets.token_hex(8)
        )
        self._desk.room.set()
        parts = [cargo.envelope for cargo in load.cargos]
        if load.probe is not None:
            question = msgspec.structs.replace(load.probe, via=self._via)
            asked = probe.encode(self._node, question, self._packer.codecs)
            parts.append(self._desk.encoded(asked))
        if live:
            runs = (record for run in draft.runs for record in run)
            self._desk.counts["raw_bytes"] += json_bytes(runs)
        await self._hand_over(session, parts, now_us, load, alone=draft.alarms_only)

    async def _encoded(self, draft: Draft) -> list[Cargo]:
        self._packer.allow(self._desk.dicts, self._desk.codings)
        room = self._outbox.room_bytes(self._desk.now_us())
        if sum(map(len, draft.runs)) <= INLINE_RECORDS:
            return self._packer.live(draft.runs, room)
        return await anyio.to_thread.run_sync(self._packer.live, draft.runs, room)

    def _paper_is_due(self, now_us: int) -> bool:
        free = now_us >= self._outbox.governor.slot_us()
        return free and self._outbox.cloud(now_us) == "up" and self._desk.document.is_due(now_us)

    async def _hand_over(
        self,
        session: LinkSession,
        parts: list[bytes],
        now_us: int,
        load: Load,
        *,
        alone: bool = False,
    ) -> None:
        """One publish of these envelopes, and of the status document when it is due."""
        paper = None if alone else self._paper(parts, now_us)
        if paper is not None:
            parts = [*parts, paper]
        if not parts:
            return
        payload = armour.pack(self._node, parts)
        self._outbox.weighed(load, len(payload), now_us)
        if parts == [paper]:
            self._desk.document.sent(len(payload), now_us)
        await session.publish(self._topic, payload)
        self._outbox.governor.wrote(len(payload), self._desk.now_us() - now_us)
        self._desk.counts["sent_bytes"] += len(payload)
        self._desk.counts["publishes"] += 1

    def _paper(self, parts: list[bytes], now_us: int) -> bytes | None:
        """The status document, when it is due and fits beside these."""
        if self._outbox.cloud(now_us) != "up" or not self._desk.document.is_due(now_us):
            return None
        limit = self._outbox.room_bytes(now_us)
        if limit is not None and parts:
            return None  # it goes alone
        paper = self._desk.document.envelope(now_us, self._packer.codecs, self._desk.encoded)
        if paper is None or sum(map(len, parts)) + len(paper) > self._room_bytes:
            return None
        if limit is not None and -(-len(paper) * 5 // 4) > limit:
            self._desk.document.too_large += 1
            return None
        return paper

    async def read_ahead(self, _session: LinkSession) -> None:
        while True:
            self._desk.look()
            want = self._outbox.want(self._desk.now_us())
            if want is None:
                await self._desk.room.wait()
                self._desk.room = anyio.Event()
                continue
            found = await self._fetch(want)
            self._outbox.backfill.fetched(want, found.cargos, found.unfit, found.wide)
            self._desk.news.set()
            if not found.cargos:  # gone meanwhile: the books are about to say so
                self._desk.changed()
                await anyio.sleep(SPOOL_PAUSE_S)

    async def _fetch(self, want: Want) -> Packed:
        rows_wanted = sum(b - a + 1 for a, b in want.wanted)
        try:
            page = await self._desk.rooms.shelf.backlog.read(
                want.key, want.wanted, max_rows=rows_wanted, max_bytes=READ_BYTES
            )
        except (Damaged, Overloaded) as trouble:
            log.warning("the spool could not be read", error=trouble.what)
            await anyio.sleep(IDLE_S)
            return NOTHING
        self._worker.allow(self._desk.dicts, self._desk.codings)
        found = await anyio.to_thread.run_sync(self._worker.backlog, page.rows, want)
        self._desk.counts["raw_bytes"] += found.raw_bytes if want.attempt == 0 else 0
        if found.unfit:
            self._left(want, len(found.unfit))
        return found

    def _left(self, want: Want, records: int) -> None:
        """They stay in the spool: a newer agent may know what they are."""
        self._desk.counts["unfit"] += records
        where = f"{want.key.stream or '-'}/{want.key.klass.value}/{want.key.epoch:x}"
        what = f"{records} records of {where} that no envelope can hold stay in the spool"
        self._outbox.witness.find("record-unfit", what, records)
