"""A real broker on a free port of loopback, as a process of its own.

Mosquitto where it is installed, else the broker of the demo. It can be stopped and started again on
the same port, and mosquitto with passwords and TLS.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tools.broker import HOST, free_port

ROOT: Final = Path(__file__).resolve().parents[2]
START_S: Final = 15
MOSQUITTO: Final = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
KINDS: Final = ("mosquitto", "amqtt")
# Nothing that is of a listener may stand above `listener`: it would open the default one, 1883.
SETTINGS: Final = """
persistence false
user root
max_packet_size 2097152
max_queued_bytes 16777216
log_dest none
allow_anonymous {anonymous}
{more}
listener {port} 127.0.0.1
max_connections 64
{listener}
"""


class Broker:
    """kind: `mosquitto` or `amqtt`. more, listener: lines of mosquitto's settings."""

    def __init__(self, folder: Path, kind: str, *, more: str = "", listener: str = "") -> None:
        self.kind = kind
        self.port = free_port()
        self._settings = folder / "mosquitto.conf"
        text = SETTINGS.format(
            anonymous="false" if "password_file" in more else "true",
            more=more,
            port=self.port,
            listener=listener,
        )
        self._settings.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tools.broker", "--port", str(self.port)]
        if self.kind == "mosquitto":
            assert MOSQUITTO is not None
            command = [MOSQUITTO, "-c", str(self._settings)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + START_S
        while not self._answers():
            assert self._process.poll() is None, f"{command} ended with {self._process.returncode}"
            assert time.monotonic() < until, f"{command} does not answer"
            time.sleep(0.02)

    def stop(self, *, kill: bool = False) -> None:
        """kill: as a power cut does; nobody is told."""
        if self._process is None:
            return
        (self._process.kill if kill else self._process.terminate)()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
        self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), 1).close()
        except OSError:
            return False
        return True
