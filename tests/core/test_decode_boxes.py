from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.core.decode_boxes import Candidates, decode_boxes
from edge_agent.core.errors import BadFrame
from tests.backends import graphs
from tests.core.decoding import run_through

SIZE = (100, 50)
DECODERS = {"boxes": ["b", "s", "c"], "yolo": ["y"], "detr": ["l", "b"]}


def decode(folder: Path, decoder: str, *arrays: NDArray[Any], **more: Any) -> Candidates:
    spec = graphs.head(decoder, *DECODERS[decoder], keys=more.pop("keys", "ab"), **more)
    head, outputs = run_through(folder, spec, *arrays)
    return decode_boxes(head, outputs, size=SIZE, threshold=head.threshold)


def boxes(*rows: tuple[float, ...]) -> list[NDArray[Any]]:
    """Rows of x0 y0 x1 y1 score class."""
    table = np.asarray([rows], np.float32)
    return [table[:, :, :4], table[:, :, 4], table[:, :, 5]]


def test_boxes_are_taken_best_first_without_doubles(tmp_path: Path) -> None:
    rows = [(0, 0, 10, 10, 0.6, 0), (30, 0, 40, 9, 0.9, 1), (1, 0, 10, 10, 0.7, 0)]
    found = decode(tmp_path, "boxes", *boxes(*rows, (0, 0, 9, 9, 0.4, 0)))
    assert found.boxes.tolist() == [[30, 0, 40, 9], [1, 0, 10, 10]]
    assert found.scores == pytest.approx([0.9, 0.7])
    assert found.classes.tolist() == [1, 0]
    assert not found.truncated


def test_boxes_of_integer_classes_read_the_same(tmp_path: Path) -> None:
    corners, scores, classes = boxes((0, 0, 10, 10, 0.6, 1))
    found = decode(tmp_path, "boxes", corners, scores, classes.astype(np.int64))
    assert found.classes.tolist() == [1]


def test_empty_boxes_and_unnamed_classes_are_left_out(tmp_path: Path) -> None:
    rows = [(5, 5, 5, 9, 0.9, 0), (9, 5, 5, 9, 0.9, 0), (0, 0, 9, 9, 0.9, 7)]
    assert len(decode(tmp_path, "boxes", *boxes(*rows)).boxes) == 0


def test_more_than_a_hundred_boxes_are_cut_and_said_so(tmp_path: Path) -> None:
    rows = [(20 * i, 0, 20 * i + 10, 10, 0.99 - i * 0.001, 0) for i in range(130)]
    found = decode(tmp_path, "boxes", *boxes(*rows))
    assert len(found.boxes) == 100
    assert found.truncated
    assert found.boxes[0].tolist() == [0, 0, 10, 10]


@pytest.mark.parametrize("transposed", [False, True])
def test_yolo_reads_both_layouts(transposed: bool, tmp_path: Path) -> None:
    table = np.zeros((1, 6, 9), np.float32)
    table[0, :, 3] = (50, 20, 10, 8, 0.1, 0.8)
    table[0, :, 5] = (20, 20, 10, 8, 0.7, 0.2)
    found = decode(tmp_path, "yolo", table.transpose(0, 2, 1).copy() if transposed else table)
    assert found.boxes.tolist() == [[45, 16, 55, 24], [15, 16, 25, 24]]
    assert found.scores == pytest.approx([0.8, 0.7])
    assert found.classes.tolist() == [1, 0]


def test_yolo_with_more_classes_than_labels_reads_the_named_ones(tmp_path: Path) -> None:
    table = np.zeros((1, 84, 100), np.float32)
    table[0, :5, 3] = (50, 20, 10, 8, 0.8)
    table[0, :4, 5], table[0, 40, 5] = (20, 20, 10, 8), 0.9
    found = decode(tmp_path, "yolo", table)
    assert found.boxes.tolist() == [[45, 16, 55, 24]]


def test_yolo_with_as_many_candidates_as_features_takes_features_first(tmp_path: Path) -> None:
    table = np.zeros((1, 6, 6), np.float32)
    table[0, :, 2] = (50, 20, 10, 8, 0.1, 0.8)
    assert decode(tmp_path, "yolo", table).boxes.tolist() == [[45, 16, 55, 24]]


def test_detr_scales_normalised_boxes_and_keeps_neighbours(tmp_path: Path) -> None:
    logits = np.full((1, 4, 2), -9, np.float32)
    logits[0, 1], logits[0, 2] = (2, -9), (-9, 3)
    logits[0, 3] = (1.5, -9)
    places = np.zeros((1, 4, 4), np.float32)
    places[0, 1:] = (0.5, 0.5, 0.2, 0.4)
    found = decode(tmp_path, "detr", logits, places)
    assert found.classes.tolist() == [1, 0, 0]
    assert found.boxes == pytest.approx(np.asarray([[40, 15, 60, 35]] * 3), abs=1e-4)
    assert found.scores == pytest.approx([0.9526, 0.8808, 0.8176], abs=1e-4)


def test_detr_cuts_a_crowd_too(tmp_path: Path) -> None:
    places = np.full((1, 300, 4), 0.5, np.float32)
    found = decode(tmp_path, "detr", np.full((1, 300, 2), 5, np.float32), places)
    assert len(found.boxes) == 100
    assert found.truncated


@pytest.mark.parametrize("decoder", ["boxes", "yolo", "detr"])
def test_a_nan_box_never_becomes_an_object(decoder: str, tmp_path: Path) -> None:
    arrays = {
        "boxes": boxes((0, 0, float("nan"), 9, 0.9, 0)),
        "yolo": [np.full((1, 6, 9), np.nan, np.float32)],
        "detr": [np.zeros((1, 4, 2), np.float32), np.full((1, 4, 4), np.inf, np.float32)],
    }[decoder]
    with pytest.raises(BadFrame, match="finite"):
        decode(tmp_path, decoder, *arrays)


def test_half_precision_outputs_are_read_like_others(tmp_path: Path) -> None:
    arrays = [array.astype(np.float16) for array in boxes((0, 0, 10, 10, 0.75, 0))]
    found = decode(tmp_path, "boxes", *arrays)
    assert found.boxes.tolist() == [[0, 0, 10, 10]]
    assert found.boxes.dtype == np.float32
