"""Every file of pydicom and of pydicom-data: what is shown of it, or the words that refuse it.

shipped_dicoms.json has for each file [frames, width, height, mean of B, G and R, or of gray, of the
first frame, notes] or what came instead of what was expected. Only a change that makes a picture
right, or words plainer, may change a line of it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.structs import DicomSource
from edge_agent.core.errors import Rejected
from edge_agent.sources.dicom.clip import Clip
from edge_agent.sources.dicom.openfile import Name
from tests.sources.hand import KEY

EXPECTED: dict[str, list[Any] | str] = json.loads(
    Path(__file__).with_name("shipped_dicoms.json").read_text()
)
NO_DATA = {".py", ".pyc", ".json", ".txt", ".md", ".xml", ".rst"}


def files() -> Iterator[tuple[str, Path]]:
    for package in ("pydicom", "data_store"):  # data_store is what pydicom-data installs
        top = Path(str(importlib.import_module(package).__file__)).parent
        for path in sorted((top / "data").rglob("*")):
            if path.is_file() and path.suffix not in NO_DATA:
                yield f"{top.name}/{path.relative_to(top / 'data')}", path


def outcome(path: Path) -> list[Any] | str:
    try:
        clip = Clip(Name(path=path, where="it"), DicomSource(path=str(path)), KEY)
    except Rejected as refused:
        return refused.what.rpartition(", got ")[2]
    try:
        pixels = clip.pixels(0)
        means = pixels.reshape(-1, pixels.shape[2] if pixels.ndim == 3 else 1).mean(0)
        shown = [round(float(mean)) for mean in means]
        return [clip.frames, *clip.size, shown, list(clip.notes)]
    finally:
        clip.close()


def test_every_shipped_file_is_in_the_table() -> None:
    assert sorted(name for name, _ in files()) == sorted(EXPECTED)


@pytest.mark.parametrize("start", range(8))
def test_every_shipped_file_shows_what_it_did_or_is_refused_as_it_was(start: int) -> None:
    for name, path in list(files())[start::8]:
        found, expected = outcome(path), EXPECTED[name]
        if isinstance(found, str) or isinstance(expected, str):
            assert found == expected, name
            continue
        assert found[:3] == expected[:3], name
        assert found[3] == pytest.approx(expected[3], abs=1), name
        assert found[4] == expected[4], name
