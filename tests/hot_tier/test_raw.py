"""`--raw`: payloads as they came, the newest, in so many bytes, whatever the disk does."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from edge_agent.core.wire import armour
from tests.hot_tier.wire import batch, bundle
from tools.hot_tier import HotTier, HttpRoad
from tools.hot_tier.notices import Notices
from tools.hot_tier.raw_file import MAX_WAITING_BYTES, RawFile

pytestmark = pytest.mark.anyio
PAYLOADS = [bundle(batch(n, n)) for n in range(1, 30)]


def lines(path: Path) -> list[bytes]:
    content = path.read_bytes()
    assert content.endswith(b"\n")
    return content.splitlines()


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.01)


async def test_each_payload_is_a_line_that_can_be_read_as_it_came(tmp_path: Path) -> None:
    raw = RawFile(tmp_path / "raw", Notices())
    async with HotTier(tmp_path / "db", HttpRoad(0), raw=raw.keep) as tier:
        for payload in (*PAYLOADS, b"garbage", b"two\nlines", b"x" * 300_000):
            tier.deliver(payload)
        await tier.settle()
        assert await raw.write()
    assert lines(tmp_path / "raw") == [*PAYLOADS, b"garbage"]
    assert [armour.unpack(line).carrier for line in lines(tmp_path / "raw")[:-1]] == ["a"] * 29
    assert (tmp_path / "raw").stat().st_mode & 0o077 == 0


async def test_the_newest_are_kept_within_the_bound(tmp_path: Path) -> None:
    raw = RawFile(tmp_path / "raw", Notices(), max_bytes=2000)
    sent = []
    for n in range(200):
        sent.append(b"%040d" % n)
        raw.keep(sent[-1])
        assert await raw.write()
        assert size_of(tmp_path) <= 2000
    kept = lines(tmp_path / "raw.1") + lines(tmp_path / "raw")
    assert kept == sent[-len(kept) :]
    assert len(kept) > 20


async def test_much_that_waits_at_once_stays_within_the_bound_too(tmp_path: Path) -> None:
    raw = RawFile(tmp_path / "raw", Notices(), max_bytes=2000)
    for n in range(200):
        raw.keep(b"%040d" % n)
    assert await raw.write()
    assert size_of(tmp_path) <= 2000
    assert lines(tmp_path / "raw")[-1] == b"%040d" % 199


async def test_what_a_crash_left_is_cut_and_the_file_goes_on(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"one\ntwo\nhal")
    raw = RawFile(tmp_path / "raw", Notices())
    raw.keep(b"three")
    assert await raw.write()
    assert lines(tmp_path / "raw") == [b"one", b"two", b"three"]
    (tmp_path / "raw").unlink()  # somebody rotates
    raw.keep(b"four")
    assert await raw.write()
    assert lines(tmp_path / "raw") == [b"four"]


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "full"])
async def test_a_place_that_takes_nothing_is_told_and_blocks_nobody(
    tmp_path: Path, kind: str
) -> None:
    notices, place = Notices(), tmp_path / "there" / "raw"
    if kind != "missing":
        place.parent.mkdir()
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "full":
        place.symlink_to("/dev/full")
    raw = RawFile(place, notices, pause_s=0.01)
    async with anyio.create_task_group() as group:
        group.start_soon(raw.run, lambda: None)
        raw.keep(b"one")
        await until(lambda: [one["code"] for one in notices.problems()] == ["raw"])
        for _ in range(MAX_WAITING_BYTES // 200_000 + 10):
            raw.keep(random.randbytes(100_000).hex().encode())
        assert notices.counts["raw_dropped"] > 0
        if kind == "missing":
            place.parent.mkdir()
        elif kind == "folder":
            place.rmdir()
        else:
            place.unlink()
        await until(lambda: "raw" not in [one["code"] for one in notices.problems()])
        group.cancel_scope.cancel()
    assert lines(place)[0] == b"one"
