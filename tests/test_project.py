"""The project itself: the lock holds, the commands help, the papers are true."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import edge_agent
from tests import house

ROOT = house.ROOT
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
DEVICE = (ROOT / "requirements-run.txt").read_text(encoding="utf-8")
BUILD = (ROOT / "requirements-build.txt").read_text(encoding="utf-8")
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
        (DEVICE, PROJECT["project"]["dependencies"]),
        (BUILD, PROJECT["dependency-groups"]["build"]),
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


@pytest.mark.parametrize("part", [TO_RUN, DEVICE, BUILD], ids=["lock", "run", "build"])
def test_what_runs_a_device_needs_no_test_tool(part: str) -> None:
    tools = {"pytest", "mypy", "ruff", "hypothesis", "blockbuster", "forbiddenfruit", "onnx", "uv"}
    tools |= {"amqtt", "pyyaml", "pydantic", "typer"}
    assert not tools & set(locked(part))


def test_a_device_gets_no_tool_that_builds() -> None:
    assert not {"hatchling", "setuptools", "pathspec", "pluggy"} & set(locked(DEVICE))


def hashes(text: str) -> dict[str, set[str]]:
    """Of each `name==version`."""
    found: dict[str, set[str]] = {}
    for block in re.split(r"(?m)^(?=[a-zA-Z])", text):
        if pin := re.match(r"\S+==[^ ;\\]+", block):
            found.setdefault(pin[0], set()).update(re.findall(r"sha256:[0-9a-f]{64}", block))
    return found


@pytest.mark.parametrize("text", [DEVICE, BUILD], ids=["run", "build"])
def test_what_is_installed_on_a_device_is_what_is_tested(text: str) -> None:
    tested = hashes(LOCK)
    for pin, its in hashes(text).items():
        assert its, f"tools/lock: {pin} has no hash"
        assert its == tested.get(pin), f"tools/lock: {pin} is another one in requirements.lock"


def needed(name: str, extras: frozenset[str], where: dict[str, str]) -> Iterator[Requirement]:
    """What an installed package asks for on that machine."""
    for text in importlib.metadata.requires(name) or []:
        asked = Requirement(text)
        if any(
            asked.marker is None or asked.marker.evaluate({**where, "extra": extra})
            for extra in extras | {""}
        ):
            yield asked


def machines() -> Iterator[dict[str, str]]:
    for minor in (10, 11, 12, 13):
        for machine in ("x86_64", "aarch64"):
            yield {"python_version": f"3.{minor}", "python_full_version": f"3.{minor}.1",
                   "platform_machine": machine}  # fmt: skip


@pytest.mark.parametrize("where", [*machines()], ids=lambda where: "-".join(where.values()))
def test_a_device_needs_nothing_that_is_not_locked(where: dict[str, str]) -> None:
    """As far as packages are installed here in the version that is pinned there; for the others,
    `tools/lock` resolves anew, and .ci/smoke installs with hashes alone on each Python."""
    pins = {name: [pin for pin in some if pin.marker is None or pin.marker.evaluate(dict(where))]
            for name, some in locked(DEVICE).items()}  # fmt: skip
    left = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
    left = [one for one in left if one.marker is None or one.marker.evaluate(dict(where))]
    reached: set[tuple[str, frozenset[str]]] = set()
    while left:
        asked = left.pop()
        key = (canonicalize_name(asked.name), frozenset(asked.extras))
        assert len(pins.get(key[0], [])) == 1, f"{asked} on {where}: {pins.get(key[0])}"
        version = str(pins[key[0]][0].specifier).removeprefix("==")
        assert asked.specifier.contains(version), f"{asked} on {where}, locked is {version}"
        if key not in reached and version == installed(key[0]):
            left += needed(key[0], key[1], where)
        reached.add(key)
    unused = {name for name, some in pins.items() if some} - {name for name, _ in reached}
    assert not unused or where["python_version"] == "3.10", f"nothing asks for {unused}"


def installed(name: str) -> str:
    """Its version; empty when it is not there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


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


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_names_the_two_commands() -> None:
    first = README.partition("## What it does today")[0]
    assert re.findall(r"(?m)^(tools/\w+) ", first) == ["tools/demo", "tools/test"]


def test_the_first_lines_of_the_readme_say_what_it_is_not() -> None:
    first = README.partition("![")[0]
    assert "CPU only today" in first
    assert "not a cleared medical device" in first


@pytest.mark.parametrize(
    "page", ["cli", "config", "install", "ml-team", "models", "status", "uplink"]
)
def test_a_page_for_people_of_the_hospital_says_that_it_is_no_medical_device(page: str) -> None:
    text = " ".join((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").split())
    assert "not a cleared medical device" in text


def test_the_readme_promises_no_page_and_knows_its_words() -> None:
    assert not re.search(r"(?i)\bdashboard|\bbrowser|\bthe\s+page\b", README)
    words = re.findall(
        r"(?m)^\| ([^|`]+?) \| ", README.partition("## Words")[2].partition("\n## ")[0]
    )
    assert {"hot tier", "EdgeCore, CloudCore", "lane", "spool", "golden sample"} <= set(words)


def test_every_page_is_linked_from_the_readme() -> None:
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
    assert pages - set(re.findall(r"\]\((docs/[\w-]+\.md)", README)) == set()


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
