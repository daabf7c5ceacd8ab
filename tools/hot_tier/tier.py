"""The hot tier at work: road, desk, answers and files, wired together.

    road ──payloads──▶ inbox ──▶ desk (its thread: one transaction) ──outcome──▶ answers ──▶ road
                                   └──▶ outputs (the same thread, after it)

What comes while a transaction is being written is in the next one: group commit without waiting.
Small envelopes are kept first, large ones a few hundred records at a time: what is live, and every
question, never waits for more of somebody's backlog than that.
A full inbox takes from the node that fills it, counted: nodes send again what nobody acknowledged.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, final

import anyio

from edge_agent.config.structs import SuperviseConfig
from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import AnyRecord
from edge_agent.core.logbook import LogKey
from edge_agent.core.moulds import make_ready
from edge_agent.host import SystemClock
from edge_agent.ports import Link, LinkSession
from edge_agent.supervise import Health, RoomState, rooms
from tools.hot_tier.answers import Answers, Letter
from tools.hot_tier.carriers import Came, node_of
from tools.hot_tier.desk import Asked, Opened, Outcome
from tools.hot_tier.desk_thread import DeskThread, Kept, Standing, at_desk
from tools.hot_tier.epochs import Epochs
from tools.hot_tier.gate import OPEN, Keys
from tools.hot_tier.inbox import Inbox
from tools.hot_tier.notices import HOLDS_S, Notices
from tools.hot_tier.outputs import Form
from tools.hot_tier.places import Places
from tools.hot_tier.receiver import Log
from tools.hot_tier.sheet import MAX_SHOWN_LOGS, problems, sheet

MAX_INBOX: Final = 8192  # payloads, of all nodes: the posts of a minute at 17 nodes
MAX_INBOX_BYTES: Final = 64 << 20
MAX_GROUP: Final = 8  # payloads that are opened at once
SMALL_RECORDS: Final = 32  # of an envelope that is kept at once
MAX_SLICE_RECORDS: Final = 300  # of large ones, a transaction
MAX_LARGE: Final = 64  # envelopes that wait; then nothing more is opened
MAX_OUTBOX: Final = 1024  # letters while the road is down; the oldest goes
FULL_PAUSE_S: Final = 1.0
OUTPUT_PAUSE_S: Final = 0.05
ROOM: Final = "make room on its disk"
BUSY: Final = "nothing is lost, it comes again; does one node send far more than the others?"
FOREIGN: Final = (
    "does a Rule post to another node's path? A node that had another name: receive --relay NODE"
)
N_BITS: Final = 32  # of an acknowledgement's number, below the count of opens

Heard = Callable[[Sequence[AnyRecord]], None]


@final
class HotTier:
    """`async with HotTier(db, road) as tier: tier.sheet()`.

    nodes: whose records are taken; none: everybody's. live, ordered: files of JSON Lines. heard:
    called on the loop with the records that are durable from now on, each once. places: shared with
    a road that has to know them. notices: those of the road too, if they shall stand in the sheet.
    keys: what nodes have to show, and what answers are signed with. relays: nodes that may bring
    records of others. raw: called with each payload, as it comes.
    """

    def __init__(
        self,
        db: Path,
        road: Link,
        *,
        nodes: Sequence[str] = (),
        live: Path | None = None,
        ordered: Path | None = None,
        heard: Heard | None = None,
        places: Places | None = None,
        notices: Notices | None = None,
        keys: Keys = OPEN,
        relays: Sequence[str] = (),
        raw: Callable[[bytes], None] | None = None,
    ) -> None:
        self.notices = notices or Notices()
        self._path = db
        self._road = road
        self._nodes = tuple(nodes)
        self._relays, self._raw = tuple(relays), raw
        self._files: dict[Form, Path | None] = {"live": live, "ordered": ordered}
        self._heard = heard
        self._places = places or Places()
        self._keys = keys
        self._clock = SystemClock()
        self.health = Health(self._clock)
        self._inbox = Inbox(MAX_INBOX, MAX_INBOX_BYTES)
        self._large: deque[Opened] = deque()
        self._letters: deque[Letter] = deque(maxlen=MAX_OUTBOX)
        self._came = asyncio.Event()
        self._grew = asyncio.Event()  # the database
        self._said = asyncio.Event()  # something new is to be told
        self._taken = asyncio.Event()  # the inbox is empty, all of it durable
        self._written = asyncio.Event()  # the files are up to date
        self._taken.set()
        self._desk: DeskThread
        self._standing: Standing
        self._books: OrderedDict[LogKey, Log]
        self._answers: Answers
        self._epochs = Epochs()
        self._running: AbstractAsyncContextManager[None] | None = None

    async def __aenter__(self) -> HotTier:
        """Raises: ConfigError, Overloaded, Damaged for the database."""
        for package in ("edge_agent", "tools"):  # its desk decodes in a thread of its own
            make_ready(package)
        self._running = self._run()
        await self._running.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._running is not None
        return await self._running.__aexit__(kind, error, trace)

    def sheet(self) -> dict[str, Any]:
        """The balance as of the last commit; see `sheet`."""
        now_us = self._clock.boot_us()
        total, counts, _ = self._standing
        counts = {**counts, **self.notices.counts, "overrun": self._inbox.given_up}
        found = sheet(self._desk.rx, total, self._books.values(), counts)
        found["nodes"] = {
            node: {"last_probe_s": round(us / 1e6, 1)}
            for node, us in self._epochs.ages_us(now_us).items()
        }
        found["problems"] = problems(total, counts, self._epochs.doubles(now_us))
        found["problems"] += self._keys.gate.problems(counts)
        found["problems"] += self.notices.problems()
        return found

    async def document(self, node: str, name: str) -> bytes:
        """The newest document of that name; b"" without any."""
        return await self._desk.document(node, name)

    def tell(self, letters: Sequence[Letter]) -> None:
        """What somebody else has to say to nodes goes down with our own words."""
        self._letters.extend(letters)
        self._said.set()

    async def settle(self) -> None:
        """Until all that has come is durable, and stands in the files."""
        await self._taken.wait()
        await self._written.wait()

    # ── rooms ─────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _run(self) -> AsyncIterator[None]:
        async with at_desk(
            self._path,
            nodes=self._nodes,
            files=self._files,
            gate=self._keys.gate,
            hears=self._heard is not None,
            relays=self._relays,
        ) as desk:
            self._desk = desk
            self._standing = desk.opened
            self._books = OrderedDict((log.key, log) for log in desk.recent)
            self._answers = Answers(
                desk.rx, n=desk.opens << N_BITS, dicts=desk.dicts, signer=self._keys.signer
            )
            self._grew.set()
            config = SuperviseConfig()
            async with rooms("hot tier", config=config, on_state=self.note) as floor:
                await floor.start("desk", self._serve)
                await floor.start("outputs", self._write)
                await floor.start("road", self._travel, vital=False)
                yield

    def note(
        self, name: str, state: RoomState, error: BaseException | None, *, vital: bool
    ) -> None:
        """A room of ours, or beside us, changed. A road that is down is weather at the edge; here
        somebody has to know of it, and what to do.
        """
        self.health.note(name, state, error, vital=vital)
        one = self.health.rooms()[name]
        if not one.failing:
            if name == "road":
                self.notices.over("road-down")
            self.notices.over("service-failed", about=name)
        elif name == "road" and one.weather:
            self.notices.tell("road-down", one.error, one.hint or "is the other side running?")
        else:
            fix = one.hint or f"look at the log of {name}"
            self.notices.tell("service-failed", f"{name}: {one.error}", fix, about=name)

    async def _serve(self, ready: Callable[[], None]) -> None:
        """The desk's work. Raises: Damaged."""
        ready()
        while True:
            await self._came.wait()
            self._came.clear()
            while self._inbox or self._large:
                if self._inbox and len(self._large) < MAX_LARGE:
                    taken = self._inbox.take(MAX_GROUP)
                    kept, large = await self._desk.keep_small(taken, SMALL_RECORDS)
                    await self._kept(kept)
                    self._large += large
                else:
                    await self._kept(await self._desk.keep(_slice(self._large)))
            self._taken.set()

    async def _kept(self, kept: Kept | Overloaded) -> None:
        if isinstance(kept, Overloaded):  # nothing of it was acknowledged: it comes again
            self.notices.tell("disk-full", kept.what, kept.hint or ROOM)
            await anyio.sleep(FULL_PAUSE_S)
            return
        outcome, self._standing = kept
        for one in self._standing.foreign:
            about = one.node or one.carrier
            self.notices.tell("foreign", one.words(), FOREIGN, about=about, for_s=HOLDS_S)
        self.notices.over("disk-full")
        self._book(outcome)

    def _book(self, outcome: Outcome) -> None:
        now_us = self._clock.boot_us()
        for key, log in outcome.logs.items():
            self._books[key] = log
            self._books.move_to_end(key)
        while len(self._books) > MAX_SHOWN_LOGS:
            self._books.popitem(last=False)
        for asked in outcome.asked:
            if asked.carrier == asked.node:  # it is the carrier that is answered
                self._places.heard(asked.node, asked.via)
            if self._epochs.heard(asked.node, asked.live, now_us):
                self._answers.remind(asked.carrier, _waited_for(self._books.values(), asked))
        for node, epoch in outcome.alive:
            self._epochs.alive(node, epoch, now_us)
        self._answers.took(outcome)
        self._said.set()
        if outcome.logs:
            self._written.clear()
            self._grew.set()
        if outcome.records and self._heard:
            self._heard(outcome.records)

    async def _write(self, ready: Callable[[], None]) -> None:
        """The files follow the database. Raises: Damaged."""
        ready()
        while True:
            await self._grew.wait()
            self._grew.clear()
            refused = await self._desk.catch_up()
            for form in self._files:
                if form in refused:
                    error = refused[form]
                    self.notices.tell("output", error.what, error.hint or ROOM, about=form)
                else:
                    self.notices.over("output", about=form)
            if refused:
                self._grew.set()
                await anyio.sleep(FULL_PAUSE_S)
            elif not self._grew.is_set():
                self._written.set()
            await anyio.sleep(OUTPUT_PAUSE_S)

    async def _travel(self, ready: Callable[[], None]) -> None:
        """Raises: LinkDown."""
        async with self._road.connect() as session:
            ready()
            async with anyio.create_task_group() as group:
                group.start_soon(self._send, session)
                async for topic, payload in session.messages():
                    self.deliver(payload, node=node_of(topic))

    def deliver(self, payload: bytes, *, node: str = "") -> None:
        """A payload has come, from wherever. node: by whose path, "" where nothing tells."""
        if self._raw is not None:
            self._raw(payload)
        given_up = self._inbox.put(Came(node, payload))
        if given_up is not None:
            number = self._inbox.given_up
            words = f"{number} payloads were not opened, the last of {given_up or 'a path'}"
            self.notices.tell(
                "overrun", f"{words}: more come than can be kept", BUSY, for_s=HOLDS_S
            )
        self._taken.clear()
        self._came.set()

    async def _send(self, session: LinkSession) -> None:
        while True:
            self._said.clear()
            now_us = self._clock.boot_us()
            self._letters.extend(self._answers.due(now_us, self._epochs.shared(now_us)))
            while self._letters:
                letter = self._letters.popleft()
                topic = f"edge-agent/{letter.node}/down/{letter.what}"
                await session.publish(topic, letter.payload)
            wake_us = self._answers.wake_us()
            wait_s = None if wake_us is None else max(0.0, (wake_us - self._clock.boot_us()) / 1e6)
            with anyio.move_on_after(wait_s):
                await self._said.wait()


def _slice(large: deque[Opened]) -> list[Opened]:
    """The next of the large ones, and as many more as do not make it long."""
    some = [large.popleft()]
    records = some[0].records
    while large and records + large[0].records <= MAX_SLICE_RECORDS:
        records += large[0].records
        some.append(large.popleft())
    return some


def _waited_for(logs: Iterable[Log], asked: Asked) -> list[Log]:
    """Of earlier lives of this node. It may have lost them."""
    return [
        log
        for log in logs
        if log.waiting and log.key.node == asked.node and log.key.epoch not in asked.live
    ]
