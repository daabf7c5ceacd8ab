"""Files of other kinds: in half, quantised, old, with functions, with branches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_agent.core.golden import samples
from tests.packing import foreign
from tests.packing.desk import IN, MASK, OUT, Desk, one_conv
from tests.packing.foreign import SIZE, Net, above


def folder_of(desk: Desk, model: Any, name: str, text: str = MASK, **more: Any) -> Path:
    desk.pack(model, above(name) + text, folder=desk.folder / "made", **more)
    return desk.folder / "made" / name / "1.0.0"


def test_a_file_in_half_stays_in_half_and_is_told_as_such(desk: Desk) -> None:
    net = Net()
    kernel = net.const(net.rng.normal(size=(4, 3, 3, 3)) * 0.2, np.float16)
    net.add("Conv", "x", kernel, out="y", strides=[8, 8], pads=[1, 1, 1, 1])
    half = TensorProto.FLOAT16
    model = net.model([("x", half, IN[0][2])], [("y", half, OUT[0][2])])
    packed = desk.pack(model, above("h") + MASK)
    assert [(one.name, one.precision, one.backends) for one in packed.variants] == [
        ("fp16", "fp16", ("onnx", "tensorrt"))
    ]
    assert "no fp16 variant: the file is fp16 already" in packed.did


def test_a_quantised_file_is_told_as_int8(desk: Desk) -> None:
    net = Net()
    scale, zero = net.const(0.02), net.const(0, np.int8)
    quantised = net.add("QuantizeLinear", net.conv("x", 3, 4, stride=8), scale, zero)
    net.add("DequantizeLinear", quantised, scale, zero, out="y")
    packed = desk.pack(net.model(IN, OUT), above("i") + MASK)
    (only,) = packed.variants
    assert only.precision == "int8"
    assert "no fp16 variant: the file is int8 already" in packed.did


def test_an_old_file_that_lists_its_weights_among_its_inputs_has_one_picture(desk: Desk) -> None:
    model = one_conv().model(IN, OUT, opset=8, ir=3)
    for weight in model.graph.initializer:
        port = helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        model.graph.input.append(port)
    made = onnx.load(folder_of(desk, model, "o") / "o.onnx")
    assert [one.name for one in made.graph.input] == ["x"]
    assert (made.ir_version, made.opset_import[0].version) == (8, 8)


def test_local_functions_are_put_into_the_graph(desk: Desk) -> None:
    plain = helper.make_opsetid("", 17)
    twice = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [plain]
    )
    net = one_conv(out="y0")
    net.nodes.append(helper.make_node("Twice", ["y0"], ["y"], domain="own"))
    model = net.model(IN, OUT)
    model.functions.append(twice)
    model.opset_import.append(helper.make_opsetid("own", 1))
    made = onnx.load(folder_of(desk, model, "f") / "f.onnx")
    assert not made.functions
    assert [node.op_type for node in made.graph.node][-1] == "Add"


def test_a_branch_that_reads_the_picture_reads_it_scaled(desk: Desk) -> None:
    """Its foreign twin is run beside it: a difference would have been refused."""
    shape = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 3, SIZE[1], SIZE[0]])
    nodes = [helper.make_node("Neg", ["x"], ["z"])]
    branch = helper.make_graph(nodes, "branch", [], [shape])
    net = Net()
    both = net.add("If", net.const(True, np.bool_), then_branch=branch, else_branch=branch)
    net.add("Identity", net.conv(both, 3, 4, stride=8), out="y")
    packed = desk.pack(net.model(IN, OUT), above("b") + MASK)
    assert [one.precision for one in packed.variants] == ["fp16", "fp32"]


def test_classes_as_whole_numbers_may_differ_by_a_share(desk: Desk) -> None:
    net = one_conv(out="y0")
    net.add("ArgMax", "y0", out="y", axis=1, keepdims=0)
    model = net.model(IN, [("y", TensorProto.INT64, [1, 8, 12])])
    text = MASK.replace("mask_sigmoid", "mask_argmax")
    packed = desk.pack(model, above("a") + text, folder=desk.folder / "made")
    tolerances = {one.name: one.tolerances["y"] for one in packed.variants}
    assert tolerances["fp32"] == 0.01


def test_golden_samples_of_a_model_with_states_start_from_nothing(desk: Desk) -> None:
    text = foreign.MANIFESTS["recurrent"].removeprefix(above("recurrent"))
    folder = folder_of(desk, foreign.recurrent(), "g", text)
    with np.load(folder / "golden.npz") as stored:
        kept = samples({name: stored[name] for name in stored.files})
    assert len(kept) == 3
    assert set(kept[0].outputs) == {"probs", "h_next", "c_next"}
    for sample in kept:
        mean = sample.outputs["h_next"].mean(axis=(2, 3))
        assert np.abs(sample.outputs["c_next"] - 0.1 * mean).max() < 1e-4, "c was 0 before"


def test_flicker_is_told_of_frames_that_follow_one_another(desk: Desk) -> None:
    model = one_conv().model(IN, OUT)
    assert "flicker" not in desk.pack(model, above("k") + MASK).reference
    assert desk.pack(model, above("k") + MASK, sequence=True).reference["flicker"] >= 0


def test_unread_outputs_and_what_only_they_need_are_left_out(desk: Desk) -> None:
    net = one_conv()
    wide = net.const(np.ones((64, 4, 1, 1)))
    net.add("Conv", "y", wide, out="aside")
    model = net.model(IN, [*OUT, ("aside", TensorProto.FLOAT, [1, 64, 8, 12])])
    made = onnx.load(folder_of(desk, model, "u") / "u.onnx")
    assert [one.name for one in made.graph.output] == ["y"]
    assert [list(one.dims) for one in made.graph.initializer if one.dims[:1] == [64]] == []


def test_numbers_that_half_cannot_hold_keep_their_operators_in_single(desk: Desk) -> None:
    net = one_conv(out="y0")
    sure = net.add("Add", "y0", net.const(1e-7))
    large = net.add("Div", net.add("Mul", sure, net.const(1e6)), net.const(1e6))
    net.add("Identity", net.conv(large, 4, 4), out="y")
    made = onnx.load(folder_of(desk, net.model(IN, OUT), "e") / "e-fp16.onnx")
    half = {one.name for one in made.graph.initializer if one.data_type == TensorProto.FLOAT16}
    read = {node.op_type: set(node.input) & half for node in made.graph.node}
    assert read["Conv"]
    assert not read["Mul"] | read["Div"] | read["Add"]
