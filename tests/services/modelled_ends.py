"""Where the house has to arrive once it is left in peace.

What is told, what the store says and what runs are one, and what is wanted and good is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edge_agent.core.desired import Memory, WantedModel
from edge_agent.core.rollout import Rollout, State
from tests.services.modelled import ModelWorld, shop
from tests.services.modelled_laws import Laws, current_of
from tests.services.modelled_side import Flaw
from tests.services.rolling import NAME

STEP_S: Final = 2.0
PEACE_S: Final = 400.0  # and what rests by then
LONGEST_S: Final = 30_000.0


class Ends:
    """install: sha of what a person wants installed. left: what one left, and whether that was
    written down.
    """

    def __init__(self, world: ModelWorld, laws: Laws) -> None:
        self.world = world
        self.laws = laws
        self.install = ""
        self.left: dict[str, bool] = {}
        self.ever_left: set[str] = set()

    # ── what was said ─────────────────────────────────────────────────────────────────────────

    def forget_install(self) -> None:
        self.install = ""

    def installed(self, version: str) -> None:
        self.install = shop().shas[version]
        self.left.pop(self.install, None)

    def leaving(self) -> set[str]:
        """What a roll-back by hand takes away, as the person sees it."""
        live = self.world.life.engine.live(NAME)
        document = self.document()
        is_under_way = not document.is_settled and document.wanted is not None
        if is_under_way and document.wanted is not None and not document.revert_to:
            return {document.wanted.sha}
        return {live.sha} if live is not None else set()

    def rolled_back(self, answer: dict[str, Any]) -> None:
        sha = answer["sha"]
        self.left[sha] = bool(answer["written"])
        self.ever_left.add(sha)

    def document(self) -> Rollout:
        drive = self.world.life.rollouts.drives.get(NAME)
        return drive.newest if drive is not None else Rollout(model=NAME)

    # ── what happened ─────────────────────────────────────────────────────────────────────────

    def blow(self) -> None:
        """Something that may be held against what is under way."""
        document = self.document()
        if not document.is_settled and document.wanted is not None:
            self.laws.blows[document.wanted.sha] += 1

    def crashed(self) -> None:
        self.left = {sha: is_written for sha, is_written in self.left.items() if is_written}

    def rotten(self, place: str) -> None:
        self.install = ""
        if place == "rollouts":
            self.left.clear()

    # ── peace ─────────────────────────────────────────────────────────────────────────────────

    def quiet(self, wait: Callable[[float], None], hint: Callable[[], None]) -> None:
        """The disk is well, the link is up, nothing more happens."""
        self.world.heal()
        hint()
        wait(STEP_S)
        begun_s, until_s = self.world.loop.time(), self.world.loop.time() + PEACE_S
        while missing := self.missing():
            now_s = self.world.loop.time()
            until_s = max(until_s, min(self.document().resting_until_s, begun_s + LONGEST_S) + 60)
            assert now_s < until_s, f"{missing}; {self.document()}"
            wait(STEP_S)
            self.laws.check()
        self.laws.check()

    def missing(self) -> str:
        """What is not yet as it has to be; "" when all is."""
        document, life = self.document(), self.world.life
        if not life.is_ready or not life.rollouts.wishes.is_recalled or not life.engine.is_up:
            return "something is down"
        if not document.is_settled and not self._has_free():
            return ""  # no stream may run a candidate: it waits for its deadline
        if not document.is_settled:
            return "it is not settled"
        if life.engine.process is None or life.engine.process.trial or life.orders.firsts:
            return "something is on trial"
        memory = life.rollouts.wishes.memory
        if self.world.published and memory.serial != self.world.published["serial"]:
            return f"serial {memory.serial} of {self.world.published['serial']}"
        return self._disagrees(document) or self._not_done(document, memory)

    def _has_free(self) -> bool:
        return any(not one.version for s in self.world.streams.values() for one in s.models)

    def _disagrees(self, document: Rollout) -> str:
        """Report, pointer and what runs."""
        process, pointers = self.world.life.engine.process, self.world.pointers()
        assert process is not None
        if pointers is None:
            return ""
        mine = document.wanted.sha if document.wanted else ""
        if document.state is State.COMMITTED and pointers.current != mine:
            return f"it is committed, and the pointers say {pointers}"
        if document.state is State.ROLLED_BACK and pointers.current == mine:
            return f"it is rolled back, and the pointers say {pointers}"
        current = current_of(self.world)
        wanted = {current} if current and not self.laws.is_halted(current) else set()
        runs = {run.live for run in process.free()}
        if self._has_free() and runs != wanted:
            return f"{runs} runs, and the pointers say {pointers}"
        is_blank = self.laws.is_halted(current) and pointers.previous
        if is_blank and not self.laws.is_halted(pointers.previous):
            return f"{current} is halted, and {pointers.previous} does not come back"
        return ""

    def _not_done(self, document: Rollout, memory: Memory) -> str:
        """Orders, and what is wanted."""
        pointers = self.world.pointers()
        for sha in self.left:
            if pointers is not None and pointers.current == sha:
                return f"{sha} was rolled back by a person, and is there"
        sha = self._expected(memory)
        if not sha or (pointers is not None and pointers.current == sha):
            return ""
        refused = {entry.sha for entry in document.refused}
        if sha in refused and (self.laws.blows[sha] or sha in self.ever_left):
            return ""
        return f"{shop().versions[sha]} is wanted and good, and the pointers say {pointers}"

    def _expected(self, memory: Memory) -> str:
        """A good version that has to be there; "": none has to."""
        is_held = any(one.version for s in self.world.streams.values() for one in s.models)
        if is_held or not self.world.streams:
            return ""
        pin = memory.pins.get(NAME)
        wanted = memory.desired.models.get(NAME) if memory.desired else None
        if self.install and pin is not None:
            sha = self.install
        elif wanted is None or self._is_held_back(memory, wanted):
            return ""
        else:
            sha = wanted.sha256
        is_good = self.world.made.flaws.get(sha, Flaw.NONE) is Flaw.NONE
        return sha if is_good else ""

    def _is_held_back(self, memory: Memory, wanted: WantedModel) -> bool:
        pin = memory.pins.get(NAME)
        if pin is not None:
            return pin.version != wanted.version
        return bool(memory.doubt(NAME)) or memory.halt(NAME, wanted.sha256) is not None
