"""`spool verify|export|import|compact`: by the daemon that runs, else on the file itself.

A live spool is never opened here: the daemon's lock and the spool's own are held meanwhile. Run by
root, the file is worked on as its owner, so that the service can still open it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from edge_agent import logs
from edge_agent.cli import client, exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.spool_file import ExportFile
from edge_agent.cli.tables import size
from edge_agent.config.load import load, paths
from edge_agent.config.naming import node_name
from edge_agent.config.structs import Config, LogConfig
from edge_agent.core.carriage import MAX_ACK_FILE_BYTES
from edge_agent.ground import AlreadyRunning, mint_key, take_lock
from edge_agent.host import SystemClock, SystemHost
from edge_agent.stores.files import read_bounded
from edge_agent.stores.spool import Courier, Notice, SpoolLimits, compact, open_spool
from edge_agent.upward import keys_of

SPOOL_FILE = "spool.db"
SLOW_S = 600.0  # of silence while the daemon reads everything
ROOMY = SpoolLimits(limit_bytes=1 << 43, ballast_bytes=0)  # a look evicts nothing, fills nothing

Found = Mapping[str, Any]


def run(args: argparse.Namespace) -> int:
    verbs: dict[str, Callable[[argparse.Namespace], int]] = {
        "verify": run_verify,
        "export": run_export,
        "import": run_import,
        "compact": run_compact,
    }
    return verbs[args.spool_verb](args)


def run_verify(args: argparse.Namespace) -> int:
    """3 when something was damaged."""

    async def here(courier: Courier, found_before: Callable[[], int]) -> Found:
        found = await courier.verify()
        return {**found, "corrupt": max(found["corrupt"], found_before())}

    found = by_daemon(args, "/v1/spool/verify")
    if found is None:
        found = on_file(args, here)
    is_sound = found["corrupt"] == 0
    words = f"{found['records']:,} records are sound"
    if not is_sound:
        words += f", {found['corrupt']:,} were damaged and are given up: check the disk (dmesg)"
    say(args, found, words)
    return exits.OK if is_sound else exits.CHECK_FAILED


def run_export(args: argparse.Namespace) -> int:
    with ExportFile(Path(args.file), replace=args.force) as file:

        async def here(courier: Courier, _: Callable[[], int]) -> Found:
            async for line in courier.export(plain=args.plain):
                file.feed(line)
            return {}

        try:
            target = "/v1/spool/export" + ("?plain=1" if args.plain else "")
            for part in client.connect(args, timeout_s=SLOW_S).posted(target):
                file.feed(part)
        except CommandError as error:
            if error.code != exits.NOT_RUNNING:
                raise
            on_file(args, here)
        found = file.finish()
    words = f"wrote {args.file}: {found['records']:,} records, {size(found['bytes'])}"
    say(args, {"file": args.file, **found}, f"{words}; they are kept until you import the answer")
    if not found["private"]:
        print(f"  {args.file}: its file system lets others read it", file=sys.stderr)
    return exits.OK


def run_import(args: argparse.Namespace) -> int:
    """7 when nothing was left to go."""
    try:
        content = read_bounded(Path(args.file), MAX_ACK_FILE_BYTES)
    except OSError as error:
        raise CommandError(f"read {args.file}: {error.strerror}") from error

    async def here(courier: Courier, _: Callable[[], int]) -> Found:
        return await courier.apply(content)

    found = by_daemon(args, "/v1/spool/import", content)
    if found is None:
        found = on_file(args, here)
    words = f"{found['records']:,} records of {found['logs']:,} logs are acknowledged and gone"
    say(args, found, words)
    return exits.OK if found["records"] else exits.NOTHING_TO_DO


def run_compact(args: argparse.Namespace) -> int:
    """7 when there is nothing to give back, 6 while a daemon runs."""
    try:
        client.connect(args).get("/healthz")
    except CommandError as error:
        if error.code != exits.NOT_RUNNING:
            raise
    else:
        raise CommandError(
            "compact spool: the daemon has it open",
            hint="sudo systemctl stop edge-agent, compact, then start it again",
            code=exits.REFUSED,
        )
    with held(args) as (_, path):
        before, after = compact(path)
    given = before - after
    words = f"{size(given)} given back, {size(after)} left" if given else "nothing to give back"
    say(args, {"before_bytes": before, "after_bytes": after}, words)
    return exits.OK if given else exits.NOTHING_TO_DO


def say(args: argparse.Namespace, found: Found, words: str) -> None:
    print(json.dumps({"schema": 1, **found}, ensure_ascii=False) if args.json else words)


def by_daemon(args: argparse.Namespace, target: str, content: bytes = b"") -> Found | None:
    """None: none runs."""
    try:
        return client.connect(args, timeout_s=SLOW_S).post(target, content)
    except CommandError as error:
        if error.code != exits.NOT_RUNNING:
            raise
        return None


# ── without a daemon ──────────────────────────────────────────────────────────────────────────

Work = Callable[[Courier, Callable[[], int]], Awaitable[Found]]


def on_file(args: argparse.Namespace, work: Work) -> Found:
    """work: given a courier, and what was found damaged since the opening."""
    logs.setup(LogConfig(level="error"))  # what the spool has to say is printed below

    async def main(config: Config, path: Path) -> Found:
        async with opened(config, path) as (courier, corrupt):
            return await work(courier, corrupt)

    with held(args) as (config, path):
        return anyio.run(main, config, path)


@asynccontextmanager
async def opened(config: Config, path: Path) -> AsyncIterator[tuple[Courier, Callable[[], int]]]:
    node = config.node or node_name(socket.gethostname())
    secret = mint_key(path.with_name("exam.key"))
    spool = await anyio.to_thread.run_sync(
        lambda: open_spool(path, node=node, clock=SystemClock(), boot=SystemHost().boot_id(),
                           random32=lambda: secrets.randbits(32), limits=ROOMY)
    )  # fmt: skip
    try:
        spool.voices.on_notice(_tell)
        before = spool.stats().corrupt
        courier = Courier(spool, node=node, secret=secret, keys=keys_of(config))
        yield courier, lambda: spool.stats().corrupt - before
    finally:
        await spool.aclose()


def _tell(notice: Notice) -> None:
    print(f"edge-agent: {notice.what}", file=sys.stderr)


@contextmanager
def held(args: argparse.Namespace) -> Iterator[tuple[Config, Path]]:
    """The configuration and the file of the spool, with the daemon's lock held.

    Raises: CommandError.
    """
    loaded = load(paths(Path(args.config) if args.config else None), args.set or ())
    if loaded.config is None:
        raise CommandError(
            f"no daemon runs and the config has errors\n{loaded.text()}",
            hint="edge-agent config check",
        )
    path = Path(loaded.config.state_dir) / SPOOL_FILE
    with as_owner(path.parent):
        if not _is_there(path):
            raise CommandError(
                f"no daemon runs, and there is no spool in {path.parent}",
                hint="name its configuration: --config FILE",
            )
        try:
            lock = take_lock(path.parent)
        except AlreadyRunning as other:
            raise CommandError(other.what, hint=other.hint, code=exits.REFUSED) from other
        try:
            yield loaded.config, path
        finally:
            os.close(lock)


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise CommandError(
            f"open {path}: {error.strerror}", hint="use sudo", code=exits.REFUSED
        ) from error


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Root works as whom the folder belongs to; what it makes there belongs to the service."""
    try:
        facts = folder.stat()
    except OSError:
        yield  # whoever looks into it says what is wrong
        return
    if os.geteuid() != 0 or facts.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(facts.st_gid)
    os.seteuid(facts.st_uid)
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.seteuid(0)
        os.setegid(group)
