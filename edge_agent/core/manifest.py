"""The model package's manifest: what a model eats, what it says, and how to read its outputs.

A package (`.eam`) is a plain tar of `manifest.toml`, one or more ONNX files (uint8 in, scaling and
transposing in the graph, opset <= 17, IR <= 10) and `golden.npz`. Its id is the sha256 of the
canonical tar (names sorted, mtime and uid 0). Parsing is pure: bytes of TOML come from a store.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from edge_agent.core.errors import Rejected

MAX_SIDE_PX = 4096
MAX_HEADS = 16
MAX_LABELS = 4096
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
VERSION_PATTERN = r"^[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.-]+)?$"

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Version = Annotated[str, Meta(pattern=VERSION_PATTERN, max_length=64)]
Ratio = Annotated[float, Meta(ge=0.0, le=1.0)]

Task = Literal["detection", "segmentation", "classification", "keypoints"]
Decoder = Literal[
    "boxes",
    "yolo",
    "yolo_objectness",
    "yolox",
    "yolo_e2e",
    "nms",
    "detr",
    "mask_sigmoid",
    "mask_softmax",
    "mask_argmax",
    "probs",
    "heatmaps",
]
Column = Literal["batch", "x0", "y0", "x1", "y1", "score", "class"]
UNIT_DECODERS = ("boxes", "yolo", "yolo_objectness", "yolo_e2e", "nms")  # may say `box_unit`

Place = Literal["centre", "top_left"]
Resample = Literal["antialiased", "bilinear", "area"]


class LabelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """id: the class index in the output. key: stable name in records. name: shown, any script."""

    id: Annotated[int, Meta(ge=0, lt=MAX_LABELS)]
    key: str
    name: str = ""
    colour: Annotated[str, Meta(pattern="^#[0-9a-fA-F]{6}$")] = "#22cc66"


class HeadSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One task of the model: its outputs and the decoder that reads them (shapes: `decode`).

    classes: how many the outputs have, where the labels do not name all of them. columns: the order
    of an `nms` row; empty: batch x0 y0 x1 y1 class score; or of the four numbers of a box in
    `boxes`; empty: x0 y0 x1 y1. box_unit: px of the input, or relative: parts of its width and
    height, 0 to 1.
    """

    name: Name
    task: Task
    decoder: Decoder
    outputs: tuple[str, ...]
    classes: Annotated[int, Meta(ge=1, le=MAX_LABELS)] | None = None
    columns: tuple[Column, ...] = ()
    box_unit: Literal["px", "relative"] = "px"
    threshold: Ratio = 0.5
    nms_iou: Ratio = 0.5
    min_area_px: Annotated[int, Meta(ge=0)] = 0  # of the captured frame; smaller is noise
    labels: tuple[LabelSpec, ...] = ()


class StateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An output fed back as an input of the next frame; zero at start, swap and gap."""

    input: str
    output: str


class InputSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """size: [w, h] px. fit: how the region becomes the input. region: `auto` takes the ROI.

    pad, place: level of a letterbox's padding, and where in the input the region is put.
    resample: how pixels are made smaller or larger, see `backends.fill`.
    """

    name: str
    size: tuple[
        Annotated[int, Meta(ge=1, le=MAX_SIDE_PX)], Annotated[int, Meta(ge=1, le=MAX_SIDE_PX)]
    ]
    channels: Literal[1, 3] = 3
    order: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nhwc"
    fit: Literal["stretch", "letterbox", "crop"] = "letterbox"
    pad: Annotated[int, Meta(ge=0, le=255)] = 0
    place: Place = "centre"
    resample: Resample = "antialiased"
    region: Literal["auto", "frame"] = "auto"


class VariantSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the same model.

    tolerance: how far an output may be from its golden one (`golden.difference`). tolerances: by
    output, where one number does not fit all: boxes in px stand beside scores of 0 to 1.
    """

    name: Name
    file: str
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    backends: tuple[Literal["onnx", "tensorrt"], ...] = ("onnx", "tensorrt")
    golden: str = "golden.npz"
    tolerance: Annotated[float, Meta(gt=0)] = 1e-3
    tolerances: dict[str, Annotated[float, Meta(gt=0)]] = {}

    def tolerance_of(self, output: str) -> float:
        return self.tolerances.get(output, self.tolerance)


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    data_hash: str = ""
    commit: str = ""
    seed: int = 0
    metrics: dict[str, float] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: Literal[1]
    name: Name
    version: Version
    licence: str
    intended_use: str
    input: InputSpec
    heads: Annotated[tuple[HeadSpec, ...], Meta(min_length=1, max_length=MAX_HEADS)]
    variants: Annotated[tuple[VariantSpec, ...], Meta(min_length=1)]
    states: tuple[StateSpec, ...] = ()
    provenance: Provenance = Provenance()
    min_agent_version: str = "0.1.0"
    latency_budget_ms: Annotated[float, Meta(gt=0)] = 100.0
    agreement: dict[str, Any] = {}  # thresholds of the shadow comparison (rollouts)
    reference: dict[str, Any] = {}  # score and input statistics at training time


def parse_manifest(fields: dict[str, Any], *, origin: str = "manifest.toml") -> Manifest:
    """Checks the decoded TOML of a manifest, names what is wrong and where.

    Raises: Rejected.
    """
    try:
        manifest = msgspec.convert(fields, Manifest)
    except msgspec.ValidationError as error:
        raise Rejected(f"read manifest {origin}: {error}", hint=_hint(str(error))) from error
    _check(manifest, origin)
    return manifest


def _hint(error: str) -> str:
    if ".decoder" in error:
        return f"this agent reads {', '.join(get_args(Decoder))}: update it, or repack the model"
    if "unknown field" in error:
        return "update this agent if the package is made for a newer one, or repack the model"
    return "repack the model"


def _check(manifest: Manifest, origin: str) -> None:
    spec = manifest.input
    if (spec.order == "gray") != (spec.channels == 1):
        raise Rejected(
            f"read manifest {origin}: input.order {spec.order!r} with {spec.channels} channels",
            hint='use order = "gray" with channels = 1, "rgb" or "bgr" with 3',
        )
    for kind, names in (
        ("heads", [head.name for head in manifest.heads]),
        ("variants", [variant.name for variant in manifest.variants]),
    ):
        if len(set(names)) != len(names):
            raise Rejected(f"read manifest {origin}: {kind} {names} are not unique")
    for head in manifest.heads:
        fault = _misfit(head)
        if fault:
            raise Rejected(
                f"read manifest {origin}: head {head.name}: {fault}",
                hint="correct that key of [[heads]]: docs/models.md has the keys of each decoder",
            )
    for variant in manifest.variants:
        for file in (variant.file, variant.golden):
            if "/" in file or "\\" in file or file.startswith("."):
                raise Rejected(
                    f"read manifest {origin}: variant {variant.name} names file {file!r}, "
                    "expected a plain file name",
                    hint="files stand beside the manifest",
                )


def _misfit(head: HeadSpec) -> str:
    """What is wrong with the keys of a head beside each other; "" when nothing is."""
    least = max((label.id for label in head.labels), default=0) + 1
    if head.classes is not None and head.classes < least:
        return f"expected classes of at least {least} for its labels, got {head.classes}"
    if head.box_unit != "px" and head.decoder not in UNIT_DECODERS:
        return f"decoder {head.decoder} has a unit of its own: expected no box_unit"
    return _misfit_columns(head) if head.columns else ""


def _misfit_columns(head: HeadSpec) -> str:
    """As `_misfit`, of the order of columns."""
    if head.decoder == "boxes":
        if sorted(head.columns) == ["x0", "x1", "y0", "y1"]:
            return ""
        return f"expected columns x0, y0, x1 and y1, each once, got {list(head.columns)}"
    if head.decoder != "nms":
        return f"decoder {head.decoder} has an order of its own: expected no columns"
    wanted = {"x0", "y0", "x1", "y1", "score", "class"}
    if len(set(head.columns)) != len(head.columns) or set(head.columns) - {"batch"} != wanted:
        return (
            f"expected columns x0, y0, x1, y1, score and class, each once, and batch where there "
            f"is one, got {list(head.columns)}"
        )
    return ""


def variant_for(manifest: Manifest, backend: str) -> VariantSpec | None:
    """The variant that a runtime takes: the first that names it. None: there is none for it."""
    return next((one for one in manifest.variants if backend in one.backends), None)
