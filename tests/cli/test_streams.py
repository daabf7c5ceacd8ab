"""Streams: list, probe, follow and the snapshot with its overlay."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_agent.cli import exits, fonts, overlay
from edge_agent.cli.main import main
from edge_agent.cli.snapshot import png
from edge_agent.core.frames import Label, Mask, Measure, Object, Result
from tests.cli.daemon import Server

JAPANESE, ARABIC = "ポリープ", "سليلة"

LIST = """\
stream      title             room  source                        fps  model             calibrated  state
ultrasound  Herz-Ultraschall  12    dicom sample:ultrasound      30.0  us-chamber@1.1.0  no          ok
endoscope   内視鏡 2          -     rtsp://tower:***@10.0.0.7/1   0.0  endo-polyp@1.0.0  no          no_signal
"""  # noqa: E501 - a screen, as it is printed

PROBE = """\
ultrasound  Herz-Ultraschall  12
  source           dicom sample:ultrasound
  state            ok
  rate             30.0 fps, 30.0 expected, 29.9 inferred
  size             800 x 600 px
  live             no: a recording
  calibration      none: region overruns the image
  reopened         0 times
  transfer syntax  JPEG baseline
"""


def result(**changes: Any) -> Result:
    ring = (80, 80, 400, 80, 400, 400, 80, 400)
    fields: dict[str, Any] = {
        "node": "cart-3",
        "stream": "endoscope",
        "frame": 41,
        "model": "endo-polyp",
        "version": "1.0.0",
        "size": (160, 120),
        "labels": (Label(head="view", label="arabic", score=0.7),),
        "objects": (
            Object(id=1, track=3, head="p", label="polyp", score=0.93, box=(20, 20, 70, 60)),
            Object(
                id=2,
                track=0,
                head="p",
                label="arabic",
                score=0.5,
                box=(10.0, 10.0, 50.0, 50.0),
                mask=Mask(area_px=1600, box=(10, 10, 50, 50), rings=(ring,)),
                keypoints=((30.0, 30.0, 0.9),),
            ),
            Object(
                id=3,
                track=0,
                head="p",
                label="b",
                score=0.5,
                box=(100.0, 90.0, 104.0, 92.0),
                mask=Mask(area_px=4, box=(100, 90, 104, 92), runs=(1, 2, 3, 2)),
            ),
        ),
        "measures": (Measure(name="l", value=9.5, unit="mm", points=(20.0, 20.0, 70.0, 60.0)),),
    }
    return Result(**{**fields, **changes})


def frame_body(number: int = 42, found: Result | None = None, age_ms: float = 17.0) -> bytes:
    pixels = np.full((120, 160, 3), 90, np.uint8)
    frame = {
        "w": 160,
        "h": 120,
        "channels": 3,
        "pixels": pixels.tobytes(),
        "number": number,
        "age_ms": age_ms,
    }
    return msgspec.msgpack.encode({"frame": frame, "result": found})


MODELS = {
    "schema": 1,
    "models": {
        "endo-polyp": {
            "labels": [
                {"head": "p", "key": "polyp", "name": JAPANESE, "colour": "#ff0000"},
                {"head": "p", "key": "arabic", "name": ARABIC, "colour": "nonsense"},
            ]
        }
    },
}


@pytest.mark.usefixtures("daemon")
def test_list_is_a_line_per_stream(control: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["streams", "list", "--socket", str(control)]) == exits.OK
    assert capsys.readouterr().out == LIST


def test_no_streams_is_nothing_to_do(daemon: Server, control: Path) -> None:
    daemon.answer("/v1/streams", {"schema": 1, "streams": {}})
    assert main(["streams", "list", "--socket", str(control)]) == exits.NOTHING_TO_DO


@pytest.mark.usefixtures("daemon")
def test_probe_says_why_there_is_no_calibration(
    control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["streams", "probe", "ultrasound", "--socket", str(control)]) == exits.OK
    assert capsys.readouterr().out == PROBE


@pytest.mark.usefixtures("daemon")
def test_probe_fails_where_nothing_comes(control: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb = ["streams", "probe", "endoscope", "--json", "--socket", str(control)]
    assert main(verb) == exits.CHECK_FAILED
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["stream"], said["state"]) == (1, "endoscope", "no_signal")


@pytest.mark.usefixtures("daemon")
def test_probe_of_an_unknown_stream_names_those_there_are(
    control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["streams", "probe", "nose", "--socket", str(control)]) == exits.ERROR
    assert "there are: ultrasound, endoscope" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../etc", "A", "a b", "a&x=1", ""])
def test_a_stream_name_that_is_none_is_wrong_usage(control: Path, name: str) -> None:
    assert main(["streams", "snapshot", name, "--socket", str(control)]) == exits.USAGE


def test_follow_prints_results_until_its_limit(
    daemon: Server, control: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = b'{"frame":7,"latency_us":8100,"model":"m","version":"1.0.0","objects":'
    first += (
        b'[{"label":"polyp","score":0.93}],"measures":[{"name":"l","value":9.5,"unit":"mm"}]}\n'
    )
    chunks = [first[:20], first[20:], b'\n{"blank":"frozen picture"}\n', b'{"frame":9}\n']
    daemon.answer("/v1/results?stream=endoscope", chunks)
    verb = ["streams", "follow", "endoscope", "--socket", str(control)]
    assert main([*verb, "--limit", "2"]) == exits.OK
    assert capsys.readouterr().out.splitlines() == [
        "frame 7  8.1 ms  m@1.0.0  polyp 0.93, l 9.50 mm",
        "blank  frozen picture",
    ]
    assert main([*verb, "--json"]) == exits.OK
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_snapshot_is_readable_by_its_owner_alone(
    daemon: Server, control: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer("/v1/frame?stream=ultrasound", frame_body(found=result()))
    daemon.answer("/v1/models", MODELS)
    path = tmp_path / "a.png"
    verb = ["streams", "snapshot", "ultrasound", "-o", str(path), "--socket", str(control)]
    assert main([*verb, "--json"]) == exits.OK
    said = json.loads(capsys.readouterr().out)
    assert (said["frame"], said["findings"], said["warning"]) == (42, 4, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Image.open(path) as image:
        assert image.size == (160, 120)
        assert image.getpixel((69, 40)) == (255, 0, 0)  # the box, in the colour of its label
    assert main(verb) == exits.ERROR
    assert "it exists" in capsys.readouterr().err
    path.chmod(0o644)
    assert main([*verb, "-f"]) == exits.OK
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_snapshot_has_a_name_of_its_own(
    daemon: Server, control: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answer("/v1/frame?stream=ultrasound", frame_body())
    monkeypatch.chdir(tmp_path)
    assert main(["streams", "snapshot", "ultrasound", "--socket", str(control)]) == exits.OK
    assert len(list(tmp_path.glob("ultrasound-*Z.png"))) == 1


def test_a_snapshot_says_when_its_results_may_not_be_shown(
    daemon: Server, control: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer("/v1/frame?stream=endoscope", frame_body(found=result()))
    daemon.answer("/v1/frame?stream=ultrasound", frame_body(found=result(), age_ms=9000.0))
    reasons = []
    for name in ("endoscope", "ultrasound"):
        out = str(tmp_path / name)
        verb = ["streams", "snapshot", name, "-o", out, "--json", "--socket", str(control)]
        assert main(verb) == exits.OK
        reasons.append(json.loads(capsys.readouterr().out)["warning"])
    assert reasons == ["NO RESULT: no frame for 2.0 s", "NO RESULT: the picture is 9 s old"]


@pytest.mark.parametrize("body", [b"", b"\xc0", frame_body()[:-30], msgspec.msgpack.encode({})])
def test_a_frame_that_is_none_is_an_error(
    daemon: Server, control: Path, tmp_path: Path, body: bytes
) -> None:
    daemon.answer("/v1/frame?stream=ultrasound", body)
    out = tmp_path / "a.png"
    verb = ["streams", "snapshot", "ultrasound", "-o", str(out), "--socket", str(control)]
    assert main(verb) == exits.ERROR
    assert not out.exists()


def test_a_result_of_another_picture_is_said_and_not_drawn() -> None:
    assert overlay.staleness(42, result()) == ""
    assert overlay.staleness(99, result()) == "STALE: result of frame 41, picture is 99"
    assert overlay.staleness(42, result(), "frozen picture") == "NO RESULT: frozen picture"
    assert overlay.staleness(42, None) == "NO RESULT"
    pixels = np.full((120, 160), 90, np.uint8)
    stale = overlay.draw(pixels, result(), names={}, colours={}, warning="STALE")
    without = overlay.draw(pixels, None, names={}, colours={}, warning="STALE")
    assert np.array_equal(stale, without)
    assert not np.array_equal(stale, overlay.draw(pixels, result(), names={}, colours={}))


@pytest.mark.parametrize("shape", [(120, 160), (120, 160, 3), (1, 1), (7, 900, 3), (900, 7)])
def test_the_overlay_fits_every_picture(shape: tuple[int, ...]) -> None:
    pixels = np.full(shape, 90, np.uint8)
    names = {"polyp": JAPANESE, "arabic": ARABIC, "b": "x" * 500}
    drawn = overlay.draw(pixels, result(), names=names, colours={})
    assert drawn.shape == (*shape[:2], 3)
    assert (pixels == 90).all()
    assert png(drawn).startswith(b"\x89PNG")


def test_runs_fill_exactly_their_pixels() -> None:
    pixels = np.zeros((200, 200), np.uint8)
    only = result().objects[2]
    drawn = overlay.draw(
        pixels, result(objects=(only,), labels=(), measures=()), names={}, colours={}
    )
    filled = drawn[90:92, 100:104].any(axis=2)
    assert filled.tolist() == [[False, True, True, False], [False, False, True, True]]


def test_a_font_is_taken_only_when_it_has_every_glyph() -> None:
    for text in (JAPANESE, ARABIC, "Ж polyp"):
        font = fonts.font_for(text, 20)
        assert font is None or all(bytes(font.getmask(char)) for char in text if char != " ")
    assert fonts.font_for("\U0010ffff", 20) is None
    assert fonts.readable("a\u30ddb\n") == "a?b?"
    assert fonts.plain_font(12).getbbox("NOT FOR DIAGNOSIS")[2] > 0


def test_the_picture_goes_into_the_file_as_it_is() -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(png(pixels))) as image:
        assert np.array_equal(np.asarray(image)[..., ::-1], pixels)
        assert not image.info
