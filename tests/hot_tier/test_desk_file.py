"""The desk's file: one owner, one identity, no other program's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge_agent.core.errors import ConfigError
from tests.hot_tier.test_desk import Open, opened
from tools.hot_tier.database import Database


def test_a_second_receiver_does_not_open_the_same_file(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(ConfigError):
        Open(tmp_path)


def test_the_identity_stays_with_the_file(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        opens = at.db.opens
    with closing(Database(tmp_path / "db", mint="other")) as db:
        assert (db.rx, db.opens) == ("rx", opens + 1)


def test_another_programs_file_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "db")) as db, db:
        db.execute("CREATE TABLE x(y)")
    with pytest.raises(ConfigError):
        Open(tmp_path)
