"""The whole memory of a model's rollout, and the report that stays of each. Data only."""

from __future__ import annotations

import enum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from edge_agent.core.edgecore import Name, Sha, Version
from edge_agent.core.errors import Fault
from edge_agent.core.rollout.orders import Order

MAX_HISTORY: Final = 16
MAX_REFUSED: Final = 32
MAX_REASON: Final = 400  # characters
MAX_BYTES: Final = 64 << 10  # of a document on disk

Mode = Literal["swap", "shadow", "stage"]
Count = Annotated[int, Meta(ge=0, le=1 << 53)]


class State(str, enum.Enum):
    """offered … probation is the way of a candidate; the others are where it ends.

    A rollout is `committed` or `rolled_back` when that is done, not when it is wanted: until then
    it stays in `probation`, or is `rolling_back`.
    """

    IDLE = "idle"
    OFFERED = "offered"
    FETCHING = "fetching"
    VERIFYING = "verifying"
    BUILDING = "building"
    GOLDEN = "golden"
    SHADOW = "shadow"
    PROBATION = "probation"
    ROLLING_BACK = "rolling_back"
    COMMITTED = "committed"
    REJECTED = "rejected"  # the package is bad
    DEFERRED = "deferred"  # nothing is known against the package: it is tried again later
    WITHDRAWN = "withdrawn"  # given up before it was live: something else is wanted, or nobody is
    ROLLED_BACK = "rolled_back"
    STAGED = "staged"  # installed as asked, not swapped
    OBSERVED = "observed"  # ran as a shadow as long as asked, not swapped


ON_TRIAL: Final = frozenset({State.BUILDING, State.GOLDEN, State.SHADOW, State.PROBATION})
FINAL: Final = frozenset(
    {
        State.COMMITTED, State.REJECTED, State.DEFERRED, State.WITHDRAWN, State.ROLLED_BACK,
        State.STAGED, State.OBSERVED,
    }
)  # fmt: skip
AT_REST: Final = FINAL | {State.IDLE}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What shall come. serial 0: not from a desired state. by: who wants it."""

    version: Version
    sha: Sha
    mode: Mode = "swap"
    window: Annotated[str, Meta(max_length=64)] = ""
    serial: Count = 0
    by: Literal["desired", "operator"] = "desired"
    source: Annotated[str, Meta(max_length=4096)] = ""  # a folder beside the usual places
    unsigned: bool = False


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a rollout found; it goes up as one event and stays in the history.

    failed_in: the state that it did not leave alive. golden_difference: the largest, to what the
    package expects, in units of its output. *_us: of one inference. at_us: CLOCK_BOOTTIME.
    """

    model: str = ""
    version: str = ""
    sha: str = ""
    mode: Mode = "swap"
    serial: int = 0
    by: str = ""
    outcome: str = ""
    reason: str = ""
    failed_in: str = ""
    previous: str = ""
    trials: int = 0
    via: str = ""  # full | delta | store | local
    fetched_bytes: int = 0
    length_bytes: int = 0
    unsigned: bool = False
    build_ms: float | None = None
    golden_difference: float | None = None
    golden_tolerance: float | None = None
    golden_samples: int = 0
    shadow_frames: int = 0
    evidence_frames: int = 0
    agreement: float | None = None
    live_us_p50: float | None = None
    live_us_p99: float | None = None
    candidate_us_p50: float | None = None
    candidate_us_p99: float | None = None
    probation_frames: int = 0
    figures: dict[str, float] = {}  # label-free ones, beside the manifest's reference
    swaps: int = 0  # streams
    took_s: float = 0.0
    at_us: int = 0
    boot: str = ""
    cause: str = ""  # whose fault it was, `core.errors.Fault`; "" when nothing went wrong
    versions: dict[str, str] = {}  # of the device, the agent and its runtimes


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A package that is not tried again by itself. agent: whose version refused it.

    by: "" for the package's own fault, "operator" when a person did not want it.
    """

    sha: str
    version: str
    reason: str
    agent: str = ""
    by: Literal["", "operator"] = ""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One model's. turn rises with each order: an answer to an older one is not heard.

    spent_s: in this state so far, over all processes. at_s: CLOCK_BOOTTIME up to which it counts.
    returns: processes in which this rollout was taken up again. orderly: the last one said so.
    boot: of the machine, in that process. resting_until_s: what was deferred is not tried again
    before; rest_s: how long it rests, anew in each process. outcome: how it ends once `order` is
    done. cause: of the last thing that went wrong. unsettled: why its end could not be written
    down so far. first: no version of this model is live to compare with.
    """

    model: Name
    schema: Annotated[int, Meta(ge=1, le=1)] = 1
    state: State = State.IDLE
    wanted: Wanted | None = None
    next: Wanted | None = None
    order: Order = ""
    turn: Count = 0
    trials: Count = 0
    returns: Count = 0
    tries: Count = 0
    spent_s: float = 0.0
    total_s: float = 0.0
    at_s: float = 0.0
    retry_s: float = 0.0
    resting_until_s: float = 0.0
    rest_s: float = 0.0
    attempts: Count = 0  # of the same package in a row that ended softly
    orderly: bool = False
    boot: Annotated[str, Meta(max_length=64)] = ""
    proved: bool = False
    loaded: bool = False
    first: bool = False
    outcome: State | None = None
    cause: Fault | Literal[""] = ""
    unsettled: Annotated[str, Meta(max_length=1000)] = ""
    waits_for: str = ""
    revert_to: str = ""
    report: Report = Report()
    refused: tuple[Refusal, ...] = ()
    history: tuple[Report, ...] = ()

    @property
    def is_settled(self) -> bool:
        """At rest, and nothing is out."""
        return self.state in AT_REST and not self.order

    @property
    def is_ending(self) -> bool:
        """What became of it is decided; it is being carried out."""
        return self.outcome is not None

    def refusal_of(self, sha: str, agent: str) -> str:
        """Why this package is not tried again; "" when it may be.

        Another version of the agent may read what this one could not.
        """
        entry = self.refused_as(sha, agent)
        return entry.reason if entry else ""

    def refused_as(self, sha: str, agent: str) -> Refusal | None:
        """The entry that keeps this package from being tried again; None when it may be."""
        found = (e for e in self.refused if e.sha == sha and e.agent in ("", agent))
        return next(found, None)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Deadlines of each state and bounds of each count. agent: our version."""

    agent: str = ""
    begin_s: float = 86_400.0
    fetch_s: float = 7 * 86_400.0
    verify_s: float = 900.0
    prove_s: float = 1800.0
    load_s: float = 180.0
    shadow_s: float = 8 * 3600.0  # without enough evidence
    observe_s: float = 8 * 3600.0  # mode shadow
    wait_s: float = 7 * 86_400.0  # for a moment to swap
    swap_s: float = 60.0
    probation_s: float = 8 * 3600.0  # until it is judged
    settle_s: float = 60.0
    trials: int = 3
    returns: int = 100
    settle_tries: int = 3
    commit_inconclusive: bool = False
    first_pause_s: float = 2.0
    longest_pause_s: float = 300.0
    longest_settle_pause_s: float = 15.0
    first_rest_s: float = 20.0
    longest_rest_s: float = 21_600.0


def encode(document: Rollout) -> bytes:
    return msgspec.json.encode(document)


def decode(content: bytes) -> Rollout:
    """Raises: msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError."""
    return msgspec.json.decode(content, type=Rollout)
