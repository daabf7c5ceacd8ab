"""The family of YOLO besides the plain one, and rows of an exported suppression.

Every array goes through a real model and the real backend; what is expected is worked out by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.core.decode import check_shapes
from edge_agent.core.decode_boxes import Candidates, decode_boxes
from edge_agent.core.errors import BadFrame, NotFinite, Rejected
from edge_agent.core.golden import Sample, widest_gap
from edge_agent.core.manifest import HeadSpec, VariantSpec
from tests.backends import graphs
from tests.core.decoding import run_through

SIZE = (128, 64)
CELLS = 16 * 8 + 8 * 4 + 4 * 2  # strides 8, 16, 32


def decode(folder: Path, decoder: str, array: NDArray[Any], **more: Any) -> Candidates:
    spec = graphs.head(decoder, "y", keys=more.pop("keys", "ab"), **more)
    if decoder == "yolox":  # the models of `run_through` have an input that is no grid of cells
        head, outputs = graphs.manifest(spec).heads[0], {"y": array}
    else:
        head, outputs = run_through(folder, spec, array)
    return decode_boxes(head, outputs, size=SIZE, threshold=head.threshold)


def table(rows: int, *found: tuple[float, ...], filling: float = 0.0) -> NDArray[np.float32]:
    """[1, rows, len(found)] with these at the places 3, 5, 7 ..."""
    array = np.full((1, rows, len(found[0])), filling, np.float32)
    for index, row in enumerate(found):
        array[0, 3 + 2 * index] = row
    return array


def turned(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array.transpose(0, 2, 1))


# ── end to end ────────────────────────────────────────────────────────────────────────────────

ENDED = [(10, 12, 20, 26, 0.9, 1), (11, 12, 21, 26, 0.8, 1), (60, 30, 64, 36, 0.3, 0)]


@pytest.mark.parametrize("filling", [0.0, -1.0])
@pytest.mark.parametrize("kind", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("is_turned", [False, True])
def test_end_to_end_rows_are_corners_score_and_class(
    is_turned: bool, kind: Any, filling: float, tmp_path: Path
) -> None:
    array = table(300, *ENDED, filling=filling).astype(kind)
    found = decode(tmp_path, "yolo_e2e", turned(array) if is_turned else array)
    assert found.boxes.tolist() == [[10, 12, 20, 26], [11, 12, 21, 26]], "a set: not suppressed"
    assert found.scores == pytest.approx([0.9, 0.8], abs=1e-3)
    assert found.classes.tolist() == [1, 1]


def test_relative_boxes_are_scaled_where_the_manifest_says_so(tmp_path: Path) -> None:
    array = table(300, (0.25, 0.5, 0.5, 0.75, 0.9, 0))
    found = decode(tmp_path, "yolo_e2e", array, box_unit="relative")
    assert found.boxes.tolist() == [[32, 32, 64, 48]]
    array = table(300, (0.5, 0.5, 0.25, 0.5, 0.1, 0.9))
    found = decode(tmp_path, "yolo", array, box_unit="relative")
    assert found.boxes.tolist() == [[48, 16, 80, 48]]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ((1, 1, 9, 9, 0.9, 2), "whole classes of 0 to 1, got 2"),
        ((1, 1, 9, 9, 0.9, -1), "whole classes of 0 to 1, got -1"),
        ((1, 1, 9, 9, 0.9, 0.5), "whole classes of 0 to 1, got 0.5"),
        ((1, 1, 9, 9, 0.9, 3e30), "whole classes of 0 to 1, got 3e\\+30"),
        ((1, 1, 9, 9, 4.2, 0), "scores of 0 to 1, got 4.2"),
        ((1, 1, np.nan, 9, 0.9, 0), "finite numbers"),
        ((1, 1, 9, 9, np.nan, 0), "finite numbers"),
        ((1, 1, 9, 9, 0.9, np.inf), "finite numbers"),
    ],
)
def test_rows_that_contradict_what_they_mean_drop_the_frame(
    row: tuple[float, ...], why: str, tmp_path: Path
) -> None:
    with pytest.raises(BadFrame, match=why):
        decode(tmp_path, "yolo_e2e", table(300, row))


def test_what_filling_holds_is_nobodys_business(tmp_path: Path) -> None:
    array = table(300, (1, 1, 9, 9, 0.9, 0), (np.nan, 0, 0, 0, 0, -1), (5, 5, 1, 1, 0.1, 77))
    assert decode(tmp_path, "yolo_e2e", array).boxes.tolist() == [[1, 1, 9, 9]]


# ── suppression in the graph ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(2, 7), (1, 2, 7), (1, 1, 2, 7)])
def test_rows_of_a_suppression_name_their_columns(shape: tuple[int, ...], tmp_path: Path) -> None:
    rows = np.array([[0, 10, 12, 20, 26, 1, 0.9], [0, 60, 30, 64, 36, 0, 0.7]], np.float32)
    found = decode(tmp_path, "nms", rows.reshape(shape))
    assert found.boxes.tolist() == [[10, 12, 20, 26], [60, 30, 64, 36]]
    assert found.classes.tolist() == [1, 0]
    columns = ["class", "score", "x0", "y0", "x1", "y1"]
    order = np.ascontiguousarray(rows[:, [5, 6, 1, 2, 3, 4]])
    other = decode(tmp_path, "nms", order, columns=columns)
    assert [array.tolist() for array in found[:3]] == [array.tolist() for array in other[:3]]


def test_no_rows_are_no_findings(tmp_path: Path) -> None:
    assert len(decode(tmp_path, "nms", np.zeros((0, 7), np.float32)).scores) == 0


def test_rows_of_no_picture_are_filling_and_of_another_one_a_fault(tmp_path: Path) -> None:
    rows = np.array([[-1, 0, 0, 9, 9, 0, 0.9], [0, 1, 1, 9, 9, 0, 0.8]], np.float32)
    assert decode(tmp_path, "nms", rows).boxes.tolist() == [[1, 1, 9, 9]]
    rows[0, 0] = 1
    with pytest.raises(BadFrame, match="expects rows of picture 0, got 1"):
        decode(tmp_path, "nms", rows)


# ── objectness ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_turned", [False, True])
def test_objectness_times_class_is_the_score(is_turned: bool, tmp_path: Path) -> None:
    rows = [(32, 32, 10, 8, 0.9, 0.1, 0.8), (60, 20, 10, 8, 0.6, 0.7, 0.1)]
    array = table(99, *rows)
    found = decode(tmp_path, "yolo_objectness", turned(array) if is_turned else array)
    assert found.boxes.tolist() == [[27, 28, 37, 36]]
    assert found.scores == pytest.approx([0.72])
    assert found.classes.tolist() == [1]


@pytest.mark.parametrize(
    "row", [(9, 9, 4, 4, 3.0, 0.9, 0), (9, 9, 4, 4, 0.9, 5.5, 0), (9, np.nan, 4, 4, 0.9, 0.9, 0)]
)
@pytest.mark.parametrize("decoder", ["yolo_objectness", "yolox"])
def test_logits_and_nan_are_no_scores(decoder: str, row: tuple[float, ...], tmp_path: Path) -> None:
    with pytest.raises((BadFrame, NotFinite)):
        decode(tmp_path, decoder, table(CELLS, row))


def grid_row(index: int, box: tuple[float, ...], *scores: float) -> tuple[float, ...]:
    """What a YOLOX says in that cell of a box in px: written out, not by the code under test."""
    places = []
    for stride in (8, 16, 32):
        for y in range(SIZE[1] // stride):
            places += [(x, y, stride) for x in range(SIZE[0] // stride)]
    x, y, stride = places[index]
    x0, y0, x1, y1 = box
    centre = (x0 + x1) / 2 / stride - x, (y0 + y1) / 2 / stride - y
    return (*centre, np.log((x1 - x0) / stride), np.log((y1 - y0) / stride), *scores)


@pytest.mark.parametrize("index", [3, 127, 128, 159, 160, 167])
@pytest.mark.parametrize("is_turned", [False, True])
def test_yolox_places_boxes_by_the_cell_of_their_row(
    is_turned: bool, index: int, tmp_path: Path
) -> None:
    array = np.zeros((1, CELLS, 7), np.float32)
    array[0, index] = grid_row(index, (21, 11, 60, 43), 0.9, 0.2, 0.9)
    found = decode(tmp_path, "yolox", turned(array) if is_turned else array)
    assert found.boxes == pytest.approx(np.array([[21, 11, 60, 43]]), abs=1e-3)
    assert found.scores == pytest.approx([0.81])
    assert found.classes.tolist() == [1]


def test_yolox_of_another_input_is_refused_when_loaded_and_on_a_frame(tmp_path: Path) -> None:
    head = graphs.manifest(graphs.head("yolox", "y", keys="ab")).heads[0]
    check_shapes(head, {"y": (1, CELLS, 7)}, SIZE)
    check_shapes(head, {"y": (1, CELLS + 2, 7)}, SIZE)  # with stride 64
    for shape in ((1, 3 * CELLS, 7), (1, 7, 84)):
        with pytest.raises(Rejected, match=r"expected N = 168 .strides 8, 16, 32. or 170"):
            check_shapes(head, {"y": shape}, SIZE)
    with pytest.raises(BadFrame, match="expected N = 168"):
        decode(tmp_path, "yolox", table(99, (1, 1, 1, 1, 0.9, 0.9, 0)))


def test_boxes_in_px_given_to_yolox_drop_the_frame(tmp_path: Path) -> None:
    with pytest.raises(BadFrame, match="expects logarithms of sizes in cells, got 39"):
        decode(tmp_path, "yolox", table(CELLS, (40, 27, 39, 32, 0.9, 0.9, 0)))


# ── the manifest ──────────────────────────────────────────────────────────────────────────────


def test_a_declared_number_of_classes_is_exact() -> None:
    head = graphs.manifest(graphs.head("yolo", "y", keys="ab", classes=3)).heads[0]
    check_shapes(head, {"y": (1, 7, 300)})
    with pytest.raises(Rejected, match=r"with F = 4 \+ C, C = 3, got \[1, 6, 300\]"):
        check_shapes(head, {"y": (1, 6, 300)})


@pytest.mark.parametrize(
    ("decoder", "more", "why"),
    [
        ("yolo", {"classes": 1}, "expected classes of at least 2 for its labels, got 1"),
        ("yolo", {"columns": ["score"]}, "decoder yolo has an order of its own"),
        ("nms", {"columns": ["x0", "y0", "x1", "y1", "score"]}, "expected columns x0, y0"),
        ("nms", {"columns": ["x0", "y0", "x1", "y1", "score", "score"]}, "each once"),
        ("detr", {"box_unit": "relative"}, "has a unit of its own"),
        ("yolox", {"box_unit": "relative"}, "has a unit of its own"),
        ("rows", {}, "Invalid enum value 'rows'"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(
    decoder: str, more: dict[str, Any], why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        graphs.manifest(graphs.head(decoder, "y", keys="ab", **more))


def test_an_agent_that_does_not_know_a_decoder_says_which_it_knows() -> None:
    with pytest.raises(Rejected) as refused:
        graphs.manifest(graphs.head("yolo_of_tomorrow", "y"))
    assert "this agent reads boxes, yolo, yolo_objectness, yolox, yolo_e2e, nms" in (
        refused.value.hint
    )


# ── golden samples ────────────────────────────────────────────────────────────────────────────


def gap(wanted: NDArray[Any], got: NDArray[Any], decoder: str = "yolo_e2e") -> float:
    head: HeadSpec = graphs.manifest(graphs.head(decoder, "y", keys="ab")).heads[0]
    spec = VariantSpec(name="fp32", file="m.onnx")
    sample = Sample(np.zeros((1, 1), np.uint8), {"y": wanted})
    return widest_gap(sample, {"y": got}, spec, [head]).difference


def test_golden_rows_are_a_set_whose_order_and_tail_mean_nothing() -> None:
    wanted = table(300, *ENDED, (90, 9, 99, 19, 0.02, 0))
    got = wanted[:, ::-1].copy()
    got[0, got[0, :, 4] < 0.1] = (5, 50, 6, 51, 0.021, 1)
    assert gap(wanted, got) == 0.0
    assert gap(turned(wanted), turned(got)) == 0.0
    got[got == 20] = 20.25
    assert gap(wanted, got) == 0.25


@pytest.mark.parametrize("change", ["class", "gone", "new", "nan", "short"])
def test_golden_rows_that_differ_in_a_finding_are_far(change: str) -> None:
    wanted = table(300, *ENDED)
    got = wanted.copy()
    if change == "class":
        got[0, 3, 5] = 0
    elif change == "gone":
        got[0, 3:6] = 0
    elif change == "new":
        got[0, 40] = (1, 1, 9, 9, 0.8, 0)
    elif change == "nan":
        got[0, 200, 0] = np.nan
    assert gap(wanted, got[..., :5] if change == "short" else got) > 1


def test_golden_rows_of_a_suppression_may_be_fewer() -> None:
    wanted = np.array([[0, 1, 1, 9, 9, 1, 0.9], [0, 4, 4, 9, 9, 0, 0.01]], np.float32)
    assert gap(wanted, wanted[:1], "nms") == 0.0
    assert gap(wanted, wanted[:0], "nms") == np.inf
