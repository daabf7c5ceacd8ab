"""What a rollout hears. Answers carry the turn of the order that they answer."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edge_agent.core.errors import Fault
from edge_agent.core.rollout.document import Wanted


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened."""


class Resumed(Said, frozen=True, kw_only=True):
    """The first event of each process. boot: of the machine, another one after each start."""

    boot: str = ""


class Stopping(Said, frozen=True, kw_only=True):
    """The process ends in an orderly way: what is under way has not failed."""


class Offered(Said, frozen=True, kw_only=True):
    """again: also when it was refused before; only a person says so."""

    wanted: Wanted
    again: bool = False


class Withdrawn(Said, frozen=True, kw_only=True):
    """Nobody wants it any more."""

    reason: str


class RollBackWanted(Said, frozen=True, kw_only=True):
    """What runs now (`live`) may not stay, and `sha` comes back; "folders": what they say.

    by: the word of a person keeps the version that is left from coming again by itself.
    """

    sha: str
    version: str
    live: str
    live_version: str = ""
    reason: str = "rolled back by hand"
    by: Literal["desired", "operator"] = "operator"


class Tick(Said, frozen=True, kw_only=True):
    """Time went by."""


class Answer(Said, frozen=True, kw_only=True):
    """Of the order of that turn."""

    turn: int


class Done(Answer, frozen=True, kw_only=True):
    """facts: fields of the report. have: the package is in the store already (of `begin`). first:
    no version of the model is live (of `prove`).
    """

    facts: dict[str, Any] = {}
    have: bool = False
    first: bool = False


class Fetched(Answer, frozen=True, kw_only=True):
    """All of it has been downloaded; it is verified and installed now."""


class Built(Answer, frozen=True, kw_only=True):
    """The candidate could be built; its golden samples run now."""

    facts: dict[str, Any] = {}


class Failed(Answer, frozen=True, kw_only=True):
    """fault: whose it was. Only a bad package is refused."""

    reason: str
    fault: Fault = "failed"


class SideLost(Answer, frozen=True, kw_only=True):
    """The inference side that had the candidate is gone, and another one has been started since.

    crashed: by itself; False when somebody outside ended it, which says nothing of the candidate.
    """

    reason: str = "the inference side died"
    crashed: bool = True


class Judged(Answer, frozen=True, kw_only=True):
    """What the figures of shadow or probation say so far."""

    verdict: Literal["more", "pass", "fail", "inconclusive"]
    bad: bool = True  # of `fail`: it is the package's own fault
    reason: str = ""
    facts: dict[str, Any] = {}


class Moment(Answer, frozen=True, kw_only=True):
    """Whether a swap may happen now; `waits_for` says what is in the way."""

    free: bool
    waits_for: str = ""


Event = (
    Resumed | Stopping | Offered | Withdrawn | RollBackWanted | Tick | SideLost
    | Done | Fetched | Built | Failed | Judged | Moment
)  # fmt: skip
