"""A second look at the frames, for people: what was found is drawn, and held against labels.

The package's own variant runs in the agent's backend, and its own decoders read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.decode_masks import decode_masks
from edge_agent.core.errors import Rejected
from edge_agent.core.frames import MAX_OBJECTS, Frame
from edge_agent.core.manifest import HeadSpec, Manifest
from edge_agent.core.vision import Fit, Rect, fit_region
from edge_agent.inference.contours import blobs
from edge_agent.inference.interpret import Findings, Interpreter
from edge_agent.ports import Bound
from edge_agent.sources.images import MAX_IMAGES
from edge_agent.stores.files import write_atomic
from tools.hot_tier.packing import proving, scoring, sessions
from tools.hot_tier.packing.contact import MAX_TILES, Sheet
from tools.hot_tier.packing.frames import named
from tools.hot_tier.packing.report import Options
from tools.hot_tier.packing.scoring import Score
from tools.hot_tier.packing.truth import Box, Truth, Truths

Each = Callable[[Callable[[int, Frame, Rect], None]], None]
Outputs = dict[str, NDArray[Any]]


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """figures: of the labels, by HEAD/LABEL/METRIC. png: the sheet; empty: none was asked for."""

    figures: dict[str, float]
    png: bytes
    warnings: list[str]


def review(
    options: Options, bound: Bound, manifest: Manifest, seen: list[Findings], each: Each
) -> Review:
    """Writes the picture, if one is asked for: also when the figures are too low to go on.

    bound: the package's variant. seen: of the first look at all frames. each: goes through them.

    Raises: Rejected.
    """
    every = named(options.frames, MAX_IMAGES)
    frames, labels = every[: options.most_frames], options.labels
    if len(frames) != len(seen):
        raise Rejected("read frames: the folder changed while it was read", hint="pack again")
    _refuse_among(options)
    truths = Truths(labels, manifest.heads, every) if labels is not None else None
    reviewer = Reviewer(
        bound, manifest, seen=seen, frames=frames, truths=truths,
        draws=options.picture is not None,
    )  # fmt: skip
    told = reviewer.look(each)
    if options.picture is not None:
        try:
            write_atomic(options.picture, told.png, mode=0o644)
        except OSError as error:
            raise Rejected(
                f"write {options.picture.name}: {error.strerror}", hint="choose another --picture"
            ) from error
    scoring.refuse_below(told.figures, options.least, reviewer.heads)
    return told


def _refuse_among(options: Options) -> None:
    """A picture among the frames would be one of them the next time. Raises: Rejected."""
    if options.picture is not None and options.picture.resolve().parent == options.frames.resolve():
        raise Rejected(
            f"write {options.picture.name}: the folder holds the frames, it would become one",
            hint="choose another --picture, or --no-picture",
        )


class Reviewer:
    """Used once, in the order of the frames."""

    def __init__(
        self,
        bound: Bound,
        manifest: Manifest,
        *,
        seen: list[Findings],
        frames: list[Path],
        truths: Truths | None,
        draws: bool,
    ) -> None:
        """seen: what was found on the frames at the first look, to choose what is drawn."""
        self._bound, self._manifest, self._frames = bound, manifest, frames
        self._truths = truths
        self._scores = {} if self._truths is None else {
            head.name: Score(head) for head in self._truths.heads
        }  # fmt: skip
        self._seen = seen
        self._reader = Interpreter(
            manifest, threshold=None, min_area_px=None, tracking=False, contours=True
        )
        self._chosen = chosen(seen) if draws else []
        self._sheet = Sheet(manifest) if draws else None
        self._worst: list[tuple[float, int]] = []

    @property
    def heads(self) -> tuple[HeadSpec, ...]:
        """That are scored."""
        return self._truths.heads if self._truths is not None else ()

    def look(self, each: Each) -> Review:
        """Raises: Rejected."""
        if self._truths is not None:
            each(self._score)
            self._refuse_unlabelled()
            worst = [index for right, index in sorted(self._worst) if right < 1.0]
            self._chosen = _without_doubles([*worst[: MAX_TILES // 2], *self._chosen])
            self._bound.reset_state()
        if self._sheet is not None:
            each(self._draw)
        figures: dict[str, float] = {}
        for score in self._scores.values():
            figures |= score.figures()
            figures[f"{score.head.name}/{scoring.FRAMES}"] = float(score.frames)
        png = self._sheet.png() if self._sheet is not None else b""
        return Review(figures=figures, png=png, warnings=self._warnings())

    def _run(self, frame: Frame, roi: Rect) -> Outputs:
        self._bound.fill(frame, roi)
        return sessions.runs(self._bound, f"run frame {frame.number}")

    def _score(self, index: int, frame: Frame, roi: Rect) -> None:
        assert self._truths is not None
        areas = any(head.task == "segmentation" for head in self._truths.heads)
        said = self._run(frame, roi) if areas else {}
        right: list[float] = []
        for head in self._truths.heads:
            truth = self._truths.of(head, self._frames[index], frame.size)
            if truth is not None:
                right.append(self._one(head, truth, said, (index, frame, roi)))
        if right:
            self._worst.append((min(right), index))

    def _one(
        self, head: HeadSpec, truth: Truth, said: Outputs, at: tuple[int, Frame, Rect]
    ) -> float:
        index, frame, roi = at
        score, seen = self._scores[head.name], self._seen[index]
        if isinstance(truth, int):
            return score.labels(seen.labels, truth)
        if isinstance(truth, list):
            return score.boxes(seen.objects, truth, roi)
        spec = self._manifest.input
        fit = fit_region(spec.fit, roi, spec.size, spec.place)
        return score.masks(planes(head, said, fit, frame.size), truth, roi)

    def _draw(self, index: int, frame: Frame, roi: Rect) -> None:
        wanted = index in self._chosen[:MAX_TILES]
        if not wanted and not self._manifest.states:
            return
        said = self._run(frame, roi)
        if not wanted or self._sheet is None:
            return
        findings = proving.look(self._reader, said, frame, roi)
        self._sheet.add(frame, roi, findings, self._labelled(index, frame.size))
        self._sheet.given(self._bound.input_pixels)

    def _labelled(self, index: int, size: tuple[int, int]) -> list[tuple[HeadSpec, Box]]:
        """Boxes that a person drew, to be seen beside what was found."""
        if self._truths is None:
            return []
        found: list[tuple[HeadSpec, Box]] = []
        for head in self._truths.heads:
            truth = self._truths.of(head, self._frames[index], size)
            if isinstance(truth, list):
                found += [(head, box) for box in truth]
        return found

    def _refuse_unlabelled(self) -> None:
        """Raises: Rejected."""
        for score in self._scores.values():
            if not score.frames:
                raise Rejected(
                    f"read labels: none of {len(self._frames)} frames has labels for head "
                    f"{score.head.name}",
                    hint="labels have the names of their frames: docs/models.md",
                )

    def _warnings(self) -> list[str]:
        if self._truths is None:
            return []
        count, strangers = len(self._frames), self._truths.strangers()
        told = [f"{strangers} files of labels belong to no frame"] if strangers else []
        return told + [
            f"head {score.head.name}: {count - score.frames} of {count} frames have no labels and "
            "were not scored; an empty file says that nothing is there"
            for score in self._scores.values()
            if score.frames < count
        ]


def chosen(seen: list[Findings]) -> list[int]:
    """Frames worth a look, most telling first: spread over all, the fullest, the least sure."""
    every = range(len(seen))
    spread = [index * len(seen) // MAX_TILES for index in range(min(len(seen), MAX_TILES))]
    if len(seen) <= MAX_TILES:
        return list(every)
    fullest = sorted(every, key=lambda index: -len(seen[index].objects))
    found = [index for index in every if _best(seen[index])]
    unsure = sorted(found, key=lambda index: _best(seen[index]))
    return _without_doubles([fullest[0], *unsure[:3], *spread])


def _best(findings: Findings) -> float:
    return max((one.score for one in (findings.objects or findings.labels)), default=0.0)


def _without_doubles(indices: Iterable[int]) -> list[int]:
    return list(dict.fromkeys(indices))


def planes(
    head: HeadSpec, outputs: Outputs, fit: Fit, size: tuple[int, int]
) -> dict[str, NDArray[np.bool_]]:
    """[H, W] of the frame by key of the label, pixel for pixel, smaller areas left out.

    size: [w, h] px of the frame.
    """
    found = {one.key: np.zeros(size[::-1], np.bool_) for one in head.labels}
    for plane in decode_masks(head, outputs, head.threshold):
        high, wide = plane.mask.shape
        grid = fit.grid(wide, high)
        least = head.min_area_px / (grid.scale[0] * grid.scale[1])
        kept = np.zeros((high, wide), np.bool_)
        for blob in blobs(plane.mask, grid, least_pixels=least, limit=MAX_OBJECTS)[0]:
            kept[blob.window] |= blob.inside
        x0, y0, x1, y1 = grid.bounds
        columns, rows = (
            ((np.arange(low, end) + 0.5 - grid.offset[axis]) / grid.scale[axis])
            .astype(np.intp).clip(0, limit - 1)
            for axis, (low, end, limit) in enumerate(((x0, x1, wide), (y0, y1, high)))
        )  # fmt: skip
        found[plane.label][y0:y1, x0:x1] |= kept[np.ix_(rows, columns)]
    return found
