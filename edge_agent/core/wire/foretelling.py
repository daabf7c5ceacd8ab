"""The writer's half of `measured`: what is left to say of measures beside the box of their object.

A few are done in plain loops, to the same bit: below some dozens of numbers numpy costs more than
it saves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, cycle
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire.decimals import decimals_of, few_decimals
from edge_agent.core.wire.measured import (
    NOWHERE,
    TENTHS,
    Box,
    Spacing,
    anchors_of,
    anchors_one,
    foretold,
    foretold_one,
    scales_of,
    tenths,
    tenths_one,
)
from edge_agent.core.wire.schema import Parts

Ints = NDArray[np.int64]

FEW_ROWS: Final = 24  # measures; most have two points


def whereabouts(results: Parts) -> tuple[list[Box | None], list[Spacing]]:
    """For each measure the box of its object, and the spacing of its record."""
    boxes: list[Box | None] = []
    spacings: list[Spacing] = []
    columns = (results["objects"], results["measures"], results["spacing_mm"])
    for objects, measures, spacing in zip(*columns, strict=True):
        here = {item.id: item.box for item in reversed(objects)}  # the first one counts
        boxes += [here.get(measure.object) for measure in measures]
        spacings += [spacing] * len(measures)
    return boxes, spacings


def shorten(measures: Parts, groups: Ints | None) -> tuple[list[int], list[int]] | None:
    """(places, distance from what is foretold) of each value; None when one is no short decimal."""
    values, points = measures["value"], measures["points"]
    scales = scales_of(measures["unit"], measures["spacing"])
    if len(values) < FEW_ROWS:
        found = few_decimals(values, None if groups is None else groups.tolist())
        if found is None:
            return None
        lengths = map(foretold_one, points, scales, found[0])
        return found[0], [digits - length for digits, length in zip(found[1], lengths, strict=True)]
    if groups is None:
        groups = np.zeros(len(values), np.int64)
    places, digits_of_all, odd = decimals_of(np.array(values, np.float64), groups)
    if odd.any():
        return None
    rest = digits_of_all - foretold(points, scales, places)
    return places.tolist(), rest.tolist()


def relative(
    points: Sequence[Sequence[float]], boxes: Sequence[Box | None]
) -> tuple[Sequence[int] | Ints, Sequence[int] | Ints] | None:
    """(anchors, distances in tenths) of all numbers; None when one is no tenth."""
    try:
        if len(points) < FEW_ROWS:
            return _few_relative(points, boxes)
        numbers = np.array(list(chain.from_iterable(points)), np.float64)
    except OverflowError:
        return None
    digits = tenths(numbers)
    if not ((digits / TENTHS).view(np.int64) == numbers.view(np.int64)).all():
        return None
    places = anchors_of(boxes, list(map(len, points)))
    nearest = np.abs(digits[:, None] - places).argmin(axis=1)
    return nearest, digits - places[np.arange(len(digits)), nearest]


def _few_relative(
    points: Sequence[Sequence[float]], boxes: Sequence[Box | None]
) -> tuple[list[int], list[int]] | None:
    anchors: list[int] = []
    distances: list[int] = []
    edges: Box = NOWHERE
    places = anchors_one(edges)
    for some, box in zip(points, boxes, strict=True):
        if edges is not box:  # those of one object come one after the other
            edges, places = box or NOWHERE, anchors_one(box)
        for number, here in zip(some, cycle(places), strict=False):
            digits = tenths_one(float(number))
            if digits / TENTHS != number or (not digits and math.copysign(1.0, number) < 0):
                return None
            sizes = [abs(digits - place) for place in here]
            nearest = sizes.index(min(sizes))
            anchors.append(nearest)
            distances.append(digits - here[nearest])
    return anchors, distances
