"""The frames that a package is proven on: a folder of images, read as a stream reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from edge_agent.config.structs import ImagesSource
from edge_agent.core.errors import BadFrame, Rejected, SourceEnded, SourceLost
from edge_agent.core.frames import Frame
from edge_agent.core.order import natural
from edge_agent.host import SystemClock
from edge_agent.sources.images import MAX_IMAGES, SUFFIXES, ImageFrames

MAX_FRAMES = 10_000


def frames_of(folder: Path, most: int) -> Iterator[Frame]:
    """Frames in the order of their names, at most `most`.

    Raises: Rejected for an empty folder or an image that is none.
    """
    source = ImageFrames(ImagesSource(path=str(folder), pace="fast"), SystemClock())
    hint = "give --frames a folder of images of the stream, without names of patients"
    try:
        source.open()
        for _ in range(most):
            frame = source.read(1.0)
            if frame is not None:
                yield frame
    except SourceEnded:
        return
    except (SourceLost, BadFrame) as error:
        raise Rejected(f"read frames: {error.what}", hint=error.hint or hint) from error
    finally:
        source.close()


def named(folder: Path, most: int) -> list[Path]:
    """The files of `frames_of`, in its order.

    Raises: Rejected.
    """
    try:
        with os.scandir(folder) as entries:
            names = [one.name for one in islice(entries, MAX_IMAGES) if _is_image(one)]
    except OSError as error:
        raise Rejected(f"read frames: {error.strerror}", hint="check --frames") from error
    return [folder / name for name in sorted(names, key=natural)[:most]]


def _is_image(entry: os.DirEntry[str]) -> bool:
    plain = not entry.name.startswith(".") and entry.is_file()
    return plain and entry.name.lower().endswith(SUFFIXES)


def how_many(folder: Path, most: int) -> int:
    """Raises: Rejected."""
    return sum(1 for _ in frames_of(folder, most))


def spread(count: int, wanted: int) -> set[int]:
    """Indices of `wanted` of `count` frames, evenly spread."""
    wanted = min(count, wanted)
    return {index * count // wanted for index in range(wanted)}
