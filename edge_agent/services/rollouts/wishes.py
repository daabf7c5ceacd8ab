"""What is wanted of this node: asks the repository when there is a reason to, and offers what
follows. Whoever hinted is not believed; what the repository has signed is.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec

from edge_agent import logs
from edge_agent.core import desired
from edge_agent.core.desired import Desired, Memory, Pin, Plan, Standing, WantedConfig
from edge_agent.core.errors import EdgeAgentError, LinkDown, Rejected
from edge_agent.core.rollout import Wanted
from edge_agent.errands import Errand
from edge_agent.services.rollouts.bench import Bench
from edge_agent.services.rollouts.keep import Keep

LEAST_S: Final = 5.0  # between two looks, whoever hints
WEATHER_S: Final = 30.0  # until the next one when the repository is away
ERRAND_S: Final = 600.0

log = logs.get("rollouts")
Offer = Callable[[str, Wanted, bool], None]  # model, what, also when it was refused before


class Wishes:
    """Of this node. `hint` from the loop; `run` until cancelled."""

    def __init__(self, bench: Bench, keep: Keep, *, node: str, offer: Offer) -> None:
        self._bench = bench
        self._keep = keep
        self._node = node
        self._offer = offer
        self._hinted = anyio.Event()
        self._turn = anyio.Lock()
        self.memory = Memory()
        self.notes: Mapping[str, str] = {}
        self.trouble = ""  # why the repository could not be asked

    def hint(self) -> None:
        """Something new may be there."""
        self._hinted.set()

    def heard_of(self, serial: int) -> None:
        """A message names a serial. It is believed as far as to look."""
        if serial > self.memory.serial:
            self.hint()

    async def run(self) -> None:
        self.memory = await anyio.to_thread.run_sync(self._keep.memory)
        await self.follow()
        while True:
            self._hinted = anyio.Event()
            wait_s = self._bench.config.check_every_s
            try:
                await self.look()
            except EdgeAgentError as trouble:
                wait_s = wait_s if isinstance(trouble, Rejected) else min(wait_s, WEATHER_S)
            await anyio.sleep(min(LEAST_S, wait_s))
            with anyio.move_on_after(wait_s):
                await self._hinted.wait()

    async def look(self, *, source: str = "", again: bool = False) -> Plan:
        """Asks the repository, with a stick first, and offers what follows.

        again: a person asked: also what was refused before. Raises: Trouble, Rejected.
        """
        async with self._turn:
            place = self._bench.place
            if source:
                place = msgspec.structs.replace(place, extra=(source, *place.extra))
            errand = Errand(
                verb="wanted", place=place, node=self._node, cohort=self._bench.config.cohort
            )
            try:
                with anyio.fail_after(ERRAND_S):
                    facts = await self._bench.crew.run(errand, lambda _what, _facts: None)
            except (EdgeAgentError, TimeoutError) as error:
                words = error.what if isinstance(error, EdgeAgentError) else "no answer in time"
                self._troubled(words)
                if isinstance(error, EdgeAgentError):
                    raise
                raise LinkDown(words) from None
            refused = dict(facts.get("refused") or {})  # type: ignore[call-overload]
            wrong = await self._take(facts.get("desired") or {})
            self._troubled("; ".join([*map(str, refused.values()), *wrong]))
        return await self.follow(source=source, again=again)

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
        before = self.memory
        memory, why = desired.hear(before, target, documents[target], utc_now(self._bench.clock))
        if memory.serial != before.serial:
            log.info("wanted", target=target, serial=memory.serial)
        await self._remember(memory)
        return [*wrong, *([why] if why else [])]

    async def _remember(self, memory: Memory) -> None:
        """Raises: Damaged when it cannot be kept; then it does not count either."""
        if memory == self.memory:
            return
        await anyio.to_thread.run_sync(self._keep.write_memory, memory)
        self.memory = memory

    async def follow(self, *, source: str = "", again: bool = False) -> Plan:
        """What follows from the memory as it is."""
        standings = await self._standings()
        found = desired.plan(self.memory, standings)
        self.notes = found.notes
        for name, wanted in found.offers.items():
            self._offer(name, msgspec.structs.replace(wanted, source=source), again)
        if self.memory.desired is not None and self.memory.desired.config is not None:
            await self._configure(self.memory.desired.config, source)
        return found

    async def _standings(self) -> dict[str, Standing]:
        bench = self._bench
        found: dict[str, Standing] = {}
        for stream in bench.house.streams().values():
            for model in stream.models:
                try:
                    live = await anyio.to_thread.run_sync(bench.house.resolve, model.name)
                    current, version = live.sha, live.version
                except EdgeAgentError:  # not there yet: it may well be what is wanted
                    current, version = "", ""
                before = found.get(model.name)
                held = model.version or (before.held if before else "")
                found[model.name] = Standing(current, version, is_used=True, held=held)
        return found

    # ── configuration that comes down ─────────────────────────────────────────────────────────

    async def _configure(self, wanted: WantedConfig, source: str) -> None:
        """Fetched, checked whole, applied or refused: once for each that is wanted."""
        memory = self.memory
        if memory.config_sha == wanted.sha256 and memory.config_state in ("applied", "refused"):
            return
        place = self._bench.place
        if source:
            place = msgspec.structs.replace(place, extra=(source, *place.extra))
        errand = Errand(verb="config", place=place, sha=wanted.sha256)
        try:
            with anyio.fail_after(ERRAND_S):
                facts = await self._bench.crew.run(errand, lambda _what, _facts: None)
        except (EdgeAgentError, TimeoutError) as error:
            self._troubled(str(error) or "no answer in time")
            await self._configured(wanted, "pending", self.trouble)
            return
        reason = await self._bench.house.apply(str(facts.get("text", "")), wanted.version)
        await self._configured(wanted, "refused" if reason else "applied", reason)
        self._bench.house.tell(
            "config-refused" if reason else "config-applied",
            f"version {wanted.version}" + (f": {reason}" if reason else ""),
        )

    async def _configured(self, wanted: WantedConfig, state: Any, reason: str) -> None:
        memory = msgspec.structs.replace(
            self.memory, config_sha=wanted.sha256, config_state=state, config_reason=reason[:1000]
        )
        await self._remember(memory)

    # ── pins ──────────────────────────────────────────────────────────────────────────────────

    async def pin(self, name: str, pin: Pin | None) -> None:
        """None takes it off; then what is wanted counts again."""
        pins = {other: one for other, one in self.memory.pins.items() if other != name}
        if pin is not None:
            pins[name] = pin
        await self._remember(msgspec.structs.replace(self.memory, pins=pins))
        if pin is None:
            self.hint()
            await self.follow()


def utc_now(clock: Any) -> dt.datetime | None:
    """None while nobody has set the clock."""
    offset_us, _ = clock.utc_offset_us()
    if offset_us is None:
        return None
    return dt.datetime.fromtimestamp((clock.boot_us() + offset_us) / 1e6, dt.timezone.utc)
