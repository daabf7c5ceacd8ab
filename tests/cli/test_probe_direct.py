"""`streams probe` without a daemon: what it says of a source, and how it exits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from edge_agent.cli.probe import DELIVERS, direct
from edge_agent.config.structs import DicomSource, ImagesSource, Source, StreamConfig, StreamModel
from tests.sources import dicoms


def probed(source: Source, seconds: float = 2.0) -> dict[str, Any]:
    models = (StreamModel(name="us-chamber"),)
    return direct(StreamConfig(source=source, models=models), seconds)


def image(path: Path, size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (size[1], size[0]), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    path.write_bytes(file.getvalue())
    return file.getvalue()


def test_a_roi_that_does_not_fit_is_no_delivery(tmp_path: Path) -> None:
    """It said `ok` and exited 0: nothing is inferred of such frames."""
    image(tmp_path / "1.png")
    report = probed(ImagesSource(path=str(tmp_path), roi=(0, 0, 65, 48), pace="fast"))
    assert report["state"] not in DELIVERS
    assert "roi [0, 0, 65, 48] does not fit frames of 64x48 px" in report["reason"]
    report = probed(ImagesSource(path=str(tmp_path), roi=(0, 0, 64, 48), pace="fast"))
    assert report["state"] in DELIVERS


def test_a_recording_of_which_no_frame_is_sound_is_no_delivery(tmp_path: Path) -> None:
    """It said `starting` and exited 0."""
    content = image(tmp_path / "1.png")
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    report = probed(ImagesSource(path=str(tmp_path), pace="fast"))
    assert report["state"] not in DELIVERS
    assert "damaged" in report["reason"]


def test_what_is_counted_at_the_end_is_told_though_the_end_comes_soon(tmp_path: Path) -> None:
    """News are told once a second; a clip that is played fast is over before."""
    path = dicoms.write(tmp_path / "c.dcm", dicoms.moving(6), NumberOfFrames=2)
    report = probed(DicomSource(path=str(path), pace="fast"))
    assert [one["code"] for one in report["facts"]["troubles"]] == ["header-differs"]
    assert msgspec.json.encode(report)
