"""Faults that a running agent is given, and taken away again: what each must be called."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from edge_agent.host import SystemClock
from tests.agents.living import children
from tests.broker import Broker
from tests.disks import fill_up

JUMP_US = 3_600_000_000


class Fault(NamedTuple):
    """codes: what the status may call it, within_s. fix: words of what mends it."""

    name: str
    codes: Sequence[str]
    inject: Callable[[], None]
    mend: Callable[[], None]
    fix: str
    within_s: float = 2.0


class JumpingClock(SystemClock):
    """The system's, with a wall clock that a test sets; nobody else's is touched."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead_us = 0

    def utc_offset_us(self) -> tuple[int | None, int | None]:
        offset_us, error_us = super().utc_offset_us()
        return None if offset_us is None else offset_us + self.ahead_us, error_us


class Starved:
    """The inference side has a core for a part of the time alone."""

    def __init__(self, share: float = 0.3, period_s: float = 0.3) -> None:
        self._share, self._period_s = share, period_s
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._body, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _body(self) -> None:
        while not self._over.is_set():
            signal_children(signal.SIGSTOP)
            time.sleep(self._period_s * (1 - self._share))
            signal_children(signal.SIGCONT)
            self._over.wait(self._period_s * self._share)


def signal_children(number: signal.Signals) -> None:
    for pid in children():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def of_side() -> list[Fault]:
    starved = Starved()
    return [
        Fault(
            "side-stopped", ("engine-still", "results-stale"),
            lambda: signal_children(signal.SIGSTOP), lambda: signal_children(signal.SIGCONT),
            fix="",
        ),
        Fault(
            "side-killed", ("engine-down", "service-failed", "results-stale", "frames-lost"),
            lambda: signal_children(signal.SIGKILL), lambda: None, fix="",
        ),
        Fault(
            "starved", ("frames-lost", "results-stale", "engine-still", "results-late"),
            starved.begin, starved.end, fix="", within_s=8.0,
        ),
    ]  # fmt: skip


def of_source(folder: Path) -> list[Fault]:
    away = folder.with_name(folder.name + "-away")

    def take_away() -> None:
        folder.rename(away)

    def bring_back() -> None:
        away.rename(folder)

    def replace() -> None:
        folder.rename(away)
        folder.write_text("no folder")

    def put_back() -> None:
        folder.unlink()
        away.rename(folder)

    return [
        Fault(
            "source-gone", ("source-lost", "no-signal"),
            take_away, bring_back,
            fix="source.path", within_s=3.0,
        ),
        Fault(
            "source-no-folder", ("source-lost", "stream-failed", "no-signal"), replace, put_back,
            fix="", within_s=3.0,
        ),
    ]  # fmt: skip


def of_road(broker: Broker, secret: Path) -> list[Fault]:
    def wrong() -> None:
        secret.write_text("wrong")
        broker.stop()
        broker.start()

    def right() -> None:
        secret.write_text("right")

    def back() -> None:
        secret.with_suffix(".away").rename(secret)

    def lost() -> None:
        secret.rename(secret.with_suffix(".away"))
        broker.stop()
        broker.start()

    return [
        Fault("broker-gone", ("uplink-down",), broker.stop, broker.start, fix="broker"),
        Fault("password-wrong", ("link-denied",), wrong, right, fix="password_file", within_s=8.0),
        Fault("secret-gone", ("link-denied",), lost, back, fix="readable", within_s=8.0),
    ]  # fmt: skip


def of_model(package: Path) -> list[Fault]:
    """A byte of its weights rots, and the inference side that loads it again is a new one."""
    weights = package / "model.onnx"
    sound = weights.read_bytes()

    def rot() -> None:
        middle = len(sound) // 2
        weights.write_bytes(sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :])
        signal_children(signal.SIGKILL)

    def heal() -> None:
        weights.write_bytes(sound)

    codes = ("model-rejected", "model-damaged", "stream-rejected")
    return [Fault("model-rotten", codes, rot, heal, fix="install", within_s=10.0)]


def of_clock(clock: JumpingClock) -> list[Fault]:
    def jump(ahead_us: int) -> None:
        clock.ahead_us = ahead_us

    return [
        Fault("clock-jump", ("clock-jumped",), lambda: jump(JUMP_US), lambda: jump(0),
              fix="timedatectl"),
        Fault("clock-jump-back", ("clock-jumped",), lambda: jump(-JUMP_US), lambda: jump(0),
              fix="timedatectl"),
    ]  # fmt: skip


def of_disk(place: Path) -> list[Fault]:
    others = place / "somebody-else"
    return [
        Fault(
            "disk-full", ("disk-low", "disk-unwritable"),
            lambda: fill_up(others), others.unlink, fix="disk",
            within_s=7.0,
        )
    ]  # fmt: skip
