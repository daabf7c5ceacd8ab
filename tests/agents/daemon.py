"""`edge-agent run` as a process of its own, with a service manager's socket beside it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 30.0

CONFIG = """\
node = "box"
state_dir = "{state}"

[engine]
realtime = false
lanes = 1
hang_s = 60.0
{engine}

[models]
dirs = ["{models}"]
shipped = false

[console]
http = false

[log]
format = "json"
"""
STREAM = """
[streams.{name}]
title = "{title}"
source = {{ kind = "phantom", size = [160, 120], fps = 30 }}
models = [{{ name = "tiny" }}]
"""


def config_text(folder: Path, *names: str, title: str = "", engine: str = "") -> str:
    head = CONFIG.format(state=folder / "state", models=folder / "models", engine=engine)
    return head + "".join(STREAM.format(name=name, title=title) for name in names)


class Daemon:
    """told: every datagram that the manager got, with the time of its coming."""

    def __init__(self, process: subprocess.Popen[bytes], manager: socket.socket, log: Path) -> None:
        self.process = process
        self.told: list[tuple[float, str]] = []
        self._manager = manager
        self._log = log

    def hear(self) -> list[str]:
        """All words of the daemon so far."""
        while True:
            try:
                datagram = self._manager.recv(4096).decode()
            except BlockingIOError:
                return [word for _, word in self.told]
            self.told += [(time.monotonic(), word) for word in datagram.splitlines()]

    def until(self, condition: Callable[[], Any], what: str) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < until_s, f"not within {PATIENCE_S} s: {what}\n{self.log()}"
            time.sleep(0.02)

    def until_told(self, word: str) -> None:
        self.until(lambda: word in self.hear(), word)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


def command(config: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "edge_agent", *words, "--config", str(config)]


@contextmanager
def started(folder: Path, *, watchdog_s: float | None = None, **env: str) -> Iterator[Daemon]:
    """Of the configuration `config.toml` in `folder`; killed if it still lives at the end."""
    config, log = folder / "config.toml", folder / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, log.open("ab") as out:
        path = folder / "notify"
        path.unlink(missing_ok=True)
        manager.bind(str(path))
        manager.setblocking(False)
        more = {"NOTIFY_SOCKET": str(path), **env}
        if watchdog_s is not None:
            more["WATCHDOG_USEC"] = str(round(watchdog_s * 1e6))
        with subprocess.Popen(
            command(config, "run"), env={**os.environ, **more}, stdout=out, stderr=out
        ) as process:
            try:
                yield Daemon(process, manager, log)
            finally:
                process.kill()


def ask(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Another edge-agent command on the same configuration."""
    return subprocess.run(
        command(config, *words), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
