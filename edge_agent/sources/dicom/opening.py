"""Opens a DICOM file as what its transfer syntax says it is: images, or one stream of video."""

from __future__ import annotations

from edge_agent.config.structs import DicomSource
from edge_agent.sources.dicom import header, syntax
from edge_agent.sources.dicom.clip import Clip
from edge_agent.sources.dicom.openfile import Name, checked_bytes
from edge_agent.sources.dicom.videoclip import VideoClip

AnyClip = Clip | VideoClip


def open_clip(name: Name, config: DicomSource, key: bytes, *, keep: bool = False) -> AnyClip:
    """keep: as of `Clip`. Raises: Rejected, SourceLost, ConfigError, Overloaded."""
    checked_bytes(name, config.max_file_bytes)  # a pipe would be waited for
    if syntax.is_video(header.syntax_of(name.path)):
        return VideoClip(name, config, key)
    return Clip(name, config, key, keep=keep)
