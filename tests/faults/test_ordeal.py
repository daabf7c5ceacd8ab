"""`tools/faults kill`: a few cycles of it, and that it would see what it is there to see."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.core.frames import Event, to_json
from tools.faulting.content import NODE, content_of, is_right
from tools.faulting.kill import ordeal
from tools.faulting.promises import Found, Told, read_told, verdict
from tools.faulting.ward import Plan

pytestmark = pytest.mark.anyio

KEY = ("us", "event", 1 << 32 | 7)


@pytest.mark.timeout(120)
async def test_whoever_dies_whenever_every_promised_record_is_there_once(tmp_path: Path) -> None:
    found = await ordeal(tmp_path, Plan(cycles=8, seed=5, receiver=0.3, edgecore=0.2))
    assert found["ok"], found
    assert found["promised"] > 100
    assert found["reopen_ms"]["max"] < 2000


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_command_ends_with_one_line_and_its_verdict() -> None:
    command = [sys.executable, "-m", "tools.faulting", "kill", "--cycles", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, found["ok"], found["cycles"]) == (0, True, 1)


def line(seq: int) -> dict[str, Any]:
    record = content_of(Event, "us", epoch=KEY[2], seq=seq, at_us=seq)
    made: dict[str, Any] = msgspec.json.decode(
        to_json(msgspec.structs.replace(record, epoch=KEY[2], seq=seq))
    )
    return made


def all_well() -> tuple[Told, Found]:
    """Three records promised and held, one that was sent and never committed."""
    sheet = {"appended": 3, "acked": 3, "evicted": 0, "corrupt": 0, "records": 0}
    told = Told(next={KEY: 4}, closed={KEY: 4}, reopen_ms=[1.0], sheet=sheet)
    book = {"next": 5, "held": 4, "evicted": 0, "corrupt": 0, "lost": 0, "other": 0, "conflicts": 0}
    lines = [line(seq) for seq in (1, 2, 3, 4)]
    files = {"live": lines, "ordered": copy.deepcopy(lines)}
    return told, Found(held={KEY: {1, 2, 3, 4}}, books={KEY: book}, files=files)


def test_a_record_that_was_sent_and_never_committed_is_no_flaw() -> None:
    result = verdict(*all_well())
    assert result["ok"], result
    assert (result["promised"], result["received"], result["beyond_commit"]) == (3, 4, 1)


def test_a_lost_record_is_seen() -> None:
    told, found = all_well()
    found.held[KEY].discard(2)
    result = verdict(told, found)
    assert (result["lost"], result["ok"]) == (1, False)


def test_a_doubled_record_is_seen() -> None:
    told, found = all_well()
    found.files["live"].append(line(3))
    result = verdict(told, found)
    assert (result["doubled"], result["ok"]) == (1, False)


@pytest.mark.parametrize("name", ["live", "ordered"])
def test_a_record_that_is_in_no_file_is_seen(name: str) -> None:
    told, found = all_well()
    del found.files[name][1]
    result = verdict(told, found)
    assert (result["sheets_exact"], result["ok"]) == (False, False)


def test_a_wrong_record_is_seen() -> None:
    told, found = all_well()
    found.files["ordered"][1]["what"] = line(3)["what"]
    result = verdict(told, found)
    assert (result["wrong"], result["ok"]) == (1, False)


@pytest.mark.parametrize("name", ["acked", "appended", "records"])
def test_a_sheet_that_does_not_add_up_is_seen(name: str) -> None:
    told, found = all_well()
    told.sheet[name] += 1
    result = verdict(told, found)
    assert (result["sheets_exact"], result["ok"]) == (False, False)


def test_somebody_who_still_waits_is_seen() -> None:
    told, found = all_well()
    found.books[KEY]["next"] = 6
    result = verdict(told, found)
    assert (result["waiting"], result["ok"]) == (1, False)


def test_a_torn_line_is_no_promise(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_bytes(b"open 7 12.5\nnext us event 7 4\nnext us event 7 1")
    assert read_told(told).next == {("us", "event", 7): 4}
    assert read_told(told).reopen_ms == [12.5]


def test_content_follows_from_its_identity() -> None:
    assert is_right(line(3))
    assert line(3)["node"] == NODE
    assert not is_right({**line(3), "seq": 4})
