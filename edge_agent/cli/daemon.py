"""The daemon's outermost shell: configuration chosen, loop made, signals turned into a stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import msgspec

from edge_agent import chatter, logs
from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.cli import early, exits
from edge_agent.cli.exits import CommandError
from edge_agent.config import lastgood, pushed
from edge_agent.config.load import Loaded, Paths, load, paths
from edge_agent.config.naming import OWN_NAME, altered, node_name
from edge_agent.config.problems import shareable
from edge_agent.config.structs import Config
from edge_agent.core.errors import ConfigError, Damaged, EdgeAgentError
from edge_agent.ground import AlreadyRunning
from edge_agent.host import raise_descriptor_limit
from edge_agent.inference.side import start_in_threads
from edge_agent.services.engine import InThreads
from edge_agent.services.rollouts.layer import Layer
from edge_agent.stores.files import make_way, read_bounded, write_atomic

SWITCH_INTERVAL_S = (
    0.0005  # a thread that computes lets the loop in ten times sooner than by default
)

MIN_DESCRIPTORS = 32  # what is needed without a caller; what is short of one later says so

log = logs.get("daemon")


def run(args: argparse.Namespace) -> int:
    """Until SIGTERM or SIGINT."""
    if (descriptors := raise_descriptor_limit()) < MIN_DESCRIPTORS:
        raise CommandError(
            f"start: expected at least {MIN_DESCRIPTORS} open files allowed, got {descriptors}",
            hint="raise LimitNOFILE in the unit, or ulimit -n; 1024 is enough",
        )
    os.umask(0o077)  # whatever it was started with: what it writes is its own
    where, overrides = paths(Path(args.config) if args.config else None), list(args.set or ())
    loaded = load(where, overrides)
    last_good = read_last_good(loaded)
    try:
        chosen = lastgood.choose(loaded, last_good)
    except ConfigError as wrong:
        if "JOURNAL_STREAM" in os.environ:  # what is said here is a log, and is carried away
            raise ConfigError("", shareable(wrong.what), hint=wrong.hint) from None
        raise
    config = named(chosen.config)
    degraded = loaded.text() if chosen.degraded else ""

    def load_again() -> tuple[Config | None, str]:
        again = load(where, overrides)
        if again.config is None:
            return None, again.text()
        return named(again.config), ""

    files = Files(where, overrides)
    with chatter.logged():
        logs.setup(config.log)
        if not chosen.config.node and (what := altered(socket.gethostname())):
            log.warning(what, node=config.node, fix=OWN_NAME)
        try:
            run_loop(lambda: serve(config, degraded=degraded, files=files, load_again=load_again))
        except AlreadyRunning as other:
            raise CommandError(other.what, hint=other.hint, code=exits.REFUSED) from other
    return exits.OK


def named(config: Config) -> Config:
    """With a node name: the host's, unless the operator gave one."""
    if config.node:
        return config
    return msgspec.structs.replace(config, node=node_name(socket.gethostname()))


def run_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """One event loop, the fast one where it is installed."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        import uvloop  # noqa: PLC0415 - optional at run time: no wheel, no speed
    except ImportError:
        asyncio.run(main())
        return
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def in_threads(control: socket.socket, event_fd: int, board_fd: int) -> InThreads:
    """The inference side as threads of this process."""
    return InThreads(start_in_threads(control, event_fd, board_fd))


class Files(NamedTuple):
    """Where the configuration comes from: its files, `--set`, and what came down."""

    where: Paths
    overrides: list[str]

    def layer(self, agent: Agent, state_dir: str) -> Layer:
        kept = PushedFile(Path(state_dir) / pushed.FILE_NAME)
        return Layer(self.where, self.overrides, kept, agent.reload)


class PushedFile:
    """The layer that came down, on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bytes | None:
        try:
            return read_bounded(self._path, pushed.MAX_BYTES)
        except (OSError, EdgeAgentError):
            return None

    def write(self, content: bytes) -> None:
        """Raises: Damaged."""
        try:
            write_atomic(self._path, content, mode=0o600)
        except OSError as error:
            raise Damaged(f"write {self._path.name}: {error.strerror}",
                          hint="check the disk: df, dmesg") from error  # fmt: skip


async def serve(
    config: Config,
    *,
    degraded: str,
    files: Files,
    load_again: Callable[[], tuple[Config | None, str]],
) -> None:
    """The house from READY to dark. A signal during the start is heard: it ends the start, or the
    configuration is read again once there is somebody to take it.
    """
    ears = Ears()
    with anyio.CancelScope() as start, contextlib.ExitStack() as hearing:
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        signals = hearing.enter_context(anyio.open_signal_receiver(*numbers))
        listening = asyncio.ensure_future(ears.listen(signals, start))
        hearing.callback(listening.cancel)
        async with running(config, in_process=in_threads, degraded=degraded) as agent:
            agent.load_again, agent.keep_good = load_again, write_last_good
            agent.downward.apply = files.layer(agent, config.state_dir).apply
            if not degraded:
                await anyio.to_thread.run_sync(write_last_good, config)
            gc.freeze()  # what stands at start stays; the collector need not look at it again
            await ears.obey(agent)
            hearing.close()  # a second signal meets the default handlers: at once


class Ears:
    """SIGHUP reloads and goes on; SIGTERM and SIGINT end it, the start too."""

    def __init__(self) -> None:
        self._is_up = False
        self._stop = False
        self._reload = early.heard.reload
        self._news = anyio.Event()

    async def listen(
        self, signals: AsyncIterator[signal.Signals], start: anyio.CancelScope
    ) -> None:
        """start: what a stop cancels while the house is not up yet."""
        async for number in signals:
            if number == signal.SIGHUP:
                self._reload = True
            else:
                log.info("stopping", signal=signal.Signals(number).name)
                self._stop = True
                if not self._is_up:
                    start.cancel()
            self._news.set()
            if self._stop:
                return

    async def obey(self, agent: Agent) -> None:
        """Until it is told to stop."""
        self._is_up = True
        while not self._stop:
            self._news = anyio.Event()
            if self._reload:
                self._reload = False
                await self._read_again(agent)
                continue
            await self._news.wait()

    async def _read_again(self, agent: Agent) -> None:
        try:
            await agent.reload()
        except EdgeAgentError as wrong:
            log.warning("reload failed", error=wrong.what, hint=wrong.hint)


# ── the last good configuration ───────────────────────────────────────────────────────────────


def read_last_good(loaded: Loaded) -> Config | None:
    """None when there is none, or it is damaged: then the files must be right."""
    path = Path(loaded.state_dir) / lastgood.FILE_NAME
    try:
        return lastgood.decode_last_good(read_bounded(path, lastgood.MAX_BYTES))
    except (OSError, EdgeAgentError):
        return None


def write_last_good(config: Config) -> None:
    """Best effort: a full disk must not keep a sound configuration from running."""
    path = Path(config.state_dir) / lastgood.FILE_NAME
    try:
        make_way(path)
        write_atomic(path, lastgood.encode_last_good(config), mode=0o600)
    except (OSError, EdgeAgentError, UnicodeEncodeError) as error:  # the last: an odd path in it
        log.warning("last good configuration not kept", error=str(error))
