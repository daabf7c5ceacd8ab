"""Signed words of the hot tier, and files of public keys."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import edgecore, public_keys, signed
from edge_agent.core.edgecore import Ack, Topics
from edge_agent.core.errors import Rejected, Untrusted
from edge_agent.core.public_keys import PublicKeys
from edge_agent.core.receivers import LATE_QUESTIONS, MAX_NONCES, Receivers
from edge_agent.links.road_keys import RoadSigner, RoadVerifier

TIER, OTHER = (RoadSigner(Ed25519PrivateKey.generate()) for _ in range(2))
PINNED = RoadVerifier([TIER.public])
TOPICS = Topics.of("default", "cart-3")
ACK = Ack(schema=1, node="cart-3", rx="rx", n=7, echo="nonce")
PAYLOAD = edgecore.encode(ACK)


def test_a_signed_ack_is_an_ack_for_who_checks_nothing() -> None:
    said = signed.sign("ack", PAYLOAD, TIER, heard="nonce")
    assert edgecore.read(TOPICS, TOPICS.down("ack"), said) == ACK
    assert signed.check("ack", said, PINNED) == "nonce"
    assert len(said) - len(PAYLOAD) <= signed.MAX_COST_BYTES
    longest = signed.sign("ack", PAYLOAD, TIER, heard="x" * 64)
    assert len(longest) - len(PAYLOAD) == signed.MAX_COST_BYTES
    assert signed.check("ack", longest, PINNED) == "x" * 64


def test_unsigned_strange_changed_and_other_words_are_refused() -> None:
    said = signed.sign("ack", PAYLOAD, TIER, heard="")
    wrong = {
        "none": PAYLOAD,
        "another key": signed.sign("ack", PAYLOAD, OTHER, heard=""),
        "changed": said.replace(b'"n":7', b'"n":8'),
        "of another nonce": said.replace(b'"heard":""', b'"heard":"x"'),
        "with a field behind": said[:-1] + b',"n":9}',
        "with a line end": said + b"\n",
        "a need": signed.sign("need", PAYLOAD, TIER, heard=""),
        "nothing": b"",
    }
    for name, payload in wrong.items():
        with pytest.raises(Untrusted):
            signed.check("ack", payload, PINNED)
            pytest.fail(name)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 4000), st.integers(0, 255))
def test_every_byte_of_a_signed_word_counts(at: int, byte: int) -> None:
    said = bytearray(signed.sign("ack", PAYLOAD, TIER, heard="nonce"))
    at %= len(said)
    if said[at] == byte:
        return
    said[at] = byte
    with pytest.raises(Untrusted):
        signed.check("ack", bytes(said), PINNED)


def test_the_page_has_the_numbers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
    words = " ".join(page.partition("## Sealed and signed")[2].split())
    assert f"its own last {MAX_NONCES} nonces" in words
    assert f"was asked {LATE_QUESTIONS} questions before the newest" in words


def test_keys_of_before_and_after_a_rotation_both_count() -> None:
    both = RoadVerifier([OTHER.public, TIER.public])
    for signer in (TIER, OTHER):
        signed.check("ack", signed.sign("ack", PAYLOAD, signer, heard=""), both)


def test_a_file_of_public_keys_comes_back() -> None:
    keys = PublicKeys((bytes(range(32)), bytes(32)), (b"\7" * 32,))
    content = public_keys.write(keys, "hot tier")
    assert public_keys.read(content + b"\n# more\n\n", "x.pub") == keys
    assert public_keys.read(content * 2, "x.pub") == keys  # named twice


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "got none"),
        (b"\xff\xfe", "expected text"),
        (b"sign abc", "32 bytes of base64"),
        (b"sign " + b"A" * 43, "32 bytes of base64"),
        (b"seal", "got 1 words"),
        (b"trust AAAA", "`sign` or `seal`"),
        (b"-----BEGIN PRIVATE KEY-----\n", "got a private one"),
        (b"#" * 20_000, "16384 bytes"),
    ],
)
def test_what_is_no_file_of_public_keys_is_refused_with_the_way_out(
    content: bytes, words: str
) -> None:
    with pytest.raises(Rejected, match=words) as refused:
        public_keys.read(content, "x.pub")
    assert refused.value.hint
    assert "x.pub" in refused.value.what


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(Rejected):
        public_keys.read(content, "x.pub")


def test_a_signed_message_needs_fields() -> None:
    for payload in (b"{}", b"[1]", b""):
        with pytest.raises(ValueError, match="JSON object"):
            signed.sign("ack", payload, TIER, heard="")
    assert msgspec.json.decode(signed.sign("ack", b'{"a":1}', TIER, heard=""))["a"] == 1


def test_what_was_said_long_before_the_newest_answer_is_not_fresh() -> None:
    receivers = Receivers()
    for n in range(MAX_NONCES + 1):
        receivers.ask(f"q{n}", n, {}, ())
    assert receivers.is_fresh("q1")  # none was answered yet
    assert not receivers.is_fresh("q0")
    assert not receivers.is_fresh("")
    receivers.judge("rx", "q90", 0)
    fresh = [n for n in range(MAX_NONCES + 1) if receivers.is_fresh(f"q{n}")]
    assert fresh == list(range(90 - LATE_QUESTIONS + 1, MAX_NONCES + 1))
    receivers.judge("rx", "q80", 0)  # overtaken: it takes nothing back
    assert not receivers.is_fresh(f"q{90 - LATE_QUESTIONS}")
