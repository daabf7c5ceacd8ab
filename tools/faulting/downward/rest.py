"""What a cycle has to come to once nothing is broken any more. Pure."""

from __future__ import annotations

from tools.faulting.downward.packages import FIRST
from tools.faulting.downward.seen import Look
from tools.faulting.downward.words import Words

DEFERRED = "deferred"


def waits_for(words: Words, look: Look) -> str:
    """What is not as it has to be; "" when all is."""
    if look.serial != words.serial:
        return f"it knows serial {look.serial}, the newest is {words.serial}"
    if not look.settled:
        return f"{look.version} is {look.state}: {look.reason}"
    if not (look.up and look.shows):
        return f"no results: {'; '.join(look.problems)}"
    said = words.holds or look.pointed or FIRST
    if look.live != said:
        return f"{look.live} is live, pointer or configuration say {said}"
    if look.live in words.wish.halted and look.live not in (look.pinned, words.holds):
        return f"{look.live} is live, and halted"
    return _missing(words, look)


def _missing(words: Words, look: Look) -> str:
    """What should have come and has not."""
    version = _coming(words, look)
    made = words.made.get(version)
    if made is None or look.live == version:
        return ""
    if made.kind == "good":
        return f"{version} is wanted, {look.live} is live: {look.state} {look.reason}"
    if made.sha not in {sha for sha, _ in look.refused}:
        return f"{version} is {made.kind}, and not refused: {look.state} {look.reason}"
    return ""


def _coming(words: Words, look: Look) -> str:
    """The version that has to be tried; "" for none."""
    wish, pin = words.wish, look.pinned
    if words.hand and pin == words.hand and words.holds in ("", pin):
        is_tried_again = wish.version == pin
        return pin if is_tried_again or look.state != DEFERRED else ""
    is_let = pin in ("", wish.version) and words.holds in ("", wish.version)
    is_left = wish.version in words.left
    return wish.version if is_let and not is_left and wish.mode == "swap" else ""
