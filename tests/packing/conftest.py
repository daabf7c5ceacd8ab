"""Frames once per module, and a desk for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packing import foreign
from tests.packing.desk import Desk


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign.write_frames(tmp_path_factory.mktemp("seen") / "frames", 3)


@pytest.fixture
def desk(tmp_path: Path, frames: Path) -> Desk:
    return Desk(tmp_path, frames)
