"""A repository of models with its publisher, and a device that trusts it. Real keys, real files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from edge_agent.core.trust import Memory
from edge_agent.links.fetch import FolderSource, Source, Sources
from edge_agent.links.trust import Limits, Trust
from edge_agent.stores.document import Document
from tools.hot_tier.keys import Keys
from tools.hot_tier.repository import Repository

START = datetime(2026, 11, 25, 12, 0, tzinfo=timezone.utc)
MODEL = b"a model, some kilobytes long " * 500
NAME = "us-chamber"
ROLE = f"models-{NAME}"
DESIRED = "desired/ward-a.json"


class Time:
    """`ports.Clock` of a device, and what time its publisher has. None: the clock was never set."""

    def __init__(self) -> None:
        self.published = START
        self.device: datetime | None = START
        self.synced = True

    def boot_us(self) -> int:
        return 1_000_000

    def utc_offset_us(self) -> tuple[int | None, int | None]:
        if self.device is None:
            return None, None
        utc_us = int(self.device.timestamp()) * 1_000_000
        return utc_us - self.boot_us(), 1000 if self.synced else None

    def sleep_us(self, duration_us: int) -> None:
        raise NotImplementedError

    def forward(self, **more: float) -> None:
        self.published += timedelta(**more)
        if self.device is not None:
            self.device += timedelta(**more)


def path_of(content: bytes, name: str = NAME) -> str:
    return f"models/{name}/{hashlib.sha256(content).hexdigest()}.eam"


class Site:
    """One publisher, one device. `house` publishes to `folder`."""

    def __init__(self, folder: Path) -> None:
        self.time = Time()
        self.root = folder
        self.folder = folder / "repository"
        self.keys = Keys(folder / "keys")
        self.house = Repository(self.folder, self.keys, now=lambda: self.time.published)
        self.house.create()
        self.bootstrap = (self.folder / "metadata" / "1.root.json").read_bytes()
        self.state = folder / "state" / "tuf"

    # ── the publisher ─────────────────────────────────────────────────────────────────────────

    def publish(self, content: bytes = MODEL, version: str = "1.0.0", *, name: str = NAME) -> str:
        """The path of a package, signed by its family."""
        path = path_of(content, name)
        with self.house.change() as draft:
            draft.delegate(f"models-{name}", [f"models/{name}/*"])
            draft.put(f"models-{name}", path, content, {"name": name, "version": version})
        return path

    def want(self, serial: int, **more: Any) -> bytes:
        body = json.dumps({"schema": 1, "serial": serial, "models": {}, **more}).encode()
        with self.house.change() as draft:
            draft.delegate("desired-ward-a", [DESIRED])
            draft.put("desired-ward-a", DESIRED, body)
        return body

    def stored(self, path: str) -> Path:
        """The file of a target, as it is served."""
        draft = self.house.open()
        roles = [name for name in draft.names() if path in draft.role(name).targets]
        file = draft.role(roles[0]).targets[path]
        return self.folder / "targets" / file.get_prefixed_paths()[0]

    def copy(self, name: str) -> Path:
        """The repository as it is now, for a replay or a stick."""
        target = self.root / name
        shutil.copytree(self.folder, target)
        return target

    def edit(self, name: str, **fields: Any) -> None:
        """Changes what is signed in a file of metadata, without signing it."""
        path = self.folder / "metadata" / name
        content = json.loads(path.read_bytes())
        content["signed"].update(fields)
        path.write_text(json.dumps(content))

    # ── the device ────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def device(
        self, *sources: Source | Path, bootstrap: bytes | None = None, limits: Limits | None = None
    ) -> Iterator[Trust]:
        """sources: none means the folder of the publisher itself."""
        given: Sequence[Source | Path] = sources or (self.folder,)
        roads = [FolderSource(one) if isinstance(one, Path) else one for one in given]
        self.state.mkdir(parents=True, exist_ok=True)
        with Trust(
            self.state,
            bootstrap or self.bootstrap,
            Sources(roads),
            memory=Document(self.state, "memory"),
            clock=self.time,
            limits=limits,
        ) as trust:
            yield trust

    def knows(self) -> Memory:
        """What the device remembers, read anew."""
        with self.device() as trust:
            return trust.memory

    def wipe(self) -> None:
        """The metadata folder is gone; the memory beside it is not."""
        shutil.rmtree(self.state / "metadata")
