"""Detectors of other frameworks: what shapes and names leave open is asked for, never guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.packing import exports
from tests.packing.desk import Desk
from tests.packing.exports import ONE, SIDE, TWO, Found, manifest, model
from tests.packing.test_meaning import check, seen, turned
from tools.hot_tier.packing.proposing import propose
from tools.hot_tier.packing.report import Wanted

NAMES = ("detection_boxes", "detection_scores", "detection_classes")


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exports.flat_frame(tmp_path_factory.mktemp("flat") / "frames")


@pytest.fixture
def bench(tmp_path: Path, flat: Path) -> Desk:
    return Desk(tmp_path, flat)


def three(found: tuple[Found, ...], rows: int = 20) -> tuple[NDArray[np.float32], ...]:
    """[1, N, 4] x0 y0 x1 y1 px, [1, N] scores, [1, N] classes."""
    table = exports.end_to_end(found, rows)
    return table[..., :4].copy(), table[..., 4].copy(), table[..., 5].copy()


def tensorflow(asked: str = "") -> tuple[Any, str]:
    boxes, scores, classes = three(TWO)
    made = model(boxes[..., [1, 0, 3, 2]] / np.float32(SIDE), scores, classes, names=NAMES)
    text = manifest("boxes", outputs=3, more='box_unit = "relative"\n' + asked)
    for old, new in zip(("y", "y2", "y3"), NAMES, strict=True):
        text = text.replace(f'"{old}"', f'"{new}"')
    return made, text


# ── the order of corners ──────────────────────────────────────────────────────────────────────


def test_boxes_of_tensorflow_are_not_read_with_x_and_y_changed_over(bench: Desk) -> None:
    """They packed with exit 0 after `box_unit` had been written, as a refusal had told."""
    said = bench.refuse(*tensorflow(), half="no")
    assert "TensorFlow names its y0 x0 y1 x1" in said.what
    assert 'columns = ["y0", "x0", "y1", "x1"]' in said.hint


@pytest.mark.parametrize("order", [("y0", "x0", "y1", "x1"), ("x0", "y0", "x1", "y1")])
def test_the_order_that_the_manifest_names_is_read(order: tuple[str, ...], bench: Desk) -> None:
    columns = "[" + ", ".join(f'"{one}"' for one in order) + "]"
    made, asked = tensorflow(f"columns = {columns}\n")
    found = seen(bench, made, asked).objects
    for one, wanted in zip(found, TWO, strict=True):
        x0, y0, x1, y1 = wanted.box
        turned_over = (y0, x0, y1, x1)
        assert one.box == pytest.approx(wanted.box if order[0] == "y0" else turned_over, abs=0.2)


def test_columns_of_boxes_are_those_of_its_four_numbers(bench: Desk) -> None:
    said = bench.refuse(*tensorflow('columns = ["y0", "x0", "y1", "score"]\n'), half="no")
    assert "expected columns x0, y0, x1 and y1" in said.what


def test_relative_boxes_are_told_of_both_orders(bench: Desk) -> None:
    boxes, scores, classes = three(TWO)
    made = model(boxes / np.float32(SIDE), scores, classes)
    said = bench.refuse(made, manifest("boxes", outputs=3), half="no")
    assert 'box_unit = "relative"' in said.hint
    assert '"y0", "x0"' in said.hint


def test_a_proposal_for_tensorflow_names_order_and_unit(bench: Desk, flat: Path) -> None:
    made, _ = tensorflow()
    (bench.folder / "m.onnx").write_bytes(made.SerializeToString())
    out = bench.folder / "proposed.toml"
    propose(Wanted(model=bench.folder / "m.onnx", out=out, frames=flat))
    assert 'columns = ["y0", "x0", "y1", "x1"]' in out.read_text()
    assert 'box_unit = "relative"' in out.read_text()


def test_corners_of_which_a_few_are_degenerate_are_still_corners(bench: Desk) -> None:
    """Twelve rows of 2,100 that ended before they began made all of them centres and sizes."""
    table = turned(exports.yolo(TWO, 2))
    table[..., 2:4] += table[..., :2]
    table[0, 500:512, 2:4] = table[0, 500:512, :2] - 1
    said = bench.refuse(model(table), manifest("yolo"), half="no")
    assert "as of corners x0 y0 x1 y1" in said.what


# ── rows behind a count ───────────────────────────────────────────────────────────────────────


def counted(behind: float) -> Any:
    boxes, scores, classes = three(TWO)
    boxes[0, 5], scores[0, 5] = (10, 10, 90, 90), behind
    made = model(boxes, scores, classes)
    made.graph.initializer.append(numpy_helper.from_array(np.array([[2]], np.int32), "two"))
    made.graph.node.append(helper.make_node("Identity", ["two"], ["num_dets"]))
    made.graph.output.append(helper.make_tensor_value_info("num_dets", TensorProto.INT32, [1, 1]))
    return made


def test_what_stands_behind_the_count_of_rows_is_no_finding(bench: Desk) -> None:
    """As TensorRT's suppression leaves it: the count was dropped, and the rest was found."""
    said = bench.refuse(counted(0.8), manifest("boxes", outputs=3), half="no")
    assert "output num_dets says that 2 rows count" in said.what
    assert "set the scores behind that count to 0" in said.hint


def test_rows_behind_the_count_that_are_filling_are_read(bench: Desk) -> None:
    check(seen(bench, counted(0.0), manifest("boxes", outputs=3)), TWO)


# ── objectness, and a class "no object" ───────────────────────────────────────────────────────

DECODED = exports.objectness(ONE, 1, exports.CELLS)
LOW = exports.objectness((*ONE, Found((20, 20, 70, 60), 0.8, 0)), 1, exports.CELLS)
LOW[..., 5] = np.where(LOW[..., 4] > 0.5, LOW[..., 5], 0.01)


@pytest.mark.parametrize("array", [DECODED, LOW], ids=["classes of anything", "of nothing"])
def test_objectness_is_no_class_though_the_labels_say_so(
    array: NDArray[np.float32], bench: Desk
) -> None:
    """A YOLOX of one class, decoded, read as two classes: as many columns, other findings."""
    said = bench.refuse(model(array), manifest("yolo"), half="no")
    assert "as objectness does" in said.what
    assert 'decoder = "yolo_objectness"' in said.hint


def test_classes_that_go_along_with_each_other_can_be_declared(bench: Desk) -> None:
    array = exports.yolo((*TWO, Found((20, 20, 70, 60), 0.8, 0)), 2)
    array[0, 4:] = array[0, 4:].max(axis=0)
    assert "objectness" in bench.refuse(model(array), manifest("yolo"), half="no").what
    assert bench.pack(model(array), manifest("yolo", more="classes = 2\n"), half="no").objects == 3


@pytest.mark.parametrize("turn", [False, True])
def test_a_class_is_no_objectness(turn: bool, bench: Desk) -> None:
    """Two classes without objectness, read as one with it: nothing was ever found."""
    array = exports.yolo(TWO, 2)
    array[0, 4:] = np.maximum(array[0, 4:], 0.12 * (array[0, 4:].max(axis=0) > 0.5))
    array = turned(array) if turn else array
    said = bench.refuse(model(array), manifest("yolo_objectness", 1), half="no")
    assert "sure of an object and of no class" in said.what
    assert 'decoder = "yolo"' in said.hint


def queries(nobody: float) -> Any:
    """Logits of three classes, the last of them "no object" at most queries."""
    rng = np.random.default_rng(4)
    boxes = rng.uniform(0.1, 0.6, (1, 100, 4)).astype(np.float32)
    logits = rng.uniform(-6, -4, (1, 100, 3)).astype(np.float32)
    logits[0, :, 2] = nobody
    logits[0, 7] = 3, -5, -5
    return model(logits, boxes)


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("nobody", [6.0, -0.001], ids=["logits", "of log-probabilities"])
def test_a_class_no_object_is_seen_though_it_is_declared(
    labels: int, nobody: float, bench: Desk
) -> None:
    """`classes = 3`, which a refusal had told, gave a sigmoid's scores in place of a softmax's."""
    asked = manifest("detr", labels, 2, "classes = 3\n")
    said = bench.refuse(queries(nobody), asked, half="no")
    assert 'class 2 at 99 % of them, as of a class "no object"' in said.what
    assert "ReduceLogSumExp" in said.hint


def test_a_detr_with_a_class_too_many_hears_of_no_object_first(bench: Desk) -> None:
    said = bench.refuse(queries(6.0), manifest("detr", 2, 2), half="no")
    assert said.hint.startswith('take "no object" out')


def test_a_detr_without_no_object_is_read(bench: Desk) -> None:
    assert bench.pack(queries(-7.0), manifest("detr", 3, 2), half="no").objects == 1
