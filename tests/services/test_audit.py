from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest

from edge_agent.config.structs import SuperviseConfig
from edge_agent.core.audit import Draft, Head
from edge_agent.core.errors import Damaged
from edge_agent.host import SystemClock
from edge_agent.services.audit import MAX_WAITING, Auditor, stamper
from edge_agent.stores.audit import AuditLog, check
from edge_agent.supervise import Health, rooms
from tests.core.test_audit import STAMP
from tests.faults.power import QuickDisk

pytestmark = pytest.mark.anyio


class Slow:
    """A real log behind a disk that waits until it may, or refuses."""

    def __init__(self, folder: Path) -> None:
        self.log = AuditLog(folder, stamp=lambda: STAMP, disk=QuickDisk())
        self.may = threading.Event()
        self.may.set()
        self.refuses = False
        self.batches: list[int] = []

    def open(self) -> Head:
        return self.log.open()

    def append(self, entries: list[Draft]) -> Head:
        assert self.may.wait(10)
        if self.refuses:
            raise Damaged("write audit log: Input/output error", hint="check the disk")
        self.batches.append(len(entries))
        return self.log.append(entries)

    def close(self) -> None:
        self.log.close()


def an_auditor(ledger: Slow) -> Auditor:
    return Auditor(ledger, stamp=stamper(SystemClock(), "0badc0de"), again_s=0.05)


@pytest.mark.usefixtures("quiet_loop")
async def test_what_is_recorded_is_on_the_disk(tmp_path: Path) -> None:
    ledger = Slow(tmp_path)
    auditor = an_auditor(ledger)
    async with anyio.create_task_group() as group:
        await group.start(_run, auditor)
        head = await auditor.record("uid 0", "model-pinned", "us-chamber", version="1.0.0")
        found = await anyio.to_thread.run_sync(check, tmp_path, [head])
        assert (found.head, found.faults, auditor.head) == (head, [], head)
        group.cancel_scope.cancel()


async def test_notes_never_wait_and_are_written_in_their_order(tmp_path: Path) -> None:
    ledger = Slow(tmp_path)
    auditor = an_auditor(ledger)
    async with anyio.create_task_group() as group:
        await group.start(_run, auditor)
        ledger.may.clear()
        for number in range(300):
            assert auditor.note("agent", "told", "", n=number)
        ledger.may.set()
        await auditor.record("agent", "told", "", n=300)
        group.cancel_scope.cancel()
    text = (tmp_path / "audit.log").read_text()
    assert [text.index(f'"n":{n}}}') for n in range(301)] == sorted(
        text.index(f'"n":{n}}}') for n in range(301)
    )
    assert len(ledger.batches) < 10


async def test_what_finds_no_place_is_counted_and_told(tmp_path: Path) -> None:
    ledger = Slow(tmp_path)
    auditor = an_auditor(ledger)
    kept = [auditor.note("agent", "told", "", n=n) for n in range(MAX_WAITING + 5)]
    assert (kept.count(True), auditor.missed) == (MAX_WAITING, 5)
    async with anyio.create_task_group() as group:
        await group.start(_run, auditor)
        with anyio.fail_after(10):
            while auditor.head.entries < MAX_WAITING + 1:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert auditor.missed == 0
    text = (tmp_path / "audit.log").read_text()
    assert text.count('"what":"audit-gap"') == 1
    assert '"detail":{"entries":5}' in text


async def test_a_disk_that_refuses_is_said_and_notes_wait_for_it(tmp_path: Path) -> None:
    ledger = Slow(tmp_path)
    auditor = an_auditor(ledger)
    async with anyio.create_task_group() as group:
        await group.start(_run, auditor)
        ledger.refuses = True
        assert auditor.note("agent", "told", "first")
        with pytest.raises(Damaged, match="Input/output error"):
            await auditor.record("uid 0", "model-pinned", "us-chamber")
        assert auditor.trouble is not None
        assert auditor.trouble.fix == "check the disk"
        ledger.refuses = False
        head = await auditor.record("uid 0", "model-pinned", "us-chamber")
        assert head.entries == 2  # the refused one was not kept
        group.cancel_scope.cancel()
    assert '"object":"first"' in (tmp_path / "audit.log").read_text()


async def test_the_queue_is_written_out_at_shutdown(tmp_path: Path) -> None:
    ledger = Slow(tmp_path)
    auditor = an_auditor(ledger)
    async with anyio.create_task_group() as group:
        await group.start(_run, auditor)
        for number in range(500):
            auditor.note("agent", "told", "", n=number)
        group.cancel_scope.cancel()
    found = check(tmp_path)
    assert (found.entries, found.faults) == (500, [])


async def _run(auditor: Auditor, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await auditor.run(task_status.started)


class Unset(SystemClock):
    def utc_offset_us(self) -> tuple[int | None, int | None]:
        return None, None


def test_without_a_wall_clock_the_boot_clock_tells_the_order() -> None:
    stamp = stamper(Unset(), "0badc0de")
    one, two = stamp(), stamp()
    assert (one.utc_us, one.boot) == (None, "0badc0de")
    assert one.boot_us <= two.boot_us


async def test_the_room_is_drained_by_the_house(tmp_path: Path) -> None:
    ledger = Slow(tmp_path)
    auditor = an_auditor(ledger)
    health = Health(SystemClock())
    async with rooms("house", config=SuperviseConfig(), on_state=health.note) as house:
        await house.start("audit", auditor.run)
        auditor.note("agent", "stopped")
    found = await anyio.to_thread.run_sync(check, tmp_path)
    assert (found.entries, found.faults) == (1, [])
