"""What is no package is refused with its reason, and nothing is written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.external_data_helper import convert_model_to_external_data

from edge_agent.core.errors import Rejected
from tests.packing import foreign
from tests.packing.desk import IN, MASK, OUT, SCALED, Desk, changed, one_conv
from tests.packing.foreign import SIZE, Net, above
from tools.hot_tier.packing.make import pack
from tools.hot_tier.packing.report import Options


def test_the_base_of_these_tests_is_packed(desk: Desk) -> None:
    assert desk.pack(one_conv().model(IN, OUT), above("ok") + MASK).frames == 3


# ── the pack manifest ─────────────────────────────────────────────────────────────────────────


def test_an_unknown_key_is_told_with_file_line_and_the_key_that_was_meant(desk: Desk) -> None:
    said = desk.refuse(foreign.yolo(), changed("yolo", "scale =", "scael ="))
    assert 'm.toml:6: foreign.scael — unknown key, did you mean "scale"?' in said.what


def test_all_mistakes_of_the_pack_manifest_come_at_once(desk: Desk) -> None:
    text = changed("detr", 'order = "bgr"', 'order = "bgrr"').replace("57.4, 57.1", "0.0, 57.1")
    said = desk.refuse(foreign.detr(), 'licens = "x"\n' + text).what
    assert 'm.toml:12: foreign.order — wrong value (expected one of "bgr", "gray", "rgb"' in said
    assert "m.toml:11: foreign.std.0 — wrong value (expected a number above 0" in said
    assert 'm.toml:1: licens — unknown key, did you mean "licence"?' in said


@pytest.mark.parametrize("scale", ['"1/0"', '"./2"', "0.0", '"a/b"'])
def test_a_scale_that_is_no_number_above_0_is_refused(desk: Desk, scale: str) -> None:
    said = desk.refuse(foreign.yolo(), changed("yolo", '"1/255"', scale))
    assert "foreign.scale — wrong" in said.what


def test_an_agent_version_that_is_none_is_refused(desk: Desk) -> None:
    text = 'min_agent_version = "soon"\n' + foreign.MANIFESTS["yolo"]
    assert "m.toml:1: min_agent_version — wrong" in desk.refuse(foreign.yolo(), text).what


def test_a_float_model_whose_scale_nobody_said_is_refused(desk: Desk) -> None:
    said = desk.refuse(foreign.yolo(), changed("yolo", 'scale = "1/255"\n', ""))
    assert "foreign.scale: expected what the model multiplies pixels" in said.what


def test_means_for_three_channels_do_not_fit_a_gray_model(desk: Desk) -> None:
    text = changed("unet", "mean = [1.0]", "mean = [1.0, 1.0, 1.0]")
    assert (
        "expected 1 number or 1, one per channel, got 3" in desk.refuse(foreign.unet(), text).what
    )


def test_a_pack_manifest_that_is_no_toml_or_not_there_is_refused(desk: Desk) -> None:
    assert "read pack manifest m.toml: " in desk.refuse(foreign.yolo(), "name = ").what
    with pytest.raises(Rejected, match=r"read pack manifest none\.toml: No such file"):
        pack(Options(model=desk.folder, manifest=desk.folder / "none.toml", frames=desk.frames))


# ── the file ──────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_onnx_file_is_refused(desk: Desk) -> None:
    said = desk.refuse(b"\xff\xfe not a model" * 9, foreign.MANIFESTS["yolo"])
    assert "expected an ONNX file" in said.what
    assert "a graph with operators" in desk.refuse(b"", foreign.MANIFESTS["yolo"]).what


def test_a_model_above_the_bound_is_refused_before_it_is_read(desk: Desk) -> None:
    said = desk.refuse(foreign.yolo(), foreign.MANIFESTS["yolo"], limit_bytes=1000)
    assert "expected at most 1000 bytes, got 1" in said.what


def test_custom_operators_are_refused_by_name_also_in_a_branch(desk: Desk) -> None:
    inside = helper.make_graph(
        [helper.make_node("Secret", ["y0"], ["z"], domain="vendor.x")],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4, 8, 12])],
    )
    net = one_conv(out="y0")
    net.add("If", net.const(True, np.bool_), out="y", then_branch=inside, else_branch=inside)
    assert "['vendor.x::Secret']" in desk.refuse(net.model(IN, OUT), above("c") + MASK).what
    net = one_conv(out="y0")
    net.add("Sicret", "y0", out="y")
    assert "['Sicret']" in desk.refuse(net.model(IN, OUT), above("c") + MASK).what


def test_external_data_is_taken_from_beside_the_model_and_from_nowhere_else(desk: Desk) -> None:
    model = foreign.yolo()
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    file, asked = desk.folder / "big.onnx", desk.folder / "big.toml"
    onnx.save(model, str(file))
    assert (desk.folder / "weights.bin").stat().st_size > 1000
    assert desk.pack_file(file, asked, foreign.MANIFESTS["yolo"]).frames == 3
    with pytest.raises(Rejected, match="expected at most 12000 bytes"):
        desk.pack_file(file, asked, foreign.MANIFESTS["yolo"], limit_bytes=12000)
    for place in ("../weights.bin", str(desk.folder.parent / "weights.bin")):
        model = onnx.load(str(file), load_external_data=False)
        model.graph.initializer[0].external_data[0].value = place
        file.write_bytes(model.SerializeToString())
        with pytest.raises(Rejected, match="expected a file in the folder of the model"):
            desk.pack_file(file, asked, foreign.MANIFESTS["yolo"])
        onnx.save(foreign.yolo(), str(file))
        model = foreign.yolo()
        convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
        onnx.save(model, str(file))


def test_external_data_behind_a_link_out_of_the_folder_is_refused(desk: Desk) -> None:
    secret = desk.folder / "secret"
    secret.write_bytes(bytes(20_000))
    inner = desk.folder / "inner"
    inner.mkdir()
    model = foreign.yolo()
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, str(inner / "m.onnx"))
    (inner / "weights.bin").unlink()
    (inner / "weights.bin").symlink_to(secret)
    with pytest.raises(Rejected, match="expected a file in the folder of the model"):
        desk.pack_file(inner / "m.onnx", inner / "m.toml", foreign.MANIFESTS["yolo"])


def test_an_operator_without_an_older_form_is_refused_by_its_name(desk: Desk) -> None:
    net = one_conv(out="y0")
    net.add("CenterCropPad", "y0", net.const([8, 12], np.int64), out="y", axes=[2, 3])
    said = desk.refuse(net.model(IN, OUT, opset=20), above("g") + MASK)
    assert "opset 20: expected at most 17" in said.what
    assert "CenterCropPad y: it came with opset 18, and has no older form" in said.what
    assert "opset_version=17, dynamo=False" in said.hint


def test_an_opset_that_the_runtime_does_not_know_is_refused(desk: Desk) -> None:
    said = desk.refuse(one_conv().model(IN, OUT, opset=99), above("n") + MASK)
    assert "99" in said.what


# ── inputs, outputs and sizes ─────────────────────────────────────────────────────────────────


def test_a_second_input_that_is_no_state_is_refused(desk: Desk) -> None:
    text = changed("recurrent", '[[states]]\ninput = "c"\noutput = "c_next"\n', "")
    said = desk.refuse(foreign.recurrent(), text)
    assert "expected one input beside 1 states, got ['image', 'c']" in said.what


def test_a_state_that_the_file_does_not_have_is_refused(desk: Desk) -> None:
    text = changed("recurrent", 'output = "c_next"', 'output = "d_next"')
    assert "state c -> d_next: expected an input and an output" in (
        desk.refuse(foreign.recurrent(), text).what
    )


def test_a_state_of_open_size_is_refused(desk: Desk) -> None:
    model = foreign.recurrent()
    model.graph.input[1].type.tensor_type.shape.dim[2].dim_param = "rows"
    said = desk.refuse(model, foreign.MANIFESTS["recurrent"])
    assert "state h: its size is not fixed" in said.what


def test_a_size_that_is_neither_in_the_file_nor_given_is_refused(desk: Desk) -> None:
    said = desk.refuse(foreign.unet(), changed("unet", f"size = [{SIZE[0]}, {SIZE[1]}]\n", ""))
    assert "its width and height are not fixed in the file" in said.what


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("[foreign]", "[input]\nsize = [64, 96]\n[foreign]", "expected height 96, the file has 64"),
        ("[foreign]", '[foreign]\nlayout = "nhwc"', "expected channels 3, the file has 96"),
        ("[foreign]", '[foreign]\norder = "gray"', "expected channels 1, the file has 3"),
        ('"output0"', '"output1"', r"expected outputs \['output1'\], the file has \['output0'\]"),
    ],
)
def test_a_manifest_that_says_other_than_the_file_is_refused(
    desk: Desk, old: str, new: str, why: str
) -> None:
    with pytest.raises(Rejected, match=why):
        desk.pack(foreign.yolo(), changed("yolo", old, new))


def test_a_batch_of_four_and_a_clip_are_no_single_pictures(desk: Desk) -> None:
    model = foreign.yolo()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    assert "expected batch 1, the file has 4" in desk.refuse(model, foreign.MANIFESTS["yolo"]).what
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 8
    assert "expected 4 axes" in desk.refuse(model, foreign.MANIFESTS["yolo"]).what


def test_a_size_that_the_net_cannot_take_is_refused_with_what_to_try(desk: Desk) -> None:
    net = Net()
    low = net.conv("x", 3, 4, stride=2)
    net.add("Add", net.conv("x", 3, 4), net.add("Concat", low, low, axis=3), out="y")
    model = net.model([("x", TensorProto.FLOAT, ["n", 3, "h", "w"])], OUT)
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    text = above("z") + '[input]\nsize = [33, 32]\nfit = "stretch"\n' + MASK.partition("\n[")[2]
    said = desk.refuse(model, text.replace('stretch"\nfore', 'stretch"\n[fore'))
    assert said.hint.startswith("choose another size under [input]")


def test_an_input_of_whole_numbers_that_are_no_pixels_is_refused(desk: Desk) -> None:
    model = foreign.yolo()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    said = desk.refuse(model, foreign.MANIFESTS["yolo"])
    assert "got int64" in said.what


def test_a_colour_package_around_a_gray_model_is_refused(desk: Desk) -> None:
    said = desk.refuse(foreign.unet(), changed("unet", 'order = "gray"\nfit', 'order = "rgb"\nfit'))
    assert "input scan is gray, [input] says 'rgb'" in said.what


def test_a_name_for_the_input_that_the_graph_uses_inside_is_refused(desk: Desk) -> None:
    said = desk.refuse(foreign.detr(), changed("detr", 'name = "image"', 'name = "keys"'))
    assert "expected names ['keys'] to be free" in said.what


def test_scaling_for_a_model_that_takes_bytes_is_refused(desk: Desk) -> None:
    net = Net()
    net.add("Cast", "raw", out="x", to=TensorProto.FLOAT)
    model = one_conv(net).model([("raw", TensorProto.UINT8, IN[0][2])], OUT)
    assert "takes uint8: expected no scale" in desk.refuse(model, above("u") + MASK).what
    assert desk.pack(model, above("u") + MASK.replace(SCALED, "")).frames == 3
