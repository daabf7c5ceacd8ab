"""A page whose commands are run: its blocks in order, its places given a home, a shell for each."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests import house

PATIENCE_S: Final = 150.0
TERMINAL: Final = "in a terminal of its own"
BLOCK: Final = re.compile(r"(?m)^## (?P<head>.*)$|^```(?P<kind>\w+)\n(?P<text>(?:.*\n)*?)^```$")


class Block(NamedTuple):
    """head: the section that it is in. kind: sh or toml."""

    head: str
    kind: str
    text: str

    @property
    def stays(self) -> bool:
        """It runs until somebody ends it."""
        return TERMINAL in self.text.partition("\n")[0]


class Said(NamedTuple):
    code: int
    out: str  # stdout, then stderr


def blocks(page: str) -> list[Block]:
    found, head = [], ""
    for match in BLOCK.finditer(page):
        if match["head"]:
            head = match["head"]
        elif match["kind"] in ("sh", "toml"):
            found.append(Block(head, match["kind"], match["text"]))
    return found


class Desk:
    """Where somebody sits who types what the page says. places: what stands on it, and what is
    meant here. settings: the words that say so in each new terminal."""

    def __init__(self, folder: Path, places: Mapping[str, str]) -> None:
        self.folder, self.places = folder, places
        self.settings = ""
        self._staying: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._programs(folder / "bin")

    def _programs(self, folder: Path) -> None:
        """`python` and `edge-agent` are those of this test, the latter with its configuration."""
        folder.mkdir()
        config = self.meant("/etc/edge-agent/config.toml")
        python, agent = folder / "python", folder / "edge-agent"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        agent.write_text(
            f'#!/bin/sh\n[ -e "{config}" ] && set -- "$@" --config "{config}"\n'
            f'exec "{sys.executable}" -m edge_agent "$@"\n'
        )
        for program in (python, agent):
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def meant(self, text: str) -> str:
        for written, here in self.places.items():
            text = text.replace(written, here)
        return text

    def type(self, text: str) -> Said:
        done = subprocess.run(
            self._shell(text), cwd=self.folder, env=self._env(), capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Said(done.returncode, done.stdout + done.stderr)

    def stay(self, text: str, log: str) -> Path:
        """Starts what is to go on running; where it writes."""
        path = self.folder / log
        with path.open("wb") as out:
            process = subprocess.Popen(
                self._shell(text), cwd=self.folder, env=self._env(), stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self._staying.append((process, path))
        return path

    def end(self) -> None:
        """Ends what stays: the last first."""
        while self._staying:
            process, _ = self._staying.pop()
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)

    def logs(self) -> str:
        each = [f"── {path.name}\n{path.read_text(errors='replace')}" for _, path in self._staying]
        return "\n".join(text[-4000:] for text in each)

    def _shell(self, text: str) -> list[str]:
        return ["bash", "-euo", "pipefail", "-c", self.settings + self.meant(text)]

    def _env(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "PYTHONPATH": str(house.ROOT), "NO_COLOR": "1"}


@contextmanager
def sitting(folder: Path, places: Mapping[str, str]) -> Iterator[Desk]:
    desk = Desk(folder, places)
    try:
        yield desk
    finally:
        desk.end()


def patiently(look: Callable[[], None], patience_s: float = PATIENCE_S) -> None:
    """Again until it holds; what did not hold is raised when patience ends."""
    until_s = time.monotonic() + patience_s
    while True:
        try:
            look()
        except AssertionError:
            if time.monotonic() > until_s:
                raise
            time.sleep(1.0)
        else:
            return
