"""Opens DICOM sources and closes them after the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from edge_agent.config.structs import DicomSource
from edge_agent.ports import Clock, SourceFacts
from edge_agent.sources.dicom import DicomFrames
from tests.sources.hand import KEY, HandClock


class Opened(Protocol):
    def __call__(
        self, path: Path | str, *, clock: Clock | None = None, key: bytes = KEY, **settings: Any
    ) -> tuple[DicomFrames, SourceFacts]: ...


@pytest.fixture
def dicom() -> Iterator[Opened]:
    sources: list[DicomFrames] = []

    def opened(
        path: Path | str, *, clock: Clock | None = None, key: bytes = KEY, **settings: Any
    ) -> tuple[DicomFrames, SourceFacts]:
        config = DicomSource(path=str(path), **{"pace": "fast", **settings})
        source = DicomFrames(config, clock or HandClock(), key)
        sources.append(source)
        return source, source.open()

    yield opened
    for source in sources:
        source.close()
