"""A record always fits its slot, and says when something had to go."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.core import ring
from edge_agent.core.frames import Label, Mask, Measure, Object, Result, pack, unpack
from edge_agent.inference.record import FLAGS, fit

LONG = "x" * 4000


def found(number: int, *, mask: Mask | None = None, points: int = 0) -> Object:
    return Object(
        id=number,
        track=number,
        head="h",
        label="l",
        score=0.5,
        box=(1.0, 2.0, 3.0, 4.0),
        mask=mask,
        keypoints=((1.5, 2.5, 0.5),) * points,
    )


def measured(number: int | None, name: str = "area") -> Measure:
    return Measure(name=name, value=1.5, unit="px2", object=number, points=(1.0,) * 8)


def result(**fields: object) -> Result:
    plain = Result(node="n" * 63, stream="s" * 63, model="m" * 63, version="v" * 64)
    return msgspec.structs.replace(plain, **fields)


def test_a_record_that_fits_is_left_as_it_is() -> None:
    whole = result(objects=(found(1),), measures=(measured(1),), flags=("replay",))
    kept, body = fit(whole)
    assert kept is whole
    assert unpack(body) == whole


def test_contours_go_first() -> None:
    ring_of = tuple(range(5000))
    mask = Mask(area_px=100, box=(0, 0, 10, 10), rings=(ring_of, ring_of))
    kept, body = fit(result(objects=(found(1, mask=mask), found(2)), measures=(measured(1),)))
    assert len(body) <= ring.BODY_BYTES
    assert [o.id for o in kept.objects] == [1, 2]
    assert kept.objects[0].mask is None
    assert kept.measures == (measured(1),)
    assert kept.flags == ("truncated",)
    assert unpack(body) == kept


def test_then_the_tail_of_objects_with_their_measures() -> None:
    objects = tuple(found(n, points=40) for n in range(1, 101))
    measures = (*(measured(n) for n in range(1, 64)), measured(None, "all"))
    kept, body = fit(result(objects=objects, measures=measures))
    assert len(body) <= ring.BODY_BYTES
    left = {o.id for o in kept.objects}
    assert left == set(range(1, len(left) + 1)), "the best come first and stay"
    assert {m.object for m in kept.measures} <= left | {None}
    assert measured(None, "all") in kept.measures


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": tuple(Label(head="h", label=LONG, score=0.5) for _ in range(20))},
        {"measures": tuple(measured(None, LONG) for _ in range(64))},
        {
            "objects": (found(1, points=4000),),
            "labels": (Label(head="h", label=LONG * 5, score=0.5),),
            "measures": (measured(None, LONG * 5),),
        },
    ],
    ids=["labels", "measures", "all"],
)
def test_words_of_a_manifest_without_measure_never_end_the_side(fields: dict[str, object]) -> None:
    """A slot that is too small raises in the lane: one odd manifest ended every stream."""
    kept, body = fit(result(**fields))
    assert len(body) <= ring.BODY_BYTES
    assert body == pack(kept)
    assert "truncated" in kept.flags


def test_flags_stay_in_the_order_of_the_schema() -> None:
    objects = tuple(found(n, points=40) for n in range(1, 101))
    kept, _ = fit(result(objects=objects, flags=("replay", "low_quality")))
    assert kept.flags == ("replay", "truncated", "low_quality")
    assert list(kept.flags) == sorted(kept.flags, key=FLAGS.index)
