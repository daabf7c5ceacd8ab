"""Messages between our own processes, whose texts may be paths of any bytes.

A path that is no UTF-8 is a text with lone surrogates (as `os.fsdecode` has it), which neither
MessagePack nor JSON can hold. Such a message is marked at its head, and in its texts each such byte
stands as NUL and two digits: no path holds a NUL. Any other message is as it always was.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

MARK: Final = b"\xc1"  # no MessagePack and no JSON begins with it
_ODD: Final = re.compile("[\ud800-\udfff]")
_KEPT: Final = re.compile("\0([0-9a-f]{4})")
T = TypeVar("T")


def packed(message: object) -> bytes:
    """As MessagePack."""
    return _encoded(message, msgspec.msgpack.encode)


def unpacked(body: bytes, kind: type[T]) -> T:
    """Raises: msgspec.MsgspecError, UnicodeDecodeError, RecursionError."""
    if body[:1] != MARK:
        return msgspec.msgpack.decode(body, type=kind)
    return msgspec.convert(_each(msgspec.msgpack.decode(body[1:]), _restored), kind)


def jsoned(message: object) -> bytes:
    """As JSON."""
    return _encoded(message, msgspec.json.encode)


def unjsoned(body: bytes, kind: type[T]) -> T:
    """Raises: msgspec.MsgspecError, UnicodeDecodeError, RecursionError."""
    if body[:1] != MARK:
        return msgspec.json.decode(body, type=kind)
    return msgspec.convert(_each(msgspec.json.decode(body[1:]), _restored), kind)


def shown(message: object) -> bytes:
    """As JSON for others: a byte that is no text is shown as one that is unknown."""
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(message, str_keys=True)
        return msgspec.json.encode(_each(plain, lambda text: _ODD.sub("\ufffd", text)))


def _encoded(message: object, encode: Callable[[object], bytes]) -> bytes:
    try:
        return encode(message)
    except UnicodeEncodeError:
        plain = msgspec.to_builtins(message, builtin_types=(bytes,))
        return MARK + encode(_each(plain, _kept))


def _kept(text: str) -> str:
    return _ODD.sub(lambda hit: f"\0{ord(hit[0]):04x}", text)


def _restored(text: str) -> str:
    return _KEPT.sub(lambda hit: chr(int(hit[1], 16)), text)


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """Every text in it changed, keys as well."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each(key, change): _each(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_each(one, change) for one in value]
    return value
