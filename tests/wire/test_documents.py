"""The status document: small deltas against what the other side surely has."""

from __future__ import annotations

import contextlib
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import Overloaded
from edge_agent.core.wire import Need, WireError, documents
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.envelope import Codec
from tests.wire import made, second_bytes, second_decoder

NODE, NAME, EPOCH = "cart-07", "status", 5 << 32


def status(chance: random.Random, changes: int = 0) -> bytes:
    """About 18 kB of twin, with some fields changed."""
    values = {f"stream-{i:03d}": {"fps": 30.0, "captured": 100_000 + i} for i in range(400)}
    for _ in range(changes):
        values[f"stream-{chance.randrange(400):03d}"]["captured"] = chance.randrange(10**6)
    return documents.canonical({"schema": 1, "streams": values})


def pair() -> tuple[documents.Sender, documents.Receiver]:
    return documents.Sender(NODE, NAME, EPOCH), documents.Receiver()


def test_equal_documents_are_equal_bytes() -> None:
    assert documents.canonical({"b": 1, "a": [2]}) == b'{"a":[2],"b":1}'


def test_a_change_costs_little_once_the_document_is_acknowledged() -> None:
    chance, codecs = random.Random(1), made.codecs()
    sender, receiver = pair()
    key = sender.encode(status(chance), codecs)
    assert key.codec is not Codec.P
    receiver.decode(key, codecs)
    unacknowledged = sender.encode(status(chance, 5), codecs)
    assert unacknowledged.codec is not Codec.P, "sent is not acknowledged"
    sender.acknowledge(receiver.ids)
    changed = status(chance, 5)
    delta = sender.encode(changed, codecs)
    assert delta.codec is Codec.P
    assert len(delta.body) <= 90
    assert receiver.decode(delta, codecs) == receiver.document == changed
    second = second_bytes.open_envelope(second_bytes.Bytes(envelopes.encode(delta)))
    assert second_decoder.open_document(second, [b"{}", status(random.Random(1))]) == changed
    with pytest.raises(second_bytes.Wanting, match="base"):
        second_decoder.open_document(second, [])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30), st.integers(0, 99))
def test_whatever_is_lost_the_document_comes_through(
    fates: list[tuple[bool, bool]], seed: int
) -> None:
    """Of each round (message arrives, acknowledgement arrives)."""
    chance, codecs = random.Random(seed), made.codecs()
    sender, receiver = pair()
    for arrives, acknowledged in fates:
        document = status(chance, 3)
        envelope = sender.encode(document, codecs)
        if arrives:
            assert receiver.decode(envelope, codecs) == document == receiver.document
        if acknowledged:
            sender.acknowledge(receiver.ids)


def test_a_base_that_is_gone_is_needed_and_answered_by_a_key() -> None:
    chance, codecs = random.Random(3), made.codecs()
    sender, receiver = pair()
    receiver.decode(sender.encode(status(chance), codecs), codecs)
    sender.acknowledge(receiver.ids)
    replaced = documents.Receiver([b"{}"])
    wanted = replaced.decode(sender.encode(status(chance, 1), codecs), codecs)
    assert isinstance(wanted, Need)
    assert (wanted.why, wanted.kind, wanted.name) == ("base", "document", NAME)
    assert wanted.have == (envelopes.short_id(b"{}").hex(),)
    sender.forget(wanted.have)
    document = status(chance, 2)
    assert replaced.decode(sender.encode(document, codecs), codecs) == document


def test_a_late_document_is_read_but_not_the_latest() -> None:
    codecs = made.codecs()
    sender, receiver = pair()
    old, new = sender.encode(b'{"n":1}', codecs), sender.encode(b'{"n":2}', codecs)
    receiver.decode(new, codecs)
    receiver.decode(old, codecs)
    receiver.decode(old, codecs)
    assert receiver.document == b'{"n":2}'


def test_eight_are_kept_and_survive_a_restart_of_the_receiver() -> None:
    codecs = made.codecs()
    sender, receiver = pair()
    all_of_them = [b'{"n":%d}' % number for number in range(12)]
    for document in all_of_them:
        receiver.decode(sender.encode(document, codecs), codecs)
    assert len(receiver.ids) == 8
    assert documents.Receiver(all_of_them).ids == receiver.ids
    sender.acknowledge([*receiver.ids, "no hex", "00" * 8])


def test_a_wrong_base_of_the_same_name_never_gives_another_document() -> None:
    chance, codecs = random.Random(4), made.codecs()
    sender, receiver = pair()
    first, other = status(chance), status(chance, 40)
    receiver.decode(sender.encode(first, codecs), codecs)
    sender.acknowledge(receiver.ids)
    whole = status(chance, 5)
    delta = sender.encode(whole, codecs)
    wrong = documents.Receiver([other])
    forged = msgspec.structs.replace(delta, ref=envelopes.short_id(other))
    with pytest.raises(WireError):
        wrong.decode(forged, codecs)
    for bit in range(8 * len(delta.body)):
        damaged = bytearray(delta.body)
        damaged[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(WireError):
            opened = receiver.decode(msgspec.structs.replace(delta, body=bytes(damaged)), codecs)
            assert opened == whole, f"bit {bit}"  # zstd leaves one bit of its header unused
    with pytest.raises(WireError, match="expected 0000000000000000"):
        receiver.decode(msgspec.structs.replace(delta, result=bytes(8)), codecs)


def test_a_document_beyond_the_bound_is_refused_at_home() -> None:
    with pytest.raises(Overloaded):
        pair()[0].encode(bytes((1 << 18) + 1), made.codecs())
