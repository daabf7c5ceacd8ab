"""What is wrong with a configuration, in words that say where and what to do. Never a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from edge_agent.core.places import without_places

Key = tuple[str | int, ...]  # a path in the merged tables; an int is the index in an array

MAX_KEY_CHARS: Final = 256  # a longer part of a key is only hinted at

_BARE = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_KEY_CHARS}}}")
_PLACEHOLDER = "{password}"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:@/]*):(\S*)@")
_WORD = re.compile(
    r"((?:user-)?(?:passw(?:or)?d|pwd?|passphrase|token|secret|api[-_]?key)\s*=\s*)"
    r"(\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|[^\s&!,;\"']+)",
    re.IGNORECASE,
)

_FOLDER = re.compile(r"^\S.*/(?=[^/]*:\d+: |[^/]*: )")
_OF_SOURCE = re.compile(r"\bsource\b")
_PLACE_OF_SOURCE = re.compile(r"\bsource(\.(where|path|pattern|password_file|exam_key_file))?$")
_GOT = re.compile(r"got [\"'].*")


class Flaw(msgspec.Struct, frozen=True, kw_only=True):
    """A problem that does not know its file yet."""

    key: Key
    message: str
    hint: str = ""
    severity: Literal["error", "warn"] = "error"
    is_missing: bool = False


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """file: "" when nothing was read, "--set" for an override. line 0: no line. key: dotted."""

    file: str = ""
    line: int = 0
    key: str = ""
    message: str
    hint: str = ""
    severity: Literal["error", "warn"] = "error"

    def text(self) -> str:
        """`file:line: key — message -> hint`, without the parts that are not known."""
        place = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        key = f"{self.key} — " if self.key else ""
        warning = "warning: " if self.severity == "warn" else ""
        hint = f" -> {self.hint}" if self.hint else ""
        return f"{place}{warning}{key}{self.message}{hint}"


def as_text(problems: Iterable[Problem]) -> str:
    """One problem a line."""
    return "\n".join(problem.text() for problem in problems)


def dotted(key: Key) -> str:
    """A path as `--set` takes it: `streams.us.models.0.every`. Masked and cut where need be."""
    return ".".join(part if _BARE.fullmatch(part) else _shown(part) for part in map(str, key))


def _shown(part: str) -> str:
    return quoted(masked(part) if len(part) <= MAX_KEY_CHARS else part[:8] + "…")


def quoted(text: str) -> str:
    """A TOML basic string."""
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
    return (
        '"'
        + "".join(
            short.get(sign, sign)
            if sign.isprintable() or sign in short
            else f"\\u{ord(sign):04X}"
            if ord(sign) <= 0xFFFF
            else f"\\U{ord(sign):08X}"
            for sign in text
        )
        + '"'
    )


def masked(text: str) -> str:
    """The text with each password of a URL and of a pipeline replaced by ***.

    Rather too much than too little: a password may hold `@` and `/`. The placeholder `{password}`
    stays, it is no secret.
    """

    def url(found: re.Match[str]) -> str:
        return found[0] if found[2] == _PLACEHOLDER else f"{found[1]}:***@"

    def word(found: re.Match[str]) -> str:
        return found[0] if found[2].strip("\"'") == _PLACEHOLDER else f"{found[1]}***"

    return _WORD.sub(word, _URL.sub(url, text))


HOLDS_NO_PLACE: Final = ("missing", "not usable now: ")  # such a message, but for its hint


def shareable(text: str) -> str:
    """Problems as `Problem.text` has them, for log, status and whoever is told of them far away:
    files by their names, and no word of what stands in a source.
    """
    return "\n".join(map(_shareable, text.splitlines()))


def _shareable(line: str) -> str:
    place, is_of_key, message = line.partition(" — ")
    place = _FOLDER.sub("", place)
    if not is_of_key:
        return without_places(place)
    if _PLACE_OF_SOURCE.search(place) and not message.startswith(HOLDS_NO_PLACE):
        return f"{place}: edge-agent config check says more"
    if _OF_SOURCE.search(place):
        message = _GOT.sub("got something else)", message)
    return f"{place} — {without_places(message)}"
