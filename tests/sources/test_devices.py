"""What is no camera, or none that we may have: said in words, before OpenCV is asked."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent import cameras
from edge_agent.cameras import Roots
from edge_agent.config.structs import Config, StreamConfig, VideoSource
from edge_agent.core.errors import EdgeAgentError, Rejected, SourceLost
from edge_agent.resolve import advised
from edge_agent.sources.video import devices

GRABBER = "usb-Grabber_0042-video-index0"
NOBODY = 65534


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """A machine with one grabber: node 0 its pictures, node 1 its metadata."""
    found = Roots(*(tmp_path / name for name in ("by-id", "by-path", "sys")))
    for folder in found:
        folder.mkdir()
    (tmp_path / "usb1").mkdir()
    for number in (0, 1):
        node = found.sys / f"video{number}"
        node.mkdir()
        (node / "index").write_text(f"{number}\n")
        (node / "device").symlink_to(tmp_path / "usb1")
        (found.by_id / f"usb-Grabber_0042-video-index{number}").symlink_to(f"/dev/video{number}")
    return found


def said(path: str | Path, roots: Roots) -> EdgeAgentError:
    with pytest.raises((SourceLost, Rejected)) as told:
        devices.check(str(path), "camera", roots)
    assert str(path) not in str(told.value)
    return told.value


def test_each_wrong_camera_has_its_own_sentence(roots: Roots, tmp_path: Path) -> None:
    """All were `it is there and gives no video`, or the words of the system."""
    link, plain, folder = (tmp_path / name for name in ("link", "plain", "folder"))
    link.symlink_to(tmp_path / "gone")
    plain.touch()
    folder.mkdir()
    os.mkfifo(tmp_path / "pipe")
    there = f"in /dev/v4l/by-id there are: {GRABBER}"
    lost: dict[str | Path, str] = {
        "/dev/video77": f"open camera: it is not there; {there}",
        link: f"open camera: a link to a device that is not there; {there}",
        "a\0b": f"open camera: it is not there; {there}",
        plain / "below": f"open camera: it is not there; {there}",
    }
    refused: dict[str | Path, str] = {
        folder: "a folder",
        plain: "a plain file",
        tmp_path / "pipe": "a named pipe",
        "/dev/null": "another kind of device",
        "/dev/shm": "a folder",
    }
    for path, what in lost.items():
        error = said(path, roots)
        assert (type(error), error.what) == (SourceLost, what)
        assert "plug it in" in error.hint
    for path, got in refused.items():
        error = said(path, roots)
        assert type(error) is Rejected
        assert error.what == f"open camera: expected a camera, got {got}; {there}"


def test_a_node_without_a_device_behind_it_is_lost(roots: Roots, tmp_path: Path) -> None:
    node = tmp_path / "video9"
    try:
        os.mknod(node, stat.S_IFCHR | 0o660, os.makedev(81, 250))
    except PermissionError:
        pytest.skip("only root makes a device")
    error = said(node, roots)
    assert isinstance(error, SourceLost)
    assert any(words in error.what for words in ("no device answers", "does not let this service"))


AS_NOBODY = """
import os, sys
from pathlib import Path
from edge_agent.cameras import Roots
from edge_agent.core.errors import EdgeAgentError
from edge_agent.sources.video import devices
os.setgroups([])
os.setgid({id})
os.setuid({id})
for path in sys.argv[1:]:
    try:
        devices.check(path, "camera", Roots(*[Path("/nonexistent")] * 3))
    except EdgeAgentError as error:
        print(type(error).__name__, error)
"""


def test_a_permission_names_the_group_that_has_it(tmp_path: Path) -> None:
    """As a service does that is not in group video."""
    if os.geteuid() != 0:
        pytest.skip("only root becomes somebody else")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    for name, mode in (("video0", 0o660), ("video1", 0)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    os.chown(tmp_path / "video0", 0, 44)
    (tmp_path / "closed").mkdir(mode=0o700)
    paths = [str(tmp_path / name) for name in ("video0", "video1", "closed/video2")]
    told = subprocess.run(
        [sys.executable, "-c", AS_NOBODY.replace("{id}", str(NOBODY)), *paths],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    first, second, third = told.stdout.splitlines()
    assert first.startswith("SourceLost open camera: no permission: it belongs to group ")
    assert "mode 0660 -> add the service's user to group " in first
    assert "group root, mode 0000 -> its group root may not use it either" in second
    assert "usermod" not in second
    assert "no permission for a folder on the way to it" in third
    assert "video2" not in told.stdout


def test_the_pictures_of_a_metadata_node_are_found(roots: Roots) -> None:
    assert cameras.sibling("/dev/video1", roots) == "/dev/video0"
    assert cameras.sibling("/dev/video0", roots) == ""
    assert cameras.sibling("/dev/video9", roots) == ""


def test_details_of_what_is_no_camera_are_none_and_open_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("/dev/null", str(tmp_path / "file"), "/dev/video250", "a\0b"):
        assert devices.details(path) == {}


def checked(where: str, roots: Roots) -> list[str]:
    streams = {"us0": StreamConfig(source=VideoSource(where=where), models=())}
    flaws = advised(Config(streams=streams), roots)
    assert all(flaw.severity == "warn" for flaw in flaws)
    return [f"{flaw.message} -> {flaw.hint}" for flaw in flaws]


def test_a_numbered_camera_that_has_a_lasting_name_is_warned_of(roots: Roots) -> None:
    (words,) = checked("/dev/video0", roots)
    assert words == (
        "/dev/video0 may be another camera after a re-plug or a restart -> "
        f'where = "{roots.by_id}/{GRABBER}" stays with this camera'
    )
    assert checked(f"{roots.by_id}/{GRABBER}", roots) == []
    assert checked("/dev/video7", roots) == [], "nobody knows a better one"
    (roots.by_path / "pci-0000:00:14.0-usb-0:3:1.0-video-index0").symlink_to("/dev/video7")
    (words,) = checked("/dev/video7", roots)
    assert "by-path/pci-" in words
    assert "stays with this socket" in words
