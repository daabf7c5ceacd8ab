"""The parser of the command line, which also says what was probably meant."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

_CHOICE = re.compile(r"invalid choice: (['\"]?)(.*?)\1 \(choose from (.*)\)", re.DOTALL)
_UNKNOWN = re.compile(r"unrecognized arguments: (.*)", re.DOTALL)
_OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")
CLOSE = 0.6  # of 1: as `difflib` has it
MAX_WORD_CHARS = 64


class Parser(argparse.ArgumentParser):
    """`argparse`'s, with a hint for a verb, a choice or an option that is none. Parsers below it
    are of the same kind. Raises nothing: like the other it ends the process with exit code 2.
    """

    _unread: Parser | None = None  # below this one: who could not read all of its words

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found = super().parse_known_args(args, namespace)
        if found[1] and Parser._unread is None:
            Parser._unread = self
        return found

    def error(self, message: str) -> NoReturn:
        meant = self._meant(message)
        Parser._unread = None
        self.print_usage(sys.stderr)
        hint = f"\n  hint: did you mean {meant}?" if meant else ""
        self.exit(2, f"{self.prog}: error: {message}{hint}\n")

    def _meant(self, message: str) -> str:
        """Nothing ("") when nothing is like it."""
        if match := _CHOICE.search(message):
            choices = [word.strip().strip("'\"") for word in match[3].split(",")]
            return nearest(match[2], choices)
        if match := _UNKNOWN.search(message):
            options = _OPTION.findall((Parser._unread or self).format_usage())
            unknown = (word.partition("=")[0] for word in match[1].split())
            return next(filter(None, (nearest(word, options) for word in unknown)), "")
        return ""


def nearest(word: str, words: Sequence[str]) -> str:
    """The one that was probably meant; "" for none."""
    word = word[:MAX_WORD_CHARS].lower()
    found = difflib.get_close_matches(word, words, n=1, cutoff=CLOSE)
    begins = [one for one in words if len(word) > 1 and one.startswith(word)]
    return (found or (begins if len(begins) == 1 else []) or [""])[0]
