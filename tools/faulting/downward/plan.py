"""What befalls a cycle: drawn from the seed and its number, from nothing else. Pure."""

from __future__ import annotations

import random
from typing import Final

import msgspec

WISHES: Final = {  # of the hot tier
    "want-good": 4, "want-drifted": 1, "want-blind": 1, "want-nan": 2, "want-back": 2,
    "halt-wanted": 2, "halt-live": 2, "without": 2,
}  # fmt: skip
PERSONS: Final = {"pin": 2, "pin-live": 2, "unpin": 2, "rollback": 3, "install": 2}
RELOADS: Final = {"stream-goes": 2, "stream-comes": 1, "held": 2, "held-no-more": 1}
FAULTS: Final = {
    "kill-agent": 5, "kill-child": 3, "kill-installer": 3, "kill-proof": 3, "stop-child": 3,
    "state-full": 4, "models-full": 4, "read-error": 3, "broker": 2, "cut": 2, "cloud": 2,
}  # fmt: skip
KINDS: Final = {**WISHES, **PERSONS, **RELOADS, **FAULTS}
FIRST: Final = {  # of a cycle: something is on its way
    "want-good": 10, "want-drifted": 1, "want-blind": 2, "want-nan": 5, "want-back": 2,
}  # fmt: skip
NEEDS_ROOT: Final = frozenset({"state-full", "models-full"})  # a file system of their own
NEEDS_STRACE: Final = frozenset({"read-error"})
DEADLY: Final = frozenset({"kill-agent", "kill-child", "stop-child", "read-error"})
MAX_DEADLY: Final = 2  # in a cycle: too many deaths on trial refuse what is good, as they should
STATES: Final = {
    "offered": 1, "fetching": 2, "verifying": 2, "building": 3, "golden": 1, "shadow": 4,
    "probation": 5, "commit": 1, "roll_back": 1, "committed": 2,
}  # fmt: skip
MORE: Final = (2, 5)  # deeds after the first wish
LONGEST_WAIT_S: Final = 1.5
LONGEST_S: Final = 4.0  # of a fault that lasts


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """state: of the rollout, that it waits for; "": for none. Then `wait_s`. seconds: it lasts.

    lot: in [0, 1), for whatever it has to choose.
    """

    kind: str
    state: str = ""
    wait_s: float = 0.0
    seconds: float = 0.0
    lot: float = 0.0
    mode: str = "swap"

    def __str__(self) -> str:
        mode = "" if self.mode == "swap" else f":{self.mode}"
        return f"{self.kind}{mode}" + (f"@{self.state}" if self.state else "")


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """eased: pins and what the configuration holds are taken off before the first deed."""

    eased: bool
    deeds: tuple[Deed, ...]


def cycle_of(seed: int, number: int, unable: frozenset[str] = frozenset()) -> Cycle:
    """unable: kinds that can't be done on this machine."""
    dice = random.Random(f"{seed} {number}")
    first = _drawn(dice, FIRST)
    mode = dice.choices(("swap", "shadow", "stage"), (20, 1, 1))[0]
    deeds = [Deed(kind=first, lot=dice.random(), mode=mode if first == "want-good" else "swap")]
    deadly = 0
    for _ in range(dice.randint(*MORE)):
        kind = _drawn(dice, KINDS)
        state = _drawn(dice, STATES) if dice.random() < 0.8 else ""
        deed = Deed(
            kind=kind, state=state, wait_s=round(dice.random() ** 2 * LONGEST_WAIT_S, 3),
            seconds=round(0.5 + dice.random() * (LONGEST_S - 0.5), 3), lot=dice.random(),
        )  # fmt: skip
        deadly += kind in DEADLY
        if kind not in unable and (kind not in DEADLY or deadly <= MAX_DEADLY):
            deeds.append(deed)
    return Cycle(eased=dice.random() < 0.8, deeds=tuple(deeds))


def _drawn(dice: random.Random, weights: dict[str, int]) -> str:
    return dice.choices(list(weights), list(weights.values()))[0]
