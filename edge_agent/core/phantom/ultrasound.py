"""A scan sector: speckle, bright walls and dark chambers that beat.

Lengths are in depths: 0,0 is the probe, x to the right, y down, 1 the far end of the sector. Levels
are in dB, 0 is white. The picture is drawn beam by beam (range x angle) and converted to pixels, so
that the speckle spreads with depth as a real sector's does. The truth comes from the chambers'
outlines themselves, not from the picture.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.phantom.texture import Field, ramp, smooth_noise, speckle

Gray = NDArray[np.uint8]
Truth = NDArray[np.bool_]


class Chamber(msgspec.Struct, frozen=True, kw_only=True):
    """A blood pool: an egg of half-axes a (across) and b (along), turned by `tilt` radians.

    egg > 0 narrows the near end. beat: relative change of size, `phase` in cycles. bumps: relative
    (amplitude, phase) of the 2nd, 3rd and 4th harmonic of the outline.
    """

    x: float
    y: float
    a: float
    b: float
    tilt: float = 0.0
    egg: float = 0.0
    beat: float = 0.1
    phase: float = 0.0
    wall_db: float = 12.0
    wall: float = 0.03
    bumps: tuple[tuple[float, float], ...] = ()


class Strand(msgspec.Struct, frozen=True, kw_only=True):
    """A thin bright line that swings about its first end: a leaflet, a chord, a pleura."""

    x: float
    y: float
    length: float
    angle: float
    swing: float = 0.0
    phase: float = 0.0
    width: float = 0.008
    level_db: float = -8.0


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a sector's picture depends on, but for its size and seed."""

    chambers: tuple[Chamber, ...]
    strands: tuple[Strand, ...] = ()
    half_angle: float = 0.72  # radians
    apex: tuple[float, float] = (0.5, 0.05)  # of the frame's width and height
    depth: float = 0.88  # of the frame's height
    near: float = 0.04  # where the picture starts, in depths
    tissue_db: float = -30.0
    muscle_db: float = -26.0
    muscle: float = 0.07  # how far muscle reaches around a chamber, in depths
    blood_db: float = -52.0
    haze_db: float = -58.0  # noise floor at the far end
    clutter_db: float = -22.0  # reverberation at the probe
    texture_db: float = 3.0
    side_db: float = 8.0  # loss at the sector's sides
    tgc_db: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    shadows_db: float = 3.0  # loss that differs from beam to beam
    far_db: float = 8.0  # a bright band at the far end
    range_db: float = 60.0
    gain_db: float = 0.0
    gamma: float = 1.0
    grain: tuple[float, float] = (1.0, 1.2)  # speckle size along and across the beam, in cells


def _local(chamber: Chamber, x: Field, y: Field, cycle: float) -> tuple[Field, Field]:
    """Coordinates in which the chamber is the unit disc (before its bumps)."""
    size = 1.0 + chamber.beat * math.cos(2.0 * math.pi * (cycle + chamber.phase))
    cos, sin = math.cos(chamber.tilt), math.sin(chamber.tilt)
    across = (x - chamber.x) * cos + (y - chamber.y) * sin
    along = ((y - chamber.y) * cos - (x - chamber.x) * sin) / (chamber.b * (0.5 + 0.5 * size))
    taper = 1.0 + chamber.egg * np.clip(along, -1.2, 1.2)
    return (across / (chamber.a * size * taper)).astype(np.float32), along.astype(np.float32)


def radius(chamber: Chamber, x: Field, y: Field, cycle: float) -> Field:
    """The chamber's own radius at each point: below 1 is inside."""
    u, v = _local(chamber, x, y, cycle)
    rho: Field = np.sqrt(u * u + v * v) + np.float32(1e-6)
    if not chamber.bumps:
        return rho
    angle = np.arctan2(v, u)
    outline = np.ones_like(rho)
    for order, (amplitude, phase) in enumerate(chamber.bumps, start=2):
        outline += np.float32(amplitude) * np.cos(order * angle + np.float32(phase))
    rho /= outline
    return rho


def _strand_distance(strand: Strand, x: Field, y: Field, cycle: float) -> Field:
    turn = strand.angle + strand.swing * math.sin(2.0 * math.pi * (cycle + strand.phase))
    cos, sin = math.cos(turn), math.sin(turn)
    along = (x - strand.x) * cos + (y - strand.y) * sin
    beyond = along - np.clip(along, 0.0, strand.length)
    aside = (y - strand.y) * cos - (x - strand.x) * sin
    distance: Field = np.sqrt(beyond * beyond + aside * aside).astype(np.float32)
    return distance


class Sector:
    """Draws a `Look` at a given size. Same arguments, same pictures."""

    def __init__(self, look: Look, size: tuple[int, int], seed: int) -> None:
        self.look = look
        self.size = size
        rng = np.random.default_rng(seed)
        self._lay_out()
        cells = (self._range.shape[0], self._angle.shape[1])
        self._scatter = [speckle(rng, cells, look.grain) for _ in range(2)]
        self._hiss = np.abs(speckle(rng, cells, (0.6, 0.6)))
        self._grey = smooth_noise(rng, cells, (cells[0] / 14, cells[1] / 10)) * look.texture_db
        beams = smooth_noise(rng, (1, cells[1]), (0.1, cells[1] / 24))
        self._loss = self._losses(beams)

    def _lay_out(self) -> None:
        """The beams' grid and, for each pixel of the sector, its place in that grid."""
        look, (width, height) = self.look, self.size
        reach = max(look.depth * height, 2.0)
        columns = (np.arange(width, dtype=np.float32) + 0.5 - look.apex[0] * width) / reach
        rows = (np.arange(height, dtype=np.float32) + 0.5 - look.apex[1] * height) / reach
        self._x, self._y = np.broadcast_arrays(columns[None, :], rows[:, None])
        distance = np.hypot(self._x, self._y)
        angle = np.arctan2(self._x, self._y)
        self.inside: Truth = (
            (distance >= look.near) & (distance < 1.0) & (np.abs(angle) < look.half_angle)
        )
        n_range = max(int(reach * 0.8), 8)
        n_angle = max(int(reach * look.half_angle * 0.9), 8)
        self._range = np.linspace(0.0, 1.0, n_range, dtype=np.float32)[:, None]
        self._angle = np.linspace(-look.half_angle, look.half_angle, n_angle, dtype=np.float32)[
            None, :
        ]
        self._beam_x = self._range * np.sin(self._angle)
        self._beam_y = self._range * np.cos(self._angle)
        at_range = distance[self.inside] * (n_range - 1)
        at_angle = (angle[self.inside] / look.half_angle + 1.0) * 0.5 * (n_angle - 1)
        row = np.minimum(at_range.astype(np.int32), n_range - 2)
        column = np.minimum(at_angle.astype(np.int32), n_angle - 2)
        self._cell = row * n_angle + column
        self._down = (at_range - row).astype(np.float32)
        self._right = (at_angle - column).astype(np.float32)

    def _losses(self, beams: Field) -> Field:
        """Level in dB that gain over depth, the sides and the far end add, [range, angle]."""
        look = self.look
        off_axis = np.abs(self._angle) / look.half_angle
        side = -look.side_db * off_axis**3 - look.shadows_db * np.maximum(beams, 0.0)
        far = look.far_db * np.exp(-(((self._range - 0.96) / 0.07) ** 2))
        level: Field = (ramp(look.tgc_db, self._range) + far + side + look.gain_db).astype(
            np.float32
        )
        return level

    @property
    def roi(self) -> tuple[int, int, int, int]:
        """[x, y, w, h] px of the sector's bounding box; the whole frame when there is none."""
        rows = np.flatnonzero(self.inside.any(axis=1))
        columns = np.flatnonzero(self.inside.any(axis=0))
        if rows.size == 0:
            return 0, 0, *self.size
        left, top = int(columns[0]), int(rows[0])
        return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top

    def _level(self, cycle: float) -> Field:
        """Mean echo level in dB before losses, [range, angle]."""
        look, x, y = self.look, self._beam_x, self._beam_y
        level = np.full(x.shape, look.tissue_db, np.float32) + self._grey
        blood = np.zeros_like(level)
        bright = np.zeros_like(level)
        for chamber in look.chambers:
            rho = radius(chamber, x, y, cycle)
            gap = (rho - 1.0) * min(chamber.a, chamber.b)
            muscle = np.clip((look.muscle - gap) / (0.4 * look.muscle + 1e-3), 0.0, 1.0)
            level += muscle * (look.muscle_db - look.tissue_db) * (level < look.muscle_db)
            # A wall that the beam meets head on is brighter than one along the beam.
            facing = np.abs(np.gradient(rho, axis=0)) / (
                np.hypot(np.gradient(rho, axis=0), np.gradient(rho, axis=1)) + 1e-6
            )
            ridge = np.exp(-(((gap - 0.6 * chamber.wall) / chamber.wall) ** 2))
            bright = np.maximum(bright, ridge * chamber.wall_db * (0.45 + 0.55 * facing))
            blood = np.maximum(blood, np.clip(0.5 - gap / 0.02, 0.0, 1.0))
        level += bright
        level += blood * (look.blood_db - level)
        for strand in look.strands:
            line = np.exp(-((_strand_distance(strand, x, y, cycle) / strand.width) ** 2))
            level = np.maximum(level, look.blood_db + line * (strand.level_db - look.blood_db))
        return level.astype(np.float32)

    def draw(self, cycle: float) -> Gray:
        """The picture at `cycle` (1 is a whole heart beat): HxW uint8, black outside the sector."""
        look = self.look
        turn = 0.6 * math.sin(2.0 * math.pi * cycle)
        grains = np.abs(
            np.float32(math.cos(turn)) * self._scatter[0]
            + np.float32(math.sin(turn)) * self._scatter[1]
        )
        echo = np.power(np.float32(10.0), (self._level(cycle) + self._loss) / 20.0) * grains
        reverberation = look.clutter_db - 42.0 * self._range / 0.14
        floor = np.maximum(reverberation, look.haze_db - 10.0 * (1.0 - self._range))
        hiss = np.power(np.float32(10.0), (floor + look.gain_db) / 20.0) * np.roll(
            self._hiss, int(cycle * 9973) % 97, axis=0
        )
        power = echo * echo + hiss * hiss + np.float32(1e-12)
        grey = np.clip(10.0 * np.log10(power) / look.range_db + 1.0, 0.0, 1.0) ** look.gamma
        picture = np.zeros(self.inside.shape, np.uint8)
        picture[self.inside] = self._convert(np.float32(255.0) * grey)
        return picture

    def _convert(self, beams: Field) -> Gray:
        """Scan conversion: bilinear between four cells of [range, angle] for each sector pixel."""
        flat, step = beams.ravel(), beams.shape[1]
        near = flat[self._cell] * (1.0 - self._right) + flat[self._cell + 1] * self._right
        cell = self._cell + step
        far = flat[cell] * (1.0 - self._right) + flat[cell + 1] * self._right
        pixels: Gray = (near + (far - near) * self._down + np.float32(0.5)).astype(np.uint8)
        return pixels

    def truth(self, cycle: float) -> Truth:
        """The chambers at `cycle`: HxW bool, never outside the sector."""
        mask = np.zeros(self.inside.shape, np.bool_)
        for chamber in self.look.chambers:
            mask |= radius(chamber, self._x, self._y, cycle) < 1.0
        return mask & self.inside
