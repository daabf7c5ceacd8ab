"""The systemd unit: it loads, it is confined, and it may still do what the agent does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_agent.services.console import access
from tests import house

SYSUSERS = house.ROOT / "systemd" / "edge-agent.sysusers"
UNIT = house.ROOT / "systemd" / "edge-agent.service"
MAX_EXPOSURE = 2.0
ANALYZE = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
NEEDED_CALLS = {
    "memfd_create",  # the memory between agent and child
    "eventfd2",  # its wake-up
    "socketpair",  # its control channel
    "sched_setscheduler",  # SCHED_RR of the capture and lane threads
    "setpriority",  # model loaders are nice
    "prctl",  # the child dies with the agent
    "fsync",
    "flock",  # one daemon per state folder
}
SETTINGS = {
    "Type": "notify",
    "NotifyAccess": "main",
    "Restart": "always",
    "StartLimitIntervalSec": "0",
    "WatchdogSec": "30",
    "LimitRTPRIO": "20",
    "OOMPolicy": "continue",
    "LimitCORE": "0",
    "StateDirectory": "edge-agent",
    "RuntimeDirectory": "edge-agent",
    "ExecStart": "/opt/edge-agent/current/bin/edge-agent run",
    "ExecReload": "/bin/kill -HUP $MAINPID",
    "WantedBy": "multi-user.target",
}
# These would take from the agent what it lives on.
UNSET = ["RestrictRealtime", "PrivateDevices", "MemoryDenyWriteExecute", "PrivateNetwork"]
UNSET += ["PrivateUsers", "ProcSubset", "Requires", "BindsTo"]


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    command = [ANALYZE, *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, timeout=30, check=False)


def settings(key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", UNIT.read_text())


def calls(group: str) -> set[str]:
    """All system calls of one of systemd's groups, the groups in it resolved."""
    found: set[str] = set()
    for line in analyze("syscall-filter", group).stdout.splitlines()[1:]:
        name = line.strip()
        found |= calls(name) if name.startswith("@") else {name}
    return found


def test_the_unit_says_what_the_agent_counts_on() -> None:
    assert {key: settings(key) for key in SETTINGS} == {k: [v] for k, v in SETTINGS.items()}


def test_the_unit_takes_nothing_away_that_the_agent_needs() -> None:
    assert {key: settings(key) for key in UNSET} == {key: [] for key in UNSET}


def test_it_starts_without_a_network() -> None:
    assert settings("Wants") == settings("After") == ["network.target"]
    assert not re.search(r"(?m)^[^#]*network-online", UNIT.read_text())


def test_every_user_and_group_of_the_unit_is_made_by_sysusers() -> None:
    """A group that is not there keeps the unit from starting."""
    lines = [line.split() for line in SYSUSERS.read_text().splitlines() if line and line[0] != "#"]
    users = {words[1] for words in lines if words[0] == "u"}
    groups = users | {words[1 if words[0] == "g" else 2] for words in lines if words[0] in "gm"}
    assert set(settings("User")) <= users
    assert set(settings("Group") + settings("SupplementaryGroups")) <= groups
    assert access.ADMIN_GROUP in groups


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="needs systemd-sysusers")
def test_sysusers_takes_the_file_on_an_empty_system(tmp_path: Path) -> None:
    command = ["systemd-sysusers", f"--root={tmp_path}", str(SYSUSERS)]
    (tmp_path / "etc").mkdir()
    (tmp_path / SYSUSERS.relative_to("/").parent).mkdir(parents=True)
    shutil.copy(SYSUSERS, tmp_path / SYSUSERS.relative_to("/"))
    ran = subprocess.run(command, text=True, capture_output=True, timeout=30, check=False)
    assert ran.returncode == 0, ran.stderr
    passwd, group = ((tmp_path / "etc" / name).read_text() for name in ("passwd", "group"))
    assert re.search(r"(?m)^edge-agent:.*:/var/lib/edge-agent:.*/nologin$", passwd)
    assert re.search(r"(?m)^edge-agent-admin:", group)
    assert re.search(r"(?m)^video:.*:edge-agent$", group)


@needs_analyze
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    # installed nowhere here: another program stands for the agent's, and its papers are missing
    text = UNIT.read_text().replace("/opt/edge-agent/current/bin/edge-agent run", "/bin/true")
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    ran = analyze("verify", "--man=no", copy)
    assert (ran.returncode, ran.stderr.strip()) == (0, "")


@needs_analyze
def test_the_sandbox_leaves_little_open() -> None:
    ran = analyze("security", "--offline=true", "--no-pager", UNIT)
    found = re.search(r"Overall exposure level for \S+ (\d+\.\d+)", ran.stdout)
    assert found, ran.stdout + ran.stderr
    assert float(found[1]) <= MAX_EXPOSURE, ran.stdout


@needs_analyze
def test_every_system_call_that_we_need_is_allowed() -> None:
    allowed: set[str] = set()
    for group in settings("SystemCallFilter"):
        allowed = allowed - calls(group[1:]) if group.startswith("~") else allowed | calls(group)
    assert allowed >= NEEDED_CALLS
    assert "mount" not in allowed
    assert "ptrace" not in allowed
