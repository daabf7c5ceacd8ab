"""Envelopes and bundles: what goes in comes out, and nothing else does."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.frames import RecordClass
from edge_agent.core.wire import Need, WireError, armour, records
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.cursor import varint
from edge_agent.core.wire.envelope import Codec, Envelope, Kind
from tests.wire import made, second_bytes

NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
BODIES = st.binary(max_size=200)


def probe(body: bytes = b"{}", **changes: Any) -> Envelope:
    whole = Envelope(kind=Kind.PROBE, codec=Codec.RAW, node="cart-07", raw_len=len(body), body=body)
    return msgspec.structs.replace(whole, **changes)


@st.composite
def any_envelope(draw: st.DrawFn) -> Envelope:
    codec = draw(st.sampled_from([one for one in Codec if one is not Codec.R]))
    kind = Kind.DOCUMENT if codec is Codec.P else Kind.RECORDS
    body = draw(BODIES)
    return Envelope(
        kind=kind,
        codec=codec,
        node=draw(NAMES),
        stream=draw(NAMES | st.just("")),
        klass=draw(st.sampled_from(list(RecordClass))) if kind is Kind.RECORDS else None,
        epoch=draw(st.integers(0, (1 << 63) - 1)),
        first=draw(st.integers(1, 1 << 39)),
        count=draw(st.integers(1, 4096)),
        raw_len=len(body) if codec is Codec.RAW else draw(st.integers(0, 1 << 20)),
        ref=draw(st.binary(min_size=8, max_size=8)) if codec >= Codec.ZSTD_DICT else b"",
        result=draw(st.binary(min_size=8, max_size=8)) if codec >= Codec.P else b"",
        ext=tuple(draw(st.lists(st.tuples(st.just(7), st.binary(max_size=9)), max_size=3))),
        body=body,
    )


@given(any_envelope(), st.binary(max_size=5))
def test_an_envelope_comes_back_from_both_decoders(envelope: Envelope, behind: bytes) -> None:
    encoded = envelopes.encode(envelope)
    assert envelopes.decode(encoded + behind) == (envelope, len(encoded))
    second = second_bytes.open_envelope(second_bytes.Bytes(encoded + behind))
    assert (second.node, second.stream, second.epoch) == (
        envelope.node, envelope.stream, envelope.epoch,
    )  # fmt: skip
    assert (second.ref, second.result, second.body) == (
        envelope.ref, envelope.result, envelope.body,
    )  # fmt: skip


def test_every_flipped_bit_is_an_error_or_a_need() -> None:
    encoded = envelopes.encode(records.encode(made.clip(2), made.codecs()))
    for bit in range(8 * len(encoded)):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            opened, _ = envelopes.decode(bytes(damaged))
        except WireError:
            continue
        assert isinstance(opened, Need), f"bit {bit}"
        assert bit // 8 == 2, "only another version is no error"


def test_every_truncation_is_an_error() -> None:
    encoded = envelopes.encode(records.encode(made.clip(2), made.codecs()))
    for size in range(len(encoded)):
        with pytest.raises(WireError):
            envelopes.decode(encoded[:size])


@pytest.mark.parametrize(
    "changes",
    [
        {"node": ""},
        {"node": "Cart"},
        {"node": "a" * 64},
        {"stream": "-a"},
        {"klass": RecordClass.ALARM},
        {"kind": Kind.RECORDS, "count": 1, "first": 1},
        {"kind": Kind.RECORDS, "klass": RecordClass.ALARM, "count": 0, "first": 1},
        {"kind": Kind.RECORDS, "klass": RecordClass.ALARM, "count": 1, "first": 0},
        {"count": 4097},
        {"epoch": 1 << 63},
        {"raw_len": (1 << 20) + 1},
        {"raw_len": 3},
        {"codec": Codec.P, "ref": bytes(8), "result": bytes(8)},
        {"codec": Codec.ZSTD_DICT},
        {"ref": bytes(8)},
    ],
)
def test_an_envelope_against_the_rules_is_never_written(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="bad"):
        envelopes.encode(probe(**changes))


def resealed(encoded: bytes, at: int, value: bytes) -> bytes:
    """With other bytes and a check that holds: what a forger would send."""
    changed = encoded[:at] + value + encoded[at + len(value) : -8]
    return changed + envelopes.short_id(changed)


@pytest.mark.parametrize(("at", "what"), [(2, "version"), (3, "kind"), (4, "codec"), (5, "flags")])
def test_what_a_newer_agent_sends_is_needed_in_an_older_version(at: int, what: str) -> None:
    opened, _ = envelopes.decode(resealed(envelopes.encode(probe()), at, b"\x70"))
    assert isinstance(opened, Need), what
    assert opened.why == "version"


def test_an_extension_of_even_type_must_be_understood() -> None:
    assert envelopes.decode(envelopes.encode(probe(ext=((7, b"x"),))))[0] == probe(ext=((7, b"x"),))
    opened, _ = envelopes.decode(envelopes.encode(probe(ext=((7, b"x"), (2, b"seal")))))
    assert isinstance(opened, Need)
    assert (opened.why, opened.node, opened.kind) == ("version", "cart-07", "probe")


def test_a_length_beyond_the_bytes_is_refused_before_anything_is_allocated() -> None:
    head = b"EA\x01\x03\x00\x00\x01a\x00\x00\x00\x00\x00\x02\x00"
    for claimed in (1 << 20, (1 << 20) + 1, (1 << 63) - 1):
        with pytest.raises(WireError):
            envelopes.decode(head + varint(claimed) + b"{}")


@given(st.binary(max_size=300))
def test_armour_is_base85_in_letters_that_json_leaves_alone(given_bytes: bytes) -> None:
    armed = armour.arm(given_bytes)
    standard = base64.b85encode(given_bytes)
    assert armed == standard.translate(bytes.maketrans(b"&<>", b",./"))
    assert not set(armed) & set(b"&<>\"'\\ \n")
    assert msgspec.json.encode(armed.decode()) == b'"' + armed + b'"'
    assert armour.disarm(armed) == given_bytes == second_bytes.disarm(armed.decode())


@settings(max_examples=300)
@given(st.binary(max_size=20) | st.text(armour.ALPHABET.decode(), max_size=20).map(str.encode))
def test_text_that_is_no_armour_is_refused_by_both(text: bytes) -> None:
    try:
        back = armour.disarm(text)
    except WireError:
        with pytest.raises((second_bytes.Refused, UnicodeDecodeError)):
            second_bytes.disarm(text.decode("ascii"))
    else:
        assert armour.arm(back) == text
        assert second_bytes.disarm(text.decode()) == back


@settings(max_examples=50, deadline=None)
@given(st.lists(any_envelope(), min_size=1, max_size=4), NAMES)
def test_a_bundle_comes_back(contents: list[Envelope], carrier: str) -> None:
    payload = armour.pack(carrier, [envelopes.encode(one) for one in contents])
    assert armour.unpack(payload) == armour.Bundle(carrier, tuple(contents))
    who, opened = second_bytes.open_bundle(payload)
    assert (who, len(opened)) == (carrier, len(contents))


def test_a_bundle_keeps_its_bounds() -> None:
    one = envelopes.encode(probe())
    assert len(armour.unpack(armour.pack("a", [one] * 64)).contents) == 64
    with pytest.raises(ValueError, match="1 to 64"):
        armour.pack("a", [one] * 65)
    room = armour.room_bytes("cart-07")
    assert len(armour.pack("cart-07", [bytes(room)])) <= armour.MAX_BUNDLE_CHARS
    with pytest.raises(ValueError, match="256000"):
        armour.pack("cart-07", [bytes(room + 4)])
    for payload in (
        b"ea1 a " + armour.arm(one * 65),
        b"ea1 a " + armour.arm(one + b"x"),
        b"ea1 A " + armour.arm(one),
        b"ea2 a " + armour.arm(one),
        b"ea1 a ",
        b"",
        b"ea1 a " + b"0" * 256_000,
    ):
        with pytest.raises(WireError):
            armour.unpack(payload)


def test_envelopes_behind_one_of_another_version_are_left_alone() -> None:
    one = envelopes.encode(probe())
    contents = armour.unpack(armour.pack("a", [one, resealed(one, 2, b"\x02"), one])).contents
    assert contents[0] == probe()
    assert len(contents) == 2
    assert isinstance(contents[1], Need)
