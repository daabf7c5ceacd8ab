"""Merging of TOML tables, and `--set section.key=value`. Pure.

Tables merge, anything else is replaced. Depth is bounded by the scan that went before.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge_agent.config.lines import key_lines
from edge_agent.config.problems import Key

_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def parse_toml(text: str) -> dict[str, Any]:
    """Raises: ValueError (TOMLDecodeError, or a number of too many digits), RecursionError."""
    tables: dict[str, Any] = _toml.loads(text)
    return tables


def merge(into: dict[str, Any], tables: Mapping[str, Any]) -> None:
    """Puts `tables` over `into`, in place."""
    for key, value in tables.items():
        below = into.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merge(below, value)
        else:
            into[key] = value


def override_key(name: str) -> list[str] | None:
    """The parts of a dotted TOML key; None when it is none."""
    scan = key_lines(f"{name} = 0")
    if scan.too_deep_line or "\n" in name or "=" in name:
        return None
    try:
        node: Any = parse_toml(f"{name} = 0")
    except ValueError:
        return None
    parts = []
    while isinstance(node, dict):
        ((part, node),) = node.items()
        parts.append(part)
    return parts


def override_value(text: str) -> Any:
    """A TOML value, or else the text itself."""
    if "\n" in text or key_lines(f"v = {text}").too_deep_line:
        return text
    try:
        return parse_toml(f"v = {text}")["v"]
    except (ValueError, RecursionError):
        return text


def put(tables: dict[str, Any], key: Sequence[str], value: Any) -> Key | None:
    """Sets one value, also in an array (`models.0.every`); returns where, None if it cannot."""
    node: Any = tables
    path: Key = ()
    for part in key[:-1]:
        step = _step(node, part)
        if step is None:
            return None
        node = node.setdefault(step, {}) if isinstance(node, dict) else node[step]
        path = (*path, step)
    last = _step(node, key[-1])
    if last is None:
        return None
    if isinstance(node, dict) and isinstance(value, dict):
        merge(node, {str(last): value})
    else:
        node[last] = value
    return (*path, last)


def _step(node: Any, part: str) -> str | int | None:
    if isinstance(node, dict):
        return part
    if isinstance(node, list) and part.isascii() and part.isdigit() and int(part) < len(node):
        return int(part)
    return None


def keys_below(path: Key, value: Any) -> Iterable[Key]:
    yield path
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for part, item in items:
        yield from keys_below((*path, part), item)
