"""What a configuration names is looked for on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_agent.cli import exits
from edge_agent.cli.main import main
from edge_agent.config.check import findings
from edge_agent.config.problems import dotted
from edge_agent.config.structs import Config, DicomSource
from edge_agent.core.errors import ConfigError, LinkDenied
from edge_agent.core.public_keys import PublicKeys, write
from edge_agent.links.credentials import read_secrets
from edge_agent.links.road_keys import RoadSigner
from edge_agent.resolve import made_worse, models_of, unresolved
from edge_agent.sources import key_of
from tests.tiny import write_package

PHANTOM = {"kind": "phantom"}


def config(folder: Path, streams: dict[str, Any], **sections: Any) -> Config:
    return msgspec.convert(
        {
            "state_dir": str(folder / "state"),
            "streams": streams,
            "models": {"dirs": [str(folder / "models")], "shipped": False},
            **sections,
        },
        Config,
    )


def stream(source: dict[str, Any] | None = None, model: str = "tiny", **more: Any) -> Any:
    return {"source": source or PHANTOM, "models": [{"name": model, **more}]}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    write_package(tmp_path / "models")
    return tmp_path


def found(config: Config, severity: str) -> list[str]:
    models = models_of(config, Path(config.state_dir))
    return [dotted(flaw.key) for flaw in unresolved(config, models) if flaw.severity == severity]


def test_what_is_there_is_no_problem(folder: Path) -> None:
    (folder / "shots").mkdir()
    (folder / "secret").write_text("x")
    streams = {
        "a": stream(version="1.0.0"),
        "b": stream({"kind": "images", "path": str(folder / "shots")}),
        "c": stream({"kind": "dicom", "path": "sample:ultrasound"}),
        "d": stream({"kind": "video", "where": "rtsp://10.0.0.7/{password}",
                     "password_file": str(folder / "secret")}),
    }  # fmt: skip
    whole = config(folder, streams, uplink={"enabled": True,
                                            "password_file": str(folder / "secret")})  # fmt: skip
    assert unresolved(whole, models_of(whole, folder)) == []


def test_models_secrets_and_paths_that_are_not_there(folder: Path) -> None:
    nowhere = str(folder / "nowhere")
    streams = {
        "a": stream(model="tny"),
        "b": stream(version="9.9.9"),
        "c": stream({"kind": "images", "path": nowhere}),
        "d": stream({"kind": "video", "where": f"file://{nowhere}"}),
        "e": stream({"kind": "video", "where": "rtsp://h/{password}", "password_file": nowhere}),
        "f": stream({"kind": "dicom", "path": nowhere, "exam_key_file": nowhere}),
    }
    broken = config(
        folder, streams, uplink={"enabled": True, "ca_file": nowhere},
        rollouts={"enabled": True, "root_file": nowhere},
        models={"dirs": [str(folder / "models"), nowhere], "shipped": False},
    )  # fmt: skip
    assert found(broken, "error") == [
        "uplink.ca_file", "rollouts.root_file", "streams.e.source.password_file",
        "streams.f.source.exam_key_file",
    ]  # fmt: skip
    assert found(broken, "warn") == [  # the models may come down by rollouts
        "models.dirs.1", "streams.a.models.0.name", "streams.b.models.0.version",
        "streams.c.source.path", "streams.d.source.where", "streams.f.source.path",
    ]  # fmt: skip
    by_hand = msgspec.structs.replace(broken, rollouts=Config().rollouts)
    assert {"streams.a.models.0.name", "streams.b.models.0.version"} <= {*found(by_hand, "error")}


def test_a_section_that_is_off_needs_no_secrets(folder: Path) -> None:
    off = config(folder, {"a": stream()}, uplink={"password_file": "/nowhere"})
    assert unresolved(off, models_of(off, folder)) == []


def worse(running: Config, wanted: Config) -> list[str]:
    models = models_of(running, Path(running.state_dir))
    return [dotted(flaw.key) for flaw in made_worse(running, wanted, models)]


def test_a_stream_that_stays_may_not_be_broken_by_a_reload(folder: Path) -> None:
    running = config(folder, {"a": stream(), "b": stream()})
    assert worse(running, config(folder, {"a": stream(model="tny"), "b": stream()})) == [
        "streams.a.models.0.name"
    ]
    moved = stream({"kind": "images", "path": str(folder / "nowhere")})
    assert worse(running, config(folder, {"a": stream(), "b": moved})) == ["streams.b.source.path"]


def test_what_is_removed_new_or_broken_already_does_not_hold_up_a_reload(folder: Path) -> None:
    gone = {"kind": "images", "path": str(folder / "unplugged")}
    running = config(folder, {"a": stream(), "b": stream(gone)})
    assert worse(running, config(folder, {"b": stream(gone)})) == []
    assert worse(running, config(folder, {"a": stream(), "new": stream(model="tny")})) == []


def test_config_check_says_where_a_model_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "config.toml"
    file.write_text(
        f'state_dir = "{folder}/state"\n[streams.a]\nsource = {{ kind = "phantom" }}\n'
        'models = [\n  { name = "us-chmber" },\n]\n'
    )
    assert main(["config", "check", "--config", str(file)]) == exits.CHECK_FAILED
    out = capsys.readouterr().out
    assert f"{file}:5: streams.a.models.0.name" in out
    assert "us-chamber" in out
    assert main(["config", "check", "--elsewhere", "--config", str(file)]) == exits.OK
    assert main(["config", "check", "--json", "--config", str(file)]) == exits.CHECK_FAILED
    capsys.readouterr()
    assert main(["config", "check", "--json", "--config", str(file)]) == exits.CHECK_FAILED
    assert json.loads(capsys.readouterr().out)["problems"][0]["line"] == 5


def test_a_pipe_in_the_place_of_a_secret_is_refused_and_not_waited_for(folder: Path) -> None:
    """A reload waited for somebody to write into it, for ever."""
    pipe = str(folder / "pipe")
    os.mkfifo(pipe)
    video = {"kind": "video", "where": "rtsp://10.0.0.7/{password}", "password_file": pipe}
    dicom = {"kind": "dicom", "path": "sample:ultrasound", "exam_key_file": pipe}
    whole = config(folder, {"v": stream(video), "d": stream(dicom)},
                   uplink={"enabled": True, "password_file": pipe})  # fmt: skip
    assert sorted(found(whole, "error")) == [
        "streams.d.source.exam_key_file", "streams.v.source.password_file", "uplink.password_file"
    ]  # fmt: skip
    source = whole.streams["d"].source
    assert isinstance(source, DicomSource)
    with pytest.raises(ConfigError, match="expected a plain file, got a named pipe"):
        key_of(source, b"")
    with pytest.raises(LinkDenied, match="expected a plain file, got a named pipe"):
        read_secrets(whole.uplink)


def test_a_stream_that_stays_is_not_reloaded_onto_a_version_that_has_rotted(folder: Path) -> None:
    """It ran, and the reload made it fail: that its folder is there is not that it runs."""
    rotten = write_package(folder / "models", version="1.1.0")
    (rotten / "package.sha256").write_text("0" * 64)
    running = config(folder, {"a": stream(version="1.0.0"), "b": stream(version="1.1.0")})
    wanted = config(folder, {
        "a": stream(version="1.1.0"), "b": stream(version="1.1.0"), "c": stream(version="1.1.0"),
    })  # fmt: skip
    models = models_of(running, Path(running.state_dir))
    (flaw,) = made_worse(running, wanted, models)
    assert dotted(flaw.key) == "streams.a.models.0.version"
    assert "is damaged" in flaw.message
    assert made_worse(wanted, running, models) == []


def test_a_file_in_place_of_a_folder_of_images_is_told(folder: Path) -> None:
    file = folder / "clip.avi"
    file.write_bytes(b"")
    wanted = config(folder, {"cart": stream({"kind": "images", "path": str(file)})})
    (flaw,) = unresolved(wanted, models_of(wanted, None))
    assert "Not a directory" in flaw.message


def test_a_file_address_is_looked_for_and_may_loop(folder: Path) -> None:
    source = {"kind": "video", "where": f"file://{folder}/no%20clip.avi", "loop": True}
    wanted = config(folder, {"cart": stream(source)})
    assert not [flaw for flaw in findings(wanted) if "live" in flaw.message]
    (flaw,) = unresolved(wanted, models_of(wanted, None))
    assert "No such file" in flaw.message
    (folder / "no clip.avi").write_bytes(b"")
    assert unresolved(wanted, models_of(wanted, None)) == []


def test_keys_of_the_road_that_will_not_do_are_told_with_the_way_out(folder: Path) -> None:
    pin, state = folder / "hot-tier.pub", folder / "state"
    state.mkdir()
    uplink = {"enabled": True, "seal": True, "sign": True, "hot_tier_keys": str(pin)}
    given = config(folder, {"a": stream()}, uplink=uplink)
    assert found(given, "error") == ["uplink.hot_tier_keys"]
    keys = PublicKeys((RoadSigner(Ed25519PrivateKey.generate()).public,), ())
    pin.write_bytes(write(keys, "tier"))
    (flaw,) = unresolved(given, models_of(given, state))
    assert "a key to seal" in flaw.message
    assert "hot-tier.pub" in flaw.hint
    seal = X25519PrivateKey.generate().public_key().public_bytes_raw()
    pin.write_bytes(write(keys._replace(seal=(seal,)), "tier"))
    assert found(given, "error") == []
    (state / "uplink.key").write_bytes(b"rot")
    (state / "uplink.key").chmod(0o600)
    (flaw,) = unresolved(given, models_of(given, state))
    assert dotted(flaw.key) == "uplink.sign"
    assert "restore it" in flaw.hint
