"""What a model says on the frames may refuse it, or its FP16 variant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.core.errors import Rejected
from tests.packing import foreign
from tests.packing.desk import IN, MASK, OUT, SCALED, Desk, one_conv
from tests.packing.foreign import Net, above, head


def test_a_wrong_shape_for_the_decoder_is_refused(desk: Desk) -> None:
    manifest = above("s") + SCALED + head("detr", "y", "y2")
    net = one_conv()
    net.add("Identity", "y", out="y2")
    model = net.model(IN, [*OUT, ("y2", TensorProto.FLOAT, OUT[0][2])])
    assert "decoder detr of head h: expected [1 Q C], [1 Q 4]" in desk.refuse(model, manifest).what


def nan_where_bright(net: Net) -> None:
    mean = net.add("ReduceMean", "y0", keepdims=1)
    net.add("Add", "y0", net.add("Sqrt", net.add("Sub", mean, net.const(1e6))), out="y")


def logits_as_scores(net: Net) -> None:
    net.add("Reshape", "y0", net.const([1, 4, -1], np.int64), out="flat")
    net.add("Concat", "flat", net.add("Mul", "flat", net.const(9.0)), out="y", axis=1)


def boxes_in_parts(net: Net) -> None:
    net.add("Reshape", "y0", net.const([1, 4, -1], np.int64), out="flat")
    both = net.add("Concat", "flat", "flat", axis=1)
    net.add("Sigmoid", both, out="y")


ROWS = [("y", TensorProto.FLOAT, [1, 8, 96])]
YOLO = '[input]\nfit = "stretch"\n' + SCALED + head("yolo", "y") + "classes = 4\n"


@pytest.mark.parametrize(
    ("fault", "outputs", "manifest", "why"),
    [
        (nan_where_bright, OUT, MASK, "output y: expected finite numbers, got 384 of 384 nan"),
        (logits_as_scores, ROWS, YOLO, "decoder yolo expects scores of 0 to 1, got -"),
        (boxes_in_parts, ROWS, YOLO, "expects boxes in px of the input, got numbers up to 0."),
    ],
)
def test_outputs_that_mean_something_else_are_refused(
    desk: Desk, fault: Callable[[Net], None], outputs: Any, manifest: str, why: str
) -> None:
    net = one_conv(out="y0")
    fault(net)
    assert why in desk.refuse(net.model(IN, outputs), above("w") + manifest).what


@pytest.mark.parametrize(
    ("decoder", "kind", "more"),
    [("mask_sigmoid", "Sigmoid", {}), ("mask_softmax", "Softmax", {"axis": 1})],
)
def test_a_last_squashing_goes_where_the_decoder_takes_logits(
    desk: Desk, decoder: str, kind: str, more: dict[str, int]
) -> None:
    net = one_conv(out="y0")
    net.add(kind, "y0", out="y", **more)
    manifest = '[input]\nfit = "stretch"\n' + SCALED + head(decoder, "y") + "classes = 4\n"
    packed = desk.pack(net.model(IN, OUT), above("q") + manifest, folder=desk.folder)
    assert f"last {kind} of output y left out: decoder {decoder} takes logits" in packed.did
    kinds = [one.op_type for one in onnx.load(desk.folder / "q/1.0.0/q.onnx").graph.node]
    assert kind not in kinds


def test_probabilities_that_cannot_be_undone_are_refused_where_logits_are_read(desk: Desk) -> None:
    net = one_conv(out="y0")
    net.add("HardSigmoid", "y0", out="y")
    said = desk.refuse(net.model(IN, OUT), above("q") + MASK)
    assert "decoder mask_sigmoid expects logits, got 0." in said.what
    assert "as of probabilities" in said.what


def test_boxes_in_px_are_no_detr_boxes(desk: Desk) -> None:
    model = foreign.detr()
    (last,) = [node for node in model.graph.node if list(node.output) == ["boxes"]]
    last.output[0] = "parts"
    model.graph.node.append(helper.make_node("Mul", ["parts", "many"], ["boxes"]))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(96), "many"))
    said = desk.refuse(model, foreign.MANIFESTS["detr"])
    assert "expects boxes in parts of the picture, 0 to 1" in said.what


def test_a_folder_without_images_or_with_a_broken_one_is_refused(desk: Desk) -> None:
    empty = desk.folder / "empty"
    empty.mkdir()
    said = desk.refuse(foreign.yolo(), foreign.MANIFESTS["yolo"], frames=empty)
    assert "expected images" in said.what
    (empty / "a.png").write_bytes(b"no image")
    said = desk.refuse(foreign.yolo(), foreign.MANIFESTS["yolo"], frames=empty)
    assert "image 1 of 1" in said.what


def test_a_region_outside_of_the_frames_is_refused(desk: Desk) -> None:
    said = desk.refuse(foreign.yolo(), foreign.MANIFESTS["yolo"], roi=(100, 0, 64, 64))
    assert "is not within the frame of 120x80 px" in said.what


def test_a_version_that_is_there_already_is_not_written_over(desk: Desk) -> None:
    made = desk.folder / "made"
    desk.pack(foreign.yolo(), foreign.MANIFESTS["yolo"], folder=made)
    before = {path: path.read_bytes() for path in made.rglob("*.*") if path.is_file()}
    with pytest.raises(Rejected, match=r"yolo 1\.0\.0 is there already"):
        desk.pack(foreign.yolo(), foreign.MANIFESTS["yolo"], folder=made)
    assert {path: path.read_bytes() for path in before} == before


def test_the_same_model_gives_the_same_package(desk: Desk) -> None:
    places = [desk.folder / name for name in ("a.eam", "b.eam")]
    for place in places:
        desk.pack(foreign.yolo(), foreign.MANIFESTS["yolo"], out=place)
    first, second = (place.read_bytes() for place in places)
    assert first == second


def test_a_place_that_cannot_be_written_is_refused(desk: Desk) -> None:
    with pytest.raises(Rejected, match=r"write y\.eam: No such file or directory"):
        desk.pack(foreign.yolo(), foreign.MANIFESTS["yolo"], out=desk.folder / "none" / "y.eam")


# ── fp16 ──────────────────────────────────────────────────────────────────────────────────────


def out_of_range() -> Any:
    """Values of some 10^6 between two convolutions: single holds them, half does not."""
    net = Net(2)
    large = net.add("Mul", net.conv("x", 3, 4, stride=8), net.const([1e3]))
    large = net.add("Mul", large, net.const([2e3]))
    back = net.add("Conv", large, net.const(np.full((4, 4, 1, 1), 1e-6)))
    net.add("Identity", back, out="y")
    return net.model(IN, OUT)


def test_a_model_that_half_cannot_hold_goes_on_in_single_and_says_so(desk: Desk) -> None:
    packed = desk.pack(out_of_range(), above("r") + MASK)
    assert [one.precision for one in packed.variants] == ["fp32"]
    assert any("no fp16 variant: " in one and "nan or inf" in one for one in packed.warnings)


def test_findings_that_are_not_there_are_no_agreement(desk: Desk) -> None:
    packed = desk.pack(one_conv().model(IN, OUT), above("n") + MASK.replace("0.5", "0.999"))
    assert packed.objects == 0
    assert "fp16 variant made; no frame had a finding to compare" in packed.did
    assert packed.warnings[0].startswith("nothing was found on 3 frames: check [foreign]")


def test_it_is_refused_where_fp16_is_required(desk: Desk) -> None:
    said = desk.refuse(out_of_range(), above("r") + MASK, half="require")
    assert "expected finite numbers" in said.what


def test_an_fp16_variant_out_of_tolerance_is_refused_with_the_figure(desk: Desk) -> None:
    model = foreign.unet()
    said = desk.refuse(model, foreign.MANIFESTS["unet"], half="require", half_limit=1e-9)
    assert "output mask differs from fp32 by 0.00" in said.what
    assert "expected at most 1e-09 of its span" in said.what
    packed = desk.pack(model, foreign.MANIFESTS["unet"], half_limit=1e-9)
    assert [one.name for one in packed.variants] == ["fp32"]


def test_a_model_without_products_gets_no_fp16_variant(desk: Desk) -> None:
    net = Net()
    net.add("MaxPool", "x", out="y", kernel_shape=[8, 8], strides=[8, 8])
    model = net.model(IN, [("y", TensorProto.FLOAT, [1, 3, 8, 12])])
    packed = desk.pack(
        model, above("p") + MASK.replace('"1/255"', '"1/255"\nmean = [0.5]').replace("= 4", "= 3")
    )
    assert any("expected convolutions or matrix products" in one for one in packed.warnings)


def test_frames_larger_than_the_input_and_gray_ones_are_taken(desk: Desk) -> None:
    folder = desk.folder / "gray"
    folder.mkdir()
    for index in range(2):
        picture = np.full((300, 400), 40 + index, np.uint8)
        assert cv2.imwrite(str(folder / f"{index}.png"), picture)
    packed = desk.pack(foreign.yolo(), foreign.MANIFESTS["yolo"], frames=folder)
    assert packed.reference["input_mean"] == pytest.approx(36, abs=4)
