"""An export goes into the hot tier by hand, and its word back into the spool."""

from __future__ import annotations

import secrets
from pathlib import Path

import anyio
import pytest

from edge_agent.core.errors import Rejected
from edge_agent.stores.spool import Courier, DiskSpool
from tests.stores.spooling import NODE, a_record, open_small
from tools.hot_tier import __main__ as command
from tools.hot_tier.carried import take_in

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
