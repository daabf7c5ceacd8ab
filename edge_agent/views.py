"""What the house shows of itself: the status document and its parts. Reads, decides nothing.

The names of fields are a contract (`schema` 1): fields only get added. Ages are null when never.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import msgspec

from edge_agent import __version__
from edge_agent.config.structs import Config
from edge_agent.core.account import Totals
from edge_agent.core.alarms import QUIET
from edge_agent.core.calibration import is_calibrated
from edge_agent.core.errors import Rejected
from edge_agent.core.frames import DROPS, Alarm, Calibration, Event, Record, Result, Signal
from edge_agent.core.freshness import BLANKING, IDLE, STALE
from edge_agent.core.lineup import Asked, Coming, Now, lineup
from edge_agent.core.manifest import Manifest
from edge_agent.core.notes import Notes
from edge_agent.core.problems import Problem, ProblemBook, distinct, is_fault
from edge_agent.core.ring import Word
from edge_agent.ports import Clock, DurableSpool, Host, HostSample, Spool
from edge_agent.services.audit import Auditor
from edge_agent.services.console.views import Picture, Shot
from edge_agent.services.engine import Engine, Tap
from edge_agent.services.pipeline import Channel, Pipeline, StreamTerms
from edge_agent.services.rollouts import Handled, Rollouts
from edge_agent.standing import of_disk, of_facts, of_models, of_notes, of_streams, of_uplink
from edge_agent.supervise import Health

MAX_EVENTS = 200
WORDS = {IDLE: "nothing new in the watched folder"}
WATCHED_US = 2_000_000  # a look at a frame makes the inference side copy each one for so long


class Events:
    """The last events and alarms, for the console."""

    def __init__(self) -> None:
        self._held: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)

    def hear(self, record: Record) -> None:
        if isinstance(record, Event | Alarm):
            self._held.append(msgspec.to_builtins(record))

    def newest_first(self) -> list[dict[str, Any]]:
        return list(reversed(self._held))


class Rooms(NamedTuple):
    """Whom the views ask."""

    clock: Clock
    host: Host
    health: Health
    engine: Engine
    pipeline: Pipeline
    spool: Spool
    notes: Notes
    events: Events


class Parts:
    """One document per question."""

    def __init__(self, rooms: Rooms, config: Config) -> None:
        self.rooms = rooms
        self.config = config
        self.facts: dict[str, dict[str, Any]] = {}  # by stream, as its source said
        self.calibrations: dict[str, dict[str, Any]] = {}  # by stream, of its newest frames
        self.manifests: dict[str, Manifest] = {}  # by "name@version"
        self.sample: Callable[[], HostSample | None] = lambda: None
        self.console: Callable[[], tuple[int | None, list[dict[str, str]]]] = lambda: (None, [])
        self.durable: DurableSpool | None = None  # None: the spool forgets
        self.road: Callable[[], dict[str, Any]] | None = None  # None: there is no uplink
        self.troubles: Callable[[], list[Problem]] = list  # of the store
        self.host_problems: Callable[[], list[Problem]] = list  # of clock and machine
        self.book = ProblemBook()
        self.auditor: Auditor | None = None
        self.down: Rollouts | None = None
        self.degraded = False  # the last good configuration runs, not the files'
        self.stopping = False
        self._started_us = rooms.clock.boot_us()

    # ── the parts ─────────────────────────────────────────────────────────────────────────────

    def streams(self) -> dict[str, Any]:
        return {name: self._stream(name) for name in self.config.streams}

    def _stream(self, name: str) -> dict[str, Any]:
        rooms, config = self.rooms, self.config.streams[name]
        tap, channel = rooms.engine.taps.get(name), rooms.pipeline.channels.get(name)
        totals = tap.totals() if tap else Totals(dropped={why.value: 0 for why in DROPS})
        newest = channel.newest if channel else None
        state = self._state(name, tap)
        scales = msgspec.convert(self.calibrations.get(name, {}), Calibration)
        return {
            "state": state,
            "reason": self._reason(name, state, channel),
            "title": config.title,
            "room": config.room,
            "source": self.facts.get(name, {}).get("where", config.source.__struct_config__.tag),
            "fps_expected": (tap.word(Word.EXPECTED_MILLIFPS) / 1000 or None) if tap else None,
            **msgspec.to_builtins(totals),
            **self._speed(channel),
            "last_frame_age_ms": self._age_ms(tap.word(Word.LAST_FRAME_US) if tap else 0),
            "calibrated": newest is not None and is_calibrated(scales),
            "calibration": self.calibrations.get(name, {}),
            "facts": self.facts.get(name, {}),
            "ended": bool(tap.word(Word.ENDED)) if tap else False,
            "owner": self.config.node,
            "term": newest.term if newest else 0,
            "model": config.models[0].name,
            "model_version": newest.version if newest else config.models[0].version,
        }

    def _reason(self, name: str, state: str, channel: Channel | None) -> str:
        """Why nothing is shown, in the words of whoever knows best; "" while all is well."""
        if state == Signal.FAILED.value and (absent := self._absent(name)):
            return absent
        if state in {"ok", "starting", STALE, IDLE}:
            return WORDS.get(state) or (channel.reason if channel else None) or ""
        if state == Signal.NO_SIGNAL.value and channel is not None and channel.is_watched:
            return QUIET
        return self.rooms.notes.of(name) or BLANKING.get(Signal(state), "")

    def _absent(self, name: str) -> str:
        """Why no version of one of its models runs; "" when that is not the matter."""
        models = self.config.streams[name].models if self.down is not None else ()
        words = (self.down.absent(one.name) for one in models if self.down is not None)
        return next((one for one in words if one), "")

    def _state(self, name: str, tap: Tap | None) -> str:
        if self.rooms.notes.is_stuck(name):
            return Signal.FAILED.value
        channel = self.rooms.pipeline.channels.get(name)
        if channel is None or tap is None:
            return Signal.STARTING.value
        return self.rooms.pipeline.state(name)

    def _speed(self, channel: Channel | None) -> dict[str, Any]:
        if channel is None:
            channel = Channel(StreamTerms(0))
        age_us = channel.freshness.age_us(self.rooms.clock.boot_us())
        return {
            "fps_in": round(channel.rate_in.per_s(), 2),
            "fps_out": round(channel.rate_out.per_s(), 2),
            "latency_ms": quantiles_ms(channel.latency_us.quantiles(0.5, 0.99)),
            "added_ms": quantiles_ms(channel.added_us.quantiles(0.5, 0.99)),
            "age_ms": None if age_us is None else round(age_us / 1000, 1),
        }

    def _age_ms(self, at_us: int) -> float | None:
        return round((self.rooms.clock.boot_us() - at_us) / 1000, 1) if at_us else None

    def models(self) -> dict[str, Any]:
        """By name: the active version, the labels of its manifest, and what comes after it."""
        asked = [
            Asked(stream, model.name, model.version)
            for stream, config in self.config.streams.items()
            for model in config.models
        ]
        down = self.down
        coming = Coming(down.models(), down.history) if down else Coming({}, lambda _: [])
        now = Now(self.rooms.engine.active, self._newest, self.manifests)
        return lineup(asked, now, coming)

    def _newest(self, stream: str) -> Result | None:
        channel = self.rooms.pipeline.channels.get(stream)
        return channel.newest if channel else None

    def spool(self) -> dict[str, Any]:
        fields: dict[str, Any] = msgspec.to_builtins(self.rooms.spool.stats())
        return fields

    def uplink(self) -> dict[str, Any]:
        """reason: why it is offline, "" while it is not."""
        if self.road is not None:
            room = self.rooms.health.rooms().get("uplink")
            stats = self.road()
            is_down = room is not None and not stats["connected"]
            return {**stats, "reason": room.error if is_down and room is not None else ""}
        return {
            "configured": False,
            "connected": False,
            "cloud": "unknown",
            "last_ack_s": None,
            "sent_bytes": 0,
            "raw_bytes": 0,
            "inflight": 0,
            "latency_ms": {"p50": None, "p99": None},
        }

    def peers(self) -> dict[str, Any]:
        return {}

    def device(self) -> dict[str, Any]:
        sample = self.sample()
        fields: dict[str, Any] = msgspec.to_builtins(sample) if sample else {}
        return fields

    def events(self) -> list[dict[str, Any]]:
        return self.rooms.events.newest_first()


class Kept(Handled, Parts):
    """What is in the spool, and what may be done with it by hand."""

    def spool_records(self, limit: int) -> list[dict[str, Any]]:
        found = self.rooms.spool.newest(limit)
        return [{**msgspec.to_builtins(record), "class": record.klass.value} for record in found]

    async def spool_verify(self) -> dict[str, Any]:
        return {**await self._on_disk("verify").verify()}

    def spool_export(self, *, plain: bool = False) -> AsyncGenerator[bytes, None]:
        return self._on_disk("export").export(plain=plain)

    async def spool_import(self, content: bytes) -> dict[str, Any]:
        return {**await self._on_disk("import").apply(content)}

    def _on_disk(self, verb: str) -> DurableSpool:
        if self.durable is None:
            raise Rejected(
                f"{verb} spool: expected one on disk, got a volatile one",
                hint="it stands in while the disk cannot be used: edge-agent status says why",
            )
        return self.durable


class Views(Kept):
    """The parts, their sum, and what a follower sees."""

    # ── pictures and followers ────────────────────────────────────────────────────────────────

    def subscribe(self, stream: str) -> AbstractContextManager[AsyncIterator[bytes]]:
        """The latest lines of a stream.

        Raises: KeyError, Overloaded.
        """
        return self.rooms.pipeline.follow(stream)

    def frame(self, stream: str) -> Shot | None:
        """The newest kept frame and its result; asking makes the next answer fresher."""
        tap, channel = self.rooms.engine.taps.get(stream), self.rooms.pipeline.channels.get(stream)
        now_us = self.rooms.clock.boot_us()
        view = tap.frame() if tap else None
        if tap is not None:
            tap.want_frames(now_us + WATCHED_US)
        if view is None or channel is None:
            return None
        height, width = view.pixels.shape[:2]
        picture = Picture(
            w=width,
            h=height,
            channels=1 if view.pixels.ndim == 2 else 3,
            pixels=view.pixels.tobytes(),
            number=view.number,
            age_ms=round((now_us - view.captured_us) / 1000, 1),
        )
        belongs = [result for result in channel.recent if result.frame == view.number]
        return Shot(frame=picture, result=belongs[-1] if belongs else None)

    def audited(self, who: str, verb: str, fields: Mapping[str, object]) -> None:
        if self.auditor is not None:
            self.auditor.note(who, "asked", verb, **fields)

    def ready(self) -> bool:
        return self.rooms.health.is_ready() and not self.stopping

    # ── the whole ─────────────────────────────────────────────────────────────────────────────

    def found(self) -> list[Problem]:
        """Every problem that stands, the worst first."""
        down, auditor = self.down, self.auditor
        found = [*self.rooms.health.problems(), *self.troubles(), *self.host_problems()]
        found += [
            Problem("console", "warning", one["what"], one["fix"]) for one in self.console()[1]
        ]
        found += of_models(down.problems(), self.rooms, self.config.streams) if down else []
        if auditor is not None and auditor.trouble is not None:
            found.append(Problem("audit-unwritable", "critical", *auditor.trouble))
        found += of_streams(self.rooms, self.config.streams)
        found += of_facts(self.facts, self.config.streams)
        found += of_notes(self.rooms, self.config.streams, self._absent)
        found += of_disk(self.sample(), found)
        found += of_uplink(self.uplink(), self.rooms.health.rooms().get("uplink"))
        return distinct(found)

    def problems(self) -> list[dict[str, Any]]:
        """What a person should know or do something about, worst first."""
        now_us = self.rooms.clock.boot_us()
        return [one.words((now_us - self.book.since_us(one, now_us)) / 1e6) for one in self.found()]

    def states(self) -> dict[str, str]:
        """Of each stream, and as "" of the agent."""
        streams = {name: self._state(name, self._tap(name)) for name in self.config.streams}
        return {"": self.state(), **streams}

    def _tap(self, name: str) -> Tap | None:
        return self.rooms.engine.taps.get(name)

    def state(self) -> str:
        if self.stopping:
            return "stopping"
        if not self.rooms.health.is_ready():
            return "starting"
        if self.degraded or any(map(is_fault, self.found())):
            return "degraded"
        states = {self._state(name, self._tap(name)) for name in self.config.streams}
        return "starting" if states == {Signal.STARTING.value} else "ok"

    def status(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "node": self.config.node,
            "version": __version__,
            "state": self.state(),
            "uptime_s": round((self.rooms.clock.boot_us() - self._started_us) / 1e6, 1),
            "level": 0,
            "streams": self.streams(),
            "spool": self.spool(),
            "uplink": self.uplink(),
            "models": self.models(),
            "peers": self.peers(),
            "device": self.device(),
            "engine": {"up": self.rooms.engine.is_up, "starts": self.rooms.engine.starts,
                       "isolation": self.config.engine.isolation},
            "console": {"port": self.console()[0]},
            "desired": self.down.desired() if self.down else None,
            "audit": self.auditor.head.words() if self.auditor else None,
            "problems": self.problems(),
        }  # fmt: skip


def quantiles_ms(values: tuple[float | None, ...]) -> dict[str, float | None]:
    rounded = [None if value is None else round(value / 1000, 3) for value in values]
    return {"p50": rounded[0], "p99": rounded[1]}
