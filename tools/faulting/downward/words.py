"""Who wanted what of the model, and when: kept by whoever says it, read by the judge. Data only.

Times are CLOCK_BOOTTIME in seconds, as everywhere here.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from tools.faulting.downward.packages import Kind

NOTHING: Final = ""


def now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Made(msgspec.Struct, frozen=True):
    """A package. sha "": it was never published, it lies in a folder of the configuration."""

    version: str
    sha: str
    kind: Kind


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Of the hot tier, by its serial. version "": nothing. halted: versions."""

    version: str = NOTHING
    mode: str = "swap"
    halted: frozenset[str] = frozenset()


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration as it was taken from then on. held "": it names no version."""

    at_s: float
    is_used: bool = True
    held: str = NOTHING


class Pins(msgspec.Struct, frozen=True):
    """From then on one of these versions is pinned; more than one when nobody knows."""

    at_s: float
    versions: frozenset[str]


class Window(msgspec.Struct):
    """While it lasts the agent can't be held to its bounds. to_s: inf while it does."""

    why: str
    from_s: float
    to_s: float = float("inf")


class Words(msgspec.Struct):
    """Of one world. hand: installed by hand last, and not taken back; "" for none. left: versions
    that a person may have rolled back, which do not come again by themselves.
    """

    made: dict[str, Made] = {}  # by version
    wishes: dict[int, Wish] = {}
    held: list[Held] = []
    pins: list[Pins] = []
    windows: list[Window] = []
    left: set[str] = set()
    by_hand: set[str] = set()
    hand: str = NOTHING

    @property
    def serial(self) -> int:
        return max(self.wishes, default=0)

    @property
    def wish(self) -> Wish:
        return self.wishes.get(self.serial, Wish())

    @property
    def is_used(self) -> bool:
        return self.held[-1].is_used if self.held else True

    @property
    def holds(self) -> str:
        return self.held[-1].held if self.held else NOTHING

    @property
    def pinned(self) -> frozenset[str]:
        return self.pins[-1].versions if self.pins else frozenset({NOTHING})

    def pin(self, *versions: str) -> None:
        self.pins.append(Pins(now_s(), frozenset(versions)))

    def configured(self, *, is_used: bool, held: str) -> None:
        self.held.append(Held(at_s=now_s(), is_used=is_used, held=held))

    def sha_of(self, version: str) -> str:
        one = self.made.get(version)
        return one.sha if one else ""

    def kind_of(self, sha: str) -> Kind:
        """Of a package that nobody here made it is `good`: whoever asks finds that out."""
        return next((one.kind for one in self.made.values() if one.sha == sha), "good")

    def version_of(self, sha: str) -> str:
        return next((one.version for one in self.made.values() if one.sha == sha), "")
