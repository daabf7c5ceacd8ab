"""Sealed and signed envelopes: who may read, who may say, and that nothing of it can be moved."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.frames import RecordClass
from edge_agent.core.wire import Need, WireError, armour, documents, records, sealing
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Envelope, Ext
from edge_agent.core.wire.sealing import Protection, Signed
from edge_agent.links.road_keys import RoadOpener, RoadSealer, RoadSigner, RoadVerifier
from tests.wire import made
from tests.wire.test_envelope import any_envelope

SEALING, OTHER = X25519PrivateKey.generate(), X25519PrivateKey.generate()
NODE, STRANGER = (RoadSigner(Ed25519PrivateKey.generate()) for _ in range(2))
SEALER = RoadSealer(SEALING.public_key().public_bytes_raw())
OPENER, WITHOUT = RoadOpener([OTHER, SEALING]), RoadOpener([OTHER])
VERIFIER = RoadVerifier([NODE.public])
BOTH = Protection(SEALER, NODE)


def batch(count: int = 2) -> Envelope:
    return records.encode(made.clip(count), Codecs())


def decoded(encoded: bytes) -> Envelope:
    found, end = envelopes.decode(encoded)
    assert isinstance(found, Envelope)
    assert end == len(encoded)
    return found


@settings(max_examples=60, deadline=None)
@given(any_envelope())
def test_what_is_sealed_and_signed_comes_back_as_it_was(envelope: Envelope) -> None:
    came = decoded(BOTH.encode(envelope))
    assert sealing.verdict(came, VERIFIER) is Signed.GOOD
    opened = sealing.opened(came, OPENER)
    assert isinstance(opened, Envelope)
    ext = tuple(one for one in opened.ext if one[0] != Ext.SIGNATURE)
    assert msgspec.structs.replace(opened, ext=ext) == envelope


def test_a_carrier_reads_the_head_without_a_key_and_nobody_reads_the_body() -> None:
    plain = batch()
    came = decoded(BOTH.encode(plain))
    for name in ("kind", "codec", "node", "stream", "klass", "epoch", "first", "count", "raw_len"):
        assert getattr(came, name) == getattr(plain, name)
    assert plain.body not in armour.disarm(armour.pack("a", [BOTH.encode(plain)])[6:])
    found = records.decode(came, Codecs())
    assert isinstance(found, Need)
    assert found.why == "key"


def test_a_sealed_document_is_never_taken_for_a_plain_one() -> None:
    sender, codecs = documents.Sender("cart-07", "status", 5), Codecs()
    first = sender.encode(b'{"a":1}', codecs)
    receiver = documents.Receiver()
    receiver.decode(first, codecs)
    sender.acknowledge(receiver.ids)
    second = sender.encode(b'{"a":' + b"1" * 300 + b"}", codecs)
    for one in (first, second):
        found = receiver.decode(sealing.sealed(one, SEALER), codecs)
        assert isinstance(found, Need)
        assert found.why == "key"


def test_a_key_that_is_not_here_is_a_need_that_names_those_that_are() -> None:
    came = decoded(BOTH.encode(batch()))
    for opener in (WITHOUT, None):
        found = sealing.opened(came, opener)
        assert isinstance(found, Need)
        assert (found.why, found.kind, found.a, found.b) == ("key", "records", 1, 2)
        assert found.have == tuple(key.hex() for key in (opener.ids if opener else ()))


def test_a_body_under_another_head_does_not_open() -> None:
    """Another stream, epoch, seq, class or size: it stays where it was put."""
    came = decoded(Protection(SEALER).encode(batch()))
    moved: list[dict[str, object]] = [
        {"node": "cart-08"}, {"stream": "other"}, {"epoch": came.epoch + 1}, {"first": 2},
        {"count": 3}, {"raw_len": came.raw_len + 1}, {"klass": RecordClass.EVENT},
    ]  # fmt: skip
    for change in moved:
        other = decoded(envelopes.encode(msgspec.structs.replace(came, **change)))
        with pytest.raises(WireError, match="sealed for this head"):
            sealing.opened(other, OPENER)


def test_every_bit_of_a_signed_envelope_counts() -> None:
    encoded = BOTH.encode(batch(1))[: -envelopes.ID_BYTES]
    for bit in range(0, 8 * len(encoded), 3):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        forged = bytes(damaged) + envelopes.short_id(bytes(damaged))  # right by its check
        try:
            found, _ = envelopes.decode(forged)
        except WireError:
            continue
        if isinstance(found, Envelope):
            assert sealing.verdict(found, VERIFIER) is not Signed.GOOD, f"bit {bit}"


def test_unsigned_strange_and_wrong_signatures_are_told_apart() -> None:
    signed = decoded(Protection(None, NODE).encode(batch()))
    moved = msgspec.structs.replace(signed, stream="other")
    strange = decoded(Protection(None, STRANGER).encode(batch()))
    assert sealing.verdict(batch(), VERIFIER) is Signed.ABSENT
    assert sealing.verdict(signed, VERIFIER) is Signed.GOOD
    assert sealing.verdict(moved, VERIFIER) is Signed.WRONG
    assert sealing.verdict(strange, VERIFIER) is Signed.UNKNOWN
    both = RoadVerifier([STRANGER.public, NODE.public])
    assert sealing.verdict(strange, both) is Signed.GOOD


def test_what_a_seal_and_a_signature_cost_is_what_is_told() -> None:
    plain = batch()
    size = len(envelopes.encode(plain))
    cost = sealing.SEAL_COST_BYTES + sealing.SIGNATURE_COST_BYTES
    assert size + cost <= len(BOTH.encode(plain)) <= size + cost + 2  # longer varints


def test_each_seal_has_its_own_key() -> None:
    assert SEALER.seal(b"same", b"head") != SEALER.seal(b"same", b"head")


def test_without_keys_the_bytes_are_those_of_before() -> None:
    assert sealing.PLAIN.encode(batch()) == envelopes.encode(batch())


@pytest.mark.parametrize(
    "ext",
    [
        ((2, b"\1" + bytes(39)),),  # cut short
        ((2, b"\1" + bytes(40)), (2, b"\1" + bytes(40))),
        ((4, b"\1" + bytes(72)), (7, b"")),  # what follows it would be unsigned
        ((4, b""),),
    ],
)
def test_extensions_that_are_no_seal_and_no_signature_are_errors(
    ext: tuple[tuple[int, bytes], ...],
) -> None:
    odd = tuple((kind + 1 if kind % 2 == 0 else kind, value) for kind, value in ext)
    encoded = envelopes.encode(msgspec.structs.replace(batch(), ext=odd))
    forged = encoded[: -envelopes.ID_BYTES]
    for (kind, value), (there, _) in zip(ext, odd, strict=True):
        forged = forged.replace(
            bytes((there, len(value))) + value, bytes((kind, len(value))) + value
        )
    with pytest.raises(WireError):
        envelopes.decode(forged + envelopes.short_id(forged))


@pytest.mark.parametrize("ext", [(6, b""), (2, b"\2more"), (4, b"\2" + bytes(90))])
def test_another_suite_and_another_even_type_are_a_need(ext: tuple[int, bytes]) -> None:
    encoded = envelopes.encode(msgspec.structs.replace(batch(), ext=((9, ext[1]),)))
    body = encoded[: -envelopes.ID_BYTES]
    forged = body.replace(bytes((9, len(ext[1]))) + ext[1], bytes((ext[0], len(ext[1]))) + ext[1])
    found, _ = envelopes.decode(forged + envelopes.short_id(forged))
    assert isinstance(found, Need)
    assert found.why == "version"


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=60))
def test_a_forged_seal_is_an_error_and_nothing_else(ephemeral: bytes, body: bytes) -> None:
    with pytest.raises(WireError):
        OPENER.open(SEALER.id, ephemeral, body, b"head")
    with pytest.raises(WireError):
        OPENER.open(SEALER.id, bytes(32), body, b"head")  # a point of low order
