"""A whole agent on a patient's clip: nothing of the patient gets anywhere but into the frames."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge_agent import logs
from edge_agent.agent import Shown
from edge_agent.app import running
from edge_agent.config.structs import LogConfig
from edge_agent.core.frames import AnyRecord, to_json
from tests.agents.daemon import command
from tests.agents.living import config_of, until
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.sources.dicoms import SECRETS, moving, write
from tools.edgecore_double import NO_FAULTS, EdgeCoreDouble
from tools.hot_tier import HotTier, MqttRoad

pytestmark = pytest.mark.anyio


def found_in(where: str, content: bytes) -> list[str]:
    """Which secrets stand there, in any case."""
    lowered = content.lower()
    return [f"{where}: {secret}" for secret in SECRETS if secret.lower().encode() in lowered]


async def test_no_token_of_a_patient_reaches_spool_road_hot_tier_log_or_status(
    broker: Broker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "Testmann Irmgard ACC-0815"
    clips.mkdir()
    write(clips / "PID-4711 Klinik-Nord.dcm", moving(60))
    (clips / "PID-4711 broken.dcm").write_bytes(b"no DICOM at all" * 100)
    stream = {"source": {"kind": "dicom", "path": str(clips), "loop": True, "fps": 30.0},
              "models": [{"name": "tiny"}]}  # fmt: skip
    config = config_of(
        tmp_path, {"a": stream}, uplink={"enabled": True, "port": broker.port, "drain_s": 5.0}
    )
    heard: list[AnyRecord] = []
    places: dict[str, bytes] = {}
    async with (
        EdgeCoreDouble(port=broker.port, node="box", faults=NO_FAULTS, devices=("default/box",))
        as edgecore,
        HotTier(tmp_path / "db", MqttRoad("127.0.0.1", broker.port), heard=heard.extend,
                live=tmp_path / "live.jsonl") as tier,
    ):  # fmt: skip
        async with running(config) as agent:
            await until(lambda: len(heard) > 60, "records at the hot tier")
            with anyio.fail_after(20):
                while not (document := await tier.document("box", "status")):
                    await anyio.sleep(0.05)
            await until(lambda: bool(edgecore.cloud_twin), "the twin")
            views = agent.views
            assert isinstance(views, Shown)
            places["document"] = document
            places["status"] = json.dumps(views.status(), ensure_ascii=False).encode()
            places["streams"] = json.dumps(views.streams(), ensure_ascii=False).encode()
            places["events"] = json.dumps(views.events(), ensure_ascii=False).encode()
            places["metrics"] = await views.metrics()
        places["twin"] = b"".join(edgecore.cloud_twin.values())
        await tier.settle()
    places["records"] = b"\n".join(map(to_json, heard))
    places["live"] = (tmp_path / "live.jsonl").read_bytes()
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file():
            places[file.name] = file.read_bytes()
    places["output"] = "".join(capfd.readouterr()).encode()
    assert "spool.db" in places
    assert any(b"exam" in places[name] for name in ("records",))
    assert [hit for name, content in places.items() for hit in found_in(name, content)] == []


PATIENT = "Testmann Irmgard ACC-0815"


def named_after(patient: str, folder: Path) -> list[dict[str, Any]]:
    """Sources of every kind, none of which opens."""
    return [
        {"kind": "video", "where": f"file:///nowhere/{patient}/x.mp4"},
        {"kind": "video", "where": f"file:{folder}/x.mp4"},
        {"kind": "video", "where": f"http://127.0.0.1:9/pacs/{patient}/clip.mp4?q={patient}"},
        {"kind": "video", "where": "rtsp://Testmann:ACC-0815@127.0.0.1:9/1"},
        {"kind": "video", "where": f"{folder}/x.mp4"},
        {"kind": "video", "where": f"/dev/../{folder}/x.mp4"},
        {"kind": "video", "where": f"filesrc location={folder}/x ! appsink", "pipeline": True},
        {"kind": "images", "path": str(folder)},
        {"kind": "dicom", "path": f"{folder}/x.dcm"},
        {"kind": "dicom", "path": f"sample:{patient}"},
    ]


async def test_no_path_user_or_query_of_a_source_reaches_log_status_audit_or_hot_tier(
    broker: Broker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Seen: `file:` addresses and http paths in status, log and the document at the hot tier."""
    folder = tmp_path / PATIENT
    folder.mkdir()
    streams: dict[str, Any] = {
        f"s{number}": {"source": {**source, "reopen_max_s": 0.5}, "models": [{"name": "tiny"}]}
        for number, source in enumerate(named_after(PATIENT, folder))
    }
    flaw = f'config.toml:3: streams.a.source.path \u2014 no folder "{folder}"'
    config = config_of(
        tmp_path, streams, uplink={"enabled": True, "port": broker.port, "drain_s": 5.0}
    )
    heard: list[AnyRecord] = []
    places: dict[str, bytes] = {}
    handlers = list(logging.getLogger().handlers)
    logs.setup(LogConfig(level="debug", format="json"), sys.stderr)
    async with (
        EdgeCoreDouble(port=broker.port, node="box", faults=NO_FAULTS, devices=("default/box",)),
        HotTier(tmp_path / "db", MqttRoad("127.0.0.1", broker.port), heard=heard.extend) as tier,
    ):
        async with running(config) as agent:
            views = agent.views
            assert isinstance(views, Shown)
            agent.load_again = lambda: (None, flaw)
            assert PATIENT in (await agent.reload())["why"]  # who asked is on this device
            with anyio.fail_after(30):
                while not all(views.streams()[name]["reason"] for name in streams):
                    await anyio.sleep(0.05)
                while not (document := await tier.document("box", "status")):
                    await anyio.sleep(0.05)
            places["document"] = document
            places["status"] = json.dumps(views.status(), ensure_ascii=False).encode()
            places["events"] = json.dumps(views.events(), ensure_ascii=False).encode()
            places["metrics"] = await views.metrics()
        await tier.settle()
    logging.getLogger().handlers[:] = handlers
    places["records"] = b"\n".join(map(to_json, heard))
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file():
            places[file.name] = file.read_bytes()
    places["output"] = "".join(capfd.readouterr()).encode()
    assert b"reload-refused" in places["audit.log"]
    assert [hit for name, content in places.items() for hit in found_in(name, content)] == []


@pytest.mark.parametrize("is_journal", [True, False])
def test_a_start_that_is_refused_tells_the_journal_nothing_of_a_source(
    tmp_path: Path, is_journal: bool
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\n[streams.a]\nsource = "/data/{PATIENT}/x.dcm"\n'
        'models = [{ name = "tiny" }]\n'
    )
    environ = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    done = subprocess.run(
        command(config, "run"),
        env={**environ, **({"JOURNAL_STREAM": "8:1"} if is_journal else {})},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "streams.a.source" in done.stderr
    assert (PATIENT in done.stderr) is not is_journal  # a person at a terminal sees all of it


def test_a_side_that_dies_names_no_file(capfd: pytest.CaptureFixture[str]) -> None:
    script = (
        "from edge_agent.inference.__main__ import on_death\n"
        "import sys, traceback\n"
        "try: open(sys.argv[1])\n"
        "except OSError: on_death(traceback.format_exc())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, f"/nowhere/{PATIENT}"], check=False)
    said = capfd.readouterr().err
    assert done.returncode == 70
    assert "[Errno 2] No such file or directory" in said
    assert found_in("stderr", said.encode()) == []


def test_the_scan_would_find_them() -> None:
    assert found_in("x", b"... TESTMANN ...") == ["x: Testmann"]
