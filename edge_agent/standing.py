"""Which problems stand, of streams, sources and the road: one per cause, with a fix that fits.

Reads the parts of a running house; decides with what `core` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from edge_agent.config.structs import (
    DicomSource,
    ImagesSource,
    Source,
    StreamConfig,
    VideoSource,
)
from edge_agent.core.alarms import FOLDER_QUIET, OF_ENGINE, OF_STATE
from edge_agent.core.freshness import STALE
from edge_agent.core.loss import FrameLoss
from edge_agent.core.notes import MISFIT, OF_MODEL, OF_SOURCE, STUCK, Note, Notes
from edge_agent.core.places import local_path
from edge_agent.core.problems import Problem
from edge_agent.ports import HostSample
from edge_agent.services.pipeline import Pipeline
from edge_agent.supervise import RoomHealth

LATE_FIX: Final = "a smaller model, fewer streams, or a longer deadline_ms"
NARROW_FIX: Final = (
    "set max_packet_size and message_size_limit of the broker to 262144 or more, or take them out"
)
BEHIND_FIX: Final = (
    "look at the log and the disk of the hot tier, then at EdgeCore's log and the broker's limits"
)
SLOW_FIX: Final = "fewer streams, a smaller model, more lanes (engine.lanes)"
FRAMES_FIX: Final = "check the source's own rate and cable; or set source.fps to what it delivers"
LOW_SHARE: Final = 0.05  # of the state's disk, and at most
LOW_BYTES: Final = 256 << 20
OF_FULL: Final = ("disk-unwritable", "spool-volatile")
STALE_CODE: Final = OF_STATE[STALE].code
SOURCE_ALARMS: Final = ("no-signal", "source-lost", "stream-failed")
Streams = Mapping[str, StreamConfig]
Absent = Callable[[str], str]  # why no version of a stream's model runs


class StatusParts(Protocol):
    """Whom they ask."""

    @property
    def notes(self) -> Notes: ...

    @property
    def pipeline(self) -> Pipeline: ...


def of_streams(parts: StatusParts, streams: Streams) -> list[Problem]:
    """Alarms that stand, with the words of whoever knows the cause; and frames that are lost."""
    found, notes = [], parts.notes.standing()
    for stream, raised in parts.pipeline.alarms.standing().items():
        meaning = raised.meaning
        if meaning.code in OF_ENGINE:
            found.append(Problem(meaning.code, meaning.severity, meaning.what, meaning.fix))
            continue
        if any((stream, code) in notes for code in STUCK):
            continue  # that note is the cause
        if meaning.code == STALE_CODE and (stream, MISFIT) in notes:
            continue  # and so is that
        what, fix, config = meaning.what, meaning.fix, streams.get(stream)
        if meaning.code in SOURCE_ALARMS and meaning != FOLDER_QUIET:
            note = _of_source(stream, notes)
            what, fix = (note.what, note.fix) if note else (what, "")
            fix = _fix(config, what, fix, meaning.fix)
        words = f"{stream}: {what}"
        found.append(Problem(meaning.code, meaning.severity, words, fix, stream=stream))
    return found + _of_frames(parts)


def _of_source(stream: str, notes: Mapping[tuple[str, str], Note]) -> Note | None:
    return next((notes[stream, code] for code in OF_SOURCE if (stream, code) in notes), None)


def _of_frames(parts: StatusParts) -> list[Problem]:
    found = []
    notes = parts.notes.standing()
    for name, channel in parts.pipeline.channels.items():
        if (name, MISFIT) in notes:
            continue  # that is why they are lost
        if (loss := channel.loss.loss) is not None:
            fix = FRAMES_FIX if loss.is_of_source else SLOW_FIX
            what = f"{name}: {lost_words(loss)}"
            found.append(Problem("frames-lost", "warning", what, fix, stream=name))
        if (share := channel.loss.late_share) is not None:
            what = f"{name}: {share:.0%} of the results come after their deadline"
            found.append(Problem("results-late", "warning", what, LATE_FIX, stream=name))
    return found


def lost_words(loss: FrameLoss) -> str:
    """`34 % of the frames of the last minute got no result (overwritten 512, late 9)`."""
    parts = [f"{why} {count}" for why, count in loss.dropped]
    if loss.undelivered >= 1:
        parts.append(f"not delivered {loss.undelivered:.0f}")
    share = f"{100 * loss.share:.0f} %"
    return f"{share} of the frames of the last minute got no result ({', '.join(parts)})"


def of_notes(parts: StatusParts, streams: Streams, absent: Absent) -> list[Problem]:
    """What was told, but for what an alarm says already."""
    found = []
    alarmed = parts.pipeline.alarms.standing()
    for (stream, code), note in parts.notes.standing().items():
        raised = alarmed.get(stream)
        if code in OF_SOURCE and raised is not None and raised.meaning.code in SOURCE_ALARMS:
            continue
        words, fix = note.what, note.fix
        if code == "model-rejected" and stream in streams and (why := absent(stream)):
            words, fix = why, "edge-agent models history"
        if code in OF_SOURCE:
            fix = _fix(streams.get(stream), words, fix, OF_STATE["reopening"].fix)
        what = f"{stream}: {words}" if stream else words
        found.append(Problem(code, note.severity, what, fix, stream=stream))
    return found


def of_facts(facts: Mapping[str, Mapping[str, Any]], streams: Streams) -> list[Problem]:
    """What sources say of themselves that is wrong, though they deliver; by stream."""
    return [
        Problem(one["code"], one["severity"], f"{name}: {one['what']}", one["fix"], stream=name)
        for name in streams
        for one in facts.get(name, {}).get("troubles", ())
    ]


def of_models(found: list[Problem], parts: StatusParts, streams: Streams) -> list[Problem]:
    """What the rollouts tell, without the rot of a package of which one of its streams tells."""
    notes = parts.notes.standing()
    told = {
        model.name
        for name, stream in streams.items()
        if any((name, code) in notes for code in OF_MODEL)
        for model in stream.models
    }
    return [one for one in found if one.code != "model-damaged" or one.subject not in told]


def of_uplink(stats: Mapping[str, Any], room: RoomHealth | None) -> list[Problem]:
    """A road that is down loses nothing, and is told all the same."""
    if not stats.get("configured") or room is None or room.denied:
        return []
    if not stats["connected"] and room.failing:
        what = f"offline, results wait in the spool: {room.error}"
        return [Problem("uplink-down", "warning", what, room.hint or "edge-agent uplink test")]
    if stats["connected"] and stats["cloud"] == "down":
        what = "the broker is there, and no hot tier answers behind it; results wait in the spool"
        fix = "check EdgeCore's log, and that the hot tier runs; nothing is lost"
        return [Problem("cloud-down", "warning", what, fix)]
    return [*_of_name(stats), *(_of_size(stats) or _of_acks(stats))]


def _of_name(stats: Mapping[str, Any]) -> list[Problem]:
    if not (node := stats.get("duplicate")):
        return []
    what = f"the hot tier hears another agent that calls itself {node}, too: results mix there"
    fix = "give one of the two devices another node in its configuration, and restart its agent"
    return [Problem("duplicate-node", "critical", what, fix)]


def _of_acks(stats: Mapping[str, Any]) -> list[Problem]:
    """The hot tier answers, and does not get, or does not keep, what is sent."""
    if (behind := stats.get("behind")) is None:
        return []
    what = (
        f"of {behind['appended']:,} results of the last minute {behind['acked']:,} were "
        f"acknowledged, though the hot tier answers; {behind['waiting']:,} wait in the spool"
    )
    return [Problem("acks-behind", "warning", what, BEHIND_FIX)]


def _of_size(stats: Mapping[str, Any]) -> list[Problem]:
    """A broker, or what is behind it, that takes small payloads only."""
    if (size := stats.get("payload")) is None:
        return []
    verb = "the broker ends the connection at" if size["closes"] else "nobody gets"
    what = f"{verb} a payload of {size['refuses']:,} characters"
    if size["takes"]:
        what += f"; {size['takes']:,} arrive, and what is larger is sent in parts"
    if stats["too_large"]:
        what += f"; {stats['too_large']:,} records that are larger alone wait in the spool"
    return [Problem("road-narrow", "warning", what, NARROW_FIX)]


def of_disk(sample: HostSample | None, found: list[Problem]) -> list[Problem]:
    """A disk is told of before it is full: what is kept there would have to go. Once it is, that
    stands in `found`.
    """
    if any(one.code in OF_FULL for one in found):
        return []
    free, total = (sample.disk_free_bytes, sample.disk_total_bytes) if sample else (None, None)
    if free is None or total is None or free >= min(LOW_SHARE * total, LOW_BYTES):
        return []
    what = f"the disk of state_dir is nearly full: {free >> 10:,} KiB are free"
    return [Problem("disk-low", "warning", what, "make room on the disk of state_dir (df)")]


def _fix(config: StreamConfig | None, what: str, fix: str, otherwise: str) -> str:
    """What the source says itself, but for a permission, which none of them knows to mend."""
    if config is None or (fix and "ermission denied" not in what):
        return fix or otherwise
    return fix_of(config.source, what, otherwise)


def fix_of(source: Source, what: str, otherwise: str) -> str:
    """What mends a source of that kind, for one that did not say so itself."""
    if "ermission denied" in what:
        return "let the agent's user read it: group video for /dev/video*, chmod or chgrp for files"
    if isinstance(source, DicomSource | ImagesSource):
        return "put the file or folder back, or correct source.path"
    return _fix_of_video(source) or otherwise if isinstance(source, VideoSource) else otherwise


def _fix_of_video(source: VideoSource) -> str:
    if source.pipeline:
        return "try the pipeline with gst-launch-1.0; check what it reads from"
    if source.where.startswith("/dev/"):
        return "check that the device is plugged in (ls /dev/video*) and nobody else has it open"
    is_remote = "://" in local_path(source.where)
    return "" if is_remote else "put the file back, or correct source.where"
