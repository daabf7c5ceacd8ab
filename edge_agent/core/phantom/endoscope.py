"""A view into a tube of tissue: folds, vessels, wet highlights and polyps on the wall.

The scene is a canvas of tissue larger than the frame (the camera wanders over it), highlights that
lie nearer to the camera and so move otherwise, polyps as small tiles with their own light, and the
scope's round dark edge. All layers are uint8 BGR and drawn once; a source composes them per frame.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.phantom.texture import Field, smooth_noise

Colour = NDArray[np.uint8]  # HxWx3 BGR
Box = tuple[float, float, float, float]
VISIBLE = 0.35  # the share of a polyp's box that must be lit for the truth to name it


class Polyp(msgspec.Struct, frozen=True, kw_only=True):
    """x, y: on the canvas, px. radius: px. wobble: px. phase: cycles. stretch: width to height."""

    x: float
    y: float
    radius: float
    stretch: float = 1.0
    turn: float = 0.0
    redness: float = 0.5
    wobble: float = 0.0
    phase: float = 0.0
    rough: float = 0.08


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an endoscope's picture depends on, but for its size and seed.

    tissue: BGR of the mean wall. drift: how far the camera wanders, of the frame's smaller side.
    """

    polyps: tuple[Polyp, ...]
    tissue: tuple[float, float, float] = (92.0, 104.0, 190.0)
    folds: int = 4
    fold_depth: float = 0.45
    vessels: float = 0.5
    mottle: float = 0.06
    wet: float = 1.0
    light: float = 1.0
    edge: float = 0.93  # radius of the round view, of half the frame's diagonal
    drift: float = 0.42
    cycle_frames: int = 720


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """A polyp ready to lay over tissue: paint (already times its cover) and cover, 0..255."""

    polyp: Polyp
    paint: Colour
    cover: Colour  # three equal channels: how much of the polyp is seen


def canvas_size(look: Look, size: tuple[int, int]) -> tuple[int, int]:
    """[w, h] px of the tissue under a frame of `size`."""
    margin = 2 * (int(look.drift * min(size)) + 2)
    return size[0] + margin, size[1] + margin


def _grid(size: tuple[int, int]) -> tuple[Field, Field]:
    rows, columns = np.indices((size[1], size[0]), dtype=np.float32)
    return columns, rows


def tissue(look: Look, size: tuple[int, int], seed: int) -> Colour:
    """The canvas: mottled wall, folds that cast shadows, branching vessels."""
    rng = np.random.default_rng([seed, 1])
    width, height = canvas_size(look, size)
    shape, scale = (height, width), min(size) / 480.0
    x, y = _grid((width, height))
    warp = smooth_noise(rng, shape, (90 * scale, 90 * scale)) * 55 * scale
    light = np.ones(shape, np.float32)
    middle = (width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6))
    away = np.hypot(x - middle[0], (y - middle[1]) * 1.15) + warp
    pitch = 0.75 * max(width, height) / max(look.folds, 1)
    ridge = np.mod(away / pitch + rng.uniform(), 1.0)
    if look.folds:
        light -= look.fold_depth * np.exp(-((1.0 - ridge) / 0.2)) * 0.9
        light += look.fold_depth * 0.35 * np.exp(-(((ridge - 0.12) / 0.1) ** 2))
    light += look.mottle * smooth_noise(rng, shape, (7 * scale, 7 * scale))
    light += look.mottle * 0.6 * smooth_noise(rng, shape, (1.6 * scale, 1.6 * scale))
    light *= 1.0 + 0.12 * smooth_noise(rng, shape, (120 * scale, 120 * scale))
    red = _vessels(rng, shape, scale) * look.vessels
    colour = np.asarray(look.tissue, np.float32)[None, None, :] * light[..., None]
    colour *= 1.0 - red[..., None] * np.array([0.55, 0.6, 0.25], np.float32)
    canvas: Colour = np.clip(colour * look.light, 0, 255).astype(np.uint8)
    return canvas


def _vessels(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Field:
    """Thin branching lines: where smooth noise crosses zero, in two sizes; 0..1."""
    lines = np.zeros(shape, np.float32)
    for sigma, width, strength in ((34.0, 0.05, 0.8), (16.0, 0.07, 0.4)):
        crossing = smooth_noise(rng, shape, (sigma * scale, sigma * scale))
        where = smooth_noise(rng, shape, (60 * scale, 60 * scale)) > 0.1
        lines = np.maximum(lines, np.exp(-((crossing / width) ** 2)) * strength * where)
    return lines


def highlights(look: Look, size: tuple[int, int], seed: int) -> Colour:
    """Specular spots on a canvas of the tissue's size, to be added to the picture."""
    rng = np.random.default_rng([seed, 2])
    width, height = canvas_size(look, size)
    scale = min(size) / 480.0
    glint = smooth_noise(rng, (height, width), (5.5 * scale, 9 * scale))
    wet = smooth_noise(rng, (height, width), (50 * scale, 50 * scale)) + 0.4
    shine = np.clip((glint + 0.5 * wet - 3.1 + 0.3 * look.wet) * 2.2, 0.0, 1.0) * 215.0
    white = np.repeat(shine[..., None], 3, axis=2) * np.array([1.0, 0.98, 0.94], np.float32)
    return white.astype(np.uint8)


def edge(look: Look, size: tuple[int, int]) -> Colour:
    """What to subtract from a frame: a soft vignette, and everything outside the round view."""
    x, y = _grid(size)
    half = 0.5 * math.hypot(*size)
    away = np.hypot(x - size[0] / 2 + 0.5, y - size[1] / 2 + 0.5) / half
    dark = np.where(away > look.edge, 255.0, 70.0 * np.clip(away / look.edge, 0, 1) ** 3)
    return np.repeat(dark.astype(np.uint8)[..., None], 3, axis=2)


def tile(look: Look, polyp: Polyp, seed: int) -> Tile:
    """A dome lit from the camera, with a shadow at its foot and a wet spot."""
    rng = np.random.default_rng([seed, 3, int(polyp.x * 16), int(polyp.y * 16)])
    side = int(polyp.radius * 2.7) | 1
    shape = (side, side)
    rows, columns = np.indices(shape, dtype=np.float32)
    dx, dy = columns - side // 2, rows - side // 2
    cos, sin = math.cos(polyp.turn), math.sin(polyp.turn)
    u = (dx * cos + dy * sin) / (polyp.radius * math.sqrt(polyp.stretch))
    v = (dy * cos - dx * sin) / (polyp.radius / math.sqrt(polyp.stretch))
    rough = smooth_noise(rng, shape, (polyp.radius * 0.3, polyp.radius * 0.3)) * polyp.rough
    rho = np.hypot(u, v) * (1.0 + 0.6 * rough)
    dome = np.sqrt(np.clip(1.0 - rho**2, 0.0, 1.0))
    fine = smooth_noise(rng, shape, (max(polyp.radius * 0.05, 0.8),) * 2)
    light = 0.55 + 0.62 * dome - 0.1 * np.clip(dy / polyp.radius, -1.0, 1.0) * dome + 0.04 * fine
    base = np.asarray(look.tissue, np.float32) * np.array(
        [1.0 - 0.35 * polyp.redness, 1.0 - 0.35 * polyp.redness, 1.06], np.float32
    )
    colour = base[None, None, :] * light[..., None] * look.light
    spot = np.exp(-(((u + 0.28) / 0.16) ** 2) - (((v + 0.34) / 0.1) ** 2)) * 190.0 * look.wet
    body = np.clip((1.0 - rho) / 0.07, 0.0, 1.0)
    foot = 0.55 * np.clip((1.3 - rho) / 0.3, 0.0, 1.0) * (1.0 - body)
    cover = np.clip(body + foot, 0.0, 1.0)
    paint = (np.clip(colour, 0, 255) + spot[..., None]) * body[..., None]
    return Tile(
        polyp=polyp,
        paint=np.clip(paint, 0, 255).astype(np.uint8),
        cover=np.repeat((cover * 255.0).astype(np.uint8)[..., None], 3, axis=2),
    )


def camera(look: Look, size: tuple[int, int], frame: int) -> tuple[int, int]:
    """[x, y] px of the frame's corner on the canvas: a slow closed wander."""
    reach = int(look.drift * min(size))
    cycle = 2.0 * math.pi * frame / look.cycle_frames
    x = 0.72 * math.sin(cycle) + 0.28 * math.sin(5 * cycle + 1.0)
    y = 0.72 * math.sin(2 * cycle + 0.7) + 0.28 * math.sin(7 * cycle)
    return round(reach * (1.0 + x)) + 2, round(reach * (1.0 + y)) + 2


def place(look: Look, polyp: Polyp, size: tuple[int, int], frame: int) -> tuple[int, int]:
    """[x, y] px of the polyp's middle in the frame; may lie outside of it."""
    corner = camera(look, size, frame)
    cycle = 2.0 * math.pi * (frame * 6 / look.cycle_frames + polyp.phase)
    return (
        round(polyp.x + polyp.wobble * math.sin(cycle)) - corner[0],
        round(polyp.y + polyp.wobble * math.cos(cycle * 2)) - corner[1],
    )


def extent(polyp: Polyp) -> tuple[float, float]:
    """Half the width and half the height of the polyp's box, px."""
    across, along = (
        polyp.radius * math.sqrt(polyp.stretch),
        polyp.radius / math.sqrt(polyp.stretch),
    )
    cos, sin = math.cos(polyp.turn), math.sin(polyp.turn)
    return math.hypot(across * cos, along * sin), math.hypot(across * sin, along * cos)


def boxes(look: Look, size: tuple[int, int], frame: int) -> tuple[Box, ...]:
    """[x0, y0, x1, y1] px, half-open, of the polyps in view, clipped to the frame."""
    found: list[Box] = []
    half = 0.5 * math.hypot(*size) * look.edge
    for polyp in look.polyps:
        x, y = place(look, polyp, size, frame)
        wide, high = extent(polyp)
        columns, rows = np.meshgrid(np.linspace(-0.9, 0.9, 9), np.linspace(-0.9, 0.9, 9))
        px, py = x + columns * wide, y + rows * high
        lit = (px >= 0) & (px < size[0]) & (py >= 0) & (py < size[1])
        lit &= np.hypot(px - size[0] / 2, py - size[1] / 2) < half
        disc = np.hypot(columns, rows) <= 1.0
        if lit[disc].mean() < VISIBLE:
            continue
        ys, xs = py[lit & disc], px[lit & disc]
        found.append(
            (
                max(x - wide, 0.0, float(xs.min()) - 0.2 * wide),
                max(y - high, 0.0, float(ys.min()) - 0.2 * high),
                min(x + wide, float(size[0]), float(xs.max()) + 0.2 * wide),
                min(y + high, float(size[1]), float(ys.max()) + 0.2 * high),
            )
        )
    return tuple(found)


def live_look(seed: int, size: tuple[int, int]) -> Look:
    """The scene of the live endoscope phantom with this seed: one polyp, sometimes two."""
    rng = np.random.default_rng([seed, 0xE7D0])
    bare = Look(polyps=())
    wide, high = canvas_size(bare, size)
    scale = min(size) / 480.0
    # Off the middle, so that the camera's wander loses it now and then.
    aside = rng.uniform(0.24, 0.33)
    middles = [(aside if rng.random() < 0.5 else 1.0 - aside, rng.uniform(0.35, 0.65))]
    if rng.random() < 0.5:
        middles.append((rng.choice((0.15, 0.85)), rng.uniform(0.2, 0.8)))
    polyps = tuple(
        Polyp(
            x=float(x * wide),
            y=float(y * high),
            radius=float(rng.uniform(38, 62) * scale),
            stretch=float(rng.uniform(0.8, 1.3)),
            turn=float(rng.uniform(0, math.pi)),
            redness=float(rng.uniform(0.3, 0.7)),
            wobble=float(rng.uniform(4, 10) * scale),
            phase=float(rng.uniform()),
        )
        for x, y in middles
    )
    return Look(polyps=polyps, fold_depth=float(rng.uniform(0.35, 0.5)))
