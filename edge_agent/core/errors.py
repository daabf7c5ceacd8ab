"""Errors say whose fault it is.

`LinkDown` is weather: the road failed, try for ever. `Rejected` is theirs: what came is wrong.
`Damaged` is ours: our own disk or memory no longer holds what we put there. `Overloaded` means that
a bound was reached. `ConfigError` is the operator's. Programming errors stay `ValueError`,
`RuntimeError` or `assert`.

A message is: operation, object, expected, got. `hint` is one action that the operator can take.
"""

from __future__ import annotations


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


class SourceLost(LinkDown):
    """A frame source ended, closed or never opened; reopen with back-off."""


class SourceEnded(SourceLost):
    """A recording came to its end, as it should; there is nothing to reopen."""


class Rejected(EdgeAgentError):
    """What came from outside is wrong: a model, a manifest, a file, a message."""


class Damaged(EdgeAgentError):
    """What we stored is no longer what we wrote."""

    def __init__(self, message: str, *, hint: str = "", healable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.healable = healable


class Overloaded(EdgeAgentError):
    """A bound was reached; something of lower class has to go."""


class BadFrame(EdgeAgentError):
    """One frame could not become a result (NaN, wrong shape); the stream goes on."""


class NotFinite(BadFrame):
    """A model said something that is no number: NaN, or infinity."""


class ConfigError(EdgeAgentError):
    """The operator's configuration is wrong; `field` is its dotted key."""

    def __init__(self, field: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message, hint=hint)
        self.field = field
