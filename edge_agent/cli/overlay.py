"""Draws a result over its picture, for people to look at: snapshots and saved views.

Never draws findings that are not of the picture shown: a `warning` takes their place, across the
picture. Says NOT FOR DIAGNOSIS on everything it draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw
from PIL.ImageFont import FreeTypeFont

from edge_agent.cli import fonts
from edge_agent.core.frames import RING_UNITS_PER_PX, Mask, Measure, Object, Pixels, Result

Words = list[tuple[str, FreeTypeFont]]  # side by side

BANNER = "NOT FOR DIAGNOSIS"
COLOUR = "#22cc66"
MAX_FRAMES_BEHIND = 5  # the newest frame is always a little ahead of the newest result
SMALLEST_TEXT_PX = 8
FILL_ALPHA = 96


def staleness(shown_frame: int, result: Result | None, blank: str = "") -> str:
    """Why the result must not be drawn on the frame of that number; "" when it may.

    blank: what the agent itself says against showing results now.
    """
    if blank:
        return f"NO RESULT: {blank}"
    if result is None:
        return "NO RESULT"
    behind = abs(shown_frame - result.frame)
    if behind > max(MAX_FRAMES_BEHIND, 2 * result.every):
        return f"STALE: result of frame {result.frame}, picture is {shown_frame}"
    return ""


def draw(
    pixels: Pixels,
    result: Result | None,
    *,
    names: Mapping[str, str],
    colours: Mapping[str, str],
    warning: str = "",
) -> Pixels:
    """The picture with contours, boxes, labels and the banner: HxWx3 BGR uint8, a new array.

    names, colours: by label key, as the manifest has them; a key without one is written itself.
    warning: stands across the picture in place of the findings.
    """
    rgb = np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels[..., ::-1]
    image = Image.fromarray(np.ascontiguousarray(rgb))
    drawing = _Drawing(ImageDraw.Draw(image, "RGBA"), image.size, names, colours)
    if result is not None and not warning:
        drawing.findings(result)
    if warning:
        drawing.strip(warning, middle=image.height / 2, fill=(176, 0, 32, 200), tall=2)
    drawing.strip(BANNER, middle=image.height - drawing.text_px, fill=(0, 0, 0, 160))
    return np.ascontiguousarray(np.asarray(image)[..., ::-1])


def _stencil(mask: Mask) -> Image.Image:
    """The area of `runs` as an alpha mask: lengths alternate outside, inside, row-major in box."""
    wide, tall = mask.box[2] - mask.box[0], mask.box[3] - mask.box[1]
    inside = np.arange(len(mask.runs)) % 2 * FILL_ALPHA
    alpha = np.repeat(inside.astype(np.uint8), mask.runs)[: wide * tall]
    return Image.fromarray(np.resize(alpha, (tall, wide)))


class _Drawing:
    """One picture being drawn on. All coordinates are px of the picture."""

    def __init__(
        self,
        canvas: ImageDraw.ImageDraw,
        size: tuple[int, int],
        names: Mapping[str, str],
        colours: Mapping[str, str],
    ) -> None:
        self._canvas = canvas
        self._size = size
        self._names = names
        self._colours = colours
        self.text_px = max(SMALLEST_TEXT_PX, min(size) // 32)
        self._line_px = max(1, min(size) // 300)

    def findings(self, result: Result) -> None:
        for found in result.objects:
            self._object(found)
        for measure in result.measures:
            self._measure(measure)
        for line, label in enumerate(result.labels):
            words = self._named(label.label, f" {label.score:.2f}")
            self._text(words, (4, 4 + line * (self.text_px + 6)), self._colour(label.label))

    def strip(
        self, text: str, *, middle: float, fill: tuple[int, int, int, int], tall: int = 1
    ) -> None:
        """Words in the middle of a bar from side to side, as large as the width allows."""
        text = fonts.readable(text)
        size_px = self.text_px * tall
        while size_px > SMALLEST_TEXT_PX and self._wide(text, size_px) > self._size[0] - 4:
            size_px -= 1
        box = (0, middle - size_px, self._size[0], middle + size_px)
        self._canvas.rectangle(box, fill=fill)
        self._canvas.text(
            (self._size[0] / 2, middle),
            text,
            font=fonts.plain_font(size_px),
            fill=(255, 255, 255, 255),
            anchor="mm",
        )

    def _wide(self, text: str, size_px: int) -> float:
        return self._canvas.textlength(text, font=fonts.plain_font(size_px))

    def _colour(self, key: str) -> str:
        return self._colours.get(key, COLOUR)

    def _object(self, found: Object) -> None:
        colour = self._colour(found.label)
        if found.mask is not None:
            self._mask(found.mask, colour)
        else:
            x0, y0, x1, y1 = found.box
            corner = (max(x0, x1 - 1), max(y0, y1 - 1))  # half-open
            self._canvas.rectangle(((x0, y0), corner), outline=colour, width=self._line_px)
        radius = self._line_px + 1
        for x, y, _ in found.keypoints:
            self._canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        track = f" #{found.track}" if found.track else ""
        words = self._named(found.label, f" {found.score:.2f}{track}")
        self._text(words, (found.box[0], found.box[1] - self.text_px - 4), colour)

    def _mask(self, mask: Mask, colour: str) -> None:
        for ring in mask.rings:
            points = [value / RING_UNITS_PER_PX for value in ring]
            if len(points) >= 4:
                closed = [*points, *points[:2]]
                self._canvas.line(closed, fill=colour, width=self._line_px + 1, joint="curve")
        if mask.runs:
            self._canvas.bitmap(mask.box[:2], _stencil(mask), fill=colour)

    def _measure(self, measure: Measure) -> None:
        if len(measure.points) != 4:
            return
        self._canvas.line(measure.points, fill="#ffffff", width=self._line_px)
        words: Words = [
            (
                fonts.readable(f"{measure.value:.1f} {measure.unit}"),
                fonts.plain_font(self.text_px),
            )
        ]
        self._text(words, (measure.points[2], measure.points[3]), "#ffffff")

    def _named(self, key: str, more: str) -> Words:
        """The shown name where some font can write it, else the key; then `more`, in ASCII."""
        ascii_font = fonts.plain_font(self.text_px)
        name = self._names.get(key) or key
        for text in (name, key):
            font = fonts.font_for(text, self.text_px)
            if font is not None:
                return [(text, font), (more, ascii_font)]
        return [(fonts.readable(key), ascii_font), (more, ascii_font)]

    def _text(self, words: Words, at: Sequence[float], colour: str) -> None:
        """Words on a dark ground, moved so that they stay in the picture."""
        wide = sum(self._canvas.textlength(text, font=font) for text, font in words)
        tall = self.text_px + 4
        x = min(max(0.0, at[0]), max(0.0, self._size[0] - wide - 4))
        y = min(max(0.0, at[1]), max(0.0, self._size[1] - tall))
        self._canvas.rectangle((x, y, x + wide + 4, y + tall), fill=(0, 0, 0, 150))
        x += 2
        for text, font in words:
            self._canvas.text((x, y + tall / 2), text, font=font, fill=colour, anchor="lm")
            x += self._canvas.textlength(text, font=font)
