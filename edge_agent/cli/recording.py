"""What `replay` does: a house of its own in a temporary directory, with one stream that waits.

Records are written as the agent makes them, less what belongs to one run of it: `epoch` and `seq`
(they are never spooled) and `exam` (its key is minted for this run and thrown away).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import anyio
import msgspec

from edge_agent import app
from edge_agent.cli import exits
from edge_agent.cli.exits import CommandError
from edge_agent.config.structs import (
    Config,
    ConsoleConfig,
    DicomSource,
    EngineConfig,
    ImagesSource,
    ModelsConfig,
    Source,
    StreamConfig,
    StreamModel,
    VideoSource,
)
from edge_agent.core.frames import Record, Result, to_json

STREAM = "replay"
NO_DEADLINE_MS = 600_000.0  # a recording is late for nobody
LOOK_EVERY_S = 0.1
DICOM_MAGIC = b"DICM"
DICOM_MAGIC_AT = 128


def run(args: argparse.Namespace) -> int:
    source = source_of(Path(args.file))
    if args.out is None:
        return _replay(args, source, sys.stdout.buffer)
    try:
        with open(os.open(args.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            return _replay(args, source, out)
    except OSError as error:
        raise CommandError(
            f"write {args.out}: {error.strerror}", hint="choose another --out FILE"
        ) from error


def source_of(path: Path) -> Source:
    """By what it is: a directory holds images, a DICOM file says so at byte 128, else a video.

    Raises: CommandError.
    """
    try:
        where = str(path.resolve(strict=True))
        if path.is_dir():
            return ImagesSource(path=where, pace="fast")
        with path.open("rb") as file:
            head = file.read(DICOM_MAGIC_AT + len(DICOM_MAGIC))
    except OSError as error:
        raise CommandError(
            f"replay {path}: {error.strerror}", hint="expected a file or a directory of images"
        ) from error
    if head[DICOM_MAGIC_AT:] == DICOM_MAGIC or path.suffix.lower() in {".dcm", ".dicom"}:
        return DicomSource(path=where, pace="fast")
    return VideoSource(where=where, pace="fast")


def _replay(args: argparse.Namespace, source: Source, out: BinaryIO) -> int:
    name, _, version = args.model.partition("@")
    with tempfile.TemporaryDirectory(prefix="ea-replay-") as folder:
        try:
            model = msgspec.convert(
                {"name": name, "version": version, "threshold": args.threshold}, StreamModel
            )
        except msgspec.ValidationError as error:
            raise CommandError(
                f"replay: model {args.model!r}, threshold {args.threshold}: {error}",
                hint="expected --model NAME or NAME@VERSION, --threshold between 0 and 1",
                code=exits.USAGE,
            ) from error
        lines = Lines(out)
        config = config_of(source, model, folder, tuple(args.models_dir))
        told = anyio.run(_run, config, lines)
    return _summary(told, lines)


def config_of(
    source: Source, model: StreamModel, folder: str, models_dirs: tuple[str, ...]
) -> Config:
    """One stream that waits for its results; no console over HTTP, nothing outside `folder`."""
    stream = StreamConfig(source=source, models=(model,), queue="wait", deadline_ms=NO_DEADLINE_MS)
    return Config(
        node=STREAM,
        state_dir=folder,
        runtime_dir=folder,
        streams={STREAM: stream},
        engine=EngineConfig(realtime=False),
        models=ModelsConfig(dirs=tuple(str(Path(d).resolve()) for d in models_dirs)),
        console=ConsoleConfig(http=False),
    )


class Lines:
    """Takes records from the agent, writes the results of them."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.written = 0
        self.error: OSError | None = None

    def take(self, record: Record) -> None:
        if not isinstance(record, Result) or self.error is not None:
            return
        lasting = msgspec.structs.replace(record, epoch=0, seq=0, exam="")
        try:
            self._out.write(to_json(lasting) + b"\n")
        except OSError as error:  # told at the end; it must not fall on the pipeline
            self.error = error
            return
        self.written += 1


async def _run(config: Config, lines: Lines) -> dict[str, object]:
    """The stream's status at its end. A recording that has to be reopened has broken off."""
    take: Callable[[Record], None] = lines.take
    async with app.running(config, on_record=take) as agent:
        over = False
        while not over:
            with anyio.move_on_after(LOOK_EVERY_S):
                await agent.finished()
                over = True
            told: dict[str, object] = agent.views.status()["streams"][STREAM]
            over = over or told.get("state") == "reopening" or bool(told.get("reopened"))
    return told


def _summary(told: dict[str, object], lines: Lines) -> int:
    if lines.error is not None:
        raise lines.error
    captured, dropped = told.get("captured", 0), told.get("dropped") or {}
    assert isinstance(dropped, dict)
    lost = ", ".join(f"{count} {why}" for why, count in dropped.items() if count)
    if not lines.written:
        raise CommandError(
            f"replay: no frame got a result: {told.get('reason') or lost or told.get('state')}",
            hint="does the recording play elsewhere? edge-agent streams probe says more",
        )
    if told.get("reopened") or told.get("state") == "reopening":
        raise CommandError(
            f"replay: the recording broke off after {lines.written} results: {told.get('reason')}",
            hint="a recording is read once; what was written up to here stands",
        )
    words = f"{captured} frames, {lines.written} results, lost: {lost or 'none'}"
    print(f"replayed {words}; not for diagnosis", file=sys.stderr)
    return exits.WARNINGS if lost else exits.OK
