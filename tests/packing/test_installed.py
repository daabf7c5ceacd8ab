"""Foreign models packed, installed and run on pictures, beside ONNX Runtime and numpy alone.

What is expected is worked out here from the file as it came: nothing of it is the code under test.
The files of others come out of wheels (`tests/packing/wheels.txt`), which `tools/test` fetches.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from edge_agent.backends.onnx import OnnxBackend
from edge_agent.backends.prepare import golden
from edge_agent.core.frames import Calibration, Frame, Object
from edge_agent.core.manifest import Manifest
from edge_agent.inference.interpret import Findings
from edge_agent.stores import package
from edge_agent.stores.installed import Installed
from tests.packing import nets
from tests.packing.foreign import above
from tools.hot_tier.packing.make import pack
from tools.hot_tier.packing.proving import interpreter
from tools.hot_tier.packing.report import Options

Picture = NDArray[np.uint8]
WHEELS = Path(sys.prefix) / "foreign"


class Ready(NamedTuple):
    """A model as a device has it."""

    folder: Path
    manifest: Manifest

    def run(self, picture: Picture) -> Findings:
        bound = OnnxBackend().load(self.folder, self.manifest).bind()
        size = picture.shape[1], picture.shape[0]
        bound.fill(Frame(number=1, captured_us=0, pixels=picture), (0, 0, *size))
        return interpreter(self.manifest).interpret(
            bound.run(),
            frame_size=size,
            roi=(0, 0, *size),
            calibration=Calibration(),
            captured_us=0,
        )


def install(here: Path, model: bytes, manifest: str, pictures: Sequence[Picture]) -> Ready:
    """Packed, unpacked into a store of installed models, its golden samples run."""
    frames = here / "frames"
    frames.mkdir()
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(frames / f"{index}.png"), picture)
    (here / "m.onnx").write_bytes(model)
    (here / "m.toml").write_text(manifest)
    asked = Options(
        model=here / "m.onnx", manifest=here / "m.toml", frames=frames, out=here / "m.eam",
        half="no",
    )  # fmt: skip
    packed = pack(asked)
    store = Installed(here / "installed", limit_bytes=1 << 30, keep_free_bytes=0)
    folder = store.admit(here / "m.eam", packed.sha256)
    held, said = package.held(folder, lambda _: {"golden.npz"})
    with held:
        golden(OnnxBackend().load(folder, said), held, said, said.variants[-1])
    return Ready(folder, said)


def plain(model: bytes, fed: NDArray[Any]) -> NDArray[Any]:
    """The first output of the file as it came."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (said,) = session.run(None, {session.get_inputs()[0].name: fed.astype(np.float32)})
    array: NDArray[Any] = said
    return array


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return width * height / (sum(areas) - width * height)


def alike(objects: Sequence[Object], wanted: Sequence[tuple[Any, float]], px: float) -> None:
    """Boxes and scores, best first."""
    assert len(objects) == len(wanted)
    for one, (box, score) in zip(objects, wanted, strict=True):
        assert one.box == pytest.approx(box, abs=px)
        assert one.score == pytest.approx(score, abs=2e-3)


# ── made here ─────────────────────────────────────────────────────────────────────────────────

RED, GREEN = (0, 0, 230), (0, 200, 0)
SQUARES = [(2, 1, RED), (5, 4, GREEN), (8, 6, RED)]  # columns and lines of 64 px


def squares(chosen: Sequence[tuple[int, int, tuple[int, int, int]]]) -> Picture:
    """640x480 px: letterboxed into 320x320 px, its squares lie on cells of 32 px."""
    picture = np.zeros((480, 640, 3), np.uint8)
    for column, line, colour in chosen:
        left, top = 64 * column, 48 + 64 * (line - 1)
        picture[top : top + 64, left : left + 64] = colour
    return picture


@pytest.mark.parametrize("name", nets.NETS)
def test_a_detector_of_any_head_finds_the_squares_of_a_picture(name: str, tmp_path: Path) -> None:
    model, decoder = nets.make(name)
    text = above("net") + (
        '[input]\norder = "bgr"\n[foreign]\nscale = "1/255"\n[[heads]]\nname = "h"\n'
        f'task = "detection"\ndecoder = "{decoder}"\noutputs = ["y"]\nthreshold = 0.3\n'
        'labels = [{ id = 0, key = "red" }, { id = 1, key = "green" }]\n'
    )
    ready = install(tmp_path, model.SerializeToString(), text, [squares(SQUARES), squares([])])
    for chosen in (SQUARES, SQUARES[1:], []):
        found = ready.run(squares(chosen)).objects
        wanted = {
            (64 * column, 48 + 64 * (line - 1), "red" if colour == RED else "green")
            for column, line, colour in chosen
        }
        assert {(round(one.box[0]), round(one.box[1]), one.label) for one in found} == wanted
        assert all(one.box[2] - one.box[0] == pytest.approx(64, abs=2) for one in found)
        levels = {"red": 230 / 255, "green": 200 / 255}
        assert all(one.score == pytest.approx(levels[one.label], abs=2e-3) for one in found)


# ── made elsewhere ────────────────────────────────────────────────────────────────────────────


def out_of_wheel(wheel: str, ending: str) -> bytes:
    found = sorted(WHEELS.glob(f"{wheel}-*.whl"))
    if not found:
        pytest.skip(f"{wheel} of tests/packing/wheels.txt is not fetched: tools/test does it")
    with zipfile.ZipFile(found[0]) as archive:
        (name,) = [one for one in archive.namelist() if one.endswith(ending)]
        return archive.read(name)


def letters(seed: int, text: str) -> Picture:
    """416x416 px, letters of any colour on a cloudy ground."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.integers(150, 255, (416, 416, 3)).astype(np.uint8), (9, 9), 0)
    picture = Image.fromarray(ground)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(60)
    for index, letter in enumerate(text):
        place = 20 + 130 * (index % 3), 30 + 140 * (index // 3)
        red, green, blue = (int(one) for one in rng.integers(0, 120, 3))
        draw.text(place, letter, (red, green, blue), font)
    return np.asarray(picture, np.uint8)


def yolox_by_hand(said: NDArray[Any], side: int) -> list[tuple[Any, float]]:
    """Boxes and scores, as YOLOX's own `demo_postprocess` and its suppression have them."""
    grids, steps = [], []
    for stride in (8, 16, 32):
        xv, yv = np.meshgrid(np.arange(side // stride), np.arange(side // stride))
        grids.append(np.stack((xv, yv), 2).reshape(-1, 2))
        steps.append(np.full((len(grids[-1]), 1), stride))
    grid, step = np.concatenate(grids), np.concatenate(steps)
    centre, sides = (said[0, :, :2] + grid) * step, np.exp(said[0, :, 2:4]) * step
    boxes = np.concatenate((centre - sides / 2, centre + sides / 2), axis=1)
    scores = said[0, :, 4] * said[0, :, 5]
    kept: list[tuple[Any, float]] = []
    for index in np.argsort(-scores):
        if scores[index] >= 0.1 and all(overlap(boxes[index], one) <= 0.45 for one, _ in kept):
            kept.append((boxes[index], float(scores[index])))
    return kept


YOLOX = above("yolox") + (
    '[input]\norder = "bgr"\npad = 114\n[foreign]\nscale = 1.0\norder = "bgr"\n[[heads]]\n'
    'name = "h"\ntask = "detection"\ndecoder = "yolox"\noutputs = ["output"]\nthreshold = 0.1\n'
    'nms_iou = 0.45\nlabels = [{ id = 0, key = "letter" }]\n'
)


def test_a_real_yolox_finds_what_it_finds_by_hand(tmp_path: Path) -> None:
    model = out_of_wheel("ddddocr", "common_det.onnx")
    ready = install(tmp_path, model, YOLOX, [letters(1, "AKE")])
    for picture in (letters(6, "RSTUVW"), letters(8, "KPXAEH")):
        wanted = yolox_by_hand(plain(model, picture.transpose(2, 0, 1)[None]), 416)
        assert len(wanted) >= 5, "else there is nothing to compare"
        clipped = [(np.clip(box, 0, 416), score) for box, score in wanted]
        alike(ready.run(picture).objects, clipped, px=1.0)


def lines(*texts: str) -> Picture:
    """320x192 px of dark print on a light ground."""
    picture = np.full((192, 320, 3), 235, np.uint8)
    for index, text in enumerate(texts):
        place = 20 + 10 * index, 50 + 55 * index
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 1.1, (30, 30, 30), 2)
    return picture


HALVES = '[foreign]\nscale = "1/255"\nmean = [0.5]\nstd = [0.5]\norder = "bgr"\n'
DETECT = above("text") + (
    f'[input]\norder = "bgr"\nsize = [320, 192]\n{HALVES}[[heads]]\nname = "h"\n'
    'task = "segmentation"\ndecoder = "mask_sigmoid"\noutputs = ["sigmoid_0.tmp_0"]\n'
    'threshold = 0.3\nlabels = [{ id = 0, key = "text" }]\n'
)


def test_the_text_detector_of_pp_ocr_covers_what_it_covers_by_hand(tmp_path: Path) -> None:
    model = out_of_wheel("rapidocr_onnxruntime", "PP-OCRv4_det_infer.onnx")
    ready = install(tmp_path, model, DETECT, [lines("edge", "agent")])
    for picture in (lines("polyp 12", "34"), lines("Probe 7")):
        fed = (picture.astype(np.float32) / 255 - 0.5) / 0.5
        values = plain(model, fed.transpose(2, 0, 1)[None])[0, 0]
        found = ready.run(picture).objects
        areas = [one.mask.area_px for one in found if one.mask]
        covered = values >= 0.3
        assert covered.sum() > 500, "else there is nothing to compare"
        assert sum(areas) == pytest.approx(int(covered.sum()), rel=2e-3)
        mean = sum(one.score * area for one, area in zip(found, areas, strict=True)) / sum(areas)
        assert mean == pytest.approx(float(values[covered].mean()), abs=2e-3)


CLASSIFY = above("turn") + (
    f'[input]\norder = "bgr"\nsize = [192, 48]\n{HALVES}[[heads]]\nname = "h"\n'
    'task = "classification"\ndecoder = "probs"\noutputs = ["save_infer_model/scale_0.tmp_1"]\n'
    'threshold = 0.0\nlabels = [{ id = 0, key = "upright" }, { id = 1, key = "turned" }]\n'
)


def test_the_classifier_of_pp_ocr_says_what_it_says_by_hand(tmp_path: Path) -> None:
    model = out_of_wheel("rapidocr_onnxruntime", "mobile_v2.0_cls_infer.onnx")
    upright = np.asarray(cv2.resize(lines("Edge 12")[10:70], (192, 48)), np.uint8)
    ready = install(tmp_path, model, CLASSIFY, [upright])
    rng = np.random.default_rng(4)
    for picture in (upright, upright[::-1, ::-1], rng.integers(0, 255, (48, 192, 3))):
        pixels = np.ascontiguousarray(picture, np.uint8)
        fed = (pixels.astype(np.float32) / 255 - 0.5) / 0.5
        wanted = plain(model, fed.transpose(2, 0, 1)[None])[0]
        said = {one.label: one.score for one in ready.run(pixels).labels}
        assert said["upright"] == pytest.approx(wanted[0], abs=2e-3)
        assert said["turned"] == pytest.approx(wanted[1], abs=2e-3)
