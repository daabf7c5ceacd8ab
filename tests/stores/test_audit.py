from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import BinaryIO

import pytest

from edge_agent.core import audit
from edge_agent.core.audit import Head
from edge_agent.core.errors import Damaged, Overloaded
from edge_agent.stores.audit import AuditLog, check, files_of, lines_of, log_files, promised
from edge_agent.stores.files import Disk
from tests.core.test_audit import STAMP, a_draft
from tests.faults.power import QuickDisk, RecordingDisk, cuts

SMALL = 2000  # bytes of a file: some seven entries


def a_log(
    folder: Path, *, disk: Disk | None = None, file_bytes: int = 1 << 20, limit_bytes: int = 1 << 30
) -> AuditLog:
    return AuditLog(
        folder,
        stamp=lambda: STAMP,
        disk=disk or QuickDisk(),
        file_bytes=file_bytes,
        limit_bytes=limit_bytes,
    )


def filled(folder: Path, count: int, file_bytes: int = 1 << 20) -> Head:
    log = a_log(folder, file_bytes=file_bytes)
    for number in range(count):
        head = log.append([a_draft(number)])
    log.close()
    return head


def said(folder: Path) -> list[str]:
    """What the log says of itself."""
    lines = [line for _, file in files_of(folder) for line, _ in list(lines_of(file))[1:]]
    entries = [audit.parse_entry(line) or {"what": "?", "who": ""} for line in lines]
    return [entry["what"] for entry in entries if entry["who"] == "edge-agent"]


def faults(folder: Path, *known: Head) -> list[str]:
    return [f"{fault.file}:{fault.line} {fault.why}" for fault in check(folder, known).faults]


def test_entries_are_one_chain_over_restarts_and_files(tmp_path: Path) -> None:
    for part in range(4):
        head = filled(tmp_path, 10, file_bytes=SMALL)
        assert head.entries == 10 * (part + 1)
    found = check(tmp_path, [head])
    assert (found.faults, found.head, found.entries, found.starts_after) == ([], head, 40, 0)
    assert found.files == len(log_files(tmp_path)) > 4
    assert promised(tmp_path) == head
    assert said(tmp_path) == []
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}


def test_a_torn_end_is_cut_off_and_told(tmp_path: Path) -> None:
    head = filled(tmp_path, 5)
    path = tmp_path / "audit.log"
    for torn in (b'{"entry":{"at"', bytes(700), b"\xff\n\xfe\n", b"\n"):
        with path.open("ab") as file:
            file.write(torn)
        log = a_log(tmp_path)
        assert log.open().entries == head.entries + 1
        head = log.head
        log.close()
        assert faults(tmp_path) == []
    assert said(tmp_path) == ["audit-torn"] * 4


def test_entries_that_nobody_was_promised_are_kept_when_they_are_whole(tmp_path: Path) -> None:
    head = filled(tmp_path, 5)
    line, after = audit.line_of(a_draft(), head)
    with (tmp_path / "audit.log").open("ab") as file:
        file.write(line)
    log = a_log(tmp_path)
    assert log.open() == after
    log.close()
    assert said(tmp_path) == []


def test_an_edit_is_found_kept_for_evidence_and_the_log_goes_on(tmp_path: Path) -> None:
    head = filled(tmp_path, 9)
    path = tmp_path / "audit.log"
    path.write_bytes(path.read_bytes().replace(b"uid 4", b"uid 5"))
    assert "audit.log:6 expected hash" in faults(tmp_path)[0]
    evidence = path.read_bytes()
    log = a_log(tmp_path)
    log.append([a_draft()])
    log.close()
    assert (tmp_path / "audit.000000001.log").read_bytes() == evidence
    assert said(tmp_path) == ["audit-damaged"]
    found = check(tmp_path, [head, log.head])
    assert [(fault.file, fault.line) for fault in found.faults] == [("audit.000000001.log", 6)]
    assert log.head.entries == head.entries + 2


def test_a_log_that_was_cut_short_is_found_at_once_and_at_the_next_start(tmp_path: Path) -> None:
    head = filled(tmp_path, 9)
    path = tmp_path / "audit.log"
    path.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:6]) + b"\n")
    assert faults(tmp_path) == ["audit.log:6 expected 9 entries, got 5: its end is missing"]
    log = a_log(tmp_path)
    assert log.open().entries == head.entries + 1  # it never counts backwards
    assert said(tmp_path) == ["audit-damaged"]
    assert faults(tmp_path) != []
    log.close()


def test_a_log_that_is_gone_is_told(tmp_path: Path) -> None:
    head = filled(tmp_path, 9)
    (tmp_path / "audit.log").unlink()
    assert faults(tmp_path, head) == [":0 expected 9 entries, got 0: its end is missing"]
    log = a_log(tmp_path)
    assert log.open().entries == 10
    log.close()
    assert said(tmp_path) == ["audit-lost"]


def test_a_head_that_is_gone_is_told_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    head = filled(tmp_path, 9)
    (tmp_path / "audit.head").unlink()
    log = a_log(tmp_path)
    assert log.open().entries == head.entries + 1
    log.close()
    assert said(tmp_path) == ["audit-head-lost"]
    (tmp_path / "audit.head").write_bytes(b"{}")
    with (tmp_path / "audit.log").open("ab") as file:
        file.write(b"who knows what this was")
    log = a_log(tmp_path)
    log.open()
    log.close()
    assert said(tmp_path) == ["audit-head-lost", "audit-damaged"]
    assert (tmp_path / "audit.000000001.log").read_bytes().endswith(b"who knows what this was")


def test_a_file_that_cannot_be_read_at_all_is_kept_and_followed(tmp_path: Path) -> None:
    head = filled(tmp_path, 20, file_bytes=SMALL)
    (tmp_path / "audit.log").write_bytes(os.urandom(300))
    log = a_log(tmp_path, file_bytes=SMALL)
    assert log.append([a_draft()]).entries == head.entries + 2
    log.close()
    assert said(tmp_path)[-1] == "audit-damaged"
    assert faults(tmp_path, head) != []


def test_a_deleted_file_is_found_and_archived_ones_are_not_missed(tmp_path: Path) -> None:
    head = filled(tmp_path, 40, file_bytes=SMALL)
    every = log_files(tmp_path)
    every[0].unlink()
    found = check(tmp_path, [head])
    assert found.faults == []
    assert found.starts_after
    every[2].unlink()
    assert "expected to follow entry" in faults(tmp_path)[0]


def test_at_its_limit_it_refuses_and_goes_on_when_files_were_carried_away(tmp_path: Path) -> None:
    log = a_log(tmp_path, file_bytes=SMALL, limit_bytes=3 * SMALL)
    with pytest.raises(Overloaded, match="expected at most 6000 bytes") as full:
        for number in range(100):
            log.append([a_draft(number)])
    assert "archive" in full.value.hint
    assert log.bytes <= 3 * SMALL
    head = log.head
    assert faults(tmp_path, head) == []
    log_files(tmp_path)[0].rename(tmp_path.parent / "archived")
    log.close()  # as a restart does
    assert log.append([a_draft()]).entries == head.entries + 1
    log.close()
    assert faults(tmp_path) == []


def test_a_disk_that_fails_promises_nothing_and_is_tried_again(tmp_path: Path) -> None:
    class Failing(QuickDisk):
        code = 0

        def write(self, file: object, content: bytes) -> None:
            if self.code:
                super().write(file, content[: len(content) // 2])  # type: ignore[arg-type]
                raise OSError(self.code, os.strerror(self.code))
            super().write(file, content)  # type: ignore[arg-type]

    disk = Failing()
    log = a_log(tmp_path, disk=disk)
    head = log.append([a_draft()])
    disk.code = 28
    with pytest.raises(Overloaded, match="No space left"):
        log.append([a_draft()])
    disk.code = 5
    with pytest.raises(Damaged, match="Input/output error"):
        log.append([a_draft()])
    assert promised(tmp_path) == head
    disk.code = 0
    assert log.append([a_draft()]).entries == head.entries + 2  # and one of the torn end
    log.close()
    assert faults(tmp_path) == []
    assert said(tmp_path) == ["audit-torn"]


def test_a_disk_that_is_full_between_two_files_is_gone_on_from(tmp_path: Path) -> None:
    class Full(QuickDisk):
        is_full = False

        def create(self, path: Path, *, mode: int = 0o600) -> BinaryIO:
            if self.is_full:
                raise OSError(28, os.strerror(28), path)
            return super().create(path, mode=mode)

    disk = Full()
    log = a_log(tmp_path, disk=disk, file_bytes=SMALL)
    head = log.append([a_draft()])
    while log.bytes < SMALL:
        head = log.append([a_draft()])
    disk.is_full = True
    for _ in range(2):
        with pytest.raises(Overloaded, match="No space left"):
            log.append([a_draft()])
    assert not (tmp_path / "audit.log").exists()
    assert faults(tmp_path, head) == []
    disk.is_full = False
    assert log.append([a_draft()]).entries == head.entries + 1
    log.close()
    assert faults(tmp_path) == []
    assert said(tmp_path) == []


@pytest.fixture
def busy(quick_place: Path) -> tuple[Path, Path]:
    folder, before = quick_place / "state", quick_place / "before"
    folder.mkdir()
    filled(folder, 6, file_bytes=SMALL)
    shutil.copytree(folder, before)
    return folder, before


def test_what_was_promised_survives_a_power_cut_anywhere(
    busy: tuple[Path, Path], quick_place: Path
) -> None:
    folder, before = busy
    disk = RecordingDisk()
    log = a_log(folder, disk=disk, file_bytes=SMALL)
    promises: list[tuple[int, Head]] = [(0, log.open())]
    for batch in (1, 3, 2):  # a file fills up on the way
        head = log.append([a_draft(number) for number in range(batch)])
        promises.append((len(disk.effects), head))
    log.close()
    assert len(log_files(folder)) > len(log_files(before))
    (quick_place / "cut").mkdir()
    for how, left in cuts(folder, before, disk.effects, quick_place / "cut"):
        length = int(left.name.split("-")[0])
        promise = max(head for at, head in promises if at <= length)
        again = a_log(left, file_bytes=SMALL)
        again.append([a_draft()])
        again.close()
        found = check(left, [promise, again.head])
        assert found.faults == [], how
        assert found.entries == again.head.entries > promise.entries, how
        assert {*said(left)} <= {"audit-torn"}, how
        shutil.rmtree(left)
