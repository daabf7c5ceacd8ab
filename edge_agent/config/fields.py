"""Every flaw of a table at once, found by walking the Structs. msgspec alone stops at the first.

Pure. Only judges; the conversion itself stays with msgspec, which has the last word.
"""

from __future__ import annotations

import datetime as dt
import difflib
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec
from msgspec import inspect

from edge_agent.config.problems import Flaw, Key, masked, quoted
from edge_agent.config.structs import HOST_PATTERN, NODE_PATTERN, PIN_PATTERN
from edge_agent.core.kubeedge import OPTIONAL_NODE_PATTERN
from edge_agent.core.manifest import NAME_PATTERN

MAX_SHOWN = 60  # characters of a wrong value in a message
MAX_MASKED = 4096  # a longer one is not shown at all
FAR = 1e6  # a bound so far away is told only to who crosses it
_INT64 = range(-(1 << 63), 1 << 63)
_NAME_WORDS = "a name: 1 to 63 of a-z, 0-9 and -, the first no -"
_PATTERNS: Final = {
    NAME_PATTERN: _NAME_WORDS,
    NODE_PATTERN: f'{_NAME_WORDS}, or ""',
    OPTIONAL_NODE_PATTERN: 'a node of Kubernetes as "ward.3": a-z, 0-9, - and dots, or ""',
    HOST_PATTERN: "a host name or an address",
    PIN_PATTERN: 'a version as "1.0.0", or ""',
}


def flaws_of(tables: dict[str, Any], kind: type) -> list[Flaw]:
    """All that is wrong with decoded TOML against a Struct, in the order of the file."""
    return list(_look(tables, _type_of(kind), ()))


@lru_cache(maxsize=8)
def _type_of(kind: type) -> inspect.Type:
    return inspect.type_info(kind)


def _look(value: Any, kind: inspect.Type, key: Key) -> Iterator[Flaw]:
    look = _LOOKS.get(type(kind))
    if look is not None:
        yield from look(value, kind, key)
    elif not _fits(value, kind):
        yield _wrong(value, kind, key)


def _wrong(value: Any, kind: inspect.Type, key: Key) -> Flaw:
    what = "wrong value" if _is_of_type(value, kind) else "wrong type"
    near = ""
    if isinstance(value, str) and isinstance(kind, inspect.LiteralType):
        near = _near(value, [str(choice) for choice in kind.values])
    words = expected(kind)
    if isinstance(value, int | float) and isinstance(kind, inspect.IntType | inspect.FloatType):
        words += f" and at most {kind.le}" if kind.le is not None and value > kind.le >= FAR else ""
    return Flaw(key=key, message=f"{what} (expected {words}, got {got(value)}){near}")


def _table(value: Any, kind: inspect.StructType, key: Key) -> Iterator[Flaw]:
    if not isinstance(value, dict):
        yield _wrong(value, kind, key)
        return
    fields = {field.encode_name: field for field in kind.fields}
    for name, item in value.items():
        if name in fields:
            yield from _look(item, fields[name].type, (*key, name))
        elif name != kind.tag_field:
            yield _unknown(name, kind, key)
    for name, field in fields.items():
        if field.required and name not in value:
            yield _missing((*key, name), expected(field.type))


def _missing(key: Key, words: str) -> Flaw:
    return Flaw(key=key, message=f"missing (expected {words})", is_missing=True)


def _unknown(name: str, kind: inspect.StructType, key: Key) -> Flaw:
    own = [field.encode_name for field in kind.fields]
    inner = [
        f"{field.encode_name}.{below.encode_name}"
        for field in kind.fields
        for option in _options(field.type)
        if isinstance(option, inspect.StructType)
        for below in option.fields
    ]
    by_last = {path.rpartition(".")[2]: path for path in inner}
    near = _near(name, own) or (f', did you mean "{by_last[name]}"?' if name in by_last else "")
    hint = "" if near else f"known here: {', '.join(own)}"
    return Flaw(key=(*key, name), message=f"unknown key{near}", hint=hint)


def _tagged(value: Any, kind: inspect.UnionType, key: Key) -> Iterator[Flaw]:
    options = _options(kind)
    structs = {
        option.tag: option
        for option in options
        if isinstance(option, inspect.StructType) and option.tag_field
    }
    if not structs:
        if all(next(_look(value, option, key), None) is not None for option in options):
            yield from (
                _look(value, options[0], key) if len(options) == 1 else (_wrong(value, kind, key),)
            )
        return
    if not isinstance(value, dict):
        yield Flaw(key=key, message=f"wrong type (expected {expected(kind)}, got {got(value)})")
        return
    field = next(iter(structs.values())).tag_field or "kind"
    choices = _one_of([str(tag) for tag in structs])
    if field not in value:
        yield _missing((*key, field), choices)
        return
    tag = value[field]
    if isinstance(tag, str) and tag in structs:
        yield from _look(value, structs[tag], key)
        return
    near = _near(tag, [str(known) for known in structs]) if isinstance(tag, str) else ""
    yield Flaw(
        key=(*key, field), message=f"unknown {field} (expected {choices}, got {got(tag)}){near}"
    )


def _names(value: Any, kind: inspect.DictType, key: Key) -> Iterator[Flaw]:
    if not isinstance(value, dict):
        yield _wrong(value, kind, key)
        return
    if kind.max_length is not None and len(value) > kind.max_length:
        yield Flaw(
            key=key, message=f"too many (expected at most {kind.max_length}, got {len(value)})"
        )
    for name, item in value.items():
        if not _fits(name, kind.key_type):
            yield Flaw(
                key=(*key, name),
                message=f"bad name (expected {expected(kind.key_type)}, got {got(name)})",
                hint="the name for people goes into `title`, in any script",
            )
        yield from _look(item, kind.value_type, (*key, name))


def _row(value: Any, kind: inspect.TupleType, key: Key) -> Iterator[Flaw]:
    if not isinstance(value, list) or len(value) != len(kind.item_types):
        yield _wrong(value, kind, key)
        return
    for index, (item, of) in enumerate(zip(value, kind.item_types, strict=True)):
        yield from _look(item, of, (*key, index))


def _list(value: Any, kind: inspect.VarTupleType, key: Key) -> Iterator[Flaw]:
    low, high = kind.min_length or 0, kind.max_length
    if not isinstance(value, list) or len(value) < low or (high and len(value) > high):
        yield _wrong(value, kind, key)
        return
    for index, item in enumerate(value):
        yield from _look(item, kind.item_type, (*key, index))


_LOOKS: Final[dict[type, Callable[[Any, Any, Key], Iterator[Flaw]]]] = {
    inspect.StructType: _table,
    inspect.UnionType: _tagged,
    inspect.DictType: _names,
    inspect.TupleType: _row,
    inspect.VarTupleType: _list,
}


def _options(kind: inspect.Type) -> list[inspect.Type]:
    """Without None: TOML cannot say it."""
    options = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [option for option in options if not isinstance(option, inspect.NoneType)]


def _is_of_type(value: Any, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.UnionType):
        return any(_is_of_type(value, option) for option in _options(kind))
    if isinstance(value, bool):
        return isinstance(kind, inspect.BoolType)
    if isinstance(kind, inspect.LiteralType):
        return isinstance(value, type(kind.values[0]))
    types: dict[type, tuple[type, ...]] = {
        inspect.StrType: (str,),
        inspect.IntType: (int,),
        inspect.FloatType: (int, float),
        inspect.StructType: (dict,),
        inspect.DictType: (dict,),
        inspect.TupleType: (list,),
        inspect.VarTupleType: (list,),
    }
    return isinstance(value, types.get(type(kind), ()))


def _fits(value: Any, kind: inspect.Type) -> bool:
    if not _is_of_type(value, kind):
        return False
    if isinstance(kind, inspect.LiteralType):
        return value in kind.values
    if isinstance(kind, inspect.StrType):
        return _text_fits(value, kind)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return _number_fits(value, kind)
    return True


def _text_fits(value: str, kind: inspect.StrType) -> bool:
    wide_enough = kind.min_length is None or len(value) >= kind.min_length
    short_enough = kind.max_length is None or len(value) <= kind.max_length
    try:
        msgspec.convert(value, _pattern_type(kind.pattern))
    except msgspec.ValidationError:
        return False
    return wide_enough and short_enough and "\x00" not in value


@lru_cache(maxsize=64)
def _pattern_type(pattern: str | None) -> Any:
    return Annotated[str, msgspec.Meta(pattern=pattern)] if pattern else str


def _number_fits(value: float, kind: inspect.IntType | inspect.FloatType) -> bool:
    if isinstance(value, int):
        if value not in _INT64:
            return False
    elif not math.isfinite(value):
        return False
    return all(
        (
            kind.gt is None or value > kind.gt,
            kind.ge is None or value >= kind.ge,
            kind.lt is None or value < kind.lt,
            kind.le is None or value <= kind.le,
        )
    )


# ── words ─────────────────────────────────────────────────────────────────────────────────────


def expected(kind: inspect.Type) -> str:
    """What a key takes, in words: `a whole number, at least 1`."""
    if isinstance(kind, inspect.UnionType):
        options = _options(kind)
        if all(isinstance(option, inspect.StructType) and option.tag_field for option in options):
            return "a table with its kind"
        return " or ".join(expected(option) for option in options)
    if isinstance(kind, inspect.LiteralType):
        return _one_of([str(choice) for choice in kind.values])
    words = _WORDS.get(type(kind))
    return words(kind) if words else "a table"


def _expected_text(kind: inspect.StrType) -> str:
    words = _PATTERNS.get(kind.pattern or "", kind.pattern and f"text like {kind.pattern}")
    return words or (f"text of at most {kind.max_length} characters" if kind.max_length else "text")


def _expected_number(kind: inspect.IntType | inspect.FloatType) -> str:
    words = ["a whole number" if isinstance(kind, inspect.IntType) else "a number"]
    for bound, text in (
        (kind.gt, "above"),
        (kind.ge, "at least"),
        (kind.lt, "below"),
        (kind.le, "at most"),
    ):
        if bound is not None and abs(bound) < FAR:
            words.append(f"{text} {bound:g}")
    return words[0] + (" " + " and ".join(words[1:]) if words[1:] else "")


def _expected_row(kind: inspect.TupleType) -> str:
    return f"an array of {len(kind.item_types)}, each {expected(kind.item_types[0])}"


def _expected_list(kind: inspect.VarTupleType) -> str:
    low, high = kind.min_length or 0, kind.max_length
    size = f" of {low} to {high}" if high else f" of at least {low}" if low else ""
    return f"an array{size}, each {expected(kind.item_type)}"


_WORDS: Final[dict[type, Callable[[Any], str]]] = {
    inspect.StrType: _expected_text,
    inspect.IntType: _expected_number,
    inspect.FloatType: _expected_number,
    inspect.TupleType: _expected_row,
    inspect.VarTupleType: _expected_list,
    inspect.BoolType: lambda _kind: "true or false",
}


def got(value: Any) -> str:
    """A value as the operator wrote it: masked, and not longer than `MAX_SHOWN`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and len(value) > MAX_MASKED:
        return f"text of {len(value)} characters"
    if isinstance(value, str):
        text = masked(value)
        return quoted(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…")
    if isinstance(value, int | float):
        return str(value)[:MAX_SHOWN]
    if isinstance(value, dt.date | dt.time):
        return "a date or time"
    return f"an array of {len(value)}" if isinstance(value, list) else "a table"


def _one_of(choices: list[str]) -> str:
    return "one of " + ", ".join(quoted(choice) for choice in choices)


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name[:MAX_SHOWN], known, n=1, cutoff=0.6)
    return f', did you mean "{close[0]}"?' if close else ""
