"""A daemon's standard error is its log: one JSON object a line, whatever its libraries write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.agents.daemon import config_text
from tests.tiny import write_package

STREAM = """
[streams.a]
source = {{ kind = "images", path = "{path}", fps = 20, loop = true, frozen_after_s = 60 }}
models = [{{ name = "tiny" }}]
"""
SAID = "a library said"
BAD_LISTENER = """
class Bad:
    def result(self, result, arrays):
        raise ZeroDivisionError("of a listener")

    def blank(self, stream, reason):
        return
"""
LOUD_LISTENER = """
import os

class Loud:
    def result(self, result, arrays):
        os.write(2, b"a line of a library\\n" * 200_000)

    def blank(self, stream, reason):
        return
"""


def pictures(folder: Path) -> Path:
    """One sound, the others damaged, as JPEG, PNG and TIFF."""
    folder.mkdir()
    noise = np.random.default_rng(1).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    for suffix in ("jpg", "png", "tif"):
        stored = bytearray(cv2.imencode(f".{suffix}", noise)[1].tobytes())
        (folder / f"sound.{suffix}").write_bytes(stored)
        (folder / f"Mustermann_cut.{suffix}").write_bytes(stored[: len(stored) // 2])
        middle = len(stored) // 3
        stored[middle : middle + 400] = bytes(n % 251 for n in range(400))
        (folder / f"Mustermann_odd.{suffix}").write_bytes(stored)
    return folder


def ran(
    tmp_path: Path,
    until: Callable[[list[dict[str, Any]]], bool],
    *,
    engine: str,
) -> list[dict[str, Any]]:
    """The lines of a daemon that ran until they are so, and was stopped."""
    write_package(tmp_path / "models")
    config = tmp_path / "config.toml"
    shots = tmp_path / "shots"
    config.write_text(config_text(tmp_path, engine=engine) + STREAM.format(path=pictures(shots)))
    log = tmp_path / "log"
    words = [sys.executable, "-m", "edge_agent", "run", "--config", str(config)]
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": paths}
        )
    try:
        end_s = time.monotonic() + 30
        while not until(lines(log)):
            assert time.monotonic() < end_s, log.read_text()
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(20)
    return lines(log, is_whole=True)


def lines(log: Path, *, is_whole: bool = False) -> list[dict[str, Any]]:
    text = log.read_text()
    found = text.split("\n") if is_whole else text.split("\n")[:-1]
    return [json.loads(line) for line in found if line]


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_damaged_pictures_write_nothing_past_the_log(tmp_path: Path, isolation: str) -> None:
    """`Corrupt JPEG data: ...`, ten times a second, in the middle of the lines of the log."""

    def is_said(said: list[dict[str, Any]]) -> bool:
        return [line["message"] for line in said].count(SAID) >= 2

    said = ran(tmp_path, is_said, engine=f'isolation = "{isolation}"')
    chatter = [line for line in said if line["room"] == "library"]
    words = " ".join(str(line["said"]) for line in chatter)
    assert "JPEG" in words or "libpng" in words
    assert len(chatter) <= 25
    assert not any("Mustermann" in str(line) for line in said)


def test_the_trace_of_a_side_that_dies_is_one_line_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "bad_listener.py").write_text(BAD_LISTENER)

    def has_trace(said: list[dict[str, Any]]) -> bool:
        return "trace" in set().union(*said)

    said = ran(tmp_path, has_trace, engine='listeners = ["bad_listener:Bad"]')
    (first, *_) = [line for line in said if "trace" in line]
    assert "ZeroDivisionError: of a listener" in first["trace"]
    assert "Traceback" in first["trace"]


def test_a_library_that_writes_without_end_holds_up_no_frame(tmp_path: Path) -> None:
    """Four megabytes a frame: more than any pipe holds, and than anybody would read."""
    (tmp_path / "loud_listener.py").write_text(LOUD_LISTENER)

    def is_said(said: list[dict[str, Any]]) -> bool:
        return SAID in {line["message"] for line in said}

    said = ran(tmp_path, is_said, engine='listeners = ["loud_listener:Loud"]')
    assert sum(line["room"] == "library" for line in said) <= 25
    assert not any("hangs" in line["message"] for line in said)
