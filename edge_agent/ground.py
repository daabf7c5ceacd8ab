"""The ground the house stands on: its folders, its lock, its key, and its models resolved.

One daemon per `state_dir`: the lock is taken before anything else, so that a second daemon can
neither unlink a live socket nor write into live files. `state_dir` is 0700.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_agent.config.structs import Config, StreamConfig, StreamModel
from edge_agent.core.errors import ConfigError, Damaged, EdgeAgentError, Rejected
from edge_agent.core.manifest import Manifest
from edge_agent.orders import ModelRef, StreamOrder
from edge_agent.stores.files import read_bounded, write_atomic
from edge_agent.stores.leftovers import sweep
from edge_agent.stores.models import Models

EXAM_KEY_BYTES = 32
MAX_PID_BYTES = 32
MAX_SOCKET_PATH_BYTES = 107  # sun_path


class AlreadyRunning(EdgeAgentError):
    """Another daemon holds this state directory."""


class Ground:
    """Enter it to hold the lock; leave it to let the next one in.

    Raises: AlreadyRunning, ConfigError.
    """

    def __init__(self, config: Config) -> None:
        self.state_dir = Path(config.state_dir)
        self.runtime_dir = runtime_dir_of(config)
        self.exam_key = b""
        self._lock: int | None = None

    def __enter__(self) -> Ground:  # noqa: PYI034 - Self is 3.11
        socket_path = os.fsencode(self.runtime_dir / "control.sock")
        if len(socket_path) > MAX_SOCKET_PATH_BYTES:
            raise ConfigError(
                "runtime_dir",
                f"socket path of {len(socket_path)} B, expected <= {MAX_SOCKET_PATH_BYTES} B",
                hint="set runtime_dir to a short path, such as /run/edge-agent",
            )
        for key, folder in (("state_dir", self.state_dir), ("runtime_dir", self.runtime_dir)):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    key, f"make {folder}: {error.strerror}",
                    hint="run as the service's user, or choose another folder",
                ) from error  # fmt: skip
        self._lock = take_lock(self.state_dir)
        sweep(self.state_dir)  # now that nobody else writes here
        self.exam_key = mint_key(self.state_dir / "exam.key")
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def runtime_dir_of(config: Config) -> Path:
    """As configured, else the service manager's, else inside the state directory."""
    if config.runtime_dir:
        return Path(config.runtime_dir)
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(given) if given else Path(config.state_dir) / "run"


def take_lock(state_dir: Path) -> int:
    """Raises: AlreadyRunning, ConfigError."""
    path = state_dir / "lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            "state_dir", f"open {path}: {error.strerror}", hint="run as the service's user"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        pid = os.pread(fd, MAX_PID_BYTES, 0).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise AlreadyRunning(
            f"state directory {state_dir} is in use by another edge-agent (pid {pid})",
            hint="edge-agent status shows it; stop it, or set another state_dir",
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def mint_key(path: Path) -> bytes:
    """The key of exam pseudonyms: made once, kept, 0600.

    Raises: ConfigError.
    """
    try:
        if not path.exists():
            write_atomic(path, secrets.token_bytes(EXAM_KEY_BYTES), mode=0o600)
        key = read_bounded(path, EXAM_KEY_BYTES)
    except (OSError, EdgeAgentError) as error:
        raise ConfigError(
            "state_dir", f"exam key: {error}", hint="run as the service's user"
        ) from error
    if len(key) != EXAM_KEY_BYTES:
        raise ConfigError(
            "state_dir", f"exam key {path.name} has {len(key)} B, expected {EXAM_KEY_BYTES} B",
            hint="move it away; a new one is minted (pseudonyms change)",
        )  # fmt: skip
    return key


class First(NamedTuple):
    """A version of a model of which none is live."""

    folder: Path
    sha: str


Blocked = Callable[[str, str], str]  # name, sha -> why it may not run here, "" when it may


def _nothing(_name: str, _sha: str) -> str:
    return ""


class Orders:
    """Streams with their models resolved; one whose model is missing fails alone.

    Each package is read and hashed whole before it is ordered (`Models.identity`): at most 2 GiB,
    60 MB in some 0.1 s. An installed current version that is no longer what was installed is never
    run: the one before it is, if that is sound, and `fell_back` says so. One that is blocked is
    never run either: its streams say why, and show nothing.
    """

    def __init__(self, store: Models) -> None:
        self._store = store
        self.blocked: Blocked = _nothing
        self.firsts: dict[str, First] = {}  # by model: its first version, live on trial
        self.manifests: dict[str, Manifest] = {}
        self.fell_back: dict[str, Damaged] = {}  # by stream; it runs its previous version

    def of(self, config: Config) -> tuple[list[StreamOrder], dict[str, Rejected | Damaged]]:
        """What can be ordered, and why the rest can't. Reads every model file: off the loop."""
        found: list[StreamOrder] = []
        wrong: dict[str, Rejected | Damaged] = {}
        self.fell_back = {}
        for name, stream in config.streams.items():
            try:
                found.append(self._order(name, stream))
            except (Rejected, Damaged) as why:
                self.fell_back.pop(name, None)
                wrong[name] = why
        return found, wrong

    def _order(self, name: str, stream: StreamConfig) -> StreamOrder:
        refs = []
        for options in stream.models:
            folder, sha, is_first = self._chosen(name, options)
            manifest = self._store.manifest(folder)
            self.manifests[f"{manifest.name}@{manifest.version}"] = manifest
            refs.append(
                ModelRef(
                    name=options.name,
                    folder=str(folder),
                    sha=sha,
                    options=msgspec.structs.replace(options, version=manifest.version),
                    pinned=bool(options.version),
                    trial=is_first,
                )
            )
        return StreamOrder(name=name, config=stream, models=tuple(refs))

    def _chosen(self, stream: str, options: StreamModel) -> tuple[Path, str, bool]:
        """A package, its sha256, and whether it is a first version on trial.

        Raises: Rejected, Damaged.
        """
        try:
            folder, sha = self._sound(stream, options)
            why = self.blocked(options.name, sha)
            if why:
                raise Rejected(f"run model {options.name}: {why}", hint="edge-agent models history")
        except (Rejected, Damaged) as why:  # rotten pointers name nothing: a rollout is the cure
            first = self.firsts.get(options.name)
            is_cure = isinstance(why, Rejected) or why.healable
            if first is None or options.version or not is_cure:
                raise
            return first.folder, first.sha, True
        return folder, sha, False

    def _sound(self, stream: str, options: StreamModel) -> tuple[Path, str]:
        """A package and its sha256.

        Raises: Rejected, Damaged.
        """
        try:
            folder = self._store.resolve(options.name, options.version)
            return folder, self._store.identity(folder)
        except Damaged as why:
            previous = None if options.version else self._store.previous(options.name)
            if previous is None:
                raise
            sha = self._store.identity(previous)
            self.fell_back[stream] = why
            return previous, sha
