"""The shared memory: whatever its ends do in turn, a result is read or counted lost."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import ring
from edge_agent.core.frames import DROPS, Drop
from edge_agent.core.ring import Word


@pytest.fixture(scope="module")
def memory() -> memoryview:
    """One stream's memory, whole; pages cost nothing until touched."""
    return memoryview(mmap.mmap(-1, ring.TOTAL_BYTES))


def fresh(memory: memoryview) -> memoryview:
    ring.Header(memory).words[:] = memoryview(bytes(512)).cast("Q")
    ring.format_header(memory)
    return memory


def slot_at(n: int) -> int:
    return ring.HEADER_BYTES + (n % ring.SLOTS) * ring.SLOT_BYTES


# puts of the first model, puts of another one, then how many of those present are drained
STEP = st.tuples(st.integers(0, 300), st.integers(0, 40), st.integers(0, 2 * ring.SLOTS))


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEP, max_size=8))
def test_every_published_primary_is_read_or_counted_lost(
    memory: memoryview, steps: list[tuple[int, int, int]]
) -> None:
    fresh(memory)
    writer, reader, header = (
        ring.ResultWriter(memory), ring.ResultReader(memory), ring.Header(memory)
    )  # fmt: skip
    written, read = 0, []
    for primaries, extras, drained in steps:
        for _ in range(primaries):
            written += 1
            writer.put(b"p%d" % written, primary=True)
        for _ in range(extras):
            writer.put(b"extra", primary=False)
        source = reader.drain()
        read += [
            body for _, (body, primary) in zip(range(drained), source, strict=False) if primary
        ]
    read += [body for body, primary in reader.drain() if primary]
    reader.settle(header[Word.PUBLISHED])
    assert header[Word.PUBLISHED] == written
    assert len(read) + reader.lost == written
    assert read == sorted(set(read), key=lambda body: int(body[1:])), "in order, none twice"


@settings(max_examples=60, deadline=None)
@given(
    torn=st.sets(st.integers(0, 19), max_size=20),
    at=st.integers(0, ring.BODY_BYTES + 31),
    flip=st.integers(1, 255),
)
def test_a_torn_entry_is_lost_and_never_garbage(
    memory: memoryview, torn: set[int], at: int, flip: int
) -> None:
    fresh(memory)
    writer, reader, header = (
        ring.ResultWriter(memory), ring.ResultReader(memory), ring.Header(memory)
    )  # fmt: skip
    bodies = [bytes([n]) * ring.BODY_BYTES for n in range(20)]
    for body in bodies:
        writer.put(body, primary=True)
    for n in torn:
        memory[slot_at(n) + at] ^= flip
    read = list(reader.drain())
    reader.settle(header[Word.PUBLISHED])
    assert [body for body, _ in read] == [body for n, body in enumerate(bodies) if n not in torn]
    assert all(primary for _, primary in read)
    assert len(read) + reader.lost == 20


def test_an_entry_whose_length_is_torn_is_lost(memory: memoryview) -> None:
    """Found by the test above: a length beyond the slot was cut, and the body still matched."""
    fresh(memory)
    writer, reader = ring.ResultWriter(memory), ring.ResultReader(memory)
    writer.put(b"x" * ring.BODY_BYTES, primary=True)
    memory[slot_at(0) + 27] ^= 1  # a high byte of the length
    assert list(reader.drain()) == []


def test_an_entry_that_is_being_written_is_not_read(memory: memoryview) -> None:
    fresh(memory)
    writer, reader = ring.ResultWriter(memory), ring.ResultReader(memory)
    for _ in range(ring.SLOTS):
        writer.put(b"old", primary=True)
    memory[slot_at(0) : slot_at(0) + 8].cast("Q")[0] = 2 * ring.SLOTS + 1  # the writer began here
    assert sum(1 for _ in reader.drain()) == ring.SLOTS - 1
    assert reader.lost == 1


def test_a_body_larger_than_a_slot_is_refused_before_anything_is_written(
    memory: memoryview,
) -> None:
    fresh(memory)
    writer = ring.ResultWriter(memory)
    writer.put(b"whole", primary=True)
    with pytest.raises(ValueError, match="does not fit a slot of 16384 B"):
        writer.put(bytes(ring.BODY_BYTES + 1), primary=True)
    assert list(ring.ResultReader(memory).drain()) == [(b"whole", True)]


@pytest.mark.parametrize("shape", [(48, 64), (48, 64, 3), (1088, 1920, 3)])
def test_a_frame_comes_back_as_it_was(memory: memoryview, shape: tuple[int, ...]) -> None:
    fresh(memory)
    writer, reader = ring.FrameWriter(memory), ring.FrameReader(memory)
    assert reader.newest() is None
    rng = np.random.default_rng(1)
    for number in range(1, 7):
        pixels = rng.integers(0, 256, shape, np.uint8)
        writer.put(number, number * 1000, pixels)
    view = reader.newest()
    assert view is not None
    assert (view.number, view.captured_us) == (6, 6000)
    assert np.array_equal(view.pixels, pixels)


def test_a_frame_too_large_for_the_ring_is_thinned_out(memory: memoryview) -> None:
    fresh(memory)
    pixels = np.arange(4000 * 3000, dtype=np.uint32).astype(np.uint8).reshape(3000, 4000)
    ring.FrameWriter(memory).put(1, 1, pixels)
    view = ring.FrameReader(memory).newest()
    assert view is not None
    assert np.array_equal(view.pixels, pixels[::2, ::2])


def test_a_torn_frame_is_never_shown(memory: memoryview) -> None:
    fresh(memory)
    ring.FrameWriter(memory).put(1, 1, np.full((48, 64), 7, np.uint8))
    memory[ring.FRAMES_AT + 64 + 100] ^= 1
    assert ring.FrameReader(memory).newest() is None


def test_a_header_copied_stands_still(memory: memoryview) -> None:
    fresh(memory)
    header = ring.Header(memory)
    header.add(Word.CAPTURED, 5)
    still = header.still()
    header.add(Word.CAPTURED)
    header.drop(Drop.LATE)
    assert still[Word.CAPTURED] == still.in_flight() == 5
    assert header.in_flight() == 5
    assert header.dropped() == {why: int(why is Drop.LATE) for why in DROPS}


def test_memory_of_another_version_is_refused(memory: memoryview) -> None:
    fresh(memory)
    ring.check_header(memory)
    ring.Header(memory)[Word.MAGIC] = 7
    with pytest.raises(ValueError, match="differ in version"):
        ring.check_header(memory)
    with pytest.raises(ValueError, match="expected"):
        ring.format_header(memory[:100])
