"""What the rollouts show of themselves. Plain types, new at each call; reads, decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from edge_agent.core.desired import Became, Memory, Note, halted
from edge_agent.core.problems import Problem
from edge_agent.core.rollout import Refusal, Rollout, State

if TYPE_CHECKING:
    from edge_agent.services.rollouts.rollouts import Rollouts

OF_CAUSE: Final = {"no-room": Became.NO_ROOM, "untrusted": Became.UNSIGNED}
DISK: Final = "check the disk of state_dir (dmesg); it is tried again"
OVERALL: Final = (
    ("refused", {Became.REFUSED, Became.REFUSED_BEFORE}),
    ("held", {Became.PINNED, Became.HELD, Became.HALTED, Became.MEMORY_LOST}),
    ("pending", {Became.PENDING, Became.WAITING, Became.NO_ROOM, Became.UNSIGNED}),
)


def model(name: str, rollouts: Rollouts) -> dict[str, Any]:
    """`rollout` of the status: where it stands and what it waits for."""
    drive, memory = rollouts.drives.get(name), rollouts.wishes.memory
    pin, note = memory.pins.get(name), rollouts.wishes.notes.get(name)
    shown: dict[str, Any] = {
        "state": "", "version": "", "reason": "", "waits_for": "", "progress": None,
        "pinned": pin.version if pin else None, "note": note.text if note else "",
    }  # fmt: skip
    if drive is None:
        return shown
    document, wanted = drive.document, drive.document.wanted
    progress = rollouts.progress.get(name)
    shown |= {
        "state": document.state.value if document.state is not State.IDLE else "",
        "version": wanted.version if wanted else "",
        "sha": wanted.sha if wanted else "",
        "mode": wanted.mode if wanted else "",
        "serial": wanted.serial if wanted else 0,
        "settled": document.is_settled,
        "reason": document.report.reason or drive.trouble,
        "cause": document.cause,
        "waits_for": document.waits_for,
        "unsettled": document.unsettled,
        "trials": document.trials,
        "first": document.first,
        "progress": progress._asdict() if progress else None,
        "refused": [msgspec.to_builtins(entry) for entry in document.refused],
    }
    return shown


def desired(rollouts: Rollouts) -> dict[str, Any]:
    """state: `none`, `pending`, `held`, `applied` or `refused`, of the serial as a whole."""
    memory = rollouts.wishes.memory
    notes = {
        name: became(name, wanted.sha256, rollouts)
        for name, wanted in (memory.desired.models if memory.desired else {}).items()
    }
    for name, halts in (memory.desired.halted if memory.desired else {}).items():
        if name not in notes and rollouts.absent(name):  # what ran was halted, and nothing is left
            notes[name] = Note(Became.HALTED, halted(halts[-1]))
    return {
        "serial": memory.serial,
        "target": memory.target,
        "cohort": rollouts.cohort,
        "state": _overall(memory, notes) if memory.desired else "none",
        "models": {name: note.word.value for name, note in notes.items()},
        "reasons": {name: note.text for name, note in notes.items() if note.text},
        "config": {"sha256": memory.config_sha, "state": memory.config_state,
                   "reason": memory.config_reason},
        "why": memory.why or rollouts.wishes.trouble,
    }  # fmt: skip


def _overall(memory: Memory, notes: dict[str, Note]) -> str:
    words = {note.word for note in notes.values()}
    has_config = memory.desired is not None and memory.desired.config is not None
    config = (memory.config_state or "pending") if has_config else ""
    for state, those in OVERALL:
        if words & those or config == state:
            return state
    return "applied"


def became(name: str, sha: str, rollouts: Rollouts) -> Note:
    """What became of one model that is wanted. Nothing is applied while another is under way."""
    drive, note = rollouts.drives.get(name), rollouts.wishes.notes.get(name)
    if note is not None and note.word is not Became.APPLIED:
        return note  # nothing that this node may or need do
    if drive is None:
        return note or Note(Became.PENDING)
    document = drive.document
    is_mine = document.wanted is not None and document.wanted.sha == sha
    if not document.is_settled:
        word = OF_CAUSE.get(document.cause, Became.PENDING) if is_mine else Became.PENDING
        return Note(word, document.waits_for if is_mine else _under_way(document))
    refused = document.refused_as(sha, rollouts.agent)
    if note is None and refused is not None:
        return _refused(refused, is_mine=is_mine)
    return note or (_ended(document) if is_mine else Note(Became.PENDING))


def _refused(refused: Refusal, *, is_mine: bool) -> Note:
    word = Became.REFUSED if is_mine else Became.REFUSED_BEFORE
    return Note(Became.PINNED if refused.by == "operator" else word, refused.reason)


def _under_way(document: Rollout) -> str:
    version = document.wanted.version if document.wanted else "another version"
    return f"{version} is still {document.state.value}"


def _ended(document: Rollout) -> Note:
    if document.state in (State.COMMITTED, State.STAGED, State.OBSERVED):
        return Note(Became.APPLIED)
    word = OF_CAUSE.get(document.cause, Became.WAITING)
    return Note(word, document.report.reason)


def problems(rollouts: Rollouts) -> list[Problem]:
    """What could not be settled, written down or remembered; and who pinned what."""
    found: list[Problem] = []
    room, is_told = "make room on the disk of state_dir", rollouts.is_told()
    found += rollouts.wishes.rotten.values()
    for name, drive in rollouts.drives.items():
        document = drive.document
        version = document.wanted.version if document.wanted else ""
        if document.unsettled:
            what = f"model {name} {version}: {document.unsettled}"
            fix = "mend that; it is tried again until it is done"
            found.append(Problem("rollout-unsettled", "critical", what, fix, subject=name))
        elif drive.trouble and not is_told:
            fix = f"{drive.fix or room}; it is tried again by itself"
            what = f"rollout of {name}: {drive.trouble}"
            found.append(Problem("rollout-trouble", "warning", what, fix, subject=name))
    wishes = rollouts.wishes
    found += _held_on(wishes.memory, rollouts)
    for name, why in wishes.memory.doubts.items():
        whose = "every model" if name == "*" else f"model {name}"
        every = "--all" if name == "*" else name
        what = f"{whose} is held, what runs goes on: {why}"
        fix = f"check what runs, then: edge-agent models pin {every} --off"
        found.append(Problem("model-held", "critical", what, fix, subject=name))
    return found if is_told else found + _unkept(rollouts, room)


def _unkept(rollouts: Rollouts, room: str) -> list[Problem]:
    """What the disk refuses, where nobody else tells of the disk."""
    found: list[Problem] = []
    wishes = rollouts.wishes
    if not wishes.is_recalled and wishes.unwritten:
        what = f"pins and wishes can not be read: {wishes.unwritten}"
        found.append(Problem("wishes-unread", "critical", what, DISK))
    elif wishes.unwritten:
        what = f"pins and wishes are not on the disk: {wishes.unwritten}"
        found.append(Problem("wishes-unwritten", "warning", what, room))
    if rollouts.unread:
        what = f"rollouts can not be read: {rollouts.unread}"
        found.append(Problem("rollouts-unread", "critical", what, DISK))
    return found


def _held_on(memory: Memory, rollouts: Rollouts) -> list[Problem]:
    """What a person's pin keeps: a halted version is a fault, any other is said and no more."""
    halts = memory.desired.halted if memory.desired else {}
    found = []
    for name, pin in memory.pins.items():
        fix = f"edge-agent models pin {name} --off"
        stopped = [halt for halt in halts.get(name, ()) if halt.version == pin.version]
        if stopped:
            what = f"model {name}: {halted(stopped[0])}, and a pin holds it"
            found.append(Problem("pin-on-halted", "critical", what, fix, subject=name))
        else:
            live = rollouts.live_version(name)
            what = f"model {name} is pinned to {pin.version}"
            what += f", and {live} is live" if live not in ("", pin.version) else ""
            what += ": no rollout takes its place"
            found.append(Problem("pinned", "notice", what, fix, subject=name))
    return found


def history(rollouts: Rollouts, name: str) -> list[dict[str, Any]]:
    drives = [one for model, one in rollouts.drives.items() if name in ("", model)]
    reports = [report for drive in drives for report in drive.document.history]
    always = {"reason": "", "previous": "", "failed_in": ""}  # those that people look for
    return [{**always, **msgspec.to_builtins(report)} for report in reversed(reports)]
