"""A running house in one hand: configure, reload, wait for its end; what the console may ask."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
import anyio.to_thread
import msgspec

from edge_agent import logs
from edge_agent.config.diff import diff
from edge_agent.config.problems import dotted, shareable
from edge_agent.config.structs import Config, DicomSource
from edge_agent.core import edgecore
from edge_agent.core.errors import Damaged
from edge_agent.core.frames import AnyRecord, Event, Signal
from edge_agent.core.notes import ENDED, OF_SOURCE, Notes
from edge_agent.core.ring import Word
from edge_agent.ground import Blocked, First, Orders
from edge_agent.metrics import Metrics
from edge_agent.resolve import made_worse
from edge_agent.services.engine import Engine
from edge_agent.services.pipeline import Pipeline, StreamTerms
from edge_agent.services.rollouts import Rollouts
from edge_agent.stores.models import Models
from edge_agent.views import Rooms, Views

READ_AGAIN_S: Final = 5.0
AGAIN_S: Final = (5.0, 60.0)  # until a stream that could not begin is tried again; at most
SETTLE_S: Final = 0.5  # of what the inference side says of models, before it is acted upon again
MAX_HEARD: Final = 256  # words of the side about its models; it says them again when it is asked

log = logs.get("agent")

LoadAgain = Callable[[], tuple[Config | None, str]]  # the files now, or what is wrong with them


class Downstairs(Protocol):
    """What comes down. apply: takes a configuration (text, version); why not, "" when it is."""

    apply: Callable[[str, str], Awaitable[str]]

    @property
    def rollouts(self) -> Rollouts: ...


class Agent:
    """A running house, for whoever started it in this process."""

    def __init__(
        self, *, rooms: Rooms, views: Views, metrics: Metrics, orders: Orders, models: Models
    ) -> None:
        self.rooms = rooms
        self._orders = orders
        self._models = models
        self.metrics = metrics
        self.views = views
        self.downward: Downstairs
        self.load_again: LoadAgain | None = None
        self.keep_good: Callable[[Config], None] = lambda _: None  # blocks; never raises
        self._turn = anyio.Lock()
        self._is_unread = False  # of a stream the model is there, and nobody could read it
        self._again_s, self._again_at_s = 0.0, 0.0  # a stream that could not begin
        self._heard: deque[Mapping[str, Any]] = deque(maxlen=MAX_HEARD)
        self._has_heard = anyio.Event()

    @property
    def pipeline(self) -> Pipeline:
        return self.rooms.pipeline

    @property
    def engine(self) -> Engine:
        return self.rooms.engine

    async def configure(self, config: Config) -> None:
        """Streams come, go and change; the others are not disturbed."""
        async with self._turn:
            orders, rejected = await anyio.to_thread.run_sync(self._orders.of, config)
            for name in {*self.views.config.streams, *config.streams}:
                self.rooms.notes.forget(name)
            self._is_unread = any(
                isinstance(why, Damaged) and not why.healable
                for why in (*rejected.values(), *self._orders.fell_back.values())
            )
            for name, why in rejected.items():
                self.rooms.notes.tell(name, "model-rejected", why.what, why.hint)
            for name, why in self._orders.fell_back.items():
                self.rooms.notes.tell(name, "model-damaged", why.what, why.hint)
            self.views.config = config
            self.rooms.pipeline.configure(terms_of(config))
            self.views.manifests = self._orders.manifests
            self.downward.rollouts.look_again()
            await self.rooms.engine.configure(orders, held=config.streams.keys())
            self._forget_others(config)

    def _forget_others(self, config: Config) -> None:
        """What was known of streams that have left."""
        self.metrics.keep(config.streams.keys())
        for known in (self.views.facts, self.views.calibrations):
            for name in [name for name in known if name not in config.streams]:
                del known[name]

    def on_model(self, words: Mapping[str, Any]) -> None:
        """What the inference side says of a package: it gave its golden sample, or is no good."""
        self._heard.append(words)
        self._has_heard.set()

    async def read_again(self, ready: Callable[[], None]) -> None:
        """Until cancelled: a stream is ordered again when its model could not be read just now,
        when the side could not use it, and when what was wrong with it has been mended.
        """
        ready()
        while True:
            with anyio.move_on_after(READ_AGAIN_S):
                await self._has_heard.wait()
            self._has_heard = anyio.Event()
            condemned, flickers = await anyio.to_thread.run_sync(self._take_in)
            has_news = self._orders.is_troubled and await anyio.to_thread.run_sync(
                self._orders.has_news, self.views.config
            )
            if condemned or has_news or self._is_unread:
                await self.reorder()
            await self._begin_again()
            await anyio.sleep(READ_AGAIN_S if flickers else SETTLE_S)

    async def _begin_again(self) -> None:
        """What a side could not begin for want of memory, a core or a key file, it may later. It is
        told of all the while, and tried ever more rarely.
        """
        now_s, engine = anyio.current_time(), self.rooms.engine
        if not any(map(self._may_begin, self.rooms.notes.rejected())):
            self._again_s = 0.0
        elif not self._again_s:
            self._again_s = AGAIN_S[0]
            self._again_at_s = now_s + self._again_s
        elif now_s >= self._again_at_s and engine.is_up:
            self._again_s = min(2 * self._again_s, AGAIN_S[1])
            async with self._turn:
                await engine.begin_again()
            self._again_at_s = anyio.current_time() + self._again_s

    def _may_begin(self, name: str) -> bool:
        """Who tries a first version out judges it."""
        stream = self.views.config.streams.get(name)
        firsts = self._orders.firsts
        return stream is not None and not any(one.name in firsts for one in stream.models)

    def _take_in(self) -> tuple[bool, bool]:
        """Whether a package was found wanting; whether it reads as ordered here. Blocks."""
        condemned = flickers = False
        while self._heard:
            words = self._heard.popleft()
            folder, sha = Path(words["folder"]), str(words["sha"])
            if words["what"]:
                log.error("a model can't be used", model=words["model"], why=words["what"])
                condemned = True
                if words["intact"]:
                    self._orders.condemn(sha, words["what"], words["fix"])
                else:
                    flickers |= self._orders.is_as_ordered(folder, sha)
            else:
                if not words["golden"]:
                    log.warning("a model has no golden sample", model=words["model"],
                                hint="pack it again: python -m tools.hot_tier pack")  # fmt: skip
                trouble = self._orders.ran(folder, sha, is_wanted=not words["pinned"])
                if trouble:
                    log.warning("what ran here can't be noted", model=words["model"], why=trouble)
        return condemned, flickers

    async def reorder(self) -> None:
        """The models are resolved anew: what is current has changed, and no swap did it."""
        await self.configure(self.views.config)

    async def first(self, model: str, folder: Path | None, sha: str) -> None:
        """Starts the streams of a model on its first version, on trial; None takes it away."""
        if folder is None:
            if self._orders.firsts.pop(model, None) is not None:
                await self.reorder()
            return
        self._orders.firsts[model] = First(folder, sha)
        self.rooms.engine.allow_first(model)
        await self.reorder()

    def block(self, blocked: Blocked) -> None:
        """Who knows which versions may not run here."""
        self._orders.blocked = blocked

    def keep_first(self, model: str) -> None:
        """It was committed: from now on the store names it."""
        self._orders.firsts.pop(model, None)

    async def reload(self) -> dict[str, Any]:
        """Reads the configuration again; a bad one changes nothing and says where it is wrong."""
        if self.load_again is None:
            return {"reloaded": False, "why": "this agent was started without a file"}
        wanted, flaws = await anyio.to_thread.run_sync(self.load_again)
        if wanted is not None:
            flaws = await anyio.to_thread.run_sync(self._breaks, wanted)
            wanted = None if flaws else wanted
        if wanted is None:
            told = shareable(flaws)  # status and events leave this device
            self.rooms.notes.tell(
                "", "config", f"reload refused: {told}", "edge-agent config check"
            )
            self.tell("reload-refused", told)
            return {"reloaded": False, "why": flaws}
        running = self.views.config
        changes = diff(running, wanted)
        self.rooms.notes.forget("")
        if changes.restart or changes.child:
            keys = ", ".join(changes.restart + changes.child)
            self.rooms.notes.tell("", "config", f"{keys}: takes effect at the next start",
                                   "sudo systemctl restart edge-agent")  # fmt: skip
        await anyio.to_thread.run_sync(self.keep_good, wanted)
        self._orders.pardon()
        await self.configure(keep_what_needs_a_restart(running, wanted))
        logs.setup(wanted.log)
        self.views.degraded = False
        self.tell(
            "reloaded", f"+{len(changes.added)} -{len(changes.removed)} ~{len(changes.changed)}"
        )
        return {"reloaded": True, "added": changes.added, "removed": changes.removed,
                "changed": changes.changed, "restart": changes.restart + changes.child}  # fmt: skip

    def _breaks(self, wanted: Config) -> str:
        """What would no longer run of what stays in the files; "" for nothing."""
        running = self.views.config
        flaws = made_worse(running, wanted, self._models)
        lines = [f"{dotted(flaw.key)} — {flaw.message}" for flaw in flaws]
        if flaws and running.models != wanted.models:
            lines.append("[models] takes effect at the next start: restart instead")
        return "\n".join(lines)

    def tell(self, name: str, what: str = "") -> None:
        """An event record, and an entry of the audit log."""
        log.info(name, what=what)
        if self.views.auditor is not None:
            self.views.auditor.note("edge-agent", name, words=what)
        rooms = self.rooms
        event = Event(node=self.views.config.node, boot=rooms.host.boot_id(), stream="",
                      at_us=rooms.clock.boot_us(), name=name, what=what)  # fmt: skip
        rooms.pipeline.scribe.append(event)

    async def finished(self) -> None:
        """Until every stream that is a recording has come to its end and is read out."""
        while not all(self._is_over(name) for name in self.views.config.streams):  # noqa: ASYNC110
            await anyio.sleep(0.02)

    def _is_over(self, name: str) -> bool:
        tap = self.rooms.engine.taps.get(name)
        if tap is None or not tap.is_open:
            return self.rooms.notes.is_stuck(name)
        failed = tap.signal() is Signal.FAILED
        return failed or (bool(tap.word(Word.ENDED)) and tap.totals().in_flight == 0)


def terms_of(config: Config) -> dict[str, StreamTerms]:
    """What is expected of each stream. Where a recording sets its own pace, no rate is."""
    start_us = round(config.engine.start_timeout_s * 1e6)
    found = {}
    for name, stream in config.streams.items():
        source = stream.source
        is_paced = stream.queue == "latest" and source.pace == "real"
        asks = is_paced and not isinstance(source, DicomSource)
        expect_s = source.expect_every_s if isinstance(source, DicomSource) else None
        found[name] = StreamTerms(
            max_age_us=round(stream.max_age_ms * 1000),
            fps=source.fps if asks else None,
            expect_us=round((expect_s or 0) * 1e6),
            start_limit_us=start_us,
        )
    return found


def keep_what_needs_a_restart(running: Config, wanted: Config) -> Config:
    """The wanted configuration, with the sections that only a start can change left as they are."""
    return msgspec.structs.replace(running, streams=wanted.streams, log=wanted.log)


class Shown(Views):
    """What the console may ask: the views, the exposition, a reload."""

    agent: Agent

    async def metrics(self) -> bytes:
        status = self.status()
        return await anyio.to_thread.run_sync(self.agent.metrics.render, status)

    async def reload(self) -> dict[str, Any]:
        return await self.agent.reload()

    def desired_hint(self, body: bytes) -> dict[str, Any]:
        """Raises: Rejected."""
        uplink, rollouts = self.config.uplink, self.agent.downward.rollouts
        topics = edgecore.Topics.of(uplink.ns, self.config.node, uplink.device)
        said = edgecore.read(topics, topics.down("desired"), body)
        assert isinstance(said, edgecore.Desired)
        rollouts.came(said)
        return rollouts.desired()


class Hearing:
    """What the inference side says, to those whom it concerns."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._pipeline: Pipeline | None = None
        self._views: Views | None = None
        self.on_model: Callable[[Mapping[str, Any]], None] = lambda _: None

    def bind(self, pipeline: Pipeline, views: Views) -> None:
        self._pipeline, self._views = pipeline, views

    def on_record(self, record: AnyRecord, primary: bool) -> None:
        if self._pipeline is not None:
            self._pipeline.on_record(record, primary)

    def heard(self, words: Mapping[str, Any]) -> None:
        event = words.get("event")
        if event == "problem":
            self._hear_problem(*(words[key] for key in ("stream", "code", "what", "fix")))
        elif event == "over":
            self._notes.over(words["stream"], words["code"])
        elif event == "facts" and self._views is not None:
            facts = self._views.facts[words["stream"]] = dict(words["facts"])
            self._notes.has_begun(words["stream"])
            if facts.get("watched"):  # it is there again, whether or not a file lies in it
                self._notes.is_back(words["stream"])
            if self._pipeline is not None:
                self._pipeline.watched(words["stream"], is_folder=bool(facts.get("watched")))
        elif event == "calibration" and self._views is not None:
            self._views.calibrations[words["stream"]] = dict(words["calibration"])
        elif event == "model":
            self.on_model(words)
        elif event == "model_stats" and self._pipeline is not None:
            self._pipeline.scribe.model_stats(words)

    def _hear_problem(self, stream: str, code: str, what: str, fix: str) -> None:
        if code in OF_SOURCE:
            self._notes.has_begun(stream)
        # the watch of the status says that a source is lost or has ended; here only other words
        is_other = (stream, code) in self._notes.standing() or code not in (*OF_SOURCE, ENDED)
        if self._notes.tell(stream, code, what, fix) and is_other:
            log.warning(what, stream=stream, code=code, fix=fix)
