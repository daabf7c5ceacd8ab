"""Who may speak for a node: envelopes at a desk that asks for signatures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.core import public_keys
from edge_agent.core.public_keys import PublicKeys
from edge_agent.core.wire import armour, documents, sealing
from edge_agent.core.wire.envelope import Envelope
from edge_agent.core.wire.sealing import Protection
from edge_agent.links.road_keys import RoadOpener, RoadSealer, RoadSigner
from tests.hot_tier.wire import CODECS, ask, batch, bundle, offer
from tools.hot_tier.database import Database
from tools.hot_tier.desk import Desk
from tools.hot_tier.gate import Enrolled, Gate

A, NEXT, STRANGER = (RoadSigner(Ed25519PrivateKey.generate()) for _ in range(3))
TIER = X25519PrivateKey.generate()
SEALER = RoadSealer(TIER.public_key().public_bytes_raw())


def enrol(folder: Path, node: str, *signers: RoadSigner) -> None:
    folder.mkdir(exist_ok=True)
    keys = PublicKeys(tuple(one.public for one in signers))
    (folder / f"{node}.pub").write_bytes(public_keys.write(keys, node))


@contextmanager
def desk_of(folder: Path, *, is_strict: bool = False) -> Iterator[Desk]:
    gate = Gate(RoadOpener([TIER]), Enrolled(folder / "nodes"), is_strict=is_strict)
    with closing(Database(folder / "db", mint="rx")) as db:
        yield Desk(db, gate=gate)


def said(envelope: Envelope, signer: RoadSigner | None = A, *, seal: bool = True) -> bytes:
    encoded = Protection(SEALER if seal else None, signer).encode(envelope)
    return armour.pack("a", [encoded])


def document(number: int = 1) -> Envelope:
    sender = documents.Sender("a", "status", number)
    return sender.encode(b'{"a":1}', CODECS)


def test_an_enrolled_node_speaks_signed_or_not_at_all(tmp_path: Path) -> None:
    enrol(tmp_path / "nodes", "a", A)
    with desk_of(tmp_path) as desk:
        for one in (batch(1, 3), document(), ask("n", offer(3, 4, void=((1, 2, "evicted"),)))):
            out = desk.take([bundle(one), said(one, STRANGER)])
            assert (out.records, out.asked, out.fresh_docs, out.logs) == ([], [], set(), {})
            assert {need.why for _, need in out.needs} == {"key"}
        assert desk.counts["unsigned"] == 6
        assert [one["code"] for one in desk._gate.problems(desk.counts)] == ["node-unproven"]
        assert len(desk.take([said(batch(1, 3))]).records) == 3
        assert desk.take([said(document())]).fresh_docs == {"a"}
        assert [one.nonce for one in desk.take([said(ask("n", offer(1, 4)))]).asked] == ["n"]
        assert desk._gate.problems(desk.counts) == []


def test_what_was_signed_is_taken_nowhere_else(tmp_path: Path) -> None:
    """Under another stream, epoch or node it is forged; as it was, it is a duplicate."""
    enrol(tmp_path / "nodes", "a", A)
    enrol(tmp_path / "nodes", "b", NEXT)
    signed = sealing.signed(batch(1, 3), A)
    with desk_of(tmp_path) as desk:
        for change in ({"stream": "t"}, {"epoch": 9}, {"first": 2}):
            moved = msgspec.structs.replace(signed, **change)
            assert desk.take([bundle(moved)]).records == []
        assert desk.counts["forged"] == 3
        assert desk.take([bundle(msgspec.structs.replace(signed, node="b"))]).records == []
        assert desk.counts["unsigned"] == 1  # with no key of b
        assert len(desk.take([bundle(signed)] * 2).records) == 3
        (log,) = desk.logs.recent(9)
        assert (log.held, log.duplicates, log.conflicts) == (3, 3, 0)
        codes = {one["code"] for one in desk._gate.problems(desk.counts)}
        assert codes == {"forged", "node-unproven"}


def test_an_old_probe_played_again_voids_nothing_that_came(tmp_path: Path) -> None:
    enrol(tmp_path / "nodes", "a", A)
    with desk_of(tmp_path) as desk:
        old = said(ask("n", offer(1, 4)))
        desk.take([old, said(batch(1, 3)), said(ask("m", offer(4, 6))), said(batch(4, 5))])
        before = desk.logs.recent(9)
        desk.take([old])
        assert desk.logs.recent(9) == before


def test_who_is_not_enrolled_is_heard_unless_signatures_are_asked_of_all(tmp_path: Path) -> None:
    for is_strict, records in ((False, 3), (True, 0)):
        folder = tmp_path / str(is_strict)
        folder.mkdir()
        with desk_of(folder, is_strict=is_strict) as desk:
            assert len(desk.take([bundle(batch(1, 3))]).records) == records
            assert len(desk.take([said(batch(4, 6))]).records) == records


def test_a_node_changes_its_key_with_an_overlap(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    with desk_of(tmp_path, is_strict=True) as desk:
        enrol(nodes, "a", A)
        assert len(desk.take([said(batch(1, 1))]).records) == 1
        assert desk.take([said(batch(2, 2), NEXT)]).records == []
        enrol(nodes, "a", NEXT, A)
        out = desk.take([said(batch(2, 2), NEXT), said(batch(3, 3))])
        assert len(out.records) == 2
        enrol(nodes, "a", NEXT)
        assert desk.take([said(batch(4, 4))]).records == []
        assert len(desk.take([said(batch(4, 4), NEXT)]).records) == 1


@pytest.mark.parametrize("content", [b"", b"junk", b"\xff", b"-----BEGIN PRIVATE KEY-----"])
def test_a_damaged_enrolment_lets_nothing_through_unsigned(tmp_path: Path, content: bytes) -> None:
    enrol(tmp_path / "nodes", "a", A)
    (tmp_path / "nodes" / "a.pub").write_bytes(content)
    with desk_of(tmp_path) as desk:
        assert desk.take([bundle(batch(1, 3)), said(batch(1, 3))]).records == []
        codes = {one["code"] for one in desk._gate.problems(desk.counts)}
        assert codes == {"node-unproven", "enrolment-unreadable"}
        enrol(tmp_path / "nodes", "a", A)
        assert len(desk.take([said(batch(1, 3))]).records) == 3
        assert desk._gate.problems(desk.counts) == []


def test_without_any_key_what_is_sealed_is_a_need_and_what_is_signed_is_taken(
    tmp_path: Path,
) -> None:
    with closing(Database(tmp_path / "db", mint="rx")) as db:
        desk = Desk(db)
        out = desk.take([said(batch(1, 3))])
        assert [need.why for _, need in out.needs] == ["key"]
        assert out.records == []
        assert len(desk.take([said(batch(1, 3), seal=False)]).records) == 3


def test_a_body_that_was_sealed_for_another_head_is_damage(tmp_path: Path) -> None:
    sealed = sealing.sealed(batch(1, 3), SEALER)
    with desk_of(tmp_path) as desk:
        out = desk.take([bundle(msgspec.structs.replace(sealed, stream="t"))])
        assert (out.records, desk.counts["corrupt"]) == ([], 1)
