"""How good a packaged model is, measured through ONNX Runtime alone: no torch here.

Dice and average precision on held-out phantoms; on the real clip there is no truth, so only shares,
steadiness and agreement are told.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.training.sectors import SIZE, letterbox

Image = NDArray[np.uint8]
MASK_THRESHOLD = 0.0  # logits: probability 0.5
MIN_OBJECT = 24  # input px; about 150 px of a 640x480 frame, as in the manifest
MIN_AREA = 0.004  # of the input; a smaller mask is no finding


class Model:
    """An ONNX file on one CPU thread."""

    def __init__(self, path: Path) -> None:
        import onnxruntime as ort  # noqa: PLC0415 - only who measures pays for it

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.outputs = [one.name for one in self._session.get_outputs()]

    def run(self, batch: Image) -> dict[str, NDArray[Any]]:
        values = self._session.run(None, {"image": batch})
        return dict(zip(self.outputs, values, strict=True))

    def mask(self, image: Image) -> NDArray[np.bool_]:
        """[h, w] gray of the input's size to a mask of the same size."""
        found: NDArray[np.bool_] = self.run(image[None, ..., None])["logits"][0, 0] > MASK_THRESHOLD
        return found

    def boxes(self, image: Image, threshold: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """Boxes [n, 4] and scores [n] after suppression at IoU 0.5, best first."""
        out = self.run(image[None])
        boxes, scores = out["boxes"][0], out["scores"][0]
        order = [int(i) for i in np.argsort(-scores) if scores[i] >= threshold]
        kept: list[int] = []
        for index in order:
            if all(iou_box(boxes[index], boxes[other]) < 0.5 for other in kept):
                kept.append(index)
        return boxes[kept], scores[kept]


def iou_box(one: NDArray[Any], other: NDArray[Any]) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - shared
    return shared / union if union > 0 else 0.0


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2.0 * int((found & truth).sum()) / total if total else 1.0


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """1 where both are empty: they agree."""
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def object_boxes(mask: NDArray[np.bool_]) -> list[NDArray[Any]]:
    """[x0, y0, x1, y1] of each connected area that is large enough to be an object."""
    stats = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:]
    return [
        np.array([x, y, x + w, y + h], np.float64) for x, y, w, h, n in stats if n >= MIN_OBJECT
    ]


def object_agreement(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """As a shadow is compared: Dice of areas matched at box IoU 0.5; 1 when both see none."""
    left, right = object_boxes(one), object_boxes(other)
    if not left and not right:
        return 1.0
    pairs = [(iou_box(a, b), i, j) for i, a in enumerate(left) for j, b in enumerate(right)]
    used_left: set[int] = set()
    used_right: set[int] = set()
    for overlap, i, j in sorted(pairs, reverse=True):
        if overlap >= 0.5 and i not in used_left and j not in used_right:
            used_left.add(i)
            used_right.add(j)
    return 2 * len(used_left) / (len(left) + len(right))


def mean_dice(model: Model, images: Image, masks: Image) -> float:
    return float(
        np.mean([dice(model.mask(i), m.astype(bool)) for i, m in zip(images, masks, strict=True)])
    )


def average_precision(model: Model, images: Image, truths: list[NDArray[Any]]) -> float:
    """Area under precision over recall at IoU 0.5, all points, each truth matched once."""
    hits: list[tuple[float, bool]] = []
    for image, truth in zip(images, truths, strict=True):
        free = list(range(len(truth)))
        for box, score in zip(*model.boxes(image, 0.02), strict=True):
            best = max(free, key=lambda k: iou_box(box, truth[k]), default=None)
            hit = best is not None and iou_box(box, truth[best]) >= 0.5
            if hit and best is not None:
                free.remove(best)
            hits.append((float(score), hit))
    hits.sort(key=lambda pair: -pair[0])
    flags = np.array([hit for _, hit in hits], np.float64)
    precision = np.cumsum(flags) / np.arange(1, len(flags) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((precision * flags).sum() / max(sum(len(t) for t in truths), 1))


def real_clip() -> NDArray[np.uint8]:
    """[30, 240, 320] gray: the cardiac clip that ships inside pydicom."""
    import pydicom  # noqa: PLC0415
    from pydicom.data import get_testdata_file  # noqa: PLC0415
    from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

    clip = pixel_array(pydicom.dcmread(str(get_testdata_file("examples_ybr_color.dcm"))))
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip])


def live_sectors(seeds: range, every: int = 3) -> tuple[Image, Image]:
    """Pictures and masks of the live phantom, cropped to its region as the agent does it."""
    from edge_agent.config.structs import PhantomSource  # noqa: PLC0415
    from edge_agent.sources.phantom import UltrasoundScene  # noqa: PLC0415

    images, masks = [], []
    for seed in seeds:
        scene = UltrasoundScene(PhantomSource(seed=seed), 30.0)
        x, y, w, h = scene.calibration.roi or (0, 0, 640, 480)
        for number in range(1, 27, every):
            mask = scene.truth(number).mask
            assert mask is not None
            images.append(letterbox(scene.draw(number)[y : y + h, x : x + w].copy()))
            cut = mask[y : y + h, x : x + w].astype(np.uint8)
            masks.append(letterbox(cut, cv2.INTER_AREA))
    return np.stack(images), np.stack(masks)


def live_scopes(seeds: range, every: int = 24) -> tuple[Image, list[NDArray[Any]]]:
    """RGB pictures and boxes of the live endoscope."""
    from edge_agent.config.structs import PhantomSource  # noqa: PLC0415
    from edge_agent.sources.phantom import EndoscopeScene  # noqa: PLC0415

    images, truths = [], []
    for seed in seeds:
        scene = EndoscopeScene(PhantomSource(scene="endoscope", seed=seed))
        for number in range(1, 720, every):
            images.append(letterbox(scene.draw(number)[..., ::-1].copy()))
            boxes = np.array(scene.truth(number).boxes, np.float32).reshape(-1, 4)
            truths.append(boxes * (SIZE[0] / 640))
    return np.stack(images), truths


def clip_figures(model: Model, first: Model | None = None) -> dict[str, float]:
    """On the real clip: share of frames with a finding, steadiness from frame to frame, mean share
    of the picture, and mean IoU with `first`'s masks."""
    frames = [letterbox(frame) for frame in real_clip()]
    masks = [model.mask(frame) for frame in frames]
    figures = {
        "clip_found_share": float(np.mean([mask.mean() >= MIN_AREA for mask in masks])),
        "clip_steadiness_iou": float(np.mean([iou(*pair) for pair in pairwise(masks)])),
        "clip_area_share": float(np.mean([mask.mean() for mask in masks])),
    }
    if first is not None:
        pairs = list(zip((first.mask(frame) for frame in frames), masks, strict=True))
        figures["clip_iou_with_1_0_0"] = float(np.mean([iou(*pair) for pair in pairs]))
        figures["clip_objects_with_1_0_0"] = float(
            np.mean([object_agreement(*pair) for pair in pairs])
        )
    return figures


def mask_score(model: Model, image: Image) -> float:
    """Mean probability inside the mask, as a finding's score is made; 0 without a finding."""
    logits = model.run(image[None, ..., None])["logits"][0, 0].astype(np.float64)
    inside = logits > MASK_THRESHOLD
    return float((1.0 / (1.0 + np.exp(-logits[inside]))).mean()) if inside.any() else 0.0
