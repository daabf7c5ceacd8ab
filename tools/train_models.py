"""Trains the demo models on synthetic phantoms and writes their packages into models/.

Needs torch, which the agent itself never does. In a venv of its own, with the locked set:

    python3 -m venv /tmp/train && /tmp/train/bin/pip install -r requirements.lock --require-hashes
    /tmp/train/bin/pip install --no-deps -e .
    /tmp/train/bin/pip install torch==2.13.0        # the CPU build is enough
    /tmp/train/bin/python tools/train_models.py     # about ten minutes on two cores

Seeded: the same torch build on the same kind of CPU gives the same files. Prints one JSON line per
model with what was measured on held-out phantoms and on the real clip; `tools/draw_models.py` then
draws the pictures. These are demo models: nothing here is medical.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools import list_models
from tools.training import measure, package, recipes, scopes, sectors

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT_SEED = 90_001  # phantoms that no training ever draws
LIVE_SEEDS = range(101, 109)


def told(step: str, since_s: float, **figures: Any) -> None:
    line = {"step": step, "seconds": round(time.monotonic() - since_s, 1), **figures}
    print(json.dumps(line), flush=True)


def chamber_figures(path: Path, first: measure.Model | None) -> dict[str, float]:
    """All that the manifest and the README say of an ultrasound model."""
    model = measure.Model(path)
    live, live_truth = measure.live_sectors(LIVE_SEEDS)
    figures = {
        "dice_wild": measure.mean_dice(model, *sectors.draw_many(HELD_OUT_SEED, 200)),
        "dice_live": measure.mean_dice(model, live, live_truth),
        **measure.clip_figures(model, first),
    }
    if first is not None:
        pairs = [(first.mask(one), model.mask(one)) for one in live]
        shared = [measure.object_agreement(*pair) for pair in pairs]
        figures["live_iou_with_1_0_0"] = float(np.mean([measure.iou(*pair) for pair in pairs]))
        figures["live_objects_with_1_0_0"] = float(np.mean(shared))
    return {key: round(value, 4) for key, value in figures.items()}


def polyp_figures(path: Path) -> dict[str, float]:
    model = measure.Model(path)
    images, boxes = scopes.draw_many(HELD_OUT_SEED, 20)
    truths = [one[~np.isnan(one[:, 0])] for one in boxes]
    live, live_truth = measure.live_scopes(LIVE_SEEDS)
    return {
        "ap50_wild": round(measure.average_precision(model, images, truths), 4),
        "ap50_live": round(measure.average_precision(model, live, live_truth), 4),
    }


def golden_sectors(version: str) -> NDArray[np.uint8]:
    """Pictures of the kind that the version was made for: so does 1.2.0 pass its own."""
    narrow = version == "1.2.0"
    samples = sectors.draw_many(HELD_OUT_SEED + 7, package.GOLDEN, narrow=narrow)
    return samples[0]


class Bench:
    """One run of the tool: where packages go, how many threads, since when."""

    def __init__(self, out: Path, threads: int) -> None:
        self.out, self.threads = out, threads
        self.since_s = time.monotonic()

    def train_chambers(self) -> None:
        from tools.training import fit, nets  # noqa: PLC0415 - torch is wanted here only

        fit.begin(recipes.SEED, self.threads)
        net = nets.ChamberNet()
        for recipe in recipes.CHAMBERS:
            if recipe.narrow:
                fit.begin(recipe.seed, self.threads)
                net = nets.ChamberNet()
            images, masks = sectors.draw_many(recipe.seed, recipe.pictures, narrow=recipe.narrow)
            told("drawn", self.since_s, version=recipe.version, pictures=len(images))
            fit.chambers(
                net, images, masks, steps=recipe.steps, rate=recipe.rate, seed=recipe.seed,
                jitter=not recipe.narrow,
            )  # fmt: skip
            folder = self._folder("us-chamber", recipe.version)
            shape = (1, sectors.SIZE[1], sectors.SIZE[0], 1)
            nets.export(net, shape, folder / recipes.CHAMBER_FILE, ("logits",))
            told("trained", self.since_s, version=recipe.version)

    def train_polyps(self) -> None:
        from tools.training import fit, nets  # noqa: PLC0415

        recipe = recipes.POLYPS
        fit.begin(recipe.seed, self.threads)
        images, boxes = scopes.draw_many(recipe.seed, recipe.pictures // scopes.FRAMES)
        told("drawn", self.since_s, version=recipe.version, pictures=len(images))
        net = nets.PolypNet(sectors.SIZE)
        fit.polyps(net, images, boxes, steps=recipe.steps, rate=recipe.rate, seed=recipe.seed)
        folder = self._folder("endo-polyp", recipe.version)
        shape = (1, sectors.SIZE[1], sectors.SIZE[0], 3)
        nets.export(net, shape, folder / recipes.POLYP_FILE, ("boxes", "scores", "classes"))
        told("trained", self.since_s, version=recipe.version)

    def pack_chambers(self) -> None:
        """Golden samples, measures and manifests of the ONNX files that lie there."""
        first: measure.Model | None = None
        for recipe in recipes.CHAMBERS:
            folder = self._folder("us-chamber", recipe.version)
            path = folder / recipes.CHAMBER_FILE
            figures = chamber_figures(path, first)
            model = measure.Model(path)
            first = first or model
            inputs = golden_sectors(recipe.version)
            package.write_golden(folder / "golden.npz", model, inputs)
            scores = [measure.mask_score(model, image) for image in inputs]
            fields = recipes.chamber_manifest(recipe, figures, package.data_hash(recipe.seed))
            fields["reference"] = package.reference(np.array(scores), inputs)
            package.write_manifest(folder / "manifest.toml", fields)
            told("packed", self.since_s, model="us-chamber", version=recipe.version, **figures)

    def pack_polyps(self) -> None:
        recipe = recipes.POLYPS
        folder = self._folder("endo-polyp", recipe.version)
        path = folder / recipes.POLYP_FILE
        figures, model = polyp_figures(path), measure.Model(path)
        inputs = scopes.draw_many(HELD_OUT_SEED + 7, 1)[0][: package.GOLDEN]
        package.write_golden(folder / "golden.npz", model, inputs)
        scores = [float(model.run(image[None])["scores"].max()) for image in inputs]
        fields = recipes.polyp_manifest(figures, package.data_hash(recipe.seed))
        fields["reference"] = package.reference(np.array(scores), inputs)
        package.write_manifest(folder / "manifest.toml", fields)
        told("packed", self.since_s, model="endo-polyp", version=recipe.version, **figures)

    def _folder(self, name: str, version: str) -> Path:
        folder = self.out / name / version
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "models")
    parser.add_argument("--only", choices=["us-chamber", "endo-polyp"], help="train only this one")
    parser.add_argument("--pack", action="store_true", help="train nothing: measure and repack")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    bench = Bench(asked.out, asked.threads)
    if asked.only != "endo-polyp":
        if not asked.pack:
            bench.train_chambers()
        bench.pack_chambers()
    if asked.only != "us-chamber":
        if not asked.pack:
            bench.train_polyps()
        bench.pack_polyps()
    recipes.write_readme(asked.out)
    if asked.out == ROOT / "models":
        list_models.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
