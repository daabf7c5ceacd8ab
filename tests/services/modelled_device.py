"""One device and all that may happen to it: the rules of the model test, each callable."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from edge_agent.core.desired import EVERY
from edge_agent.core.edgecore import Desired, DesiredHint
from edge_agent.core.errors import EdgeAgentError
from tests.services.modelled import (
    CHANGES,
    ERRNOS,
    PLACES,
    SHIPPED,
    VERSIONS,
    Life,
    ModelWorld,
    rot,
    shop,
    stream,
)
from tests.services.modelled_ends import Ends
from tests.services.modelled_laws import Laws
from tests.services.modelled_side import Flaw
from tests.services.rolling import NAME
from tests.services.virtual import VirtualLoop

PAUSES: Final = st.sampled_from([0.0, 0.0005, 0.002, 0.02, 0.1, 0.4, 1.1, 2.5, 8.0])
EVERY_VERSION: Final = (SHIPPED, *VERSIONS)
A_VERSION: Final = st.sampled_from(EVERY_VERSION)
FLAWS: Final = st.sampled_from([Flaw.NONE] * 8 + [flaw for flaw in Flaw if flaw is not Flaw.NONE])
STREAMS: Final = st.sampled_from(["", "", "", "gone", *EVERY_VERSION[:3]])


class Device(RuleBasedStateMachine):
    """One device, with one model on two streams."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: VirtualLoop
        self.world: ModelWorld
        self.laws: Laws
        self.ends: Ends
        self.serial = 0
        self.models: dict[str, Any] = {}
        self.halted: set[str] = set()
        self.person = asyncio.Lock()
        self.asked: set[asyncio.Task[None]] = set()

    @initialize(is_fresh=st.booleans(), flaws=st.lists(FLAWS, min_size=4, max_size=4))
    def begin(self, is_fresh: bool, flaws: list[Flaw]) -> None:
        self.loop = VirtualLoop()  # here: a machine that never begins is not torn down
        self.world = ModelWorld(self.loop, is_fresh=is_fresh)
        self.world.made.flaws.clear()
        self.world.made.flaws.update(
            {shop().shas[version]: flaw for version, flaw in zip(VERSIONS, flaws, strict=True)}
        )
        self.laws = Laws(self.world)
        self.ends = Ends(self.world, self.laws)
        self.wait(0.5)

    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        async def told() -> None:
            with contextlib.suppress(EdgeAgentError):  # it is said to whoever asked
                await work

        task = self.loop.create_task(told())
        self.asked.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[None]) -> None:
        self.asked.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.laws.broke(f"an order fell: {task.exception()!r}")

    def runs(self) -> set[str]:
        """Versions that any stream runs."""
        process = self.world.life.engine.process
        assert process is not None
        return {shop().versions[run.live] for run in process.runs.values()}

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if not self.world.broken:
                self.ends.quiet(self.wait, self.hint)
        finally:
            self.world.close()
            for task in self.asked:
                task.cancel()
            self.wait(0.0)
            self.loop.close()

    @invariant()
    def laws_hold(self) -> None:
        if hasattr(self, "world"):
            self.laws.check()

    # ── the hot tier ──────────────────────────────────────────────────────────────────────────

    def hint(self) -> None:
        hint = Desired(state=DesiredHint(serial=max(1, self.serial)), raw=b"")
        self.world.do(lambda: self.world.life.rollouts.came(hint))

    def publish(self) -> None:
        self.serial += 1
        shas = shop().shas
        halts = [{"sha256": shas[one], "version": one} for one in sorted(self.halted)]
        self.world.published = {
            "schema": 1, "serial": self.serial, "models": self.models,
            **({"halted": {NAME: halts}} if halts else {}),
        }  # fmt: skip
        self.hint()

    @rule(version=st.sampled_from(VERSIONS), pause=PAUSES)
    def want(self, version: str, pause: float) -> None:
        self.models = {NAME: {"version": version, "sha256": shop().shas[version]}}
        self.publish()
        self.wait(pause)

    @rule(pause=PAUSES)
    def want_nothing(self, pause: float) -> None:
        self.models = {}
        self.publish()
        self.wait(pause)

    @rule(version=A_VERSION, pause=PAUSES)
    def halt(self, version: str, pause: float) -> None:
        self.halted ^= {version}
        self.publish()
        self.wait(pause)

    # ── a person ──────────────────────────────────────────────────────────────────────────────

    def order(
        self, work: Callable[[Life], Awaitable[dict[str, Any]]], heard: Callable[[Any], None]
    ) -> None:
        """One after another. heard: of the answer."""
        life = self.world.life

        async def ordered() -> None:
            async with self.person:
                if life.is_dead:
                    return
                self.laws.knows_pin = False
                try:
                    heard(await work(life))
                finally:
                    if not life.is_dead:
                        self.laws.knows_pin = True

        self.spawn(ordered())

    def _pinned(self, answer: dict[str, Any]) -> None:
        self.laws.pin = answer["pinned"]

    @rule(version=st.sampled_from(["", *EVERY_VERSION]), pause=PAUSES)
    def pin(self, version: str, pause: float) -> None:
        self.ends.forget_install()
        self.order(lambda life: life.desk.pin(NAME, version, "anna"), self._pinned)
        self.wait(pause)

    @rule(model=st.sampled_from([NAME, NAME, EVERY]), pause=PAUSES)
    def unpin(self, model: str, pause: float) -> None:
        self.ends.forget_install()

        def heard(answer: dict[str, Any]) -> None:
            if model == NAME:
                self._pinned(answer)

        self.order(lambda life: life.desk.unpin(model), heard)
        self.wait(pause)

    @rule(version=st.sampled_from(VERSIONS), pause=PAUSES)
    def install(self, version: str, pause: float) -> None:
        self.ends.forget_install()

        def heard(_: dict[str, Any]) -> None:
            self.laws.pin = version
            self.ends.installed(version)

        async def installed(life: Life) -> dict[str, Any]:
            try:
                return await life.desk.install(model=NAME, version=version)
            except EdgeAgentError:  # it may have fallen between the pin and the offer
                self.laws.half_pinned(version)
                raise

        self.order(installed, heard)
        self.wait(pause)

    @rule(pause=PAUSES)
    def roll_back(self, pause: float) -> None:
        self.ends.forget_install()
        self.order(self._roll_back, self.ends.rolled_back)
        self.wait(pause)

    async def _roll_back(self, life: Life) -> dict[str, Any]:
        leaving = self.ends.leaving()

        async def watched() -> None:
            """From the moment in which it was heard; that it was refused is known at once."""
            await life.rollouts.until_read()
            await asyncio.sleep(0.1)
            self.laws.leaves(leaving)

        watch = self.loop.create_task(watched())
        try:
            answer = await life.desk.roll_back(NAME)
        except EdgeAgentError:
            self.laws.leaving -= leaving
            raise
        finally:
            watch.cancel()
        self.laws.leaving -= leaving
        self.laws.leaves({answer["sha"]})
        if self.laws.pin == answer["leaving"] and answer["live"] not in (None, answer["leaving"]):
            self.laws.pin = answer["live"]  # it moves with the person who goes back
        return answer

    # ── the configuration ─────────────────────────────────────────────────────────────────────

    @rule(one=STREAMS, two=STREAMS, pause=PAUSES)
    def configure(self, one: str, two: str, pause: float) -> None:
        wanted = {"us-1": one, "us-2": two}
        self.world.streams = {name: stream(v) for name, v in wanted.items() if v != "gone"}
        self.ends.forget_install()

        async def configured() -> None:
            await self.world.life.configure()

        self.spawn(configured())
        self.wait(pause)

    # ── what falls ────────────────────────────────────────────────────────────────────────────

    @rule(pause=PAUSES)
    def the_room_falls(self, pause: float) -> None:
        self.ends.blow()
        self.world.do(self.world.life.fall)
        self.wait(pause)

    @rule(is_orderly=st.booleans(), pause=PAUSES)
    def the_agent_restarts(self, is_orderly: bool, pause: float) -> None:
        life = self.world.life
        if not is_orderly:
            self.ends.blow()
            self.ends.crashed()
        self.world.end(life.scope.cancel if is_orderly else life.crash)
        for task in self.asked:
            task.cancel()
        self.laws.knows_pin = False
        self.laws.said.append(life.rollouts.wishes.memory)  # a word that was being kept just then
        self.laws.begins()
        self.world.begin()
        self.wait(pause)

    @rule(how=st.sampled_from([signal.SIGSEGV, signal.SIGKILL]), pause=PAUSES)
    def the_side_dies(self, how: signal.Signals, pause: float) -> None:
        process = self.world.life.engine.process
        if process is not None:
            if how is signal.SIGSEGV:
                self.ends.blow()
            process.die(-how)
        self.wait(pause)

    @rule(pause=PAUSES)
    def the_side_is_deaf(self, pause: float) -> None:
        process = self.world.life.engine.process
        if process is not None:
            self.ends.blow()
            process.is_deaf = True
        self.wait(pause)

    @rule(verb=st.sampled_from(["swap", "commit", "rollback", "load", "configure"]), pause=PAUSES)
    def an_answer_is_lost(self, verb: str, pause: float) -> None:
        process = self.world.life.engine.process
        if process is not None:
            self.ends.blow()
            process.loses = {verb}
        self.wait(pause)

    # ── the disk, the link, the machine ───────────────────────────────────────────────────────

    @rule(
        places=st.sets(st.sampled_from(PLACES), min_size=1),
        number=st.sampled_from(ERRNOS),
        only=st.sets(st.sampled_from(CHANGES), min_size=1),
        after=st.sampled_from([0, 0, 1, 2, 3, 5, 8]),
        pause=PAUSES,
    )
    def the_disk_refuses(
        self, places: set[str], number: int, only: set[str], after: int, pause: float
    ) -> None:
        for place in places:
            trouble = self.world.troubles[place]
            trouble.number, trouble.only, trouble.after = number, tuple(only), after
        self.wait(pause)

    @rule(place=st.sampled_from(PLACES), reads=st.sampled_from([1, 4, 5, 20]), pause=PAUSES)
    def the_disk_does_not_read(self, place: str, reads: int, pause: float) -> None:
        self.world.troubles[place].reads = reads
        self.wait(pause)

    @rule(pause=PAUSES)
    def the_disk_heals(self, pause: float) -> None:
        for trouble in self.world.troubles.values():
            trouble.number = trouble.reads = 0
        self.wait(pause)

    @rule(place=st.sampled_from(PLACES), which=st.sampled_from([(0,), (1,), (0, 1)]))
    def a_document_rots(self, place: str, which: tuple[int, ...]) -> None:
        copies = self.world.copies(place)
        for one in which:
            rot(copies[one])
        if self.world.is_rotten(place):
            self.laws.rots[place] += 1
            self.ends.rotten(place)

    @rule(is_cut=st.booleans(), is_short=st.booleans(), kills=st.sampled_from([0, 0, 1, 2]),
          pause=PAUSES)  # fmt: skip
    def the_weather_is(self, is_cut: bool, is_short: bool, kills: int, pause: float) -> None:
        self.world.is_cut, self.world.is_short, self.world.kills = is_cut, is_short, kills
        self.world.life.engine.is_short = is_short
        if self.world.life.engine.process is not None:
            self.world.life.engine.process.is_short = is_short
        self.wait(pause)

    @rule(seconds=st.floats(0.0, 12.0))
    def time_goes_by(self, seconds: float) -> None:
        self.wait(seconds)

    @precondition(lambda self: hasattr(self, "world"))
    @rule()
    def all_is_quiet(self) -> None:
        self.ends.quiet(self.wait, self.hint)
