"""What a node or a cohort shall run: the signed desired state, one serial after the other.

    desired/<cohort>.json    signed by the cohort's own role
    desired/<node>.json      signed by the role `nodes`
    configs/<sha256>.toml    signed by the role `configs`

Serials rise over the whole repository, so that of two states of one node the higher is the newer.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.core.edgecore import MAX_DOWN_BYTES, DesiredConfig, DesiredModel, DesiredState
from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import NAME_PATTERN
from edge_agent.stores.files import read_bounded
from tools.hot_tier.publishing import find, packages
from tools.hot_tier.repository import Draft, Repository

MAX_CONFIG_BYTES: Final = 1 << 20
MODES: Final = ("swap", "shadow", "stage")


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One model: a version or the beginning of a sha256."""

    name: str
    wanted: str
    mode: str = "swap"


def wish(text: str) -> Wish:
    """`NAME=VERSION|SHA[:mode]`. Raises: Rejected."""
    name, equals, rest = text.partition("=")
    wanted, _, mode = rest.partition(":")
    if not equals or not wanted or mode not in ("", *MODES) or not re.match(NAME_PATTERN, name):
        raise Rejected(
            f"read model {text!r}: expected NAME=VERSION or NAME=SHA256, with :swap, :shadow or "
            ":stage behind it"
        )
    return Wish(name=name, wanted=wanted, mode=mode or "swap")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What moves; the rest of a desired state stays as it is."""

    models: tuple[Wish, ...] = ()
    without: tuple[str, ...] = ()
    window: str = ""
    config: Path | None = None
    expires: str = ""


def path_of(*, node: str = "", cohort: str = "") -> tuple[str, str]:
    """The path and the role that signs it. Raises: Rejected."""
    name = node or cohort
    if not re.fullmatch(NAME_PATTERN, name):
        raise Rejected(f"name {name!r}: expected lower case letters, digits and -")
    return f"desired/{name}.json", "nodes" if node else f"desired-{cohort}"


def move(house: Repository, change: Change, *, node: str = "", cohort: str = "") -> DesiredState:
    """Publishes the desired state of one node or cohort. Raises: Rejected."""
    path, role = path_of(node=node, cohort=cohort)
    with house.change() as draft:
        if node and f"desired-{node}" in draft.names():
            raise Rejected(f"desired of node {node}: a cohort has this name")
        draft.delegate(role, ["desired/*"] if node else [path])
        before = current(house, house.open(), path)
        state = _changed(draft, before or DesiredState(schema=1, serial=0), change)
        return _put(draft, role, path, state)


def restore(house: Repository, before: DesiredState, *, cohort: str) -> DesiredState:
    """What was wanted once is wanted again, under a new serial. Raises: Rejected."""
    path, role = path_of(cohort=cohort)
    with house.change() as draft:
        return _put(draft, role, path, before)


def current(house: Repository, draft: Draft, path: str) -> DesiredState | None:
    """As it is published. Raises: Rejected."""
    return next((one.state for one in states(house, draft) if one.path == path), None)


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """A desired state as it is published. body: the exact bytes that were signed."""

    path: str
    role: str
    state: DesiredState
    body: bytes


def states(house: Repository, draft: Draft) -> list[Stated]:
    """Every one there is. Raises: Rejected."""
    found: list[Stated] = []
    for role in draft.names():
        if role != "nodes" and not role.startswith("desired-"):
            continue
        for path, file in draft.role(role).targets.items():
            try:
                body = (house.targets_folder / file.get_prefixed_paths()[0]).read_bytes()
                state = msgspec.json.decode(body, type=DesiredState)
            except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Rejected(f"read {path}: {error}", hint="restore the repository") from None
            found.append(Stated(path=path, role=role, state=state, body=body))
    return found


def _put(draft: Draft, role: str, path: str, state: DesiredState) -> DesiredState:
    serial = 0
    for name in draft.names():
        if name == "nodes" or name.startswith("desired-"):
            serial = max(serial, int(draft.role(name).unrecognized_fields.get("serial", 0)))
    state = msgspec.structs.replace(state, serial=serial + 1)
    body = msgspec.json.encode(state)
    if len(body) > MAX_DOWN_BYTES:
        raise Rejected(f"put {path}: expected at most {MAX_DOWN_BYTES} bytes, got {len(body)}")
    draft.put(role, path, body, {"serial": state.serial})
    draft.role(role).unrecognized_fields["serial"] = state.serial
    return state


def _changed(draft: Draft, before: DesiredState, change: Change) -> DesiredState:
    models = {name: one for name, one in before.models.items() if name not in change.without}
    for one in change.models:
        sha256 = find(draft, one.name, one.wanted)
        version = next(p["version"] for p in packages(draft, one.name) if p["sha256"] == sha256)
        models[one.name] = msgspec.convert(
            {"version": version, "sha256": sha256, "mode": one.mode, "window": change.window},
            DesiredModel,
        )
    config = _configured(draft, change.config) if change.config else before.config
    return msgspec.structs.replace(
        before, models=models, config=config, expires=change.expires or before.expires
    )


def _configured(draft: Draft, file: Path) -> DesiredConfig:
    try:
        body = read_bounded(file, MAX_CONFIG_BYTES)
    except OSError as error:
        raise Rejected(f"read {file.name}: {error.strerror}") from None
    sha256 = hashlib.sha256(body).hexdigest()
    draft.delegate("configs", ["configs/*"])
    draft.put("configs", f"configs/{sha256}.toml", body)
    return DesiredConfig(version=sha256[:12], sha256=sha256)
