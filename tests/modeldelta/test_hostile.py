"""Deltas that are damaged, cut, forged or for another base: refused, in bounded memory."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import Rejected
from edge_agent.core.modeldelta import apply, encode, inspect, snap
from edge_agent.core.wire.cursor import varint
from tests.modeldelta import made

ROOT = Path(__file__).parents[2]
MANY = 1 << 30
MAX_MB = 96  # base, result and one lane are small here: a window and a primer


def cases() -> list[tuple[bytes, bytes, bytes]]:
    """(base, new, delta) of each mode."""
    net = made.weights(layers=2, width=12)
    half = made.weights(layers=2, width=12, dtype="f2")
    base, tuned = made.onnx_file(net), made.onnx_file(made.tuned(net))
    pairs = [
        (made.model(net), made.model(net, version="1.0.1")),
        (made.model(net), made.model(made.tuned(net))),
        (made.model(half), made.model(made.tuned(half))),
        (base, snap(base, tuned)),
        (b"", made.model(net)),
        (b"the quick brown fox" * 20, b"the quick red fox" * 20),
    ]
    return [(base, new, encode(base, new)) for base, new in pairs]


CASES = cases()


def resealed(delta: bytes) -> bytes:
    """As a forger would: with the right check."""
    return delta[:-8] + xxhash.xxh3_64_digest(delta[:-8])


def refused_or_exact(base: bytes, delta: bytes, new: bytes) -> None:
    try:
        assert apply(base, delta, max_bytes=len(new) * 2) == new
    except Rejected:
        return


@pytest.mark.parametrize("case", CASES)
def test_no_cut_and_no_flip_of_a_bit_gets_through(case: tuple[bytes, bytes, bytes]) -> None:
    base, _, delta = case
    chance = random.Random(1)
    bits = range(len(delta) * 8)
    for bit in chance.sample(bits, min(2000, len(bits))):
        bad = bytearray(delta)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Rejected):
            apply(base, bytes(bad), max_bytes=MANY)
    for end in chance.sample(range(len(delta)), min(500, len(delta))):
        with pytest.raises(Rejected):
            apply(base, delta[:end], max_bytes=MANY)
    with pytest.raises(Rejected):
        apply(base, delta + b"\0", max_bytes=MANY)


@pytest.mark.parametrize("case", CASES)
def test_another_base_is_refused_before_anything_is_made(case: tuple[bytes, bytes, bytes]) -> None:
    base, new, delta = case
    if not inspect(delta).base:
        pytest.skip("this one needs no base")
    for other in (b"", base[:-1], base + b"\0", base[:-1] + bytes((base[-1] ^ 1,)), new):
        with pytest.raises(Rejected, match="expected") as told:
            apply(other, delta, max_bytes=MANY)
        assert told.value.hint == "fetch the whole package"


@given(number=st.integers(0, len(CASES) - 1), chance=st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_a_forged_delta_is_refused_or_exact(number: int, chance: random.Random) -> None:
    base, new, delta = CASES[number]
    bad = bytearray(delta)
    reach = chance.choice([110, 200, len(bad)])  # the head is where the lengths are
    for _ in range(chance.randint(1, 3)):
        bad[chance.randrange(min(reach, len(bad) - 8))] = chance.randrange(256)
    if chance.random() < 0.3:
        at = chance.randrange(76, len(bad) - 8)
        del bad[at : at + chance.randint(1, 9)]
    tracemalloc.start()
    try:
        refused_or_exact(base, resealed(bytes(bad)), new)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MAX_MB << 20


def forged(
    result_len: int,
    *,
    lanes: bytes = b"\0",
    spans: bytes = b"\0\0\0",
    rest: bytes = b"\0\0",
    base: bytes = b"",
    result: bytes = b"",
) -> bytes:
    """A delta by hand; spans, rest and all behind as they are given."""
    names = (hashlib.sha256(base).digest() if base else bytes(32)) + hashlib.sha256(result).digest()
    sizes = varint(len(base)) + varint(result_len)
    return resealed(b"EAD\x01" + names + sizes + lanes + spans + rest + bytes(8))


def zipped(raw: bytes) -> bytes:
    frame = zstandard.ZstdCompressor().compress(raw)
    return varint(len(frame)) + frame


def table(*numbers: int, count: int = 1) -> bytes:
    raw = b"".join(map(varint, numbers))
    return varint(count) + varint(len(raw)) + zipped(raw)


ZEROS = bytes(1 << 24)
BASE = b"base" * 100
FORGED = {
    "more than is allowed": forged(MANY + 1),
    "a result that nothing fills": forged(1 << 20),
    "a rest that is longer than its gaps": forged(10, rest=b"\0" + zipped(ZEROS)),
    "a rest that is shorter than its gaps": forged(1 << 22, rest=b"\0" + zipped(b"abc")),
    "a rest without a frame": forged(10, rest=b"\0\3abc"),
    "a table that is longer than it says": forged(9, spans=b"\1\3" + zipped(ZEROS)),
    "a table that says too much": forged(9, spans=b"\1" + varint(1 << 21) + zipped(ZEROS)),
    "too many spans": forged(9, spans=varint(1 << 18) + b"\3" + zipped(b"\0\0\0")),
    "too many lanes": forged(9, lanes=varint(1 << 15)),
    "a lane of an unknown kind": forged(9, lanes=b"\1\x09\0"),
    "a lane of an unknown form": forged(9, lanes=b"\1\1\3"),
    "a residual of nothing": forged(9, lanes=b"\1\1\1"),
    "snapped bytes": forged(9, lanes=b"\1\1\2", base=BASE),
    "a span beyond the result": forged(9, lanes=b"\1\1\0", spans=table(0, 10, 1)),
    "a gap beyond the result": forged(9, lanes=b"\1\1\0", spans=table(10, 0, 1)),
    "a span of no lane": forged(9, spans=table(0, 9, 1)),
    "a copy without a base": forged(9, spans=table(0, 9, 0, 0)),
    "a copy from before the base": forged(9, spans=table(0, 9, 0, 1), base=BASE),
    "a copy from behind the base": forged(9, spans=table(0, 9, 0, 784), base=BASE),
    "half a number": forged(9, lanes=b"\1\7\0", spans=table(0, 9, 1)),
    "a lane that is too large": forged(1 << 23, lanes=b"\1\1\0", spans=table(0, 1 << 23, 1)),
    "a plane that is longer than its lane": forged(
        9, lanes=b"\1\1\0", spans=table(0, 9, 1), rest=b"\0\0\x08" + zipped(ZEROS)
    ),
    "a plane that is cut": forged(9, lanes=b"\1\1\0", spans=table(0, 9, 1), rest=b"\0\0\x08 "),
    "a plane of three bits": forged(
        9, lanes=b"\1\1\0", spans=table(0, 9, 1), rest=b"\0\0\3" + zipped(b"1234")
    ),
    "an endless varint": forged(9, lanes=b"\xff" * 12),
    "another result": forged(9, rest=b"\0" + zipped(b"x" * 9), result=b"y" * 9),
    "something behind the end": forged(1, rest=b"\0" + zipped(b"x") + b"more", result=b"x"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_lie_is_refused_in_little_memory(what: str) -> None:
    base = BASE if FORGED[what][4:36] != bytes(32) else b""
    tracemalloc.start()
    try:
        with pytest.raises(Rejected, match=r"model delta"):
            apply(base, FORGED[what], max_bytes=1 << 24)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


def test_what_is_whole_by_hand_is_taken() -> None:
    delta = forged(9, rest=b"\0" + zipped(b"x" * 9), result=b"x" * 9)
    assert apply(b"", delta, max_bytes=9) == b"x" * 9


def test_a_newer_version_says_so() -> None:
    with pytest.raises(Rejected, match="expected version 1, got 2") as told:
        inspect(resealed(b"EAD\x02" + CASES[0][2][4:]))
    assert told.value.hint == "fetch the whole package"


BOMB = """
import resource, sys
from edge_agent.core.errors import Rejected
from edge_agent.core.modeldelta import apply
from tests.modeldelta.test_hostile import bombs
made = bombs()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for bomb in made:
    try:
        apply(b"", bomb, max_bytes=1 << 20)
    except Rejected:
        continue
    sys.exit("a bomb was taken")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def bombs() -> list[bytes]:
    """A gigabyte of zeros as the rest, with and without its size; a window of 2 GiB."""
    made = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    piece = bytes(1 << 24)
    endless = b"".join([*(made.compress(piece) for _ in range(64)), made.flush()])
    window = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
    wide = zstandard.ZstdCompressor(compression_params=window).compressobj()
    wide_frame = wide.compress(piece) + wide.flush()
    rests = [varint(len(frame)) + frame for frame in (endless, wide_frame)]
    lying = [forged(1 << 20, rest=b"\0" + rest) for rest in rests]
    planes = [forged(9, lanes=b"\1\1\0", spans=table(0, 9, 1), rest=b"\0\0\x08" + r) for r in rests]
    return lying + planes + [forged(9, spans=b"\1\3" + rest) for rest in rests]


def test_bombs_are_refused_without_going_off() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOMB], cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=50, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 64 * 1024, "KiB more than before"
