"""What `demo` does: a house of its own in a temporary directory, a view, a summary, a report.

Counting starts when every stream has captured its first frame, lasts `--seconds`, and the sums are
taken after the last result has arrived: captured = inferred + dropped, exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import io
import json
import math
import os
import select
import signal
import sys
import tempfile
import termios
import tty
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import msgspec
from rich.console import Console, RenderableType
from rich.live import Live

from edge_agent import __version__, logs
from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.cli import exits, screen, switches, upward
from edge_agent.cli.daemon import in_threads, run_loop
from edge_agent.cli.exits import CommandError
from edge_agent.cli.switches import Switches
from edge_agent.cli.wings import Wings, scratch, wings
from edge_agent.config.load import load_text
from edge_agent.config.samples import sample
from edge_agent.config.structs import Config, LogConfig, RolloutsConfig, UplinkConfig
from edge_agent.core.ring import Word

NODE = "demo"
DRAIN_S = 2.0
FIRST_FRAME_TIMEOUT_S = 30.0
REDRAW_S = 0.2
LOOK_S = 0.02
SETTLED = ("captured", "inferred", "dropped", "frozen", "missed", "extra_runs", "extra_shed")
PUSHES_FROM_S = 40.0  # a shorter run has no time for trials
NO_UI_SECONDS = 20.0  # without a view somebody must say when to end


class Push(NamedTuple):
    """When in a run the hot tier wants which version."""

    share: float
    model: str
    version: str


LATEST_SHARE = 0.75  # a machine that is too busy for trials: then the next takes its place
PUSHES = (Push(0.25, "us-chamber", "1.1.0"), Push(0.55, "us-chamber", "1.2.0"))


def run(args: argparse.Namespace) -> int:
    """Raises: CommandError."""
    logs.setup(LogConfig(level="warning" if args.no_ui else "error"))
    seconds = args.seconds
    ui = not args.no_ui and sys.stdout.isatty()
    if seconds is None and not ui:
        seconds = NO_UI_SECONDS
    with tempfile.TemporaryDirectory(prefix="ea-demo-") as folder:
        show = Show(config_in(folder), seconds=seconds, ui=ui, save=args.save)
        run_loop(functools.partial(perform, show, args.far_side, folder))
    report = show.report()
    if args.report:
        write_report(Path(args.report), report)
    print(summary(report))
    return exits.OK if not report["errors"] else exits.ERROR


async def perform(show: Show, far_side: str, folder: str) -> None:
    """With what stands behind the edge, if somebody brings it."""
    if not far_side:
        await show.play()
        return
    async with (
        wings(far_side, node=NODE, folder=scratch(folder)) as there,
        anyio.create_task_group() as group,
    ):
        group.start_soon(there.listen)
        show.wings = there
        await show.play()
        show.far = await there.end()
        group.cancel_scope.cancel()


def config_in(folder: str) -> Config:
    """The sample `demo` with its files in `folder`."""
    loaded = load_text(sample("demo"), file="demo.toml", overrides=[f'state_dir="{folder}"'])
    if loaded.config is None:
        raise CommandError(f"the demo's own configuration is broken:\n{loaded.text()}")
    return msgspec.structs.replace(loaded.config, node=NODE)


def with_road(config: Config, there: Wings) -> Config:
    """Up to a broker on this machine, and down from its repository, on trial for seconds."""
    road = UplinkConfig(enabled=True, port=there.port, drain_s=DRAIN_S)
    down = RolloutsConfig(
        enabled=bool(there.url), repositories=(there.url,), root_file=there.root,
        shadow_s=30.0, probation_frames=45, probation_s=2.0,
    )  # fmt: skip
    return msgspec.structs.replace(config, uplink=road, rollouts=down)


class Show:
    """One run of the demo."""

    def __init__(
        self, config: Config, *, seconds: float | None, ui: bool, save: str | None
    ) -> None:
        self._config = config
        self._seconds = seconds
        self._ui = ui
        self._save = save
        self._started_us = 0
        self._elapsed_s = 0.0
        self._status: dict[str, Any] = {}
        self._over = asyncio.Event()
        self.wings: Wings | None = None
        self.far: dict[str, Any] = {}  # what came of it there
        self._switches = Switches()
        long = seconds is None or seconds >= PUSHES_FROM_S
        self._pushes = deque(PUSHES if long else ())

    async def play(self) -> None:
        """Raises: CommandError, EdgeAgentError."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._over.set)
        config = with_road(self._config, self.wings) if self.wings else self._config
        hear = self._switches.hear
        async with running(config, in_process=in_threads, on_record=hear) as agent:
            await self._wait_for_first_frames(agent)
            await (self._show(agent) if self._ui else self._wait(agent))
            if self._save:
                now = screen.scene(agent.views)
                await anyio.to_thread.run_sync(self._save_view, now, self._save)
            self._status = agent.views.status()
            self._elapsed_s = self._since_start_s(agent)
        self._settle(agent.views.status())

    def _settle(self, final: dict[str, Any]) -> None:
        """What a stream was at its end, with the sums of after its last result."""
        for name, stream in self._status["streams"].items():
            after = final["streams"][name]
            stream.update({key: after[key] for key in SETTLED})
        self._status["spool"], self._status["uplink"] = final["spool"], final["uplink"]

    async def _wait_for_first_frames(self, agent: Agent) -> None:
        with anyio.move_on_after(FIRST_FRAME_TIMEOUT_S):
            while not self._over.is_set():
                firsts = [tap.word(Word.FIRST_FRAME_US) for tap in agent.engine.taps.values()]
                if len(firsts) == len(self._config.streams) and all(firsts):
                    self._started_us = max(firsts)
                    return
                await anyio.sleep(LOOK_S)
        problems = "; ".join(p["what"] for p in agent.views.problems()) or "stopped"
        raise CommandError(
            f"demo: not every stream delivers: {problems}", hint="see the log with --no-ui"
        )

    def _since_start_s(self, agent: Agent) -> float:
        return (agent.rooms.clock.boot_us() - self._started_us) / 1e6

    def _is_over(self, agent: Agent) -> bool:
        now_s = self._since_start_s(agent)
        if self._is_due(now_s / (self._seconds or math.inf)):
            self._push()
        due = self._seconds is not None and now_s >= self._seconds
        return due or self._over.is_set()

    def _is_due(self, share: float) -> bool:
        """The next version, when its time has come and the one before has had its trial."""
        if not self._pushes or share < self._pushes[0].share:
            return False
        begun = len(PUSHES) - len(self._pushes)
        return len(self._switches.reports) >= begun or share >= LATEST_SHARE

    def _push(self) -> None:
        """The hot tier wants the next version."""
        if self.wings is not None and self._pushes:
            push = self._pushes.popleft()
            self.wings.do("push", model=push.model, version=push.version)

    async def _wait(self, agent: Agent) -> None:
        while not self._is_over(agent):  # noqa: ASYNC110 - also a deadline, on another clock
            await anyio.sleep(LOOK_S)

    async def _show(self, agent: Agent) -> None:
        with (
            keys() as pressed,
            Live(
                auto_refresh=False, screen=True, redirect_stdout=False, redirect_stderr=False
            ) as live,
        ):
            while not self._is_over(agent):
                now, elapsed_s = screen.scene(agent.views), self._since_start_s(agent)
                await anyio.to_thread.run_sync(self._draw, now, elapsed_s, live)
                await anyio.sleep(REDRAW_S)
                keys_pressed = pressed()
                if "q" in keys_pressed:
                    return
                if "c" in keys_pressed and self.wings is not None:
                    self.wings.toggle_link()
                if "m" in keys_pressed:
                    self._push()

    def _draw(self, now: screen.Scene, elapsed_s: float, live: Live) -> None:
        size = live.console.size
        live.update(self._view(now, elapsed_s, (size.width, size.height)), refresh=True)

    def _view(
        self, now: screen.Scene, elapsed_s: float, size: tuple[int, int] | None = None
    ) -> RenderableType:
        return screen.view(now, elapsed_s, self.wings.news if self.wings else None, size)

    def _save_view(self, now: screen.Scene, path: str) -> None:
        if path.endswith(".svg"):
            console = Console(record=True, width=126, file=io.StringIO())
            console.print(self._view(now, self._elapsed_s))
            console.save_svg(path, title="tools/demo")
            return
        from PIL import Image  # noqa: PLC0415 - only when a picture is asked for

        Image.fromarray(screen.montage(now)[:, :, ::-1]).save(path)

    def report(self) -> dict[str, Any]:
        """The sums: `streams` as in the status, rates over the whole run."""
        streams = self._status["streams"]
        for stream in streams.values():
            stream["fps_in"] = round(stream["captured"] / self._elapsed_s, 2)
            stream["fps_out"] = round(stream["inferred"] / self._elapsed_s, 2)
        errors = {name: errors_of(stream) for name, stream in streams.items()}
        return {
            "schema": 1,
            "version": __version__,
            "python": sys.version.split()[0],
            "seconds": round(self._elapsed_s, 3),
            "errors": sum(errors.values()),
            "streams": streams,
            "engine": self._status["engine"],
            "spool": self._status["spool"],
            **(upward.sums(self._status, self.far) if self.far else {}),
            **(self._switches.sums() if self.far else {}),
        }


def errors_of(stream: dict[str, Any]) -> int:
    return int(stream["dropped"]["error"]) + int(stream["dropped"]["crash"])


def summary(report: dict[str, Any]) -> str:
    """A few lines for a person."""
    lines = [f"demo: {report['seconds']:.1f} s on Python {report['python']}"]
    for name, stream in report["streams"].items():
        lost = ", ".join(f"{n} {why}" for why, n in stream["dropped"].items() if n) or "none"
        latency = stream["latency_ms"]
        lines.append(
            f"  {name:<11} {stream['captured']} captured, {stream['inferred']} inferred "
            f"({stream['fps_out']:.1f} fps), lost: {lost}, "
            f"latency p50 {screen.ms(latency['p50'])} p99 {screen.ms(latency['p99'])} ms"
        )
    lines += upward.words(report)
    lines += switches.words(report)
    lines.append(f"  errors: {report['errors']}.  Demo models: not for diagnosis.")
    return "\n".join(lines)


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Raises: CommandError."""
    try:
        path.write_text(json.dumps(report, indent=1) + "\n")
    except OSError as error:
        raise CommandError(
            f"write {path}: {error.strerror}", hint="choose another --report"
        ) from error


@contextlib.contextmanager
def keys() -> Iterator[Any]:
    """Keys as they are pressed, without Enter; none where stdin is no terminal."""
    if not sys.stdin.isatty():
        yield lambda: ""
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)

    def pressed() -> str:
        ready, _, _ = select.select([fd], [], [], 0)
        return os.read(fd, 32).decode(errors="replace") if ready else ""

    tty.setcbreak(fd)
    try:
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
