"""Reads, merges and checks the configuration. Everything wrong is told at once, with its line.

Files: `config.toml`, then the drop-ins of the folder of the same name (`config.d/*.toml`) in name
order, then `--set`. Tables merge, anything else is replaced, the later wins. No environment.
Never raises for what an operator wrote; never writes.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.config import pushed
from edge_agent.config.check import findings
from edge_agent.config.fields import flaws_of
from edge_agent.config.lines import MAX_DEPTH, key_lines
from edge_agent.config.merge import (
    keys_below,
    merge,
    override_key,
    override_value,
    parse_toml,
    put,
)
from edge_agent.config.problems import Flaw, Key, Problem, as_text, dotted, masked
from edge_agent.config.structs import Config

MAX_FILE_BYTES: Final = 1 << 20
MAX_FILES: Final = 64
MAX_OVERRIDES: Final = 256
DEFAULT_FILE: Final = Path("/etc/edge-agent/config.toml")
OVERRIDE: Final = "--set"

_Origins = dict[Key, tuple[str, int]]  # file and line of a key
_LINE = re.compile(r"\(at line (\d+), column (\d+)\)$")
_STATE_DIR = re.compile(r"""^[ \t]*state_dir[ \t]*=[ \t]*(["'])(/[^"'\n]*)\1""", re.MULTILINE)


class Paths(msgspec.Struct, frozen=True):
    """file: the main one. folder: of the drop-ins, which may be missing."""

    file: Path
    folder: Path


def paths(file: Path | None = None) -> Paths:
    """Of `--config FILE`, or the default ones. Drop-ins of `x.toml` are in `x.d`."""
    chosen = DEFAULT_FILE if file is None else file
    return Paths(chosen, chosen.with_suffix(".d"))


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """config: None when there is an error. tables: merged, as written. state_dir: the best guess.

    `state_dir` also stands when `config` does not, so that the last good one can be found.
    """

    config: Config | None
    problems: tuple[Problem, ...]
    files: tuple[str, ...] = ()
    state_dir: str = Config().state_dir
    tables: Mapping[str, Any] = {}
    locate: Callable[[Flaw], Problem] | None = None

    def with_flaws(self, flaws: Sequence[Flaw]) -> Loaded:
        """And with these, found on the machine; `config` stays: it is sound in itself."""
        if self.locate is None:
            return self
        found = tuple(self.locate(flaw) for flaw in flaws)
        return msgspec.structs.replace(self, problems=(*self.problems, *found))

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "warn")

    def text(self) -> str:
        """All problems, one a line; "" when there is none."""
        return as_text(self.problems)


def load(where: Paths, overrides: Sequence[str] = ()) -> Loaded:
    """Reads the files of `where` and applies `overrides` ("section.key=value").

    What was pushed down to this machine lies below them; left out, with a warning, if it is wrong.
    """
    own = load_over("", where, overrides)
    text, problem = _pushed(Path(own.state_dir) / pushed.FILE_NAME)
    if problem is None and not text:
        return own
    whole = load_over(text, where, overrides) if problem is None else own
    if problem is None and not whole.errors:
        return whole
    why = problem or Problem(
        file=pushed.FILE_NAME,
        message=f"left out: {whole.errors[0]}",
        hint="what was pushed down does not fit the files here",
        severity="warn",
    )
    return msgspec.structs.replace(own, problems=(*own.problems, why))


def load_over(below: str, where: Paths, overrides: Sequence[str] = ()) -> Loaded:
    """As `load`, with this text as the layer that was pushed down; "" for none."""
    reading = _Reading()
    if below:
        reading.add_text(below, pushed.FILE_NAME)
        reading.problems += pushed.forbidden(reading.tables)
    for file in _files(where, reading.problems):
        reading.add_file(file)
    reading.add_overrides(overrides)
    return reading.judged()


def _pushed(path: Path) -> tuple[str, Problem | None]:
    """The layer as it lies there, "" for none; or why it cannot be read."""
    try:
        return _text_of(path), None
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return "", None
    except (OSError, UnicodeDecodeError) as error:
        words = f"left out: {error}"
        return "", Problem(file=str(path), message=words, hint="push it again", severity="warn")


def load_text(text: str, *, file: str = "config.toml", overrides: Sequence[str] = ()) -> Loaded:
    """As `load`, of one text that is already in memory."""
    reading = _Reading()
    reading.add_text(text, file)
    reading.add_overrides(overrides)
    return reading.judged()


class _Reading:
    """What was read so far: the merged tables, where each key came from, what was wrong."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.tables: dict[str, Any] = {}
        self._origins: list[_Origins] = []  # the latest first
        self._around: _Origins = {}  # tables that only an override speaks of
        self._files: list[str] = []
        self._state_dir = ""

    def add_file(self, path: Path) -> None:
        try:
            text = _text_of(path)
        except OSError as error:
            self.problems.append(_unreadable(path, error))
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            self.problems.append(
                Problem(file=str(path), line=line, message="not UTF-8 text", hint="save as UTF-8")
            )
        else:
            self.add_text(text, str(path))

    def add_text(self, text: str, file: str) -> None:
        self._files.append(file)
        top = text.partition("\n[")[0]
        found = _STATE_DIR.search(top)
        self._state_dir = found[2] if found else self._state_dir
        scan = key_lines(text)
        if scan.too_deep_line:
            message = f"nested too deeply (expected at most {MAX_DEPTH} levels)"
            self.problems.append(Problem(file=file, line=scan.too_deep_line, message=message))
            return
        try:
            tables = parse_toml(text)
        except (ValueError, RecursionError) as error:
            self.problems.append(_syntax(error, text, file))
            return
        self._origins.insert(0, {key: (file, line) for key, line in scan.lines.items()})
        merge(self.tables, tables)

    def add_overrides(self, overrides: Sequence[str]) -> None:
        for override in overrides[:MAX_OVERRIDES]:
            self._add_override(override)
        if len(overrides) > MAX_OVERRIDES:
            self._refuse(f"too many (expected at most {MAX_OVERRIDES}, got {len(overrides)})")

    def _add_override(self, override: str) -> None:
        name, equals, text = override.partition("=")
        key = override_key(name) if equals else None
        if key is None:
            self._refuse(
                f'not understood (expected section.key=value, got "{masked(override[:60])}")',
                hint="as in --set console.port=9811",
            )
            return
        value = override_value(text.strip())
        path = put(self.tables, key, value)
        if path is None:
            self._refuse("leads through something that is no table", key=dotted(tuple(key)))
            return
        self._origins.insert(0, dict.fromkeys(keys_below(path, value), (OVERRIDE, 0)))
        self._around.update({path[:length]: (OVERRIDE, 0) for length in range(1, len(path))})

    def _refuse(self, message: str, *, key: str = "", hint: str = "") -> None:
        self.problems.append(Problem(file=OVERRIDE, key=key, message=message, hint=hint))

    def judged(self) -> Loaded:
        """Every flaw of what was read; a config only when none of them is an error."""
        flaws = flaws_of(self.tables, Config)
        if self.problems:  # the missing keys may stand in what could not be read
            flaws = [flaw for flaw in flaws if not flaw.is_missing]
        config, found = _convert(_without(self.tables, flaws))
        if flaws or self.problems:
            found = [flaw for flaw in found if flaw.severity == "error"]
        problems = self.problems + [self._located(flaw) for flaw in (*flaws, *found)]
        problems.sort(key=self._order)
        is_sound = all(problem.severity == "warn" for problem in problems)
        state_dir = self.tables.get("state_dir", self._state_dir)
        return Loaded(
            config=config if is_sound else None,
            problems=tuple(problems),
            files=tuple(self._files),
            state_dir=state_dir if _is_absolute(state_dir) else Config().state_dir,
            tables=self.tables,
            locate=self._located,
        )

    def _located(self, flaw: Flaw) -> Problem:
        """With the file and line of the key, or of the nearest table around it."""
        origins: ChainMap[Key, tuple[str, int]] = ChainMap(*self._origins, self._around)
        places = (origins.get(flaw.key[:length]) for length in range(len(flaw.key), 0, -1))
        nowhere = (self._files[0] if self._files else "", 0)
        file, line = next((place for place in places if place), nowhere)
        return Problem(
            file=file,
            line=line,
            key=dotted(flaw.key),
            message=flaw.message,
            hint=flaw.hint,
            severity=flaw.severity,
        )

    def _order(self, problem: Problem) -> tuple[int, int]:
        known = problem.file in self._files
        return self._files.index(problem.file) if known else len(self._files), problem.line


def _files(where: Paths, problems: list[Problem]) -> list[Path]:
    """The main file and its drop-ins; a missing main file is fine when there are drop-ins."""
    drop_ins: list[Path] = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        try:
            drop_ins = sorted(
                path
                for path in where.folder.iterdir()
                if path.suffix == ".toml" and not path.name.startswith(".")
            )
        except PermissionError as error:
            problems.append(_unreadable(where.folder, error))
    if len(drop_ins) >= MAX_FILES:
        message = f"too many files (expected at most {MAX_FILES - 1}, got {len(drop_ins)})"
        problems.append(Problem(file=str(where.folder), message=message))
    main = [] if drop_ins and not os.path.lexists(where.file) else [where.file]
    return main + drop_ins[: MAX_FILES - 1]


def _text_of(path: Path) -> str:
    """Raises: OSError, UnicodeDecodeError. A pipe or device is refused, it could block for ever."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "no regular file")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise OSError(0, f"larger than {MAX_FILE_BYTES} bytes")
    return content.decode("utf-8-sig").replace("\r\n", "\n")


def _unreadable(path: Path, error: OSError) -> Problem:
    hints = {
        FileNotFoundError: f"edge-agent init --output {path}",
        PermissionError: f"sudo chmod a+r {path}, or run as a user who may read it",
        IsADirectoryError: "name the file itself",
    }
    reason = (error.strerror or str(error)).lower()
    if isinstance(error, FileNotFoundError):
        reason = "no such file"
    return Problem(
        file=str(path), message=f"cannot be read: {reason}", hint=hints.get(type(error), "")
    )


def _syntax(error: Exception, text: str, file: str) -> Problem:
    message = str(error)
    found = _LINE.search(message)
    line = int(found[1]) if found else text.rstrip().count("\n") + 1
    message = _LINE.sub("", message).removesuffix("(at end of document)").strip()
    column = f" at column {found[2]}" if found else ""
    hint = 'text needs quotes: key = "value"' if message.startswith("Invalid value") else ""
    return Problem(
        file=file, line=line, message=f"no TOML: {masked(message).lower()}{column}", hint=hint
    )


def _without(tables: dict[str, Any], flaws: Sequence[Flaw]) -> dict[str, Any]:
    """What is left when each stream or section with a flaw is taken away."""
    left = dict(tables)
    streams = dict(left["streams"]) if isinstance(left.get("streams"), dict) else {}
    for section, *below in (flaw.key for flaw in flaws):
        if section == "streams" and below:
            streams.pop(str(below[0]), None)
        else:
            left.pop(str(section), None)
    return {**left, "streams": streams} if "streams" in left else left


def _convert(tables: dict[str, Any]) -> tuple[Config | None, list[Flaw]]:
    try:
        config = msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:  # what `fields` does not know of
        return None, [Flaw(key=(), message=masked(str(error)))]
    return config, findings(config)


def _is_absolute(path: Any) -> bool:
    return isinstance(path, str) and path.startswith("/") and len(path) < 4096 and "\0" not in path
