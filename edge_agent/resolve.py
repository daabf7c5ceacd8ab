"""What a configuration names, looked for on this machine: models, paths, files of secrets.

`config.check` never looks at the machine; this does, for `config check` and for a reload.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from edge_agent.cameras import HERE, Roots, lasting
from edge_agent.config.check import device_of
from edge_agent.config.problems import Flaw, Key
from edge_agent.config.structs import (
    Config,
    DicomSource,
    ImagesSource,
    Source,
    StreamConfig,
    UplinkConfig,
    VideoSource,
)
from edge_agent.core import v4l2
from edge_agent.core.errors import Damaged, Rejected
from edge_agent.core.places import local_path
from edge_agent.held import open_plain
from edge_agent.links.road_keys import NODE_KEY, read_pinned, read_signing
from edge_agent.stores.known import Remembered
from edge_agent.stores.models import Models
from edge_agent.stores.shelf import Shelf

SECRETS = ("password_file", "ca_file", "cert_file", "key_file", "root_file")


def models_of(config: Config, state_dir: Path | None) -> Models:
    """Where versions are looked for: what was installed first. state_dir None: nobody sees it."""
    dirs = [Path(folder) for folder in config.models.dirs]
    installed = Shelf(state_dir / "models") if state_dir is not None else None
    remembered = Remembered(state_dir) if state_dir is not None else None
    shipped = config.models.shipped
    return Models(dirs, shipped=shipped, installed=installed, remembered=remembered)


def unresolved(config: Config, models: Models) -> list[Flaw]:
    """What is not there, or can't be read. A source's path is a warning: it may come. Blocks."""
    found = [*_dirs(config), *_secrets(config), *_pinned(config.uplink), *_own_key(config)]
    for name, stream in config.streams.items():
        found += [*_models(stream, ("streams", name), models, comes=config.rollouts.enabled)]
        found += [*_source(stream.source, ("streams", name, "source"))]
    return found


def advised(config: Config, roots: Roots = HERE) -> list[Flaw]:
    """What works now and may not tomorrow: cameras by a number that the next start may give to
    another one. Warnings, for `config check` alone. Blocks.
    """
    found = []
    for name, stream in config.streams.items():
        node = device_of(stream.source)
        if not v4l2.is_numbered(node):
            continue
        by_id, by_path = lasting(node, roots)
        if by_id or by_path:
            found.append(_numbered(node, by_id, by_path, ("streams", name, "source", "where")))
    return found


def _numbered(node: str, by_id: str, by_path: str, key: Key) -> Flaw:
    keeps = "stays with this camera" if by_id else "stays with this socket (it tells no serial)"
    return Flaw(
        key=key,
        message=f"{node} may be another camera after a re-plug or a restart",
        hint=f'where = "{by_id or by_path}" {keeps}',
        severity="warn",
    )


def of_stream(flaw: Flaw) -> str:
    """The stream that it is of, "" for none."""
    return str(flaw.key[1]) if len(flaw.key) > 1 and flaw.key[0] == "streams" else ""


def made_worse(running: Config, wanted: Config, models: Models) -> list[Flaw]:
    """What a reload would break: of a stream that stays, or of a section, and not broken now. Reads
    every byte of packages that it names and the running configuration does not. Blocks.
    """
    now = {(flaw.key, flaw.message) for flaw in unresolved(running, models)}
    return [
        flaw
        for flaw in (*unresolved(wanted, models), *_rotten(running, wanted, models))
        if (flaw.key, flaw.message) not in now
        and (not of_stream(flaw) or of_stream(flaw) in running.streams)
    ]


def _rotten(running: Config, wanted: Config, models: Models) -> Iterator[Flaw]:
    """Versions that a stream which stays would be held to from now on, and that can't be run. For
    one that names none, the last good version stands in.
    """
    for name, stream in wanted.streams.items():
        before = running.streams[name].models if name in running.streams else ()
        held = {(one.name, one.version) for one in before}
        for index, model in enumerate(stream.models):
            if name not in running.streams or not model.version:
                continue
            if (model.name, model.version) in held:
                continue
            try:
                folder = models.resolve(model.name, model.version)
            except (Rejected, Damaged):
                continue  # told already
            try:
                models.look(folder)
            except (Rejected, Damaged) as wrong:
                key = ("streams", name, "models", index, "version")
                yield Flaw(key=key, message=wrong.what, hint=wrong.hint)


def _dirs(config: Config) -> Iterator[Flaw]:
    for index, folder in enumerate(config.models.dirs):
        if folder.startswith("/") and not os.path.isdir(folder):  # noqa: PTH112 - bytes that are no text
            yield Flaw(
                key=("models", "dirs", index),
                message=f"no folder there (expected a directory, got {folder})",
                hint="make it, or correct models.dirs",
                severity="warn",
            )


def _models(stream: StreamConfig, key: Key, models: Models, *, comes: bool) -> Iterator[Flaw]:
    """comes: rollouts may bring the first version down; until then the stream shows nothing."""
    for index, model in enumerate(stream.models):
        at = (*key, "models", index, "version" if model.version else "name")
        try:
            models.resolve(model.name, model.version)
        except Rejected as wrong:
            hint = "nothing is shown until [rollouts] has brought it down; or correct the name"
            yield Flaw(
                key=at,
                message=wrong.what,
                hint=hint if comes else wrong.hint,
                severity="warn" if comes else "error",
            )
        except Damaged as wrong:
            yield Flaw(
                key=at,
                message=wrong.what,
                hint=wrong.hint,
                severity="error" if wrong.healable else "warn",
            )


def _pinned(config: UplinkConfig) -> Iterator[Flaw]:
    """A file of keys that can be read and is none, or lacks the one that is needed."""
    if not config.enabled or config.hot_tier_keys is None:
        return
    try:
        read_pinned(config)
    except Rejected as wrong:
        yield Flaw(key=("uplink", "hot_tier_keys"), message=wrong.what, hint=wrong.hint)


def _own_key(config: Config) -> Iterator[Flaw]:
    """The key of this machine, where it is there and whoever asks may see it: it is made else."""
    path = Path(config.state_dir) / NODE_KEY
    if not (config.uplink.enabled and config.uplink.sign and os.access(path, os.R_OK)):
        return
    try:
        read_signing(path)
    except Rejected as wrong:
        yield Flaw(key=("uplink", "sign"), message=wrong.what, hint=wrong.hint)


def _secrets(config: Config) -> Iterator[Flaw]:
    for name in ("uplink", "rollouts"):
        section = getattr(config, name)
        if not section.enabled:
            continue
        for field in SECRETS:
            if path := getattr(section, field, None):
                yield from _file(path, (name, field), severe=True)


def _source(source: Source, key: Key) -> Iterator[Flaw]:
    if isinstance(source, DicomSource):
        if not source.path.startswith("sample:"):
            yield from _path(source.path, (*key, "path"))
        if source.exam_key_file is not None:
            yield from _file(source.exam_key_file, (*key, "exam_key_file"), severe=True)
    elif isinstance(source, ImagesSource):
        yield from _path(source.path, (*key, "path"), is_folder=True)
    elif isinstance(source, VideoSource):
        if source.password_file is not None:
            yield from _file(source.password_file, (*key, "password_file"), severe=True)
        where = local_path(source.where)
        if not source.pipeline and "://" not in where:
            yield from _path(where, (*key, "where"))


def _file(path: str, key: Key, *, severe: bool) -> Iterator[Flaw]:
    """A file that is read whole. A pipe in its place would be waited for."""
    try:
        with open_plain(Path(path)) as file:
            file.read(1)
    except (OSError, ValueError, Rejected) as error:
        words = getattr(error, "strerror", None) or str(error)
        yield Flaw(
            key=key,
            message=f"can't be read: {words} (expected a file, got {path})",
            hint="put it there, readable by the agent's user, or correct the path",
            severity="error" if severe else "warn",
        )


def _path(path: str, key: Key, *, is_folder: bool = False) -> Iterator[Flaw]:
    """A file, folder or device; it may come later, so its absence is a warning."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
        if is_folder and not stat.S_ISDIR(mode):
            words = "Not a directory"
        else:
            words = "" if os.access(path, os.R_OK) else "Permission denied"
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
    if words:
        yield Flaw(
            key=key,
            message=f"not usable now: {words}",
            hint="plug it in, mount it, or let the agent's user read it; or correct the path",
            severity="warn",
        )
