"""Writes a model package: manifest.toml, the ONNX file, golden samples. No torch here."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.manifest import Manifest, parse_manifest
from tools.training.measure import Model

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = 8
TOLERANCE = 0.02  # of logits that span about -12..12, and of px; runtimes sum in other orders
GENERATORS = (
    "edge_agent/core/phantom/texture.py",
    "edge_agent/core/phantom/ultrasound.py",
    "edge_agent/core/phantom/hearts.py",
    "edge_agent/core/phantom/endoscope.py",
    "tools/training/sectors.py",
    "tools/training/scopes.py",
)


def data_hash(seed: int) -> str:
    """hex16 of the code that draws the training pictures and of the seed."""
    digest = hashlib.sha256(str(seed).encode())
    for name in GENERATORS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()[:16]


def _rounded(values: NDArray[Any]) -> NDArray[np.float32]:
    """Pictures to 1/64, below half the tolerance: they pack four times as small."""
    exact = values.astype(np.float32)
    return (np.round(exact * 64.0) / 64.0).astype(np.float32) if exact.size > 4096 else exact


def write_golden(path: Path, model: Model, inputs: NDArray[np.uint8]) -> None:
    """`input_N` as given to the model, with its batch axis, and `output_NAME_N`."""
    arrays: dict[str, NDArray[Any]] = {}
    for index, image in enumerate(inputs[:GOLDEN]):
        batch = image.reshape(1, *image.shape[:2], -1)
        arrays[f"input_{index}"] = batch
        for name, values in model.run(batch).items():
            arrays[f"output_{name}_{index}"] = _rounded(values)
    np.savez_compressed(path, **cast("Any", arrays))


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        short = f"{value:.4f}"
        return short if float(short) == value else repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def to_toml(fields: dict[str, Any]) -> str:
    """Plain keys first, then tables and arrays of tables, each one level deep."""
    lines: list[str] = []
    tables: list[str] = []
    for key, value in fields.items():
        if isinstance(value, dict):
            tables.append(
                f"\n[{key}]\n" + "".join(f"{_key(k)} = {_toml(v)}\n" for k, v in value.items())
            )
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables.extend(
                f"\n[[{key}]]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in one.items())
                for one in value
            )
        else:
            lines.append(f"{key} = {_toml(value)}\n")
    return "".join(lines) + "".join(tables)


def write_manifest(path: Path, fields: dict[str, Any]) -> Manifest:
    """Raises: Rejected when the fields are no manifest."""
    manifest = parse_manifest(fields, origin=str(path.name))
    path.write_text(to_toml(fields), encoding="utf-8")
    return manifest


def reference(scores: NDArray[Any], inputs: NDArray[np.uint8]) -> dict[str, Any]:
    """Score histogram (ten equal bins, shares) and input statistics at training time."""
    counts = np.histogram(scores, bins=10, range=(0.0, 1.0))[0]
    shares = counts / max(int(counts.sum()), 1)
    return {
        "scores": [round(float(share), 4) for share in shares],
        "input_mean": round(float(inputs.mean()), 2),
        "input_sd": round(float(inputs.std()), 2),
    }
