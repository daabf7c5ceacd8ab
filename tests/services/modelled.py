"""The house of the model test: real service, desk, documents and store; a disk that is told what to
refuse, installers that are told how they end, and the real engine over a process that is not real.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from edge_agent.config.structs import (
    Config,
    EngineConfig,
    PhantomSource,
    RolloutsConfig,
    StreamConfig,
    StreamModel,
    SuperviseConfig,
)
from edge_agent.core.errors import (
    BadPackage,
    Damaged,
    LinkDown,
    Overloaded,
    Rejected,
    SideDied,
)
from edge_agent.core.manifest import Manifest
from edge_agent.core.restart import leaves
from edge_agent.errands import Errand, Place
from edge_agent.ground import First, Orders
from edge_agent.services.rollouts import Bench, Desk, House, Keep, Live, Rollouts
from edge_agent.services.rollouts.ports import OnProgress
from edge_agent.stores.files import Disk
from edge_agent.stores.installed import Installed
from edge_agent.stores.models import Models
from edge_agent.stores.package import identity, read_manifest
from edge_agent.stores.papers import Papers
from edge_agent.stores.shelf import Pointers
from edge_agent.supervise import RoomState, Run, supervise
from tests.installer import rascals
from tests.services.modelled_side import Flaw, Made, ModelEngine
from tests.services.rolling import MAX_BYTES, NAME
from tests.services.virtual import VirtualClock, VirtualLoop

MEMORY: Final = Path("/dev/shm")
VERSIONS: Final = ("1.1.0", "1.2.0", "1.3.0", "1.4.0")
SHIPPED: Final = "1.0.0"
CONFIG: Final = RolloutsConfig(
    enabled=True, repositories=("http://127.0.0.1:9/",), root_file="/nowhere", check_every_s=3600,
    shadow_frames=10, shadow_s=60, probation_frames=10, probation_s=1.5,
)  # fmt: skip
PATIENCE: Final = SuperviseConfig(crashes=1000, window_s=1.0)
ERRNOS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE)
CHANGES: Final = ("create", "write", "sync", "rename", "sync_folder")
PLACES: Final = ("rollouts", "wishes", "pointers")
RESTARTS_S: Final = 1.0
READ_ON_S: Final = 5.0
LOOK_S, FETCH_S, PROVE_S, ADMIT_S = 0.1, 0.3, 0.3, 0.05


class Injected(Exception):
    """The room falls."""


# ── packages ──────────────────────────────────────────────────────────────────────────────────


class Shop(NamedTuple):
    """What can be published; made once for all examples."""

    place: tempfile.TemporaryDirectory[str]
    shipped: Path
    tars: dict[str, Path]
    versions: dict[str, str]
    shas: dict[str, str]  # by version


@functools.cache
def shop() -> Shop:
    place = tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
    found = Shop(place, Path(place.name) / "shipped", {}, {}, {})
    for version in (SHIPPED, *VERSIONS):
        at = found.shipped if version == SHIPPED else Path(place.name) / "made"
        folder = rascals.write(at / NAME / version, name=NAME, version=version)
        if version == SHIPPED:
            sha = identity(folder, read_manifest(folder))
        else:
            tar, sha = rascals.packed(folder)
            found.tars[sha] = tar
        found.versions[sha] = version
        found.shas[version] = sha
    return found


# ── the disk ──────────────────────────────────────────────────────────────────────────────────


class Trouble(msgspec.Struct):
    """What one part of the disk refuses. after: so many changes still go well. reads: that fail."""

    number: int = 0
    only: tuple[str, ...] = ()
    after: int = 0
    reads: int = 0

    @property
    def is_well(self) -> bool:
        return not self.number and not self.reads


class ModelDisk(Disk):
    """One part of the disk, for one life of the agent. Memory needs no flush."""

    def __init__(self, trouble: Trouble, only: str = "") -> None:
        self._trouble = trouble
        self._only = only
        self.is_dead = False  # whoever holds it is

    def create(self, path: Path, *, mode: int = 0o600) -> BinaryIO:
        self._may("create", path)
        return super().create(path, mode=mode)

    def write(self, file: BinaryIO, content: bytes) -> None:
        self._may("write", Path(file.name))
        super().write(file, content)

    def sync(self, file: BinaryIO) -> None:
        self._may("sync", Path(file.name))

    def rename(self, old: Path, new: Path) -> None:
        self._may("rename", new)
        super().rename(old, new)

    def unlink(self, path: Path) -> None:
        self._may("unlink", path)
        super().unlink(path)

    def sync_folder(self, path: Path) -> None:
        self._may("sync_folder", path)

    def read(self, path: Path, max_bytes: int) -> bytes:
        self._may_live(path)
        if self._only in path.name and self._trouble.reads:
            self._trouble.reads -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return super().read(path, max_bytes)

    def pause(self, seconds: float) -> None:
        """The next look at the same moment."""

    def _may_live(self, path: Path) -> None:
        if self.is_dead:
            raise OSError(errno.EIO, "the machine is off", str(path))

    def _may(self, what: str, path: Path) -> None:
        self._may_live(path)
        trouble = self._trouble
        if not trouble.number or what not in trouble.only or self._only not in path.name:
            return
        trouble.after -= 1
        if trouble.after < 0:
            raise OSError(trouble.number, os.strerror(trouble.number), str(path))


# ── installers ────────────────────────────────────────────────────────────────────────────────


class ModelCrew:
    """`ports.Crew` of one life."""

    def __init__(self, world: ModelWorld, store: Installed) -> None:
        self._world = world
        self._store = store
        self.busy: list[Errand] = []

    async def run(self, errand: Errand, told: OnProgress) -> dict[str, object]:
        verbs: dict[str, Callable[[Errand, OnProgress], Awaitable[dict[str, object]]]] = {
            "wanted": self._wanted, "fetch": self._fetch,
            "prove": self._prove, "collect": self._collect,
        }  # fmt: skip
        self.busy.append(errand)
        try:
            return await verbs[errand.verb](errand, told)
        finally:
            self.busy.remove(errand)

    async def _takes(self, seconds: float, *, link: bool = False) -> None:
        world = self._world
        await anyio.sleep(seconds / 2)
        if world.kills:
            world.kills -= 1
            raise Overloaded("the installer died", hint="is memory short? dmesg")
        if link and world.is_cut:
            raise LinkDown("no source answers")
        await anyio.sleep(seconds / 2)

    async def _wanted(self, _: Errand, _told: OnProgress) -> dict[str, object]:
        await self._takes(LOOK_S, link=True)
        document = self._world.published
        return {"desired": {"desired/cart-3.json": json.dumps(document)} if document else {}}

    async def _fetch(self, errand: Errand, told: OnProgress) -> dict[str, object]:
        told("bytes", {"done": 1, "of": 2})
        await self._takes(FETCH_S, link=True)
        size = shop().tars[errand.sha].stat().st_size
        told("fetched", {})
        await self._admit(errand)
        return {"via": "full", "fetched_bytes": size, "length_bytes": size}

    async def _admit(self, errand: Errand) -> None:
        await self._takes(ADMIT_S)
        self._store.admit(shop().tars[errand.sha], errand.sha)

    async def _prove(self, errand: Errand, told: OnProgress) -> dict[str, object]:
        await self._takes(PROVE_S / 2)
        if self._world.is_short:
            raise Overloaded("prove: it had no core")
        told("built", {"build_ms": 3.0})
        await self._takes(PROVE_S / 2)
        if self._world.made.flaws.get(errand.sha) is Flaw.GOLDEN:
            raise BadPackage("prove: its golden samples differ")
        return {"golden_difference": 0.0, "golden_tolerance": 0.1, "golden_samples": 1}

    async def _collect(self, errand: Errand, _told: OnProgress) -> dict[str, object]:
        await self._takes(ADMIT_S)
        return {"freed_bytes": self._store.collect(errand.keep)}


# ── one process of the agent ──────────────────────────────────────────────────────────────────


class Life:
    """From the start of the agent to its end. The side lives and dies with it."""

    def __init__(self, world: ModelWorld) -> None:
        self.world = world
        root, troubles = world.root, world.troubles
        self._disks = {place: ModelDisk(troubles[place]) for place in ("rollouts", "wishes")}
        self._disks["pointers"] = ModelDisk(troubles["pointers"], "pointers")
        self.store = Installed(
            root / "models", limit_bytes=64 << 20, keep_free_bytes=0, disk=self._disks["pointers"]
        )
        self.models = Models(
            [world.shipped] if world.shipped else [], shipped=False, installed=self.store
        )
        self.orders = Orders(self.models)
        self.orders.blocked = self.blocked
        self.engine = ModelEngine(world.loop, world.made)
        self.engine.is_short = world.is_short
        self.crew = ModelCrew(world, self.store)
        self._turn = anyio.Lock()
        bench = self._bench()
        keep = Keep(
            Papers(root / "rollouts", max_bytes=MAX_BYTES, disk=self._disks["rollouts"]),
            Papers(root / "wishes", max_bytes=MAX_BYTES, disk=self._disks["wishes"]),
            earlier=self.store.earlier,
        )
        self.rollouts = Rollouts(
            bench, keep, node="cart-3", versions={}, boot="ab", hand_over=lambda _: "timestamp.json"
        )
        self.desk = Desk(self.rollouts, bench)
        self.is_dead = False
        self.is_ready = False
        self.is_unread = False
        self.scope = anyio.CancelScope()
        self.task = world.loop.create_task(self._main())

    def _bench(self) -> Bench:
        house = House(
            streams=lambda: self.world.streams, resolve=self.resolve, resolve_to=self.resolve_to,
            blocked=self.blocked, first=self.first, keep_first=self.keep_first,
            reorder=self.configure, tell=self._tell, apply=self._apply,
        )  # fmt: skip
        return Bench(
            config=CONFIG, engine=EngineConfig(), agent="0.1.0",
            place=Place(models=str(self.store.root), tuf=""), side=self.engine, store=self.store,
            crew=self.crew, house=house, clock=VirtualClock(self.world.loop),
            manifest=manifest_of, progress=lambda _model, _progress: None,
        )  # fmt: skip

    # ── as `app`, `agent` and `downward` have it ──────────────────────────────────────────────

    async def _main(self) -> None:
        with self.scope:
            await self.rollouts.wishes.recall()
            self.world.recalled()
            await self.configure()
            async with anyio.create_task_group() as hot:
                hot.start_soon(self._read_on)
                await hot.start(self._supervised, "engine", self.engine.run)
                await hot.start(self._supervised, "rollouts", self.rollouts.run)

    async def _supervised(
        self,
        name: str,
        run: Run,
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Patient, and the same each time."""
        await supervise(
            name, run, vital=True, config=PATIENCE, on_state=self._noted, longest_s=RESTARTS_S,
            chance=lambda: 0.5, task_status=task_status,
        )  # fmt: skip

    def _noted(
        self, name: str, state: RoomState, error: BaseException | None, *, vital: bool
    ) -> None:
        assert vital
        if name == "rollouts":
            self.is_ready = state is RoomState.RUNNING
        expected: type[Exception] = Injected if name == "rollouts" else SideDied
        wrong = [leaf for leaf in leaves(error) if not isinstance(leaf, expected)] if error else []
        if wrong and not self.is_dead:
            self.world.broken.append(f"{name} fell: {wrong!r}")

    async def configure(self) -> None:
        async with self._turn:
            config = Config(streams=self.world.streams)
            orders, wrong = await anyio.to_thread.run_sync(self.orders.of, config)
            self.is_unread = any(isinstance(why, Damaged) for why in wrong.values())
            self.rollouts.look_again()
            await self.engine.configure(orders)

    async def _read_on(self) -> None:
        """A stream whose pointers nobody could read is ordered again; the real agent leaves that to
        a reload.
        """
        while True:
            await anyio.sleep(READ_ON_S)
            if self.is_unread:
                with contextlib.suppress(SideDied):
                    await self.configure()

    async def first(self, model: str, folder: Path | None, sha: str) -> None:
        if folder is None:
            if self.orders.firsts.pop(model, None) is not None:
                await self.configure()
            return
        self.orders.firsts[model] = First(folder, sha)
        self.engine.allow_first(model)
        await self.configure()

    def keep_first(self, model: str) -> None:
        self.orders.firsts.pop(model, None)

    def resolve(self, name: str) -> Live:
        return self._live(self.models.resolve(name, ""))

    def resolve_to(self, name: str, sha: str) -> Live:
        if not sha:
            return self._live(self.models.of_folders(name))
        folder = self.store.folder(sha)
        if folder is None:
            raise Rejected(f"find package {sha[:16]} of {name}: it is not installed")
        return self._live(folder)

    def _live(self, folder: Path) -> Live:
        return Live(folder, self.models.identity(folder), self.models.manifest(folder).version)

    def blocked(self, name: str, sha: str) -> str:
        return self.rollouts.blocked(name, sha)

    async def _apply(self, _text: str, _version: str) -> str:
        return ""

    def _tell(self, name: str, what: str) -> None:
        if not self.is_dead and name == "rollout":
            self.world.told(json.loads(what))

    # ── its end ───────────────────────────────────────────────────────────────────────────────

    def fall(self) -> None:
        """A bug of ours: the room of the rollouts ends, and is started again."""

        async def bug() -> None:
            raise Injected

        if self.rollouts._group is not None:
            self.rollouts._group.start_soon(bug)

    def crash(self) -> None:
        """The power goes: nobody has a last word."""
        self.is_dead = True
        for disk in self._disks.values():
            disk.is_dead = True
        self.scope.cancel()


@functools.cache
def _manifest(version: str) -> Manifest:
    found = shop()
    at = found.shipped if version == SHIPPED else found.shipped.parent / "made"
    return read_manifest(at / NAME / version)


def manifest_of(folder: Path) -> Manifest:
    """As it is read, without reading it each time."""
    return _manifest(shop().versions.get(folder.name, folder.name))


# ── what outlives it ──────────────────────────────────────────────────────────────────────────


class ModelWorld:
    """The files, the repository, the network, the person who configures the streams."""

    def __init__(self, loop: VirtualLoop, *, is_fresh: bool) -> None:
        self.loop = loop
        self.root = Path(tempfile.mkdtemp(dir=shop().place.name))
        self.shipped = None if is_fresh else shop().shipped
        self.made = Made(shop().versions, {})
        self.troubles = {place: Trouble() for place in PLACES}
        self.published: dict[str, Any] = {}
        self.is_cut = False  # the link
        self.is_short = False  # the machine
        self.kills = 0  # installers that end before their time
        self.streams: dict[str, StreamConfig] = {"us-1": stream(), "us-2": stream()}
        self.broken: list[str] = []
        self.told: Callable[[Mapping[str, Any]], None] = lambda _report: None
        self.recalled: Callable[[], object] = lambda: None
        self.life: Life
        self.begin()

    def begin(self) -> None:
        """The agent is started."""
        self.do(self._begin)

    def _begin(self) -> None:
        self.life = Life(self)

    def do(self, work: Callable[[], None]) -> None:
        """On the loop."""

        async def done() -> None:
            work()

        self.loop.run_until_complete(done())

    def end(self, work: Callable[[], None]) -> None:
        """Of this life, by that."""
        self.do(work)
        self.loop.run_until_complete(asyncio.wait([self.life.task]))
        self.life.is_dead = True

    def close(self) -> None:
        self.end(self.life.crash)
        shutil.rmtree(self.root)

    def pointers(self) -> Pointers | None:
        """As they lie on the disk; None: rotten."""
        try:
            return Installed(self.root / "models", limit_bytes=1).pointers(NAME)
        except Damaged:
            return None

    def is_rotten(self, place: str) -> bool:
        """Both copies of that document, which were there."""
        copies = [path for path in self.copies(place) if path.exists()]
        return bool(copies) and not any(is_sound(path) for path in copies)

    def copies(self, place: str) -> list[Path]:
        folder, name = {
            "rollouts": (self.root / "rollouts", NAME),
            "wishes": (self.root / "wishes", "desired"),
            "pointers": (self.root / "models" / NAME, "pointers"),
        }[place]
        return [folder / f"{name}.json", folder / f"{name}.copy.json"]

    def heal(self) -> None:
        for trouble in self.troubles.values():
            trouble.number = trouble.reads = 0
        self.is_cut = self.is_short = False
        self.kills = 0
        self.life.engine.is_short = False
        if (process := self.life.engine.process) is not None:
            process.is_short = False
            process.loses.clear()
            if process.is_deaf:  # whoever watches its lanes ends it
                process.kill()


ROT: Final = b"\0rotten"


def is_sound(path: Path) -> bool:
    return ROT not in path.read_bytes()


def rot(path: Path) -> None:
    """In the middle, where it takes a sum to see it."""
    if path.exists():
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + ROT + content[middle + len(ROT) :])


def stream(version: str = "") -> StreamConfig:
    return StreamConfig(
        source=PhantomSource(), models=(StreamModel(name=NAME, version=version),), swap="now"
    )
