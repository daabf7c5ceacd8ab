"""Bad input beside a good stream: the daemon stays up, the good one is not disturbed, the words
tell what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from edge_agent.app import running
from edge_agent.core.frames import Alarm, Record, Result
from tests.agents.living import config_of, inferred, is_balanced, stream, sums, until, words_of
from tests.tiny import write_package

pytestmark = pytest.mark.anyio

SAMPLE = Path(str(pydicom.data.get_testdata_file("examples_ybr_color.dcm")))
MANY = 20


def text_file(path: Path) -> None:
    path.write_text("this is no DICOM file\n" * 20)


def truncated(path: Path) -> None:
    path.write_bytes(SAMPLE.read_bytes()[:9000])


def sixteen_bits(path: Path) -> None:
    """A clip of 12 stored bits that moves: shown by its own range, not refused."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    clip = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    clip.SOPClassUID, clip.SOPInstanceUID = CTImageStorage, "1.2.3"
    clip.Rows, clip.Columns, clip.NumberOfFrames = 48, 64, 4
    clip.SamplesPerPixel, clip.PhotometricInterpretation = 1, "MONOCHROME2"
    clip.BitsAllocated, clip.BitsStored, clip.HighBit, clip.PixelRepresentation = 16, 12, 11, 0
    clip.PixelData = np.arange(4 * 48 * 64, dtype=np.uint16).reshape(4, 48, 64).tobytes()
    clip.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    ("make", "what"),
    [(text_file, "DICOM"), (truncated, "")],
    ids=["text", "truncated"],
)
async def test_a_bad_dicom_file_fails_alone(
    tmp_path: Path, make: Callable[[Path], None], what: str
) -> None:
    bad = tmp_path / "bad.dcm"
    make(bad)
    source = {"kind": "dicom", "path": str(bad)}
    config = config_of(tmp_path, {"good": stream(), "bad": {**stream(), "source": source}})
    async with running(config) as agent:
        await until(
            lambda: sums(agent, "bad")["state"] not in ("starting", "ok"), "the bad one fails"
        )
        await until(lambda: inferred(agent, "good") > MANY, "the good one runs")
        assert "bad: " in words_of(agent)
        assert what in words_of(agent)
        assert sums(agent, "good")["state"] == "ok"
        assert " -> \n" not in words_of(agent) + "\n", "each problem says what to do"
    assert sums(agent, "good")["dropped"]["error"] == 0
    assert is_balanced(sums(agent, "good"))


async def test_a_clip_of_sixteen_bits_is_shown_by_its_own_range(tmp_path: Path) -> None:
    clip = tmp_path / "deep.dcm"
    sixteen_bits(clip)
    source = {"kind": "dicom", "path": str(clip), "loop": True}
    async with running(config_of(tmp_path, {"deep": {**stream(), "source": source}})) as agent:
        await until(lambda: inferred(agent, "deep") > MANY, "results")
        assert sums(agent, "deep")["dropped"]["error"] == 0


async def test_pydicoms_clip_comes_out_whole_and_without_millimetres(tmp_path: Path) -> None:
    source = {"kind": "dicom", "path": "sample:ultrasound", "loop": True}
    seen: list[Record] = []
    config = config_of(tmp_path, {"clip": {**stream(), "source": source}})
    async with running(config, on_record=seen.append) as agent:
        await until(lambda: inferred(agent, "clip") > MANY, "results")
        assert "outside its image" in sums(agent, "clip")["calibration"]["reason"]
    results = [record for record in seen if isinstance(record, Result)]
    for result in results:
        assert result.spacing_mm is None
        assert "uncalibrated" in result.flags
        assert result.roi == (0, 0, 320, 240)
        assert not {"mm", "mm2"} & {measure.unit for measure in result.measures}


@pytest.mark.parametrize(
    ("fault", "what"),
    [("wrong-input", "manifest says"), ("corrupt", "model.onnx"), ("missing", "no-such-model")],
)
async def test_a_model_that_cannot_be_loaded_fails_its_stream_alone(
    tmp_path: Path, fault: str, what: str
) -> None:
    model = {"name": "no-such-model", "version": "1.0.0"}
    if fault != "missing":
        model["name"] = "odd"
        write_package(tmp_path / "models", name="odd", fault=fault)
    async with running(
        config_of(tmp_path, {"good": stream(), "bad": stream(model=model)})
    ) as agent:
        await until(lambda: sums(agent, "bad")["state"] == "failed", "the stream fails")
        await until(lambda: inferred(agent, "good") > MANY, "the good one runs")
        assert what in words_of(agent)
        assert sums(agent, "bad")["captured"] == 0
        assert sums(agent, "bad")["reason"]
    assert is_balanced(sums(agent, "good"))


async def test_a_model_that_says_nan_costs_its_frames_and_no_others(tmp_path: Path) -> None:
    write_package(tmp_path / "models", name="odd", fault="nan")
    seen: list[Record] = []
    odd = stream(model={"name": "odd", "version": "1.0.0"})
    config = config_of(tmp_path, {"good": stream(), "bad": odd})
    async with running(config, on_record=seen.append) as agent:
        await until(lambda: sums(agent, "bad")["dropped"]["error"] > MANY, "errors are counted")
        await until(lambda: inferred(agent, "good") > MANY, "the good one runs")
        assert "finite" in words_of(agent)
    assert not [r for r in seen if isinstance(r, Result) and r.stream == "bad"]
    for name in ("good", "bad"):
        assert is_balanced(sums(agent, name)), name
    assert sums(agent, "good")["dropped"]["error"] == 0


def alarms(seen: list[Record]) -> list[tuple[str, str, str]]:
    return [(a.stream, a.code, a.state) for a in seen if isinstance(a, Alarm)]


@pytest.mark.parametrize(
    ("fault", "state", "code"),
    [
        ("freeze", "frozen", "frozen"),
        ("black", "black", "black"),
        ("vanish", "reopening", "source-lost"),
    ],
)
async def test_a_source_that_fails_is_told_and_comes_back(
    tmp_path: Path, fault: str, state: str, code: str
) -> None:
    seen: list[Record] = []
    source = {"fault": fault, "fault_after_frames": 15, "fault_frames": 45, "reopen_max_s": 0.5}
    config = config_of(tmp_path, {"good": stream(), "bad": stream(source)})
    async with running(config, on_record=seen.append) as agent:
        await until(lambda: sums(agent, "bad")["state"] == state, f"state {state}")
        assert sums(agent, "bad")["reason"]
        before = inferred(agent, "good")
        await until(lambda: ("bad", code, "cleared") in alarms(seen), "it comes back")
        await until(lambda: sums(agent, "bad")["state"] == "ok", "it is well again")
        assert inferred(agent, "good") > before
        assert ("bad", code, "raised") in alarms(seen)
        if fault == "vanish":
            assert sums(agent, "bad")["reopened"] >= 1
    assert not [a for a in alarms(seen) if a[0] == "good"]
    for name in ("good", "bad"):
        assert is_balanced(sums(agent, name)), name


async def test_nothing_is_shown_while_the_picture_stands_still(tmp_path: Path) -> None:
    source = {"fault": "freeze", "fault_after_frames": 15, "fault_frames": 60}
    lines: list[bytes] = []
    async with running(config_of(tmp_path, {"bad": stream(source)})) as agent:
        with agent.pipeline.follow("bad") as follower:
            async for line in follower:
                lines.append(line)
                if b'"blank":"frozen' in line:
                    break
            state: dict[str, Any] = sums(agent, "bad")
            await follower.__anext__()
            state = sums(agent, "bad")
    assert any(b'"kind":"result"' in line for line in lines)
    assert state["state"] != "frozen", "the next line came only after the picture moved again"
