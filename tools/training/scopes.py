"""Random endoscope phantoms with the boxes of their polyps; seeded by (seed, index)."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.config.structs import PhantomSource
from edge_agent.core.phantom.endoscope import Look, Polyp, canvas_size
from edge_agent.sources.phantom import EndoscopeScene
from tools.training.sectors import SIZE, letterbox, pixels

Image = NDArray[np.uint8]
DRAWN = (320, 240)  # [w, h] px of the picture before it is fitted to the input
FRAMES = 10  # of each scene
MAX_POLYPS = 4


class Sample(NamedTuple):
    """image: SIZE RGB uint8. boxes: [n, 4] x0 y0 x1 y1 in px of the image."""

    image: Image
    boxes: NDArray[np.float32]


def wild_look(rng: np.random.Generator) -> Look:
    """Colour, folds, vessels, wetness, light and polyps, all drawn widely."""
    wide, high = canvas_size(Look(polyps=()), DRAWN)
    scale = min(DRAWN) / 480.0
    polyps = tuple(
        Polyp(
            x=float(rng.uniform(0.15, 0.85) * wide), y=float(rng.uniform(0.15, 0.85) * high),
            radius=float(rng.uniform(26, 84) * scale), stretch=float(rng.uniform(0.65, 1.5)),
            turn=float(rng.uniform(0, math.pi)), redness=float(rng.uniform(-0.1, 0.9)),
            wobble=float(rng.uniform(0, 8)), rough=float(rng.uniform(0.02, 0.16)),
        )
        for _ in range(int(rng.integers(0, 4)))
    )  # fmt: skip
    red = rng.uniform(150, 215)
    return Look(
        polyps=polyps,
        tissue=(red * rng.uniform(0.38, 0.62), red * rng.uniform(0.45, 0.68), red),
        folds=int(rng.integers(0, 7)), fold_depth=float(rng.uniform(0.15, 0.6)),
        vessels=float(rng.uniform(0, 0.9)), mottle=float(rng.uniform(0.02, 0.1)),
        wet=float(rng.uniform(0, 1.8)), light=float(rng.uniform(0.65, 1.15)),
        edge=float(rng.uniform(0.72, 1.1)),
    )  # fmt: skip


def _capture(rng: np.random.Generator, image: Image) -> Image:
    """Blur, JPEG and colour balance of a capture chain."""
    if rng.random() < 0.4:
        image = pixels(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.2)))
    if rng.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 95))]
        image = pixels(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
    level = image.astype(np.float32) * rng.uniform(0.88, 1.1, 3).astype(np.float32)
    balanced: Image = np.clip(level, 0, 255).astype(np.uint8)
    return balanced


def scene(seed: int, index: int) -> list[Sample]:
    """`FRAMES` pictures of one scene, spread over the camera's wander."""
    rng = np.random.default_rng([seed, index, 7])
    config = PhantomSource(scene="endoscope", seed=int(rng.integers(1 << 30)), size=DRAWN)
    drawn = EndoscopeScene(config, wild_look(rng))
    samples = []
    for number in rng.integers(1, 720, FRAMES):
        image = _capture(rng, drawn.draw(int(number)))
        boxes = np.array(drawn.truth(int(number)).boxes, np.float32).reshape(-1, 4)
        boxes *= SIZE[0] / DRAWN[0]
        samples.append(Sample(letterbox(image[..., ::-1].copy()), boxes))
    return samples


def draw_many(seed: int, scenes: int) -> tuple[Image, NDArray[np.float32]]:
    """([n, h, w, 3] images, [n, MAX_POLYPS, 4] boxes padded with NaN)."""
    samples = [one for index in range(scenes) for one in scene(seed, index)]
    boxes = np.full((len(samples), MAX_POLYPS, 4), np.nan, np.float32)
    for row, sample in zip(boxes, samples, strict=True):
        row[: len(sample.boxes)] = sample.boxes[:MAX_POLYPS]
    return np.stack([sample.image for sample in samples]), boxes
