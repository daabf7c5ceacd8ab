"""Where frames come from: one adapter per kind, each imported only when a stream asks for it.

An adapter translates its vendor's errors at once, stamps a frame's time at once, and knows nothing
of the others. Whatever a source says (facts, errors) holds no password and nothing of a patient.
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.config.structs import (
    DicomSource,
    ImagesSource,
    PhantomSource,
    Source,
    VideoSource,
)
from edge_agent.core.errors import ConfigError, Rejected
from edge_agent.held import open_plain
from edge_agent.ports import Clock, FrameSource

MIN_KEY_BYTES = 16
MAX_KEY_BYTES = 4096


def make(config: Source, *, clock: Clock, exam_key: bytes) -> FrameSource:
    """Makes the source of one stream; opens nothing. exam_key: of the study pseudonym, >= 16 B."""
    match config:
        case DicomSource():
            from edge_agent.sources.dicom import DicomFrames  # noqa: PLC0415 - a stream imports its own kind alone

            return DicomFrames(config, clock, key_of(config, exam_key))
        case VideoSource():
            from edge_agent.sources.video import VideoFrames  # noqa: PLC0415

            return VideoFrames(config, clock)
        case ImagesSource():
            from edge_agent.sources.images import ImageFrames  # noqa: PLC0415

            return ImageFrames(config, clock)
        case PhantomSource():
            from edge_agent.sources.phantom import PhantomFrames  # noqa: PLC0415

            return PhantomFrames(config, clock)


def key_of(config: DicomSource, minted: bytes) -> bytes:
    """The key of the study pseudonym: the operator's file, so that several boxes agree, or ours.

    Raises: ConfigError.
    """
    if config.exam_key_file is None:
        return minted
    hint = "write it once: head -c 32 /dev/urandom > FILE; chmod 0400 FILE"
    try:
        with open_plain(Path(config.exam_key_file)) as file:  # a pipe would be waited for
            key = file.read(MAX_KEY_BYTES + 1)
    except (OSError, Rejected) as error:
        words = error.strerror if isinstance(error, OSError) else error.what
        raise ConfigError(
            "source.exam_key_file", f"read {config.exam_key_file}: {words}", hint=hint
        ) from error
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ConfigError(
            "source.exam_key_file",
            f"{config.exam_key_file} has {len(key)} B, expected {MIN_KEY_BYTES} to {MAX_KEY_BYTES}",
            hint=hint,
        )
    return key
