"""Labelled frames: figures that are right by hand, and files that are not what they should be."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_agent.core.errors import Rejected
from edge_agent.core.frames import Object
from edge_agent.core.manifest import HeadSpec, LabelSpec
from edge_agent.stores.models import Models
from tests.packing import foreign
from tests.packing.desk import Desk
from tests.packing.finder import box_finder, draw, wanted
from tests.packing.foreign import Net, above
from tools.hot_tier.packing.scoring import Score, refuse_below
from tools.hot_tier.packing.truth import Box, boxes_of, classes_of, mask_of

SIZE = (320, 200)
BOXES = [(60, 40, 200, 120), (20, 20, 100, 80), (120, 60, 260, 180)]
HEAD = HeadSpec(
    name="spot",
    task="detection",
    decoder="boxes",
    outputs=("b", "s", "c"),
    labels=(LabelSpec(id=0, key="bright"), LabelSpec(id=2, key="dull")),
)


def line(box: tuple[float, ...], label: int = 0) -> str:
    """As YOLO writes it."""
    x0, y0, x1, y1 = (edge / side for edge, side in zip(box, SIZE * 2, strict=True))
    return f"{label} {(x0 + x1) / 2:.6f} {(y0 + y1) / 2:.6f} {x1 - x0:.6f} {y1 - y0:.6f}\n"


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """Three frames with a box, one with nothing, one without labels."""
    frames = tmp_path / "seen"
    frames.mkdir()
    for index, box in enumerate([*BOXES, None, BOXES[0]]):
        draw(frames / f"f{index}.png", SIZE, box)
    return frames


def label(folder: Path, **lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in lines.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_boxes_are_scored_and_the_package_keeps_the_figures(
    desk: Desk, seen: Path, tmp_path: Path
) -> None:
    """Of 4 labelled frames: two right, one labelled elsewhere and so both wrong and missed."""
    labels = label(
        tmp_path / "labels", f0=line(BOXES[0]), f1=line(BOXES[1]), f2=line((10, 10, 50, 50)), f3=""
    )
    packed = desk.pack(box_finder(), wanted(), frames=seen, labels=labels, folder=tmp_path / "made")
    assert packed.figures["spot/bright/precision"] == pytest.approx(2 / 3, abs=1e-4)
    assert packed.figures["spot/bright/recall"] == pytest.approx(2 / 3, abs=1e-4)
    assert packed.figures["spot/bright/iou"] > 0.95
    assert packed.figures["spot/scored_frames"] == 4
    assert "head spot: 1 of 5 frames have no labels" in " ".join(packed.warnings)
    store = Models([tmp_path / "made"], shipped=False)
    kept = store.manifest(store.resolve("finder", "")).provenance.metrics
    assert kept == packed.figures


def test_labels_beside_the_frames_as_yolo_keeps_them(desk: Desk, seen: Path) -> None:
    label(seen, **{f"f{index}": line(box) for index, box in enumerate(BOXES)})
    packed = desk.pack(box_finder(), wanted(), frames=seen, labels=seen)
    assert packed.figures["spot/bright/recall"] == 1.0


def test_a_model_below_what_is_asked_is_refused_with_the_figure(
    desk: Desk, seen: Path, tmp_path: Path
) -> None:
    labels = label(tmp_path / "labels", f0=line(BOXES[0]), f1=line((10, 10, 30, 30)))
    more: dict[str, Any] = {"frames": seen, "labels": labels, "picture": tmp_path / "sheet.png"}
    said = desk.refuse(box_finder(), wanted(), least={"recall": 0.9}, **more)
    assert "spot/bright/recall 0.5, expected at least 0.9" in said.what
    assert (tmp_path / "sheet.png").exists(), "to see why"
    said = desk.refuse(box_finder(), wanted(), least={"dice": 0.5}, **more)
    assert "no head of this model has that figure" in said.what
    assert desk.pack(box_finder(), wanted(), least={"recall": 0.5}, **more).figures


def test_a_label_that_no_frame_shows_is_no_success() -> None:
    score = Score(HEAD)
    score.boxes([], [], (0, 0, *SIZE))
    with pytest.raises(Rejected, match="spot/dull/recall: nothing labelled to measure it"):
        refuse_below(score.figures(), {"recall": 0.1}, [HEAD])


def test_each_box_is_matched_once_and_only_inside_the_region() -> None:
    score = Score(HEAD)
    box = (10.0, 10.0, 50.0, 50.0)
    found = [
        Object(id=index, track=0, head="spot", label=key, score=sure, box=box)
        for index, (key, sure) in enumerate([("bright", 0.9), ("bright", 0.8), ("dull", 0.7)])
    ]
    truth = [Box(0, box), Box(0, (200.0, 100.0, 240.0, 140.0))]
    assert score.boxes(found, truth, (0, 0, 100, 100)) == pytest.approx(1 - 2 / 4)
    figures = score.figures()
    assert figures["spot/bright/precision"] == 0.5
    assert figures["spot/bright/recall"] == 1.0, "the other box lies outside of the region"
    assert figures["spot/dull/precision"] == 0.0
    assert "spot/dull/recall" not in figures


def test_labels_of_frames_that_are_not_looked_at_are_no_mistake_and_strangers_are_told(
    desk: Desk, seen: Path, tmp_path: Path
) -> None:
    labels = label(tmp_path / "labels", f0=line(BOXES[0]), f4=line(BOXES[0]), other=line(BOXES[1]))
    packed = desk.pack(box_finder(), wanted(), frames=seen, labels=labels, most_frames=2)
    assert packed.figures["spot/scored_frames"] == 1
    assert "1 files of labels belong to no frame" in packed.warnings


def test_labels_of_one_key_count_together() -> None:
    both = (LabelSpec(id=1, key="a"), LabelSpec(id=2, key="a"))
    head = HeadSpec(name="m", task="segmentation", decoder="mask_argmax", outputs=("y",),
                    labels=both)  # fmt: skip
    score = Score(head)
    truth = np.array([[1, 2, -1, -2]], np.int32)
    score.masks({"a": np.array([[True, True, True, True]])}, truth, (0, 0, 4, 1))
    assert score.figures()["m/a/recall"] == 1.0
    assert score.figures()["m/a/precision"] == pytest.approx(2 / 3, abs=1e-4)


def test_masks_are_scored_pixel_for_pixel(desk: Desk, seen: Path, tmp_path: Path) -> None:
    """Against the same comparison written here, on the frame's own pixels."""
    net = Net()
    mean = net.add("ReduceMean", "x", axes=[1], keepdims=1)
    net.add("Mul", net.add("Sub", mean, net.const(0.5)), net.const(20.0), out="y")
    size: list[int | str | None] = [1, 1, SIZE[1], SIZE[0]]
    model = net.model([("x", 1, [1, 3, *size[2:]])], [("y", 1, size)])
    manifest = above("area") + '[foreign]\nscale = "1/255"\n' + foreign.head(
        "mask_sigmoid", "y", labels=foreign.ONE_LABEL
    )  # fmt: skip
    labels = tmp_path / "masks"
    labels.mkdir()
    both = union = 0
    for index, box in enumerate(BOXES):
        truth = np.zeros(SIZE[::-1], np.uint8)
        truth[box[1] : box[3], box[0] : box[2] - 20] = 255
        cv2.imwrite(str(labels / f"f{index}.png"), truth)
        found = np.zeros(SIZE[::-1], np.bool_)
        found[box[1] : box[3], box[0] : box[2]] = True
        both += int((found & (truth > 0)).sum())
        union += int((found | (truth > 0)).sum())
    said = desk.refuse(model, manifest, frames=labels, labels=labels)
    assert "masks lie in the folder of the frames" in said.what
    packed = desk.pack(model, manifest, frames=seen, labels=labels)
    assert packed.figures["h/k0/iou"] == pytest.approx(both / union, abs=1e-4)
    assert packed.figures["h/k0/dice"] == pytest.approx(2 * both / (both + union), abs=1e-4)
    assert packed.figures["h/k0/recall"] == 1.0


def test_classes_are_scored(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    rows = "file,label\nframe0.png,k0\nframe1.png,k1\nframe2.png,k2\n"
    (tmp_path / "labels" / "labels.csv").write_text(rows)
    net = Net(3)
    mean = net.add("ReduceMean", net.conv("x", 3, 3, stride=8), axes=[2, 3], keepdims=0)
    net.add("Softmax", net.add("Mul", mean, net.const(30.0)), out="y", axis=1)
    model = net.model([("x", 1, [1, 3, 64, 96])], [("y", 1, [1, 3])])
    manifest = above("phase") + '[foreign]\nscale = "1/255"\n' + foreign.head("probs", "y")
    packed = desk.pack(model, manifest.replace("0.5", "0.0"), labels=tmp_path / "labels")
    assert packed.figures["h/scored_frames"] == 3
    assert packed.figures["h/accuracy"] == pytest.approx(1 / 3, abs=1e-4), "one class for all"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 0.5 0.5 0.1\n", "line 1: expected class cx cy w h, got 4 words"),
        ("\n0 0.5 0.5 0.1 0.1 0.9\n", "line 2: .*are these polygons, or predictions"),
        ("0 320 100 40 40\n", "line 1: expected a box inside the frame"),
        ("0 0.5 0.5 nan 0.1\n", "line 1: expected numbers"),
        ("0 0.5 0.5 inf 0.1\n", "line 1: expected numbers"),
        ("0 0.5 0.5 -0.1 0.1\n", "line 1: expected a box inside"),
        ("1 0.5 0.5 0.1 0.1\n", "class 1 is no label of spot: 0 bright, 2 dull"),
        ("-1 0.5 0.5 0.1 0.1\n", "line 1: expected numbers"),
        ("0 1_0 0.5 0.1 0.1\n", "line 1: expected numbers"),
        ("polyp 0.5 0.5 0.1 0.1\n", "line 1: expected numbers, got 'polyp"),
        ("0 0.5 0.5 0.1 0.1\n" * 2001, "line 2001: expected at most 2000 boxes"),
        (b"\xff\xfe0 0", "expected text, got other bytes"),
    ],
)
def test_lines_that_are_none_are_refused_with_their_number(text: Any, why: str) -> None:
    stored = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(Rejected, match=why) as refused:
        boxes_of("f0.txt", stored, HEAD, SIZE)
    assert refused.value.hint


def test_what_exporters_write_is_read() -> None:
    text = b"\xef\xbb\xbf0.0 0.5 0.5 1.0 5e-1\r\n\r\n2 .25 0.25 0.5 0.5\r\n"
    assert boxes_of("f.txt", text, HEAD, (100, 100)) == [
        Box(0, (0.0, 25.0, 100.0, 75.0)), Box(2, (0.0, 0.0, 50.0, 50.0)),
    ]  # fmt: skip


def png(pixels: Any, mode: str | None = None) -> bytes:
    into = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels))
    (image.convert(mode) if mode else image).save(into, "PNG")
    return into.getvalue()


def test_levels_of_a_mask_are_labels() -> None:
    shown = png(np.array([[0, 1], [3, 255]], np.uint8))
    assert mask_of("m.png", shown, HEAD, (2, 2)).tolist() == [[-1, 0], [2, -2]]
    one = HeadSpec(name="a", task="segmentation", decoder="mask_sigmoid", outputs=("y",),
                   labels=(LabelSpec(id=4, key="a"),))  # fmt: skip
    level = png(np.array([[0, 255], [255, 0]], np.uint8))
    assert mask_of("m.png", level, one, (2, 2)).tolist() == [[-1, 4], [4, -1]]


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (png(np.zeros((2, 3), np.uint8)), "expected the 2 x 2 px of its frame, got 3 x 2"),
        (png(np.zeros((2, 2, 3), np.uint8)), "expected one channel of 8 bits"),
        (png(np.zeros((2, 2), np.uint16)), "expected one channel of 8 bits"),
        (png(np.full((2, 2), 2, np.uint8)), r"levels \[2\] are no label of spot"),
        (b"GIF89a", "expected a PNG, got damaged or foreign bytes"),
        (png(np.eye(2, dtype=np.uint8))[:44], "expected a PNG, got damaged or foreign bytes"),
    ],
)
def test_masks_that_are_none_are_refused(stored: bytes, why: str) -> None:
    with pytest.raises(Rejected, match=why):
        mask_of("m.png", stored, HEAD, (2, 2))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a.png\n", "line 1: expected file,label, got 1 cells"),
        ("a.png,grey\n", "line 1: expected one of bright, dull, got 'grey'"),
        ("file,label\nb.png,dull\n", "line 2: there is no frame 'b.png'"),
        ("a.png,dull\na.png,bright\n", "line 2: 'a.png' has two labels"),
        ('a.png,"dull\n', "expected a CSV"),
    ],
)
def test_tables_that_are_none_are_refused(text: str, why: str) -> None:
    with pytest.raises(Rejected, match=why):
        classes_of("labels.csv", text.encode(), HEAD, {"a.png"})


def test_folders_that_hold_nothing_to_score_with_are_refused(
    desk: Desk, seen: Path, tmp_path: Path
) -> None:
    said = desk.refuse(box_finder(), wanted(), frames=seen, labels=tmp_path / "none")
    assert "none: expected a folder" in said.what
    (tmp_path / "empty").mkdir()
    said = desk.refuse(box_finder(), wanted(), frames=seen, labels=tmp_path / "empty")
    assert "none of 5 frames has labels for head spot" in said.what
    draw(seen / "f0.jpg", SIZE, None)
    said = desk.refuse(box_finder(), wanted(), frames=seen, labels=tmp_path / "empty")
    assert "would share their labels" in said.what
