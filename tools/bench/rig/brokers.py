"""A broker for a bench, as a process of its own: mosquitto where it is found, else the embedded."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tools.broker import HOST, free_port

START_S: Final = 15.0
END_S: Final = 5.0
ROOT: Final = Path(__file__).resolve().parents[3]
# What is of all listeners stands above `listener`.
SETTINGS: Final = """
persistence false
log_dest none
allow_anonymous true
max_packet_size 2097152
listener {port} 127.0.0.1
"""


@contextmanager
def broker(folder: Path) -> Iterator[tuple[str, int]]:
    """Its name and its port."""
    port = free_port()
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    command = [sys.executable, "-m", "tools.broker", "--port", str(port)]
    if mosquitto:
        settings = folder / "mosquitto.conf"
        settings.write_text(SETTINGS.format(port=port))
        command = [mosquitto, "-c", str(settings)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(process, port)
        yield ("mosquitto" if mosquitto else "embedded broker"), port
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("the broker does not answer")
