from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent import backends
from edge_agent.core.errors import BadFrame
from edge_agent.core.frames import Calibration, Object, Result, ScaleRegion, pack, unpack
from edge_agent.core.manifest import Manifest
from edge_agent.inference.interpret import BUDGET_BYTES, Findings, Interpreter
from edge_agent.stores.models import Models
from tests import tiny
from tests.backends import graphs

Outputs = Mapping[str, NDArray[Any]]
SIDE = 64
FRAME = (640, 480)


def model(*heads: dict[str, Any], fit: str = "stretch", side: int = SIDE) -> Manifest:
    return graphs.manifest(*heads, input={"size": [side, side], "fit": fit})


def interpreter(manifest: Manifest, **more: Any) -> Interpreter:
    options = {"threshold": None, "min_area_px": None, "tracking": True, "contours": True} | more
    return Interpreter(manifest, **options)


def look(
    manifest: Manifest,
    outputs: Outputs,
    *,
    roi: tuple[int, int, int, int] = (0, 0, *FRAME),
    spacing_mm: tuple[float, float] | None = None,
    calibration: Calibration | None = None,
    **more: Any,
) -> Findings:
    return interpreter(manifest, **more).interpret(
        outputs,
        frame_size=FRAME,
        roi=roi,
        calibration=calibration or Calibration(spacing_mm=spacing_mm),
        captured_us=0,
    )


def squares(*boxes: tuple[int, int, int, int], side: int = SIDE) -> Outputs:
    """Logits of 2 (p = 0.8808) inside the boxes, of -4 elsewhere."""
    logits = np.full((1, 1, side, side), -4, np.float32)
    for x0, y0, x1, y1 in boxes:
        logits[0, 0, y0:y1, x0:x1] = 2
    return {"y": logits}


def mask_head(**more: Any) -> dict[str, Any]:
    return graphs.head("mask_sigmoid", "y", task="segmentation", **more)


def test_a_mask_becomes_an_object_in_the_whole_frame() -> None:
    findings = look(model(mask_head()), squares((8, 16, 24, 32)), roi=(100, 80, 320, 320))
    (found,) = findings.objects
    assert (found.id, found.track, found.head, found.label) == (1, 0, "h", "a")
    assert found.score == 0.8808
    assert found.box == (140.0, 160.0, 220.0, 240.0)
    assert found.mask is not None
    assert found.mask.box == (140, 160, 220, 240)
    assert found.mask.area_px == 6400
    assert found.mask.exact
    corners = np.reshape(found.mask.rings[0], (-1, 2)) / 8
    assert sorted(corners.tolist()) == [[140, 160], [140, 240], [220, 160], [220, 240]]


def test_measures_are_in_millimetres_only_with_spacing() -> None:
    outputs = squares((8, 16, 24, 32))
    roi = (100, 80, 320, 320)
    plain = look(model(mask_head()), outputs, roi=roi).measures
    assert [(m.name, m.value, m.unit) for m in plain[:2]] == [
        ("area", 6400.0, "px2"),
        ("equivalent_diameter", 90.27, "px"),
    ]
    scaled = look(model(mask_head()), outputs, roi=roi, spacing_mm=(0.5, 0.5)).measures
    assert [(m.name, m.value, m.unit) for m in scaled[:2]] == [
        ("area", 1600.0, "mm2"),
        ("equivalent_diameter", 45.14, "mm"),
    ]
    assert {m.object for m in plain + scaled} == {1}


def test_small_areas_are_dropped_by_their_size_in_the_frame() -> None:
    outputs = squares((0, 0, 2, 2), (8, 8, 12, 12))  # 4 and 16 mask px, 75 frame px each
    assert len(look(model(mask_head(min_area_px=299)), outputs).objects) == 2
    assert len(look(model(mask_head(min_area_px=301)), outputs).objects) == 1
    assert len(look(model(mask_head(min_area_px=301)), outputs, min_area_px=0).objects) == 2


def test_nothing_found_is_empty_and_not_missing() -> None:
    assert look(model(mask_head()), squares()) == Findings()


def test_a_threshold_of_the_stream_overrides_that_of_the_heads() -> None:
    outputs = squares((8, 16, 24, 32))
    assert look(model(mask_head(threshold=0.9)), outputs).objects == ()
    assert len(look(model(mask_head(threshold=0.9)), outputs, threshold=0.5).objects) == 1


def test_without_contours_area_and_measures_stay() -> None:
    outputs = squares((8, 16, 24, 32))
    drawn, bare = (look(model(mask_head()), outputs, contours=on) for on in (True, False))
    assert bare.measures == drawn.measures
    (found,) = bare.objects
    assert found.mask is not None
    assert found.mask.rings == ()
    assert found.mask.area_px == 19200


def boxes(*rows: tuple[float, ...]) -> Outputs:
    table = np.asarray([rows], np.float32).reshape(1, -1, 6)
    return {"b": table[:, :, :4], "s": table[:, :, 4], "c": table[:, :, 5]}


def box_head(**more: Any) -> dict[str, Any]:
    return graphs.head("boxes", "b", "s", "c", **{"keys": "ab"} | more)


def test_boxes_leave_the_letterbox() -> None:
    manifest = model(box_head(), fit="letterbox")
    found = look(manifest, boxes((8, 16, 16, 24, 0.91234, 1))).objects
    assert [(o.label, o.score, o.box) for o in found] == [("b", 0.9123, (80, 80, 160, 160))]


def test_boxes_are_measured_only_with_spacing() -> None:
    outputs = boxes((8, 16, 16, 24, 0.9, 0))
    assert look(model(box_head()), outputs).measures == ()
    measures = look(model(box_head()), outputs, spacing_mm=(0.1, 0.1)).measures
    assert [(m.name, m.value, m.unit) for m in measures] == [
        ("width", 8.0, "mm"),
        ("height", 6.0, "mm"),
    ]


def test_a_box_outside_of_what_was_seen_is_no_finding() -> None:
    manifest = model(box_head(), fit="letterbox")
    assert look(manifest, boxes((0, 0, 64, 8, 0.9, 0))).objects == ()


def test_heads_stand_side_by_side_best_object_first() -> None:
    heads = [
        mask_head(name="chambers"),
        box_head(name="tools"),
        graphs.head("probs", "p", name="view", keys="xyz"),
    ]
    outputs = {
        **squares((8, 8, 24, 24)),
        **boxes((0, 0, 9, 9, 0.95, 0), (30, 30, 39, 39, 0.6, 1)),
        "p": np.asarray([[0.1, 0.7, 0.5]], np.float32),
    }
    findings = look(model(*heads), outputs)
    assert [(o.id, o.head) for o in findings.objects] == [
        (1, "tools"),
        (2, "chambers"),
        (3, "tools"),
    ]
    assert [(f.head, f.label, f.score) for f in findings.labels] == [
        ("view", "y", 0.7),
        ("view", "z", 0.5),
    ]
    assert {m.object for m in findings.measures} == {2}


def test_keypoints_are_one_object_with_a_point_per_label() -> None:
    maps = np.zeros((1, 2, 16, 16), np.float32)
    maps[0, 0, 4, 8], maps[0, 1, 12, 2] = 0.9, 0.7
    manifest = model(graphs.head("heatmaps", "y", task="keypoints", keys="ab"))
    (found,) = look(manifest, {"y": maps}).objects
    assert found.keypoints == ((340.0, 135.0, 0.9), (100.0, 375.0, 0.7))
    assert found.box == (100.0, 135.0, 340.0, 375.0)
    assert (found.label, found.score) == ("h", 0.8)
    assert look(manifest, {"y": maps}, threshold=0.81).objects == ()


def test_objects_get_tracks_and_a_reset_never_reuses_them() -> None:
    manifest, outputs = model(mask_head()), squares((8, 16, 24, 32))
    reader = interpreter(manifest)
    tracks = []
    for number in range(5):
        if number == 3:
            reader.reset()
        found = reader.interpret(
            outputs,
            frame_size=FRAME,
            roi=(0, 0, *FRAME),
            calibration=Calibration(),
            captured_us=number * 33_333,
        )
        tracks.append(found.objects[0].track)
    assert tracks == [0, 1, 1, 0, 2]


def test_tracking_can_be_off() -> None:
    reader = interpreter(model(mask_head()), tracking=False)
    for _ in range(3):
        found = reader.interpret(
            squares((8, 8, 24, 24)),
            frame_size=FRAME,
            roi=(0, 0, *FRAME),
            calibration=Calibration(),
            captured_us=0,
        )
    assert found.objects[0].track == 0


def test_settings_change_with_everything_that_changes_findings() -> None:
    manifest = model(mask_head())
    base = interpreter(manifest).settings
    assert len(base) == 8
    assert base == interpreter(manifest, threshold=0.5).settings == f"{int(base, 16):08x}"
    others = [
        interpreter(manifest, threshold=0.6).settings,
        interpreter(manifest, min_area_px=9).settings,
        interpreter(manifest, tracking=False).settings,
        interpreter(manifest, contours=False).settings,
    ]
    assert len({base, *others}) == 5


def test_non_finite_outputs_drop_the_frame() -> None:
    outputs = {"y": np.full((1, 1, SIDE, SIDE), np.nan, np.float32)}
    with pytest.raises(BadFrame, match="output y: expected finite numbers, got 4096 of 4096"):
        look(model(mask_head()), outputs)


def size(findings: Findings) -> int:
    return len(msgspec.msgpack.encode(findings))


def ragged(seed: int, side: int = 256) -> Outputs:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 6, (1, 1, side // 4, side // 4))
    return {"y": coarse.repeat(4, 2).repeat(4, 3).astype(np.float32)}


@pytest.mark.parametrize("seed", range(3))
def test_a_ragged_picture_still_fits_into_a_record(seed: int) -> None:
    findings = look(model(mask_head(), side=256), ragged(seed))
    assert size(findings) <= BUDGET_BYTES
    assert findings.flags == ("truncated",)
    assert len(findings.objects) > 10
    assert len(pack(Result(node="n" * 63, stream="s" * 63, **findings_of(findings)))) <= 16 << 10


def findings_of(findings: Findings) -> dict[str, Any]:
    return {name: getattr(findings, name) for name in findings.__struct_fields__}


def test_contours_of_the_smallest_go_first() -> None:
    findings = look(model(mask_head(), side=256), ragged(1), min_area_px=0)

    def area(found: Object) -> int:
        (measure,) = [m for m in findings.measures if (m.object, m.name) == (found.id, "area")]
        return int(measure.value)

    kept = [found.mask.area_px for found in findings.objects if found.mask is not None]
    measured = {m.object for m in findings.measures}
    lost = [area(o) for o in findings.objects if o.mask is None and o.id in measured]
    assert not (lost and kept) or max(lost) <= min(kept) * 1.01 + 1


def test_a_hundred_objects_are_the_bound() -> None:
    rows = [(x * 5, y * 5, x * 5 + 4, y * 5 + 4, 0.9, 0) for x in range(12) for y in range(12)]
    findings = look(model(box_head()), boxes(*rows), spacing_mm=(1.0, 1.0))
    assert len(findings.objects) <= 100
    assert len(findings.measures) <= 64
    assert findings.flags == ("truncated",)
    assert size(findings) <= BUDGET_BYTES


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    fit=st.sampled_from(["stretch", "letterbox", "crop"]),
    roi=st.tuples(
        st.integers(0, 300), st.integers(0, 200), st.integers(8, 340), st.integers(8, 280)
    ),
    spacing=st.sampled_from([None, (0.3, 0.2)]),
)
def test_any_outputs_give_a_record_that_comes_back_the_same(
    seed: int, fit: str, roi: tuple[int, int, int, int], spacing: tuple[float, float] | None
) -> None:
    rng = np.random.default_rng(seed)
    rows = np.concatenate(
        [rng.uniform(-20, 90, (40, 4)), rng.random((40, 1)), rng.integers(0, 3, (40, 1))], axis=1
    )
    outputs = {**boxes(*map(tuple, rows)), "y": rng.normal(0, 2, (1, 1, 32, 32))}
    heads = [mask_head(name="m"), box_head(name="b")]
    findings = look(model(*heads, fit=fit), outputs, roi=roi, spacing_mm=spacing)
    record = Result(node="n", stream="s", **findings_of(findings))
    assert unpack(pack(record)) == record
    assert len(pack(record)) <= 16 << 10
    for found in findings.objects:
        x0, y0, x1, y1 = found.box
        assert roi[0] - 0.1 <= x0 < x1 <= roi[0] + roi[2] + 0.1
        assert roi[1] - 0.1 <= y0 < y1 <= roi[1] + roi[3] + 0.1
        assert round(x0, 1) == x0


def test_a_dark_disc_is_found_through_the_real_backend(tmp_path: Path) -> None:
    """The whole way: frame, resize, ONNX Runtime, mask, ring, measure."""
    folder = tiny.write_package(tmp_path)
    manifest = Models([tmp_path], shipped=False).manifest(folder)
    ys, xs = np.mgrid[:480, :640] + 0.5
    dark = (xs - 300) ** 2 + (ys - 200) ** 2 < 80**2
    bound = backends.make("auto").load(folder, manifest).bind()
    bound.fill(graphs.frame(np.where(dark, 10, 200).astype(np.uint8)), (0, 0, *FRAME))
    findings = look(manifest, bound.run(), spacing_mm=(0.1, 0.1))
    (found,) = findings.objects
    assert found.box == pytest.approx((220, 120, 380, 280), abs=11)
    diameter = next(m for m in findings.measures if m.name == "equivalent_diameter")
    assert diameter.value == pytest.approx(16, rel=0.04)
    assert diameter.unit == "mm"


def test_an_object_on_another_scale_or_on_two_gets_no_wrong_millimetre() -> None:
    """Found with two 2D regions in one picture: the scale of the larger was told in both."""
    halves = (
        ScaleRegion(area=(0, 0, 320, 480), spacing_mm=(0.5, 0.5)),
        ScaleRegion(area=(320, 0, 320, 480), spacing_mm=(0.2, 0.2)),
    )
    two = Calibration(roi=(320, 0, 320, 480), regions=halves, reason="each object by itself")
    in_left, in_right, across = (8, 16, 16, 24), (40, 16, 48, 24), (30, 40, 34, 48)
    both = look(
        model(box_head()),
        boxes((*in_left, 0.9, 0), (*in_right, 0.8, 0), (*across, 0.7, 0)),
        calibration=two,
    )
    widths = {m.object: m.value for m in both.measures if m.name == "width"}
    assert widths == {1: 40.0, 2: 16.0}
    assert both.spacing_mm is None
    assert both.flags == ("unscaled",)
    alone = look(model(box_head()), boxes((*in_right, 0.8, 0)), calibration=two)
    assert (alone.spacing_mm, alone.flags) == ((0.2, 0.2), ())
    nothing = look(model(box_head()), boxes(), calibration=two)
    assert nothing.spacing_mm is None
    cropped = look(model(box_head()), boxes(), calibration=two, roi=(320, 0, 320, 480))
    assert cropped.spacing_mm == (0.2, 0.2)
    areas = look(model(mask_head()), squares(in_left, across), calibration=two).measures
    assert [m.unit for m in areas if m.name == "area"] == ["mm2", "px2"]
