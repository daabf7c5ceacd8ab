"""The proof on frames: the package says what the foreign file says, on this runtime and its levels.

One pass over the frames runs everything side by side; golden samples are drawn from them, and
tolerances measured. A difference is told against the span of its output, the largest number that
it has on the frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.agreement import agreement
from edge_agent.core.errors import BadFrame, Rejected
from edge_agent.core.frames import Calibration, Frame
from edge_agent.core.golden import distance, row_sets
from edge_agent.core.manifest import HeadSpec, Manifest
from edge_agent.inference.interpret import Findings, Interpreter
from edge_agent.ports import Bound
from tools.hot_tier.packing import judging, sessions
from tools.hot_tier.packing.meaning import Meaning
from tools.hot_tier.packing.sessions import Arrays
from tools.hot_tier.packing.shaping import Picture
from tools.hot_tier.packing.wish import Foreign

GOLDEN = 8
# Of the span: what the package may differ from the file that it was made of. One level of a
# quantised net, taken up instead of down, is much, and no fault.
EQUAL = {"fp32": 1e-3, "fp16": 1e-2, "int8": 5e-2}
MARGIN = 8.0  # over what was measured here: other processors sum in another order
FLOORS = {"fp32": 2e-4, "int8": 2e-2, "fp16": 2e-3}  # of the span, where less was measured
CLASSES = 0.01  # share of whole numbers, which are classes, that may differ
LEAST = 1e-5
LEVELS = (("ORT_DISABLE_ALL", 1), ("ORT_ENABLE_ALL", 2))


class Gaps:
    """Largest difference and span of each output. heads: some read an output as a set of rows."""

    def __init__(self, heads: Iterable[HeadSpec]) -> None:
        self._sets = row_sets(heads)
        self.largest: dict[str, float] = {}
        self.span: dict[str, float] = {}
        self.whole: set[str] = set()

    def book(self, wanted: Arrays, got: Arrays) -> None:
        for name, array in wanted.items():
            gap = distance(self._sets.get(name), array, got[name])
            self.largest[name] = max(self.largest.get(name, 0.0), gap)
            if array.dtype.kind in "iub":
                self.whole.add(name)
                self.span[name] = 1.0
            elif array.size:
                size = float(np.abs(array.astype(np.float64)).max())
                self.span[name] = max(self.span.get(name, 0.0), size)

    def beyond(self, share: float) -> tuple[str, float, float] | None:
        """The worst output whose difference is more than that share of its span."""
        worst = max(self.largest, key=self.relative, default="")
        allowed = max(share, CLASSES) if worst in self.whole else share
        if not worst or self.relative(worst) <= allowed:
            return None
        return worst, self.largest[worst], self.span[worst]

    def relative(self, name: str) -> float:
        return self.largest[name] / max(self.span.get(name, 0.0), LEAST)

    def tolerances(self, precision: str, margin: float = MARGIN) -> dict[str, float]:
        """For the manifest: measured with a margin, and never tighter than a floor."""
        found = {}
        for name, largest in self.largest.items():
            floor = CLASSES if name in self.whole else FLOORS[precision] * self.span.get(name, 0.0)
            found[name] = float(f"{max(margin * largest, floor, LEAST):.2g}")
        return found


class Proof(msgspec.Struct, kw_only=True):
    """What one pass has shown."""

    gaps: Gaps
    sight: judging.Sight
    shapes: dict[str, tuple[int, ...]]
    ranges: dict[str, tuple[float, float]]  # lowest and highest number of each output
    golden: Arrays
    findings: list[Findings]

    def widen(self, said: Arrays) -> None:
        for name, array in said.items():
            low, high = self.ranges.get(name, (np.inf, -np.inf))
            if array.size:
                low, high = min(low, float(array.min())), max(high, float(array.max()))
            self.ranges[name] = low, high


class Prover:
    """Holds the foreign file and the package's first variant against each other."""

    def __init__(
        self,
        foreign: bytes,
        folder: Path,
        manifest: Manifest,
        *,
        picture: Picture,
        wish: Foreign,
        variant: str,
    ) -> None:
        """Raises: Rejected."""
        self._manifest, self._picture, self._wish = manifest, picture, wish
        self._hand = sessions.Plain(foreign, manifest.states)
        self._bound: Bound = sessions.bound(folder, manifest, variant)
        spec = next(one for one in manifest.variants if one.name == variant)
        self._equal = EQUAL[spec.precision]
        stored = (folder / spec.file).read_bytes()
        self._levels = [
            sessions.Plain(stored, manifest.states, level=level, threads=threads)
            for level, threads in LEVELS
        ]
        self._interpreter = interpreter(manifest)
        self.meanings = [Meaning(head, manifest.input.size) for head in manifest.heads]
        self._kept = {name for head in manifest.heads for name in head.outputs}
        self._kept |= {state.output for state in manifest.states}
        self.proof = Proof(
            gaps=Gaps(manifest.heads),
            sight=judging.Sight(),
            shapes={},
            ranges={},
            golden={},
            findings=[],
        )

    def see(self, frame: Frame, roi: tuple[int, int, int, int], *, golden: bool) -> None:
        """Frames come in order; golden: also a sample, from zeroed states.

        Raises: Rejected.
        """
        title = f"run frame {frame.number}"
        try:
            self._bound.fill(frame, roi)
        except BadFrame as bad:
            raise Rejected(f"{title}: {bad.what}", hint=bad.hint) from bad
        pixels = self._bound.input_pixels.copy()
        said = sessions.runs(self._bound, title)
        judging.refuse_numbers(said, title)
        hand = self._hand.run(
            self._picture.name, sessions.by_hand(pixels, self._picture, self._wish)
        )
        self.proof.gaps.book({name: hand[name] for name in self._kept}, said)
        self._refuse_unlike(title)
        for meaning in self.meanings:
            meaning.see(said, title)
            meaning.count(hand, said, self._kept, title)
        findings = look(self._interpreter, said, frame, roi)
        self.proof.findings.append(findings)
        self.proof.sight.add(findings, frame.size, pixels)
        self.proof.shapes = {name: array.shape for name, array in said.items()}
        for name, array in said.items():
            low, high = self.proof.ranges.get(name, (np.inf, -np.inf))
            numbers = array if array.size else np.zeros(1)
            self.proof.ranges[name] = (
                min(low, float(numbers.min())),
                max(high, float(numbers.max())),
            )
        if golden:
            self._sample(pixels, said)

    def _refuse_unlike(self, title: str) -> None:
        """Raises: Rejected."""
        beyond = self.proof.gaps.beyond(self._equal)
        if beyond is not None:
            raise Rejected(
                f"{title}: output {beyond[0]}: the package differs from the file by "
                f"{beyond[1]:.3g}, expected at most {self._equal:g} of its span {beyond[2]:.3g}",
                hint="export the model again with opset 17; report this with the model",
            )

    def _sample(self, pixels: NDArray[np.uint8], said: Arrays) -> None:
        """Adds a golden sample, and measures how far levels of optimising lie apart on it."""
        index = sum(name.startswith("input_") for name in self.proof.golden)
        truth = said
        for level in self._levels:
            level.reset()
            other = level.run(self._manifest.input.name, pixels)
            if self._manifest.states and level is self._levels[0]:
                truth = other
            self.proof.gaps.book(truth, other)
        self.proof.golden[f"input_{index}"] = pixels
        self.proof.golden |= {f"output_{name}_{index}": array for name, array in truth.items()}


def interpreter(manifest: Manifest) -> Interpreter:
    return Interpreter(manifest, threshold=None, min_area_px=None, tracking=False, contours=False)


def look(
    reader: Interpreter, said: Arrays, frame: Frame, roi: tuple[int, int, int, int]
) -> Findings:
    """What the decoders make of it.

    Raises: Rejected.
    """
    try:
        return reader.interpret(
            said,
            frame_size=frame.size,
            roi=roi,
            calibration=Calibration(),
            captured_us=frame.captured_us,
        )
    except BadFrame as bad:
        raise Rejected(f"decode frame {frame.number}: {bad.what}", hint=bad.hint) from bad


def alike(one: Findings, other: Findings) -> float:
    """0 to 1: of objects as a shadow is compared, of labels whether the best is the same."""
    objects = agreement(one.objects, other.objects)
    best = [findings.labels[0].label if findings.labels else "" for findings in (one, other)]
    return min(objects, float(best[0] == best[1]))


def rounded(golden: dict[str, NDArray[Any]], tolerances: dict[str, float]) -> Arrays:
    """Numbers to a quarter of their tolerance at most, by halves: large ones pack far better."""
    kept = dict(golden)
    for key, array in golden.items():
        name = key.removeprefix("output_").rpartition("_")[0]
        if array.dtype.kind == "f" and key.startswith("output_"):
            exact = array.astype(np.float32)
            step = 2.0 ** np.floor(np.log2(tolerances[name] / 4))
            kept[key] = (
                (np.round(exact / step) * step).astype(np.float32) if array.size > 4096 else exact
            )
    return kept
