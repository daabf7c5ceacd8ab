"""Where frames come from: one adapter per kind, each imported only when a stream asks for it.

An adapter translates its vendor's errors at once, stamps a frame's time at once, and knows nothing
of the others. Whatever a source says (facts, errors) holds no password and nothing of a patient.
"""

from __future__ import annotations

from edge_agent.config.structs import (
    DicomSource,
    ImagesSource,
    PhantomSource,
    Source,
    VideoSource,
)
from edge_agent.ports import Clock, FrameSource


def make(config: Source, *, clock: Clock, exam_key: bytes) -> FrameSource:
    """Makes the source of one stream; opens nothing. exam_key: of the study pseudonym, >= 16 B."""
    match config:
        case DicomSource():
            from edge_agent.sources.dicom import DicomFrames  # noqa: PLC0415 - a stream imports its own kind alone

            return DicomFrames(config, clock, exam_key)
        case VideoSource():
            from edge_agent.sources.video import VideoFrames  # noqa: PLC0415

            return VideoFrames(config, clock)
        case ImagesSource():
            from edge_agent.sources.images import ImageFrames  # noqa: PLC0415

            return ImageFrames(config, clock)
        case PhantomSource():
            from edge_agent.sources.phantom import PhantomFrames  # noqa: PLC0415

            return PhantomFrames(config, clock)
