"""Made-up series of records as the agent makes them: smooth tracks, jitter, noise. Seeded.

For benches and for training the dictionary; the tests of the wire make their own.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Final

from edge_agent.core.frames import Label, Mask, Measure, Object, Result

CONTOUR_POINTS: Final = 64


@dataclass(frozen=True)
class Scene:
    """What stays the same over a series. spacing_mm: 0 when uncalibrated: then no measures."""

    node: str = "cart-07"
    stream: str = "probe-a"
    model: str = "thyroid-nodule"
    version: str = "2.3.1"
    head: str = "nodules"
    labels: tuple[str, ...] = ("nodule", "cyst")
    size: tuple[int, int] = (1280, 960)
    fps: float = 30.0
    spacing_mm: float = 0.0847
    backend: str = "tensorrt"
    variant: str = "fp16"
    contours: bool = False
    classes: tuple[str, ...] = ()
    pts: bool = False


@dataclass
class Track:
    """One thing in the picture. Positions in px."""

    identity: int
    label: str
    phase: float
    x: float
    y: float
    width: float
    height: float
    score: float = 0.8
    shape: list[float] = field(default_factory=list)


class Series:
    """Makes results one after the other; two with the same seed are the same."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self._random = chance = random.Random(seed)
        self._scene = scene
        self._boot, self._settings = _hex(chance, 8), _hex(chance, 8)
        self._sha, self._exam = _hex(chance, 16), _hex(chance, 16)
        self._start_us = chance.randrange(10**9, 10**12)
        self._epoch = chance.randrange(1, 400) << 32 | chance.randrange(1 << 32)
        self._offset_us = 1_790_000_000_000_000 + chance.randrange(10**12)
        self._frame = chance.randrange(10**6)
        self._seq = chance.randrange(1, 10**6)
        self._next_track = chance.randrange(1, 500)
        self._tracks = [self._new_track()]

    def take(self, count: int) -> list[Result]:
        """The next results, with consecutive seqs."""
        return [self._next() for _ in range(count)]

    def _new_track(self) -> Track:
        chance, (width, height) = self._random, self._scene.size
        self._next_track += 1
        return Track(
            identity=self._next_track,
            label=chance.choice(self._scene.labels),
            phase=chance.uniform(0, 6.3),
            x=chance.uniform(0.2, 0.6) * width,
            y=chance.uniform(0.2, 0.6) * height,
            width=chance.uniform(0.05, 0.2) * width,
            height=chance.uniform(0.05, 0.2) * height,
            shape=[1 + chance.gauss(0, 0.06) for _ in range(CONTOUR_POINTS)],
        )

    def _come_and_go(self) -> None:
        """One or two objects, mostly the same ones for seconds."""
        if self._random.random() < 0.01:
            if len(self._tracks) == 1:
                self._tracks.append(self._new_track())
            else:
                del self._tracks[self._random.randrange(2)]

    def _next(self) -> Result:
        chance, scene = self._random, self._scene
        self._frame += 1 if chance.random() > 0.01 else chance.randint(2, 4)
        self._come_and_go()
        captured = self._start_us + round(self._frame * 1e6 / scene.fps + chance.gauss(0, 250))
        wait = round(150 + chance.expovariate(1 / 120))
        infer = round(chance.gauss(6400, 180))
        latency = wait + infer + round(chance.gauss(420, 40))
        objects = [self._object(track, i + 1) for i, track in enumerate(self._tracks)]
        objects.sort(key=lambda found: -found.score)
        self._seq += 1
        calibrated = scene.spacing_mm > 0
        return Result(
            node=scene.node, stream=scene.stream, epoch=self._epoch, seq=self._seq - 1,
            boot=self._boot, at_us=captured + latency, frame=self._frame, captured_us=captured,
            utc_offset_us=self._offset_us, utc_error_us=1200 + self._frame // 1000,
            pts_us=captured - round(chance.gauss(9000, 60)) if scene.pts else None,
            wait_us=wait, infer_us=infer, latency_us=latency, size=scene.size,
            roi=(0, 0, *scene.size),
            spacing_mm=(scene.spacing_mm, scene.spacing_mm) if calibrated else None,
            spacing_from="dicom" if calibrated else "", input_hash=_hex(chance, 8),
            model=scene.model, version=scene.version, sha=self._sha, variant=scene.variant,
            backend=scene.backend, settings=self._settings,
            flags=() if calibrated else ("uncalibrated",), exam=self._exam,
            labels=self._labels(),
            objects=tuple(
                Object(id=i + 1, track=o.track, head=o.head, label=o.label, score=o.score,
                       box=o.box, mask=o.mask) for i, o in enumerate(objects)
            ),
            measures=tuple(m for i, o in enumerate(objects) for m in self._measures(i + 1, o)),
        )  # fmt: skip

    def _labels(self) -> tuple[Label, ...]:
        found = [
            Label(head="view", label=name, score=round(self._random.betavariate(2, 5), 4))
            for name in self._scene.classes
        ]
        return tuple(sorted(found, key=lambda label: -label.score))

    def _object(self, track: Track, identity: int) -> Object:
        chance, scene = self._random, self._scene
        time_s = self._frame / scene.fps
        x = track.x + 60 * math.sin(0.7 * time_s + track.phase)
        y = track.y + 25 * math.sin(1.1 * time_s + 2 * track.phase)
        grown = 1 + 0.05 * math.sin(5.0 * time_s + track.phase)
        corners = (x, y, x + track.width * grown, y + track.height * grown)
        track.score += 0.1 * (0.85 - track.score) + chance.gauss(0, 0.01)
        box = [round(corner + chance.gauss(0, 0.5), 1) + 0.0 for corner in corners]
        return Object(
            id=identity, track=track.identity, head=scene.head, label=track.label,
            score=round(min(max(track.score, 0.0), 1.0), 4), box=(box[0], box[1], box[2], box[3]),
            mask=self._mask(track, corners) if scene.contours else None,
        )  # fmt: skip

    def _mask(self, track: Track, corners: tuple[float, ...]) -> Mask:
        """A closed contour of 64 points in 1/8 px, noise 0.5 px."""
        x0, y0, x1, y1 = corners
        ring = []
        for index, radius in enumerate(track.shape):
            angle = 2 * math.pi * index / CONTOUR_POINTS
            for middle, half, part in (
                ((x0 + x1) / 2, (x1 - x0) / 2, math.cos(angle)),
                ((y0 + y1) / 2, (y1 - y0) / 2, math.sin(angle)),
            ):
                ring.append(round(8 * (middle + half * radius * part + self._random.gauss(0, 0.5))))
        area = round((x1 - x0) * (y1 - y0) * 0.785)
        return Mask(area_px=area, box=(int(x0), int(y0), int(x1) + 1, int(y1) + 1),
                    rings=(tuple(ring),))  # fmt: skip

    def _measures(self, identity: int, found: Object) -> list[Measure]:
        spacing = self._scene.spacing_mm
        if not spacing:
            return []
        x0, y0, x1, y1 = found.box
        x, y = round((x0 + x1) / 2, 1), round((y0 + y1) / 2, 1)
        ends = {"width": (x0, y, x1, y), "height": (x, y0, x, y1)}
        values = {"width": (x1 - x0) * spacing, "height": (y1 - y0) * spacing}
        return [
            Measure(name=name, value=float(f"{values[name]:.4g}"), unit="mm", object=identity,
                    points=ends[name], method="bounding-box") for name in ("width", "height")
        ]  # fmt: skip


def _hex(chance: random.Random, digits: int) -> str:
    return f"{chance.getrandbits(4 * digits):0{digits}x}"
