"""What goes down to the nodes by MQTT: the desired state, and the metadata that vouches for it.

The way down loses messages and says nothing of it. So each node is told again, after 1, 2, 4 ... 60
s, until its own status document names the serial and what became of it. Whoever has no HTTP road to
the repository gets all of the metadata this way; what is larger than a message goes by HTTP or by
stick. Decides by the time that it is given; only `load` touches the disk.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import msgspec

from edge_agent.core.edgecore import MAX_DOWN_BYTES, MAX_TUF_CHARS
from edge_agent.core.errors import EdgeAgentError, Rejected
from edge_agent.core.wire import armour
from edge_agent.host import SystemClock
from tools.hot_tier import wanted
from tools.hot_tier.answers import Letter
from tools.hot_tier.fleet import Standing, standing
from tools.hot_tier.keys import Keys
from tools.hot_tier.outputs import way_out
from tools.hot_tier.publishing import family
from tools.hot_tier.repository import Repository
from tools.hot_tier.stages import STATUS
from tools.hot_tier.tier import HotTier

FIRST_US: Final = 1_000_000
LAST_US: Final = 60_000_000
MAX_NODES: Final = 4096
MAX_LETTERS: Final = 256  # at a time
MAX_LOOKS: Final = 128  # documents read at a time; acknowledgements come first
MAX_ROOTS: Final = 16  # the newest ones; who has been away for longer asks over HTTP
UNKNOWN: Final = frozenset({"", "none"})  # states of a node that has no serial to speak of
EVERY_S: Final = 1.0


class Wanted(NamedTuple):
    serial: int
    body: bytes
    metadata: tuple[bytes, ...]  # armoured, in the order in which they are needed


class Told(msgspec.Struct):
    """One node. serial: that it is being told; due_us: when it is told again."""

    standing: Standing
    serial: int = 0
    due_us: int = 0
    wait_us: int = FIRST_US


class Announcer:
    """folder: of the repository. Keys are not needed."""

    def __init__(self, folder: Path) -> None:
        self._house = Repository(folder, Keys(folder / "no-keys"))
        self._stamp: bytes | None = None
        self._wanted: dict[str, Wanted] = {}
        self._nodes: OrderedDict[str, Told] = OrderedDict()

    def load(self) -> bool:
        """Reads what is published; False when it is the same as before. Blocks on the disk.

        Raises: Rejected when it cannot be read, or not be understood.
        """
        try:
            return self._load()
        except OSError as error:
            words = f"read --repository: {error.strerror or error}"
            raise Rejected(words, hint=way_out(error)) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            words = f"read --repository: expected signed metadata, got {type(error).__name__}"
            raise Rejected(words, hint="restore it, or sign it anew") from None

    def _load(self) -> bool:
        stamp = (self._house.metadata / "timestamp.json").read_bytes()
        if stamp == self._stamp:
            return False
        common, versions = self._common()
        found: dict[str, Wanted] = {}
        for one in wanted.states(self._house, self._house.open()):
            roles = ["targets", one.role, *map(family, one.state.models)]
            roles += ["configs"] if one.state.config else []
            files = [f"{versions[role]}.{role}.json" for role in roles if role in versions]
            if len(one.body) <= MAX_DOWN_BYTES:
                metadata = self._armed([*common, *files])
                found[one.path] = Wanted(one.state.serial, one.body, metadata)
        self._wanted, self._stamp = found, stamp
        return True

    def heard(self, node: str, document: bytes) -> None:
        """The newest status document of a node; b"" when it has sent none yet."""
        try:
            found = msgspec.json.decode(document) if document else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = {}
        said = standing(node, found if isinstance(found, dict) else {})
        told = self._nodes.setdefault(node, Told(said))
        told.standing = said
        self._nodes.move_to_end(node)
        while len(self._nodes) > MAX_NODES:
            self._nodes.popitem(last=False)

    def due(self, now_us: int) -> list[Letter]:
        """What is to be said now. It is taken as said."""
        letters: list[Letter] = []
        for node, told in self._nodes.items():
            want = self._want(node, told)
            if want is None or len(letters) >= MAX_LETTERS:
                continue
            if want.serial != told.serial:
                told.serial, told.wait_us, told.due_us = want.serial, FIRST_US, now_us
            if told.due_us > now_us:
                continue
            letters += [Letter(node, "tuf", payload) for payload in want.metadata]
            letters.append(Letter(node, "desired", want.body))
            told.due_us, told.wait_us = now_us + told.wait_us, min(2 * told.wait_us, LAST_US)
        return letters

    def _want(self, node: str, told: Told) -> Wanted | None:
        """What this node has to be told: the newer of its own state and its cohort's."""
        names = (node, told.standing.cohort)  # which it may never have seen a document of
        paths = (told.standing.target, *(f"desired/{name}.json" for name in names if name))
        found = [self._wanted[path] for path in paths if path in self._wanted]
        newest = max(found, default=None, key=lambda want: want.serial)
        said = told.standing
        if newest is None or (said.serial >= newest.serial and said.state not in UNKNOWN):
            return None
        return newest

    def _common(self) -> tuple[list[str], dict[str, int]]:
        """Roots, timestamp, snapshot; and the versions of every other role."""
        newest = self._house.root().signed.version
        roots = [f"{n}.root.json" for n in range(max(2, newest - MAX_ROOTS + 1), newest + 1)]
        timestamp = self._house.read("timestamp.json").signed
        name = f"{timestamp.snapshot_meta.version}.snapshot.json"
        meta = self._house.read(name).signed.meta
        versions = {file.removesuffix(".json"): one.version for file, one in meta.items()}
        return [*roots, "timestamp.json", name], versions

    def _armed(self, files: list[str]) -> tuple[bytes, ...]:
        bodies = [armour.arm((self._house.metadata / name).read_bytes()) for name in files]
        return tuple(body for body in bodies if len(body) <= MAX_TUF_CHARS)


async def announce(
    tier: HotTier, announcer: Announcer, *, document: str = STATUS, every_s: float = EVERY_S
) -> None:
    """Until it is cancelled: every node that the tier has heard of is told what is wanted of it."""
    clock, turn = SystemClock(), 0
    while True:
        try:
            await anyio.to_thread.run_sync(announcer.load)
            tier.notices.over("repository")
        except EdgeAgentError as error:  # half written, or away: what was known still holds
            tier.notices.tell("repository", error.what, error.hint or "restore it")
        nodes = list(tier.sheet()["nodes"])
        for node in nodes[turn : turn + MAX_LOOKS]:
            announcer.heard(node, await tier.document(node, document))
        turn = turn + MAX_LOOKS if turn + MAX_LOOKS < len(nodes) else 0
        tier.tell(announcer.due(clock.boot_us()))
        await anyio.sleep(every_s)
