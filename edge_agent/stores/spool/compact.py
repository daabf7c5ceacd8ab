"""Gives the free pages of a spool back to the file system. Only where nobody has it open.

A new file is written beside the old one and takes its place whole: a power cut leaves either. It
must never change a record.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

from edge_agent.core.errors import Overloaded
from edge_agent.stores.files import sync_folder
from edge_agent.stores.spool import schema
from edge_agent.stores.spool.disk import remove, translated
from edge_agent.stores.spool.schema import FileBroken
from edge_agent.stores.spool.spool import take_lock

SPARE_BYTES = 4 << 20  # beside the new file


class Compacted(NamedTuple):
    """Bytes of the file; equal when there was nothing to give back."""

    before: int
    after: int


def compact(path: Path) -> Compacted:
    """Takes the lock of the spool. Blocks for as long as writing the records once more takes.

    Raises: Rejected (somebody has it open), Overloaded (no room for the new file), Damaged.
    """
    lock = take_lock(path.with_name(f"{path.name}.lock"))
    beside = path.with_name(f"{path.name}.compact")
    try:
        remove(beside)  # of an attempt that was cut off
        return _compacted(path, beside)
    except OSError as error:
        raise schema.DiskFailing(f"compact spool: {error.strerror}",
                                 hint="check the disk: dmesg, smartctl") from error  # fmt: skip
    finally:
        with contextlib.suppress(schema.DiskFailing):
            remove(beside)
        os.close(lock)


def _compacted(path: Path, beside: Path) -> Compacted:
    with translated(), contextlib.closing(schema.connect(path)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        schema.prepare(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        free = schema.number(connection, "freelist_count") * schema.PAGE_BYTES
        before = path.stat().st_size
        if free == 0:
            return Compacted(before, before)
        _make_room(path, before - free)
        connection.execute("VACUUM INTO ?", (str(beside),))
        beside.chmod(0o600)
        _compare(connection, beside)
    _flush(beside)
    if path.with_name(f"{path.name}-wal").exists():
        raise FileBroken("compact spool: its log is not empty", hint="edge-agent spool verify")
    beside.replace(path)
    sync_folder(path.parent)
    return Compacted(before, path.stat().st_size)


def _make_room(path: Path, needed: int) -> None:
    stats = os.statvfs(path.parent)
    available = stats.f_bavail * stats.f_frsize
    if available < needed + SPARE_BYTES:
        raise Overloaded(
            f"compact spool: expected {needed + SPARE_BYTES} B free beside it, got {available} B",
            hint="make room on the file system of state_dir",
        )


def _compare(connection: sqlite3.Connection, beside: Path) -> None:
    """All rows are there, and the new file is one of ours."""
    with contextlib.closing(schema.connect(beside)) as other:
        for question in ("SELECT count(*), min(id), max(id), sum(crc) FROM r",
                         "SELECT count(*), sum(next), sum(floor) FROM log"):  # fmt: skip
            old = connection.execute(question).fetchone()
            new = other.execute(question).fetchone()
            if old != new:
                raise FileBroken(f"compact spool: expected {old} in the new file, got {new}",
                                 hint="check the disk: dmesg, smartctl")  # fmt: skip
        for mark in ("application_id", "user_version"):
            if schema.number(other, mark) != schema.number(connection, mark):
                raise FileBroken(f"compact spool: the new file has another {mark}")


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
