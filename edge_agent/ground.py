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
from edge_agent.core.problems import Problem
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
MAX_KNOWN = 1024
MAX_CONDEMNED = 64  # packages that the inference side could not use
ANSWER_S = 0.2
RESTART = "restart edge-agent"


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
        self.problems: list[Problem] = []
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
            fix = f"{fix}; then {RESTART}"
            self.problems.append(Problem("models-unseen", "critical", what, fix))
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
            fix = f"{wrong.hint}; then {RESTART}"
            self.problems.append(Problem("exam-key", "critical", what, fix))
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
            fix = f"{why.fix}; then {RESTART}"
            self.problems.append(Problem("socket-moved", "warning", what, fix))
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


class ResolvedModel(NamedTuple):
    """A package that was read and may run. is_first: a first version, on trial. is_known: somebody
    said before what it has to be.
    """

    folder: Path
    sha: str
    manifest: Manifest
    is_first: bool = False
    is_known: bool = True


Blocked = Callable[[str, str], str]  # name, sha -> why it may not run here, "" when it may


def _nothing(_name: str, _sha: str) -> str:
    return ""


class Orders:
    """Streams with their models resolved; one whose model is missing fails alone.

    Each package is read and hashed whole before it is ordered, and compared with what it has to be
    (`Models.look`): at most 2 GiB, 60 MB in some 0.1 s. One that is anything else is never run, nor
    one that the inference side could not use (`condemn`): the last good version of that name is, if
    there is one that is sound, and `fell_back` says so. A stream that names its version waits. One
    that is blocked is never run either: its streams say why, and show nothing.
    """

    def __init__(self, store: Models) -> None:
        self._store = store
        self.blocked: Blocked = _nothing
        self.firsts: dict[str, First] = {}  # by model: its first version, live on trial
        self.manifests: dict[str, Manifest] = {}
        self.fell_back: dict[str, Damaged] = {}  # by stream; it runs another version
        self._condemned: dict[str, Damaged] = {}  # by sha: what the inference side said of it
        self._known: dict[str, bool] = {}  # by sha: somebody had said what it has to be
        self._troubled: dict[str, tuple[object, ...]] = {}  # by stream: its packages' facts

    def of(self, config: Config) -> tuple[list[StreamOrder], dict[str, Rejected | Damaged]]:
        """What can be ordered, and why the rest can't. Reads every model file: off the loop."""
        found: list[StreamOrder] = []
        wrong: dict[str, Rejected | Damaged] = {}
        self.fell_back, self._troubled = {}, {}
        for name, stream in config.streams.items():
            facts = self._facts(stream)
            try:
                found.append(self._order(name, stream))
            except (Rejected, Damaged) as why:
                self.fell_back.pop(name, None)
                wrong[name] = why
            if name in wrong or name in self.fell_back:
                self._troubled[name] = facts
        return found, wrong

    @property
    def is_troubled(self) -> bool:
        """A stream can't run what it shall."""
        return bool(self._troubled)

    def has_news(self, config: Config) -> bool:
        """Of a stream that can't run what it shall, a package was replaced or mended. Blocks."""
        return any(
            self._facts(config.streams[name]) != facts
            for name, facts in self._troubled.items()
            if name in config.streams
        )

    def condemn(self, sha: str, what: str, hint: str) -> None:
        """The inference side has read it as it was ordered, and could not use it."""
        while len(self._condemned) >= MAX_CONDEMNED:
            del self._condemned[next(iter(self._condemned))]
        self._condemned[sha] = Damaged(what, hint=hint, healable=True)

    def is_as_ordered(self, folder: Path, sha: str) -> bool:
        """Reads it again, every byte: the inference side has read something else. Blocks."""
        self._store.forget(folder)
        try:
            return self._store.look(folder).sha == sha
        except (Rejected, Damaged):
            return False

    def pardon(self) -> None:
        """Somebody asks for everything again."""
        self._condemned.clear()

    def ran(self, folder: Path, sha: str, *, is_wanted: bool) -> str:
        """It was loaded and gave its golden sample. is_wanted: for a stream that names no version.

        Why that could not be noted, "" when it was. Blocks.
        """
        if self._store.remembered is None:
            return ""
        self._store.remembered.note(folder, sha, is_wanted=is_wanted)
        return self._store.remembered.trouble

    def _facts(self, stream: StreamConfig) -> tuple[object, ...]:
        return tuple(self._store.facts(one.name, one.version) for one in stream.models)

    def _order(self, name: str, stream: StreamConfig) -> StreamOrder:
        refs = []
        for options in stream.models:
            chosen = self._chosen(name, options)
            manifest = chosen.manifest
            self.manifests[f"{manifest.name}@{manifest.version}"] = manifest
            refs.append(
                ModelRef(
                    name=options.name,
                    folder=str(chosen.folder),
                    sha=chosen.sha,
                    options=msgspec.structs.replace(options, version=manifest.version),
                    pinned=bool(options.version),
                    trial=chosen.is_first,
                    known=chosen.is_known,
                )
            )
        return StreamOrder(name=name, config=stream, models=tuple(refs))

    def _chosen(self, stream: str, options: StreamModel) -> ResolvedModel:
        """Raises: Rejected, Damaged."""
        try:
            return self._sound(stream, options)
        except (Rejected, Damaged) as why:  # rotten pointers name nothing: a rollout is the cure
            first = self.firsts.get(options.name)
            is_cure = isinstance(why, Rejected) or why.healable
            if first is None or options.version or not is_cure:
                raise
            return ResolvedModel(
                first.folder, first.sha, self._store.manifest(first.folder), is_first=True
            )

    def _sound(self, stream: str, options: StreamModel) -> ResolvedModel:
        """What is wanted, else the last good version.

        Raises: Rejected, Damaged.
        """
        is_named = False
        try:
            folder = self._store.resolve(options.name, options.version)
            is_named = True
            return self._allowed(options.name, folder)
        except Damaged as why:
            if options.version:
                raise
            stand_in = self._stand_in(options.name, is_named=is_named)
            if stand_in is None:
                raise
            words = f"{options.name} {stand_in.manifest.version}, which ran before, stands in"
            self.fell_back[stream] = Damaged(
                f"{why.what}; {words}", hint=why.hint, healable=why.healable
            )
            return stand_in

    def _allowed(self, name: str, folder: Path) -> ResolvedModel:
        """Raises: Rejected, Damaged."""
        sha, manifest = self._store.look(folder)
        why = self.blocked(name, sha)
        if why:
            raise Rejected(f"run model {name}: {why}", hint="edge-agent models history")
        if sha in self._condemned:
            raise self._condemned[sha]
        return ResolvedModel(folder, sha, manifest, is_known=self._is_known(folder, sha))

    def _is_known(self, folder: Path, sha: str) -> bool:
        """The same as when it was first asked: an order that says otherwise is another order, and
        its stream would start anew.
        """
        if sha not in self._known:
            while len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[sha] = bool(self._store.law(folder).sha)
        return self._known[sha]

    def _stand_in(self, name: str, *, is_named: bool) -> ResolvedModel | None:
        """The last good version of a model: the installed one before; else, of the folders, one
        that ran well here, or what ran before anything was installed.

        is_named: it is known which version is current, so that no older one is taken for it.
        Raises: Damaged when nobody can say just now what is installed.
        """
        previous = self._store.previous(name)
        found = [(previous, "")] if previous is not None else []
        if is_named:
            found += [(folder, sha) for folder, sha in self._store.good(name)]
            with contextlib.suppress(Rejected, Damaged):
                found.append((self._store.of_folders(name), ""))
        for folder, sha in found:
            with contextlib.suppress(Rejected, Damaged):
                one = self._allowed(name, folder)
                if sha in ("", one.sha):
                    return one
        return None
