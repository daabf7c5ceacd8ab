"""Exports that fit more than one decoder: read as what they are, or refused with the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import helper

from edge_agent.backends.onnx import OnnxBackend
from edge_agent.core.frames import Calibration, Frame
from edge_agent.inference.interpret import Findings
from edge_agent.stores.models import Models
from tests.packing import exports
from tests.packing.desk import Desk
from tests.packing.exports import ONE, SIDE, TWO, Found, manifest, model
from tools.hot_tier.packing.proving import interpreter


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exports.flat_frame(tmp_path_factory.mktemp("flat") / "frames")


@pytest.fixture
def bench(tmp_path: Path, flat: Path) -> Desk:
    return Desk(tmp_path, flat)


def seen(bench: Desk, made: Any, asked: str) -> Findings:
    """Packed, read back as an edge does, and run on a picture."""
    bench.pack(made, asked, folder=bench.folder / "made", half="no")
    store = Models([bench.folder / "made"], shipped=False)
    folder = store.resolve("export", "")
    said = store.manifest(folder)
    bound = OnnxBackend().load(folder, said).bind()
    picture = np.full((SIDE, SIDE, 3), 90, np.uint8)
    bound.fill(Frame(number=1, captured_us=0, pixels=picture), (0, 0, SIDE, SIDE))
    return interpreter(said).interpret(
        bound.run(),
        frame_size=(SIDE, SIDE),
        roi=(0, 0, SIDE, SIDE),
        calibration=Calibration(),
        captured_us=0,
    )


def check(findings: Findings, found: tuple[Found, ...]) -> None:
    assert [one.label for one in findings.objects] == [f"k{one.kind}" for one in found]
    for one, wanted in zip(findings.objects, found, strict=True):
        assert one.box == pytest.approx(wanted.box, abs=0.2)
        assert one.score == pytest.approx(wanted.score, abs=2e-3)


def turned(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array.swapaxes(-1, -2))


def half(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float16)


def open_rows(made: Any) -> Any:
    """As an exported suppression: the number of rows is for the run to say."""
    made.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "found"
    return made


SCALES = np.array([SIDE] * 4 + [1] * 2, np.float32)
OF_80 = manifest("yolo", more="classes = 80\n")
DECODED = exports.objectness(TWO, 2, exports.CELLS)
UNIT = 'box_unit = "relative"\n'
E2E_UNIT = manifest("yolo_e2e", more=UNIT)
PADDLE = manifest("nms", more='columns = ["class", "score", "x0", "y0", "x1", "y1"]\n')

READ: dict[str, tuple[Any, str, tuple[Found, ...]]] = {
    "v8": (model(exports.yolo(TWO, 2)), manifest("yolo"), TWO),
    "v8 in half": (model(half(exports.yolo(TWO, 2))), manifest("yolo"), TWO),
    "v8 turned": (model(turned(exports.yolo(TWO, 2))), manifest("yolo"), TWO),
    "v8 of one class": (model(exports.yolo(ONE, 1)), manifest("yolo", 1), ONE),
    "v8 of 80": (model(exports.yolo(TWO, 80)), manifest("yolo", 80), TWO),
    "v8 of 80, two wanted": (model(exports.yolo(TWO, 80)), OF_80, TWO),
    "v8 with a trailing 1": (model(exports.yolo(TWO, 2)[..., None]), manifest("yolo"), TWO),
    "v8 without a batch": (model(exports.yolo(TWO, 2)[0]), manifest("yolo"), TWO),
    "v5": (model(exports.objectness(TWO, 2)), manifest("yolo_objectness"), TWO),
    "v5 of one class": (model(exports.objectness(ONE, 1)), manifest("yolo_objectness", 1), ONE),
    "v5 turned": (model(turned(exports.objectness(TWO, 2))), manifest("yolo_objectness"), TWO),
    "yolox": (model(exports.yolox(TWO, 2)), manifest("yolox"), TWO),
    "yolox of one class": (model(exports.yolox(ONE, 1)), manifest("yolox", 1), ONE),
    "yolox turned": (model(turned(exports.yolox(TWO, 80))), manifest("yolox", 80), TWO),
    "yolox decoded": (model(DECODED), manifest("yolo_objectness"), TWO),
    "v10": (model(exports.end_to_end(TWO)), manifest("yolo_e2e"), TWO),
    "v10 in half": (model(half(exports.end_to_end(TWO))), manifest("yolo_e2e"), TWO),
    "v10 turned": (model(turned(exports.end_to_end(TWO))), manifest("yolo_e2e"), TWO),
    "v10 filled with -1": (model(exports.end_to_end(TWO, filling=-1)), manifest("yolo_e2e"), TWO),
    "v10 relative": (model(exports.end_to_end(TWO) / SCALES), E2E_UNIT, TWO),
    "v7 suppressed": (open_rows(model(exports.suppressed(TWO))), manifest("nms"), TWO),
    "paddle": (open_rows(model(exports.suppressed(TWO, "paddle"))), PADDLE, TWO),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_an_export_is_read_as_what_it_is(name: str, bench: Desk) -> None:
    made, asked, found = READ[name]
    check(seen(bench, made, asked), found)


def test_boxes_without_a_batch_and_scores_as_a_column_are_put_into_their_axes(bench: Desk) -> None:
    rows = exports.end_to_end(TWO, rows=40)[0]
    made = model(rows[:, :4].copy(), rows[None, :, 4:5].copy(), rows[:, 5].copy())
    check(seen(bench, made, manifest("boxes", outputs=3)), TWO)


def test_rt_detr_in_one_tensor_is_relative(bench: Desk) -> None:
    array = exports.yolo(TWO, 2, rows=300)
    array[:, :4] /= SIDE
    check(seen(bench, model(turned(array)), manifest("yolo", more=UNIT + "nms_iou = 1.0\n")), TWO)


# ── refused ───────────────────────────────────────────────────────────────────────────────────

# NAME: the export, the decoder that is wrong for it, what is said, and the way out.
REFUSED: dict[str, tuple[Any, str, str, str]] = {
    "v10 as yolo, one label": (
        exports.end_to_end(ONE), manifest("yolo", 1), "reads 2 classes", '"yolo_e2e"'),
    "v10 as yolo, two labels": (
        exports.end_to_end(TWO), manifest("yolo"), "only whole numbers in the last", '"yolo_e2e"'),
    "v10 as yolo, two labels, one seen": (
        exports.end_to_end(ONE), manifest("yolo"), "only whole numbers in the last", '"yolo_e2e"'),
    "v10 of as many rows as cells": (
        exports.end_to_end(ONE, rows=100), manifest("yolo"), "only whole numbers", '"yolo_e2e"'),
    "v10 turned, as yolo, two labels": (
        turned(exports.end_to_end(TWO)), manifest("yolo"), "only whole", '"yolo_e2e"'),
    "v10 as objectness": (
        exports.end_to_end(ONE), manifest("yolo_objectness", 1), "only whole", '"yolo_e2e"'),
    "v10 with more classes than labels": (
        exports.end_to_end((*TWO, Found((9, 9, 50, 50), 0.6, 4))), manifest("yolo_e2e"),
        "classes of 0 to 1, got 4", "write classes = 5"),
    "v10 of 0 to 1": (
        exports.end_to_end(TWO) / SCALES, manifest("yolo_e2e"), "boxes in px", UNIT.strip()),
    "v10 in px, said to be relative": (
        exports.end_to_end(TWO), manifest("yolo_e2e", more=UNIT), "as of px", "leave box_unit"),
    "class before score, as v10": (
        exports.suppressed(TWO, "torch")[None], manifest("yolo_e2e"), "expects",
        'columns = ["x0", "y0", "x1", "y1", "class", "score"]'),
    "v8 as v10": (
        turned(exports.yolo(TWO, 2)), manifest("yolo_e2e"), "whole classes", "nms=True"),
    "centre and size as v10": (
        exports.end_to_end(tuple(one._replace(box=exports.centred(one.box)) for one in TWO)),
        manifest("yolo_e2e"), "corners x0 y0 x1 y1, got", "into corners"),
    "v5 as yolo": (
        exports.objectness(ONE, 1), manifest("yolo", 1), "reads 2 classes", '"yolo_objectness"'),
    "v5 as yolo, a label too many": (
        exports.objectness(ONE, 1), manifest("yolo"), "three per cell", '"yolo_objectness"'),
    "v5 of 80 as yolo": (
        exports.objectness(TWO, 80), manifest("yolo", 80), "reads 81", '"yolo_objectness"'),
    "v5 as yolo, no labels": (
        exports.objectness(TWO, 2), manifest("yolo", 0), "three per cell", '"yolo_objectness"'),
    "v5 as yolox": (
        exports.objectness(TWO, 2), manifest("yolox"), "expected N = 2100", '"yolo_objectness"'),
    "v8 as v5": (
        exports.yolo(TWO, 80), manifest("yolo_objectness", 80), "reads 2095 classes", '"yolo"'),
    "v8 of logits": (
        exports.yolo(TWO, 2) * 9, manifest("yolo"), "scores of 0 to 1", "sigmoid"),
    "v8 of corners": (
        exports.yolo(TWO, 2) + np.array([0, 0, SIDE, SIDE, 0, 0], np.float32)[None, :, None],
        manifest("yolo"), "as of corners", '"boxes"'),
    "v8 of corners, two of them": (
        exports.end_to_end(TWO, rows=exports.CELLS)[..., :5].copy(), manifest("yolo", 1),
        "got 2 boxes whose third and fourth number", '"boxes"'),
    "yolox as yolo": (
        exports.yolox(ONE, 1), manifest("yolo", 1), "reads 2 classes", '"yolox"'),
    "yolox as yolo, a label too many": (
        exports.yolox(ONE, 1), manifest("yolo"), "sizes of boxes in px", '"yolox"'),
    "yolox as objectness": (
        exports.yolox(TWO, 2), manifest("yolo_objectness"), "sizes of boxes in px", '"yolox"'),
    "yolox of large boxes alone, as objectness": (
        np.abs(exports.yolox(TWO, 2)), manifest("yolo_objectness"), "offsets in cells", '"yolox"'),
    "yolox decoded, as yolox": (
        DECODED, manifest("yolox"), "logarithms",
        '"yolo_objectness"'),
    "v7 suppressed, as yolo": (
        exports.suppressed(TWO * 9)[None], manifest("yolo"), "reads", '"nms"'),
    "ssd as v7": (
        exports.suppressed(TWO, "ssd"), manifest("nms"), "scores of 0 to 1",
        'columns = ["batch", "class", "score", "x0", "y0", "x1", "y1"]'),
    "paddle as v7": (
        exports.suppressed(TWO, "paddle"), manifest("nms"), "with K = 7", "columns"),
    "rt-detr": (
        turned(exports.yolo(TWO, 2, rows=300)) / SCALES,
        manifest("yolo"), "as of parts of the picture", UNIT.strip()),
    "rt-detr, larger than the picture": (
        turned(exports.yolo((Found((-300, -40, 460, 360), 0.8, 0),), 2, rows=300)) / SCALES,
        manifest("yolo"), "as of parts of the picture", UNIT.strip()),
    "a yolo that segments": (
        exports.yolo(TWO, 34), manifest("yolo"), "reads 34 classes", "export the detection model"),
    "v8 as v10, dense": (
        turned(exports.yolo(ONE, 2)), manifest("yolo_e2e"), "whole classes", 'decoder = "yolo"'),
    "v8 that finds nothing, as v10": (
        turned(exports.yolo((), 2)), manifest("yolo_e2e"), "whole classes in every row",
        'decoder = "yolo"'),
    "yolox as v10": (
        exports.yolox(ONE, 1), manifest("yolo_e2e", 1), "decoder yolo_e2e expects", '"yolox"'),
    "a picture of a batch": (
        exports.suppressed(TWO) + np.array([1] + [0] * 6, np.float32), manifest("nms"),
        "rows of picture 0, got 1", "columns"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_another_export_is_refused_with_the_way_out(name: str, bench: Desk) -> None:
    array, asked, why, way = REFUSED[name]
    said = bench.refuse(model(array), asked, half="no")
    assert why in said.what
    assert way in said.hint


def test_scores_and_classes_in_the_wrong_order_are_refused(bench: Desk) -> None:
    rows = exports.end_to_end(TWO, rows=40)
    made = model(rows[..., :4].copy(), rows[..., 5].copy(), rows[..., 4].copy())
    said = bench.refuse(made, manifest("boxes", outputs=3))
    assert "decoder boxes expects whole classes, got 0.7" in said.what
    assert "boxes [1, N, 4] x0 y0 x1 y1, scores [1, N], classes [1, N]" in said.hint


def test_two_outputs_for_one_are_refused_with_how_to_join_them(bench: Desk) -> None:
    rows = turned(exports.yolo(TWO, 2))
    made = model(rows[..., :4].copy(), rows[..., 4:].copy())
    said = bench.refuse(made, manifest("yolo", outputs=2))
    assert "expected 1 outputs" in said.what
    assert "Concat" in said.hint


def test_probabilities_for_detr_are_refused(bench: Desk) -> None:
    rng = np.random.default_rng(3)
    scores, boxes = rng.uniform(0, 1, (2, 1, 30, 4)).astype(np.float32)
    made = model(scores[..., :2].copy(), boxes)
    said = bench.refuse(made, manifest("detr", outputs=2))
    assert "expects logits, got 0" in said.what


# ── masks, maps and classes ───────────────────────────────────────────────────────────────────


def strip(channels: int) -> NDArray[np.float32]:
    """Logits [1, 80, 80, C]: in the last channel a strip at the top, 12 of 80 rows."""
    array = np.full((1, 80, 80, channels), -8, np.float32)
    array[0, :12, :, -1] = 8
    return array


@pytest.mark.parametrize(
    ("decoder", "channels", "kind"),
    [
        ("mask_sigmoid", 1, np.float32),
        ("mask_sigmoid", 3, np.float16),
        ("mask_softmax", 2, np.float32),
    ],
)
def test_masks_with_channels_last_are_turned(
    decoder: str, channels: int, kind: Any, bench: Desk
) -> None:
    findings = seen(bench, model(strip(channels).astype(kind)), manifest(decoder, channels))
    top = next(one for one in findings.objects if one.label == f"k{channels - 1}")
    assert top.mask
    assert (top.mask.area_px, top.mask.box) == (48 * SIDE, (0, 0, SIDE, 48))


def test_a_last_softmax_over_the_last_axis_leaves_the_graph_too(bench: Desk) -> None:
    made = model(strip(2), names=("logits",))
    made.graph.node.append(helper.make_node("Softmax", ["logits"], ["y"], axis=-1))
    made.graph.output[0].name = "y"
    findings = seen(bench, made, manifest("mask_softmax", 2))
    areas = {one.label: one.mask.area_px for one in findings.objects if one.mask}
    assert areas == {"k0": (SIDE - 48) * SIDE, "k1": 48 * SIDE}
    assert max(one.score for one in findings.objects) > 0.999, "else it was squashed twice"


@pytest.mark.parametrize("shape", [(80, 80), (1, 80, 80), (1, 80, 80, 1), (1, 1, 80, 80)])
@pytest.mark.parametrize("decoder", ["mask_sigmoid", "mask_argmax"])
def test_masks_of_one_channel_come_with_any_axes(
    decoder: str, shape: tuple[int, ...], bench: Desk
) -> None:
    array = strip(1) if decoder == "mask_sigmoid" else (strip(1) > 0).astype(np.float32)
    labels = manifest(decoder, 1 if decoder == "mask_sigmoid" else 2)
    if len(shape) == 2 and decoder == "mask_sigmoid":
        shape = (1, *shape)
    findings = seen(bench, model(array.reshape(shape)), labels)
    top = next(one for one in findings.objects if one.box[3] == 48)
    assert top.mask
    assert top.mask.area_px == 48 * SIDE


@pytest.mark.parametrize("shape", [(1, 1, 80, 60), (1, 60, 80, 1), (1, 80, 1, 60)])
def test_masks_out_of_proportion_are_refused(shape: tuple[int, ...], bench: Desk) -> None:
    said = bench.refuse(model(np.zeros(shape, np.float32)), manifest("mask_sigmoid", 1))
    assert "H and W in proportion to the input's 320 and 320" in said.what


def test_axes_that_nobody_can_tell_apart_are_refused(bench: Desk) -> None:
    said = bench.refuse(model(np.zeros((1, 8, 8, 8), np.float32)), manifest("mask_sigmoid", 8))
    assert "each axis may be that of the 8 classes" in said.what


def test_fractions_for_classes_of_pixels_are_refused(bench: Desk) -> None:
    said = bench.refuse(model(strip(1)[..., 0] / 10), manifest("mask_argmax"))
    assert "whole classes, got 0.8" in said.what
    assert "mask_softmax" in said.hint


@pytest.mark.parametrize("shape", [(1, 3), (3,), (1, 3, 1, 1), (1, 1, 1, 3), (3, 1, 1), (1, 3, 1)])
def test_classes_come_with_any_axes_of_1(shape: tuple[int, ...], bench: Desk) -> None:
    array = np.array([0.1, 0.2, 0.7], np.float32).reshape(shape)
    findings = seen(bench, model(array), manifest("probs", 3))
    assert [(one.label, one.score) for one in findings.labels] == [("k2", 0.7)]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda array: array * 9, "decoder probs expects scores of 0 to 1"),
        (lambda array: array[:, :2].copy(), "expected [1 C] with C >= 3"),
        (lambda array: np.concatenate((array, array), axis=1), "reads 6 classes"),
    ],
)
def test_classes_that_are_something_else_are_refused(
    change: Callable[[NDArray[Any]], NDArray[Any]], why: str, bench: Desk
) -> None:
    array = np.array([[0.1, 0.2, 0.7]], np.float32)
    assert why in bench.refuse(model(change(array)), manifest("probs", 3)).what
