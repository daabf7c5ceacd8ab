"""The effective configuration as TOML and as plain values, and its JSON Schema. Secrets masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from edge_agent.config import structs
from edge_agent.config.problems import Key, dotted, masked, quoted
from edge_agent.config.structs import Config
from edge_agent.config.words import words_of


def as_toml(config: Config, written: Mapping[str, Any]) -> str:
    """Every key with its value; one that `written` (the merged tables) lacks is marked default."""
    return "\n".join(_table(config, (), written)) + "\n"


def as_values(config: Config) -> dict[str, Any]:
    """For JSON."""
    values: dict[str, Any] = _masked_values(msgspec.to_builtins(config))
    return values


def schema() -> dict[str, Any]:
    """JSON Schema of the whole configuration, with the words as descriptions."""
    document = msgspec.json.schema(Config)
    for name, part in document["$defs"].items():
        part.pop("description", None)  # the docstrings are for builders
        for field, shape in part["properties"].items():
            if text := words_of(getattr(structs, name), field):
                shape["description"] = text
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def value_as_toml(value: Any) -> str:
    """A scalar or an array of scalars."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(masked(value))
    if isinstance(value, tuple | list):
        return f"[{', '.join(value_as_toml(item) for item in value)}]"
    return repr(value)


def _table(table: msgspec.Struct, key: Key, written: Any) -> Iterator[str]:
    tag = table.__struct_config__.tag
    if tag is not None:
        yield f"{table.__struct_config__.tag_field} = {value_as_toml(tag)}"
    below: list[tuple[str, Any]] = []
    for name in table.__struct_fields__:
        value = getattr(table, name)
        if _is_table(value):
            below.append((name, value))
            continue
        shown = f"# {name} is not set" if value is None else f"{name} = {value_as_toml(value)}"
        is_default = value is not None and not _has(written, name)
        yield f"{shown:<40}  # default" if is_default else shown
    for name, value in below:
        yield from _tables(value, (*key, name), _get(written, name))


def _tables(value: Any, key: Key, written: Any) -> Iterator[str]:
    if isinstance(value, msgspec.Struct):
        yield from ("", f"[{dotted(key)}]")
        yield from _table(value, key, written)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _tables(item, (*key, name), _get(written, name))
    else:
        for index, item in enumerate(value):
            yield from ("", f"[[{dotted(key)}]]")
            yield from _table(item, key, _get(written, index))


def _is_table(value: Any) -> bool:
    is_array = isinstance(value, tuple) and bool(value) and isinstance(value[0], msgspec.Struct)
    return is_array or isinstance(value, dict | msgspec.Struct)


def _has(written: Any, name: str) -> bool:
    return isinstance(written, Mapping) and name in written


def _get(written: Any, part: str | int) -> Any:
    if isinstance(written, list) and isinstance(part, int):
        return written[part]
    return written.get(part, {}) if isinstance(written, Mapping) else {}


def _masked_values(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _masked_values(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_masked_values(item) for item in value]
    return masked(value) if isinstance(value, str) else value
