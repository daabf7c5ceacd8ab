from __future__ import annotations

import math
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge_agent.host import SystemClock, SystemHost, raise_descriptor_limit, watchdog_period_s
from edge_agent.ports import Clock, Host


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def listener(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    sock.settimeout(2)
    return sock


def test_boot_time_counts_and_sleep_takes_its_time() -> None:
    clock: Clock = SystemClock()
    before = clock.boot_us()
    clock.sleep_us(20_000)
    assert 20_000 <= clock.boot_us() - before < 2_000_000
    clock.sleep_us(-5)


def test_offset_and_boot_time_make_utc() -> None:
    clock = SystemClock()
    offset_us, error_us = clock.utc_offset_us()
    assert offset_us is not None
    assert abs(clock.boot_us() + offset_us - time.time_ns() // 1000) < 100_000
    assert error_us is None or error_us >= 0


def test_a_clock_before_the_floor_was_never_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: 1_000_000_000)
    assert SystemClock().utc_offset_us() == (None, None)


def test_a_tree_of_sensors_is_read(tmp_path: Path) -> None:
    zones = "sys/class/thermal/thermal_zone"
    root = plant(
        tmp_path,
        {
            "proc/uptime": "4711.25 9000.00\n",
            "proc/meminfo": "MemTotal:  16000000 kB\nMemFree: 5 kB\nMemAvailable:  8000000 kB\n",
            "proc/loadavg": "0.52 0.58 0.59 2/345 6789\n",
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
            "proc/sys/kernel/random/boot_id": "0badcafe-1111-2222-3333-444455556666\n",
            f"{zones}0/type": "cpu-thermal\n",
            f"{zones}0/temp": "48500\n",
            f"{zones}1/type": "cpu-thermal\n",
            f"{zones}1/temp": "49000\n",
            f"{zones}2/type": "gpu-thermal\n",
            f"{zones}2/temp": "-256000\n",
            f"{zones}3/type": "broken\n",
            f"{zones}3/temp": "n/a\n",
        },
    )
    host: Host = SystemHost(root, disk=tmp_path, notify_socket="")
    sample = host.sample()
    assert sample.uptime_s == 4711.25
    assert sample.memory_total_bytes == 16_000_000 * 1024
    assert sample.memory_available_bytes == 8_000_000 * 1024
    assert sample.disk_total_bytes is not None
    assert sample.disk_free_bytes is not None
    assert 0 < sample.disk_free_bytes <= sample.disk_total_bytes
    assert sample.load_1m == 0.52
    assert sample.module == "NVIDIA Jetson Orin Nano Developer Kit"
    assert sample.temperature_celsius == {"cpu-thermal": 48.5, "cpu-thermal-1": 49.0}
    assert host.boot_id() == "0badcafe"


def test_missing_sensors_are_none_and_a_stand_in_boot_id_stays(tmp_path: Path) -> None:
    host = SystemHost(tmp_path, disk=tmp_path / "gone", notify_socket="")
    sample = host.sample()
    assert sample.uptime_s > 0
    assert sample.memory_total_bytes is None
    assert sample.disk_free_bytes is None
    assert sample.load_1m is None
    assert sample.temperature_celsius == {}
    assert sample.module == ""
    assert host.boot_id() == host.boot_id()
    assert len(host.boot_id()) == 8


def test_this_machine_can_be_sampled() -> None:
    host = SystemHost(notify_socket="")
    assert host.sample().memory_total_bytes
    assert int(host.boot_id(), 16) >= 0


@pytest.mark.parametrize("state", ["READY=1", "STOPPING=1", "WATCHDOG=1"])
def test_the_service_manager_hears_each_state(tmp_path: Path, state: str) -> None:
    path = str(tmp_path / "n")
    with listener(path) as manager:
        assert SystemHost(notify_socket=path).notify(state)
        assert manager.recv(100).decode() == state


def test_abstract_sockets_are_heard_too(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"edge-agent-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with listener(f"\0{name}") as manager:
        assert SystemHost().notify("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_nobody_listens_is_no_error(tmp_path: Path) -> None:
    for address in ("", "vsock:2:1234", str(tmp_path / "nobody")):
        assert not SystemHost(notify_socket=address).notify("READY=1")


def test_a_full_service_manager_never_holds_us_up(tmp_path: Path) -> None:
    path = str(tmp_path / "n")
    with listener(path):
        host = SystemHost(notify_socket=path)
        assert not all(host.notify("WATCHDOG=1") for _ in range(5000))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_period_is_ours_only(environ: dict[str, str], expected: float | None) -> None:
    assert watchdog_period_s(environ) == expected


def _nothing(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _io_error(path: Path) -> None:
    path.unlink()
    path.symlink_to("/proc/self/mem")  # its first byte can't be read: EIO


HARM: dict[str, Callable[[Path], object]] = {
    "it vanishes": _nothing,
    "a folder": _folder,
    "a pipe": _pipe,
    "a link to itself": _loop,
    "EIO": _io_error,
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x80" * 50),
    "endless digits": lambda path: path.write_bytes(b"9" * 100_000),
    "endless memory": lambda path: path.write_bytes(b"MemTotal: " + b"9" * 4000 + b" kB\n"),
    "other digits": lambda path: path.write_text("MemTotal: \u0663\u0664 kB \u0663\n"),
    "minus": lambda path: path.write_text("-"),
    "controls": lambda path: path.write_bytes(b"\0\n\x1b[31m\0"),
}


@pytest.mark.parametrize("harm", [*HARM])
def test_reading_a_sensor_never_raises_and_never_waits(harm: str, tmp_path: Path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    names = ["proc/uptime", "proc/meminfo", "proc/loadavg", "proc/device-tree/model",
             f"{zone}/temp", f"{zone}/type", "proc/sys/kernel/random/boot_id"]  # fmt: skip
    plant(tmp_path, dict.fromkeys(names, "1\n"))
    for name in names:
        HARM[harm](tmp_path / name)
    host = SystemHost(tmp_path, disk=tmp_path / "nowhere", notify_socket="")
    sample = host.sample()
    json = msgspec.json.encode(sample)  # no number that nobody can write
    assert b"NaN" not in json
    assert b"nfinity" not in json
    for figure in (sample.uptime_s, sample.memory_total_bytes, sample.load_1m):
        assert figure is None or math.isfinite(float(figure))
    assert len(host.boot_id()) == 8


def test_zones_that_are_none_or_can_not_be_listed_are_no_zones(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/thermal"
    plant(tmp_path, {"sys/class/thermal": "no folder"})
    assert SystemHost(tmp_path, notify_socket="").sample().temperature_celsius == {}
    folder.unlink()
    (folder / os.fsdecode(b"thermal_zone\xff")).mkdir(parents=True)
    (folder / "thermal_zone_x").mkdir()
    assert SystemHost(tmp_path, notify_socket="").sample().temperature_celsius == {}


def test_without_a_descriptor_there_is_a_sample_and_no_error(tmp_path: Path) -> None:
    host = SystemHost(notify_socket=str(tmp_path / "none"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open("/dev/null", os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))
    try:
        sample, told = host.sample(), host.notify("READY=1")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sample.temperature_celsius == {}
    assert sample.uptime_s > 0
    assert not told


def test_the_limit_of_descriptors_is_raised_as_far_as_it_is_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        assert raise_descriptor_limit(300) == min(300, hard)
        assert raise_descriptor_limit(250) == min(300, hard)  # never lowered
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
