"""What was seen of an agent: looks at its status, at its files, at its processes. Data only."""

from __future__ import annotations

import msgspec

UNDER_WAY = frozenset(
    {"offered", "fetching", "verifying", "building", "golden", "shadow", "probation"}
)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The status at one moment. live: of the newest result. pointed: of the store, "" for none.

    version, state, settled: of the rollout. errors: frames that failed so far. refused: sha and
    whose word it was. up: its inference side. shows: the stream is there and fresh.
    """

    at_s: float
    live: str = ""
    live_sha: str = ""
    pointed: str = ""
    state: str = ""
    version: str = ""
    settled: bool = True
    pinned: str = ""
    serial: int = 0
    desired: str = ""
    errors: int = 0
    refused: tuple[tuple[str, str], ...] = ()
    up: bool = True
    shows: bool = True
    problems: tuple[str, ...] = ()
    reason: str = ""

    @property
    def on_its_way(self) -> str:
        """The version that is, "" for none."""
        return self.version if not self.settled and self.state in UNDER_WAY else ""


class Pointed(msgspec.Struct, frozen=True):
    """The store's pointer from then on. is_whole: what it names is there."""

    at_s: float
    sha: str
    is_whole: bool = True


class Ended(msgspec.Struct, frozen=True):
    """A report. at_s: when it was done, by its own word."""

    sha: str
    outcome: str
    at_s: float
    reason: str = ""


class Rest(msgspec.Struct, kw_only=True):
    """A cycle after its end. waits_for: what it never came to, "" when it did. broken: packages
    that a pointer names and that are not what was installed.
    """

    at_s: float = 0.0
    waits_for: str = ""
    left_over: list[str] = []
    orphans: list[str] = []
    broken: list[str] = []


class Seen(msgspec.Struct):
    """Of one cycle. starts: when an agent answered first. ends: an agent that ended by itself."""

    from_s: float = 0.0
    looks: list[Look] = []
    pointed: list[Pointed] = []
    ended: list[Ended] = []
    starts: list[float] = []
    ends: list[str] = []
    rest: Rest = msgspec.field(default_factory=Rest)


def course(seen: Seen) -> list[str]:
    """A line for each change, in seconds of the cycle."""
    lines, before = [], ""
    for look in seen.looks:
        way = look.state if look.settled else f"{look.state} ..."
        words = (
            f"{way} {look.version} | live {look.live or '-'} pointed {look.pointed or '-'} "
            f"pinned {look.pinned or '-'} serial {look.serial} {look.desired}"
            f"{'' if look.up else ' DOWN'}{'' if look.shows else ' BLANK'}"
        )
        if words != before:
            lines.append(f"{look.at_s - seen.from_s:6.2f} {words} {look.reason}")
        before = words
    lines += [f"{one.at_s - seen.from_s:6.2f} {one.outcome}: {one.reason}" for one in seen.ended]
    return lines
