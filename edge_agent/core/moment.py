"""When a proved candidate may take over: between two exams, in a window, or at once. Pure.

A model runs on several streams and is swapped on all of them together, so all have to be free. Only
a swap waits for its moment; a roll-back for safety never does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

from edge_agent.core.errors import Rejected

IDLE_S: Final = 60.0
DAY_MINUTES: Final = 24 * 60
WINDOW: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")

Policy = Literal["between_exams", "window", "now"]


class Idle(NamedTuple):
    """A stream at rest. exam: the pseudonym of the one under way, "" for none that is known.

    no_signal_s: without a picture for so long; 0 while there is one. since_exam_s: since the last
    exam ended; 0 while one is under way, or where exams are not told apart.
    """

    exam: str = ""
    no_signal_s: float = 0.0
    since_exam_s: float = 0.0


def check_window(window: str, what: str) -> None:
    """Raises: Rejected unless it is "" or as 22:00-05:00, in the local time of the device."""
    match = WINDOW.fullmatch(window) if window else None
    if window and (match is None or match[1] + match[2] == match[3] + match[4]):
        raise Rejected(
            f"{what}: expected a window as 22:00-05:00, got {window[:40]!r}",
            hint="two different times, hours 00 to 23, local time of the device",
        )


def is_open(window: str, minute: int) -> bool:
    """minute: of the day, local. A window may lead over midnight; none is always open."""
    match = WINDOW.fullmatch(window)
    if match is None:
        return True
    begin, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    return begin <= minute < end if begin < end else minute >= begin or minute < end


def waits_for(
    policies: Mapping[str, Policy],
    idle: Mapping[str, Idle],
    *,
    window: str,
    house_window: str,
    minute: int,
) -> str:
    """Why it may not be swapped now; "" when it may.

    policies: of the streams that run the model. window: of the desired state; house_window: of the
    configuration, for streams whose policy is `window`.
    """
    if not is_open(window, minute):
        return f"its window {window}"
    for name, policy in sorted(policies.items()):
        if policy == "window" and not is_open(house_window, minute):
            return f"{name}: the window {house_window}"
        if policy == "between_exams" and not _is_free(idle.get(name, Idle(no_signal_s=IDLE_S))):
            return f"{name}: an exam is under way, or a picture is there"
    return ""


def _is_free(idle: Idle) -> bool:
    return max(idle.no_signal_s, 0.0 if idle.exam else idle.since_exam_s) >= IDLE_S
