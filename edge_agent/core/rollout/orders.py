"""What a rollout may order, and what each order is: one table, for the rules and for who acts.

Pure. `services.rollouts` has a function for each; this page says how long it may take, whether it
needs the inference side, whether it ends a rollout, and whether it may be done before it is
written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Order = Literal[
    "",  # nothing is out
    "begin", "fetch", "pause", "prove",
    "load", "shadow", "wait", "swap", "probe",
    "commit", "roll_back", "unload", "revert", "restart",
]  # fmt: skip


class Kind(NamedTuple):
    """deadline: the field of `Limits` that bounds it. needs_side: an inference side has to be up.

    holds: the side has a candidate loaded or live while it is out, and loses it when it dies.
    settles: it ends a rollout, and is tried again until it is done. safe: it takes a candidate
    away from the live streams or only judges it, so it is done first and written down after.
    """

    deadline: str
    needs_side: bool = False
    holds: bool = False
    settles: bool = False
    safe: bool = False


KINDS: Final[Mapping[Order, Kind]] = {
    "begin": Kind("begin_s"),
    "fetch": Kind("fetch_s"),
    "pause": Kind("fetch_s"),
    "prove": Kind("prove_s"),
    "load": Kind("load_s", needs_side=True, holds=True),
    "shadow": Kind("shadow_s", needs_side=True, holds=True),
    "wait": Kind("wait_s", needs_side=True, holds=True),
    "swap": Kind("swap_s", needs_side=True, holds=True),
    "probe": Kind("probation_s", needs_side=True, holds=True, safe=True),
    "commit": Kind("settle_s", settles=True),
    "roll_back": Kind("settle_s", settles=True, safe=True),
    "unload": Kind("settle_s", settles=True),
    "revert": Kind("settle_s", settles=True, safe=True),
    "restart": Kind("settle_s", settles=True, safe=True),
}
NOTHING: Final = Kind("settle_s")


def kind_of(order: Order) -> Kind:
    return KINDS.get(order, NOTHING)
