"""What no fault may make the house do, looked at in every moment in which its time stands still.

The laws know the ground: what the process runs, what the pointers on the disk say, what a person
said. A law that speaks of a second is broken when what it forbids has lasted longer than that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from edge_agent.core.desired import Memory
from edge_agent.core.rollout import State
from tests.services.modelled import SHIPPED, Life, ModelWorld, shop
from tests.services.modelled_side import Flaw, Process
from tests.services.rolling import NAME

SECOND_S: Final = 1.0
SILENCE_S: Final = 2.5  # until a side that is deaf is ended, once it is told to take something back
UNHEARD_S: Final = 11.0  # until one is, that is only asked how it goes (`Side.ask`)
UNANSWERED_S: Final = 34.0  # and one that was told to swap (`engine.SWAP_TIMEOUT_S`)
AGREES_S: Final = 1.5
RETRY_S: Final = 17.0  # a roll-back that has not been written down yet, on the next side
BEGIN_A_TRIAL: Final = frozenset({"swap", "configure"})
STARTS_ANEW: Final = frozenset({"fetch", "prove"})


class Laws:
    """promised: the last memory of which nobody said that the disk does not have it; None: rotten.
    leaving: what a person has just rolled back. left: and does not come again by itself.
    """

    def __init__(self, world: ModelWorld) -> None:
        self.world = world
        self.promised: Memory | None = Memory()
        self.said: list[Memory] = []  # since then
        self.pin: str | None = None  # the last word of a person
        self.knows_pin = True
        self.has_recalled = False  # this life
        self.leaving: set[str] = set()
        self.left_on: Process | None = None
        self.left: set[str] = set()
        self.blows: Counter[str] = Counter()  # that may be held against it, by sha
        self.rots: Counter[str] = Counter()
        self._closed_us = 0
        self._since: dict[str, float] = {}
        world.told = self.told
        world.recalled = self._follow_memory
        world.loop.looked_at_by(self.look)

    @property
    def life(self) -> Life:
        return self.world.life

    def broke(self, words: str) -> None:
        self.world.broken.append(f"{self.world.loop.time():.3f} {words}")

    # ── what is so ────────────────────────────────────────────────────────────────────────────

    def memory(self) -> Memory | None:
        """What is held; None: nobody can know."""
        wishes = self.life.rollouts.wishes
        return wishes.memory if wishes.is_recalled else self.promised

    def forbids(self, sha: str, by: str) -> str:
        """Why that version may not be on its way."""
        memory, version = self.memory(), shop().versions[sha]
        if memory is None:
            return ""
        held = {one.version for s in self.world.streams.values() for one in s.models if one.version}
        pin = memory.pins.get(NAME)
        wanted = memory.desired.models.get(NAME) if memory.desired else None
        reasons = {
            "unused": not self.world.streams,
            "pinned": pin is not None and pin.version != version,
            "doubt": pin is None and bool(memory.doubt(NAME)),
            "halted": pin is None and memory.halt(NAME, sha) is not None,
            "held": pin is None and bool(held) and version not in held,
            "unwanted": pin is None and wanted is None and by != "operator",
            "another": pin is None and wanted is not None and wanted.sha256 != sha,
        }
        return next((word for word, is_so in reasons.items() if is_so), "")

    def under_way(self) -> dict[str, str]:
        """By sha: what of it is, of what nothing may have been decided yet."""
        found: dict[str, str] = {}
        by = "desired"
        drive = self.life.rollouts.drives.get(NAME)
        if drive is not None and (document := drive.newest).wanted is not None:
            is_leaving = document.outcome not in (None, State.COMMITTED) or document.revert_to
            by = document.wanted.by
            if not document.is_settled and not is_leaving:
                found[document.wanted.sha] = f"{document.state.value} {document.order}"
        for errand in self.life.crew.busy:
            if errand.verb in STARTS_ANEW:
                found[errand.sha] = errand.verb
        process = self.life.engine.process
        if process is not None:
            found |= {run.live: "live on trial" for run in process.free() if run.is_trial}
        return {sha: f"{what}: {why}" for sha, what in found.items()
                if (why := self.forbids(sha, by))}  # fmt: skip

    # ── at every moment ───────────────────────────────────────────────────────────────────────

    def look(self, from_s: float, to_s: float) -> None:
        """Nothing happens between the two."""
        life = self.life
        if life.is_dead or self.world.broken:
            self._since.clear()
            return
        process = life.engine.process
        self._closed()
        now: dict[str, float] = {}
        if life.is_ready:
            silent_s = SILENCE_S if process is not None and process.is_deaf else 0.0
            for sha, what in self.under_way().items():
                words = f"under way though it may not be: {shop().versions[sha]} {what}"
                now[words] = SECOND_S + silent_s
        if self.knows_pin and self._follow_memory() != self.pin:
            now[f"the pin is {self._follow_memory()}, was said to be {self.pin}"] = SECOND_S
        if process is not None and life.engine.is_up:
            now |= self._of_process(process)
        self._since = {words: self._since.get(words, from_s) for words in now}
        for words, limit_s in now.items():
            if to_s - self._since[words] > limit_s:
                self.broke(f"{to_s - self._since[words]:.2f} s: {words}")
                return

    def _follow_memory(self) -> str | None:
        """The pin as the service has it."""
        wishes = self.life.rollouts.wishes
        if not wishes.is_recalled:
            return self.pin
        if not self.has_recalled:
            self.has_recalled = True
            self.recalled(wishes.memory)
        if not self.said or self.said[-1] is not wishes.memory:
            self.said.append(wishes.memory)
        return pin_of(wishes.memory)

    def _of_process(self, process: Process) -> dict[str, float]:
        now: dict[str, float] = {}
        versions, live = shop().versions, self.life.engine.live(NAME)
        runs = {run.live for run in process.free()}
        silent_s = SECOND_S + (SILENCE_S if process.is_deaf else 0.0)
        unseen_s = SECOND_S + (UNHEARD_S if process.is_deaf else 0.0)
        unseen_s = UNANSWERED_S if process.lost & BEGIN_A_TRIAL else unseen_s
        for sha in self.leaving & runs:
            limit_s = silent_s if process is self.left_on else RETRY_S
            now[f"{versions[sha]} is live, and was rolled back by a person"] = limit_s
        self.leaving &= runs
        for run in process.runs.values():
            where = f"on {run.order.name}"
            if process.shows(run) is Flaw.NAN_LIVE:
                now[f"{versions[run.live]} says NaN {where}"] = unseen_s
            if run.is_trial:
                words = f"on trial {where} and not looked after since {process.judged_s:.3f}"
                now[words] = unseen_s
            is_other = live is None or live.sha != run.live
            if is_other and not run.ref.pinned and not process.is_deaf:
                what = versions[live.sha] if live else "nothing"
                now[f"{versions[run.live]} runs {where}, {what} is said to"] = AGREES_S
            if self.life.is_ready and self.is_halted(run.live):
                now[f"{versions[run.live]} runs {where}, and is halted"] = (
                    unseen_s if run.ref.pinned else silent_s
                )
        return now

    def is_halted(self, sha: str) -> bool:
        """And no person holds on to it."""
        memory = self.memory()
        if memory is None or not sha or memory.halt(NAME, sha) is None:
            return False
        pin = memory.pins.get(NAME)
        return pin is None or pin.version != shop().versions[sha]

    # ── what is told ──────────────────────────────────────────────────────────────────────────

    def _closed(self) -> None:
        """What a rollout has just come to, written down or not."""
        drive = self.life.rollouts.drives.get(NAME)
        history = drive.newest.history if drive is not None else ()
        at_us = history[-1].at_us if history else 0
        if history and self._closed_us not in (at_us, -1):
            self.is_so(history[-1].outcome, history[-1].sha)
        if drive is not None:  # -1: of an earlier life
            self._closed_us = at_us

    def told(self, report: Mapping[str, Any]) -> None:
        if self.world.loop.time() - report["at_us"] / 1e6 <= SECOND_S:
            self.is_so(report["outcome"], report["sha"])

    def is_so(self, outcome: str, sha: str) -> None:
        """A report that waited for the disk longer is history: it was looked at when it was new."""
        pointers, live = self.world.pointers(), self.life.engine.live(NAME)
        if outcome == "committed":
            if pointers is not None and pointers.current != sha:
                self.broke(f"committed was told, and the pointer says {pointers}")
            if live is not None and live.sha != sha:
                self.broke(f"committed was told, and {live.sha} runs")
        if outcome == "rolled_back":
            if pointers is not None and pointers.current == sha:
                self.broke("rolled_back was told, and the pointer says so still")
            if live is not None and live.sha == sha:
                self.broke("rolled_back was told, and it runs")

    # ── after each rule ───────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        assert not self.world.broken, self.world.broken
        assert not self.life.task.done(), self.life.task
        wishes = self.life.rollouts.wishes
        self._follow_memory()
        if wishes.is_recalled:
            if not wishes.unwritten and not wishes._changing.locked():
                self.promised, self.said = wishes.memory, []
            may_doubt = self.rots["wishes"] or self.rots["rollouts"]
            assert may_doubt or not wishes.memory.doubts, wishes.memory.doubts
        drive = self.life.rollouts.drives.get(NAME)
        for refusal in drive.document.refused if drive else ():
            flaw = self.world.made.flaws.get(refusal.sha, Flaw.NONE)
            is_evident = flaw is not Flaw.NONE or self.blows[refusal.sha]
            assert refusal.by or is_evident, f"{refusal} without evidence"

    def half_pinned(self, version: str) -> None:
        if self._follow_memory() == version:
            self.pin = version

    def leaves(self, shas: set[str]) -> None:
        """By the word of a person."""
        self.leaving |= shas
        self.left_on = self.life.engine.process

    def begins(self) -> None:
        """A new life."""
        self.has_recalled = False
        self._closed_us = -1
        self.leaving = set()
        if self.world.is_rotten("wishes"):
            self.promised = None

    def recalled(self, memory: Memory) -> None:
        """A new life has read what the last one left."""
        pins = {pin_of(one) for one in (self.promised, *self.said) if one is not None}
        if self.promised is None and not memory.doubt(NAME):
            self.broke("both copies were rotten, and nobody says so")
        if self.promised is not None and pin_of(memory) not in pins:
            self.broke(f"the pin is {pin_of(memory)} after the restart, expected one of {pins}")
        if self.promised is not None and memory.serial < self.promised.serial:
            self.broke(f"serial {memory.serial}, had been {self.promised.serial}")
        self.pin, self.knows_pin, self.said = pin_of(memory), True, []


def pin_of(memory: Memory) -> str | None:
    pin = memory.pins.get(NAME)
    return pin.version if pin else None


def current_of(world: ModelWorld) -> str:
    """What the store or the folders say is to run; "": nothing."""
    pointers = world.pointers()
    if pointers is not None and pointers.current:
        return pointers.current
    return shop().shas[SHIPPED] if world.shipped else ""
