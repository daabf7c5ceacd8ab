"""`wire decode`: what stands in files that a person has, or that somebody else made up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.cli import exits
from edge_agent.cli.main import main
from edge_agent.core import probe
from edge_agent.core.frames import AnyRecord, Event, RecordClass, to_json
from edge_agent.core.wire import armour, documents, records
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Codec, Envelope, Kind
from tests.wire import made

Lines = list[dict[str, Any]]
Decode = Callable[..., tuple[int, Lines]]
MAX_MB = 16


@pytest.fixture
def decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Decode:
    def run(content: bytes, *options: str) -> tuple[int, Lines]:
        file = tmp_path / "payloads.txt"
        file.write_bytes(content)
        code = main(["wire", "decode", str(file), *options])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def line(*contents: Envelope, carrier: str = "cart-07") -> bytes:
    return armour.pack(carrier, [envelopes.encode(one) for one in contents]) + b"\n"


def asked() -> Envelope:
    offer = probe.Offer(
        node="cart-07", stream="probe-a", klass=RecordClass.RESULT, epoch=5 << 32, floor=1, next=4
    )
    return probe.encode("cart-07", probe.Probe(nonce="n1", logs=(offer,)), Codecs())


def papers(count: int) -> list[Envelope]:
    """A document and its changes."""
    sender, receiver = documents.Sender("cart-07", "status", 5 << 32), documents.Receiver()
    sent = []
    for number in range(count):
        content = documents.canonical({"number": number, "what": "a document of some length " * 4})
        sent.append(sender.encode(content, Codecs()))
        receiver.decode(sent[-1], Codecs())
        sender.acknowledge(receiver.ids)
    return sent


def of(lines: Lines, what: str) -> Lines:
    return [one for one in lines if one["what"] == what]


def test_records_and_probes_are_printed_as_the_receiver_would_hold_them(decode: Decode) -> None:
    batch = made.clip(3)
    code, lines = decode(line(records.encode(batch, made.codecs()), asked()))
    assert code == exits.OK
    assert all(one["schema"] == 1 for one in lines)
    assert [one["what"] for one in lines] == [
        "envelope", "record", "record", "record", "envelope", "probe", "end",
    ]  # fmt: skip
    shown = [one["record"] for one in of(lines, "record")]
    assert shown == [json.loads(to_json(record)) for record in batch]
    head = lines[0]
    assert (head["carrier"], head["kind"], head["codec"]) == ("cart-07", "records", "zstd_dict")
    assert (head["line"], head["envelope"], head["first"], head["count"]) == (1, 1, 1, 3)
    assert of(lines, "probe")[0]["probe"]["logs"][0]["class"] == "result"
    assert {key: lines[-1][key] for key in ("lines", "records", "probes", "errors")} == {
        "lines": 1, "records": 3, "probes": 1, "errors": 0,
    }  # fmt: skip


def test_a_changed_document_is_shown_when_its_base_stands_before_it(decode: Decode) -> None:
    key, delta = papers(2)
    assert delta.codec is Codec.P
    code, lines = decode(line(key) + line(delta))
    assert code == exits.OK
    shown = of(lines, "document")
    assert [one["document"]["number"] for one in shown] == [0, 1]
    assert shown[1]["id"] == lines[-3]["result"]
    code, lines = decode(line(delta))
    assert code == exits.WARNINGS
    assert of(lines, "need")[0]["need"]["why"] == "base"


def test_what_needs_another_dictionary_is_a_need_with_its_line(decode: Decode) -> None:
    whole = records.encode(made.clip(1), made.codecs())
    other = msgspec.structs.replace(whole, ref=bytes(8))
    code, lines = decode(line(asked()) + line(other))
    assert code == exits.WARNINGS
    (need,) = of(lines, "need")
    assert (need["line"], need["need"]["why"], need["need"]["a"]) == (2, "dict", 1)


def test_a_bad_line_costs_itself_and_says_where_it_was(decode: Decode) -> None:
    good = line(records.encode(made.clip(1), made.codecs()))
    bad = good[:-9] + b"0000\n"
    code, lines = decode(good + bad + b"\n" + b"\x00\xff{}\n" + good.replace(b"\n", b"\r\n"))
    assert code == exits.CHECK_FAILED
    assert [one["line"] for one in of(lines, "error")] == [2, 4]
    assert [one["line"] for one in of(lines, "record")] == [1, 5]


def test_a_bad_body_costs_its_envelope_alone(decode: Decode) -> None:
    whole = records.encode(made.clip(1), made.codecs())
    raw = msgspec.structs.replace(whole, codec=Codec.RAW, ref=b"", body=b"\xff", raw_len=1)
    code, lines = decode(line(raw, whole))
    assert code == exits.CHECK_FAILED
    assert [(one["envelope"], one["what"]) for one in lines[:-1]] == [
        (1, "envelope"), (1, "error"), (2, "envelope"), (2, "record"),
    ]  # fmt: skip


def test_bundles_that_grow_beyond_all_bounds_are_an_error(decode: Decode) -> None:
    batch: list[AnyRecord] = made.numbered(
        [Event(node="n", stream="s", name="x" * 400)] * 4096
    )  # 3.7 MB each, once decoded
    whole = records.encode(batch, made.codecs())
    code, lines = decode(line(*[whole] * 5), "--heads")
    assert code == exits.CHECK_FAILED
    assert [one["envelope"] for one in of(lines, "error")] == [5]


def test_heads_show_no_content_and_check_all_of_it(decode: Decode) -> None:
    batch = made.numbered([Event(node="n", stream="s", name="x", what="Erika Mustermann")])
    key, delta = papers(2)
    content = line(records.encode(batch, made.codecs()), key, delta, asked()) + b"rubbish\n"
    code, lines = decode(content, "--heads")
    assert code == exits.CHECK_FAILED
    assert {one["what"] for one in lines} == {"envelope", "error", "end"}
    assert "Mustermann" not in json.dumps(lines)
    assert (lines[-1]["records"], lines[-1]["documents"]) == (1, 2)


def test_a_document_that_is_no_json_is_an_error_and_one_line(decode: Decode) -> None:
    for content in (b"{\n", b"NaN", b"[" * 100_000, b'"\xff"'):
        paper = Envelope(
            kind=Kind.DOCUMENT, codec=Codec.RAW, node="cart-07", stream="status", epoch=1,
            first=1, count=1, raw_len=len(content), body=content,
        )  # fmt: skip
        code, lines = decode(line(paper))
        assert (code, len(lines)) == (exits.CHECK_FAILED, 3)


def test_no_bundle_at_all_is_nothing_to_do(decode: Decode) -> None:
    assert decode(b"")[0] == exits.NOTHING_TO_DO
    code, lines = decode(b"\n\r\n\n")
    assert (code, lines[-1]["envelopes"]) == (exits.NOTHING_TO_DO, 0)


def test_a_huge_line_is_one_error_in_bounded_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = line(records.encode(made.clip(1), made.codecs()))
    file = tmp_path / "huge"
    with file.open("wb") as huge:
        huge.truncate(96 << 20)
        huge.seek(0, os.SEEK_END)
        huge.write(b"\n" + good + os.urandom(300_000).replace(b"\n", b""))
    main(["wire", "decode", str(file)])
    capsys.readouterr()
    tracemalloc.start()
    try:
        assert main(["wire", "decode", str(file)]) == exits.CHECK_FAILED
        assert tracemalloc.get_traced_memory()[1] < MAX_MB << 20
    finally:
        tracemalloc.stop()
    lines = [json.loads(one) for one in capsys.readouterr().out.splitlines()]
    assert [one["line"] for one in of(lines, "error")] == [1, 3]
    assert [one["line"] for one in of(lines, "record")] == [2]


def test_a_file_that_is_not_there_is_told_without_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for missing in (tmp_path / "Mustermann.eax", tmp_path):
        assert main(["wire", "decode", str(missing)]) == exits.ERROR
        said = capsys.readouterr()
        assert "Mustermann" not in said.err + said.out
        assert "read the input" in said.err


def command(*words: str, **more: Any) -> subprocess.Popen[bytes]:
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "wire", "decode", *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **more,
    )  # fmt: skip


def test_standard_input_without_config_or_daemon_in_any_locale(tmp_path: Path) -> None:
    batch = made.numbered([Event(node="n", stream="s", name="x", what="Größe ≥ 3\u2028")])
    with command("-", cwd=tmp_path) as process:
        out, err = process.communicate(line(records.encode(batch, made.codecs())), timeout=50)
    assert (process.returncode, err) == (exits.OK, b"")
    shown = [json.loads(one) for one in out.decode("ascii").split("\n") if one]
    assert shown[1]["record"]["what"] == "Größe ≥ 3\u2028"
    assert not list(tmp_path.iterdir())


def test_a_reader_that_has_seen_enough_ends_it_quietly(tmp_path: Path) -> None:
    file = tmp_path / "many.eax"
    file.write_bytes(line(records.encode(made.clip(40), made.codecs())) * 200)
    with command(str(file)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == exits.OK


def test_a_document_that_is_refused_is_no_base_of_the_next(decode: Decode) -> None:
    receiver, sender = documents.Receiver(), documents.Sender("cart-07", "status", 5 << 32)
    bad = sender.encode(b"[" + b'"a list is no document", ' * 20 + b"1]", Codecs())
    receiver.decode(bad, Codecs())
    sender.acknowledge(receiver.ids)
    delta = sender.encode(b'{"a":[' + b'"a list is no document", ' * 20 + b"1]}", Codecs())
    assert delta.codec is Codec.P
    key = papers(1)[0]
    _, lines = decode(line(key) + line(bad) + line(delta))
    assert [one["what"] for one in lines[1::2]] == ["document", "error", "need"]
