"""What the outputs and the findings say of whether manifest and model fit each other. Pure.

Wrong by far is refused: it would be wrong on every frame of every edge. What may be meant so is a
warning to the person who packs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import Rejected
from edge_agent.core.frames import Object
from edge_agent.core.manifest import Manifest
from edge_agent.inference.interpret import Findings
from tools.hot_tier.packing.arranging import class_count

BINS = 10

Arrays = Mapping[str, NDArray[Any]]


def refuse_numbers(outputs: Arrays, title: str) -> None:
    """NaN and infinity in any output, also in one that is fed back.

    Raises: Rejected.
    """
    for name, array in outputs.items():
        wrong = 0 if array.dtype.kind != "f" else array.size - int(np.isfinite(array).sum())
        if wrong:
            raise Rejected(
                f"{title}: output {name}: expected finite numbers, got {wrong} of {array.size} "
                "nan or inf",
                hint="check scale, mean and std under [foreign]; then the model itself",
            )


class Sight:
    """Counts what is found on the frames: figures that need no truth to compare with.

    As an edge counts them, so that it may compare its own: presence per frame, the best score of a
    frame, the share of the picture that its findings cover, presence that flips between neighbours.
    """

    def __init__(self) -> None:
        self.frames = self.found = self.pairs = self.flips = self.objects = 0
        self.truncated = 0
        self.scores = [0] * BINS
        self.labels: dict[str, int] = {}
        self._area = 0.0
        self._inputs: list[tuple[float, float]] = []
        self._last: bool | None = None

    def add(self, findings: Findings, size: tuple[int, int], pixels: NDArray[np.uint8]) -> None:
        """size: [w, h] px of the frame. pixels: what the model was given."""
        scores = [one.score for one in (findings.objects or findings.labels)]
        best = max(scores, default=0.0)
        self.frames += 1
        self.objects += len(scores)
        self.truncated += "truncated" in findings.flags
        self.scores[min(BINS - 1, int(best * BINS))] += 1
        keys = [f"{one.head}/{one.label}" for one in findings.objects]
        for key in keys + [f"{one.head}/{one.label}" for one in findings.labels]:
            self.labels[key] = self.labels.get(key, 0) + 1
        if scores:
            self.found += 1
            covered = sum(_area_px(one) for one in findings.objects)
            self._area += min(1.0, covered / (size[0] * size[1]))
        if self._last is not None:
            self.pairs += 1
            self.flips += self._last != bool(scores)
        self._last = bool(scores)
        self._inputs.append(
            (float(pixels.mean()), float(np.square(pixels, dtype=np.float64).mean()))
        )

    def reference(self, *, sequence: bool) -> dict[str, Any]:
        """For `[reference]` of the manifest. flicker is told of neighbouring frames alone."""
        mean, square = np.mean(self._inputs, axis=0).tolist()
        figures = {
            "frames": self.frames,
            "findings_per_100": round(100 * self.found / self.frames, 2),
            "scores": [round(count / self.frames, 4) for count in self.scores],
            "mean_area": round(self._area / self.found, 6) if self.found else 0.0,
            "input_mean": round(mean, 2),
            "input_sd": round(max(0.0, square - mean * mean) ** 0.5, 2),
        }
        if sequence and self.pairs:
            figures["flicker"] = round(self.flips / self.pairs, 4)
        return figures


def _area_px(found: Object) -> float:
    if found.mask is not None:
        return float(found.mask.area_px)
    x0, y0, x1, y1 = found.box
    return max(0.0, x1 - x0) * max(0.0, y1 - y0)


def warnings_of(manifest: Manifest, shapes: Mapping[str, Sequence[int]], sight: Sight) -> list[str]:
    """What the person should look at."""
    told = []
    if not sight.found:
        told.append(
            f"nothing was found on {sight.frames} frames: check [foreign], the thresholds and "
            "whether the frames show what the model was made for"
        )
    elif sight.found == sight.frames and sight.frames > 1:
        told.append("something was found on every frame: add frames where there is nothing")
    if sight.truncated:
        told.append(f"{sight.truncated} frames had more findings than a record holds")
    for head in manifest.heads:
        has, named = class_count(head, shapes), len(head.labels)
        if head.labels and has > named:
            told.append(
                f"head {head.name}: the model has {has} classes, {named} are named; findings of "
                "the others are left out"
            )
        missing = [one.key for one in head.labels if f"{head.name}/{one.key}" not in sight.labels]
        first = next((one.key for one in head.labels if not one.id), "")
        found = sight.labels.get(f"{head.name}/{first}", 0) if first else 0
        if head.decoder in {"mask_softmax", "mask_argmax"} and found >= sight.frames > 1:
            told.append(
                f"head {head.name}: class 0, {first}, was found on every frame: if it is the "
                "background, it has no label"
            )
        if sight.found and missing and head.decoder != "heatmaps":
            told.append(f"head {head.name}: never found on the frames: {', '.join(missing[:20])}")
    return told
