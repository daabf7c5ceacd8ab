"""Run lengths: exactly the samples, or damage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import rle
from edge_agent.core.jpeg import Damaged


def packed(segments: list[bytes]) -> bytes:
    """Runs of equal bytes by their length, the rest as it is; padded to even."""
    bodies = []
    for segment in segments:
        body = b""
        at = 0
        while at < len(segment):
            run = 1
            while run < 128 and segment[at : at + run + 1] == segment[at : at + 1] * (run + 1):
                run += 1
            body += bytes([257 - run if run > 1 else 0, segment[at]])
            at += run
        bodies.append(body + b"\0" * (len(body) % 2))
    offsets = [64 + sum(map(len, bodies[:number])) for number in range(len(bodies))]
    return struct.pack("<16L", len(bodies), *offsets, *[0] * (15 - len(bodies))) + b"".join(bodies)


SEGMENTS = st.integers(1, 150).flatmap(
    lambda samples: st.lists(
        st.lists(st.sampled_from([0, 0, 0, 7, 255]), min_size=samples, max_size=samples).map(bytes),
        min_size=1,
        max_size=3,
    )
)


@settings(deadline=None, max_examples=50)
@given(segments=SEGMENTS)
def test_what_was_packed_comes_out(segments: list[bytes]) -> None:
    data = packed(segments)
    assert rle.unpack(data, segments=len(segments), samples=len(segments[0])) == segments


@settings(deadline=None, max_examples=50)
@given(segments=SEGMENTS, change=st.sampled_from(["more", "fewer", "another number", "cut"]))
def test_more_or_fewer_samples_are_damage(segments: list[bytes], change: str) -> None:
    many, samples, data = len(segments), len(segments[0]), packed(segments)
    if change == "cut":
        data = data[: 64 + (len(data) - 64) // 3]
    elif change == "another number":
        many += 1
    else:
        samples += 3 if change == "more" else -3
    if samples < 1:
        return
    with pytest.raises(Damaged):
        rle.unpack(data, segments=many, samples=samples)


@settings(deadline=None, max_examples=50)
@given(
    data=st.binary(max_size=90),
    segments=st.integers(1, 3),
    samples=st.integers(1, 20),
)
def test_any_bytes_are_samples_or_damage(data: bytes, segments: int, samples: int) -> None:
    head = struct.pack(
        "<16L", segments, *(64 + 5 * n for n in range(segments)), *[0] * (15 - segments)
    )
    try:
        found = rle.unpack(head + data, segments=segments, samples=samples)
    except Damaged:
        return
    assert [len(one) for one in found] == [samples] * segments
