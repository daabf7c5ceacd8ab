"""One connection at a time: its three jobs end together, as one error."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

import anyio
import anyio.abc
import anyio.to_thread

from edge_agent import logs
from edge_agent.config.structs import UplinkConfig
from edge_agent.core.edgecore import Topics
from edge_agent.core.errors import LinkCut, LinkDown
from edge_agent.core.frames import AnyRecord, Record
from edge_agent.core.governor import Limits
from edge_agent.core.keeping_up import KeepingUp
from edge_agent.core.outbox import Outbox
from edge_agent.core.wire.sealing import RoadKeys
from edge_agent.ports import Clock, Link, LinkSession
from edge_agent.services.uplink.desk import Desk, Rooms
from edge_agent.services.uplink.listening import Listening
from edge_agent.services.uplink.neighbours import Shelf, Words
from edge_agent.services.uplink.papers import Document, Twin
from edge_agent.services.uplink.speaking import Speaking

TWIN_PERIOD_S: Final = 1.0
DRAIN_LOOK_S: Final = 0.02
KEYS_EVERY_S: Final = 10.0

log = logs.get("uplink")


class Uplink:
    """Not vital. `on_record` and `on_change` are called on the loop and never wait.

    keys: reads them from their files; blocks, and may raise LinkDenied. None: there are none.
    """

    def __init__(
        self,
        *,
        node: str,
        config: UplinkConfig,
        link: Link,
        shelf: Shelf,
        clock: Clock,
        words: Words,
        keys: Callable[[], RoadKeys] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._node = node
        self._config, self._link, self._read_keys = config, link, keys
        topics = Topics.of(config.ns, node, config.device)
        limits = Limits(
            publishes_per_s=config.publishes_per_s,
            backfill_bytes_per_s=config.backfill_bytes_per_s,
        )
        self._outbox = Outbox(node=node, epoch=shelf.epoch, limits=limits)
        run = f"{shelf.epoch:x}"
        self._twin = Twin(topics=topics, run=run, every_s=config.twin_every_s, words=words)
        document = Document(node, shelf.epoch, words)
        rooms = Rooms(shelf, clock, words, chance)
        self._desk = Desk(rooms, self._outbox, document, self._twin)
        via = config.kubeedge_node if config.kubeedge_node != node else ""
        self._speaking = Speaking(self._desk, node=node, topic=topics.up, via=via)
        self._listening = Listening(self._desk, topics)
        self._keeping = KeepingUp()
        self._cloud = "unknown"
        self._since_us = clock.boot_us()  # connected or offline

    def on_record(self, record: Record) -> None:
        """A record has got its id."""
        if self._outbox.is_up:
            self._outbox.appended(cast("AnyRecord", record), self._desk.now_us())
            self._desk.news.set()

    def on_change(self) -> None:
        """The spool's books have changed."""
        self._desk.changed()

    def stats(self) -> dict[str, Any]:
        """In the shape of the status."""
        desk, now_us = self._desk, self._desk.now_us()
        p50, p99 = desk.latency_us.quantiles(0.5, 0.99)
        last_us, next_us = desk.last_ack_us, self._outbox.next_probe_us()
        return {
            "configured": True,
            "connected": self._outbox.is_up,
            "since_s": round((now_us - self._since_us) / 1e6, 1),
            "cloud": self._outbox.cloud(now_us),
            "last_ack_s": None if last_us is None else round((now_us - last_us) / 1e6, 1),
            **self._troubles(),
            "next_probe_s": None if next_us is None else round(max(0, next_us - now_us) / 1e6, 1),
            "inflight": len(self._outbox.flights),
            "latency_ms": {
                "p50": None if p50 is None else round(p50 / 1000, 3),
                "p99": None if p99 is None else round(p99 / 1000, 3),
            },
            **desk.counts,
            "refused": desk.counts["refused"] + self._outbox.witness.refused,
            "resends": self._outbox.resends,
            "twin_refused": self._twin.refused,
        }

    def _troubles(self) -> dict[str, Any]:
        """What is wrong with the road. payload: what it was found to take and not to take, in
        characters; null: all. behind: records of a minute that acks fell behind in; null: none.
        duplicate: this node's name while another agent uses it, too.
        """
        narrow = self._outbox.size.narrow()
        payload = None if narrow is None else narrow._asdict()
        behind = self._keeping.behind if self._outbox.is_up else None
        return {
            "payload": payload,
            "too_large": self._outbox.backfill.wide_records(),
            "behind": None if behind is None else behind._asdict(),
            "duplicate": self._node if self._outbox.is_shared(self._desk.now_us()) else "",
        }

    async def run(self, ready: Callable[[], None]) -> None:
        """Until the connection ends. Raises: LinkDown."""
        down: list[LinkDown] = []
        speaking, listening = self._speaking, self._listening
        if self._read_keys is not None:
            self._desk.keys = await anyio.to_thread.run_sync(self._read_keys)
        async with self._link.connect() as session:
            self._outbox.up(self._desk.rooms.shelf.logs(), self._desk.now_us())
            self._twin.renew()
            self._since_us = self._desk.now_us()
            ready()
            try:
                async with anyio.create_task_group() as group:
                    jobs = (
                        listening.listen, speaking.publish, speaking.read_ahead, self._tell,
                        self._renew_keys,
                    )  # fmt: skip
                    for job in jobs:
                        group.start_soon(_until_down, job, session, group, down)
            finally:
                self._outbox.down()
                self._watch(is_up=False)
                self._since_us = self._desk.now_us()
                self._measure(down)
        raise down[0] if down else LinkDown("uplink: the connection ended")

    def _measure(self, down: list[LinkDown]) -> None:
        """Whether it ended because something was too large."""
        cut = next((one for one in down if isinstance(one, LinkCut)), None)
        unconfirmed, confirmed = (cut.unconfirmed, cut.confirmed) if cut else (0, 0)
        self._outbox.size.closed(unconfirmed, confirmed, self._desk.now_us())

    async def drained(self, within_s: float) -> None:
        """Returns when nothing is left to send, the road is down, or time is over."""
        with anyio.move_on_after(within_s):
            while self._outbox.is_up and self._has_left():  # noqa: ASYNC110 - a commit tells nobody
                await anyio.sleep(DRAIN_LOOK_S)

    def _has_left(self) -> bool:
        on_its_way = len(self._outbox.live) or len(self._outbox.flights)
        return bool(on_its_way) or any(log.pending() for log in self._desk.rooms.shelf.logs())

    async def _tell(self, session: LinkSession) -> None:
        """The twin, for EdgeCore."""
        while True:
            cloud = self._outbox.cloud(self._desk.now_us())
            if cloud == "up" and self._cloud != "up":
                self._twin.renew()  # EdgeCore never makes up for what it dropped without a cloud
            self._cloud = cloud
            self._watch(is_up=cloud == "up")
            if self._config.twin and cloud != "down":  # EdgeCore would only drop it
                most_bytes = self._outbox.size.limit(self._desk.now_us())
                await self._twin.tell(session, self._desk.rooms.clock, most_bytes)
            await anyio.sleep(TWIN_PERIOD_S)

    def _watch(self, *, is_up: bool) -> None:
        now_us, backfill = self._desk.now_us(), self._outbox.backfill
        if not is_up or self._keeping.is_due(now_us):
            left = backfill.wide_records() + backfill.unfit_records()
            logs = self._desk.rooms.shelf.logs()
            self._keeping.look(logs, is_up=is_up, left=left, now_us=now_us)

    async def _renew_keys(self, _session: LinkSession) -> None:
        """A connection may last for months, and keys be rotated meanwhile."""
        while True:
            await anyio.sleep(KEYS_EVERY_S)
            if self._read_keys is None:
                continue
            try:
                self._desk.keys = await anyio.to_thread.run_sync(self._read_keys)
            except LinkDown as error:  # half written, or away: those at hand still count
                log.warning("the keys of the uplink could not be read anew", error=error.what)


async def _until_down(
    job: Callable[[LinkSession], Awaitable[None]],
    session: LinkSession,
    group: anyio.abc.TaskGroup,
    down: list[LinkDown],
) -> None:
    """A road that failed ends all of it, as one error and not as a group."""
    try:
        await job(session)
    except LinkDown as weather:
        down.append(weather)
    group.cancel_scope.cancel()
