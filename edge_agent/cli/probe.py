"""`streams probe`: what a source delivers, from the daemon that runs it or by opening it here.

Both ways print the same report, an entry of `/v1/streams`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import sources
from edge_agent.cli import client, exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.status import Status
from edge_agent.cli.streams import checked_name
from edge_agent.cli.tables import NOTHING, Paint, fields, number, plain
from edge_agent.config.load import load, paths
from edge_agent.config.structs import StreamConfig
from edge_agent.core import calibration
from edge_agent.core.errors import BadFrame, EdgeAgentError, SourceEnded, SourceLost
from edge_agent.core.frames import Calibration, Frame, Signal
from edge_agent.core.freshness import IDLE
from edge_agent.core.signal import Look, SignalWatch
from edge_agent.host import SystemClock
from edge_agent.ports import Clock, FrameSource, NewsSource

READ_TIMEOUT_S = 0.5
MAX_FRAMES = 100_000
LONGEST_S = 600.0
DELIVERS = ("ok", "starting", "paused", IDLE)


def run(args: argparse.Namespace) -> int:
    """Exits 3 when the source does not deliver."""
    name = checked_name(args.stream)
    report = None if args.direct else _of_daemon(args, name)
    if report is None:
        report = direct(_configured(args, name), min(args.seconds, LONGEST_S))
    if args.json:
        print(json.dumps({"schema": 1, "stream": name, **report}, ensure_ascii=False))
    else:
        for line in lines(name, report, Paint.fitting(sys.stdout)):
            print(line)
    return exits.OK if report.get("state") in DELIVERS else exits.CHECK_FAILED


def _of_daemon(args: argparse.Namespace, name: str) -> dict[str, Any] | None:
    """The daemon's own report; None when there is no daemon."""
    try:
        streams = client.connect(args).json("/v1/streams").get("streams") or {}
    except CommandError as error:
        if error.code == exits.NOT_RUNNING:
            return None
        raise
    report: dict[str, Any] = _named(streams, name)
    return report


def _named(streams: Mapping[str, Any], name: str) -> Any:
    if name not in streams:
        known = ", ".join(map(plain, streams)) or "none"
        raise CommandError(f"probe stream {name}: no such stream, there are: {known}")
    return streams[name]


def lines(name: str, report: Status, paint: Paint) -> list[str]:
    """The report for people."""
    facts: Status = report.get("facts") or {}
    state = plain(report.get("state"))
    size = facts.get("size")
    scales = _scales(report.get("calibration") or {})
    pairs = [
        ("source", plain(facts.get("where") or report.get("source"))),
        ("state", paint(state, "green" if state in DELIVERS else "red")),
        ("reason", plain(report.get("reason"))),
        ("rate", _rate(report, facts)),
        ("size", f"{size[0]} x {size[1]} px" if size else NOTHING),
        ("live", "no: a recording" if facts.get("live") is False else "yes"),
        ("calibration", plain(calibration.words(scales))),
        *(
            ("" if number else name, plain(told))
            for name, lines in calibration.region_words(scales)
            for number, told in enumerate(lines)
        ),
        ("reopened", f"{report.get('reopened') or 0} times"),
    ]
    if not report.get("reason"):
        del pairs[2]
    pairs += [("told", plain(one["what"])) for one in facts.get("troubles") or ()]
    details: Status = facts.get("details") or {}
    # a source's own words for its scale are of its first file; those above are of its newest frame
    pairs += [(plain(key), plain(word)) for key, word in details.items() if key != "calibration"]
    head = "  ".join(
        [
            plain(name),
            *(plain(report[key]) for key in ("title", "room") if report.get(key)),
        ]
    )
    return [paint(head, "bold"), *fields(pairs, indent="  ")]


def _rate(report: Status, facts: Status) -> str:
    expected = report.get("fps_expected") or facts.get("expected_fps")
    words = f"{number(report.get('fps_in'))} fps, {number(expected)} expected"
    if report.get("fps_out") is not None:
        words += f", {number(report['fps_out'])} inferred"
    return words


def _scales(calibration: Status) -> Calibration:
    """Of a daemon that may be older or newer than this command."""
    try:
        return msgspec.convert(calibration, Calibration)
    except msgspec.ValidationError:
        return Calibration(reason="this daemon says it in words that are not known here")


# ── without a daemon ──────────────────────────────────────────────────────────────────────────


def _configured(args: argparse.Namespace, name: str) -> StreamConfig:
    loaded = load(paths(Path(args.config) if args.config else None), args.set or ())
    if loaded.config is None:
        raise CommandError(
            f"probe stream {name}: no daemon runs and the config has errors\n{loaded.text()}",
            hint="edge-agent config check",
        )
    stream: StreamConfig = _named(loaded.config.streams, name)
    return stream


def direct(stream: StreamConfig, seconds: float) -> dict[str, Any]:
    """Opens the source here, reads for so long and reports as the daemon would."""
    clock = SystemClock()
    report: dict[str, Any] = {"title": stream.title, "room": stream.room, "reopened": 0}
    try:
        source = sources.make(stream.source, clock=clock, exam_key=bytes(32))  # no exam is shown
        with contextlib.closing(source):
            facts = source.open()
            report["facts"] = msgspec.to_builtins(facts)
            report["fps_expected"] = stream.source.fps or facts.expected_fps
            report.update(_read(source, stream, clock, seconds))
            facts = (source.news() if isinstance(source, NewsSource) else None) or facts
            report["facts"] = msgspec.to_builtins(facts)
            if facts.watched and report["state"] == Signal.NO_SIGNAL.value:
                report["state"] = IDLE
    except EdgeAgentError as error:
        report.update(state="failed", reason=str(error))
    return report


class _Seen:
    """What came so far."""

    def __init__(self, black_below: float) -> None:
        self.stamps_us: list[int] = []
        self.look = Look(black_below)
        self.bad_frames = 0
        self.reason = ""
        self.state = ""
        self.misfit = ""  # of the configured roi, in the newest frame
        self.spacing: dict[str, Any] = {"reason": "no frame came"}
        self.is_calibrated = False


def _read(
    source: FrameSource, stream: StreamConfig, clock: Clock, seconds: float
) -> dict[str, Any]:
    """Rate, signal and calibration of what comes within so many seconds."""
    seen, watch = _Seen(stream.source.black_below), _watch(stream)
    begun_us, ended = clock.boot_us(), False
    watch.reopened(begun_us)
    while clock.boot_us() - begun_us < seconds * 1e6 and len(seen.stamps_us) < MAX_FRAMES:
        try:
            _look(source.read(READ_TIMEOUT_S), seen, watch)
        except BadFrame as error:
            seen.bad_frames, seen.reason = seen.bad_frames + 1, str(error)
        except SourceEnded:  # a recording shorter than our patience
            ended = True
            break
        except SourceLost as error:
            seen.state, seen.reason = "reopening", str(error)
            break
    stamps_us = seen.stamps_us
    if seen.misfit or (ended and seen.bad_frames and not stamps_us):
        seen.state, seen.reason = "failed", seen.misfit or seen.reason
    spent_us = stamps_us[-1] - stamps_us[0] if len(stamps_us) > 1 else 0
    return {
        "state": seen.state or _state(watch, seen, ended, clock),
        "reason": seen.reason,
        "fps_in": 1e6 * (len(stamps_us) - 1) / spent_us if spent_us else 0.0,
        "captured": len(stamps_us) + seen.bad_frames,
        "calibration": seen.spacing,
        "calibrated": seen.is_calibrated,
    }


def _state(watch: SignalWatch, seen: _Seen, ended: bool, clock: Clock) -> str:
    """A recording that ended keeps its last judgement; else silence until now counts."""
    return watch.at(seen.stamps_us[-1] if ended and seen.stamps_us else clock.boot_us()).value


def _watch(stream: StreamConfig) -> SignalWatch:
    rules = stream.source
    return SignalWatch(
        round(rules.no_signal_after_s * 1e6), round(rules.frozen_after_s * 1e6), rules.black_below
    )


def _look(frame: Frame | None, seen: _Seen, watch: SignalWatch) -> None:
    if frame is None:
        return
    seen.stamps_us.append(frame.captured_us)
    watch.frame(frame.captured_us, *seen.look.at(frame.pixels))
    is_fitting = calibration.fits(frame.calibration.roi, frame.size)
    seen.misfit = "" if is_fitting else f"{frame.calibration.reason}; correct source.roi"
    seen.spacing = msgspec.to_builtins(frame.calibration)
    seen.is_calibrated = calibration.is_calibrated(frame.calibration)
