"""The uplink's commands, on a real console, a real spool and a real broker."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge_agent.cli import exits
from edge_agent.cli.main import main
from edge_agent.cli.uplink import is_drained
from edge_agent.cli.uplink_test import of_node, override_of
from edge_agent.config.naming import node_name
from edge_agent.config.structs import Config, UplinkConfig
from edge_agent.core.edgecore import Topics
from edge_agent.core.logbook import Ack
from edge_agent.links import survey
from edge_agent.links.mqtt import MqttLink
from edge_agent.stores.spool import DiskSpool
from tests.broker import MOSQUITTO, Broker
from tests.cli.house import House, living
from tests.links.authority import Authority
from tests.stores.spooling import NODE, add, open_small, settle
from tools.broker import free_port

UP: dict[str, Any] = {
    "configured": True, "connected": True, "cloud": "up", "last_ack_s": 2.0, "sent_bytes": 1000,
    "raw_bytes": 8000, "inflight": 3, "latency_ms": {"p50": 61.0, "p99": 140.2},
}  # fmt: skip
Said = Callable[..., tuple[int, str, str]]
Make = Callable[..., Broker]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[DiskSpool]:
    spool = open_small(tmp_path / "spool.db")
    yield spool
    spool.close()


@pytest.fixture
def house(spool: DiskSpool) -> House:
    house = House(spool, b"")
    house.road = dict(UP)
    return house


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    def run(*words: str, socket: Path | None = None) -> tuple[int, str, str]:
        code = main(["uplink", *words, "--socket", str(socket or tmp_path / "none.sock")])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


# ── status ────────────────────────────────────────────────────────────────────────────────────


def test_status_in_words_and_as_json(house: House, tmp_path: Path, run: Said) -> None:
    with living(house, tmp_path) as socket:
        code, out, _ = run("status", socket=socket)
        assert code == exits.OK
        assert [line.split(None, 1)[0] for line in out.splitlines()] == [
            "broker", "cloud", "last", "latency", "sent", "in",
        ]  # fmt: skip
        assert "61.0/140.2 ms" in out
        assert json.loads(run("status", "--json", socket=socket)[1])["uplink"] == UP
        house.road = {"connected": False}
        assert "offline" in run("status", socket=socket)[1]
        house.road = {"configured": False}
        assert run("status", socket=socket)[1] == "no uplink is configured: records stay here\n"
    assert run("status")[0] == exits.NOT_RUNNING


# ── drain ─────────────────────────────────────────────────────────────────────────────────────


def test_drain_waits_for_the_last_acknowledgement(house: House, tmp_path: Path, run: Said) -> None:
    key = add(house.kept, 50)
    settle(house.kept)
    later = threading.Timer(0.6, lambda: house.kept.acknowledge([Ack(key, 50)]))
    with living(house, tmp_path) as socket:
        later.start()
        begun = time.monotonic()
        code, out, _ = run("drain", "--timeout", "10", socket=socket)
        assert (code, out.startswith("drained")) == (exits.OK, True)
        assert time.monotonic() - begun > 0.5
        said = json.loads(run("drain", "--json", socket=socket)[1])
        assert (said["drained"], said["left"], said["evicted"]) == (True, 0, 0)
    later.join()


def test_drain_says_what_is_left_when_its_time_is_over(
    house: House, tmp_path: Path, run: Said
) -> None:
    add(house.kept, 50)
    settle(house.kept)
    with living(house, tmp_path) as socket:
        code, out, _ = run("drain", "--timeout", "0.3", socket=socket)
        assert (code, "50 records" in out) == (exits.ERROR, True)
        said = json.loads(run("drain", "--timeout", "0", "--json", socket=socket)[1])
        assert (said["drained"], said["left"]) == (False, 50)


def test_drain_where_it_could_never_end_says_so(
    house: House, spool: DiskSpool, tmp_path: Path, run: Said
) -> None:
    add(spool, 1)
    house.road = {"configured": False}
    with living(house, tmp_path) as socket:
        code, _, err = run("drain", socket=socket)
        assert (code, "spool export" in err) == (exits.ERROR, True)
    with living(House(spool, b"", volatile=True), tmp_path) as socket:
        code, _, err = run("drain", socket=socket)
        assert (code, "volatile" in err) == (exits.ERROR, True)


def test_what_came_after_the_wait_began_is_not_waited_for() -> None:
    assert is_drained({"records": 0}, 0.0)
    assert is_drained({"records": 9, "oldest_s": 0.2}, 5.0)
    assert not is_drained({"records": 9, "oldest_s": 6.0}, 5.0)
    assert not is_drained({"records": 9, "oldest_s": None}, 5.0)
    assert not is_drained({}, 5.0)


# ── test ──────────────────────────────────────────────────────────────────────────────────────


def checks(out: str) -> dict[str, str]:
    return {check["name"]: check["status"] for check in json.loads(out)["checks"]}


def written(tmp_path: Path, port: int, *more: str) -> str:
    path = tmp_path / "config.toml"
    lines = [f'node = "{NODE}"', "[uplink]", "enabled = true", f"port = {port}", "answer_s = 2.0"]
    path.write_text("\n".join([*lines, *more]))
    return str(path)


def test_a_sound_road_passes_step_by_step(
    house: House, broker: Broker, tmp_path: Path, run: Said
) -> None:
    config = written(tmp_path, broker.port)
    with living(house, tmp_path) as socket:
        code, out, _ = run("test", "--config", config, "--json", socket=socket)
    assert code == exits.OK, out
    assert checks(out) == {
        "config": "pass", "node": "pass", "files": "skip", "name": "pass", "tcp": "pass",
        "tls": "skip", "mqtt": "pass", "daemon": "pass", "cloud": "pass",
    }  # fmt: skip
    code, out, _ = run("test", "--config", config)
    assert code == exits.OK
    assert "PASS  mqtt    connected, subscribed; CONNACK after" in out
    assert "SKIP  daemon  edge-agent does not run" in out


def test_the_agent_beside_it_keeps_its_connection_and_its_presence(
    house: House, broker: Broker, tmp_path: Path
) -> None:
    import aiomqtt  # noqa: PLC0415 - here alone

    config = written(tmp_path, broker.port)
    link = MqttLink(UplinkConfig(port=broker.port), node=NODE)

    async def beside(socket: Path) -> tuple[int, bytes]:
        words = ["uplink", "test", "--config", config, "--socket", str(socket)]
        async with link.connect() as session:
            code = await anyio.to_thread.run_sync(main, words)
            await session.publish(link.topics.up, b"still here")
            await session.settle()
            async with aiomqtt.Client("127.0.0.1", broker.port) as other:
                await other.subscribe(Topics.of("default", NODE).presence)
                with anyio.fail_after(5):
                    message = await anext(other.messages)
            return code, bytes(message.payload)

    with living(house, tmp_path) as socket:
        code, presence = anyio.run(beside, socket)
    assert code == exits.OK
    assert json.loads(presence)["state"] == "online"


def test_a_road_that_ends_says_where_and_what_to_do(tmp_path: Path, run: Said) -> None:
    code, out, _ = run("test", "--config", written(tmp_path, free_port()))
    assert code == exits.CHECK_FAILED
    assert "FAIL  tcp" in out
    assert "-> is the broker running?" in out
    assert "mqtt" not in out
    code, out, _ = run("test", "--config", written(tmp_path, 1883, 'host = "no.such.invalid"',
                                                    "insecure = true"))  # fmt: skip
    assert (code, "FAIL  name" in out) == (exits.CHECK_FAILED, True)
    code, out, _ = run("test", "--config", written(tmp_path, 1883, "speed = 3"))
    assert (code, "FAIL  config" in out, "config check" in out) == (exits.CHECK_FAILED, True, True)


def test_nobody_on_1883_and_edgecore_s_own_broker_on_1884_is_said(
    broker: Broker, tmp_path: Path, run: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = free_port()
    monkeypatch.setattr(survey, "PLAIN_PORT", asked)
    monkeypatch.setattr(survey, "EDGECORE_PORT", broker.port)
    code, out, _ = run("test", "--config", written(tmp_path, asked))
    assert code == exits.CHECK_FAILED
    assert f"EdgeCore's built-in broker answers on {broker.port}" in out
    assert f"-> set uplink.port = {broker.port}" in out
    code, out, _ = run("test", "--config", written(tmp_path, broker.port))
    assert code == exits.OK, out  # what it said to do is enough


def test_nobody_on_either_port_says_which_mode_listens(
    tmp_path: Path, run: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket as sockets  # noqa: PLC0415 - here alone

    asked = free_port()
    monkeypatch.setattr(survey, "PLAIN_PORT", asked)
    with sockets.create_server(("127.0.0.1", 0)) as mute:  # listens, and is no broker
        for other in (free_port(), mute.getsockname()[1]):
            monkeypatch.setattr(survey, "EDGECORE_PORT", other)
            quick = ["--set", "uplink.answer_s=0.5"]
            code, out, _ = run("test", "--config", written(tmp_path, asked), *quick)
            assert (code, "FAIL  tcp" in out) == (exits.CHECK_FAILED, True)
            assert "in its mqttMode 0 or 1 only" in out
            assert "answers on" not in out


@pytest.mark.parametrize(
    ("uplink", "node", "host", "said"),
    [
        ({}, "", "ward-3", ("pass", "has to have the same name")),
        ({}, "cart-3", "Ward.3", ("pass", "has to have the same name")),
        ({}, "", "Ward.3", ("warn", "EdgeCore calls this machine ward.3")),
        ({}, "", "ward_3", ("warn", "cannot use this host name")),
        ({}, "", "w" * 64, ("warn", "EdgeCore calls this machine www")),
        ({}, "ward-", "ward-3", ("warn", "no node of KubeEdge can be called so")),
        ({"kubeedge_node": "ward.3"}, "", "Ward.3", ("pass", "which KubeEdge calls ward.3")),
        ({"host": "broker.site", "tls": True}, "", "Ward.3", ("pass", "ward-3")),
    ],
)
def test_a_node_that_kubeedge_cannot_call_so_is_said(
    uplink: dict[str, Any], node: str, host: str, said: tuple[str, str]
) -> None:
    config = Config(node=node, uplink=UplinkConfig(**uplink))
    step = of_node(config, node or node_name(host), host)
    assert (step.status, said[1] in step.what) == (said[0], True), step
    assert bool(step.fix) == (said[0] == "warn")


@pytest.mark.parametrize(
    ("said", "node", "told", "expected"),
    [
        ("    hostnameOverride: cart-3\n", "cart-3", "", ("pass", "calls this machine cart-3")),
        ('hostnameOverride: "ward.3"  # ours\n', "cart-3", "", ("warn", "ward.3, not cart-3")),
        ("hostnameOverride: ward.3\r\n", "cart-3", "ward.3", ("pass", "calls this machine ward.3")),
        ("hostnameOverride: ward.3\n", "cart-3", "ward.4", ("warn", "ward.3, not ward.4")),
        ("hostnameOverride: Ward_3\n", "cart-3", "", ("pass", "has to have the same name")),
        ("# hostnameOverride: ward.3\n", "cart-3", "", ("pass", "has to have the same name")),
        ("hostnameOverride: a\nhostnameOverride: b\n", "cart-3", "", ("pass", "has to have")),
        ("\x00\xff" * 100, "cart-3", "", ("pass", "has to have the same name")),
        ("x" * (1 << 20) + "hostnameOverride: a\n", "cart-3", "", ("pass", "has to have")),
    ],
)
def test_what_edgecore_s_settings_say_counts(
    said: str, node: str, told: str, expected: tuple[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "edgecore.yaml"
    assert override_of(file) == ""
    file.write_bytes(said.encode("latin-1"))
    config = Config(node=node, uplink=UplinkConfig(kubeedge_node=told))
    step = of_node(config, node, "other-host", override_of(file))
    assert (step.status, expected[1] in step.what) == (expected[0], True), step
    assert bool(step.fix) == (expected[0] == "warn")


def test_what_listens_but_is_no_broker_fails_at_mqtt(tmp_path: Path, run: Said) -> None:
    import socket as sockets  # noqa: PLC0415 - here alone

    with sockets.create_server(("127.0.0.1", 0)) as server:
        code, out, _ = run("test", "--config", written(tmp_path, server.getsockname()[1]))
    assert code == exits.CHECK_FAILED
    assert "FAIL  mqtt" in out


@pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")
def test_passwords_and_certificates_are_looked_at(
    make_broker: Make, tmp_path: Path, run: Said
) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    certificate, key = ours.sign("broker")
    listener = f"cafile {ours.certificate}\ncertfile {certificate}\nkeyfile {key}"
    port = make_broker("mosquitto", listener=listener).port
    tls = ("tls = true", 'host = "localhost"')
    code, out, _ = run(
        "test", "--config", written(tmp_path, port, *tls, f'ca_file = "{ours.certificate}"')
    )
    assert code == exits.WARNINGS, out  # it is valid for two days
    assert "PASS  mqtt" in out
    assert "-> renew the broker's certificate" in out
    code, out, _ = run(
        "test", "--config", written(tmp_path, port, *tls, f'ca_file = "{theirs.certificate}"')
    )
    assert code == exits.CHECK_FAILED
    assert "FAIL  tls" in out
    assert "uplink.ca_file has to be" in out
    code, out, _ = run(
        "test", "--config", written(tmp_path, port, *tls, f'ca_file = "{tmp_path}/none"')
    )
    assert (code, "FAIL  files" in out) == (exits.CHECK_FAILED, True)


@pytest.mark.parametrize(
    ("road", "status", "code"),
    [
        ({"connected": False, "reason": "no answer"}, {"daemon": "fail"}, exits.CHECK_FAILED),
        ({"cloud": "down"}, {"daemon": "pass", "cloud": "fail"}, exits.CHECK_FAILED),
        ({"cloud": "unknown", "last_ack_s": None}, {"cloud": "warn"}, exits.WARNINGS),
        ({"configured": False}, {"daemon": "warn"}, exits.WARNINGS),
    ],
)
def test_what_the_daemon_knows_counts(
    road: dict[str, Any], status: dict[str, str], code: int,
    *, house: House, broker: Broker, tmp_path: Path, run: Said,
) -> None:  # fmt: skip
    house.road = {**UP, **road}
    config = written(tmp_path, broker.port)
    with living(house, tmp_path) as socket:
        got, out, _ = run("test", "--config", config, "--json", socket=socket)
    assert got == code
    assert checks(out).items() >= status.items()
    fixes = [
        one["fix"] for one in json.loads(out)["checks"] if one["name"] == "cloud" and one["fix"]
    ]
    assert all("default/user/edge-agent/" in fix for fix in fixes), "to compare with the Rule's"
