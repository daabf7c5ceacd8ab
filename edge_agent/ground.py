"""The ground the house stands on: its folders, its lock, its key, and its models resolved.

One daemon per `state_dir`: the lock is taken before anything else, so that a second daemon can
neither unlink a live socket nor write into live files. `state_dir` is 0700.
"""

from __future__ import annotations

import contextlib
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
MAX_KNOWN = 1024
MAX_CONDEMNED = 64  # packages that the inference side could not use


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


class Chosen(NamedTuple):
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

    def _chosen(self, stream: str, options: StreamModel) -> Chosen:
        """Raises: Rejected, Damaged."""
        try:
            return self._sound(stream, options)
        except (Rejected, Damaged) as why:  # rotten pointers name nothing: a rollout is the cure
            first = self.firsts.get(options.name)
            is_cure = isinstance(why, Rejected) or why.healable
            if first is None or options.version or not is_cure:
                raise
            return Chosen(
                first.folder, first.sha, self._store.manifest(first.folder), is_first=True
            )

    def _sound(self, stream: str, options: StreamModel) -> Chosen:
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

    def _allowed(self, name: str, folder: Path) -> Chosen:
        """Raises: Rejected, Damaged."""
        sha, manifest = self._store.look(folder)
        why = self.blocked(name, sha)
        if why:
            raise Rejected(f"run model {name}: {why}", hint="edge-agent models history")
        if sha in self._condemned:
            raise self._condemned[sha]
        return Chosen(folder, sha, manifest, is_known=self._is_known(folder, sha))

    def _is_known(self, folder: Path, sha: str) -> bool:
        """The same as when it was first asked: an order that says otherwise is another order, and
        its stream would start anew.
        """
        if sha not in self._known:
            while len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[sha] = bool(self._store.law(folder).sha)
        return self._known[sha]

    def _stand_in(self, name: str, *, is_named: bool) -> Chosen | None:
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
