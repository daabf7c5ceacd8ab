from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.core.decode import check_shapes, decode_probs, sigmoid
from edge_agent.core.errors import BadFrame, Rejected
from edge_agent.core.manifest import HeadSpec
from tests.backends import graphs
from tests.core.decoding import run_through


def probs(values: list[float], folder: Path, **more: Any) -> list[tuple[str, float]]:
    keys = more.pop("keys", "abcdefghijklmnopqrstuvwxyz"[: len(values)])
    spec = graphs.head("probs", "p", keys=keys, **more)
    head, outputs = run_through(folder, spec, np.asarray([values], np.float32))
    return decode_probs(head, outputs, head.threshold)


def test_labels_come_best_first_and_above_the_threshold(tmp_path: Path) -> None:
    found = probs([0.1, 0.6, 0.9, 0.5], tmp_path, threshold=0.5)
    assert found == [("c", 0.9), ("b", 0.6), ("d", 0.5)]


def test_nothing_above_the_threshold_is_an_empty_list(tmp_path: Path) -> None:
    assert probs([0.1, 0.2], tmp_path, threshold=0.5) == []


def test_a_head_gives_at_most_twenty_labels(tmp_path: Path) -> None:
    found = probs([0.9 - 0.01 * i for i in range(26)], tmp_path, threshold=0.0)
    assert [label for label, _ in found] == list("abcdefghijklmnopqrst")


def test_classes_that_the_manifest_does_not_name_are_left_out(tmp_path: Path) -> None:
    assert probs([0.6, 0.9, 0.7], tmp_path, keys="ab") == [("b", 0.9), ("a", 0.6)]


def test_classes_without_any_labels_are_numbered(tmp_path: Path) -> None:
    assert probs([0.2, 0.9], tmp_path, keys="") == [("1", 0.9)]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_drops_the_frame_and_is_counted(wrong: float, tmp_path: Path) -> None:
    with pytest.raises(BadFrame, match="output p: expected finite numbers, got 2 of 4"):
        probs([0.1, wrong, 0.3, wrong], tmp_path)


def test_opposite_infinities_do_not_hide_each_other(tmp_path: Path) -> None:
    with pytest.raises(BadFrame, match="got 2 of 2"):
        probs([np.inf, -np.inf], tmp_path)


@pytest.mark.parametrize("wrong", [3e38, 7.2, 1.02])
def test_what_is_above_one_is_no_probability_and_drops_the_frame(
    wrong: float, tmp_path: Path
) -> None:
    with pytest.raises(BadFrame, match="expects scores of 0 to 1, got"):
        probs([wrong, 3e38 if wrong > 9 else 0.2, 0.1], tmp_path)
    assert probs([1.004, 0.2], tmp_path) == [("a", 1.0)], "half precision rounds to just above 1"


def test_outputs_that_no_head_reads_may_hold_anything() -> None:
    head = graphs.manifest(graphs.head("probs", "p")).heads[0]
    outputs = {"p": np.asarray([[0.9]]), "other": np.asarray([np.nan])}
    assert decode_probs(head, outputs, 0.5) == [("a", 0.9)]


def test_sigmoid_knows_no_overflow() -> None:
    with np.errstate(all="raise"):
        values = sigmoid(np.asarray([-1e30, 0, 1e30], np.float32))
    assert values == pytest.approx([0, 0.5, 1], abs=1e-6)


def head_of(decoder: str, count: int, keys: str = "ab") -> HeadSpec:
    return graphs.manifest(graphs.head(decoder, *"xyz"[:count], keys=keys)).heads[0]


GOOD = [
    ("boxes", [(1, 9, 4), (1, 9), (1, 9)]),
    ("boxes", [(1, None, 4), (1, None), (None, None)]),
    ("yolo", [(1, 6, 300)]),
    ("yolo", [(1, 300, 6)]),
    ("yolo", [(1, 84, 8400)]),
    ("detr", [(1, 100, 2), (1, 100, 4)]),
    ("mask_sigmoid", [(1, 2, 8, 8)]),
    ("mask_softmax", [(None, 5, None, None)]),
    ("mask_argmax", [(1, 8, 8)]),
    ("mask_argmax", [(1, 1, 8, 8)]),
    ("probs", [(1, 2)]),
    ("heatmaps", [(1, 2, 8, 8)]),
]
BAD = [
    ("boxes", [(1, 9, 4), (1, 9), (1, 8)]),
    ("boxes", [(1, 9, 5), (1, 9), (1, 9)]),
    ("boxes", [(1, 9, 4), (1, 9)]),
    ("yolo", [(1, 5, 5)]),
    ("yolo", [(2, 6, 300)]),
    ("detr", [(1, 100, 2), (1, 99, 4)]),
    ("mask_sigmoid", [(1, 1, 8, 8)]),
    ("mask_softmax", [(1, 8, 8)]),
    ("mask_argmax", [(1, 2, 8, 8)]),
    ("probs", [(1, 1)]),
    ("heatmaps", [(4, 2, 8, 8)]),
]


@pytest.mark.parametrize(("decoder", "shapes"), GOOD)
def test_shapes_that_fit_a_decoder_pass(decoder: str, shapes: list[tuple[int | None, ...]]) -> None:
    check_shapes(head_of(decoder, len(shapes)), dict(zip("xyz", shapes, strict=False)))


@pytest.mark.parametrize(("decoder", "shapes"), BAD)
def test_shapes_that_do_not_fit_are_refused_by_name(
    decoder: str, shapes: list[tuple[int | None, ...]]
) -> None:
    with pytest.raises(Rejected, match=f"decoder {decoder} of head h: expected") as refused:
        check_shapes(head_of(decoder, len(shapes)), dict(zip("xyz", shapes, strict=False)))
    assert refused.value.hint


def test_an_output_that_is_missing_is_named() -> None:
    with pytest.raises(Rejected, match=r"expected outputs \['x'\], got \['y'\]"):
        check_shapes(head_of("probs", 1), {"y": (1, 2)})


def test_a_shape_that_is_wrong_only_in_this_frame_drops_it() -> None:
    with pytest.raises(BadFrame, match="decoder probs of head h"):
        decode_probs(head_of("probs", 1), {"x": np.zeros((1, 1))}, 0.5)
