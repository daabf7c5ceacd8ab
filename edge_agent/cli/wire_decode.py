"""`wire decode`: line by line, in bounded memory, however large the file and whatever is in it.

A person may ask about any file at all. So a line is never longer in memory than a bundle may be,
what is no bundle is one error, and nothing is written but what standard output gets.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, Final

import msgspec

from edge_agent.cli import exits
from edge_agent.cli.exits import CommandError
from edge_agent.core import bundles
from edge_agent.core.bundles import Bundles, Content, Part
from edge_agent.core.frames import to_json
from edge_agent.core.probe import Probe
from edge_agent.core.wire.armour import MAX_BUNDLE_CHARS
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import Envelope
from edge_agent.core.wire.outcome import Need, WireError

SCHEMA: Final = 1
MAX_LINE_BYTES: Final = MAX_BUNDLE_CHARS + 2  # and the end of a line
TOLD: Final = {"record": "records", "document": "documents", "probe": "probes",
               "need": "needs", "error": "errors", "envelope": "envelopes"}  # fmt: skip

Said = dict[str, Any]


def run(args: argparse.Namespace) -> int:
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        for number, said in _told(_lines(_opened(args.file, stack)), Bundles([DICTIONARY_1])):
            what = str(said["what"])
            counts[TOLD[what]] += 1
            counts["lines"] = number
            if not args.heads or what in ("envelope", "need", "error"):
                _print({"schema": SCHEMA, "line": number, **said})
    names = ("lines", *TOLD.values())
    _print({"schema": SCHEMA, "what": "end", **{name: counts[name] for name in names}})
    if counts["errors"]:
        return exits.CHECK_FAILED
    if counts["needs"]:
        return exits.WARNINGS
    return exits.OK if counts["envelopes"] else exits.NOTHING_TO_DO


def _print(said: Said) -> None:
    print(json.dumps(said, ensure_ascii=False))


# ── lines ─────────────────────────────────────────────────────────────────────────────────────


def _opened(name: str, stack: ExitStack) -> BinaryIO:
    """Raises: CommandError."""
    if name == "-":
        return sys.stdin.buffer
    try:
        return stack.enter_context(open(name, "rb"))
    except OSError as error:
        raise _unread(error) from error


def _unread(error: OSError) -> CommandError:
    return CommandError(
        f"read the input: {error.strerror}", hint="a file with one bundle a line, or - for stdin"
    )


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Without their ends; None for one that is longer than any bundle. Raises: CommandError."""
    try:
        while piece := file.readline(MAX_LINE_BYTES + 1):
            if len(piece) <= MAX_LINE_BYTES:
                yield piece.rstrip(b"\r\n")
                continue
            while piece and not piece.endswith(b"\n"):
                piece = file.readline(MAX_LINE_BYTES + 1)
            yield None
    except OSError as error:
        raise _unread(error) from error


# ── what they say ─────────────────────────────────────────────────────────────────────────────


def _told(lines: Iterator[bytes | None], reader: Bundles) -> Iterator[tuple[int, Said]]:
    for number, line in enumerate(lines, 1):
        if line is None:
            most = f"expected at most {MAX_BUNDLE_CHARS} characters, got more"
            yield number, {"what": "error", "error": f"decode bundle: {most}"}
        elif line:
            yield from ((number, said) for said in _of_line(line, reader))


def _of_line(line: bytes, reader: Bundles) -> Iterator[Said]:
    try:
        found = reader.open(line)
    except WireError as error:
        yield {"what": "error", "error": error.what}
        return
    for place, part in enumerate(found.parts, 1):
        for said in _of_part(found.carrier, part):
            yield {"envelope": place, **said}


def _of_part(carrier: str, part: Part) -> Iterator[Said]:
    envelope, content = part.envelope, part.content
    if envelope is not None:
        yield {"what": "envelope", "carrier": carrier, **_head(envelope)}
    elif isinstance(content, Need):  # counted as one, though its head is not for us
        yield {"what": "envelope", "carrier": carrier, "node": content.node, "kind": content.kind}
    yield from _of_content(envelope, content)


def _head(envelope: Envelope) -> Said:
    return {
        "node": envelope.node,
        "kind": envelope.kind.name.lower(),
        "codec": envelope.codec.name.lower(),
        "stream": envelope.stream,
        "class": envelope.klass.value if envelope.klass else "",
        "epoch": envelope.epoch,
        "first": envelope.first,
        "count": envelope.count,
        "raw_len": envelope.raw_len,
        "body_len": len(envelope.body),
        "ref": envelope.ref.hex(),
        "result": envelope.result.hex(),
        "ext": [{"type": kind, "bytes": len(value)} for kind, value in envelope.ext],
    }


def _of_content(envelope: Envelope | None, content: Content) -> Sequence[Said] | Iterator[Said]:
    if isinstance(content, WireError):
        return [{"what": "error", "error": content.what}]
    if isinstance(content, Need):
        return [{"what": "need", "need": msgspec.to_builtins(content)}]
    if isinstance(content, Probe):
        return [{"what": "probe", "probe": msgspec.to_builtins(content)}]
    if isinstance(content, bytes):
        return [_of_document(envelope.stream if envelope else "", content)]
    return ({"what": "record", "record": json.loads(to_json(record))} for record in content)


def _of_document(name: str, content: bytes) -> Said:
    try:
        document = msgspec.json.decode(content)
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
    ):  # its id is right: that is all that the wire asks of it
        return {"what": "error", "error": f"read document {name}: expected JSON, got other bytes"}
    return {"what": "document", "name": name, "id": bundles.id_of(content), "document": document}
