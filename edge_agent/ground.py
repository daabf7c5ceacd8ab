"""The ground the house stands on: its folders, its lock, its key, and its models resolved.

One daemon per `state_dir`: the lock is taken before anything else, so that a second daemon can
neither unlink a live socket nor write into live files. `state_dir` is 0700. One that is read-only,
full, another's or no folder at all keeps nothing, and keeps nobody from inferring.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_agent.config.structs import Config, StreamConfig, StreamModel
from edge_agent.core.errors import ConfigError, Damaged, EdgeAgentError, Rejected
from edge_agent.core.manifest import Manifest
from edge_agent.core.sockets import SOCKET_NAME, STAND_IN, stand_ins
from edge_agent.orders import ModelRef, StreamOrder
from edge_agent.stores.condition import (
    Condition,
    explain,
    is_listed,
    is_readable,
    look,
    look_inside,
    make,
)
from edge_agent.stores.files import make_folder, make_way, read_bounded, write_atomic
from edge_agent.stores.leftovers import sweep
from edge_agent.stores.models import Models

EXAM_KEY_BYTES = 32
MAX_PID_BYTES = 32
MAX_MODELS = 256
MAX_SOCKET_PATH_BYTES = 107  # sun_path
ANSWER_S = 0.2
RESTART = "restart edge-agent"

Told = tuple[str, str, str]  # severity, what, fix


class AlreadyRunning(EdgeAgentError):
    """Another daemon holds this state directory."""


class Ground:
    """Enter it to hold the lock; leave it to let the next one in. It holds whatever is wrong with
    the disk: `unusable` then says why nothing can be kept, and what to do.

    Raises: AlreadyRunning, ConfigError.
    """

    def __init__(self, config: Config) -> None:
        self.state_dir = Path(config.state_dir)
        self.runtime_dir = runtime_dir_of(config)
        self.exam_key = b""
        self.unusable: Condition | None = None
        self.is_readable = True  # what was installed and pinned can be seen
        self.problems: list[Told] = []
        self._named = bool(config.runtime_dir)
        self._held: list[int] = []

    def __enter__(self) -> Ground:  # noqa: PYI034 - Self is 3.11
        self._must_fit()
        self._lock()
        self.unusable = look(self.state_dir)
        self.is_readable = self._sees_models()
        if not self.is_readable:
            found = self.unusable or look_inside(self.state_dir)
            fix = found.fix if found else f"look whose it is: ls -laR {self.state_dir}/models"
            what = "what was installed or pinned is not seen, the folders of the configuration are"
            self.problems.append(("critical", what, f"{fix}; then {RESTART}"))
        if self.unusable is None or self.unusable.is_full:
            sweep(self.state_dir)  # now that nobody else writes here
        self.exam_key = self._key()
        self._settle()
        return self

    def __exit__(self, *_: object) -> None:
        if self.runtime_dir.name.startswith(STAND_IN):
            with contextlib.suppress(OSError):
                self.runtime_dir.rmdir()
        while self._held:
            os.close(self._held.pop())

    def _sees_models(self) -> bool:
        """Whether anybody can say which version of which model is to run."""
        models = self.state_dir / "models"
        if not (is_listed(self.state_dir) and is_listed(models)):
            return False
        names = sorted(models.iterdir())[:MAX_MODELS] if models.is_dir() else []
        return all(is_readable(one) for one in names if not one.name.startswith("."))

    def _must_fit(self) -> None:
        path = os.fsencode(self.runtime_dir / SOCKET_NAME)
        if len(path) > MAX_SOCKET_PATH_BYTES:
            raise ConfigError(
                "runtime_dir",
                f"socket path of {len(path)} B, expected <= {MAX_SOCKET_PATH_BYTES} B",
                hint="set runtime_dir to a short path, such as /run/edge-agent",
            )

    def _lock(self) -> None:
        """One agent at a state directory, also at one that can't be written."""
        with contextlib.suppress(OSError):
            make(self.state_dir)
            make_way(self.state_dir / "lock")
            if self.runtime_dir == self.state_dir / "run":
                make_folder(self.runtime_dir)
        self._held = locks_of(self.state_dir)
        for folder in stand_ins(str(self.state_dir), os.environ):
            if is_answered(Path(folder) / SOCKET_NAME):  # it could not lock what it could not open
                self.__exit__()
                raise in_use(self.state_dir, "unknown")

    def _key(self) -> bytes:
        """Without one that stays, one for this start alone: pseudonyms of no other are like it."""
        try:
            return mint_key(self.state_dir / "exam.key")
        except ConfigError as wrong:
            what = f"exam pseudonyms are of this start only: {wrong.what}"
            self.problems.append(("critical", what, f"{wrong.hint}; then {RESTART}"))
            return secrets.token_bytes(EXAM_KEY_BYTES)

    def _settle(self) -> None:
        """Where the socket will be: its own place, or a folder where commands look for it too."""
        why = why_no_socket(self.runtime_dir)
        if why is None:
            return
        folders = map(Path, stand_ins(str(self.state_dir), os.environ))
        found = next((one for one in folders if why_no_socket(one) is None), None)
        if found is None:
            return  # the console says so
        if self.unusable is None or self._named:
            what = f"the control socket is not in runtime_dir, which can't be used: {why.what}"
            self.problems.append(("warning", what, f"{why.fix}; then {RESTART}"))
        self.runtime_dir = found


def runtime_dir_of(config: Config) -> Path:
    """As configured, else the service manager's, else inside the state directory."""
    if config.runtime_dir:
        return Path(config.runtime_dir)
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return Path(given) if given else Path(config.state_dir) / "run"


def why_no_socket(folder: Path) -> Condition | None:
    """Tries it: a folder that is ours and takes a socket. None: it does."""
    beside = folder / f".{secrets.token_hex(2)}"
    if len(os.fsencode(folder / SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
        return Condition("its path is too long for a socket", "set a short runtime_dir")
    try:
        make(folder)
        if folder.name.startswith(STAND_IN) and not is_ours(folder):
            return Condition("it belongs to somebody else", f"sudo rm -r {folder}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.bind(os.fsencode(beside))
            beside.unlink()
    except OSError as error:
        return explain(error, folder)
    return None


def is_ours(folder: Path) -> bool:
    """Below /tmp anybody may have made it. Raises: OSError."""
    found = folder.lstat()
    is_private = not stat.S_IMODE(found.st_mode) & (stat.S_IRWXG | stat.S_IRWXO)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and is_private


def is_answered(path: Path) -> bool:
    """Whether somebody listens on a socket there."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.settimeout(ANSWER_S)
            caller.connect(os.fsencode(path))
    except OSError:
        return False
    return True


def take_lock(state_dir: Path) -> int:
    """The lock of a folder that can be written. Raises: AlreadyRunning, ConfigError."""
    path = state_dir / "lock"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        told = explain(error, state_dir)
        raise ConfigError("state_dir", f"open {path}: {told.what}", hint=told.fix) from error
    _hold(fd, state_dir)
    return fd


def locks_of(state_dir: Path) -> list[int]:
    """Of the folder, and of the file in it: what can be opened of them, be it only to read.

    Raises: AlreadyRunning.
    """
    held: list[int] = []
    ways = (
        (state_dir / "lock", os.O_RDWR | os.O_CREAT),
        (state_dir / "lock", os.O_RDONLY),
        (state_dir, os.O_RDONLY | os.O_DIRECTORY),
    )
    try:
        for path, flags in ways:
            if held and path != state_dir:
                continue
            with contextlib.suppress(OSError):
                held.append(os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600))
                _hold(held[-1], state_dir)
    except AlreadyRunning:
        for fd in held[:-1]:
            os.close(fd)
        raise
    return held


def _hold(fd: int, state_dir: Path) -> None:
    """Raises: AlreadyRunning, and `fd` is closed."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        pid = ""
        with contextlib.suppress(OSError):  # of a folder there is nothing to read
            pid = os.pread(fd, MAX_PID_BYTES, 0).decode(errors="replace").strip()
        os.close(fd)
        raise in_use(state_dir, pid or "unknown") from error
    with contextlib.suppress(OSError):  # a full disk; only who looks at it misses the number
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)


def in_use(state_dir: Path, pid: str) -> AlreadyRunning:
    return AlreadyRunning(
        f"state directory {state_dir} is in use by another edge-agent (pid {pid})",
        hint="edge-agent status shows it; stop it, or set another state_dir",
    )


def mint_key(path: Path) -> bytes:
    """The key of exam pseudonyms: made once, kept, 0600.

    Raises: ConfigError.
    """
    try:
        if not os.path.lexists(path):
            write_atomic(path, secrets.token_bytes(EXAM_KEY_BYTES), mode=0o600)
        key = read_bounded(path, EXAM_KEY_BYTES)
    except OSError as error:
        told = explain(error, path.parent)
        raise ConfigError("state_dir", f"exam key: {told.what}", hint=told.fix) from error
    except EdgeAgentError as error:
        hint = f"sudo mv {path} {path}.aside; a new one is minted (pseudonyms change)"
        raise ConfigError("state_dir", f"exam key: {error.what}", hint=hint) from error
    if len(key) != EXAM_KEY_BYTES:
        raise ConfigError(
            "state_dir", f"exam key {path.name} has {len(key)} B, expected {EXAM_KEY_BYTES} B",
            hint=f"sudo mv {path} {path}.aside; a new one is minted (pseudonyms change)",
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
