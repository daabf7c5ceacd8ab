"""Errors say whose fault it is.

`LinkDown` is weather: the road failed, try for ever. `Rejected` is theirs: what came is wrong.
`Damaged` is ours: our own disk or memory no longer holds what we put there. `Overloaded` means that
a bound was reached. `ConfigError` is the operator's. Programming errors stay `ValueError`,
`RuntimeError` or `assert`.

A message is: operation, object, expected, got. `hint` is one action that the operator can take.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Final, Literal


class EdgeAgentError(Exception):
    """The root of everything that this agent raises on purpose."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} -> {self.hint}" if self.hint else text

    @property
    def what(self) -> str:
        """The message without its hint."""
        return super().__str__()


class LinkDown(EdgeAgentError):
    """A link, device or peer is away; retry for ever, with jitter."""


class LinkCut(LinkDown):
    """The other side ended a connection. unconfirmed: characters of the largest payload that was on
    its way to it then; confirmed: of the largest that it had taken. 0: none.
    """

    def __init__(self, message: str, *, hint: str, unconfirmed: int, confirmed: int) -> None:
        super().__init__(message, hint=hint)
        self.unconfirmed, self.confirmed = unconfirmed, confirmed


class LinkDenied(LinkDown):
    """The other side is there and refuses us, or what we would show it can't be used: a password, a
    certificate, a secret's file. Tried again like any link; until a person mends it, in vain.
    """


class SourceLost(LinkDown):
    """A frame source ended, closed or never opened; reopen with back-off."""


class SourceEnded(SourceLost):
    """A recording came to its end, as it should; there is nothing to reopen."""


class Rejected(EdgeAgentError):
    """What came from outside is wrong: a model, a manifest, a file, a message."""


class BadPackage(Rejected):
    """The model package itself is at fault, wherever it is tried: this one will never do.

    Said only on evidence. A machine that is short of something, a road, a disk or a stream that is
    gone is no evidence: those are the other classes, and the package is tried again later.
    """


class Untrusted(Rejected):
    """Nobody whose signature counts here has signed it. That may be another thing tomorrow."""


class Damaged(EdgeAgentError):
    """What we stored is no longer what we wrote."""

    def __init__(self, message: str, *, hint: str = "", healable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.healable = healable


class Overloaded(EdgeAgentError):
    """A bound was reached; something of lower class has to go."""


class NoRoom(Overloaded):
    """A disk, or our share of it, is full; whoever makes room mends it."""


class SideDied(EdgeAgentError):
    """The inference side is gone, or does not answer; the next one starts by itself."""


class BadFrame(EdgeAgentError):
    """One frame could not become a result (NaN, wrong shape); the stream goes on."""


class NotFinite(BadFrame):
    """A model said something that is no number: NaN, or infinity."""


class ConfigError(EdgeAgentError):
    """The operator's configuration is wrong; `field` is its dotted key."""

    def __init__(self, field: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message, hint=hint)
        self.field = field


SHORT: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE}
)


def of_system(what: str, error: OSError, hint: str = "") -> Overloaded | Damaged:
    """What the kernel refused: a bound of this machine, or its disk; never whoever asked for it."""
    words = f"{what}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(words, hint=hint or "make room on the disk of state_dir")
    if error.errno in SHORT:
        return Overloaded(words, hint=hint or "this machine is short of it at the moment")
    return Damaged(words, hint=hint or "check the disk (dmesg)")


Fault = Literal[
    "bad-package", "untrusted", "rejected", "damaged", "no-room", "overloaded", "link-down",
    "config", "side-lost", "failed",
]  # fmt: skip
"""Whose fault it is, as a word: how an error crosses a socket between two processes."""

_CLASSES: Final[Mapping[Fault, type[EdgeAgentError]]] = {
    "bad-package": BadPackage,
    "untrusted": Untrusted,
    "rejected": Rejected,
    "damaged": Damaged,
    "no-room": NoRoom,
    "overloaded": Overloaded,
    "link-down": LinkDown,
    "side-lost": SideDied,
    "failed": EdgeAgentError,
}


def fault_of(error: EdgeAgentError) -> Fault:
    """The word for the nearest class that has one."""
    if isinstance(error, ConfigError):
        return "config"
    for fault, kind in _CLASSES.items():  # subclasses stand before their classes
        if isinstance(error, kind):
            return fault
    return "failed"


def raised_again(fault: str, message: str, hint: str = "") -> EdgeAgentError:
    """The error that a word stands for, to be raised on this side. An unknown word: the root."""
    if fault == "config":
        return ConfigError("", message, hint=hint)
    kind = _CLASSES.get(fault, EdgeAgentError)  # type: ignore[call-overload]
    return kind(message, hint=hint)  # type: ignore[no-any-return]
