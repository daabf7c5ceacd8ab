"""The whole agent: its processes, its console, its folders. Starts and asks; decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

from edge_agent.core.errors import EdgeAgentError
from edge_agent.core.package import MANIFEST
from edge_agent.stores import package
from tools.faulting.downward.packages import FIRST, NAME, write
from tools.faulting.downward.words import now_s
from tools.faulting.whole import Whole

STRACE: Final = shutil.which("strace")
MARK: Final = "FAULTS_WORLD"  # of the environment: whoever has it is ours
UP_S: Final = 60.0
ASK_S: Final = 8.0
LOOK_S: Final = 0.05
END_S: Final = 2.0  # for what dies with an agent
CHILD, INSTALLER, PROOF = "edge_agent.inference", "edge_agent.installer", "backends.prepare"
OUR_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{8}|tmp[a-z0-9_]{8}|.+\.tmp|.+\.damaged.*")
HEAD: Final = """\
node = "{node}"
state_dir = "{state}"
runtime_dir = "RUN"

[engine]
realtime = false
lanes = 1

[supervise]
crashes = 100

[models]
dirs = ["MODELS"]
shipped = false

[console]
http = false

[log]
level = "info"
format = "json"

[uplink]
enabled = true
port = {port}
answer_s = 3.0
keepalive_s = 5
backfill_bytes_per_s = 4096

[rollouts]
enabled = true
repositories = ["URL"]
root_file = "ROOT"
check_every_s = 10.0
shadow_frames = 15
shadow_s = 60.0
observe_s = 3.0
probation_frames = 40
probation_s = 2.0
max_trials = 10
"""
STREAM: Final = """
[streams.{name}]
source = {{ kind = "phantom", scene = "ultrasound", size = [96, 64], fps = {fps} }}
models = [{{ name = "{model}"{version} }}]
deadline_ms = 5000.0
max_age_ms = 5000.0
swap = "now"
"""
US, ENDO = "us", "endo"
CALM: Final = "calm"  # the model of the stream that nothing is done to


class Aboard(Whole):
    """store: of the models. process: None before the first start."""

    def __init__(self, folder: Path, port: int, *, url: str, root: str) -> None:
        self.models = folder / "models"
        first = write(self.models, FIRST)
        write(self.models, FIRST, name=CALM)
        self.first_sha = package.identity(first, package.read_manifest(first))
        self._runtime = folder / "run"
        self._runtime.mkdir()
        names = {"RUN": self._runtime, "MODELS": self.models, "URL": url, "ROOT": root}
        self._head = HEAD
        for name, word in names.items():
            self._head = self._head.replace(name, str(word), 1)
        super().__init__(folder, port, config=self._head)
        self._head = self._config.read_text()
        self.store = self.state / "models"
        self.process: asyncio.subprocess.Process | None = None
        self.lock = asyncio.Lock()  # of who ends and starts it
        self._mark = str(folder)
        self.configure()

    def configure(self, *, is_used: bool = True, held: str = "") -> None:
        """What the next start or reload reads."""
        version = f', version = "{held}"' if held else ""
        streams = [STREAM.format(name=ENDO, fps=5, model=CALM, version="")]
        if is_used:
            streams.append(STREAM.format(name=US, fps=15, model=NAME, version=version))
        self._config.write_text(self._head + "".join(streams))

    # ── processes ─────────────────────────────────────────────────────────────────────────────

    async def up(self, *prefix: str) -> float:
        """Starts it; when it answered. Raises: AssertionError when it does not."""
        self.process = await self.start(*prefix, **{MARK: self._mark})
        until_s = now_s() + UP_S
        while now_s() < until_s:
            assert self.process.returncode is None, f"it did not start: {self.said()}"
            with contextlib.suppress(OSError, aiohttp.ClientError, asyncio.TimeoutError):
                await self.get("/v1/status")
                return now_s()
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"no answer within {UP_S:.0f} s: {self.said()}")

    def untraced(self) -> None:
        """Whoever looked over its shoulder at the start goes, and slows it down no more."""
        for pid, (_, command) in processes():
            if _is_tracer(command) and self._is_marked(pid):
                send(pid, signal.SIGTERM)

    async def down(self) -> None:
        """kill -9, and what it promised is written down. Raises: Fell when it had ended."""
        assert self.process is not None
        await self.kill(self.process)

    def log_since(self, start_bytes: int) -> list[str]:
        return self._log.read_bytes()[start_bytes:].decode(errors="replace").splitlines()

    def log_bytes(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    def has_ended(self) -> bool:
        return self.process is not None and self.process.returncode is not None

    def pids(self, words: str = "") -> list[int]:
        """Of its children and theirs whose command has these words."""
        assert self.process is not None
        every, found = dict(processes()), []
        for pid, (_, command) in every.items():
            if words in command and _descends(pid, self.process.pid, every):
                found.append(pid)
        return found

    async def orphans(self) -> list[str]:
        """What is ours and does not descend from the agent that lives; after a while."""
        until_s = now_s() + END_S
        while found := self._strays():
            if now_s() > until_s:
                break
            await asyncio.sleep(LOOK_S)
        return found

    def _strays(self) -> list[str]:
        every, found = dict(processes()), []
        agent = self.process.pid if self.process is not None else 0
        for pid, (_, command) in every.items():
            is_ours = pid != agent and not _descends(pid, agent, every) and self._is_marked(pid)
            if is_ours and not _is_tracer(command):
                found.append(f"{pid} {command[:80]}")
        return found

    def _is_marked(self, pid: int) -> bool:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return f"{MARK}={self._mark}\0".encode() in environment

    # ── the console ───────────────────────────────────────────────────────────────────────────

    async def get(self, path: str) -> dict[str, Any]:
        return (await self._asked("GET", path, None))[1]

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """(status, answer)."""
        return await self._asked("POST", path, body)

    async def _asked(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[int, dict[str, Any]]:
        road = aiohttp.UnixConnector(str(self._runtime / "control.sock"), force_close=True)
        timeout = aiohttp.ClientTimeout(total=ASK_S)
        async with (
            aiohttp.ClientSession(connector=road, timeout=timeout) as client,
            client.request(method, f"http://localhost{path}", json=body) as answer,
        ):
            found: dict[str, Any] = msgspec.json.decode(await answer.read())
            return answer.status, found

    # ── the store ─────────────────────────────────────────────────────────────────────────────

    def pointed(self) -> str | None:
        """The sha that is current, "" for none; None: nobody can say just now."""
        try:
            content = (self.store / NAME / "pointers.json").read_bytes()
            return str(msgspec.json.decode(content)["current"] or "")
        except FileNotFoundError:
            return ""
        except (OSError, msgspec.DecodeError, KeyError):
            return None

    def is_there(self, sha: str) -> bool:
        return (self.store / NAME / sha / MANIFEST).is_file()

    def broken(self) -> list[str]:
        """Pointers that do not name what was installed."""
        try:
            content = (self.store / NAME / "pointers.json").read_bytes()
        except FileNotFoundError:
            return []
        found = []
        for word in ("current", "previous"):
            sha = msgspec.json.decode(content)[word]
            if sha and (why := _flaw(self.store / NAME / sha, sha)):
                found.append(f"{word} {sha[:12]}: {why}")
        return found

    def document(self) -> dict[str, Any]:
        """Of the rollout, as it is on the disk."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            found: dict[str, Any] = msgspec.json.decode(
                (self.state / "rollouts" / f"{NAME}.json").read_bytes()
            )
            return found
        return {}

    def left_over(self) -> list[str]:
        """What an end should have taken away, below the state directory."""
        found = []
        for name in (".incoming", ".making", ".dropping"):
            with contextlib.suppress(OSError):
                found += [str(one.relative_to(self.state)) for one in (self.store / name).iterdir()]
        places = [self.state, self.store / NAME, self.state / "engines", self.state / "tuf"]
        places += [self.state / name for name in ("rollouts", "desired", "tuf/metadata")]
        for place in places:
            with contextlib.suppress(OSError):
                found += [
                    str(one.relative_to(self.state))
                    for one in place.iterdir()
                    if OUR_TEMPORARY.fullmatch(one.name)
                ]
        return sorted(found)


def _flaw(folder: Path, sha: str) -> str:
    try:
        found = package.identity(folder, package.read_manifest(folder))
    except (EdgeAgentError, OSError) as error:
        return str(error)
    return "" if found == sha else f"it is {found[:12]} now"


def processes() -> Iterator[tuple[int, tuple[int, str]]]:
    """Pid, its parent and its command, of those that live."""
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if fields[0] != "Z":
                yield int(place.name), (int(fields[1]), command)


def _descends(pid: int, of: int, every: dict[int, tuple[int, str]]) -> bool:
    while pid in every:
        pid = every[pid][0]
        if pid == of:
            return True
    return False


def _is_tracer(command: str) -> bool:
    return Path(command.partition(" ")[0]).name == "strace"


def send(pid: int, number: signal.Signals) -> bool:
    """False: it had ended."""
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True
