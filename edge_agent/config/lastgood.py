"""The last configuration that worked, kept so that a broken file does not stop the machine.

Pure: bytes in, bytes out; the app keeps them in its state directory, mode 0600, because a source
URL may hold a password. One JSON document: a schema, a checksum, the configuration.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from edge_agent.config.load import Loaded
from edge_agent.config.problems import Problem, as_text
from edge_agent.config.structs import Config
from edge_agent.core.errors import ConfigError, Damaged

FILE_NAME: Final = "config.last-good.json"
MAX_BYTES: Final = 8 << 20
_SCHEMA: Final = 1


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    sha256: str
    config: msgspec.Raw


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What to run. degraded: it is not what the files say; `problems` says why."""

    config: Config
    degraded: bool
    problems: tuple[Problem, ...]


def choose(loaded: Loaded, last_good: Config | None) -> Chosen:
    """The files when they are sound, else the last good one (at a reload: the running one).

    Raises: ConfigError with every problem, when there is neither.
    """
    if loaded.config is not None:
        return Chosen(config=loaded.config, degraded=False, problems=loaded.problems)
    if last_good is not None:
        return Chosen(config=last_good, degraded=True, problems=loaded.problems)
    count = len(loaded.errors)
    raise ConfigError(
        "",
        f"configuration has {count} error{'' if count == 1 else 's'}:\n{as_text(loaded.problems)}",
        hint="correct the file, then: edge-agent config check",
    )


def encode_last_good(config: Config) -> bytes:
    """One JSON document with its checksum."""
    body = msgspec.json.encode(config)
    document = _Document(schema=_SCHEMA, sha256=_sum(body), config=msgspec.Raw(body))
    return msgspec.json.encode(document)


def decode_last_good(content: bytes) -> Config:
    """Raises: Damaged, also for what another version of the agent wrote and we cannot read."""
    if len(content) > MAX_BYTES:
        raise _damaged(f"expected at most {MAX_BYTES} bytes, got {len(content)}")
    try:
        document = msgspec.json.decode(content, type=_Document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(str(error)) from error
    if document.schema != _SCHEMA:
        raise _damaged(f"expected schema {_SCHEMA}, got {document.schema}")
    body = bytes(document.config)
    if _sum(body) != document.sha256:
        raise _damaged(f"expected sha256 {document.sha256[:12]}, got {_sum(body)[:12]}")
    try:
        return msgspec.json.decode(body, type=Config)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(str(error)) from error


def _sum(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _damaged(reason: str) -> Damaged:
    return Damaged(
        f"read last good configuration: {reason}",
        hint="it is written anew when the configuration files are sound",
        healable=True,
    )
