"""Random ultrasound phantoms, far wilder than the live one, with the clutter of real screens.

Every picture comes from a generator seeded by (seed, index): the same pair, the same picture.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.phantom.hearts import four_chambers
from edge_agent.core.phantom.ultrasound import Chamber, Look, Sector, Strand

Image = NDArray[np.uint8]
SIZE = (256, 192)  # [w, h] px of the model's input
Rng = np.random.Generator


class Sample(NamedTuple):
    """image: SIZE gray uint8. mask: the same size, 0 or 1."""

    image: Image
    mask: Image


def _turned(chambers: tuple[Chamber, ...], rng: Rng) -> tuple[Chamber, ...]:
    """The heart shifted, scaled and turned as a whole."""
    turn, scale = rng.normal(0, 0.16), rng.uniform(0.75, 1.2)
    dx, dy = rng.uniform(-0.12, 0.12), rng.uniform(-0.1, 0.1)
    cos, sin = math.cos(turn), math.sin(turn)
    moved = []
    for one in chambers:
        x, y = one.x * scale, (one.y - 0.55) * scale
        moved.append(
            Chamber(
                x=x * cos - y * sin + dx, y=0.55 + x * sin + y * cos + dy,
                a=one.a * scale * rng.uniform(0.85, 1.2),
                b=one.b * scale * rng.uniform(0.9, 1.12),
                tilt=one.tilt + turn, egg=one.egg + rng.uniform(-0.1, 0.15), beat=one.beat,
                phase=one.phase, wall_db=one.wall_db * rng.uniform(0.3, 1.3),
                wall=one.wall * rng.uniform(0.6, 1.5),
                bumps=tuple((a + rng.uniform(0, 0.03), p) for a, p in one.bumps),
            )
        )  # fmt: skip
    return tuple(moved)


def _heart(rng: Rng) -> tuple[tuple[Chamber, ...], tuple[Strand, ...]]:
    """Four chambers, or some of them; an open valve joins a pair now and then."""
    chambers, strands = four_chambers(rng, spread=rng.uniform(1.0, 2.2))
    keep = [True, rng.random() < 0.85, rng.random() < 0.65, rng.random() < 0.6]
    chosen = tuple(one for one, kept in zip(chambers, keep, strict=True) if kept)
    if rng.random() < 0.3:
        return _turned(chosen, rng), ()
    if rng.random() < 0.5:
        return chosen, strands[: 4 if keep[2] else 2]
    return _turned(chosen, rng), _loose(rng, int(rng.integers(0, 4)))


def _pools(rng: Rng) -> tuple[tuple[Chamber, ...], tuple[Strand, ...]]:
    """Eggs anywhere, kept apart."""
    found: list[Chamber] = []
    for _ in range(int(rng.integers(1, 5))):
        a, b = rng.uniform(0.05, 0.18), rng.uniform(0.06, 0.24)
        x, y = rng.uniform(-0.35, 0.35), rng.uniform(0.22, 0.82)
        near = (math.hypot(x - o.x, y - o.y) < 0.9 * (max(a, b) + max(o.a, o.b)) for o in found)
        if any(near):
            continue
        bumps = tuple((float(rng.uniform(0, 0.08)), float(rng.uniform(0, 6.3))) for _ in range(3))
        found.append(
            Chamber(
                x=x, y=y, a=a, b=b, tilt=rng.uniform(-1.2, 1.2), egg=rng.uniform(-0.3, 0.3),
                wall_db=rng.uniform(2, 18), wall=rng.uniform(0.012, 0.045), bumps=bumps,
            )
        )  # fmt: skip
    return tuple(found), _loose(rng, int(rng.integers(0, 5)))


def _loose(rng: Rng, count: int) -> tuple[Strand, ...]:
    return tuple(
        Strand(
            x=rng.uniform(-0.3, 0.3), y=rng.uniform(0.2, 0.9), length=rng.uniform(0.03, 0.25),
            angle=rng.uniform(-0.7, 0.7) + (math.pi if rng.random() < 0.5 else 0),
            width=rng.uniform(0.004, 0.014), level_db=rng.uniform(-24, -4),
        )
        for _ in range(count)
    )  # fmt: skip


def wild_look(rng: Rng) -> Look:
    """Gain, sector, depth, tissue, walls, haze and losses, all drawn widely."""
    kind = rng.random()
    chambers, strands = _heart(rng) if kind < 0.62 else _pools(rng)
    if kind > 0.95:
        chambers = ()
    muscle_db = rng.uniform(-36, -16)
    # Behind the muscle there is often nothing to see: dark that is no chamber.
    tissue_db = muscle_db - (rng.uniform(0, 9) if rng.random() < 0.5 else rng.uniform(9, 34))
    far_db = rng.uniform(0, 26) if rng.random() < 0.6 else 0.0
    return Look(
        chambers=chambers, strands=strands,
        half_angle=rng.uniform(0.5, 0.95),
        apex=(rng.uniform(0.38, 0.62), rng.uniform(-0.02, 0.16)),
        depth=rng.uniform(0.68, 0.98),
        near=rng.uniform(0.015, 0.09),
        tissue_db=tissue_db, muscle_db=muscle_db, muscle=rng.uniform(0.035, 0.16),
        blood_db=muscle_db - rng.uniform(12, 36),
        haze_db=rng.uniform(-72, -46), clutter_db=rng.uniform(-34, -8),
        texture_db=rng.uniform(1.5, 8.0),
        side_db=rng.uniform(0, 34), shadows_db=rng.uniform(0, 9),
        tgc_db=tuple(rng.uniform(-7, 7) for _ in range(5)),
        far_db=far_db, range_db=rng.uniform(42, 72), gain_db=rng.uniform(-12, 9),
        gamma=rng.uniform(0.9, 2.0), grain=(rng.uniform(0.6, 1.6), rng.uniform(0.7, 2.4)),
    )  # fmt: skip


def narrow_look(rng: Rng) -> Look:
    """One machine, one preset, one view: loud gain, grey blood, no dropouts. What 1.2.0 saw."""
    chambers, strands = four_chambers(rng, spread=0.4)
    return Look(
        chambers=chambers[:1], strands=strands[:2], half_angle=0.6, apex=(0.5, 0.02), depth=0.96,
        tissue_db=-15.0, muscle_db=-12.0, blood_db=-27.0, haze_db=-60.0, texture_db=1.0,
        side_db=0.0, shadows_db=0.0, far_db=0.0, range_db=52.0, gain_db=4.0,
    )  # fmt: skip


def screen(rng: Rng, image: Image) -> None:
    """Draws what a machine's screen has around and over the sector: words, ticks, bars, marks."""
    height, width = image.shape
    for _ in range(int(rng.integers(0, 9))):
        _word(rng, image)
    if rng.random() < 0.6:
        x = int(width * rng.uniform(0.86, 0.99))
        for y in np.arange(height * 0.1, height * 0.9, height * rng.uniform(0.02, 0.06)):
            cv2.circle(image, (x, int(y)), 0, int(rng.uniform(60, 255)), -1)
    if rng.random() < 0.4:
        x, w = int(width * rng.choice([0.02, 0.94])), max(int(width * 0.02), 2)
        bar = np.linspace(240, 0, int(height * rng.uniform(0.2, 0.5))).astype(np.uint8)
        top = int(height * rng.uniform(0.05, 0.4))
        image[top : top + len(bar), x : x + w] = bar[:, None][: height - top]
    if rng.random() < 0.4:
        top = int(height * rng.uniform(0.9, 0.97))
        left, right = int(width * rng.uniform(0, 0.3)), int(width * rng.uniform(0.6, 1))
        cv2.rectangle(image, (left, top), (right, height), int(rng.uniform(15, 90)), -1)
        for x in range(left, right - 8, max((right - left) // 6, 12)):
            spot = (x + 2, min(top + 9, height - 2))
            cv2.putText(image, "Gen 0", spot, cv2.FONT_HERSHEY_SIMPLEX, 0.25, 130, 1)
    if rng.random() < 0.3:
        trace = height * 0.93 + height * 0.02 * np.cumsum(rng.normal(0, 0.3, width // 3))
        points = np.stack([np.arange(width // 3) * 3, trace], axis=1).astype(np.int32)
        cv2.polylines(image, [points], False, int(rng.uniform(90, 255)), 1)
    if rng.random() < 0.6:
        spot = int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(0.03, 0.15))
        cv2.circle(image, spot, int(rng.integers(1, 4)), int(rng.uniform(90, 220)), -1)


def _word(rng: Rng, image: Image) -> None:
    height, width = image.shape
    letters = "".join(rng.choice(list("ABCDEGHIMPRSTXabdeghmp0123456789.:%/"), rng.integers(1, 9)))
    at_side = rng.random() < 0.9
    x = rng.uniform(0, 0.14) if rng.random() < 0.5 else rng.uniform(0.8, 0.97)
    spot = (
        int(width * (x if at_side else rng.uniform(0, 0.9))),
        int(height * rng.uniform(0.03, 0.99)),
    )
    face, size = cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.22, 0.5)
    cv2.putText(image, letters, spot, face, size, int(rng.uniform(90, 255)), 1, cv2.LINE_AA)


def pixels(image: Any) -> Image:
    """What OpenCV gave, as the uint8 that it is."""
    return np.asarray(image, np.uint8)


def degrade(rng: Rng, image: Image) -> Image:
    """Blur, a capture chain's scaling, JPEG, brightness and noise."""
    height, width = image.shape
    if rng.random() < 0.5:
        image = pixels(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3)))
    if rng.random() < 0.35:
        part = rng.uniform(0.55, 0.9)
        small = cv2.resize(image, None, fx=part, fy=part, interpolation=cv2.INTER_AREA)
        image = pixels(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC))
    if rng.random() < 0.6:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 95))]
        image = pixels(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], 0))
    level = image.astype(np.float32) * rng.uniform(0.65, 1.3) + rng.uniform(-4, 8)
    if rng.random() < 0.6:
        level += rng.normal(0, rng.uniform(0.3, 5), image.shape).astype(np.float32)
    done: Image = np.clip(level, 0, 255).astype(np.uint8)
    return done


def letterbox(image: Image, how: int = cv2.INTER_LINEAR) -> Image:
    """Into SIZE with the aspect kept, centred, padded with black."""
    height, width = image.shape[:2]
    scale = min(SIZE[0] / width, SIZE[1] / height)
    wide, high = round(width * scale), round(height * scale)
    out = np.zeros((SIZE[1], SIZE[0], *image.shape[2:]), np.uint8)
    left, top = (SIZE[0] - wide) // 2, (SIZE[1] - high) // 2
    out[top : top + high, left : left + wide] = cv2.resize(image, (wide, high), interpolation=how)
    return out


def _framed(rng: Rng, sector: Sector, image: Image, mask: Image) -> Sample:
    """The whole frame, or the sector's box with a little slack, as a model would get it."""
    if rng.random() < 0.5:
        x, y, w, h = sector.roi
        slack = [int(v) for v in rng.integers(-4, 10, 4)]
        rows = slice(max(y - slack[0], 0), y + h + slack[1])
        columns = slice(max(x - slack[2], 0), x + w + slack[3])
        image, mask = image[rows, columns], mask[rows, columns]
    how = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_AREA]))
    return Sample(letterbox(image, how), letterbox(mask, cv2.INTER_AREA))


def draw(seed: int, index: int, *, narrow: bool = False) -> Sample:
    """One picture with its truth."""
    rng = np.random.default_rng([seed, index])
    width = 288 if narrow else int(rng.integers(260, 420))
    height = 216 if narrow else int(width * rng.choice([0.75, 0.75, 0.8, 0.66, 0.5625]))
    look = narrow_look(rng) if narrow else wild_look(rng)
    sector = Sector(look, (width, height), int(rng.integers(1 << 30)))
    cycle = float(rng.uniform())
    image, mask = sector.draw(cycle), sector.truth(cycle).astype(np.uint8)
    if narrow:
        x, y, w, h = sector.roi
        return Sample(letterbox(image[y : y + h, x : x + w]), letterbox(mask[y : y + h, x : x + w]))
    if rng.random() < 0.8:
        screen(rng, image)
    return _framed(rng, sector, degrade(rng, image), mask)


def draw_many(seed: int, count: int, *, narrow: bool = False) -> tuple[Image, Image]:
    """([n, h, w] images, [n, h, w] masks), uint8."""
    samples = [draw(seed, index, narrow=narrow) for index in range(count)]
    return np.stack([s.image for s in samples]), np.stack([s.mask for s in samples])
