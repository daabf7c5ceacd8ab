"""The project itself: the lock holds, the commands help, the papers are true."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import edge_agent
from tests import house

ROOT = house.ROOT
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TO_RUN, FOR_THE_DEMO, TO_TEST = re.split("# ── (?:for the demo|to test) ──\n", LOCK)
MARKDOWN = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("models/**/*.md")]
)


def locked(part: str) -> dict[str, list[Requirement]]:
    """The pins of a part of the lock by name; some have one per Python."""
    pins: dict[str, list[Requirement]] = {}
    for line in re.findall(r"(?m)^(\S.*==.*?) \\$", part):
        pin = Requirement(line)
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        (TO_RUN, PROJECT["project"]["dependencies"]),
        (TO_RUN, PROJECT["dependency-groups"]["build"]),
        (FOR_THE_DEMO, PROJECT["project"]["optional-dependencies"]["demo"]),
        (LOCK, PROJECT["project"]["optional-dependencies"]["dev"]),
    ],
)
def test_the_lock_holds_what_the_project_asks_for(part: str, wanted: list[str]) -> None:
    pins = locked(part)
    for text in wanted:
        asked = Requirement(text)
        found = pins.get(canonicalize_name(asked.name), [])
        assert found, f"tools/lock: {asked.name} is not in requirements.lock"
        for pin in found:
            version = str(pin.specifier).removeprefix("==")
            assert asked.specifier.contains(version), f"tools/lock: {pin} is not {asked}"


def test_everything_in_the_lock_is_hashed_and_comes_from_anywhere() -> None:
    for block in re.split(r"(?m)^(?=[a-z])", LOCK)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block
    assert "://" not in LOCK
    assert "index-url" not in LOCK


def test_what_runs_a_device_needs_no_test_tool() -> None:
    tools = {"pytest", "mypy", "ruff", "hypothesis", "blockbuster", "forbiddenfruit", "onnx", "uv"}
    tools |= {"amqtt", "pyyaml", "pydantic", "typer"}
    assert not tools & set(locked(TO_RUN))


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == edge_agent.__version__


def test_licences_that_bind_others_are_not_pulled_in() -> None:
    refused = {"jetson-stats", "pylibjpeg-libjpeg", "onnxruntime-gpu", "pycuda"}
    assert not refused & set(locked(LOCK))


def anchors(text: str) -> set[str]:
    """The names by which a page can be linked into, as forges make them of its headings."""
    heads = re.findall(r"(?m)^#+ +(.*)$", text)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_of_the_papers_are_there(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"", text):
        path, _, anchor = (target[0] or target[1]).partition("#")
        if "://" in path or path.startswith("mailto:"):
            continue
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.relative_to(ROOT)} links {path}, which is not there"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{page.name}: #{anchor}"


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "tools/demo" in readme
    assert "tools/test" in readme


@pytest.mark.parametrize("name", ["test", "demo", "lock"])
def test_a_command_can_be_run(name: str) -> None:
    script = ROOT / "tools" / name
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=10)


def run_setup(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """tools/demo with an environment of its own, in a shell that knows the usual programs."""
    usual = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    command = ["bash", str(ROOT / "tools" / "demo"), "--seconds", "1"]
    return subprocess.run(
        command,
        env={**usual, "EDGE_AGENT_VENV": str(folder / "venv"), **environment},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_an_old_python_is_refused_with_the_way_out(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.8.18 && exit\nexit 1\n')
    old.chmod(0o755)
    ran = run_setup(tmp_path, PYTHON=str(old))
    assert ran.returncode == 1
    assert "no Python 3.10 or newer: Python 3.8.18" in ran.stderr
    assert "-> set PYTHON" in ran.stderr


def test_without_a_network_the_way_out_is_said(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9/simple"
    ran = run_setup(
        tmp_path,
        PYTHON=sys.executable,
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL=nowhere,
        PIP_RETRIES="0",
        PIP_NO_CACHE_DIR="1",
    )
    assert ran.returncode == 1
    assert "cannot be reached" in ran.stderr, ran.stderr
    assert "-> check the network" in ran.stderr
