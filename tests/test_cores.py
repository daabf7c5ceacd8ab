"""Cores that the process gets: affinity and the quotas of both versions of cgroups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.app import lanes_of
from edge_agent.config.structs import Config, EngineConfig
from edge_agent.cores import cores, quota


def tree(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1.5),  # of the slice above
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ("0::/../x\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),  # of a container
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "nonsense\n"}, None),
        (
            "4:memory:/d\n3:cpu,cpuacct:/d\n",
            {
                "sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_period_us": "100000\n",
            },
            2.0,
        ),
        (
            "3:cpu:/d\n",
            {
                "sys/fs/cgroup/cpu/d/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/d/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ("", {}, None),
    ],
)
def test_the_tightest_group_counts(
    tmp_path: Path, cgroup: str, files: dict[str, str], expected: float | None
) -> None:
    root = tree(tmp_path, cgroup, files)
    assert quota(root) == expected
    allowed = len(os.sched_getaffinity(0))
    assert cores(root) == (allowed if expected is None else max(1, min(allowed, -(-expected // 1))))


def test_lanes_follow_the_affinity_and_what_was_configured_wins() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert (cores(), lanes_of(Config())) == (1, 1)
    finally:
        os.sched_setaffinity(0, before)
    assert lanes_of(Config(engine=EngineConfig(lanes=7))) == 7
