"""Staged rollouts at work: the decisions of `fleet`, done to the repository and written down.

    <repository>/stages.json     by model; it is not served

What was wanted of a cohort is written down before it is moved, that it was moved after that. A cut
between the two moves it once more, under a new serial, and nobody installs anything for that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from edge_agent.core.errors import Damaged, Rejected
from edge_agent.stores.files import read_bounded, write_atomic
from tools.hot_tier import halts, wanted
from tools.hot_tier.fleet import Shares, Stage, Standing, Verdict, judge, standing
from tools.hot_tier.publishing import find, packages
from tools.hot_tier.repository import Repository

FILE: Final = "stages.json"
MAX_BYTES: Final = 4 << 20
STATUS: Final = "status"  # the document that a node sends of itself
NEWEST: Final = """SELECT node, body FROM doc AS a WHERE name = ? AND (epoch, number) =
(SELECT epoch, number FROM doc AS b WHERE b.node = a.node AND b.name = a.name
ORDER BY epoch DESC, number DESC LIMIT 1)"""


def standings(db: Path) -> list[Standing]:
    """What each node last said, out of the receiver's database; it may run meanwhile.

    Raises: Rejected, Damaged.
    """
    if not db.is_file():
        raise Rejected(f"read {db.name}: not there", hint="the --db of hot_tier receive")
    try:
        opened = sqlite3.connect(f"file:{quote(str(db.absolute()))}?mode=ro", uri=True, timeout=5)
        try:
            rows = opened.execute(NEWEST, (STATUS,)).fetchall()
        finally:
            opened.close()
    except sqlite3.Error as error:
        raise Damaged(f"read {db.name}: {error}", hint="is it the receiver's?") from error
    return [standing(node, _decoded(body)) for node, body in sorted(rows)]


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def stages(house: Repository) -> dict[str, Stage]:
    """By model. Raises: Rejected."""
    path = house.folder / FILE
    try:
        return msgspec.json.decode(read_bounded(path, MAX_BYTES), type=dict[str, Stage])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Rejected(f"read {FILE}: {error}", hint="restore it, or remove it") from None


def begin(house: Repository, wish: wanted.Wish, cohorts: Sequence[str], window: str) -> Stage:
    """Moves the first cohort. Raises: Rejected; also while another stage of it runs."""
    running = stages(house).get(wish.name)
    if running is not None and running.state == "running":
        cohort = running.cohorts[max(0, running.at)]
        raise Rejected(
            f"stage {wish.name}: {running.wanted} is on its way, at {cohort}",
            hint="hot_tier fleet --stop " + wish.name,
        )
    if len(set(cohorts)) != len(cohorts):
        raise Rejected(f"stage {wish.name}: a cohort is named twice")
    stage = Stage(
        model=wish.name, wanted=wish.wanted, mode=wish.mode, window=window, cohorts=tuple(cohorts)
    )
    return _moved(house, _found(house, stage))


def step(
    house: Repository, stage: Stage, heard: Iterable[Standing], shares: Shares, *, hold: bool
) -> tuple[Stage, Verdict]:
    """Judges a stage that runs, and does it. hold: what was moved stays when it halts.

    Raises: Rejected.
    """
    verdict = judge(stage, heard, shares)
    if verdict.word == "wait":
        return stage, verdict
    if verdict.word == "next":
        stage = _moved(house, stage)
    elif verdict.word == "done":
        stage = _kept(house, msgspec.structs.replace(stage, state="done", why=verdict.why))
    else:
        stage = halt(house, stage, verdict.why, hold=hold)
    return stage, verdict


def halt(house: Repository, stage: Stage, why: str, *, hold: bool) -> Stage:
    """No cohort follows. Unless held, what was wanted before is wanted again where it was moved,
    and this version must not run there any more. Raises: Rejected."""
    if not hold:
        for cohort in stage.before:
            _back(house, stage, cohort, why)
    state: Any = "held" if hold else "halted"
    return _kept(house, msgspec.structs.replace(stage, state=state, why=why))


def withdrawn(house: Repository, name: str, sha256: str, why: str, *, hold: bool) -> bool:
    """Halts the staged rollout of this version, if one is under way. Raises: Rejected."""
    stage = stages(house).get(name)
    if stage is None or stage.state != "running" or _known(house, stage).sha256 != sha256:
        return False
    halt(house, stage, why, hold=hold)
    return True


def _back(house: Repository, stage: Stage, cohort: str, why: str) -> None:
    """Only this model goes back; what was changed beside it meanwhile stays."""
    path, _ = wanted.path_of(cohort=cohort)
    now = wanted.current(house, house.open(), path)
    before = stage.before.get(cohort)
    if now is None:
        return
    stage = _known(house, stage)
    if stage.sha256:
        reason = halts.halt(stage.sha256, stage.version, why)
        now = halts.halting(now, stage.model, reason)
    models = {name: one for name, one in now.models.items() if name != stage.model}
    one = before.models.get(stage.model) if before is not None else None
    if one is not None and not halts.is_halted(now, stage.model, one.sha256):
        models[stage.model] = one  # unless it was withdrawn since, or is the very same
    wanted.restore(house, msgspec.structs.replace(now, models=models), cohort=cohort)


def _known(house: Repository, stage: Stage) -> Stage:
    """With the version and the sha256 that it is about; left empty when nobody knows any more."""
    try:
        return stage if stage.sha256 else _found(house, stage)
    except Rejected:
        return stage


def _found(house: Repository, stage: Stage) -> Stage:
    """Raises: Rejected when what it wants is not published."""
    draft = house.open()
    sha256 = find(draft, stage.model, stage.wanted)
    versions = {one["sha256"]: str(one["version"]) for one in packages(draft, stage.model)}
    return msgspec.structs.replace(stage, version=versions[sha256], sha256=sha256)


def _moved(house: Repository, stage: Stage) -> Stage:
    """The next cohort, too."""
    cohort = stage.cohorts[stage.at + 1]
    if cohort not in stage.before:
        path, _ = wanted.path_of(cohort=cohort)
        before = {**stage.before, cohort: wanted.current(house, house.open(), path)}
        stage = _kept(house, msgspec.structs.replace(stage, before=before))
    wish = wanted.Wish(name=stage.model, wanted=stage.wanted, mode=stage.mode)
    change = wanted.Change(models=(wish,), window=stage.window)
    state = wanted.move(house, change, cohort=cohort)
    serials = {**stage.serials, cohort: state.serial}
    return _kept(house, msgspec.structs.replace(stage, at=stage.at + 1, serials=serials))


def _kept(house: Repository, stage: Stage) -> Stage:
    every = {**stages(house), stage.model: stage}
    write_atomic(house.folder / FILE, msgspec.json.encode(every))
    return stage
