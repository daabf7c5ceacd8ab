"""What is asked of the packer, and what it answers. Needs no vendor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

MAX_FILE_BYTES = 1 << 30  # as the agent's backend has it
HALF_LIMIT = 0.02  # of an output's span

METRICS = ("precision", "recall", "iou", "dice", "accuracy")  # of labelled frames

Precision = Literal["fp32", "fp16", "int8"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """out, folder: at least one. roi: x, y, w, h px of the frames. half: the FP16 variant.

    labels: a folder of what is on the frames. least: by metric, what each label has to reach.
    picture: where the sheet of frames is written.
    """

    model: Path
    manifest: Path
    frames: Path
    out: Path | None = None
    folder: Path | None = None
    roi: tuple[int, int, int, int] | None = None
    sequence: bool = False
    half: Literal["try", "require", "no"] = "try"
    half_limit: float = HALF_LIMIT
    most_frames: int = 500
    limit_bytes: int = MAX_FILE_BYTES
    labels: Path | None = None
    least: dict[str, float] = {}
    picture: Path | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest to be proposed. frames: None: then numbers are not looked at."""

    model: Path
    out: Path
    frames: Path | None = None
    limit_bytes: int = MAX_FILE_BYTES


class Proposed(msgspec.Struct, frozen=True, kw_only=True):
    """What was written. decoder: "" where none is known. todo: keys that a person fills in."""

    schema: int = 1
    manifest: str
    decoder: str
    outputs: list[str]
    classes: int
    notes: list[str]
    todo: list[str]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """measured: largest difference by output; of fp16 to fp32, else to the foreign file."""

    name: str
    file: str
    precision: Precision
    bytes: int
    backends: tuple[str, ...]
    measured: dict[str, float]
    tolerances: dict[str, float]


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """The report; what `--json` prints."""

    schema: int = 1
    name: str
    version: str
    sha256: str
    bytes: int
    out: str
    folder: str
    runtime: str
    did: list[str]
    warnings: list[str]
    variants: list[Variant]
    golden_samples: int
    frames: int
    objects: int
    found_by_label: dict[str, int]
    reference: dict[str, Any]
    figures: dict[str, float] = {}
    picture: str = ""
