"""What comes down: the rollouts with their store, their memory and their installers, put together.

`Downward.apply` takes a configuration that came down; whoever knows the files of this machine sets
it (`services.rollouts.layer`). Until then each is refused, with the reason.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from edge_agent import __version__
from edge_agent.config.structs import Config, StreamConfig
from edge_agent.core import desired, rollout
from edge_agent.core.errors import Rejected
from edge_agent.errands import Place
from edge_agent.ports import Clock
from edge_agent.services.rollouts import (
    Bench,
    Desk,
    House,
    Installers,
    Keep,
    Live,
    Rollouts,
    Side,
)
from edge_agent.stores.handover import HandOver
from edge_agent.stores.installed import Installed
from edge_agent.stores.models import Models
from edge_agent.stores.package import read_manifest
from edge_agent.stores.papers import Papers

HANDED_OVER = "handover"

Apply = Callable[[str, str], Awaitable[str]]


class Upstairs(Protocol):
    """The running agent, as far as the rollouts need it (`agent.Agent`)."""

    async def reorder(self) -> None: ...

    async def first(self, model: str, folder: Path | None, sha: str) -> None: ...

    def keep_first(self, model: str) -> None: ...

    def tell(self, name: str, what: str = "") -> None: ...


class Downward:
    """`rollouts` is a service, `desk` for the console. streams: as configured now."""

    def __init__(
        self,
        config: Config,
        *,
        side: Side,
        models: Models,
        clock: Clock,
        boot: str,
        streams: Callable[[], Mapping[str, StreamConfig]],
        agent: Upstairs,
    ) -> None:
        self.apply: Apply = _nobody
        self._models = models
        state_dir = Path(config.state_dir)
        house = House(
            streams=streams, resolve=self.resolve, resolve_to=self.resolve_to,
            blocked=self.blocked, first=agent.first, keep_first=agent.keep_first,
            reorder=agent.reorder, tell=agent.tell, apply=self._apply,
        )  # fmt: skip
        self.store = Installed(state_dir / "models", limit_bytes=config.rollouts.store_bytes)
        bench = Bench(
            config=config.rollouts,
            engine=config.engine,
            place=place_of(config),
            agent=__version__,
            side=side,
            store=self.store,
            crew=Installers(),
            house=house,
            clock=clock,
            manifest=read_manifest,
            progress=lambda _model, _progress: None,
        )
        keep = Keep(
            Papers(state_dir / "rollouts", max_bytes=rollout.MAX_BYTES),
            Papers(state_dir / "desired", max_bytes=desired.MAX_MEMORY_BYTES),
            earlier=self.store.earlier,
        )
        self._rollouts = Rollouts(
            bench,
            keep,
            node=config.node,
            versions={"agent": __version__, "machine": platform.machine()},
            boot=boot,
            hand_over=HandOver(state_dir / "tuf" / HANDED_OVER).put,
        )
        self.desk = Desk(self._rollouts, bench)

    @property
    def rollouts(self) -> Rollouts:
        return self._rollouts

    def resolve(self, name: str) -> Live:
        """What a stream gets that asks for no version. Blocks. Raises: Rejected, Damaged."""
        return self._live(self._models.resolve(name, ""))

    def resolve_to(self, name: str, sha: str) -> Live:
        """That installed package, "" for what the folders say. Blocks.

        Raises: Rejected, Damaged.
        """
        if not sha:
            return self._live(self._models.of_folders(name))
        folder = self.store.folder(sha)
        if folder is None:
            raise Rejected(f"find package {sha[:16]} of {name}: it is not installed")
        return self._live(folder)

    def _live(self, folder: Path) -> Live:
        sha, manifest = self._models.look(folder)
        return Live(folder, sha, manifest.version)

    def blocked(self, name: str, sha: str) -> str:
        """Why that version may not run on this node; "" when it may."""
        return self._rollouts.blocked(name, sha)

    async def _apply(self, text: str, version: str) -> str:
        return await self.apply(text, version)


def place_of(config: Config) -> Place:
    """Where an installer finds what it needs."""
    section, state_dir = config.rollouts, Path(config.state_dir)
    return Place(
        models=str(state_dir / "models"),
        tuf=str(state_dir / "tuf"),
        engines=str(state_dir / "engines"),
        root_file=section.root_file or "",
        repositories=section.repositories,
        ca_file=section.ca_file or "",
        extra=(section.usb_dir,) if section.usb_dir else (),
        store_bytes=section.store_bytes,
        pace_bytes_per_s=section.pace_bytes_per_s,
    )


async def _nobody(_text: str, version: str) -> str:
    return f"version {version}: this agent was started without a file"
