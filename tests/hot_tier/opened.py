"""A database, its desk and its files, without the thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from edge_agent.core.frames import unpack
from tests.hot_tier.wire import lines
from tools.hot_tier.database import Database
from tools.hot_tier.desk import Desk
from tools.hot_tier.outputs import Form, Output
from tools.hot_tier.sheet import sheet


class Open:
    """A database, its desk and its files."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.db = Database(folder / "db", mint="rx", **more)
        self.desk = Desk(self.db)
        self.folder = folder
        forms: tuple[Form, ...] = ("live", "ordered")
        self.outputs = [Output(self.db, self.desk.logs, form, folder / form) for form in forms]

    def write(self) -> None:
        for output in self.outputs:
            while output.step():
                pass

    def sheet(self) -> dict[str, Any]:
        return sheet("rx", self.desk.logs.total, self.desk.logs.recent(100), self.desk.counts)

    def held(self) -> list[int]:
        return [unpack(body).seq for (body,) in self.db.rows("SELECT body FROM r ORDER BY id")]

    def held_of(self, node: str) -> list[int]:
        found = map(unpack, (body for (body,) in self.db.rows("SELECT body FROM r ORDER BY id")))
        return [record.seq for record in found if record.node == node]

    def lines(self, form: str) -> list[dict[str, Any]]:
        return lines((self.folder / form).read_bytes())

    def close(self) -> None:
        self.db.close()


@contextmanager
def opened(folder: Path, **more: Any) -> Iterator[Open]:
    with closing(Open(folder, **more)) as found:
        yield found
