"""Series of results with contours as the agent draws them: masks on a model's raster, outlined.

The chambers of the ultrasound phantom, blurred to the raster of `us-chamber` with noise at their
edges, go through the agent's own `Interpreter`: so rings, boxes, tracks and measures are what a
record holds. No model runs. Seeded.
"""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.config.structs import PhantomSource
from edge_agent.core.frames import Result
from edge_agent.core.manifest import parse_manifest
from edge_agent.core.vision import fit_region
from edge_agent.inference.interpret import Interpreter
from edge_agent.sources.phantom import UltrasoundScene

_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
MANIFEST: Final = Path(__file__).resolve().parents[1] / "models/us-chamber/1.1.0/manifest.toml"
FPS: Final = 30.0
BEAT: Final = 27  # frames of a heart beat of the phantom at this rate
STEEP: Final = 8.0  # logits from the inside of a chamber to the outside
NOISE: Final = 0.8  # logits at an edge, from frame to frame
LOOSE: Final = 0.6  # noise that stays: no edge is as smooth as a phantom's


class MaskSeries:
    """Results one after the other; two with the same arguments are the same.

    size: [w, h] px of the picture. repeats: frames after which the clip begins anew, to the last
    bit of what is seen; 0: never.
    """

    def __init__(self, seed: int, *, size: tuple[int, int] = (640, 480), repeats: int = 0) -> None:
        self._seed, self._size, self._repeats = seed, size, repeats
        self._chance = random.Random(seed)
        spaced = PhantomSource(seed=seed, size=size, spacing_mm=(0.3, 0.3))
        self._scene = UltrasoundScene(spaced, FPS)
        self._manifest = parse_manifest(_toml.loads(MANIFEST.read_text(encoding="utf-8")))
        self._reader = Interpreter(
            self._manifest, threshold=None, min_area_px=None, tracking=True, contours=True
        )
        roi = self._scene.calibration.roi
        assert roi is not None
        self._roi = roi
        self._loose = _smooth(np.random.default_rng([seed, 0]), self._manifest.input.size) * LOOSE
        self._beat: dict[int, NDArray[np.float32]] = {}  # ticks to logits without noise
        self._number = 0

    def take(self, count: int) -> list[Result]:
        """The next results, with consecutive seqs."""
        return [self._next() for _ in range(count)]

    def _next(self) -> Result:
        chance = self._chance
        self._number += 1
        shown = (self._number - 1) % self._repeats + 1 if self._repeats else self._number
        captured = 10**10 + round(self._number * 1e6 / FPS + chance.gauss(0, 250))
        wait, infer = round(150 + chance.expovariate(1 / 120)), round(chance.gauss(6400, 180))
        latency = wait + infer + round(chance.gauss(420, 40))
        found = self._reader.interpret(
            {"logits": self._logits(shown)},
            frame_size=self._size,
            roi=self._roi,
            calibration=self._scene.calibration,
            captured_us=captured,
        )
        seen = random.Random(shown * 1000 + self._seed).getrandbits(32)
        return Result(
            node="cart-07", stream="probe-a", epoch=5 << 32 | self._seed, seq=self._number,
            boot="0badcafe", at_us=captured + latency, frame=self._number, captured_us=captured,
            utc_offset_us=1_790_000_000_000_000, utc_error_us=1200,
            pts_us=round(self._number * 1e6 / FPS), wait_us=wait, infer_us=infer,
            latency_us=latency, size=self._size, roi=self._roi, spacing_mm=found.spacing_mm,
            spacing_from="config", input_hash=f"{seen:08x}", model="us-chamber", version="1.1.0",
            sha="5b7641be6b30c0ab", variant="fp32", backend="onnx", settings="58e1bd1a",
            flags=found.flags, labels=found.labels, objects=found.objects, measures=found.measures,
        )  # fmt: skip

    def _logits(self, number: int) -> NDArray[np.float32]:
        """[1, 1, H, W]"""
        spec = self._manifest.input
        fit = fit_region(spec.fit, self._roi, spec.size, spec.place)
        tick = number % BEAT
        if tick not in self._beat:
            left, top, wide, high = fit.target
            logits = np.full((spec.size[1], spec.size[0]), -STEEP, np.float32)
            logits[top : top + high, left : left + wide] = self._chambers(tick, (wide, high))
            self._beat[tick] = logits
        noise = _smooth(np.random.default_rng([self._seed, number]), spec.size) * NOISE
        return (self._beat[tick] + noise + self._loose)[None, None].astype(np.float32)

    def _chambers(self, tick: int, size: tuple[int, int]) -> NDArray[Any]:
        truth = self._scene.truth(tick).mask
        assert truth is not None
        x, y, w, h = self._roi
        part = truth[y : y + h, x : x + w].astype(np.float32)
        inside = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        return np.asarray((cv2.GaussianBlur(inside, (0, 0), 1.5) - 0.5) * STEEP)


def _smooth(rng: np.random.Generator, size: tuple[int, int]) -> NDArray[Any]:
    """[H, W] of unit spread, alike over a few pixels."""
    field = cv2.GaussianBlur(rng.standard_normal((size[1], size[0])), (0, 0), 2.0)
    return np.asarray(field / field.std())
