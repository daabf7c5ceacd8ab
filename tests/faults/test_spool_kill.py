"""Killed at any moment: all that was promised is there, nothing twice, starts are quick."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import LogKey
from tests.stores.spooling import NODE, everything, is_balanced, open_small

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(180)]

CYCLES = 12  # `tools/faults kill` does a hundred
REOPEN_S = 2.0


def run_and_kill(path: Path, lines: int, then_s: float) -> list[str]:
    """What a child said that was killed a moment after it had said so many lines."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.spool_child", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        said_first = [child.stdout.readline() for _ in range(lines)]
        time.sleep(then_s)
    finally:
        child.kill()  # also when the test itself is timed out
        rest, said = child.communicate(timeout=20)
    assert said_first[0] == b"ready\n", said.decode()
    assert child.returncode == -9, said.decode()
    every = [*said_first[1:], *rest.splitlines(keepends=True)]
    return [line.decode() for line in every if line.endswith(b"\n")]


async def test_what_was_promised_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    dice = random.Random(7)
    path = tmp_path / "spool.db"
    promised: dict[LogKey, int] = {}
    upto: dict[LogKey, int] = {}
    for _ in range(CYCLES):
        for line in run_and_kill(path, dice.randint(1, 60), dice.uniform(0.0, 0.02)):
            word, stream, klass, epoch, number = line.split()
            book = promised if word == "next" else upto
            book[LogKey(NODE, stream, RecordClass(klass), int(epoch))] = int(number)
    start = time.monotonic()
    spool = open_small(path)
    assert time.monotonic() - start < REOPEN_S
    found = await everything(spool)
    logs = {log.key: log for log in spool.logs()}
    assert len(promised) >= CYCLES
    for key, following in promised.items():
        log = logs[key]
        assert log.next >= following
        assert log.upto >= upto.get(key, 0)
        assert found.get(key, []) == list(range(log.floor, log.next))
    assert spool.stats().corrupt == spool.stats().evicted == 0
    assert len({key.epoch for key in logs}) == len({key.epoch >> 32 for key in logs}) <= CYCLES
    assert is_balanced(spool)
    spool.close()
