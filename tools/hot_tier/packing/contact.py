"""One picture for the eyes: frames with what was found on them, and what the model is given.

Found is drawn as everywhere in the agent; what a person has labelled stands beside it in white.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.cli import overlay
from edge_agent.core.frames import Frame, Mask, Object, Result
from edge_agent.core.manifest import HeadSpec, Manifest
from edge_agent.core.vision import Rect
from edge_agent.inference.interpret import Findings
from tools.hot_tier.packing.truth import Box

MAX_TILES: Final = 12
COLUMNS: Final = 3
TILE_PX: Final = 480  # width of a tile; its height follows from the frame
MAX_TALL: Final = 2.0  # height to width of a tile
TITLE_PX: Final = 22
WHITE, GROUND = (255, 255, 255), 32

Picture = NDArray[np.uint8]


class Sheet:
    """At most `MAX_TILES` frames and one input."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        labels = [label for head in manifest.heads for label in head.labels]
        self._names = {one.key: one.name or one.key for one in labels}
        self._colours = {one.key: one.colour for one in labels}
        self._tiles: list[Picture] = []
        self._input: Picture | None = None

    def add(
        self, frame: Frame, roi: Rect, findings: Findings, truth: Sequence[tuple[HeadSpec, Box]]
    ) -> None:
        """A tile of the whole frame, with the region that the model is given."""
        factor = TILE_PX / max(frame.size[0], frame.size[1] / MAX_TALL)
        tile = _scaled(_colour(frame.pixels), factor)
        if roi != (0, 0, *frame.size):
            x, y, wide, high = roi
            _frame(tile, (x, y, x + wide, y + high), factor, (128, 128, 128))
        for _, one in truth:
            _frame(tile, one.box, factor, WHITE)
        result = Result(
            node="",
            stream="",
            objects=tuple(_larger(one, factor) for one in findings.objects),
            labels=findings.labels,
        )
        drawn = overlay.draw(tile, result, names=self._names, colours=self._colours)
        count = len(findings.objects) or len(findings.labels)
        self._tiles.append(_titled(drawn, f"frame {frame.number}: {count} found"))

    def given(self, pixels: Picture) -> None:
        """The first is kept: 1xCxHxW or 1xHxWxC, as the model is given it."""
        if self._input is not None:
            return
        spec = self._manifest.input
        planes = pixels[0] if spec.layout == "nhwc" else pixels[0].transpose(1, 2, 0)
        shown = planes[..., ::-1] if spec.order == "rgb" else planes
        if spec.channels == 1:
            shown = np.repeat(planes, 3, axis=2)
        factor = TILE_PX / max(spec.size[0], spec.size[1] / MAX_TALL)
        title = f"input: {spec.size[0]} x {spec.size[1]} {spec.order}, {spec.fit}"
        self._input = _titled(_scaled(np.ascontiguousarray(shown), factor), title)

    def png(self) -> bytes:
        """All tiles, in rows."""
        tiles = [*self._tiles, *([] if self._input is None else [self._input])]
        if not tiles:
            return b""
        columns = min(COLUMNS, len(tiles))
        rows = [tiles[at : at + columns] for at in range(0, len(tiles), columns)]
        sheet = np.vstack([_row(row, columns) for row in rows])
        _, stored = cv2.imencode(".png", sheet)
        return bytes(stored)


def _row(tiles: Sequence[Picture], columns: int) -> Picture:
    high = max(tile.shape[0] for tile in tiles)
    row = np.full((high, columns * TILE_PX, 3), GROUND, np.uint8)
    for index, tile in enumerate(tiles):
        row[: tile.shape[0], index * TILE_PX : (index + 1) * TILE_PX] = tile
    return row


def _colour(pixels: Picture) -> Picture:
    return pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)


def _scaled(picture: Picture, factor: float) -> Picture:
    high, wide = picture.shape[:2]
    size = (max(1, min(TILE_PX, round(wide * factor))), max(1, round(high * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    scaled: Any = cv2.resize(picture, size, interpolation=how)
    return np.ascontiguousarray(scaled, np.uint8)


def _frame(tile: Picture, box: Sequence[float], factor: float, colour: Sequence[int]) -> None:
    x0, y0, x1, y1 = (round(edge * factor) for edge in box)
    cv2.rectangle(tile, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), tuple(colour), 1)


def _larger(found: Object, factor: float) -> Object:
    """In px of the tile."""
    x0, y0, x1, y1 = (edge * factor for edge in found.box)
    points = tuple((x * factor, y * factor, score) for x, y, score in found.keypoints)
    mask = found.mask
    if mask is not None:
        mask = _larger_mask(mask, factor)
    return msgspec.structs.replace(found, box=(x0, y0, x1, y1), keypoints=points, mask=mask)


def _larger_mask(mask: Mask, factor: float) -> Mask | None:
    """None, so that the box is drawn, where a record had no room for its outline."""
    if not mask.rings:
        return None
    rings = tuple(tuple(round(value * factor) for value in ring) for ring in mask.rings)
    return msgspec.structs.replace(mask, rings=rings, runs=())


def _titled(tile: Picture, title: str) -> Picture:
    bar = np.full((TITLE_PX, TILE_PX, 3), GROUND, np.uint8)
    cv2.putText(bar, title, (4, TITLE_PX - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, WHITE, 1,
                cv2.LINE_AA)  # fmt: skip
    wide = np.full((tile.shape[0], TILE_PX, 3), GROUND, np.uint8)
    wide[:, : tile.shape[1]] = tile
    return np.vstack([bar, wide])
