"""The spool's commands: on a real console over a real spool, and on the file where none runs."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.cli import exits
from edge_agent.cli.main import main
from edge_agent.core.frames import Alarm, Event, RecordClass, Result, Tally
from edge_agent.core.logbook import Ack
from edge_agent.ground import mint_key
from edge_agent.stores.spool import DiskSpool
from tests.cli.house import BOOT, House, living
from tests.stores.spooling import NODE, a_record, add, open_small, settle
from tests.stores.test_spool_carried import answer, received

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def spool(state: Path) -> Iterator[DiskSpool]:
    spool = open_small(state / "spool.db")
    yield spool
    spool.close()


@pytest.fixture
def config(tmp_path: Path, state: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'node = "{NODE}"\nstate_dir = "{state}"\n')
    return path


@pytest.fixture
def house(spool: DiskSpool, state: Path) -> House:
    return House(spool, mint_key(state / "exam.key"))


@pytest.fixture
def run(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    def run(*words: str, socket: Path | None = None) -> tuple[int, str, str]:
        where = str(socket or tmp_path / "none.sock")
        code = main(["spool", *words, "--socket", where, "--config", str(config)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_status_is_the_balance(house: House, tmp_path: Path, run: Said) -> None:
    add(house.kept, 1204)
    settle(house.kept)
    with living(house, tmp_path) as socket:
        code, out, _ = run("status", socket=socket)
        assert code == exits.OK
        assert "records   1,204, " in out
        assert "kept on   disk" in out
        document = json.loads(run("status", "--json", socket=socket)[1])
        assert (document["schema"], document["spool"]["appended"]) == (1, 1204)
    assert run("status")[0] == exits.NOT_RUNNING


def test_list_shows_the_newest_a_line_each(house: House, tmp_path: Path, run: Said) -> None:
    who: dict[str, Any] = {"node": NODE, "stream": "us0", "boot": BOOT}
    for record in (
        Event(**who, name="started", what="2 streams"),
        Alarm(**who, code="no-signal", severity="critical", what="no\x1b[2J frame"),
        Tally(node=NODE, stream="us0", boot="00000000", state="ok", captured=7),
        Result(**who, model="us-chamber", version="1.0.0", frame=9),
    ):
        house.kept.append(record)
    with living(house, tmp_path) as socket:
        code, out, _ = run("list", "--limit", "3", socket=socket)
        head, *rows = out.splitlines()
        assert (code, head.split()) == (
            exits.OK, ["age", "class", "stream", "epoch", "seq", "says"],
        )  # fmt: skip
        assert len(rows) == 3
        assert rows[0].endswith("frame 9  us-chamber@1.0.0  0 objects")
        assert rows[1].lstrip().startswith("-  telemetry")
        assert "\x1b" not in out
        document = json.loads(run("list", "--json", socket=socket)[1])
        assert [one["class"] for one in document["records"]] == [
            "result", "telemetry", "alarm", "event",
        ]  # fmt: skip
        assert run("list", "--limit", "0", socket=socket)[0] == exits.USAGE
        assert run("list", "--limit", "257", socket=socket)[0] == exits.USAGE


def damage(path: Path, seq: int) -> None:
    """One body, in the file of a closed spool."""
    import sqlite3  # noqa: PLC0415 - here alone

    connection = sqlite3.connect(path)
    connection.execute("UPDATE r SET body = x'00' WHERE id & 0xFFFFFFFF = ?", (seq,))
    connection.commit()
    connection.close()


@pytest.mark.parametrize("by", ["daemon", "file"])
def test_verify_says_what_is_damaged_and_exits_3(
    by: str, state: Path, tmp_path: Path, run: Said
) -> None:
    spool = open_small(state / "spool.db")
    add(spool, 20)
    settle(spool)
    spool.close()
    assert run("verify") == (exits.OK, "20 records are sound\n", "")
    damage(state / "spool.db", 7)
    if by == "file":
        code, out, _ = run("verify", "--json")
    else:
        spool = open_small(state / "spool.db")
        with living(House(spool, b""), tmp_path) as socket:
            code, out, _ = run("verify", "--json", socket=socket)
        spool.close()
    assert code == exits.CHECK_FAILED
    assert json.loads(out) == {"schema": 1, "records": 19, "corrupt": 1}
    assert run("verify")[0] == exits.OK


@pytest.mark.parametrize("by", ["daemon", "file"])
def test_records_are_carried_away_and_leave_by_the_answer_alone(
    by: str, state: Path, tmp_path: Path, run: Said
) -> None:
    spool = open_small(state / "spool.db")
    house = House(spool, mint_key(state / "exam.key"))
    add(spool, 1500)
    add(spool, 3, RecordClass.ALARM)
    settle(spool)
    file, back = tmp_path / "carried.ea", tmp_path / "acks.jsonl"

    def there_and_back(socket: Path | None) -> None:
        code, out, err = run("export", str(file), "--json", socket=socket)
        assert (code, err) == (exits.OK, "")
        said = json.loads(out)
        assert (said["records"], said["bytes"]) == (1503, file.stat().st_size)
        assert file.stat().st_mode & 0o777 == 0o600
        assert sorted(path.name for path in tmp_path.glob("*carried*")) == ["carried.ea"]
        found, asked = received(file.read_bytes().splitlines())
        assert sum(map(len, found.values())) == 1503
        back.write_bytes(answer(asked[0].nonce, found))
        code, out, _ = run("import", str(back), socket=socket)
        assert (code, out) == (exits.OK, "1,503 records of 2 logs are acknowledged and gone\n")
        assert run("import", str(back), socket=socket)[0] == exits.NOTHING_TO_DO

    if by == "file":
        spool.close()
        there_and_back(None)
    else:
        with living(house, tmp_path) as socket:
            there_and_back(socket)
        spool.close()
    spool = open_small(state / "spool.db")
    assert (spool.stats().records, spool.stats().acked) == (0, 1503)
    spool.close()


def test_an_export_never_replaces_a_file_unasked_and_leaves_no_half(
    house: House, tmp_path: Path, run: Said
) -> None:
    add(house.kept, 5)
    settle(house.kept)
    file = tmp_path / "out.ea"
    file.write_text("mine")
    with living(house, tmp_path) as socket:
        code, _, err = run("export", str(file), socket=socket)
        assert (code, file.read_text()) == (exits.ERROR, "mine")
        assert "--force" in err
        assert run("export", str(file), "--force", socket=socket)[0] == exits.OK
        assert file.read_bytes().startswith(f"ea1 {NODE} ".encode())
        code, _, err = run("export", str(tmp_path / "no" / "out"), socket=socket)
        assert (code, "No such file" in err) == (exits.ERROR, True)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_export_that_breaks_off_is_no_file(house: House, tmp_path: Path, run: Said) -> None:
    add(house.kept, 3000)
    settle(house.kept)
    house.kept.close()  # its thread answers nobody any more
    with living(house, tmp_path) as socket:
        code, _, err = run("export", str(tmp_path / "out"), socket=socket)
    assert code == exits.ERROR
    assert err
    assert not list(tmp_path.glob("*out*"))


def test_a_wrong_ack_file_changes_nothing(house: House, tmp_path: Path, run: Said) -> None:
    key = add(house.kept, 5)
    settle(house.kept)
    wrong = tmp_path / "wrong"
    wrong.write_bytes(answer("AAAA", {key: [5]}))
    with living(house, tmp_path) as socket:
        code, _, err = run("import", str(wrong), socket=socket)
        assert code == exits.ERROR
        assert "export again" in err
        assert run("import", str(tmp_path / "nothing"), socket=socket)[0] == exits.ERROR
    assert house.kept.stats().records == 5


def test_a_volatile_spool_says_so(spool: DiskSpool, tmp_path: Path, run: Said) -> None:
    with living(House(spool, b"", volatile=True), tmp_path) as socket:
        for words in (["verify"], ["export", str(tmp_path / "out")]):
            code, _, err = run(*words, socket=socket)
            assert (code, "volatile" in err, "hint" in err) == (exits.ERROR, True, True)
        assert "nothing survives" in run("status", socket=socket)[1]


def test_compact_only_while_nobody_runs(
    house: House, state: Path, tmp_path: Path, run: Said
) -> None:
    key = add(house.kept, 3000)
    settle(house.kept)
    house.kept.acknowledge([Ack(key, 2990)])
    settle(house.kept)
    with living(house, tmp_path) as socket:
        code, _, err = run("compact", socket=socket)
        assert (code, "systemctl stop" in err) == (exits.REFUSED, True)
    assert run("compact")[0] == exits.ERROR  # no console, but the file is open
    house.kept.close()
    before = (state / "spool.db").stat().st_size
    code, out, _ = run("compact", "--json")
    said = json.loads(out)
    assert code == exits.OK
    assert said["before_bytes"] == before > 2 * said["after_bytes"]
    assert run("compact")[0] == exits.NOTHING_TO_DO
    assert run("verify")[1] == "10 records are sound\n"


@pytest.mark.parametrize("verb", ["verify", "compact"])
def test_a_daemon_whose_console_is_out_of_reach_keeps_its_spool(
    verb: str, spool: DiskSpool, state: Path, run: Said
) -> None:
    add(spool, 1)
    settle(spool)
    spool.close()
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = run(verb)
    assert code == exits.REFUSED
    assert "in use by another edge-agent" in err


def test_no_spool_no_daemon_says_where_it_looked(state: Path, run: Said) -> None:
    code, _, err = run("verify")
    assert code == exits.ERROR
    assert f"no spool in {state}" in err
    assert list(state.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_leaves_nothing_that_the_service_cannot_open(
    spool: DiskSpool, state: Path, run: Said
) -> None:
    add(spool, 3)
    settle(spool)
    spool.close()
    for path in (state, *state.iterdir()):
        os.chown(path, 65534, 65534)
    above = [path for path in state.parents if path.stat().st_mode & 0o001 == 0]
    try:
        for path in above:
            path.chmod(0o711)
        assert run("verify")[:2] == (exits.OK, "3 records are sound\n")
    finally:
        for path in above:
            path.chmod(0o700)
    assert {path.stat().st_uid for path in (state, *state.iterdir())} == {65534}
    assert os.geteuid() == 0


def test_a_record_of_any_shape_is_a_line() -> None:
    from edge_agent.cli.spool import _row  # noqa: PLC0415 - only here

    shapes: list[dict[str, Any]] = [{}, {"kind": "new", "at_us": "x"}, {"epoch": None, "seq": []}]
    for record in shapes:
        assert len(_row(record, "", 0)) == 6
    assert _row(msgspec.to_builtins(a_record()), "", 0)[0] == "-"
