"""What the rollouts show of themselves. Plain types, new at each call; reads, decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.core.rollout import State

if TYPE_CHECKING:
    from edge_agent.services.rollouts.rollouts import Rollouts


def model(name: str, rollouts: Rollouts) -> dict[str, Any]:
    """`rollout` of the status: where it stands and what it waits for."""
    drive, pin = rollouts.drives.get(name), rollouts.wishes.memory.pins.get(name)
    shown: dict[str, Any] = {
        "state": "", "version": "", "reason": "", "waits_for": "", "progress": None,
        "pinned": pin.version if pin else None, "note": rollouts.wishes.notes.get(name, ""),
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
        "waits_for": document.waits_for,
        "trials": document.trials,
        "progress": progress._asdict() if progress else None,
        "refused": [msgspec.to_builtins(entry) for entry in document.refused],
    }
    return shown


def desired(rollouts: Rollouts) -> dict[str, Any]:
    """state: `none`, `pending`, `applied` or `refused`, of the serial as a whole."""
    memory = rollouts.wishes.memory
    models = {
        name: _became(name, wanted.sha256, rollouts)
        for name, wanted in (memory.desired.models if memory.desired else {}).items()
    }
    states = [
        *models.values(),
        *([memory.config_state or "pending"] if _has_config(memory) else []),
    ]
    worst = next((word for word in ("refused", "pending") if word in states), "applied")
    return {
        "serial": memory.serial,
        "target": memory.target,
        "state": worst if memory.desired else "none",
        "models": models,
        "config": {"sha256": memory.config_sha, "state": memory.config_state,
                   "reason": memory.config_reason},
        "why": memory.why or rollouts.wishes.trouble,
    }  # fmt: skip


def _has_config(memory: Any) -> bool:
    return memory.desired is not None and memory.desired.config is not None


def _became(name: str, sha: str, rollouts: Rollouts) -> str:
    drive, note = rollouts.drives.get(name), rollouts.wishes.notes.get(name)
    if note is not None:  # it is current already, or nothing that this node may or need do
        return "refused" if "holds it to" in note else "applied"
    if drive is None or drive.document.wanted is None or drive.document.wanted.sha != sha:
        refusals = drive.document.refused if drive else ()
        return "refused" if any(entry.sha == sha for entry in refusals) else "pending"
    if not drive.document.is_settled:
        return "pending"
    is_bad = drive.document.state in (State.REJECTED, State.ROLLED_BACK)
    return "refused" if is_bad else "applied"


def history(rollouts: Rollouts, name: str) -> list[dict[str, Any]]:
    drives = [one for model, one in rollouts.drives.items() if name in ("", model)]
    reports = [report for drive in drives for report in drive.document.history]
    found = [msgspec.to_builtins(report) for report in reports]
    return list(reversed(found))
