"""What is wanted of this node: asks the repository when there is a reason to, and offers what
follows. Whoever hinted is not believed; what the repository has signed is.

What is remembered of it changes in one place (`_change`), under one lock, from what it is at that
moment. It holds at once; until the disk has it, that is said and tried on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import anyio
import anyio.to_thread
import msgspec

from edge_agent import logs
from edge_agent.core import desired
from edge_agent.core.desired import (
    EVERY,
    Desired,
    Halt,
    Memory,
    Note,
    Pin,
    Plan,
    Standing,
    WantedConfig,
)
from edge_agent.core.errors import Damaged, EdgeAgentError, LinkDown, Rejected
from edge_agent.core.problems import Problem
from edge_agent.core.rollout import Wanted
from edge_agent.errands import Errand, Place
from edge_agent.services.rollouts.bench import Bench
from edge_agent.services.rollouts.keep import Keep

LEAST_S: Final = 5.0  # between two looks, when hints come one after the other
BURST: Final = 4  # looks that need not wait for that
WEATHER_S: Final = 30.0  # until the next one when the repository is away
AGAIN_S: Final = 15.0  # until what was deferred is offered again
ERRAND_S: Final = 600.0
RECALL_S: Final = 1.0  # between two tries to read what is remembered
WRITE_S: Final = 0.5  # between two tries to write it

log = logs.get("rollouts")
Change = Callable[[Memory], Memory]


class Heard(NamedTuple):
    """Whom it is told. offer: model, what, also when it was refused before. leave: a version is
    halted; True when it is live or current and has to go first. changed: what is wanted is another
    thing.
    """

    offer: Callable[[str, Wanted, bool], None]
    leave: Callable[[str, Standing, Halt], Awaitable[bool]]
    changed: Callable[[], None]


class Wishes:
    """Of this node. `hint` from the loop; `run` until cancelled."""

    def __init__(self, bench: Bench, keep: Keep, *, node: str, heard: Heard) -> None:
        self._bench = bench
        self._keep = keep
        self._node = node
        self._heard = heard
        self._hinted = anyio.Event()
        self._turn = anyio.Lock()
        self._changing = anyio.Lock()
        self._recalling = anyio.Lock()
        self._looks = float(BURST)
        self._looked_s = 0.0
        self.memory = Memory()
        self.is_recalled = False
        self.unwritten = ""  # why the disk does not have what holds
        self._doubted: dict[str, str] = {}  # before anything was recalled
        self._blocked: frozenset[tuple[str, str]] = frozenset()
        self.notes: Mapping[str, Note] = {}
        self.rotten: dict[str, Problem] = {}  # by model: what would not start again, and why
        self.trouble = ""  # why the repository could not be asked

    def hint(self) -> None:
        """Something new may be there."""
        self._hinted.set()

    def heard_of(self, serial: int) -> None:
        """A message names a serial. It is believed as far as to look."""
        if serial > self.memory.serial:
            self.hint()

    # ── what is remembered ────────────────────────────────────────────────────────────────────

    async def recall(self) -> None:
        """What the disk remembers, before anything runs. A disk that fails is asked again later."""
        async with self._recalling:
            if not self.is_recalled:
                await self._recall()

    async def _recall(self) -> None:
        try:
            found = await anyio.to_thread.run_sync(self._keep.memory)
        except EdgeAgentError as disk:
            self.unwritten = disk.what
            return
        self.memory, self.is_recalled, self.unwritten = found.memory, True, ""
        if found.lost:
            await self.doubt(EVERY, found.lost)
        elif self.memory == Memory():  # from now on there is one: a missing one was lost
            await self._written()
        for name, why in self._doubted.items():
            await self.doubt(name, why)
        self._doubted.clear()

    async def doubt(self, name: str, why: str) -> None:
        """Nothing new starts of that model until a person says so."""

        def change(memory: Memory) -> Memory:
            if name in memory.doubts:
                return memory
            released = tuple(one for one in memory.released if name not in (EVERY, one))
            doubts = {**memory.doubts, name: why[:1000]}
            return msgspec.structs.replace(memory, doubts=doubts, released=released)

        log.warning("what was remembered is lost", model=name, error=why)
        if self.is_recalled:
            await self._change(change)
        else:  # by who does not know yet what is held; it is kept once that can be read
            self._doubted[name] = why

    async def _change(self, change: Change) -> bool:
        """The one way in which the memory changes. True when the disk has it."""
        async with self._changing:
            self._must_be_recalled()
            memory = change(self.memory)
            if memory == self.memory and not self.unwritten:
                return True
            is_other = memory != self.memory
            self.memory = memory
            if is_other:
                self._heard.changed()
            return await self._written()

    def _must_be_recalled(self) -> None:
        """What nobody could read is never written over. Raises: Damaged."""
        if not self.is_recalled:
            raise Damaged(
                f"what is remembered of pins and wishes can not be read: {self.unwritten}",
                hint="check the disk of state_dir (dmesg), and whose its files are",
            )

    async def _written(self) -> bool:
        try:
            await anyio.to_thread.run_sync(self._keep.write_memory, self.memory)
        except EdgeAgentError as disk:
            self.unwritten = disk.what
            return False
        self.unwritten = ""
        return True

    async def write_on(self) -> None:
        """Until cancelled: what could not be read or written is tried again."""
        while True:
            await anyio.sleep(WRITE_S if self.is_recalled else RECALL_S)
            if not self.is_recalled:
                await self.recall()
            elif self.unwritten:
                await self._change(lambda memory: memory)

    # ── looking ───────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        while not self.is_recalled:  # noqa: ASYNC110 - who does not know what is held waits
            await anyio.sleep(RECALL_S)
        await self._follow_on()
        while True:
            self._hinted = anyio.Event()
            wait_s = self._bench.config.check_every_s
            try:
                await self.look()
            except EdgeAgentError as trouble:
                wait_s = wait_s if isinstance(trouble, Rejected) else min(wait_s, WEATHER_S)
            await self._paced()
            await self._until_hinted(wait_s)

    async def _paced(self) -> None:
        """A hint is followed at once, unless there have just been many: each look is a process."""
        now_s = anyio.current_time()
        self._looks = min(float(BURST), self._looks + (now_s - self._looked_s) / LEAST_S) - 1.0
        self._looked_s = now_s
        if self._looks < 0:
            await anyio.sleep(min(-self._looks * LEAST_S, self._bench.config.check_every_s))

    async def _until_hinted(self, wait_s: float) -> None:
        """Meanwhile what rests is offered again."""
        end_s = anyio.current_time() + wait_s
        while not self._hinted.is_set() and (left_s := end_s - anyio.current_time()) > 0:
            with anyio.move_on_after(min(left_s, AGAIN_S)):
                await self._hinted.wait()
                return
            await self._follow_on()

    async def _follow_on(self) -> None:
        """A store that can't be read just now is followed the next time."""
        try:
            await self.follow()
        except EdgeAgentError as disk:
            log.warning("not followed just now", error=disk.what)

    async def look(self, *, source: str = "", again: bool = False) -> Plan:
        """Asks the repository, with a stick first, and offers what follows.

        again: a person asked: also what was refused before. Raises: EdgeAgentError.
        """
        async with self._turn:
            await self.recall()
            self._must_be_recalled()
            errand = Errand(
                verb="wanted", place=self._place(source), node=self._node,
                cohort=self._bench.config.cohort,
            )  # fmt: skip
            try:
                facts = await self._asked(errand)
            except EdgeAgentError as error:
                self._troubled(error.what)
                raise
            refused = dict(facts.get("refused") or {})  # type: ignore[call-overload]
            wrong = await self._take(facts.get("desired") or {})
            self._troubled("; ".join([*map(str, refused.values()), *wrong]))
        return await self.follow(source=source, again=again)

    def _place(self, source: str) -> Place:
        place = self._bench.place
        return msgspec.structs.replace(place, extra=(source, *place.extra)) if source else place

    async def _asked(self, errand: Errand) -> dict[str, object]:
        try:
            with anyio.fail_after(ERRAND_S):
                return await self._bench.crew.run(errand, lambda _what, _facts: None)
        except TimeoutError:
            raise LinkDown(f"{errand.verb}: no answer in {ERRAND_S:.0f} s") from None

    def _troubled(self, words: str) -> None:
        """Said once, not at each look."""
        if words and words != self.trouble:
            log.warning("the repository is not followed", error=words)
            self._bench.house.tell("desired-refused", words)
        self.trouble = words

    async def _take(self, found: Any) -> list[str]:
        """The document that counts, into the memory; what was wrong."""
        documents: dict[str, Desired] = {}
        wrong: list[str] = []
        for target, text in dict(found).items():
            try:
                documents[target] = desired.read(str(text).encode(), target)
            except Rejected as error:
                wrong.append(error.what)
        target = desired.newest(documents, f"desired/{self._node}.json")
        if not target:
            return wrong
        now, why, serial = utc_now(self._bench.clock), "", self.memory.serial

        def change(memory: Memory) -> Memory:
            nonlocal why
            memory, why = desired.hear(memory, target, documents[target], now)
            return memory

        await self._change(change)
        if self.memory.serial != serial:
            log.info("wanted", target=target, serial=self.memory.serial)
        return [*wrong, *([why] if why else [])]

    # ── what follows ──────────────────────────────────────────────────────────────────────────

    async def follow(self, *, source: str = "", again: bool = False) -> Plan:
        """What follows from the memory as it is: for the models, then for the configuration."""
        found = await self.follow_models(source=source, again=again)
        wanted = self.memory.desired.config if self.memory.desired else None
        if wanted is not None and not self.memory.doubt(EVERY):
            await self._configure(wanted, source)
        return found

    async def follow_models(self, *, source: str = "", again: bool = False) -> Plan:
        """Asks nobody."""
        standings = await self._standings()
        for name, standing in standings.items():
            halt = desired.must_leave(self.memory, name, standing)
            if halt is not None and await self._heard.leave(name, standing, halt):
                words = f"{desired.halted(halt)}; it gives way first"
                standings[name] = standing._replace(trouble=words)
        found = desired.plan(self.memory, standings)
        self.notes = found.notes
        await self._let_go(standings)
        for name, wanted in found.offers.items():
            self._heard.offer(name, msgspec.structs.replace(wanted, source=source), again)
        return found

    async def _let_go(self, standings: Mapping[str, Standing]) -> None:
        """What is ordered is compared with the halts: where one is gone, a stream that showed
        nothing may go on; no swap reaches those that the configuration holds, nor those that run
        what nobody can read in the store. Again is harmless.
        """
        memory = self.memory
        blocked, before = desired.blocked(memory), self._blocked
        self._blocked = blocked
        is_held = any(desired.must_be_let_go(memory, n, one.held) for n, one in standings.items())
        is_astray = any(
            (name, self._runs_beside(name, one)) in blocked for name, one in standings.items()
        )
        is_same = before == blocked or (before < blocked and not is_held)
        is_dark = any(self._is_dark(name, one) for name, one in standings.items())
        if is_same and not is_astray and not is_dark:
            return  # what a swap can take away goes by a swap
        try:
            await self._bench.house.reorder()
        except EdgeAgentError as gone:
            log.warning("the next side starts without it", error=gone.what)

    def _is_dark(self, name: str, standing: Standing) -> bool:
        """Nothing of it runs, and something may: what blocked it has ended."""
        bench = self._bench
        may_run = standing.current and not standing.held and bench.side.is_up
        if not may_run or bench.side.live(name) is not None:
            return False
        return not bench.house.blocked(name, standing.current)

    def _runs_beside(self, name: str, standing: Standing) -> str:
        """Id of what is live and neither on trial nor what the store says; "": nothing is."""
        side = self._bench.side
        live = None if side.is_on_trial(name) else side.live(name)
        return live.sha if live is not None and live.sha != standing.current else ""

    def standing_of(self, name: str) -> Standing:
        """As the streams are configured now; nothing of what is installed."""
        used = [
            model
            for stream in self._bench.house.streams().values()
            for model in stream.models
            if model.name == name
        ]
        held = next((model.version for model in used if model.version), "")
        return Standing(is_used=bool(used), held=held)

    async def _standings(self) -> dict[str, Standing]:
        """By name, of every model that a stream runs."""
        streams = self._bench.house.streams().values()
        names = dict.fromkeys(model.name for stream in streams for model in stream.models)
        return {name: await self._standing(name) for name in names}

    async def _standing(self, name: str) -> Standing:
        standing = self.standing_of(name)
        try:
            live = await anyio.to_thread.run_sync(self._bench.house.resolve, name)
        except Rejected:
            self.rotten.pop(name, None)
            return standing  # not there yet: it may well be what is wanted
        except EdgeAgentError as disk:
            if isinstance(disk, Damaged) and disk.healable:
                self.rotten[name] = await anyio.to_thread.run_sync(self._rot, name, disk)
                return standing
            self.rotten.pop(name, None)
            return standing._replace(trouble=disk.what)  # nobody could read it just now
        self.rotten.pop(name, None)
        return standing._replace(current=live.sha, version=live.version)

    def _rot(self, name: str, found: Damaged) -> Problem:
        """Of the pointers, or of the package that they name. Blocks."""
        what = f"model {name}: {found.what}"
        try:
            self._bench.store.pointers(name)
        except EdgeAgentError:
            now = self._bench.side.live(name)
            version = now.version if now is not None else "VERSION"
            fix = f"edge-agent models install {name}@{version} names it anew"
            return Problem("pointers-damaged", "critical", what, fix, subject=name)
        return Problem("model-damaged", "critical", found.what, found.hint, subject=name)

    # ── configuration that comes down ─────────────────────────────────────────────────────────

    async def _configure(self, wanted: WantedConfig, source: str) -> None:
        """Fetched, checked whole, applied or refused: once for each that is wanted."""
        memory = self.memory
        if memory.config_sha == wanted.sha256 and memory.config_state in ("applied", "refused"):
            return
        errand = Errand(verb="config", place=self._place(source), sha=wanted.sha256)
        try:
            facts = await self._asked(errand)
        except EdgeAgentError as error:
            self._troubled(str(error))
            await self._configured(wanted, "pending", self.trouble)
            return
        reason = await self._bench.house.apply(str(facts.get("text", "")), wanted.version)
        await self._configured(wanted, "refused" if reason else "applied", reason)
        self._bench.house.tell(
            "config-refused" if reason else "config-applied",
            f"version {wanted.version}" + (f": {reason}" if reason else ""),
        )

    async def _configured(self, wanted: WantedConfig, state: Any, reason: str) -> None:
        await self._change(
            lambda memory: msgspec.structs.replace(
                memory, config_sha=wanted.sha256, config_state=state, config_reason=reason[:1000]
            )
        )

    # ── the word of a person ──────────────────────────────────────────────────────────────────

    async def pin(self, name: str, pin: Pin | None) -> bool:
        """None takes it off; then what is wanted counts again. Either ends a doubt of that model.

        It holds at once. True when the disk has it. Raises: Damaged before anything is known.
        """
        await self.recall()

        def change(memory: Memory) -> Memory:
            pins = {other: one for other, one in memory.pins.items() if other != name}
            if pin is not None:
                pins[name] = pin
            doubts = {other: why for other, why in memory.doubts.items() if other != name}
            released = memory.released
            if EVERY in doubts and name not in released:
                released = (*released, name)
            return msgspec.structs.replace(memory, pins=pins, doubts=doubts, released=released)

        is_written = await self._change(change)
        await self._follow_a_person()
        return is_written

    async def _follow_a_person(self) -> None:
        """Their word holds already; a store that can't be read just now is followed later."""
        self.hint()
        try:
            await self.follow_models()
        except EdgeAgentError as disk:
            log.warning("not followed just now", error=disk.what)

    async def release(self) -> bool:
        """Of every doubt. Raises: Damaged before anything is known."""
        await self.recall()
        is_written = await self._change(
            lambda memory: msgspec.structs.replace(memory, doubts={}, released=())
        )
        await self._follow_a_person()
        return is_written


def utc_now(clock: Any) -> dt.datetime | None:
    """None while nobody has set the clock."""
    offset_us, _ = clock.utc_offset_us()
    if offset_us is None:
        return None
    return dt.datetime.fromtimestamp((clock.boot_us() + offset_us) / 1e6, dt.timezone.utc)
