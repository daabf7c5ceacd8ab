"""The machine under the agent: its clock, its sensors, its service manager.

Reads sysfs and procfs under one root argument, so that a test brings its own tree. A sensor that is
not there, or answers with nonsense, is None; nothing here raises for it. It must never write to
sysfs, and never decide anything: levels and problems are other rooms' business.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from edge_agent.ports import HostSample

CLOCK_FLOOR_NS = 1_704_067_200 * 1_000_000_000  # 2024-01-01: before it, nobody set the clock
MAX_ZONES = 64
MAX_SENSOR_BYTES = 4096
MAX_NAME_CHARS = 80
MAX_NUMBER = 1e15  # above it a sensor talks nonsense
WANTED_DESCRIPTORS = 8192
ZONES = "sys/class/thermal"
_ZONE = re.compile(r"thermal_zone[0-9]{1,6}")
STA_UNSYNC = 0x0040  # linux/timex.h
COLDEST_CELSIUS = -100.0  # a powered-down Jetson zone says -256 degrees
HOTTEST_CELSIUS = 250.0


# ── the clock ─────────────────────────────────────────────────────────────────────────────────


class _Timex(ctypes.Structure):
    """The head of linux/timex.h; the tail is room for what the kernel writes behind it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # us
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("tail", ctypes.c_byte * 256),
    )


class SystemClock:
    """`ports.Clock` on the kernel's clocks. Safe from any thread."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._adjtime = getattr(libc, "ntp_adjtime", None) or getattr(libc, "adjtimex", None)

    def boot_us(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

    def utc_offset_us(self) -> tuple[int | None, int | None]:
        """The error is None while nothing disciplines the clock: then UTC is only what it says."""
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        utc = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if utc < CLOCK_FLOOR_NS:
            return None, None
        return (utc - (before + after) // 2) // 1000, self._error_us()

    def sleep_us(self, duration_us: int) -> None:
        if duration_us > 0:
            time.sleep(duration_us / 1e6)

    def _error_us(self) -> int | None:
        if self._adjtime is None:
            return None
        state = _Timex()  # modes 0 only reads
        if self._adjtime(ctypes.byref(state)) < 0 or state.status & STA_UNSYNC:
            return None
        return int(state.maxerror)


# ── the sensors and the service manager ───────────────────────────────────────────────────────


class SystemHost:
    """`ports.Host`. root: where sys/ and proc/ stand. disk: whose file system is measured.

    notify_socket None takes $NOTIFY_SOCKET; "" means that no manager listens.
    """

    def __init__(
        self, root: str | Path = "/", *, disk: str | Path = "/", notify_socket: str | None = None
    ) -> None:
        self._root = Path(root)
        self._disk = disk
        self._notify = (
            os.environ.get("NOTIFY_SOCKET", "") if notify_socket is None else notify_socket
        )
        self._no_boot_id = os.urandom(4).hex()  # still tells one start from the next

    def sample(self) -> HostSample:
        """Blocks on the file system: call it off the loop."""
        memory = self._memory_bytes()
        total, free = self._disk_bytes()
        return HostSample(
            uptime_s=self._uptime_s(),
            memory_total_bytes=memory.get("MemTotal"),
            memory_available_bytes=memory.get("MemAvailable"),
            disk_total_bytes=total,
            disk_free_bytes=free,
            temperature_celsius=self._temperatures(),
            load_1m=_first_number(self._read("proc/loadavg")),
            module=self._module(),
        )

    def notify(self, state: str) -> bool:
        """sd_notify without the library. Never waits: a manager that is full gets nothing."""
        if not self._notify.startswith(("/", "@")):
            return False
        address = "\0" + self._notify[1:] if self._notify[0] == "@" else self._notify
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(state.encode(), address)
        except (OSError, ValueError):
            return False
        return True

    def boot_id(self) -> str:
        text = self._read("proc/sys/kernel/random/boot_id").replace("-", "")
        return text[:8] if re.fullmatch("[0-9a-f]{32}", text) else self._no_boot_id

    def _read(self, path: str | Path) -> str:
        """Nothing for what can't be read; a pipe in its place is not waited for."""
        try:
            fd = os.open(self._root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError):
            return ""
        try:
            return os.read(fd, MAX_SENSOR_BYTES).decode("utf-8", "replace").strip("\0 \n")
        except OSError:
            return ""
        finally:
            os.close(fd)

    def _uptime_s(self) -> float:
        uptime_s = _first_number(self._read("proc/uptime"))
        return time.clock_gettime(time.CLOCK_BOOTTIME) if uptime_s is None else uptime_s

    def _memory_bytes(self) -> dict[str, int]:
        found = re.findall(r"^(\w+):\s+([0-9]{1,12}) kB", self._read("proc/meminfo"), re.MULTILINE)
        return {name: int(value) * 1024 for name, value in found}

    def _disk_bytes(self) -> tuple[int | None, int | None]:
        try:
            disk = os.statvfs(self._disk)
        except (OSError, ValueError):
            return None, None
        return disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize

    def _temperatures(self) -> dict[str, float]:
        """By zone name; a name that occurs twice gets its number."""
        found: dict[str, float] = {}
        for zone in self._zones():
            milli = _first_number(self._read(f"{ZONES}/{zone}/temp"))
            if milli is None or not COLDEST_CELSIUS < milli / 1000 < HOTTEST_CELSIUS:
                continue
            name = self._read(f"{ZONES}/{zone}/type")[:MAX_NAME_CHARS] or zone
            if name in found:
                name = f"{name}-{zone.removeprefix('thermal_zone')}"
            found[name] = milli / 1000
        return found

    def _zones(self) -> list[str]:
        try:
            with os.scandir(self._root / ZONES) as entries:
                names = [entry.name for entry in entries if _ZONE.fullmatch(entry.name)]
        except (OSError, ValueError):
            return []
        return sorted(names)[:MAX_ZONES]

    def _module(self) -> str:
        tree = self._read("proc/device-tree/model")
        return (tree or self._read("sys/class/dmi/id/product_name"))[:MAX_NAME_CHARS]


def watchdog_period_s(environ: Mapping[str, str] | None = None) -> float | None:
    """How long the service manager waits for WATCHDOG=1 before it kills us; None: it does not."""
    environ = os.environ if environ is None else environ
    with contextlib.suppress(ValueError):
        if int(environ.get("WATCHDOG_PID", os.getpid())) == os.getpid():
            period_s = int(environ.get("WATCHDOG_USEC", "0")) / 1e6
            return period_s if period_s > 0 else None
    return None


def _first_number(text: str) -> float | None:
    match = re.match(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", text)
    number = float(match.group()) if match else None
    return number if number is not None and abs(number) <= MAX_NUMBER else None


def raise_descriptor_limit(wanted: int = WANTED_DESCRIPTORS) -> int:
    """As far as it is allowed, up to `wanted`; returns how many this process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= ceiling:
        return wanted if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
    except (OSError, ValueError):
        return soft
    return ceiling
