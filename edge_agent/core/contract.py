"""Whether one model may stand in for another: what its results mean must not change silently. Pure.

Any network may replace any network: sizes, decoders, states and files are the model's own business.
Heads, their tasks and the keys of their labels are what records are read by; they stay.
"""

from __future__ import annotations

from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import HeadSpec, Manifest

HINT = "give the model another name, and configure the stream for it"


def check_contract(live: Manifest, candidate: Manifest) -> None:
    """Raises: Rejected with the first thing that would change."""
    title = f"replace {live.name} {live.version} by {candidate.name} {candidate.version}"
    if candidate.name != live.name:
        raise Rejected(f"{title}: expected a model of the same name", hint=HINT)
    ours = {head.name: head for head in live.heads}
    theirs = {head.name: head for head in candidate.heads}
    if set(ours) != set(theirs):
        raise Rejected(f"{title}: expected heads {sorted(ours)}, got {sorted(theirs)}", hint=HINT)
    for name, head in ours.items():
        _check_head(title, head, theirs[name])


def _check_head(title: str, live: HeadSpec, candidate: HeadSpec) -> None:
    if candidate.task != live.task:
        raise Rejected(
            f"{title}: head {live.name}: expected task {live.task}, got {candidate.task}",
            hint=HINT,
        )
    ours = {label.key for label in live.labels}
    theirs = {label.key for label in candidate.labels}
    if ours != theirs:
        missing, fresh = sorted(ours - theirs), sorted(theirs - ours)
        raise Rejected(
            f"{title}: head {live.name}: expected the same labels, missing {missing}, new {fresh}",
            hint=HINT,
        )
