"""Technical alarms, never clinical: what is raised, since when, and what the signal of a stream
means for a person beside it. Pure; the book speaks only when something changes.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from edge_agent.core.frames import Signal
from edge_agent.core.freshness import STALE

Severity = Literal["warning", "critical"]


class Meaning(NamedTuple):
    """code, severity, and words for the person in the room."""

    code: str
    severity: Severity
    what: str
    fix: str


OF_STATE = {
    Signal.NO_SIGNAL.value: Meaning(
        "no-signal", "critical", "no frame arrives", "check the video cable and the device's output"
    ),
    Signal.FROZEN.value: Meaning(
        "frozen", "critical", "the picture stands still", "unfreeze the device or replug the video"
    ),
    Signal.BLACK.value: Meaning(
        "black", "warning", "the picture is black", "check the light source or the probe"
    ),
    Signal.REOPENING.value: Meaning(
        "source-lost",
        "critical",
        "the source is lost",
        "check cable, power and network of the source",
    ),
    Signal.FAILED.value: Meaning(
        "stream-failed", "critical", "the stream can't run", "read its reason: edge-agent status"
    ),
    STALE: Meaning(
        "results-stale",
        "critical",
        "no fresh result: what came last is older than max_age_ms",
        "too much runs here: fewer streams, a smaller model, more lanes; or a longer max_age_ms",
    ),
}
QUIET = "nothing new in the watched folder for longer than expect_every_s"
FOLDER_QUIET = Meaning(
    "no-signal",
    "critical",
    QUIET,
    "check that the scanner sends there; or a longer expect_every_s, or none",
)
ENGINE_DOWN = Meaning(
    "engine-down", "critical", "the inference side is down", "it restarts by itself; read the log"
)
ENGINE_STILL = Meaning(
    "engine-still",
    "critical",
    "the inference side stands still: stopped, without a core, or in one very long run",
    "see what else runs (top); it is started anew after engine.hang_s",
)
OF_ENGINE = (ENGINE_DOWN.code, ENGINE_STILL.code)  # one cause, whichever streams it takes along


class Raised(NamedTuple):
    """An alarm that stands."""

    meaning: Meaning
    since_us: int


class Change(NamedTuple):
    """What is to be recorded."""

    stream: str
    meaning: Meaning
    state: Literal["raised", "cleared"]
    since_us: int


class AlarmBook:
    """At most one alarm of a stream stands at a time: the one that its signal means."""

    def __init__(self) -> None:
        self._standing: dict[str, Raised] = {}

    def update(self, stream: str, meaning: Meaning | None, now_us: int) -> list[Change]:
        """What changed for this stream; empty when nothing did."""
        old = self._standing.get(stream)
        if old is not None and meaning is not None and old.meaning.code == meaning.code:
            return []
        changes = []
        if old is not None:
            del self._standing[stream]
            changes.append(Change(stream, old.meaning, "cleared", old.since_us))
        if meaning is not None:
            self._standing[stream] = Raised(meaning, now_us)
            changes.append(Change(stream, meaning, "raised", now_us))
        return changes

    def standing(self) -> dict[str, Raised]:
        return dict(self._standing)
