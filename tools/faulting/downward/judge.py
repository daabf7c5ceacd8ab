"""What was seen of a cycle against what was said in it. Pure: the flaws, each with its invariant.

Bounds are in real time on a machine that does other things as well. While a fault takes the agent
or its inference side away (`Words.windows`) nobody can be held to them; a full disk or a road that
is cut is no such fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from tools.faulting.downward.packages import FIRST
from tools.faulting.downward.seen import Look, Seen
from tools.faulting.downward.words import Held, Wish, Words

WORD_S: Final = (
    2.0  # from a local word, or the serial in the status, until nothing else is on its way
)
HALT_S: Final = 3.0  # from the serial in the status until what it halts is gone
LIVE_S: Final = 4.0  # so long what is live and at rest may be another than what the pointer says
NAN_S: Final = 1.5
AFTER_S: Final = 3.0  # after a window, or a start
NEAR_S: Final = 1.0  # between a report and the pointer
PIN_S: Final = 3.0  # an answer may wait for the disk


class Flaw(NamedTuple):
    """at_s: when it was seen."""

    name: str
    what: str
    at_s: float = 0.0


def flaws(words: Words, seen: Seen) -> list[Flaw]:
    """One of each kind at most: the first."""
    found: list[Flaw] = []
    for check in CHECKS:
        found += list(check(words, seen))[:1]
    return found


# ── the store ─────────────────────────────────────────────────────────────────────────────────


def _pointer(_: Words, seen: Seen) -> Iterator[Flaw]:
    for one in seen.pointed:
        if one.sha and not one.is_whole:
            yield Flaw("pointer", f"it names {one.sha[:12]}, which is not there", one.at_s)
    for what in seen.rest.broken:
        yield Flaw("pointer", what, seen.rest.at_s)


def _reports(words: Words, seen: Seen) -> Iterator[Flaw]:
    """At that moment the pointer named what was committed, and not what was rolled back."""
    for one in seen.ended:
        near = _pointed_near(seen, one.at_s)
        if near is None:
            continue
        version = words.version_of(one.sha) or one.sha[:12]
        if one.outcome == "committed" and one.sha not in near:
            yield Flaw("report", f"{version} is told as committed, the pointer is not", one.at_s)
        if one.outcome == "rolled_back" and near == {one.sha}:
            yield Flaw("report", f"{version} is told as rolled back, and current", one.at_s)


def _pointed_near(seen: Seen, at_s: float) -> set[str] | None:
    """What was current around then; None: nobody looked."""
    if not seen.pointed or at_s < seen.pointed[0].at_s:
        return None
    before = [one for one in seen.pointed if one.at_s <= at_s - NEAR_S]
    near = [one for one in seen.pointed if at_s - NEAR_S < one.at_s <= at_s + NEAR_S]
    return {one.sha for one in [*before[-1:], *near]}


def _live(words: Words, seen: Seen) -> Iterator[Flaw]:
    """At rest the status says what pointer or configuration say."""

    def is_wrong(look: Look) -> bool:
        if not look.settled or not look.shows or not look.up:
            return False
        held = _held_at(words, look.at_s)
        return held.is_used and look.live != (held.held or look.pointed or FIRST)

    for look in _standing(words, seen, is_wrong, LIVE_S):
        said = _held_at(words, look.at_s).held or look.pointed or FIRST
        yield Flaw("live", f"{look.live} is live, pointer or configuration say {said}", look.at_s)


# ── words ─────────────────────────────────────────────────────────────────────────────────────


def _word(words: Words, seen: Seen) -> Iterator[Flaw]:
    """Nothing is on its way that the words that hold now do not let."""

    def is_wrong(look: Look) -> bool:
        return bool(look.on_its_way) and not is_let(words, look, look.on_its_way)

    for look in _standing(words, seen, is_wrong, WORD_S):
        what = (
            f"{look.on_its_way} is still {look.state}: pinned {look.pinned or '-'}, "
            f"serial {look.serial} wants {words.wishes.get(look.serial, Wish()).version or '-'}, "
            f"held {_held_at(words, look.at_s).held or '-'}"
        )
        yield Flaw("word", what, look.at_s)


def is_let(words: Words, look: Look, version: str) -> bool:
    """By pin, then halt, then configuration, then what is wanted."""
    wish, held = words.wishes.get(look.serial, Wish()), _held_at(words, look.at_s)
    if not held.is_used and wish.mode != "stage":
        return False
    if look.pinned:
        return look.pinned == version
    if version in wish.halted or held.held not in ("", version):
        return False
    return version in words.by_hand if not wish.version else version == wish.version


def _halt(words: Words, seen: Seen) -> Iterator[Flaw]:
    def is_wrong(look: Look) -> bool:
        wish = words.wishes.get(look.serial, Wish())
        is_held = look.pinned == look.live or _held_at(words, look.at_s).held == look.live
        return look.live in wish.halted and not is_held and look.shows and look.up

    for look in _standing(words, seen, is_wrong, HALT_S):
        yield Flaw("halt", f"{look.live} is halted by serial {look.serial}, and live", look.at_s)


def _pins(words: Words, seen: Seen) -> Iterator[Flaw]:
    for look in seen.looks:
        if _is_young(seen, look.at_s):
            continue
        possible = _pins_near(words, look.at_s)
        if look.pinned not in possible:
            expected = " or ".join(sorted(one or "none" for one in possible))
            what = f"pinned to {look.pinned or 'none'}, expected {expected}"
            yield Flaw("pins", what, look.at_s)


def _pins_near(words: Words, at_s: float) -> set[str]:
    before = [one for one in words.pins if one.at_s <= at_s - PIN_S]
    near = [one for one in words.pins if at_s - PIN_S < one.at_s <= at_s + PIN_S]
    found = [*before[-1:], *near]
    return {version for one in found for version in one.versions} | (set() if before else {""})


def _serial(_: Words, seen: Seen) -> Iterator[Flaw]:
    most = 0
    for look in seen.looks:
        most = max(most, look.serial)
        if _is_young(seen, look.at_s):
            continue
        if look.serial < most:
            yield Flaw("serial", f"{look.serial} after {most}", look.at_s)


# ── good and bad ──────────────────────────────────────────────────────────────────────────────


def _bad(words: Words, seen: Seen) -> Iterator[Flaw]:
    for one in seen.pointed:
        if (kind := words.kind_of(one.sha)) != "good":
            what = f"{words.version_of(one.sha)} is {kind}, and current"
            yield Flaw("bad-committed", what, one.at_s)
    for report in seen.ended:
        kind = words.kind_of(report.sha)
        if kind != "good" and report.outcome == "committed":
            what = f"{words.version_of(report.sha)} is {kind}, and told as committed"
            yield Flaw("bad-committed", what, report.at_s)


def _good(words: Words, seen: Seen) -> Iterator[Flaw]:
    for look in seen.looks:
        for sha, by in look.refused:
            if not by and words.kind_of(sha) == "good":
                what = f"{words.version_of(sha) or sha[:12]} is good: {look.reason}"
                yield Flaw("good-refused", what, look.at_s)


def _nan(words: Words, seen: Seen) -> Iterator[Flaw]:
    """first_s: of the first look that knew of a frame that failed under it."""
    first_s, before = None, Look(at_s=0.0)
    for look in seen.looks:
        is_nan = words.kind_of(look.live_sha) == "nan" and look.shows
        if not is_nan or any(start > before.at_s for start in seen.starts if start <= look.at_s):
            first_s = None
        elif first_s is None and look.errors > before.errors and before.at_s:
            first_s = look.at_s
        before = look
        if first_s is not None and look.at_s > first_s + NAN_S and not _excused(words, look.at_s):
            what = f"{look.live} is live {look.at_s - first_s:.1f} s after its first NaN"
            yield Flaw("nan", what, look.at_s)


# ── the end ───────────────────────────────────────────────────────────────────────────────────


def _rest(_: Words, seen: Seen) -> Iterator[Flaw]:
    if seen.rest.waits_for:
        yield Flaw("rest", seen.rest.waits_for, seen.rest.at_s)


def _left_over(_: Words, seen: Seen) -> Iterator[Flaw]:
    if seen.rest.left_over:
        yield Flaw("left-over", ", ".join(seen.rest.left_over[:5]), seen.rest.at_s)


def _orphans(_: Words, seen: Seen) -> Iterator[Flaw]:
    if seen.rest.orphans:
        yield Flaw("orphans", ", ".join(seen.rest.orphans[:5]), seen.rest.at_s)


def _ended(_: Words, seen: Seen) -> Iterator[Flaw]:
    for what in seen.ends:
        yield Flaw("ended", what)


CHECKS: Final[tuple[Callable[[Words, Seen], Iterator[Flaw]], ...]] = (
    _pointer, _reports, _live, _word, _halt, _pins, _serial, _bad, _good, _nan,
    _rest, _left_over, _orphans, _ended,
)  # fmt: skip


# ── time ──────────────────────────────────────────────────────────────────────────────────────


def _standing(
    words: Words, seen: Seen, is_wrong: Callable[[Look], bool], bound_s: float
) -> Iterator[Look]:
    """Looks at what has been wrong for that long, without another word and without an excuse."""
    since_s: float | None = None
    looks = [Look(at_s=seen.from_s), *seen.looks]
    for before, look in pairwise(looks):
        is_other = _key(words, before) != _key(words, look)
        is_wrong_now = is_wrong(look)
        if not is_wrong_now or is_other or _excused(words, look.at_s):
            since_s = look.at_s if is_wrong_now else None
        elif since_s is None:
            since_s = look.at_s
        elif look.at_s - since_s > bound_s:
            yield look


def _key(words: Words, look: Look) -> tuple[object, ...]:
    """What the words that hold are; the bound runs from their last change."""
    return look.pinned, look.serial, _held_at(words, look.at_s), look.live, look.on_its_way


def _held_at(words: Words, at_s: float) -> Held:
    return next((one for one in reversed(words.held) if one.at_s <= at_s), Held(at_s=0.0))


def _is_young(seen: Seen, at_s: float) -> bool:
    """It may not yet have read what it remembers. Whoever looks may be first to hear it."""
    return any(start - 1.0 <= at_s < start + AFTER_S for start in seen.starts)


def _excused(words: Words, at_s: float) -> bool:
    return any(one.from_s <= at_s <= one.to_s + AFTER_S for one in words.windows)
