"""The whole agent as the one that is killed: `edge-agent run`, a phantom, a model, its own uplink.

It tells nobody of its commits. So what it promised is read from a copy of its files after each
kill: what the books there hold as committed, and the very bytes of each record that was pending.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from edge_agent.core.logbook import Log
from edge_agent.stores.spool import schema
from tools.faulting.broker import ROOT
from tools.faulting.children import Fell
from tools.faulting.content import NODE
from tools.faulting.promises import Key

BEGIN_S: Final = 45.0  # for results to flow
LOOK_S: Final = 0.05
BEGUN: Final = 10  # looks that saw another commit
STOP_S: Final = 30.0
FILES: Final = ("spool.db", "spool.db-wal")
CONFIG: Final = """\
node = "{node}"
state_dir = "{state}"

[engine]
realtime = false
lanes = 1

[models]
dirs = ["{models}"]

[console]
http = false

[log]
level = "error"
format = "json"

[uplink]
enabled = true
port = {port}
answer_s = 2.0
keepalive_s = 5

[streams.us]
source = {{ kind = "phantom", scene = "ultrasound", size = [160, 120], fps = 30 }}
models = [{{ name = "us-chamber", version = "1.0.0" }}]

[streams.endo]
source = {{ kind = "phantom", scene = "endoscope", size = [160, 120], fps = 30 }}
models = [{{ name = "endo-polyp", version = "1.0.0" }}]
"""


class Whole:
    """next: what was committed when it died, by log. bodies: of all records seen pending."""

    def __init__(self, folder: Path, port: int, *, config: str = CONFIG) -> None:
        self.state = folder / "state"
        self.next: dict[Key, int] = {}
        self.bodies: dict[tuple[Key, int], bytes] = {}
        self._config, self._log = folder / "agent.toml", folder / "log"
        self._copy = folder / "copy"
        models = ROOT / "models"
        self._config.write_text(
            config.format(node=NODE, state=self.state, models=models, port=port)
        )

    async def start(self, *prefix: str, **env: str) -> asyncio.subprocess.Process:
        """prefix: of the command, one that becomes it."""
        command = (sys.executable, "-m", "edge_agent", "run", "--config", str(self._config))
        told = {"OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *prefix, *command, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log, env={**os.environ, **told, **env},
            )  # fmt: skip

    async def begun(self) -> None:
        """Until results flow into the spool; at most so long."""
        until_s, wal, last, seen = time.monotonic() + BEGIN_S, self.state / FILES[1], 0, 0
        while time.monotonic() < until_s and seen < BEGUN:
            await asyncio.sleep(LOOK_S)
            now = _changed(wal)
            last, seen = now, seen + (now != last)

    async def kill(self, agent: asyncio.subprocess.Process) -> None:
        """Raises: Fell when it had ended before."""
        if agent.returncode is None:
            os.kill(agent.pid, signal.SIGKILL)
        code = await agent.wait()
        if code != -signal.SIGKILL:
            raise Fell(f"edge-agent ended with {code} before it was killed\n{self.said()}")
        await asyncio.to_thread(self.look)

    async def stop(self, agent: asyncio.subprocess.Process) -> None:
        """Raises: Fell when it does not end well."""
        agent.terminate()
        code = await asyncio.wait_for(agent.wait(), STOP_S)
        if code != 0:
            raise Fell(f"edge-agent ended with {code} when it was stopped\n{self.said()}")

    def said(self) -> str:
        return self._log.read_bytes()[-4000:].decode(errors="replace")

    def look(self) -> None:
        """What is in its spool while nobody has it open is promised.

        At a copy: opening it plays its write-ahead log back, as the next start will."""
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir()
        for name in FILES:
            if (self.state / name).exists():
                shutil.copy(self.state / name, self._copy / name)
        if not (self._copy / FILES[0]).exists():
            return
        with closing(sqlite3.connect(self._copy / FILES[0])) as copy:
            if not copy.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return
            books = [schema.read_log(row) for row in copy.execute(schema.GET_LOGS)]
            keys = {log.id: key_of(log) for log in books if log.id != schema.BOOK}
            self.next |= {key_of(log): log.next for log in books if log.id in keys}
            for identity, _, body in copy.execute("SELECT id, crc, body FROM r"):
                key = keys[identity >> schema.SEQ_BITS]
                self.bodies[key, identity & schema.MAX_SEQ] = body


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def key_of(log: Log) -> Key:
    return log.key.stream, log.key.klass.value, log.key.epoch
