"""What a model package has to be: by whom its hash was said before it is read.

    installed from above      the folder is named by its hash
    shipped with the agent    `shipped.sha256` beside this file, in the wheel
    a folder of the operator  `package.sha256` in it, which `pack` and `models accept` write;
                              else what was first run here of that folder (`Remembered`);
                              else, under name and version of a shipped one, that one

Never reads a package, never decides what runs instead.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from edge_agent.core.errors import Damaged, Overloaded, Rejected
from edge_agent.core.manifest import NAME_PATTERN, VERSION_PATTERN
from edge_agent.core.package import is_sha
from edge_agent.held import of_reading
from edge_agent.stores.document import Document
from edge_agent.stores.files import DISK, Disk, read_bounded, write_atomic

SUM: Final = "package.sha256"
SHIPPED: Final = Path(__file__).with_name("shipped.sha256")
MAX_SUM_BYTES: Final = 256
MAX_LIST_BYTES: Final = 1 << 20
MAX_MEMORY_BYTES: Final = 1 << 20
MAX_FOLDERS: Final = 1024  # of which is known what was first run of them
MAX_GOOD: Final = 4  # versions of a model that ran well here
MAX_NAMES: Final = 256  # of models that ran well here
REINSTALL_AGENT: Final = "reinstall edge-agent"

_LINE: Final = re.compile(
    rf"(?P<sha>[0-9a-f]{{64}})  (?P<name>{NAME_PATTERN[1:-1]})/(?P<version>{VERSION_PATTERN[1:-1]})"
    r"(?P<current> current)?"
)


class Law(NamedTuple):
    """What a package has to be. sha "": nobody said. says: who did, in words."""

    sha: str = ""
    says: str = ""


NOBODY: Final = Law()


class Shipped(NamedTuple):
    """What comes with the agent: by (name, version) its hash, and by name the version for ""."""

    shas: Mapping[tuple[str, str], str]
    current: Mapping[str, str]


@functools.lru_cache(maxsize=1)
def shipped() -> Shipped:
    """The list in the wheel, as it was when this process first asked.

    Raises: Damaged.
    """
    try:
        text = read_bounded(SHIPPED, MAX_LIST_BYTES).decode("ascii")
    except OSError as error:
        raise Damaged(f"read {SHIPPED.name}: {error.strerror}", hint=REINSTALL_AGENT) from error
    except (Rejected, UnicodeDecodeError) as error:
        raise Damaged(f"read {SHIPPED.name}: {error}", hint=REINSTALL_AGENT) from error
    return parse_shipped(text)


def parse_shipped(text: str) -> Shipped:
    """Raises: Damaged: of a list that is not as it was written, nothing is believed."""
    shas: dict[tuple[str, str], str] = {}
    current: dict[str, str] = {}
    body, _, last = text.removesuffix("\n").rpartition("\n")
    if f"{body}\n{last}\n" != text or sealed_list(f"{body}\n") != text:
        raise Damaged(
            f"{SHIPPED.name} is damaged: expected its own sum in its last line, got {last[:120]!r}",
            hint=REINSTALL_AGENT,
        )
    for line in body.split("\n"):
        match = _LINE.fullmatch(line)
        key = (match["name"], match["version"]) if match else ("", "")
        if match is None or key in shas or (match["current"] and key[0] in current):
            raise Damaged(
                f"read {SHIPPED.name}: expected lines `SHA256  NAME/VERSION`, each once, "
                f"got {line[:120]!r}",
                hint=REINSTALL_AGENT,
            )
        shas[key] = match["sha"]
        if match["current"]:
            current[key[0]] = key[1]
    return Shipped(shas, current)


def sealed_list(body: str) -> str:
    """The lines of the list with the sum of them as the last."""
    return f"{body}{hashlib.sha256(body.encode('ascii')).hexdigest()}  {SHIPPED.name}\n"


def sum_of(folder: Path) -> str:
    """What the file beside a manifest says, "" where there is none.

    Raises: Damaged.
    """
    what = f"read model {folder.parent.name}: {folder.name}/{SUM}"
    try:
        word = read_bounded(folder / SUM, MAX_SUM_BYTES).decode("ascii").strip()
    except FileNotFoundError:
        return ""
    except OSError as error:
        found = of_reading(what, folder / SUM, error)
        if isinstance(found, Damaged):
            raise found from error
        return ""  # there is no folder, which is told where it is looked for
    except (Rejected, UnicodeDecodeError) as error:
        raise Damaged(f"{what} is damaged: {error}", hint=hint_of(folder), healable=True) from error
    if not is_sha(word):
        raise Damaged(
            f"{what} is damaged: expected 64 hex digits, got {word[:80]!r}",
            hint=hint_of(folder), healable=True,
        )  # fmt: skip
    return word


def write_sum(folder: Path, sha: str) -> None:
    """Says what a package has to be from now on.

    Raises: OSError.
    """
    write_atomic(folder / SUM, f"{sha}\n".encode("ascii"), mode=0o644)


def hint_of(folder: Path) -> str:
    """What to do about a folder of the operator's that is not what it has to be."""
    name, version = folder.parent.name, folder.name
    return (
        f"reinstall it: copy {name} {version} there again; if you changed it on purpose, give it "
        f"another version, or: edge-agent models accept {name} {version}"
    )


# ── what ran here ─────────────────────────────────────────────────────────────────────────────


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A version that was loaded and gave its golden sample."""

    folder: str
    sha: str


class RanMemory(msgspec.Struct, frozen=True, kw_only=True):
    """folders: by path, the hash of what was first run of it. good: by model, newest first."""

    schema: int = 1
    folders: Annotated[dict[str, str], Meta(max_length=MAX_FOLDERS)] = {}
    good: dict[str, tuple[Ran, ...]] = {}


class Remembered:
    """What ran here, kept twice. Only a help: where it can't be read or written, nothing is known
    of folders that nobody else vouches for, and everything else goes on.
    """

    def __init__(self, state_dir: Path, *, disk: Disk = DISK) -> None:
        self._state_dir = state_dir
        self._document = Document(state_dir, "models-known", max_bytes=MAX_MEMORY_BYTES, disk=disk)
        self._turn = threading.Lock()
        self._memory: RanMemory | None = None
        self.trouble = ""  # why it could not be written, "" while it could

    def first_of(self, folder: Path) -> str:
        """The hash of what was first run of a folder, "" when none is known."""
        return self._read().folders.get(_key(folder), "")

    def good(self, name: str) -> tuple[Ran, ...]:
        """Versions of a model that ran well here for streams that name none, newest first."""
        return self._read().good.get(name, ())

    def note(self, folder: Path, sha: str, *, is_wanted: bool) -> None:
        """It was loaded and gave its golden sample. is_wanted: a stream without a version runs it.

        Blocks; never raises for the disk.
        """
        with self._turn:
            before = self._read()
            after = _noted(before, folder, sha, is_wanted=is_wanted)
            if after is not before:
                self._write(after)

    def _read(self) -> RanMemory:
        """What can't be read just now is not overwritten; what never will be, is begun anew."""
        if self._memory is not None:
            return self._memory
        memory = RanMemory()
        try:
            content = self._document.read()
            if content is not None:
                memory = msgspec.json.decode(content, type=RanMemory)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._document.put_aside()
        except Overloaded as error:
            self.trouble = error.what
            return memory
        except Damaged as error:
            self.trouble = error.what
            if not error.healable:
                return memory
            self._document.put_aside()
        self._memory = memory
        return memory

    def _write(self, memory: RanMemory) -> None:
        if self._memory is None:
            return
        self._memory = memory
        if self._state_dir.exists() and not self._state_dir.is_dir():
            self.trouble = f"write {self._state_dir}: not a folder"  # and nothing to be put aside
            return
        try:
            self._document.write(msgspec.json.encode(memory))
            self.trouble = ""
        except (Overloaded, Damaged) as error:
            self.trouble = error.what


def _noted(memory: RanMemory, folder: Path, sha: str, *, is_wanted: bool) -> RanMemory:
    folders, good, key = dict(memory.folders), dict(memory.good), _key(folder)
    if not is_sha(folder.name):
        folders.pop(key, None)
        folders[key] = sha
        while len(folders) > MAX_FOLDERS:
            del folders[next(iter(folders))]
    if is_wanted:
        name, ran = folder.parent.name, Ran(folder=key, sha=sha)
        others = [one for one in good.pop(name, ()) if one.sha != sha and one.folder != key]
        good[name] = (ran, *others)[:MAX_GOOD]
        while len(good) > MAX_NAMES:
            del good[next(iter(good))]
    same = folders == memory.folders and good == memory.good
    return memory if same else msgspec.structs.replace(memory, folders=folders, good=good)


def _key(folder: Path) -> str:
    """As text, also of a path that is none. Links stay as the operator named them."""
    return os.fsencode(os.path.abspath(folder)).decode("utf-8", "backslashreplace")  # noqa: PTH100
