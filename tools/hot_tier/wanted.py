"""What a node or a cohort shall run: the signed desired state, one serial after the other.

    desired/<cohort>.json    signed by the cohort's own role
    desired/<node>.json      signed by the role `nodes`
    configs/<sha256>.toml    signed by the role `configs`

Serials rise over the whole repository, so that of two states of one node the higher is the newer.
What is written is read first as a device will read it: what it would refuse is not published.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.core import desired
from edge_agent.core.desired import MAX_BYTES, Desired, Halt, WantedConfig, WantedModel
from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import NAME_PATTERN
from edge_agent.core.rollout.document import Mode
from edge_agent.stores.files import read_bounded
from tools.hot_tier import halts
from tools.hot_tier.publishing import find, packages, remove
from tools.hot_tier.repository import Draft, Repository

MAX_CONFIG_BYTES: Final = 1 << 20
MODES: Final[dict[str, Mode]] = {"": "swap", "swap": "swap", "shadow": "shadow", "stage": "stage"}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """One model: a version or the beginning of a sha256."""

    name: str
    wanted: str
    mode: Mode = "swap"


def wish(text: str) -> Wish:
    """`NAME=VERSION|SHA[:mode]`. Raises: Rejected."""
    name, equals, rest = text.partition("=")
    wanted, _, mode = rest.partition(":")
    if not equals or not wanted or mode not in MODES or not re.match(NAME_PATTERN, name):
        raise Rejected(
            f"read model {text!r}: expected NAME=VERSION or NAME=SHA256, with :swap, :shadow or "
            ":stage behind it"
        )
    return Wish(name=name, wanted=wanted, mode=MODES[mode])


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


def move(house: Repository, change: Change, *, node: str = "", cohort: str = "") -> Desired:
    """Publishes the desired state of one node or cohort. Raises: Rejected."""
    path, role = path_of(node=node, cohort=cohort)
    with house.change() as draft:
        if node and f"desired-{node}" in draft.names():
            raise Rejected(f"desired of node {node}: a cohort has this name")
        draft.delegate(role, ["desired/*"] if node else [path])
        every = states(house, house.open())
        before = next((one.state for one in every if one.path == path), None)
        state = _changed(house, draft, before or Desired(schema=1, serial=0), change)
        if before is None:
            state = halts.merged(state, _withdrawn(draft, every))
        return _put(house, draft, role, path, state)


def restore(house: Repository, before: Desired, *, cohort: str) -> Desired:
    """What was wanted once is wanted again, under a new serial. Raises: Rejected."""
    path, role = path_of(cohort=cohort)
    with house.change() as draft:
        return _put(house, draft, role, path, before)


def withdraw(house: Repository, name: str, version: str, reason: str) -> tuple[Halt, list[str]]:
    """Nobody may install it, and who runs it stops: what was halted, and in which documents.

    In the order of their serials: which of its own state and its cohort's counts for a node stays
    as it was. Raises: Rejected.
    """
    with house.change() as draft:
        before = sorted(states(house, draft), key=lambda one: one.state.serial)
        version, sha256 = remove(draft, name, version)
        halt = halts.halt(sha256, version, reason)
        for one in before:
            _put(house, draft, one.role, one.path, halts.halting(one.state, name, halt))
    return halt, [one.path for one in before]


def current(house: Repository, draft: Draft, path: str) -> Desired | None:
    """As it is published. Raises: Rejected."""
    return next((one.state for one in states(house, draft) if one.path == path), None)


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """A desired state as it is published. body: the exact bytes that were signed."""

    path: str
    role: str
    state: Desired
    body: bytes


def states(house: Repository, draft: Draft) -> list[Stated]:
    """Every one there is. Raises: Rejected.

    One with a window or an expiry that devices refuse is read all the same: it is to be corrected.
    """
    found: list[Stated] = []
    for role in draft.names():
        if role != "nodes" and not role.startswith("desired-"):
            continue
        for path, file in draft.role(role).targets.items():
            try:
                body = (house.targets_folder / file.get_prefixed_paths()[0]).read_bytes()
                state = msgspec.json.decode(body, type=Desired)
            except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Rejected(f"read {path}: {error}", hint="restore the repository") from None
            found.append(Stated(path=path, role=role, state=state, body=body))
    return found


def _withdrawn(draft: Draft, every: list[Stated]) -> halts.Halted:
    """What a document that is new has to say, too: halted in others, and published no more."""
    found: dict[str, dict[str, Halt]] = {}
    for one in sorted(every, key=lambda one: one.state.serial):
        for name, halted in one.state.halted.items():
            published = {package["sha256"] for package in packages(draft, name)}
            found.setdefault(name, {}).update(
                {halt.sha256: halt for halt in halted if halt.sha256 not in published}
            )
    return {name: tuple(by_sha.values()) for name, by_sha in found.items() if by_sha}


def _put(house: Repository, draft: Draft, role: str, path: str, state: Desired) -> Desired:
    serial = 0
    for name in draft.names():
        if name == "nodes" or name.startswith("desired-"):
            serial = max(serial, int(draft.role(name).unrecognized_fields.get("serial", 0)))
    state, dropped = halts.fitted(msgspec.structs.replace(state, serial=serial + 1))
    body = msgspec.json.encode(state)
    if len(body) > MAX_BYTES:
        raise Rejected(f"put {path}: expected at most {MAX_BYTES} bytes, got {len(body)}")
    desired.read(body, path)
    draft.put(role, path, body, {"serial": state.serial})
    draft.role(role).unrecognized_fields["serial"] = state.serial
    for words in dropped:
        house.say(f"{path}: no more room for the halt of {words}, the oldest")
    return state


def _changed(house: Repository, draft: Draft, before: Desired, change: Change) -> Desired:
    models = {name: one for name, one in before.models.items() if name not in change.without}
    halted = before.halted
    for one in change.models:
        sha256 = find(draft, one.name, one.wanted)
        version = next(p["version"] for p in packages(draft, one.name) if p["sha256"] == sha256)
        models[one.name] = WantedModel(
            version=version, sha256=sha256, mode=one.mode, window=change.window
        )
        if halts.is_halted(before, one.name, sha256):
            house.say(f"{one.name} {version} was halted here; it is wanted again")
            halted = halts.lifted(halted, one.name, sha256)
    config = _configured(draft, change.config) if change.config else before.config
    return msgspec.structs.replace(
        before, models=models, config=config, expires=change.expires or before.expires,
        halted=halted,
    )  # fmt: skip


def _configured(draft: Draft, file: Path) -> WantedConfig:
    try:
        body = read_bounded(file, MAX_CONFIG_BYTES)
    except OSError as error:
        raise Rejected(f"read {file.name}: {error.strerror}") from None
    sha256 = hashlib.sha256(body).hexdigest()
    draft.delegate("configs", ["configs/*"])
    draft.put("configs", f"configs/{sha256}.toml", body)
    return WantedConfig(version=sha256[:12], sha256=sha256)
