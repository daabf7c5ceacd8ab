from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.core.decode_masks import Plane, decode_heatmaps, decode_masks
from edge_agent.core.errors import BadFrame
from tests.backends import graphs
from tests.core.decoding import run_through

WHOLE = (slice(None), slice(None))


def decode(folder: Path, decoder: str, array: NDArray[Any], **more: Any) -> list[Plane]:
    spec = graphs.head(decoder, "y", keys=more.pop("keys", "ab"), **more)
    head, outputs = run_through(folder, spec, array)
    return decode_masks(head, outputs, head.threshold)


def by_label(planes: list[Plane]) -> dict[str, list[list[int]]]:
    return {plane.label: plane.mask.tolist() for plane in planes}


def score(plane: Plane) -> float:
    return plane.score(WHOLE, plane.mask.astype(bool))


def test_sigmoid_masks_may_overlap(tmp_path: Path) -> None:
    logits = np.asarray([[[[2, -2], [0.1, -5]], [[1, 1], [-1, -1]]]], np.float32)
    planes = decode(tmp_path, "mask_sigmoid", logits)
    assert by_label(planes) == {"a": [[1, 0], [1, 0]], "b": [[1, 1], [0, 0]]}
    assert score(planes[1]) == pytest.approx(0.7311, abs=1e-4)


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 4), (0.73, 3), (0.74, 1), (1.0, 0)])
def test_sigmoid_thresholds_are_probabilities(threshold: float, count: int, tmp_path: Path) -> None:
    logits = np.asarray([[[[1, 1], [1.1, -90]]]], np.float32)
    (plane,) = decode(tmp_path, "mask_sigmoid", logits, keys="a", threshold=threshold)
    assert plane.mask.sum() == count


def test_softmax_leaves_the_background_out(tmp_path: Path) -> None:
    logits = np.zeros((1, 3, 1, 3), np.float32)
    logits[0, :, 0, 0], logits[0, :, 0, 1], logits[0, :, 0, 2] = (9, 0, 0), (0, 9, 0), (0, 0, 3)
    labels = [{"id": 1, "key": "wall"}, {"id": 2, "key": "chamber"}]
    planes = decode(tmp_path, "mask_softmax", logits, labels=labels)
    assert by_label(planes) == {"wall": [[0, 1, 0]], "chamber": [[0, 0, 1]]}
    assert score(planes[1]) == pytest.approx(np.exp(3) / (np.exp(3) + 2), abs=1e-5)


def test_softmax_takes_class_nought_when_a_label_names_it(tmp_path: Path) -> None:
    logits = np.asarray([[[[4.0, 0]], [[0, 4]]]], np.float32)
    assert by_label(decode(tmp_path, "mask_softmax", logits)) == {"a": [[1, 0]], "b": [[0, 1]]}


def test_softmax_drops_pixels_that_no_class_is_sure_of(tmp_path: Path) -> None:
    logits = np.asarray([[[[0.0, 0]], [[0.1, 5]]]], np.float32)
    planes = decode(tmp_path, "mask_softmax", logits, threshold=0.9)
    assert by_label(planes) == {"b": [[0, 1]]}


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 1, 2, 3)])
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32])
def test_argmax_maps_are_classes(shape: tuple[int, ...], kind: Any, tmp_path: Path) -> None:
    classes = np.asarray([0, 1, 1, 2, 0, 7]).reshape(shape).astype(kind)
    labels = [{"id": 1, "key": "wall"}, {"id": 2, "key": "chamber"}]
    planes = decode(tmp_path, "mask_argmax", classes, labels=labels)
    assert by_label(planes) == {"wall": [[0, 1, 1], [0, 0, 0]], "chamber": [[0, 0, 0], [1, 0, 0]]}
    assert score(planes[0]) == 1.0


def test_argmax_without_labels_numbers_all_but_the_background(tmp_path: Path) -> None:
    classes = np.asarray([[[0, 3]]], np.int64)
    assert by_label(decode(tmp_path, "mask_argmax", classes, keys="")) == {"3": [[0, 1]]}


@pytest.mark.parametrize("wrong", [-1, 100_000])
def test_a_class_out_of_range_drops_the_frame(wrong: int, tmp_path: Path) -> None:
    with pytest.raises(BadFrame, match=f"{wrong}"):
        decode(tmp_path, "mask_argmax", np.asarray([[[0, wrong]]], np.int64))


def test_fractions_are_no_classes_and_drop_the_frame(tmp_path: Path) -> None:
    with pytest.raises(BadFrame, match=r"expected whole classes, got fractions between 0 and 0\.5"):
        decode(tmp_path, "mask_argmax", np.asarray([[[0, 0.5]]], np.float32))


@pytest.mark.parametrize("decoder", ["mask_sigmoid", "mask_softmax"])
def test_a_mask_with_nan_drops_the_frame(decoder: str, tmp_path: Path) -> None:
    with pytest.raises(BadFrame, match="output y: expected finite numbers, got 8 of 8"):
        decode(tmp_path, decoder, np.full((1, 2, 2, 2), np.nan, np.float32))


def heatmaps(folder: Path, maps: NDArray[Any], keys: str) -> NDArray[Any]:
    head, outputs = run_through(folder, graphs.head("heatmaps", "y", keys=keys), maps)
    return decode_heatmaps(head, outputs)


def test_keypoints_lean_towards_the_higher_neighbour(tmp_path: Path) -> None:
    maps = np.zeros((1, 2, 5, 6), np.float32)
    maps[0, 0, 2, 3], maps[0, 0, 2, 4], maps[0, 0, 1, 3] = 0.9, 0.5, 0.4
    maps[0, 1, 0, 0] = 0.8  # in a corner there is nothing to lean on
    points = heatmaps(tmp_path, maps, "ab")
    assert points == pytest.approx(np.asarray([[3.75, 2.25, 0.9], [0.5, 0.5, 0.8]]), abs=1e-6)


def test_keypoints_come_in_the_order_of_the_labels(tmp_path: Path) -> None:
    maps = np.zeros((1, 2, 3, 3), np.float32)
    maps[0, 0, 1, 1], maps[0, 1, 2, 2] = 0.9, 0.8
    head, outputs = run_through(tmp_path, graphs.head("heatmaps", "y", keys="ab"), maps)
    assert head.labels[0].id == 0
    swapped = type(head)(
        name="h", task="keypoints", decoder="heatmaps", outputs=("y",), labels=head.labels[::-1]
    )
    assert decode_heatmaps(swapped, outputs)[:, 2] == pytest.approx([0.8, 0.9])
