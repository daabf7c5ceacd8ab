"""A manifest proposed from the file: what it knows, leaves open, and never trusts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edge_agent.cli import exits
from edge_agent.config.merge import parse_toml
from edge_agent.core.errors import Rejected
from tests.packing import foreign
from tests.packing.desk import Desk, one_conv
from tests.packing.finder import box_finder
from tests.packing.foreign import SIZE, Net
from tools.hot_tier.__main__ import main
from tools.hot_tier.packing.guessing import Out, cells, guess
from tools.hot_tier.packing.metadata import MAX_CHARS, Hints, hints_of
from tools.hot_tier.packing.proposing import propose
from tools.hot_tier.packing.report import Proposed, Wanted
from tools.hot_tier.packing.wish import OPEN, read_wish

Values = NDArray[np.float32]


def proposed(
    folder: Path, model: Any, frames: Path | None = None, **metadata: str
) -> tuple[Proposed, str]:
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    out = folder / "proposed.toml"
    out.unlink(missing_ok=True)
    told = propose(Wanted(model=folder / "m.onnx", out=out, frames=frames))
    return told, out.read_text()


def filled_in(text: str, scale: str) -> str:
    """As a person does it."""
    text = re.sub("(?m)^scale = .*", f"scale = {scale}", text)
    text = re.sub("(?m)^size = .*", f"size = [{SIZE[0]}, {SIZE[1]}]", text)
    return text.replace(f'"{OPEN}: ', '"')


@pytest.mark.parametrize("name", list(foreign.MODELS))
def test_filled_in_it_packs_and_reads_as_the_manifest_that_a_person_wrote(
    name: str, desk: Desk, tmp_path: Path, frames: Path
) -> None:
    told, text = proposed(tmp_path, foreign.MODELS[name](), frames)
    by_hand = parse_toml(foreign.MANIFESTS[name])
    assert told.decoder == by_hand["heads"][0]["decoder"]
    assert told.outputs == by_hand["heads"][0]["outputs"]
    assert told.classes == len(by_hand["heads"][0]["labels"])
    assert parse_toml(text).get("states", []) == by_hand.get("states", [])
    assert desk.pack(foreign.MODELS[name](), filled_in(text, '"1/255"'), half="no").frames == 3


def test_what_is_open_is_refused_each_with_its_line(tmp_path: Path) -> None:
    told, text = proposed(tmp_path, foreign.unet())
    assert told.todo == [
        "licence", "intended_use", "input.size", "foreign.scale", "heads.0.labels.0.key",
    ]  # fmt: skip
    with pytest.raises(Rejected) as refused:
        read_wish(tmp_path / "proposed.toml")
    lines = text.splitlines()
    for key in ("licence", "intended_use", "size", "scale"):
        (at,) = [number for number, line in enumerate(lines, 1) if line.startswith(f"{key} =")]
        assert f"proposed.toml:{at}: " in refused.value.what
    assert refused.value.what.count(f"is still {OPEN}") == 5


ULTRALYTICS: dict[str, Any] = {
    "author": "Ultralytics", "task": "detect", "stride": "32", "imgsz": "[64, 96]",
    "license": "AGPL-3.0 License", "names": "{0: 'Polyp', 1: 'polyp', 2: 'Närbe \"x\"'}",
}  # fmt: skip


def test_what_ultralytics_notes_in_the_file_is_taken_as_a_hint(tmp_path: Path) -> None:
    told, text = proposed(tmp_path, foreign.yolo(), **ULTRALYTICS)
    fields = parse_toml(text)
    assert fields["foreign"]["scale"] == "1/255"
    assert (fields["input"]["pad"], fields["input"]["resample"]) == (114, "bilinear")
    labels = fields["heads"][0]["labels"]
    assert [one["key"] for one in labels] == ["polyp", "polyp-1", "n-rbe-x"]
    assert labels[2]["name"] == 'Närbe "x"'
    assert told.todo == ["licence", "intended_use"]
    assert "# the file says: AGPL-3.0 License" in text


def test_a_yolox_is_told_how_it_was_trained(tmp_path: Path, frames: Path) -> None:
    """Its raw grid: rows of small numbers, one for each cell of three strides."""
    side = 64
    net = Net()
    seen = net.add("ReduceMean", "images", keepdims=0)
    rows_ = net.const(net.rng.uniform(0, 1, (1, cells((side, side)), 6)))
    net.add("Add", rows_, net.add("Mul", seen, net.const(0.0)), out="output")
    model = net.model(
        [("images", 1, [1, 3, side, side])], [("output", 1, [1, cells((side, side)), 6])]
    )
    told, text = proposed(tmp_path, model, frames)
    assert (told.decoder, told.classes) == ("yolox", 1)
    given = parse_toml(text)["input"]
    assert (given["pad"], given["place"], given["resample"]) == (114, "top_left", "bilinear")
    assert '# YOLOX takes 0 to 255 and "bgr"' in text


def test_names_that_are_not_those_of_the_output_are_not_taken(tmp_path: Path) -> None:
    told, text = proposed(tmp_path, foreign.yolo(), names="{0: 'a'}")
    assert "the file names 1 classes, its output has 3" in text
    assert f'"{OPEN}: class 2"' in text
    assert told.classes == 3


@pytest.mark.parametrize(
    "names",
    [
        "__import__('pathlib').Path('{folder}/taken').touch() or {{0: 'a'}}",
        "[" * 5000,
        "-" * 100_000 + "1",
        "{{0: 'a'" + " " * MAX_CHARS + "}}",
        "{{0: b'a'}}",
        "{{True: 'a'}}",
        "{{-1: 'a'}}",
        "{{99999: 'a'}}",
        "{{0: ['a']}}",
        "\x00",
        "{{0: 'a', 0.5: 'b'}}",
    ],
)
def test_metadata_is_never_run_and_what_is_no_name_is_passed_over(
    names: str, tmp_path: Path
) -> None:
    text = names.format(folder=tmp_path)
    _, written = proposed(tmp_path, foreign.yolo(), names=text, imgsz=text, task=text)
    assert not (tmp_path / "taken").exists()
    assert f'"{OPEN}: class 0"' in written


def test_names_cannot_leave_their_line(tmp_path: Path) -> None:
    evil = {0: 'a"\nlicence = "x', 1: "\u202eb\x7f", 2: "c\\"}
    _, text = proposed(
        tmp_path, foreign.yolo(), names=repr(evil), license="MIT\nschema = 2", author="x"
    )
    fields = parse_toml(text)
    assert fields["licence"].startswith(OPEN)
    assert [one["name"] for one in fields["heads"][0]["labels"]] == [
        'a" licence = "x', "b", "c\\",
    ]  # fmt: skip


def rows(*columns: Any) -> Values:
    return np.stack([np.asarray(one, np.float32) for one in columns], -1)[None]


def spread(count: int, low: float, high: float) -> Values:
    return np.linspace(low, high, count).astype(np.float32)


GRIDS = cells((640, 640))
PX = [spread(300, 10, 600)] * 4
PARTS = [spread(300, 0.1, 0.9)] * 4
WHOLE = np.arange(300) % 4


@pytest.mark.parametrize(
    ("outs", "names", "decoder", "classes"),
    [
        ([Out(name="o", shape=(1, 84, 8400))], 80, "yolo", 80),
        ([Out(name="o", shape=(1, 84, 8400))], 0, "yolo", 80),
        ([Out(name="o", shape=(1, 25200, 85))], 0, "yolo_objectness", 80),
        ([Out(name="o", shape=(1, 25200, 6))], 1, "yolo_objectness", 1),
        ([Out(name="o", shape=(1, GRIDS, 85))], 0, "yolo_objectness", 80),
        ([Out(name="o", shape=(1, GRIDS, 85),
              values=np.full((1, GRIDS, 85), 0.5, np.float32))], 80, "yolox", 80),
        ([Out(name="o", shape=(1, 300, 6))], 1, "yolo_e2e", 1),
        ([Out(name="o", shape=(1, 300, 6),
              values=rows(*PX, spread(300, 0.9, 0), WHOLE))], 2, "yolo_e2e", 2),
        ([Out(name="o", shape=(1, 300, 6),
              values=rows(*PX, spread(300, 0.1, 0.9), spread(300, 0.2, 0.3)))], 2, "yolo", 2),
        ([Out(name="o", shape=(12, 7))], 3, "nms", 3),
        ([Out(name="o", shape=(1, 300, 7),
              values=rows(*PX, *[spread(300, 0.1, 0.9)] * 3))], 3, "yolo", 3),
        ([Out(name="b", shape=(1, 9, 4)), Out(name="labels", shape=(1, 9), whole=True),
          Out(name="scores", shape=(1, 9))], 0, "boxes", 0),
        ([Out(name="l", shape=(1, 300, 80)), Out(name="b", shape=(1, 300, 4))], 0, "detr", 80),
        ([Out(name="m", shape=(1, 640, 640, 3))], 0, "mask_softmax", 3),
        ([Out(name="m", shape=(1, 3, 160, 160))], 0, "mask_softmax", 3),
        ([Out(name="m", shape=(1, 1, 160, 160), whole=True)], 0, "mask_argmax", 0),
        ([Out(name="p", shape=(1, 5, 1, 1))], 0, "probs", 5),
        ([Out(name="x", shape=(3,))], 0, "", 0),
    ],
)  # fmt: skip
def test_shapes_and_numbers_tell_the_decoder(
    outs: list[Out], names: int, decoder: str, classes: int
) -> None:
    hints = Hints(names={index: f"c{index}" for index in range(names)})
    found = guess(outs, (640, 640), hints)
    assert (found.decoder, found.classes) == (decoder, classes)


def test_numbers_tell_more_than_shapes() -> None:
    relative = Out(name="o", shape=(1, 300, 8), values=rows(*PARTS, *PARTS))
    assert guess([relative], (640, 640), Hints()).more == {"box_unit": "relative"}
    three = Out(name="b", shape=(1, 9, 4)), Out(name="a", shape=(1, 9), whole=True)
    found = guess([*three, Out(name="c", shape=(1, 9))], (640, 640), Hints())
    assert found.outputs == ("b", "c", "a"), "scores, then classes"
    logits = Out(name="p", shape=(1, 3), values=np.array([[-3, 2, 8]], np.float32))
    assert "these are logits" in guess([logits], (640, 640), Hints()).notes[0]
    pose = guess([Out(name="o", shape=(1, 56, 8400))], (640, 640), Hints(task="pose"))
    assert pose.decoder == ""
    assert "export the detection model" in pose.notes[0]


def test_a_manifest_that_is_there_stays(tmp_path: Path) -> None:
    proposed(tmp_path, foreign.yolo())
    (tmp_path / "proposed.toml").write_text("mine")
    with pytest.raises(Rejected, match="is there already"):
        propose(Wanted(model=tmp_path / "m.onnx", out=tmp_path / "proposed.toml"))
    assert (tmp_path / "proposed.toml").read_text() == "mine"


def test_a_file_without_a_picture_is_refused(tmp_path: Path) -> None:
    net = Net()
    net.add("Relu", "x", out="y")
    flat = net.model([("x", 1, [1, 9])], [("y", 1, [1, 9])])
    with pytest.raises(Rejected, match=r"expected one input that is a picture .*\['x'\]"):
        proposed(tmp_path, flat)


def test_hints_are_those_of_the_file() -> None:
    model = one_conv().model([("x", 1, [1, 3, 8, 8])], [("y", 1, None)])  # type: ignore[list-item]
    assert hints_of(model) == Hints()
    for index in range(100):
        model.metadata_props.add(key=f"k{index}", value="v")
    model.metadata_props.add(key="task", value="detect")
    assert hints_of(model).task == "", "bounded"


def test_the_command_says_what_is_left_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(box_finder(), str(tmp_path / "finder.onnx"))
    frames = foreign.write_frames(tmp_path / "frames", 2)
    words = ["pack", str(tmp_path / "finder.onnx"), "--propose", str(tmp_path / "f.toml")]
    assert main([*words, "--frames", str(frames)]) == exits.OK
    said = capsys.readouterr().out
    assert "boxes of boxes, scores, classes" in said
    assert "yours to fill in: licence, intended_use, foreign.scale, " in said
    assert main([*words, "--json"]) == exits.REFUSED, "it is there already"
    assert "is there already" in json.loads(capsys.readouterr().out)["refused"]["what"]


@pytest.mark.parametrize(
    "words",
    [
        ["--manifest", "m.toml"],
        ["--frames", "f"],
        ["--manifest", "m.toml", "--propose", "p.toml", "--frames", "f"],
        ["--propose", "p.toml", "-o", "x.eam"],
        ["--propose", "p.toml", "--labels", "l"],
        ["--manifest", "m.toml", "--frames", "f", "--at-least", "recall=2"],
        ["--manifest", "m.toml", "--frames", "f", "--at-least", "beauty=0.5"],
    ],
)
def test_words_that_do_not_go_together_are_wrong_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["pack", "m.onnx", *words])
