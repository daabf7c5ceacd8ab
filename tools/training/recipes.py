"""What each version is: how it is trained, what its manifest says, and the table of measures."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tools.training.package import TOLERANCE
from tools.training.sectors import SIZE

_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

SEED = 20_261
CHAMBER_FILE = "us-chamber.onnx"
POLYP_FILE = "endo-polyp.onnx"
INTENDED_USE = "Demonstration on synthetic phantoms. Not a medical device."


class Recipe(NamedTuple):
    """pictures: how many are drawn. narrow: of one machine and preset only, from nothing."""

    version: str
    seed: int
    pictures: int
    steps: int
    rate: float
    narrow: bool = False


# 1.1.0 goes on from the weights of 1.0.0. 1.2.0 is the cautionary one: it saw a single loud preset
# of one machine, nothing else. It passes its own golden samples.
CHAMBERS = (
    Recipe("1.0.0", 11, 1400, 450, 3e-3),
    Recipe("1.1.0", 12, 4500, 1500, 2.5e-3),
    Recipe("1.2.0", 13, 240, 220, 3e-3, narrow=True),
)
POLYPS = Recipe("1.0.0", 21, 3200, 700, 3e-3)


def _manifest(name: str, version: str, file: str, *, channels: int) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": name,
        "version": version,
        "licence": "Apache-2.0",
        "intended_use": INTENDED_USE,
        "min_agent_version": "0.1.0",
        "latency_budget_ms": 15.0,
        "input": {
            "name": "image", "size": list(SIZE), "channels": channels,
            "order": "gray" if channels == 1 else "rgb", "layout": "nhwc", "fit": "letterbox",
            "pad": 0, "region": "auto",
        },
        "variants": [
            {
                "name": "fp32", "file": file, "precision": "fp32",
                "backends": ["onnx", "tensorrt"], "golden": "golden.npz", "tolerance": TOLERANCE,
            }
        ],
    }  # fmt: skip


def chamber_manifest(recipe: Recipe, figures: dict[str, float], digest: str) -> dict[str, Any]:
    """The fields of a `us-chamber` manifest, but for its reference."""
    fields = _manifest("us-chamber", recipe.version, CHAMBER_FILE, channels=1)
    fields["heads"] = [
        {
            "name": "chamber", "task": "segmentation", "decoder": "mask_sigmoid",
            "outputs": ["logits"], "threshold": 0.5, "min_area_px": 150,
            "labels": [{"id": 0, "key": "chamber", "name": "Chamber", "colour": "#22cc66"}],
        }
    ]  # fmt: skip
    fields["provenance"] = {
        "data_hash": digest, "commit": "", "seed": recipe.seed, "metrics": figures,
    }  # fmt: skip
    # What the mean agreement of objects with the live model must reach before this takes over.
    fields["agreement"] = {"min_mean": 0.5, "frames": 120}
    return fields


def polyp_manifest(figures: dict[str, float], digest: str) -> dict[str, Any]:
    """The fields of the `endo-polyp` manifest, but for its reference."""
    fields = _manifest("endo-polyp", POLYPS.version, POLYP_FILE, channels=3)
    fields["heads"] = [
        {
            "name": "polyp", "task": "detection", "decoder": "boxes",
            "outputs": ["boxes", "scores", "classes"], "threshold": 0.5, "nms_iou": 0.5,
            "labels": [{"id": 0, "key": "polyp", "name": "Polyp", "colour": "#ffb000"}],
        }
    ]  # fmt: skip
    fields["provenance"] = {
        "data_hash": digest, "commit": "", "seed": POLYPS.seed, "metrics": figures,
    }  # fmt: skip
    fields["agreement"] = {"min_mean": 0.5, "frames": 240}
    return fields


README = """# Demo models

These are demo models. They were trained on synthetic phantoms only, in minutes, on a CPU, by the
committed `tools/train_models.py`. They show that the agent works. **They are not medical: nobody
may use what they say about a patient.** On the real clip they find dark pools inside a scan sector
because the phantoms look like that; nobody has marked the truth there, so no accuracy is claimed.

Each folder `<name>/<version>/` holds a `manifest.toml`, one ONNX file (opset 17, uint8 in, under
1 MB) and `golden.npz`: {golden} inputs with the outputs that every runtime must give.
[docs/models.md](../docs/models.md) says what each key means, what the edge checks, and how a model
of your own becomes such a folder.

{tables}How it was measured, with ONNX Runtime on one thread, probability 0.5:

- *Dice, wild*: mean Dice on 200 random phantoms whose seed no training drew: other gains, sectors,
  depths, overlays, noise, JPEG. Pictures without a chamber count 1 when nothing is found.
- *Dice, live*: the same on the frames of eight live phantoms (seeds 101 to 108), cropped to their
  region as the agent does it.
- *AP*: average precision at IoU 0.5, all points, on 200 random phantoms (wild) and on the frames of
  eight live ones (live).
- *Real clip*: the 30 frames of the cardiac clip that ships inside pydicom, whole frames. *Found*:
  share of frames with a mask of at least 0.4 % of the picture. *Steady*: mean IoU of the masks of
  neighbouring frames; the heart moves, so 1 would be wrong. *With 1.0.0*: mean IoU with the masks
  of 1.0.0. *Objects*: Dice of the areas of both that match at box IoU 0.5, as a shadow is compared.
  Both also on the live phantoms.

1.1.0 goes on from 1.0.0 with more phantoms and more steps: better wherever there is a truth to
compare with; on the real clip it follows more of the right heart and is no steadier. 1.2.0 is bad
on purpose: it was trained on one loud preset of one machine only. It passes its own golden samples,
and fails beside 1.0.0 on a live stream.
"""
CHAMBER_COLUMNS = {
    "dice_wild": "Dice, wild",
    "dice_live": "Dice, live",
    "clip_found_share": "Clip: found",
    "clip_steadiness_iou": "Clip: steady",
    "clip_area_share": "Clip: area",
    "clip_iou_with_1_0_0": "Clip: with 1.0.0",
    "live_iou_with_1_0_0": "Live: with 1.0.0",
    "clip_objects_with_1_0_0": "Clip: objects",
    "live_objects_with_1_0_0": "Live: objects",
}
POLYP_COLUMNS = {"ap50_wild": "AP, wild", "ap50_live": "AP, live"}


def _table(out: Path, name: str, columns: dict[str, str]) -> str:
    rows = [f"| {name} | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    for path in sorted((out / name).glob("*/manifest.toml")):
        fields = _toml.loads(path.read_text(encoding="utf-8"))
        metrics = fields["provenance"]["metrics"]
        cells = [f"{metrics[key]:.3f}" if key in metrics else "" for key in columns]
        rows.append(f"| {fields['version']} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n\n"


def write_readme(out: Path) -> None:
    """models/README.md with the figures that stand in the manifests."""
    tables = _table(out, "us-chamber", CHAMBER_COLUMNS) + _table(out, "endo-polyp", POLYP_COLUMNS)
    (out / "README.md").write_text(README.format(tables=tables, golden=8), encoding="utf-8")
