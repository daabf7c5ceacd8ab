"""What an exporter wrote into the file about the model: hints, never facts.

Ultralytics leaves `names`, `task`, `stride`, `imgsz`, `license` there as Python literals. They are
parsed as literals alone, bounded; what is not of the form that is known is passed over.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from edge_agent.core.manifest import MAX_LABELS, MAX_SIDE_PX

MAX_CHARS: Final = 1 << 18  # of one value: names of 4096 classes
MAX_SHOWN: Final = 120
MAX_ENTRIES: Final = 64


class Hints(msgspec.Struct, frozen=True, kw_only=True):
    """names: by class. size: [w, h] px. maker: who exported it, as the file says."""

    names: dict[int, str] = {}
    task: str = ""
    size: tuple[int, int] | None = None
    licence: str = ""
    maker: str = ""

    @property
    def scaled(self) -> bool:
        """Whether its maker's models all take pixels of 0 to 1."""
        return self.maker.lower().startswith("ultralytics")


def hints_of(model: Any) -> Hints:
    """Of an ONNX file as it was read."""
    said = {
        entry.key: entry.value
        for entry in list(model.metadata_props)[:MAX_ENTRIES]
        if isinstance(entry.key, str) and isinstance(entry.value, str)
    }
    return Hints(
        names=_names(_literal(said.get("names", ""))),
        task=_word(said.get("task", "")),
        size=_size(_literal(said.get("imgsz", ""))),
        licence=shown(said.get("license", "")),
        maker=shown(said.get("author", "")),
    )


def shown(text: str) -> str:
    """One line without control characters, cut: fit for a comment."""
    plain = "".join(char if char.isprintable() else " " for char in text[: 4 * MAX_SHOWN])
    return " ".join(plain.split())[:MAX_SHOWN]


def _literal(text: str) -> Any:
    """None where it is no literal of Python's."""
    if not text or len(text) > MAX_CHARS:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _names(value: Any) -> dict[int, str]:
    """{0: "polyp"} or ["polyp"]; empty where one of them is no class or no text."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping) or not 0 < len(value) <= MAX_LABELS:
        return {}
    plain = all(
        type(index) is int and 0 <= index < MAX_LABELS and isinstance(name, str)
        for index, name in value.items()
    )
    return {index: shown(name) for index, name in sorted(value.items())} if plain else {}


def _word(text: str) -> str:
    return text if re.fullmatch(r"[a-z]{1,20}", text) else ""


def _size(value: Any) -> tuple[int, int] | None:
    """Written as height and width."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    if not all(type(side) is int and 0 < side <= MAX_SIDE_PX for side in value):
        return None
    return value[1], value[0]
