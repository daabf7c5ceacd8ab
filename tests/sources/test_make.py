from __future__ import annotations

import subprocess
import sys

import pytest

from edge_agent import sources
from edge_agent.config.structs import (
    DicomSource,
    ImagesSource,
    PhantomSource,
    Source,
    VideoSource,
)
from tests.sources.hand import KEY, HandClock


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (DicomSource(path="sample:ultrasound"), "DicomFrames"),
        (VideoSource(where="/dev/video0"), "VideoFrames"),
        (ImagesSource(path="pictures"), "ImageFrames"),
        (PhantomSource(size=(160, 120)), "PhantomFrames"),
    ],
)
def test_each_kind_has_its_source_and_opens_nothing_yet(config: Source, name: str) -> None:
    assert type(sources.make(config, clock=HandClock(), exam_key=KEY)).__name__ == name


def test_a_short_key_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="exam_key has at least 16 bytes"):
        sources.make(DicomSource(path="x"), clock=HandClock(), exam_key=b"short")


def test_a_kind_that_is_not_asked_for_is_not_imported() -> None:
    program = (
        "import sys; from edge_agent import sources\n"
        "from edge_agent.config.structs import ImagesSource\n"
        "sources.make(ImagesSource(path='x'), clock=None, exam_key=b'')\n"
        "assert 'pydicom' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
