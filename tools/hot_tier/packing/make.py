"""The whole way from a foreign file to a package on disk; each step says what it did or why not."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from edge_agent.backends.onnx import runtime
from edge_agent.core.errors import Rejected
from edge_agent.core.frames import Frame
from edge_agent.core.manifest import Manifest
from edge_agent.core.package import MANIFEST
from edge_agent.stores.models import Models
from tools.hot_tier.packing import judging, sessions
from tools.hot_tier.packing.arranging import plan_outputs, put_behind
from tools.hot_tier.packing.frames import frames_of, how_many, spread
from tools.hot_tier.packing.halving import halve
from tools.hot_tier.packing.opset import drop_notes, limit_ir, lower
from tools.hot_tier.packing.outputs import keep_outputs, unsquash
from tools.hot_tier.packing.proving import GOLDEN, Gaps, Proof, Prover, alike, interpreter, look
from tools.hot_tier.packing.proving import rounded as rounded_golden
from tools.hot_tier.packing.reading import graphs, read_model
from tools.hot_tier.packing.report import Options, Packed, Precision, Variant
from tools.hot_tier.packing.review import review
from tools.hot_tier.packing.shaping import Picture, settle, written_input
from tools.hot_tier.packing.storing import check_golden, write_folder, write_tar
from tools.hot_tier.packing.wish import Asked, read_wish
from tools.hot_tier.packing.wrapping import wrap
from tools.training.package import write_manifest

HALF_ALIKE = 0.95  # of the findings of both
HALF_MARGIN = 4.0
GOLDEN_FILE = "golden.npz"
GOLDEN_BYTES = 64 << 20  # in memory; a large model gets fewer samples
TRAIN_TYPES = ("QuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


def pack(options: Options) -> Packed:
    """Raises: Rejected, with what is wrong and what to do; then nothing is written."""
    asked = read_wish(options.manifest)
    model = read_model(options.model, options.limit_bytes)
    did: list[str] = []
    limit_ir(model, did)
    drop_notes(model, did)
    picture = settle(model, asked.wish, did)
    keep_outputs(model, asked.wish, did, counts=True)
    plans = plan_outputs(model, asked.wish, picture)
    unsquash(model, asked.wish, plans, did)
    put_behind(model, plans, did)
    foreign = model.SerializeToString()
    keep_outputs(model, asked.wish, did)
    model = lower(model, did)
    wrap(model, picture, asked.wish.foreign, did)
    with sessions.scratch() as root:
        job = _Job(options, asked, picture, Path(root))
        job.did = did
        job.prove(model, foreign)
        job.write_golden()
        if options.half != "no":
            job.add_half(model)
        job.review()
        return job.finish()


class _Job:
    """One package in the making, in a folder of its own until it is proven."""

    def __init__(self, options: Options, asked: Asked, picture: Picture, root: Path) -> None:
        self._options = options
        self._asked = asked
        self._picture = picture
        self._root = root
        self._folder = root / asked.wish.name / asked.wish.version
        self._folder.mkdir(parents=True)
        self._variants: list[Variant] = []
        self._proof: Proof
        self._main: Precision = "fp32"
        self._samples = 0
        self._figures: dict[str, float] = {}
        self.did: list[str] = []
        self._warnings: list[str] = []

    def prove(self, model: Any, foreign: bytes) -> None:
        """The variant that runs everywhere. Raises: Rejected."""
        self._main = precision_of(model)
        file = f"{self._asked.wish.name}.onnx"
        size = self._store(file, model)
        first = Variant(
            name=self._main, file=file, precision=self._main, bytes=size,
            backends=("onnx", "tensorrt"), measured={}, tolerances={},
        )  # fmt: skip
        self._variants = [first]
        manifest = self._manifest()
        prover = Prover(
            foreign,
            self._folder,
            manifest,
            picture=self._picture,
            wish=self._asked.wish.foreign,
            variant=first.name,
        )
        chosen = spread(how_many(self._options.frames, self._options.most_frames), GOLDEN)
        self._each(lambda i, frame, roi: prover.see(frame, roi, golden=i in chosen))
        self._proof = prover.proof
        for meaning in prover.meanings:
            meaning.judge()
        gaps = self._proof.gaps
        self._variants = [
            msgspec.structs.replace(
                first, measured=gaps.largest, tolerances=gaps.tolerances(self._main)
            )
        ]
        self._warnings += judging.warnings_of(manifest, self._proof.shapes, self._proof.sight)

    def _each(self, see: Callable[[int, Frame, tuple[int, int, int, int]], None]) -> None:
        for index, frame in enumerate(frames_of(self._options.frames, self._options.most_frames)):
            see(index, frame, self._options.roi or (0, 0, *frame.size))

    def add_half(self, model: Any) -> None:
        """Raises: Rejected, where it is required."""
        if self._main != "fp32":
            self.did.append(f"no fp16 variant: the file is {self._main} already")
            return
        try:
            self._add_half(model)
        except Rejected as error:
            (self._folder / self._half_file).unlink(missing_ok=True)
            if self._options.half == "require":
                raise
            self._variants = self._variants[-1:]
            self._warnings.append(f"no fp16 variant: {error.what}")

    @property
    def _half_file(self) -> str:
        return f"{self._asked.wish.name}-fp16.onnx"

    def _add_half(self, model: Any) -> None:
        """Raises: Rejected."""
        half = Variant(
            name="fp16", file=self._half_file, precision="fp16",
            bytes=self._store(self._half_file, halve(model, rehearsal=True)),
            backends=("tensorrt",), measured={}, tolerances={},
        )  # fmt: skip
        self._variants = [half, *self._variants]
        manifest = self._manifest()
        single, other = (sessions.bound(self._folder, manifest, n) for n in (self._main, "fp16"))
        reader, gaps, shared = interpreter(manifest), Gaps(manifest.heads), []

        def see(index: int, frame: Frame, roi: tuple[int, int, int, int]) -> None:
            title = f"run the fp16 variant on frame {frame.number}"
            single.fill(frame, roi)
            other.fill(frame, roi)
            wanted, said = sessions.runs(single, title), sessions.runs(other, title)
            judging.refuse_numbers(said, title)
            gaps.book(wanted, said)
            mine, theirs = look(reader, said, frame, roi), self._proof.findings[index]
            if any((mine.objects, mine.labels, theirs.objects, theirs.labels)):
                shared.append(alike(mine, theirs))

        self._each(see)
        self._judge_half(gaps, shared)
        done = msgspec.structs.replace(
            half,
            bytes=self._store(self._half_file, halve(model)),
            measured=gaps.largest,
            tolerances=gaps.tolerances("fp16", HALF_MARGIN),
        )
        self._variants = [done, *self._variants[1:]]
        check_golden(self._folder, self._manifest(), done.name)

    def _judge_half(self, gaps: Gaps, shared: list[float]) -> None:
        """Raises: Rejected with the figure."""
        beyond = gaps.beyond(self._options.half_limit)
        if beyond is not None:
            raise Rejected(
                f"make the fp16 variant: output {beyond[0]} differs from fp32 by {beyond[1]:.3g}, "
                f"expected at most {self._options.half_limit:g} of its span {beyond[2]:.3g}",
                hint="go on with fp32, or train with half precision in mind",
            )
        mean = sum(shared) / len(shared) if shared else 1.0
        if mean < HALF_ALIKE:
            raise Rejected(
                f"make the fp16 variant: its findings agree with those of fp32 to {mean:.3f} on "
                f"{len(shared)} frames, expected at least {HALF_ALIKE:g}",
                hint="go on with fp32, or train with half precision in mind",
            )
        words = f"findings agree with fp32 to {mean:.3f} on {len(shared)} frames"
        self.did.append(
            f"fp16 variant made; {words if shared else 'no frame had a finding to compare'}"
        )

    def write_golden(self) -> None:
        kept = self._proof.golden
        total = sum(array.nbytes for array in kept.values())
        count = sum(key.startswith("input_") for key in kept)
        self._samples = max(1, min(count, count * GOLDEN_BYTES // max(1, total)))
        left = {
            key: array for key, array in kept.items() if int(key.rpartition("_")[2]) < self._samples
        }
        rounded = rounded_golden(left, self._variants[-1].tolerances)
        np.savez_compressed(self._folder / GOLDEN_FILE, **cast("Any", rounded))

    def review(self) -> None:
        """Draws and scores what was found. Raises: Rejected."""
        if self._options.labels is None and self._options.picture is None:
            return
        manifest = self._manifest()
        session = sessions.bound(self._folder, manifest, self._main)
        seen = review(self._options, session, manifest, self._proof.findings, self._each)
        self._figures = seen.figures
        self._warnings += seen.warnings

    def finish(self) -> Packed:
        """Checks the package as an edge will, then writes it where it was asked for.

        Raises: Rejected.
        """
        manifest = self._manifest(last=True)
        check_golden(self._folder, manifest, self._main)
        store = Models([self._root], shipped=False)
        sha = store.identity(self._folder)
        if self._options.out is not None:
            write_tar(self._options.out, store, self._folder)
        folder = self._options.folder
        if folder is not None:
            folder = folder / manifest.name / manifest.version
            write_folder(self._folder, folder)
        sight = self._proof.sight
        return Packed(
            name=manifest.name,
            version=manifest.version,
            sha256=sha,
            bytes=sum(len(chunk) for chunk in store.pack(self._folder)),
            out=str(self._options.out or ""),
            folder=str(folder or ""),
            runtime=f"ONNX Runtime {runtime().__version__} on {platform.machine()}",
            did=self.did,
            warnings=self._warnings,
            variants=self._variants,
            golden_samples=self._samples,
            frames=sight.frames,
            objects=sight.objects,
            found_by_label=dict(sorted(sight.labels.items())),
            reference=manifest.reference,
            figures=self._figures,
            picture=str(self._options.picture or ""),
        )

    def _store(self, file: str, model: Any) -> int:
        content = model.SerializeToString(deterministic=True)
        (self._folder / file).write_bytes(content)
        return len(content)

    def _manifest(self, *, last: bool = False) -> Manifest:
        """Writes the manifest as far as it is known, and reads it as an edge does."""
        wish = self._asked.wish
        written = {"schema": 1, **self._asked.fields}
        written["input"] = written_input(self._picture.spec)
        written["variants"] = [
            {
                "name": one.name,
                "file": one.file,
                "precision": one.precision,
                "backends": list(one.backends),
                "golden": GOLDEN_FILE,
                **_tolerances(one),
            }
            for one in self._variants
        ]
        if last:
            sequence = self._options.sequence or bool(wish.states)
            written["reference"] = self._proof.sight.reference(sequence=sequence)
        if last and self._figures:
            metrics = wish.provenance.metrics | self._figures
            written["provenance"] = {**written.get("provenance", {}), "metrics": metrics}
        write_manifest(self._folder / MANIFEST, written)
        return Models([self._root], shipped=False).manifest(self._folder)


def _tolerances(variant: Variant) -> dict[str, Any]:
    if not variant.tolerances:
        return {}
    return {"tolerance": max(variant.tolerances.values()), "tolerances": variant.tolerances}


def precision_of(model: Any) -> Precision:
    """What the file is: quantised, in half, or in single."""
    nodes = [node.op_type for graph in graphs(model.graph) for node in graph.node]
    if any(kind in TRAIN_TYPES for kind in nodes):
        return "int8"
    sizes = dict.fromkeys((1, 10), 0)  # TensorProto.FLOAT, FLOAT16
    for one in model.graph.initializer:
        if one.data_type in sizes:
            sizes[one.data_type] += int(np.prod(one.dims))
    return "fp16" if sizes[10] > sizes[1] else "fp32"
