"""A column that holds something else than its field: both decoders say the same of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from edge_agent.core.frames import AnyRecord, RecordClass
from edge_agent.core.wire import flatten, tables
from edge_agent.core.wire.tables import Table
from tests.wire import made
from tests.wire.test_hostile import first, raw_envelope, second, told

ODD: list[Any] = [
    True, 1.0, -0.0, 1.5, -1, 7, 99, (1 << 63) - 1, (1 << 64) - 1, "1", "mm", "raised", None, [],
    [1], ["a", "b"], {"a": 1}, b"x",
]  # fmt: skip


def batches() -> list[list[AnyRecord]]:
    """Of every class, long and short, with everything in them."""
    found: list[list[AnyRecord]] = [made.clip(1), made.clip(3, objects=3), made.clip(20)]
    for klass, some in made.BY_CLASS.items():
        if klass is not RecordClass.RESULT:
            found.append(made.numbered([made.example(some, seed) for seed in range(4)]))
    return [*found, made.numbered([made.example(made.RESULTS, seed) for seed in range(9)])]


def with_odd(table: Table, field: int, odd: Any, chance: random.Random) -> None:
    """In one row or in all of them."""
    values = list(table.columns[field])
    if chance.random() < 0.5:
        values = [odd] * table.rows
    else:
        values[chance.randrange(table.rows)] = odd
    table.columns[field] = values


def bodies(batch: list[AnyRecord], chance: random.Random) -> Iterator[bytes]:
    """Each column spoiled a few times."""
    spots = [
        (at, one) for at, table in enumerate(flatten.tables_of(batch)) for one in table.columns
    ]
    for at, field in spots:
        for odd in chance.sample(ODD, 4):
            found = flatten.tables_of(batch)
            if not found[at].rows:
                continue
            with_odd(found[at], field, odd, chance)
            with suppress(
                TypeError, ValueError
            ):  # what can't be told from its neighbours is no group
                yield tables.encode(found)


@pytest.mark.parametrize("number", range(len(batches())))
def test_both_decoders_agree_on_what_is_of_another_type(number: int) -> None:
    batch = batches()[number]
    for raw in bodies(batch, random.Random(number)):
        envelope = raw_envelope(batch, raw)
        assert told(first(envelope)) == told(second(envelope)), raw.hex()
