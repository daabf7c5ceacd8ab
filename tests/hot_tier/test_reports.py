"""No report file's error ends the hot tier: told once, tried again, told when it is over."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests import house
from tests.disks import fill_up, make_read_only, small_disk
from tests.hot_tier.wire import batch, bundle, lines
from tests.trust.site import Site
from tools.hot_tier import HotTier, HttpRoad
from tools.hot_tier.announcer import Announcer, announce
from tools.hot_tier.notices import Notices
from tools.hot_tier.sheet_file import SheetFile
from tools.hot_tier.wanted import Change, move

pytestmark = pytest.mark.anyio
FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is tried again without a second's wait."""
    monkeypatch.setattr("tools.hot_tier.tier.FULL_PAUSE_S", 0.05)


def codes(tier: HotTier) -> list[str]:
    found = [one["code"] for one in tier.sheet()["problems"]]
    return [code for code in found if code != "no-way-back"]  # there is no Router here


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.02)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def missing(place: Path) -> None:
    """Nothing is there, not even its folder."""


def a_file_for_a_folder(place: Path) -> None:
    place.parent.write_bytes(b"")


def a_folder_for_a_file(place: Path) -> None:
    place.mkdir(parents=True)


def mended(place: Path) -> None:
    if place.is_dir():
        place.rmdir()
    if place.parent.is_file():
        place.parent.unlink()
    place.parent.mkdir(exist_ok=True)


@pytest.mark.parametrize("spoil", [missing, a_file_for_a_folder, a_folder_for_a_file])
async def test_a_sheet_that_cannot_be_written_is_told_and_tried_again(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    place = tmp_path / "reports" / "sheet.json"
    spoil(place)
    notices = Notices()
    file = SheetFile(place, lambda: {"schema": 1}, notices, every_s=0.01)
    async with anyio.create_task_group() as group:
        group.start_soon(file.keep, lambda: None)
        await until(lambda: bool(notices.problems()))
        (one,) = notices.problems()
        assert one["code"] == "sheet"
        assert one["what"].startswith("write --sheet: ")
        assert one["fix"]
        mended(place)
        await until(lambda: not notices.problems())
        group.cancel_scope.cancel()
    assert json.loads(place.read_bytes()) == {"schema": 1}
    await until(lambda: names(place.parent) == {"sheet.json"})  # a last write may be under way


async def test_a_sheet_on_a_disk_that_is_full_or_read_only_is_told(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 18) as can:
        if not can:
            pytest.skip("needs to mount a disk of its own")
        notices = Notices()
        file = SheetFile(tmp_path / "disk" / "sheet", lambda: {"schema": 1}, notices)
        fill_up(tmp_path / "disk" / "filler")
        assert not await file.write()
        assert notices.problems()[0]["fix"] == "make room on its disk"
        (tmp_path / "disk" / "filler").unlink()
        assert await file.write()
        make_read_only(tmp_path / "disk")
        assert not await file.write()
        make_read_only(tmp_path / "disk", read_only=False)
        assert await file.write()
        assert notices.problems() == []


@pytest.mark.parametrize("form", ["live", "ordered"])
@pytest.mark.parametrize("spoil", [missing, a_file_for_a_folder, a_folder_for_a_file])
async def test_an_output_that_cannot_be_written_holds_up_neither_the_other_nor_the_tier(
    tmp_path: Path, spoil: Callable[[Path], None], form: str
) -> None:
    place, other = tmp_path / "reports" / "out.jsonl", tmp_path / "other.jsonl"
    spoil(place)
    files: dict[str, Any] = {form: place, "ordered" if form == "live" else "live": other}
    async with HotTier(tmp_path / "db", HttpRoad(0), **files) as tier:
        tier.deliver(bundle(batch(1, 3)))
        await until(lambda: other.exists() and len(other.read_bytes().splitlines()) == 3)
        await until(lambda: codes(tier) == ["output"])
        assert f"--{form}" in tier.sheet()["problems"][0]["what"]
        mended(place)
        with anyio.fail_after(10):
            await tier.settle()
        assert codes(tier) == []
    assert [one["seq"] for one in lines(place.read_bytes())] == [1, 2, 3]


async def test_an_output_whose_disk_is_full_is_told(tmp_path: Path) -> None:
    link = tmp_path / "out.jsonl"
    link.symlink_to(FULL)
    async with HotTier(tmp_path / "db", HttpRoad(0), live=link) as tier:
        tier.deliver(bundle(batch(1, 3)))
        await until(lambda: codes(tier) == ["output"])
        await until(lambda: tier.sheet()["total"]["held"] == 3)


async def test_an_output_that_is_a_pipe_without_a_reader_holds_nothing_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    async with HotTier(tmp_path / "db", HttpRoad(0), live=tmp_path / "pipe") as tier:
        tier.deliver(bundle(batch(1, 3)))
        await until(lambda: tier.sheet()["total"]["held"] == 3)
        await until(lambda: codes(tier) == ["output"])


async def test_an_output_that_is_taken_away_is_written_anew_and_holds_no_zeros(
    tmp_path: Path,
) -> None:
    """Somebody rotates logs: what followed was behind a hole as long as the file had been."""
    live = tmp_path / "live.jsonl"
    async with HotTier(tmp_path / "db", HttpRoad(0), live=live) as tier:
        tier.deliver(bundle(batch(1, 3)))
        await tier.settle()
        live.rename(tmp_path / "live.jsonl.1")
        tier.deliver(bundle(batch(4, 5)))
        await tier.settle()
    assert [one["seq"] for one in lines(live.read_bytes())] == [1, 2, 3, 4, 5]


# ── the repository ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff", b"[" * 100_000, b'{"signed":1}'])
async def test_a_repository_that_cannot_be_read_is_told_and_read_again(
    tmp_path: Path, content: bytes | None
) -> None:
    site = Site(tmp_path)
    move(site.house, Change(), node="a")
    stamp = site.folder / "metadata" / "timestamp.json"
    good = stamp.read_bytes()
    stamp.unlink()
    if content is not None:
        stamp.write_bytes(content)
    announcer = Announcer(site.folder)
    async with (
        HotTier(tmp_path / "db", HttpRoad(0)) as tier,
        anyio.create_task_group() as group,
    ):
        group.start_soon(lambda: announce(tier, announcer, every_s=0.02))
        await until(lambda: codes(tier) == ["repository"])
        stamp.write_bytes(good)
        await until(lambda: codes(tier) == [])
        announcer.heard("a", b"[" * 100_000)
        announcer.heard("a", b"")
        assert [letter.what for letter in announcer.due(0)][-1] == "desired"
        group.cancel_scope.cancel()


# ── the process ───────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def receiving(folder: Path, *words: str, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tools.hot_tier", "receive", "--http", "0"]
    command += ["--db", str(folder / "db"), *words]
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    process = subprocess.Popen(command, cwd=house.ROOT, **more)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


async def test_a_process_with_broken_reports_runs_says_so_once_and_ends_in_peace(
    tmp_path: Path,
) -> None:
    """`--sheet` on a missing folder ended the hot tier with a traceback."""
    away = tmp_path / "away"
    words = ["--sheet", str(away / "sheet"), "--live", str(away / "live")]
    words += ["--repository", str(away)]
    with receiving(tmp_path, *words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["rx"]
        await anyio.sleep(3)
        assert process.poll() is None
        process.terminate()
        said = process.stderr.read().decode()
        assert process.wait(30) == 0
    for words_of in ("--sheet", "--repository", "--live"):
        assert said.count(words_of) == 1
    assert "Traceback" not in said


async def test_nobody_has_to_read_the_ready_line(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with receiving(tmp_path, "--sheet", str(tmp_path / "sheet"), stdout=writing) as process:
        os.close(writing)
        await until((tmp_path / "sheet").exists)
        process.terminate()
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.wait(30) == 0
    assert "Traceback" not in said


async def test_a_sheet_takes_no_devices_place(tmp_path: Path) -> None:
    """Found by `--sheet /dev/full` as root, which was a file of the sheet's afterwards."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    notices = Notices()
    sheet = SheetFile(pipe, dict, notices)
    assert not await sheet.write()
    assert pipe.is_fifo()
    assert names(tmp_path) == {"pipe"}
    pipe.unlink()
    assert await sheet.write()
    assert pipe.is_file()
