"""Display matrices: eight are done, others are told."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.core.upright import NAMES, turn, turned

ONE = 1 << 16
STORED = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)


def matrix(a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    return (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30)


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ((1, 0, 0, 1), [[1, 2, 3], [4, 5, 6]]),
        ((0, 1, -1, 0), [[4, 1], [5, 2], [6, 3]]),
        ((-1, 0, 0, -1), [[6, 5, 4], [3, 2, 1]]),
        ((0, -1, 1, 0), [[3, 6], [2, 5], [1, 4]]),
        ((-1, 0, 0, 1), [[3, 2, 1], [6, 5, 4]]),
        ((1, 0, 0, -1), [[4, 5, 6], [1, 2, 3]]),
        ((0, 1, 1, 0), [[1, 4], [2, 5], [3, 6]]),
        ((0, -1, -1, 0), [[6, 3], [5, 2], [4, 1]]),
    ],
)
def test_each_right_angle_and_mirror_is_applied(
    steps: tuple[int, int, int, int], shown: list[list[int]]
) -> None:
    how = turn(matrix(*steps))
    assert turned(STORED, how).tolist() == shown
    assert how.words in NAMES.values()
    coloured = np.repeat(STORED[..., None], 3, axis=2)
    assert turned(coloured, how)[..., 1].tolist() == shown


def test_what_is_no_right_angle_is_told_and_not_done() -> None:
    how = turn((46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30))
    assert how.is_none
    assert how.words == "asks to be turned by 45 degrees: not done"
    assert turn((0,) * 9).is_none
    assert turn(None).words == turn((1, 2)).words == ""
