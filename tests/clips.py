"""Video clips of known content, made by ffmpeg; without it, tests that need one are skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

COLOUR = (200, 60, 30)  # R, G, B
PLAIN = "color=0xC83C1E"


def make(path: Path, source: str, *words: str) -> Path:
    """source: a filter graph of lavfi. words: filters and the encoder."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg (sudo apt install ffmpeg)")
    said = ["ffmpeg", "-y", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", source]
    subprocess.run([*said, *words, str(path)], check=True, timeout=50)
    return path


def x264(*more: str) -> tuple[str, ...]:
    return ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", *more)
