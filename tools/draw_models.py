"""Draws what the demo models see: docs/pictures/real-clip.png and docs/pictures/phantoms.png.

Thin green is the phantoms' truth; each version has a colour of its own. Needs no torch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.config.structs import PhantomSource
from edge_agent.sources.phantom import EndoscopeScene, UltrasoundScene
from tools.training import measure
from tools.training.sectors import SIZE, letterbox

ROOT = Path(__file__).resolve().parents[1]
Image = NDArray[np.uint8]
COLOURS = {"1.0.0": (255, 190, 60), "1.1.0": (110, 230, 60), "1.2.0": (90, 90, 255)}  # BGR
TRUTH = (60, 255, 60)
CLIP_FRAMES = (0, 5, 10, 15, 20, 25)
WHOLE = (0, 0, *SIZE)
PANE = (304, 228)  # [w, h] px of one phantom in the sheet


def outline(picture: Image, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Draws the edge of a mask of the model's input size onto a picture of the same shape."""
    big = cv2.resize(mask.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    rings, _ = cv2.findContours((big > 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, rings, -1, colour, 1, cv2.LINE_AA)


def titled(picture: Image, words: str, colour: tuple[int, int, int]) -> Image:
    cv2.putText(picture, words, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return picture


def real_clip(models: Path) -> Image:
    """A row per version, a column per frame, half as bright again as the clip is."""
    frames = measure.real_clip()
    rows = []
    for version, colour in COLOURS.items():
        model = measure.Model(models / "us-chamber" / version / "us-chamber.onnx")
        row = []
        for number in CLIP_FRAMES:
            picture = bgr(cv2.convertScaleAbs(frames[number], alpha=1.5))
            outline(picture, model.mask(letterbox(frames[number])), colour)
            pane = np.ascontiguousarray(picture[:205, 36:290])
            row.append(titled(pane, f"{version} frame {number}", colour))
        rows.append(np.hstack(row))
    return np.vstack(rows)


def bgr(gray: Image | cv2.typing.MatLike) -> Image:
    return np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)


def _sector(models: Path, seed: int, number: int) -> list[Image]:
    scene = UltrasoundScene(PhantomSource(seed=seed), 30.0)
    x, y, w, h = scene.calibration.roi or WHOLE
    cut = scene.draw(number)[y : y + h, x : x + w].copy()
    truth = scene.truth(number).mask
    assert truth is not None
    boxed = letterbox(cut)
    panes = []
    shown = bgr(cv2.resize(boxed, PANE))
    real = letterbox(truth[y : y + h, x : x + w].astype(np.uint8), cv2.INTER_AREA) > 0
    outline(shown, real, TRUTH)
    panes.append(titled(shown, "truth", TRUTH))
    for version, colour in COLOURS.items():
        model = measure.Model(models / "us-chamber" / version / "us-chamber.onnx")
        pane = bgr(cv2.resize(boxed, PANE))
        outline(pane, model.mask(boxed), colour)
        panes.append(titled(pane, f"us-chamber {version}", colour))
    return panes


def _scope(models: Path, seed: int, number: int) -> Image:
    scene = EndoscopeScene(PhantomSource(scene="endoscope", seed=seed))
    frame = scene.draw(number)
    model = measure.Model(models / "endo-polyp" / "1.0.0" / "endo-polyp.onnx")
    boxes, scores = model.boxes(letterbox(frame[..., ::-1].copy()), 0.5)
    pane = np.asarray(cv2.resize(frame, PANE, interpolation=cv2.INTER_AREA), np.uint8)
    for box in scene.truth(number).boxes:
        x0, y0, x1, y1 = (round(v * PANE[0] / 640) for v in box)
        cv2.rectangle(pane, (x0, y0), (x1, y1), TRUTH, 1)
    for box, score in zip(boxes, scores, strict=True):
        x0, y0, x1, y1 = (round(float(v) * PANE[0] / SIZE[0]) for v in box)
        cv2.rectangle(pane, (x0, y0), (x1, y1), (0, 176, 255), 2)
        spot = (x0, max(y0 - 4, 10))
        cv2.putText(pane, f"{score:.2f}", spot, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 176, 255), 1)
    return titled(pane, "truth and endo-polyp 1.0.0", (0, 176, 255))


def phantoms(models: Path) -> Image:
    """Two live sectors with truth and three versions; four views of the endoscope."""
    rows = [np.hstack(_sector(models, seed, number)) for seed, number in ((1, 3), (104, 14))]
    views = ((1, 510), (102, 200), (103, 330), (5, 290))
    rows.append(np.hstack([_scope(models, seed, number) for seed, number in views]))
    return np.vstack(rows)


def save(path: Path, picture: Image) -> None:
    """PNG of 32 steps a channel: small enough for a README, and hardly seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), (picture & 0xF8) | (picture >> 5), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{path} {path.stat().st_size} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "pictures")
    asked = parser.parse_args()
    save(asked.out / "real-clip.png", real_clip(asked.models))
    save(asked.out / "phantoms.png", phantoms(asked.models))
    return 0


if __name__ == "__main__":
    sys.exit(main())
