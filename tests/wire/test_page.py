"""docs/wire.md: its examples are decoded, its numbers are the code's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_agent.core import edgecore, twin
from edge_agent.core import probe as probes
from edge_agent.core.frames import AnyRecord, Event, Tally, to_json
from edge_agent.core.wire import Need, armour, arrays, documents, records, schema
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.columns import Coding
from edge_agent.core.wire.cursor import Reader
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from tests.wire import made, second_bytes, second_decoder

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "wire.md").read_text(encoding="utf-8")
RECEIVER = (DOCS / "receiver.md").read_text(encoding="utf-8")
RECEIVER_JSON = re.findall(r"```json\n(.*)\n```", RECEIVER)
EXAMPLES = re.findall(r"```hex\n(.*?)```\n+```json\n(.*?)```", PAGE, re.DOTALL)
BLOCKS = re.findall(r"^\| (-?\d+(?: -?\d+)+) \| ((?:`[0-9a-f]+` ?)+) \|", PAGE, re.MULTILINE)


def plain(example: str) -> bytes:
    """Hex with what stands behind `#` left out."""
    return bytes.fromhex("".join(line.split("#")[0] for line in example.splitlines()))


@pytest.mark.parametrize("number", range(3))
def test_the_examples_are_what_both_decoders_read(number: int) -> None:
    given, told = plain(EXAMPLES[number][0]), json.loads(EXAMPLES[number][1])
    opened, at = envelopes.decode(given)
    assert at == len(given)
    assert not isinstance(opened, Need)
    second = second_bytes.open_envelope(second_bytes.Bytes(given))
    if opened.kind is envelopes.Kind.DOCUMENT:
        base = documents.canonical(told["base"])
        receiver = documents.Receiver([base])
        assert receiver.decode(opened, Codecs()) == documents.canonical(told["document"])
        assert second_decoder.open_document(second, [base]) == receiver.document
        return
    expected = msgspec.convert(told, list[AnyRecord])
    decoded = records.decode(opened, Codecs())
    assert not isinstance(decoded, Need)
    assert made.packed(decoded) == made.packed(expected)
    assert second_decoder.open_records(second) == told


def test_the_blocks_of_the_page_are_what_it_says() -> None:
    assert len(BLOCKS) == 4
    for numbers, block in BLOCKS:
        values = [int(number) for number in numbers.split()]
        encoded = bytes.fromhex(block.replace("`", ""))
        assert arrays.encode(np.array(values, np.int64)) == encoded
        assert arrays.decode(len(values), Reader(encoded, "block")).tolist() == values


def test_the_page_names_every_coding_table_and_field() -> None:
    for coding in Coding:
        assert f"| {coding.value} {coding.name} |" in PAGE
    for spec in schema.TABLES:
        assert re.search(rf"(\*\*|\(){spec.number}\b", PAGE), spec.number
        for field in spec.fields:
            assert f"{field.number} {field.name}" in PAGE, (spec.number, field.name)


DICTIONARIES = re.findall(
    r"^\| (\d+) \| `([0-9a-f]{16})` \| (\d+) \| \[.*?\]\((.*?)\) \|", PAGE, re.MULTILINE
)


def test_the_page_names_the_dictionary_that_the_code_uses() -> None:
    (number, name, size, link) = DICTIONARIES[0]
    content = (DOCS / link).read_bytes()
    assert content == DICTIONARY_1
    assert (number, int(size)) == ("1", len(content))
    assert second_bytes.name_of(content).hex() == name
    assert Codecs([DICTIONARY_1]).ids == (name,)
    assert len(DICTIONARIES) == 1


@pytest.mark.parametrize("kind", ["result", "tally", "model_stats", "clock", "alarm", "event"])
def test_the_json_of_each_record_is_what_the_agent_makes(kind: str) -> None:
    shown = re.findall(r'```json\n(\{"kind": "' + kind + r'", "class".*)\n```', PAGE)
    (said,) = map(json.loads, shown)
    fields = {key: value for key, value in said.items() if key != "class"}
    assert json.loads(to_json(msgspec.convert(fields, AnyRecord))) == said
    names = {
        field.name for field in msgspec.structs.fields(type(msgspec.convert(fields, AnyRecord)))
    }
    section = PAGE[PAGE.index(f"### {kind}\n") :].split("\n### ")[0]
    common = {"node", "stream", "epoch", "seq", "boot", "at_us"}
    assert {
        name
        for name in names - common
        if not re.search(rf"^\| .*\b{name}\b", section, re.MULTILINE)
    } == set()


def test_probe_ack_need_and_presence_are_as_the_receiver_s_page_shows_them() -> None:
    probe, ack, presence = RECEIVER_JSON[:3]
    raw = probe.encode()
    envelope = envelopes.Envelope(
        kind=envelopes.Kind.PROBE, codec=envelopes.Codec.RAW, node="cart-07",
        raw_len=len(raw), body=raw,
    )  # fmt: skip
    asked = probes.decode(envelope, Codecs())
    assert isinstance(asked, probes.Probe)
    topics = edgecore.Topics.of("default", "cart-07")
    said = edgecore.read(topics, topics.down("ack"), ack.encode())
    assert isinstance(said, edgecore.Ack)
    assert said.echo == asked.nonce
    assert said.can.dicts == Codecs([DICTIONARY_1]).ids
    assert json.loads(edgecore.presence("cart-07", online=True)) == json.loads(presence)
    (need,) = re.findall(r'```json\n(\{"schema": 1, "node".*"why".*)\n```', PAGE)
    assert isinstance(edgecore.read(topics, topics.down("need"), need.encode()), edgecore.NeedSaid)
    for topic in (topics.up, topics.down("ack"), topics.presence, topics.of_device("twin/update")):
        generic = topic.replace("default", "<ns>").replace(
            "device/<ns>/cart-07", "device/<ns>/<device>"
        )
        assert f"`{generic.replace('cart-07', '<node>')}`" in RECEIVER
    for name, (kind, what) in twin.PROPERTIES.items():
        assert f"| {name} | {kind} | {what} |" in RECEIVER


def test_live_traffic_is_read_with_the_file_that_the_page_names() -> None:
    batch = made.clip(2)
    whole = records.encode(batch, made.codecs())
    assert whole.codec is envelopes.Codec.ZSTD_DICT
    opened = second_bytes.open_envelope(second_bytes.Bytes(envelopes.encode(whole)))
    rows = second_decoder.open_records(opened, [(DOCS / DICTIONARIES[0][3]).read_bytes()])
    assert made.packed(msgspec.convert(rows, list[AnyRecord])) == made.packed(batch)


def test_the_letters_of_the_page_are_the_armour() -> None:
    assert armour.ALPHABET.decode() in PAGE.replace(" ", "")
    assert armour.arm(bytes.fromhex("00010203ff")) == b"009C6{{"


def examples() -> list[tuple[bytes, object]]:
    """What the page shows."""
    event = made.numbered(
        [Event(node="n", stream="s", boot="0badcafe", at_us=1000, name="started")]
    )
    tallies = [
        Tally(node="n", stream="s", boot="0badcafe", at_us=1_000_000 * n, state="ok",
              captured=30 * n, inferred=30 * n - 1, dropped={"late": 1}) for n in range(1, 4)
    ]  # fmt: skip
    found: list[tuple[bytes, object]] = []
    for batch in (event, made.numbered(tallies)):
        whole = records.encode(batch, Codecs())
        raw = records.raw_of(batch)
        whole = msgspec.structs.replace(whole, codec=envelopes.Codec.RAW, ref=b"", body=raw)
        found.append((envelopes.encode(whole), msgspec.to_builtins(batch)))
    base = {"fps": [30, 30, 30], "model": "us-chamber 1.0.0", "state": "ok, all streams live"}
    document = {**base, "fps": [30, 29, 30]}
    sender = documents.Sender("cart-07", "status", 5 << 32)
    sender.encode(documents.canonical(base), Codecs())
    sender.acknowledge([envelopes.short_id(documents.canonical(base)).hex()])
    delta = sender.encode(documents.canonical(document), Codecs())
    found.append((envelopes.encode(delta), {"base": base, "document": document}))
    return found


def test_the_page_shows_the_examples_as_they_are_made() -> None:
    for (given, told), (shown, expected) in zip(examples(), EXAMPLES, strict=True):
        assert json.loads(expected) == told
        if given[4] == envelopes.Codec.RAW:  # another zstd may make other frames
            assert plain(shown) == given
