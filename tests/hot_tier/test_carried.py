"""An export goes into the hot tier by hand, and its word back into the spool."""

from __future__ import annotations

import secrets
from pathlib import Path

import anyio
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.core.errors import Rejected
from edge_agent.core.public_keys import PublicKeys, write
from edge_agent.core.wire.sealing import Protection, RoadKeys
from edge_agent.links.road_keys import RoadOpener, RoadSealer, RoadSigner, RoadVerifier
from edge_agent.stores.spool import Courier, DiskSpool
from tests.stores.spooling import NODE, a_record, open_small
from tests.wire.test_rings import drawn, with_rings
from tools.hot_tier import __main__ as command
from tools.hot_tier.carried import take_in, untaken
from tools.hot_tier.gate import Enrolled, Gate, Keys

pytestmark = pytest.mark.anyio
SECRET = b"s" * 32


async def committed(spool: DiskSpool) -> None:
    with anyio.fail_after(10):
        while spool.health().waiting:
            await anyio.sleep(0.005)


async def export(spool: DiskSpool, to: Path) -> Courier:
    courier = Courier(spool, node=NODE, secret=SECRET)
    with to.open("wb") as file:
        async for line in courier.export():
            file.write(line)
    return courier


async def test_what_was_carried_is_acknowledged_and_goes_and_twice_is_once(tmp_path: Path) -> None:
    out, acks, db = tmp_path / "out", tmp_path / "acks", tmp_path / "db"
    spool = open_small(tmp_path / "spool.db")
    try:
        for n in range(700):
            spool.append(a_record(stream=f"us{n % 3}"))
        await committed(spool)
        courier = await export(spool, out)
        assert spool.stats().records == 700  # they are kept
        first = await take_in(out, db=db, acks=acks)
        again = await take_in(out, db=db, acks=acks)
        assert (first["records"], again["records"]) == (700, 0)
        found = await courier.apply(acks.read_bytes())
        assert found["records"] == 700
        stats = spool.stats()
        assert (stats.records, stats.acked, stats.evicted) == (0, 700, 0)
    finally:
        await spool.aclose()


async def test_a_file_that_was_cut_off_is_refused_whole(tmp_path: Path) -> None:
    out, db = tmp_path / "out", tmp_path / "db"
    spool = open_small(tmp_path / "spool.db")
    try:
        for _ in range(10):
            spool.append(a_record())
        await committed(spool)
        await export(spool, out)
    finally:
        await spool.aclose()
    whole = out.read_bytes()
    out.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(Rejected, match="cut off after 1 lines"):
        await take_in(out, db=db, acks=tmp_path / "acks")
    flipped = bytearray(whole)
    flipped[whole.index(b"\n") + 20] ^= 1
    out.write_bytes(flipped)
    with pytest.raises(Rejected, match="line 2"):
        await take_in(out, db=db, acks=tmp_path / "acks")
    with pytest.raises(Rejected, match="No such file"):
        await take_in(tmp_path / secrets.token_hex(4), db=db, acks=tmp_path / "acks")
    assert not db.exists()
    assert not (tmp_path / "acks").exists()


def test_the_command_says_what_it_took(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").write_bytes(b"")
    wrong = [
        "import",
        str(tmp_path / "none"),
        "--db",
        str(tmp_path / "db"),
        "--acks",
        str(tmp_path / "a"),
    ]
    assert command.main(wrong) == 1
    assert "edge-agent spool export" in capsys.readouterr().err


async def test_an_export_is_sealed_and_signed_like_the_road_and_so_is_its_answer(
    tmp_path: Path,
) -> None:
    sealing, signer, node = (
        X25519PrivateKey.generate(),
        RoadSigner(Ed25519PrivateKey.generate()),
        RoadSigner(Ed25519PrivateKey.generate()),
    )
    (tmp_path / "nodes").mkdir()
    (tmp_path / "nodes" / f"{NODE}.pub").write_bytes(write(PublicKeys((node.public,)), NODE))
    gate = Gate(RoadOpener([sealing]), Enrolled(tmp_path / "nodes"), is_strict=True)
    sealer = RoadSealer(sealing.public_key().public_bytes_raw())
    keys = RoadKeys(Protection(sealer, node), RoadVerifier([signer.public]))
    spool = open_small(tmp_path / "spool.db")
    out, acks, db = tmp_path / "out", tmp_path / "acks", tmp_path / "db"
    try:
        for _ in range(50):
            spool.append(a_record())
        await committed(spool)
        courier = Courier(spool, node=NODE, secret=SECRET, keys=lambda: keys)
        out.write_bytes(b"".join([line async for line in courier.export()]))
        without = await take_in(out, db=tmp_path / "other", acks=acks)
        assert without["records"] == 0
        assert "needs; they stay at the edge" in untaken(without)
        unsigned = await take_in(out, db=db, acks=acks, keys=Keys(gate))
        assert unsigned["records"] == 50
        assert untaken(unsigned) == ""
        with pytest.raises(Rejected, match="expected it signed") as refused:
            await courier.apply(acks.read_bytes())
        assert "--uplink-keys" in refused.value.hint
        assert spool.stats().records == 50
        await take_in(out, db=db, acks=acks, keys=Keys(gate, signer))
        assert (await courier.apply(acks.read_bytes()))["records"] == 50
    finally:
        await spool.aclose()


async def test_contours_are_carried_short_and_plainly_and_both_are_taken(tmp_path: Path) -> None:
    batch = with_rings(drawn("letterbox", (29, 36, 582, 410), (256, 192), frames=40))
    spool = open_small(tmp_path / "spool.db")
    try:
        for record in batch:
            spool.append(msgspec.structs.replace(record, node=NODE))
        await committed(spool)
        courier = Courier(spool, node=NODE, secret=SECRET)
        sizes = []
        for plain in (False, True):
            out, db = tmp_path / f"out-{plain}", tmp_path / f"db-{plain}"
            lines = [line async for line in courier.export(plain=plain)]
            out.write_bytes(b"".join(lines))
            taken = await take_in(out, db=db, acks=tmp_path / f"acks-{plain}")
            assert taken["records"] == len(batch)
            sizes.append(len(lines[0]))
        assert sizes[0] < 0.75 * sizes[1]
    finally:
        await spool.aclose()
