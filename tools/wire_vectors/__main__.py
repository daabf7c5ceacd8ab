"""Writes docs/wire/vectors: `.venv/bin/python -m tools.wire_vectors`.

What has to be read is told by the agent's decoder; the tests hold the second one against it. What
has to be refused is told by hand: its row of docs/wire.md, section 11. Frames may differ from one
zstd library to another, and stay right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.core.bundles import Bundles, Part, id_of
from edge_agent.core.frames import to_json
from edge_agent.core.probe import Probe
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.dict_v1 import DICTIONARY_1, FILE
from edge_agent.core.wire.outcome import Need, WireError
from tools.wire_vectors import bad, bad_bodies, contours, good, good_bytes
from tools.wire_vectors.hand import Vector

ROOT: Final = Path(__file__).resolve().parents[2]
OUT: Final = ROOT / "docs" / "wire" / "vectors"
MAX_PLAIN_CHARS: Final = 100_000  # longer payloads are told as a repetition
FILES: Final = {**good.FILES, **good_bytes.FILES, **bad.FILES, **bad_bodies.FILES, **contours.FILES}

Said = dict[str, Any]


def told(vector: Vector) -> Said:
    """A vector as it stands in a file."""
    reader = Bundles([DICTIONARY_1])
    expect = [_of_payload(reader, vector, payload) for payload in vector.payloads]
    found = _rules(expect)
    if bool(found) != bool(vector.rule) and vector.name not in (
        "good-beside-bad",
        "good-before-newer",
    ):
        raise SystemExit(f"{vector.name}: expected {vector.rule or 'values'}, got {expect}")
    return {
        "name": vector.name,
        **({"rule": vector.rule} if vector.rule else {}),
        **({"why": vector.why} if vector.why else {}),
        "payloads": [_payload(payload) for payload in vector.payloads],
        "expect": expect,
    }


def _payload(payload: bytes) -> Any:
    text = payload.decode()
    if len(text) <= MAX_PLAIN_CHARS:
        return text
    start = len(text.rstrip(text[-1]))
    return {"before": text[:start], "repeat": text[-1], "times": len(text) - start}


def _rules(expect: Iterable[Said]) -> list[str]:
    return [
        key
        for said in expect
        for part in (said, *said.get("envelopes", ()))
        for key in ("error", "need")
        if key in part
    ]


def _of_payload(reader: Bundles, vector: Vector, payload: bytes) -> Said:
    try:
        found = reader.open(payload)
    except WireError:
        return {"error": vector.rule}
    parts = [_of_part(vector, part) for part in found.parts]
    return {"carrier": found.carrier, "envelopes": parts}


def _of_part(vector: Vector, part: Part) -> Said:
    content = part.content
    if isinstance(content, WireError):
        return {"error": vector.rule or "body-short"}
    if isinstance(content, Need):
        return {"need": json.loads(msgspec.json.encode(content)), "rule": vector.rule or "version"}
    if isinstance(content, Probe):
        return {"probe": json.loads(msgspec.json.encode(content))}
    if isinstance(content, bytes):
        name = part.envelope.stream if part.envelope else ""
        return {"document": json.loads(content), "name": name, "id": id_of(content)}
    if vector.brief:
        return {"count": len(content)}
    return {"records": [json.loads(to_json(record)) for record in content]}


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    files = []
    for name, make in FILES.items():
        vectors = [told(vector) for vector in make()]
        lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in vectors)
        (OUT / f"{name}.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        files.append({"file": f"{name}.json", "vectors": len(vectors)})
    dictionary = {
        "file": f"../../../edge_agent/core/wire/{FILE}",
        "id": Codecs([DICTIONARY_1]).ids[0],
        "bytes": len(DICTIONARY_1),
    }
    manifest = {"schema": 1, "version": 1, "dictionaries": [dictionary], "files": files}
    (OUT / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
