"""docs/wire/vectors: both decoders make of each payload what it says, and nothing is left out."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.core import bundles
from edge_agent.core.bundles import Bundles, Part
from edge_agent.core.frames import AnyRecord, to_json
from edge_agent.core.probe import Probe
from edge_agent.core.wire import schema
from edge_agent.core.wire.columns import Coding
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.outcome import Need, WireError
from tests.wire import second_bytes, second_columns, second_decoder, second_probe

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "wire" / "vectors"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
MAX_BYTES = 200_000
RULES = re.findall(
    r"^\| `([a-z0-9-]+)` \| (error|need `\w+`) \|",
    (DOCS / "wire.md").read_text("utf-8"),
    re.MULTILINE,
)
Said = dict[str, Any]


def vectors() -> Iterator[tuple[str, Said]]:
    for file in MANIFEST["files"]:
        name = file["file"].removesuffix(".json")
        for vector in json.loads((FOLDER / file["file"]).read_text(encoding="utf-8")):
            yield f"{name}/{vector['name']}", vector


ALL = dict(vectors())


def payloads_of(vector: Said) -> list[bytes]:
    told = [
        one if isinstance(one, str) else one["before"] + one["repeat"] * one["times"]
        for one in vector["payloads"]
    ]
    return [one.encode() for one in told]


def without_rules(said: Any) -> Any:
    """What a decoder can say of itself: not by which row of the page."""
    if "error" in said:
        return {"error": True}
    if "envelopes" in said:
        return {**said, "envelopes": [without_rules(one) for one in said["envelopes"]]}
    return {key: value for key, value in said.items() if key != "rule"}


def exactly(said: Any) -> str:
    """-0.0 is not 0.0, and 1 is not 1.0."""
    return json.dumps(said, sort_keys=True)


# ── the agent's decoder ───────────────────────────────────────────────────────────────────────


def by_the_first(payloads: Sequence[bytes], *, brief: bool) -> Iterator[Said]:
    reader = Bundles([DICTIONARY_1])
    for payload in payloads:
        try:
            found = reader.open(payload)
        except WireError:
            yield {"error": True}
            continue
        parts = [_part(part, brief=brief) for part in found.parts]
        yield {"carrier": found.carrier, "envelopes": parts}


def _part(part: Part, *, brief: bool) -> Said:
    content = part.content
    if isinstance(content, WireError):
        return {"error": True}
    if isinstance(content, Need):
        return {"need": json.loads(msgspec.json.encode(content))}
    if isinstance(content, Probe):
        return {"probe": json.loads(msgspec.json.encode(content))}
    if isinstance(content, bytes):
        assert part.envelope is not None
        name, key = part.envelope.stream, bundles.id_of(content)
        return {"document": json.loads(content), "name": name, "id": key}
    if brief:
        return {"count": len(content)}
    return {"records": [json.loads(to_json(record)) for record in content]}


# ── the second one ────────────────────────────────────────────────────────────────────────────


class Second:
    """What the page makes of payloads, one after the other."""

    def __init__(self, *, brief: bool) -> None:
        self.brief = brief
        self.kept: dict[tuple[str, str], dict[str, bytes]] = {}
        self.size = 0

    def open(self, payload: bytes) -> Said:
        try:
            carrier, found = second_bytes.open_bundle(payload)
        except second_bytes.Refused:
            return {"error": True}
        self.size = 0
        return {"carrier": carrier, "envelopes": [self.part(carrier, one) for one in found]}

    def part(self, carrier: str, one: second_bytes.Envelope | second_bytes.Wanting) -> Said:
        if isinstance(one, second_bytes.Wanting):
            return {"need": one.need(carrier)}
        try:
            return self.content(carrier, one)
        except second_bytes.Refused:
            return {"error": True}
        except second_bytes.Wanting as wanting:
            wanting.of = one
            return {"need": wanting.need(carrier)}

    def content(self, carrier: str, one: second_bytes.Envelope) -> Said:
        if one.kind == 3:
            return {"probe": second_probe.open_probe(one, [DICTIONARY_1])}
        if one.kind == 2:
            return self.document(carrier, one)
        rows = second_decoder.open_records(one, [DICTIONARY_1])
        try:
            records = msgspec.convert(rows, list[AnyRecord])
        except msgspec.ValidationError as error:
            raise second_bytes.Refused(str(error)) from None
        size = self.size + sum(map(second_decoder.size_of, rows))
        second_bytes.check(size <= 1 << 24, "size of the bundle")
        self.size = size
        if self.brief:
            return {"count": len(rows)}
        return {"records": [json.loads(to_json(record)) for record in records]}

    def document(self, carrier: str, one: second_bytes.Envelope) -> Said:
        second_bytes.check(carrier == one.node and one.stream != "", "whose document")
        kept = self.kept.setdefault((carrier, one.stream), {})
        try:
            content = second_decoder.open_document(one, list(kept.values()), [DICTIONARY_1])
        except second_bytes.Wanting as wanting:
            if wanting.why == "base":
                wanting.have = list(reversed(kept))[:8]
            raise
        key = second_bytes.name_of(content).hex()
        kept.pop(key, None)
        kept[key] = content
        while len(kept) > 8:
            del kept[next(iter(kept))]
        return {"document": json.loads(content), "name": one.stream, "id": key}


# ── what they are held against ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ALL)
def test_both_decoders_make_of_a_vector_what_it_says(name: str) -> None:
    vector = ALL[name]
    brief = '"count": ' in exactly(vector["expect"]) and '"records"' not in exactly(
        vector["expect"]
    )
    payloads = payloads_of(vector)
    expected = [without_rules(said) for said in vector["expect"]]
    assert exactly(list(by_the_first(payloads, brief=brief))) == exactly(expected)
    second = Second(brief=brief)
    assert exactly([second.open(payload) for payload in payloads]) == exactly(expected)


def test_every_row_of_the_table_of_errors_has_a_vector_and_the_right_outcome() -> None:
    found = dict(RULES)
    ends = {
        rule: "error" if "error" in part else f"need `{part['need']['why']}`"
        for rule, part in _ends()
    }
    assert ends == found


def _ends() -> Iterator[tuple[str, Said]]:
    for part in _parts():
        if "error" in part or "need" in part:
            yield part.get("rule") or part["error"], part


def _parts() -> Iterator[Said]:
    """Of every vector: what is said of bundles and of envelopes."""
    for said in (said for vector in ALL.values() for said in vector["expect"]):
        yield from (said, *said.get("envelopes", ()))


def test_the_vectors_use_every_coding_table_field_block_and_codec(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: Counter[tuple[str, Any]] = Counter()
    _listen(seen, monkeypatch)
    for name, vector in ALL.items():
        if not name.startswith("errors-"):
            for payload in payloads_of(vector):
                _look(payload, seen)
                Second(brief=True).open(payload)
    assert {key for what, key in seen if what == "coding"} == set(map(int, Coding))
    assert {key for what, key in seen if what == "block"} == {
        (transform, packing) for transform in range(4) for packing in range(5)
    }
    assert {key for what, key in seen if what == "mode"} == {0x20, 0x40, 0x80}
    assert {key for what, key in seen if what == "kind"} == {
        (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (3, 2),
    }  # fmt: skip
    fields = {(table, field) for table, known in schema.KNOWN.items() for field in known.fields}
    assert fields - {key for what, key in seen if what == "field"} == set()


def _look(payload: bytes, seen: Counter[tuple[str, Any]]) -> None:
    for one in second_bytes.open_bundle(payload)[1]:
        if isinstance(one, second_bytes.Envelope):
            seen["kind", (one.kind, one.codec)] += 1


def _listen(seen: Counter[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """To the second decoder, as it reads."""
    column, block = second_columns.column, second_columns.block
    tables = second_columns.open_tables

    def columns(coding: int, n: int, given: second_bytes.Bytes) -> list[Any]:
        seen["coding", coding] += 1
        return column(coding, n, given)

    def blocks(n: int, given: second_bytes.Bytes) -> list[int]:
        mode = given.given[given.at]
        seen["block", (mode & 3, mode >> 2 & 7)] += n > 0
        seen.update({("mode", bit): 1 for bit in (0x20, 0x40, 0x80) if mode & bit})
        return block(n, given)

    def opened(body: bytes, known: Any) -> Mapping[int, second_columns.Table]:
        found = tables(body, known)
        seen.update(("field", (n, field)) for n, table in found.items() for field in table.columns)
        return found

    monkeypatch.setattr(second_columns, "column", columns)
    monkeypatch.setattr(second_columns, "block", blocks)
    monkeypatch.setitem(second_columns.CODINGS, 5, blocks)
    monkeypatch.setattr(second_decoder, "open_tables", opened)


def test_the_manifest_is_of_these_files_and_they_stay_small() -> None:
    (dictionary,) = MANIFEST["dictionaries"]
    assert (FOLDER / dictionary["file"]).read_bytes() == DICTIONARY_1
    assert dictionary["id"] == second_bytes.name_of(DICTIONARY_1).hex()
    counts = Counter(name.split("/")[0] for name in ALL)
    assert counts == {one["file"][:-5]: one["vectors"] for one in MANIFEST["files"]}
    files = {path.name for path in FOLDER.iterdir()}
    assert files == {one["file"] for one in MANIFEST["files"]} | {"manifest.json", "README.md"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MAX_BYTES


def test_good_vectors_come_back_as_the_records_of_the_agent() -> None:
    """What stands in the files is JSON of records, not of one decoder."""
    for record in (record for part in _parts() for record in part.get("records", ())):
        fields = {key: value for key, value in record.items() if key != "class"}
        again = json.loads(to_json(msgspec.convert(fields, AnyRecord)))
        assert exactly(again) == exactly(record)
