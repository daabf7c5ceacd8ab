"""Synthetic, seeded frames with known truth, and faults on demand.

Layers and a whole heart beat are drawn once, when the source opens; a frame is a copy plus sensor
noise, well under a millisecond of CPU. The picture depends on the seed and on the frame's number
alone. It must never be mistaken for a patient: the words are burnt in.
"""

from __future__ import annotations

from typing import Protocol

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.config.structs import PhantomSource
from edge_agent.core.errors import SourceLost
from edge_agent.core.frames import Calibration, Frame, Pixels
from edge_agent.core.pacing import Pace
from edge_agent.core.phantom import endoscope, hearts, ultrasound
from edge_agent.ports import Clock, SourceFacts

FPS = {"ultrasound": 30.0, "endoscope": 60.0}
BEATS_PER_MINUTE = 66.0
MAX_BANK_FRAMES = 40  # a beat at 640x480 is then at most 12 MB
NOISE_SHIFTS = 61  # offsets of the noise tile, in both directions; a prime
MARK = "SYNTHETIC"


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What is really in a frame. mask: HxW bool of chambers. boxes: [x0, y0, x1, y1] px."""

    mask: NDArray[np.bool_] | None = None
    boxes: tuple[endoscope.Box, ...] = ()


class Scene(Protocol):
    """Draws frame `number` (from 1 on) into a fresh array, and knows what is in it."""

    calibration: Calibration

    def draw(self, number: int) -> Pixels: ...

    def truth(self, number: int) -> Truth: ...


class _Noise:
    """A tile of sensor noise, read at an offset that differs from frame to frame."""

    def __init__(self, seed: int, shape: tuple[int, ...], *, sd: float) -> None:
        rng = np.random.default_rng([seed, 0x0015E])
        self._shape = shape
        padded = (shape[0] + NOISE_SHIFTS, shape[1] + NOISE_SHIFTS, *shape[2:])
        level = rng.standard_normal(padded, dtype=np.float32) * sd + 2.0 * sd
        self._tile = np.clip(level, 0, 4.0 * sd).astype(np.uint8)

    def at(self, number: int) -> Pixels:
        """A view of the frame's shape; mean 2 sd."""
        down, right = (number * 23) % NOISE_SHIFTS, (number * 37) % (NOISE_SHIFTS - 2)
        view: Pixels = self._tile[down : down + self._shape[0], right : right + self._shape[1]]
        return view


class UltrasoundScene:
    """One heart beat, drawn ahead; played in a loop under fresh noise."""

    def __init__(self, config: PhantomSource, fps: float) -> None:
        self._sector = ultrasound.Sector(hearts.live_look(config.seed), config.size, config.seed)
        self._beat = min(max(round(fps * 60.0 / BEATS_PER_MINUTE), 2), MAX_BANK_FRAMES)
        self._bank = [self._sector.draw(tick / self._beat) for tick in range(self._beat)]
        self._inside = self._sector.inside.astype(np.uint8)
        for picture in self._bank:
            _mark(picture, 150)
        self._noise = _Noise(config.seed, self._inside.shape, sd=1.6)
        roi = config.roi or self._sector.roi
        if config.spacing_mm is None:
            self.calibration = Calibration(roi=roi, reason="synthetic picture: no physical scale")
        else:
            self.calibration = Calibration(
                roi=roi, spacing_mm=config.spacing_mm, spacing_from="config"
            )

    def draw(self, number: int) -> Pixels:
        picture: Pixels = self._bank[number % self._beat].copy()
        cv2.add(picture, self._noise.at(number), dst=picture, mask=self._inside)
        return picture

    def truth(self, number: int) -> Truth:
        return Truth(mask=self._sector.truth((number % self._beat) / self._beat))


class EndoscopeScene:
    """A window that wanders over tissue, with polyps, highlights, noise and the scope's edge."""

    def __init__(self, config: PhantomSource, look: endoscope.Look | None = None) -> None:
        self._size = config.size
        self._look = look or endoscope.live_look(config.seed, config.size)
        self._tissue = endoscope.tissue(self._look, config.size, config.seed)
        self._shine = endoscope.highlights(self._look, config.size, config.seed)
        self._edge = endoscope.edge(self._look, config.size)
        self._tiles = [
            endoscope.tile(self._look, polyp, config.seed) for polyp in self._look.polyps
        ]
        self._noise = _Noise(config.seed, (config.size[1], config.size[0], 3), sd=2.2)
        _mark(self._edge, 0)
        self.calibration = Calibration(
            roi=config.roi,
            spacing_mm=config.spacing_mm,
            spacing_from="config" if config.spacing_mm else "",
            reason="" if config.spacing_mm else "an endoscope has no fixed scale",
        )

    def _window(self, layer: Pixels, corner: tuple[int, int]) -> Pixels:
        rows = slice(corner[1], corner[1] + self._size[1])
        return layer[rows, corner[0] : corner[0] + self._size[0]]

    def draw(self, number: int) -> Pixels:
        corner = endoscope.camera(self._look, self._size, number)
        picture: Pixels = self._window(self._tissue, corner).copy()
        for layer in self._tiles:
            middle = endoscope.place(self._look, layer.polyp, self._size, number)
            _lay(picture, layer, middle)
        # Highlights sit on the wet film nearer to the lens: they move by half as much.
        near = corner[0] // 2, corner[1] // 2
        cv2.add(picture, self._window(self._shine, near), dst=picture)
        cv2.add(picture, self._noise.at(number), dst=picture)
        cv2.subtract(picture, self._edge, dst=picture)
        return picture

    def truth(self, number: int) -> Truth:
        return Truth(boxes=endoscope.boxes(self._look, self._size, number))


def _mark(picture: Pixels, level: int) -> None:
    """Burns the word in at the lower left, if it fits."""
    height, width = picture.shape[:2]
    if width >= 160 and height >= 120:
        spot, face = (6, height - 8), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(picture, MARK, spot, face, 0.4, (level,) * 3, 1, cv2.LINE_AA)


def _lay(picture: Pixels, layer: endoscope.Tile, middle: tuple[int, int]) -> None:
    """Lays the tile over the picture, clipped at the borders."""
    side = layer.paint.shape[0]
    left, top = middle[0] - side // 2, middle[1] - side // 2
    x0, y0 = max(left, 0), max(top, 0)
    x1, y1 = min(left + side, picture.shape[1]), min(top + side, picture.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    under = picture[y0:y1, x0:x1]
    cut = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    hidden = cv2.multiply(under, layer.cover[cut], scale=1.0 / 255.0)
    cv2.subtract(under, hidden, dst=hidden)
    cv2.add(hidden, layer.paint[cut], dst=under)


def make_scene(config: PhantomSource, fps: float) -> Scene:
    """Draws all that can be drawn ahead; under a second at 640x480."""
    if config.scene == "ultrasound":
        return UltrasoundScene(config, fps)
    return EndoscopeScene(config)


class PhantomFrames:
    """A `FrameSource`. `number` counts captured frames: 1, 2, 3…; missed ticks have no number."""

    def __init__(self, config: PhantomSource, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._fps = config.fps or FPS[config.scene]
        self._period_us = 1e6 / self._fps
        self._scene: Scene | None = None
        self._number = 0
        self._tick = 0
        self._pace: Pace | None = None
        self._back_us: int | None = None  # when a vanished source comes back
        self._spent = False  # `vanish` and `end` happen once
        self._held: Pixels | None = None  # the frame that a frozen source repeats

    def open(self) -> SourceFacts:
        """Raises: SourceLost while it has vanished or after its end."""
        self._check_there()
        if self._scene is None:
            self._scene = make_scene(self._config, self._fps)
        self._pace, self._tick = None, 0
        return SourceFacts(
            where=f"phantom:{self._config.scene}",
            expected_fps=self._fps,
            size=self._config.size,
            live=self._config.pace == "real",
            details={"seed": str(self._config.seed), "fault": self._config.fault or "none"},
        )

    def read(self, timeout_s: float) -> Frame | None:
        """Raises: SourceLost when it vanishes or ends."""
        if self._scene is None:
            raise SourceLost("read phantom: not open", hint="open the source first")
        if not self._wait(timeout_s) or self._pace is None:
            return None
        self._break()
        captured_us = self._clock.boot_us()
        self._tick += self._pace.take(captured_us)
        pixels = self._pixels(self._scene)
        self._number += 1
        frame = Frame(
            number=self._number,
            captured_us=captured_us,
            pixels=pixels,
            pts_us=round(self._tick * self._period_us),
            calibration=self._scene.calibration,
        )
        self._tick += 1
        return frame

    def close(self) -> None:
        self._pace = None

    def truth(self, number: int) -> Truth:
        """What frame `number` shows when no fault hides it."""
        scene = self._scene or make_scene(self._config, self._fps)
        self._scene = scene
        return scene.truth(number)

    def _wait(self, timeout_s: float) -> bool:
        """Blocks until the tick is due; False when that is later than `timeout_s`."""
        now_us = self._clock.boot_us()
        if self._pace is None:
            self._pace = Pace(self._fps, now_us, self._config.pace)
        wait = self._pace.wait(now_us, timeout_s)
        self._clock.sleep_us(wait.sleep_us)
        return wait.is_due

    def _faulty(self, kind: str) -> bool:
        """Whether the next frame falls into the fault of this kind."""
        config = self._config
        if config.fault != kind or self._number < config.fault_after_frames:
            return False
        beyond = self._number - config.fault_after_frames
        return config.fault_frames == 0 or beyond < config.fault_frames

    def _pixels(self, scene: Scene) -> Pixels:
        """The picture of the next frame, as the fault has it."""
        if self._faulty("freeze") and self._held is not None:
            held: Pixels = self._held.copy()
            return held
        pixels = scene.draw(self._number + 1)
        if self._faulty("black"):
            pixels[:] = 0
        if self._config.fault == "freeze":
            self._held = pixels
        return pixels

    def _break(self) -> None:
        """Raises: SourceLost when the fault says that the source goes now."""
        vanish, end = self._faulty("vanish"), self._faulty("end")
        if self._spent or not (vanish or end):
            return
        self._spent = True
        away_us = round(self._config.fault_frames * self._period_us)
        if vanish and away_us:
            self._back_us = self._clock.boot_us() + away_us
        self._check_there()

    def _check_there(self) -> None:
        if not self._spent:
            return
        config = self._config
        if config.fault == "end":
            raise SourceLost(
                f"read phantom: ended after {self._number} frames, as its fault asks",
                hint='set source.fault = ""',
            )
        if self._back_us is None or self._clock.boot_us() < self._back_us:
            raise SourceLost(
                f"read phantom: vanished after {self._number} frames, as its fault asks",
                hint='wait, or set source.fault = ""',
            )
