"""Downloads over bad roads: simulated hours, killed processes, and all faults by chance."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.chunks import CHUNK_BYTES, ChunkTable, write_table
from edge_agent.core.errors import LinkDown
from edge_agent.links.blobs import Download, Fetch, Source
from tests.links.hosts import CONTENT, KIB, Host, flipped, opened, sha

ROOT = Path(__file__).parents[2]


class Time:
    """Simulated: sleeping and sending take as long as they take, at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


SIZE = 200_000_000
PIECE = 64 * KIB


def piece_at(at: int, size: int) -> bytes:
    """Content made from its place: every chunk is another one."""
    start = at - at % PIECE
    whole = b"".join(
        (block // PIECE).to_bytes(8, "big") * (PIECE // 8)
        for block in range(start, at + size, PIECE)
    )
    return whole[at - start :][:size]


@pytest.fixture(scope="module")
def large() -> ChunkTable:
    return write_table(piece_at(at, min(PIECE, SIZE - at)) for at in range(0, SIZE, PIECE))


def large_sha() -> str:
    running = hashlib.sha256()
    for at in range(0, SIZE, PIECE):
        running.update(piece_at(at, min(PIECE, SIZE - at)))
    return running.hexdigest()


def slow_road(time: Time, cuts_s: list[float]) -> Fetch:
    """1 Mbit/s, and down at each of these moments."""

    def fetch(offset: int, most: int) -> Iterator[bytes]:
        for at in range(offset, offset + most, PIECE):
            piece = piece_at(at, min(PIECE, offset + most - at))
            time.now += len(piece) * 8 / 1e6
            if cuts_s and time.now >= cuts_s[0]:
                cuts_s.pop(0)
                yield piece[: len(piece) // 2]
                raise LinkDown("the road is down")
            yield piece

    return fetch


def test_200_megabytes_over_a_megabit_with_a_hundred_cuts(
    tmp_path: Path, large: ChunkTable
) -> None:
    time = Time()
    cuts = [(number + 0.5) * 15.9 for number in range(100)]
    fetch = slow_road(time, cuts)
    sha256 = large_sha()
    fetched = runs = 0
    done: Path | None = None
    while done is None:
        # every other cut also takes the process, and the power with what was not flushed
        with Download(tmp_path / "d", length=SIZE, sha256=sha256, chunks=large) as download:
            for _ in range(2):
                runs += 1
                try:
                    done = download.run(fetch)
                    break
                except LinkDown:
                    time.now += 5
            fetched += download.fetched_bytes
        have = (tmp_path / "d" / "have").read_bytes()
        head = 52
        (tmp_path / "d" / "have").write_bytes(have[:head] + bytes(16) + have[head + 16 :])
    assert not cuts
    assert runs == 101
    assert done.stat().st_size == SIZE
    assert SIZE < fetched <= SIZE + 100 * CHUNK_BYTES


def test_the_pace_is_kept(tmp_path: Path) -> None:
    time = Time()
    content = bytes(1_000_000)
    download = Download(
        tmp_path / "d", length=len(content), sha256=sha(content),
        pace_bytes_per_s=100_000, clock=time.clock, sleep=time.sleep,
    )  # fmt: skip
    with download:
        download.run(Host(content, piece=5000))
    assert time.now == pytest.approx(10, abs=0.3)


CHILD = """
import sys, time
from pathlib import Path
from edge_agent.links.blobs import Download
from tests.links.hosts import Host, opened
def slow(offset, most):
    for piece in Host(piece=64)(offset, most):
        time.sleep(0.002)
        yield piece
with opened(Path(sys.argv[1])) as download:
    print("ready", flush=True)
    download.run(slow)
"""


def test_a_process_that_is_killed_leaves_its_bytes_to_the_next(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "d")],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
    ) as child:  # fmt: skip
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        while not (tmp_path / "d" / "part").stat().st_size > 2 * KIB:
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    there = (tmp_path / "d" / "part").stat().st_size
    with opened(tmp_path / "d") as download:
        assert download.run(Host()).read_bytes() == CONTENT
        assert download.fetched_bytes <= len(CONTENT) - there + 64


FULL = """
import resource, sys
from pathlib import Path
from edge_agent.core.errors import Overloaded
from tests.links.hosts import Host, opened
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
with opened(Path(sys.argv[1])) as download:
    try:
        download.run(Host())
    except Overloaded as error:
        print(error)
"""


def test_a_full_disk_says_so_and_what_is_here_stays(tmp_path: Path) -> None:
    # a limit of the process stands for the disk: both end in an error of the write
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "d")],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True, timeout=30,
    )  # fmt: skip
    assert "expected room for 10247 bytes, the disk is full -> " in done.stdout
    with opened(tmp_path / "d") as download:
        assert download.missing() == list(range(4, 11))
        assert download.run(Host()).read_bytes() == CONTENT
        assert download.fetched_bytes == len(CONTENT) - 4996  # the piece that did not fit


Fault = tuple[str, int]
FAULTS = st.tuples(st.sampled_from(["cut", "die", "flip", "unmark", "lie"]), st.integers(0, 4000))


def hurt(folder: Path, fault: Fault) -> int:
    """What the disk may do; how many bytes that may cost."""
    kind, at = fault
    name = {"flip": "part", "unmark": "have"}.get(kind)
    content = bytearray((folder / name).read_bytes()) if name else bytearray()
    if not content:
        return 0
    content[at % len(content)] ^= 1
    (folder / str(name)).write_bytes(content)
    return KIB if kind == "flip" else len(CONTENT)


@given(faults=st.lists(FAULTS, max_size=5))
@settings(max_examples=25, deadline=None)
def test_whatever_happens_the_file_is_whole_in_the_end(faults: list[Fault]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "d"
        host, fetched, allowed = Host(), 0, len(CONTENT)
        for kind, at in faults:
            host.cut_after = at if kind in {"cut", "die"} else 1500
            liar: list[Source] = []
            if kind == "lie":
                liar = [Source("liar", Host(flipped(CONTENT, at)))]
                allowed += len(CONTENT)
            with opened(folder) as download:
                finish(download, *liar, Source("host", host))
                fetched += download.fetched_bytes
            allowed += hurt(folder, (kind, at)) + KIB
        host.cut_after = -1
        with opened(folder) as download:
            assert download.run(host).read_bytes() == CONTENT
            assert fetched + download.fetched_bytes <= allowed


def finish(download: Download, *sources: Source) -> None:
    try:
        assert download.run(*sources).read_bytes() == CONTENT
    except LinkDown:
        return
