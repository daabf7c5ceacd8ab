"""Whether a manifest has the shape that its kind asks for. Strict: what is not listed is a flaw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_NATIVE = json.loads((_HERE / "native_kinds.json").read_text("utf-8"))
KINDS: dict[str, Any] = {
    **json.loads((_HERE / "kubeedge_crds.json").read_text("utf-8"))["kinds"],
    **_NATIVE["kinds"],
}
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "map": (dict,),
    "port": (int, str),  # a number, or the name of a port
}


def flaws(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """Unknown fields are flaws: the API server would drop them without a word."""
    schema = _NATIVE["parts"][schema["$ref"]] if "$ref" in schema else schema
    if type(value) not in TYPES[schema["type"]]:  # True is no integer
        yield f"{where}: expected {schema['type']}, got {value!r}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where}: expected one of {schema['enum']}, got {value!r}"
    elif schema["type"] == "map":
        yield from (f"{where}.{k}: no text" for k, item in value.items() if type(item) is not str)
    elif schema["type"] == "array":
        for n, item in enumerate(value):
            yield from flaws(item, schema["items"], f"{where}[{n}]")
    elif schema["type"] == "object":
        yield from _object(value, schema, where)


def _object(value: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
    known = schema["properties"]
    yield from (f"{where}.{name}: missing" for name in schema["required"] if name not in value)
    for name, item in value.items():
        if name in known:
            yield from flaws(item, known[name], f"{where}.{name}")
        else:
            yield f"{where}.{name}: unknown"
