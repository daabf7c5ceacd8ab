"""Ultrasound regions of real files: what a model finds in them is measured in the right scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_agent.cli import probe
from edge_agent.cli.tables import Paint
from edge_agent.core import calibration
from edge_agent.core.frames import Frame
from edge_agent.inference.interpret import Findings, Interpreter
from tests.backends import graphs
from tests.sources import dicoms
from tests.sources.conftest import Opened
from tests.sources.hand import taken

BOXES = ((100, 100, 200, 150), (400, 100, 500, 150))


def region(x0: int, y0: int, x1: int, y1: int, cm: float, **more: Any) -> dict[str, Any]:
    return {
        "RegionLocationMinX0": x0,
        "RegionLocationMinY0": y0,
        "RegionLocationMaxX1": x1,
        "RegionLocationMaxY1": y1,
        "PhysicalDeltaX": cm,
        "PhysicalDeltaY": cm,
        **more,
    }


LEFT, RIGHT = region(0, 0, 299, 479, 0.05), region(300, 0, 639, 479, 0.02)
WHOLE, INSET = region(0, 0, 639, 479, 0.05), region(100, 100, 299, 299, 0.01)
FLOW = region(100, 100, 199, 199, 0.05, RegionDataType=2)
M_MODE = region(0, 240, 639, 479, 0.004, RegionSpatialFormat=2, PhysicalUnitsXDirection=4)


def frame_of(dicom: Opened, folder: Path, *regions: dict[str, Any], **settings: Any) -> Frame:
    path = dicoms.write(
        folder / "regions.dcm",
        dicoms.moving(1, (640, 480)),
        SequenceOfUltrasoundRegions=dicoms.regions(*regions),
    )
    source, _ = dicom(path, **settings)
    return taken(source, 1)[0]


def found(frame: Frame, wanted: str) -> Findings:
    """A model that finds whichever of BOXES lie in what it is given; wanted: input.region."""
    width, height = frame.size
    roi = (0, 0, width, height)
    if wanted == "auto" and frame.calibration.roi is not None:
        roi = frame.calibration.roi
    x, y, w, h = roi
    inside = [b for b in BOXES if b[0] >= x and b[1] >= y and b[2] <= x + w and b[3] <= y + h]
    rows = [[a - x, b - y, c - x, d - y, 0.9, 0] for a, b, c, d in inside]
    table = np.asarray(rows, np.float32).reshape(1, -1, 6)
    head = graphs.head("boxes", "b", "s", "c", keys="ab")
    manifest = graphs.manifest(head, input={"size": [w, h], "fit": "stretch", "region": wanted})
    reader = Interpreter(manifest, threshold=None, min_area_px=None, tracking=False, contours=False)
    return reader.interpret(
        {"b": table[:, :, :4], "s": table[:, :, 4], "c": table[:, :, 5]},
        frame_size=frame.size,
        roi=roi,
        calibration=frame.calibration,
        captured_us=0,
    )


def sizes(findings: Findings) -> dict[tuple[int, ...], tuple[float, ...]]:
    """Millimetres by box; () where there are none."""
    boxes = {one.id: tuple(map(int, one.box)) for one in findings.objects}
    return {
        box: tuple(m.value for m in findings.measures if m.object == number)
        for number, box in boxes.items()
    }


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ([LEFT, RIGHT], ((50.0, 25.0), (20.0, 10.0))),
        ([LEFT], ((50.0, 25.0), ())),
        ([region(0, 0, 299, 239, 0.05), M_MODE], ((50.0, 25.0), ())),
        ([LEFT, FLOW, RIGHT], ((50.0, 25.0), (20.0, 10.0))),
        ([WHOLE, INSET], ((), (50.0, 25.0))),
        ([RIGHT, INSET, LEFT], ((), (20.0, 10.0))),
        ([], ((), ())),
    ],
    ids=["two", "one", "m-mode", "flow", "nested", "three", "none"],
)
@pytest.mark.parametrize("wanted", ["frame", "auto"])
def test_what_is_found_is_measured_in_the_scale_of_where_it_lies(
    dicom: Opened,
    tmp_path: Path,
    regions: list[dict[str, Any]],
    expected: tuple[tuple[float, ...], ...],
    wanted: str,
) -> None:
    frame = frame_of(dicom, tmp_path, *regions)
    seen = sizes(found(frame, wanted))
    assert seen == {box: sides for box, sides in zip(BOXES, expected, strict=True) if box in seen}
    assert len(seen) == 2 if wanted == "frame" else seen


@pytest.mark.parametrize("wanted", ["frame", "auto"])
def test_a_configured_roi_over_two_scales_gives_each_object_its_own(
    dicom: Opened, tmp_path: Path, wanted: str
) -> None:
    frame = frame_of(dicom, tmp_path, LEFT, RIGHT, roi=(50, 50, 500, 300))
    assert frame.calibration.spacing_mm is None
    findings = found(frame, wanted)
    assert sizes(findings) == {BOXES[0]: (50.0, 25.0), BOXES[1]: (20.0, 10.0)}
    assert (findings.spacing_mm, findings.flags) == (None, ())
    frame = frame_of(dicom, tmp_path, LEFT, RIGHT, spacing_mm=(1.0, 2.0))
    assert sizes(found(frame, "frame")) == dict.fromkeys(BOXES, (100.0, 100.0))


def test_probe_lists_every_region_within_80_columns(dicom: Opened, tmp_path: Path) -> None:
    frame = frame_of(dicom, tmp_path, WHOLE, INSET, M_MODE)
    report = {"calibration": msgspec.to_builtins(frame.calibration), "state": "ok"}
    told = probe.lines("s", report, Paint(on=False))
    assert max(map(len, told)) <= 80
    text = "\n".join(told)
    assert "calibration    by region, judged per object: regions of other scales overlap" in text
    assert "region 2 of 3  2D tissue, 200 x 200 at 100, 100: 0.1 x 0.1 mm per px" in text
    assert "none where region 1, 3 overlaps" in text
    assert "region 3 of 3  M-mode tissue, 640 x 240 at 0, 240: no millimetres" in text


def test_more_regions_than_are_read_give_no_millimetre(dicom: Opened, tmp_path: Path) -> None:
    most = [LEFT] * calibration.MAX_REGIONS
    assert sizes(found(frame_of(dicom, tmp_path, *most), "frame"))[BOXES[0]] == (50.0, 25.0)
    frame = frame_of(dicom, tmp_path, *most, RIGHT)
    assert "more than 64" in frame.calibration.reason
    assert sizes(found(frame, "frame")) == dict.fromkeys(BOXES, ())
