"""Golden samples: inputs, and the outputs that every runtime must give for them.

`golden.npz` holds `input_N`, uint8 as the model takes it with its batch axis, and `output_NAME_N`
for N from 0. Each sample starts from zeroed states. Pure: never reads a file, never runs a model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.decode import columns_of, rows_of
from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import HeadSpec, VariantSpec

MAX_SAMPLES = 64
MAX_ROWS = 1000  # of a set that are compared one by one
LEAST_SCORE = 0.01  # what is less sure is filling, also where the threshold is 0


class Sample(NamedTuple):
    """fed: what the model gets. outputs: what it must say, by name."""

    fed: NDArray[np.uint8]
    outputs: dict[str, NDArray[Any]]


class Gap(NamedTuple):
    """The output that is furthest from its golden one, measured by its own tolerance."""

    output: str
    difference: float
    tolerance: float

    @property
    def within(self) -> bool:
        return self.difference <= self.tolerance


def difference(wanted: NDArray[Any], got: NDArray[Any]) -> float:
    """Largest absolute difference; of whole numbers, which are classes, the share that differs.

    Infinite where shapes differ or a number is none.
    """
    if wanted.shape != got.shape:
        return math.inf
    if not wanted.size:
        return 0.0
    if wanted.dtype.kind in "iub" and got.dtype.kind in "iub":
        return float(np.count_nonzero(wanted != got)) / wanted.size
    apart = np.abs(wanted.astype(np.float64) - got.astype(np.float64)).max()
    return float(apart) if np.isfinite(apart) else math.inf


def rows_distance(head: HeadSpec, wanted: NDArray[Any], got: NDArray[Any]) -> float:
    """Largest difference between two sets of rows of a `yolo_e2e` or `nms` head.

    Their order and their tail mean nothing: rows of nearly equal scores change places, or come and
    go, from one runtime to the next. So the best scores are compared, and each row that is half as
    sure as a finding with the nearest row of its class in the other set. Infinite where there is
    none, where the rows are of another length, or a number is none.
    """
    tables = [rows_of(head, array).astype(np.float64) for array in (wanted, got)]
    if tables[0].shape[1] != tables[1].shape[1]:
        return math.inf
    if not all(np.isfinite(table).all() for table in tables):
        return math.inf
    columns = columns_of(head)
    score, kind = columns.index("score"), columns.index("class")
    best = [float(table[:, score].max(initial=0.0)) for table in tables]
    apart = abs(best[0] - best[1])
    for these, those in (tables, tables[::-1]):
        for row in these[these[:, score] >= max(head.threshold / 2, LEAST_SCORE)][:MAX_ROWS]:
            same = those[those[:, kind] == row[kind]]
            apart = max(apart, float(np.abs(same - row).max(axis=1).min(initial=np.inf)))
    return apart


def samples(arrays: Mapping[str, NDArray[Any]], origin: str = "golden.npz") -> list[Sample]:
    """All samples of a decoded `golden.npz`, in order.

    Raises: Rejected.
    """
    count = sum(name.startswith("input_") for name in arrays)
    if not 0 < count <= MAX_SAMPLES:
        raise Rejected(
            f"read golden samples {origin}: expected 1 to {MAX_SAMPLES} inputs, got {count}",
            hint="repack the model",
        )
    found = []
    for index in range(count):
        ending = f"_{index}"
        fed = arrays.get(f"input{ending}")
        if fed is None or fed.dtype != np.uint8:
            kind = "none" if fed is None else str(fed.dtype)
            raise Rejected(
                f"read golden samples {origin}: input_{index}: expected uint8, got {kind}",
                hint="repack the model",
            )
        outputs = {
            name.removeprefix("output_").removesuffix(ending): array
            for name, array in arrays.items()
            if name.startswith("output_") and name.endswith(ending)
        }
        found.append(Sample(fed, outputs))
    return found


def row_sets(heads: Iterable[HeadSpec]) -> dict[str, HeadSpec]:
    """The outputs that are sets of rows, and how they are read."""
    return {one.outputs[0]: one for one in heads if one.decoder in {"yolo_e2e", "nms"}}


def distance(head: HeadSpec | None, wanted: NDArray[Any], got: NDArray[Any]) -> float:
    """`difference`, or `rows_distance` where a head reads the output as a set of rows."""
    return difference(wanted, got) if head is None else rows_distance(head, wanted, got)


def widest_gap(
    sample: Sample,
    got: Mapping[str, NDArray[Any]],
    variant: VariantSpec,
    heads: Iterable[HeadSpec] = (),
) -> Gap:
    """An output that is missing is infinitely far. heads: of the manifest."""
    sets = row_sets(heads)
    gaps = [
        Gap(name, distance(sets.get(name), wanted, got[name]) if name in got else math.inf, allowed)
        for name, wanted in sample.outputs.items()
        for allowed in (variant.tolerance_of(name),)
    ]
    return max(gaps, key=lambda gap: gap.difference / gap.tolerance, default=Gap("", 0.0, 1.0))
