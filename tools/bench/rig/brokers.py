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
SETTINGS: Final = ROOT / "config" / "kubeedge" / "mosquitto.conf"  # as a node should have it
LISTENER: Final = "listener 1883"


@contextmanager
def broker(folder: Path) -> Iterator[tuple[str, int]]:
    """Its name and its port."""
    port = free_port()
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    command = [sys.executable, "-m", "tools.broker", "--port", str(port)]
    if mosquitto:
        settings = folder / "mosquitto.conf"
        text = SETTINGS.read_text("utf-8")
        assert LISTENER in text
        settings.write_text("log_dest none\n" + text.replace(LISTENER, f"listener {port}"))
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
