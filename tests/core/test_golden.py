"""Golden samples: what is read, how far apart, and what counts as far."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.core.errors import Rejected
from edge_agent.core.golden import Gap, difference, samples, widest_gap
from edge_agent.core.manifest import VariantSpec

FED = np.zeros((1, 2, 2, 1), np.uint8)
SPEC = VariantSpec(name="fp32", file="m.onnx", tolerance=0.5, tolerances={"scores": 0.01})


def floats(*numbers: float) -> NDArray[np.float32]:
    return np.array([numbers], np.float32)


def test_samples_are_read_in_order_also_where_a_name_ends_in_a_number() -> None:
    arrays: dict[str, NDArray[Any]] = {f"input_{n}": FED + n for n in range(11)}
    arrays |= {f"output_y_1_{n}": floats(n) for n in range(11)}
    read = samples(arrays)
    assert [int(one.fed[0, 0, 0, 0]) for one in read] == list(range(11))
    assert [{name: float(a[0, 0]) for name, a in one.outputs.items()} for one in read] == [
        {"y_1": n} for n in range(11)
    ]


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({}, "expected 1 to 64 inputs, got 0"),
        ({f"input_{n}": FED for n in range(65)}, "expected 1 to 64 inputs, got 65"),
        ({"input_1": FED}, "input_0: expected uint8, got none"),
        ({"input_0": FED.astype(np.float32)}, "input_0: expected uint8, got float32"),
    ],
)
def test_samples_that_are_none_are_refused(arrays: dict[str, NDArray[Any]], why: str) -> None:
    with pytest.raises(Rejected, match=why):
        samples(arrays)


def test_numbers_differ_by_their_largest_difference_and_classes_by_their_share() -> None:
    assert difference(floats(1, 2), floats(1.25, 2)) == 0.25
    assert difference(np.array([0, 1, 2, 3]), np.array([0, 7, 2, 3])) == 0.25
    assert difference(floats(1), floats(math.nan)) == math.inf
    assert difference(floats(1), floats(1, 2)) == math.inf
    assert difference(floats(), floats()) == 0.0


def test_the_widest_gap_is_that_by_its_own_tolerance() -> None:
    (sample,) = samples({"input_0": FED, "output_boxes_0": floats(9), "output_scores_0": floats(1)})
    got = {"boxes": floats(9.25), "scores": floats(0.9375)}
    assert widest_gap(sample, got, SPEC) == Gap("scores", 0.0625, 0.01)
    assert not widest_gap(sample, got, SPEC).within
    near = got | {"scores": floats(0.995)}
    assert widest_gap(sample, near, SPEC).output == "boxes"
    assert widest_gap(sample, near, SPEC).within
    assert widest_gap(sample, {"boxes": floats(9)}, SPEC).difference == math.inf
