"""Place, level and resampling of a letterbox: the manifest says them, and every part obeys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.backends.fill import Filler
from edge_agent.backends.onnx import OnnxBackend
from edge_agent.core.frames import Calibration, Frame
from edge_agent.core.manifest import InputSpec, parse_manifest
from edge_agent.inference.interpret import Interpreter
from edge_agent.stores.models import Models
from tests.packing.desk import Desk
from tests.packing.finder import SIDE, box_finder, draw, wanted
from tools.hot_tier.packing.shaping import written_input

Picture = NDArray[np.uint8]
SIZES = [(320, 200), (200, 320), (121, 77), (333, 97)]


def ultralytics(picture: Picture, side: int) -> Picture:
    """As its LetterBox is written: round, centred, the odd pixel right and below, 114."""
    height, width = picture.shape[:2]
    ratio = min(side / height, side / width)
    wide, high = round(width * ratio), round(height * ratio)
    resized = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_LINEAR)
    left, top = (side - wide) / 2, (side - high) / 2
    edges = (round(top - 0.1), round(top + 0.1), round(left - 0.1), round(left + 0.1))
    return np.asarray(
        cv2.copyMakeBorder(resized, *edges, cv2.BORDER_CONSTANT, value=(114, 114, 114)), np.uint8
    )


def yolox(picture: Picture, side: int) -> Picture:
    """As its preproc is written, but for sizes that it cuts and we round: top left, 114."""
    height, width = picture.shape[:2]
    ratio = min(side / height, side / width)
    wide, high = round(width * ratio), round(height * ratio)
    padded = np.full((side, side, 3), 114, np.uint8)
    padded[:high, :wide] = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_LINEAR)
    return padded


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("place", "theirs"), [("centre", ultralytics), ("top_left", yolox)])
def test_the_input_is_to_the_byte_what_the_trainer_of_the_model_makes(
    place: Any, theirs: Any, size: tuple[int, int]
) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), np.uint8)
    spec = InputSpec(
        name="x", size=(64, 64), order="bgr", pad=114, place=place, resample="bilinear"
    )
    bound = np.zeros((1, 64, 64, 3), np.uint8)
    Filler(spec, bound).fill(Frame(number=1, captured_us=0, pixels=picture), (0, 0, *size))
    assert np.array_equal(bound[0], theirs(picture, 64))


def test_area_is_the_mean_of_all_that_a_pixel_covers() -> None:
    picture = np.random.default_rng(6).integers(0, 256, (120, 120), np.uint8)
    spec = InputSpec(name="x", size=(24, 24), channels=1, order="gray", resample="area")
    bound = np.zeros((1, 24, 24, 1), np.uint8)
    Filler(spec, bound).fill(Frame(number=1, captured_us=0, pixels=picture), (0, 0, 120, 120))
    means = picture.reshape(24, 5, 24, 5).mean(axis=(1, 3))
    assert np.abs(bound[0, ..., 0] - means).max() <= 1


@pytest.mark.parametrize("place", ["centre", "top_left"])
def test_a_box_comes_back_within_a_pixel_of_the_input(
    place: str, desk: Desk, tmp_path: Path
) -> None:
    (tmp_path / "wide").mkdir()
    draw(tmp_path / "wide" / "a.png", (320, 200), (60, 40, 200, 120))
    more = f'pad = 114\nplace = "{place}"\nresample = "bilinear"\n'
    desk.pack(box_finder(), wanted(more), frames=tmp_path / "wide", folder=tmp_path / "made")
    store = Models([tmp_path / "made"], shipped=False)
    folder = store.resolve("finder", "")
    manifest = store.manifest(folder)
    assert (manifest.input.pad, manifest.input.place) == (114, place)
    bound = OnnxBackend().load(folder, manifest).bind()
    reader = Interpreter(manifest, threshold=None, min_area_px=None, tracking=False, contours=False)
    for size in SIZES:
        box = (size[0] // 5, size[1] // 4, size[0] // 2, size[1] - size[1] // 5)
        picture = np.full((size[1], size[0], 3), 20, np.uint8)
        picture[box[1] : box[3], box[0] : box[2]] = 230
        bound.fill(Frame(number=1, captured_us=0, pixels=picture), (0, 0, *size))
        findings = reader.interpret(
            bound.run(),
            frame_size=size,
            roi=(0, 0, *size),
            calibration=Calibration(),
            captured_us=0,
        )
        (found,) = findings.objects
        assert np.abs(np.subtract(found.box, box)).max() <= max(1.0, max(size) / SIDE)


def test_an_old_manifest_means_what_it_meant_and_a_new_one_says_no_more_than_it_must() -> None:
    old = {"name": "x", "size": [8, 8], "fit": "letterbox", "pad": 0, "order": "rgb"}
    fields = {
        "schema": 1, "name": "a", "version": "1.0.0", "licence": "", "intended_use": "",
        "input": old, "variants": [{"name": "v", "file": "a.onnx"}],
        "heads": [{"name": "h", "task": "detection", "decoder": "yolo", "outputs": ["y"]}],
    }  # fmt: skip
    spec = parse_manifest(fields).input
    assert (spec.place, spec.resample) == ("centre", "antialiased")
    assert not {"place", "resample"} & set(written_input(spec))
    other = InputSpec(name="x", size=(8, 8), place="top_left", resample="area")
    assert written_input(other)["place"] == "top_left"
    assert written_input(other)["resample"] == "area"
