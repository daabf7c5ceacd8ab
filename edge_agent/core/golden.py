"""Golden samples: inputs, and the outputs that every runtime must give for them.

`golden.npz` holds `input_N`, uint8 as the model takes it with its batch axis, and `output_NAME_N`
for N from 0. Each sample starts from zeroed states. Pure: never reads a file, never runs a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import VariantSpec

MAX_SAMPLES = 64


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
        return float("inf")
    if not wanted.size:
        return 0.0
    if wanted.dtype.kind in "iub" and got.dtype.kind in "iub":
        return float(np.count_nonzero(wanted != got)) / wanted.size
    apart = np.abs(wanted.astype(np.float64) - got.astype(np.float64)).max()
    return float(apart) if np.isfinite(apart) else float("inf")


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


def widest_gap(sample: Sample, got: Mapping[str, NDArray[Any]], variant: VariantSpec) -> Gap:
    """An output that is missing is infinitely far."""
    gaps = [
        Gap(name, difference(wanted, got[name]) if name in got else float("inf"), allowed)
        for name, wanted in sample.outputs.items()
        for allowed in (variant.tolerance_of(name),)
    ]
    return max(gaps, key=lambda gap: gap.difference / gap.tolerance, default=Gap("", 0.0, 1.0))
