"""Newer opsets come down where what they say can be said in the older words, and say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from edge_agent.backends.onnx import vendor_errors
from edge_agent.core.errors import Rejected
from tests.packing.desk import IN as DESK_IN
from tests.packing.desk import MASK, OUT, Desk
from tests.packing.foreign import Net, Port, above
from tools.hot_tier.packing.opset import drop_notes, limit_ir, lower

IN: Port = ("x", TensorProto.FLOAT, [1, 7, 8, 8])


def uneven_split(net: Net) -> None:
    net.nodes.append(onnx.helper.make_node("Split", ["x"], ["a", "b", "c"], axis=1, num_outputs=3))
    net.add("Concat", "c", "a", "b", out="y", axis=1)


def split_by_sizes(net: Net) -> None:
    sizes = net.const([2, 5], np.int64)
    net.nodes.append(onnx.helper.make_node("Split", ["x", sizes], ["a", "b"], axis=1))
    net.add("Concat", "b", "a", out="y", axis=1)


def padded(net: Net) -> None:
    wide = net.add("Pad", "x", net.const([0, 0, 1, 1, 0, 0, 1, 1], np.int64), mode="reflect")
    net.add("ReduceMean", wide, net.const([2, 3], np.int64), out="y", keepdims=1)


def sampled(net: Net) -> None:
    grid = net.const(np.random.default_rng(1).uniform(-1, 1, (1, 4, 4, 2)))
    net.add("GridSample", "x", grid, out="y", mode="linear")


def sampled_by_default(net: Net) -> None:
    net.add("GridSample", "x", net.const(np.zeros((1, 2, 2, 2))), out="y")


def in_a_branch(net: Net) -> None:
    nodes = [onnx.helper.make_node("Pad", ["x", "pads"], ["z"])]
    shape = onnx.helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branch = onnx.helper.make_graph(nodes, "branch", [], [shape])
    net.weights["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    net.add("If", net.const(True, np.bool_), out="y", then_branch=branch, else_branch=branch)


def pad_of_some_axes(net: Net) -> None:
    pads = [net.const(one, kind) for one, kind in (([1, 2], np.int64), (0.5, np.float32))]
    net.add("Pad", "x", *pads, net.const([-1], np.int64), out="y")


def pad_that_wraps(net: Net) -> None:
    net.add("Pad", "x", net.const([0, 0, 2, 0, 0, 0, 0, 8], np.int64), out="y", mode="wrap")


def pad_of_computed_axes(net: Net) -> None:
    """As exporters write them: cut out of the shape of something."""
    shape = net.add("Shape", "x")
    last = net.add("Gather", shape, net.const([0], np.int64))  # 1, the batch
    axes = net.add("Concat", net.add("Add", last, net.const([1], np.int64)), axis=0)
    pads = [net.const([1, 0], np.int64), net.const(0.0)]
    net.add("Pad", "x", *pads, axes, out="y")


def reduced(kind: str) -> Callable[[Net], None]:
    def part(net: Net) -> None:
        positive = net.add("Abs", "x")
        one = net.add(kind, positive, net.const([-1, 1], np.int64), keepdims=1)
        every = net.add(kind, positive, keepdims=1)
        net.add("Add", one, every, out="y")

    part.__name__ = kind
    return part


def reduced_over_nothing(net: Net) -> None:
    net.add("ReduceMean", "x", net.const([], np.int64), out="y", noop_with_empty_axes=1)


def resized_by_axes(net: Net) -> None:
    more = {"mode": "linear", "antialias": 0, "keep_aspect_ratio_policy": "stretch"}
    net.add("Resize", "x", "", net.const([2.0, 1.5]), out="y", axes=[2, 3], **more)


def resized_to_sizes(net: Net) -> None:
    sizes = net.const([13, 5], np.int64)
    more = {"mode": "cubic", "coordinate_transformation_mode": "half_pixel_symmetric"}
    net.add("Resize", "x", "", "", sizes, out="y", axes=[-2, -1], **more)


def scattered(net: Net) -> None:
    where = net.const(np.zeros((1, 7, 1, 8)), np.int64)
    more = net.const(np.ones((1, 7, 1, 8)))
    net.add("ScatterElements", "x", where, more, out="y", axis=2, reduction="add")


def pooled(net: Net) -> None:
    mean = net.add("AveragePool", "x", kernel_shape=[3, 3], dilations=[1, 1], ceil_mode=1,
                   strides=[2, 2])  # fmt: skip
    most = net.add("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    net.add("Add", mean, most, out="y")


def cast(net: Net) -> None:
    net.add("Cast", net.add("Cast", "x", to=TensorProto.FLOAT16, saturate=1), out="y", to=1)


SAME = [
    uneven_split, split_by_sizes, padded, in_a_branch, pad_of_some_axes, pad_of_computed_axes,
    pad_that_wraps, reduced_over_nothing, resized_by_axes, resized_to_sizes, scattered, pooled,
    cast, sampled, sampled_by_default,
    *(reduced(kind) for kind in (
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
        "ReduceMin", "ReduceProd", "ReduceSumSquare",
    )),
]  # fmt: skip
FIRST: dict[Callable[[Net], None], int] = {
    pad_that_wraps: 19, resized_to_sizes: 19, cast: 19, pooled: 19, sampled: 20,
    sampled_by_default: 20,
}  # fmt: skip


@pytest.mark.parametrize("opset", [18, 20, 22])
@pytest.mark.parametrize("part", SAME, ids=lambda part: part.__name__)
def test_what_comes_down_says_the_same(part: Callable[[Net], None], opset: int) -> None:
    opset = max(opset, FIRST.get(part, 18))
    model = whole(part, opset)
    wanted = run(model, FED)
    did: list[str] = []
    older = lower(model, did)
    assert did == [f"opset {opset} -> 17"]
    assert [(one.domain, one.version) for one in older.opset_import] == [("", 17)]
    onnx.checker.check_model(older, full_check=True)
    assert np.abs(run(older, FED) - wanted).max() <= 2e-6, "the same, but for the order of sums"


def gelu(net: Net) -> None:
    net.add("Gelu", net.add("Gelu", "x"), out="y", approximate="tanh")


def mish(net: Net) -> None:
    net.add("Mish", "x", out="y")


def swish(net: Net) -> None:
    net.add("Swish", net.add("Swish", "x"), out="y", alpha=1.7)


def group_norm(net: Net) -> None:
    """21 has a scale and a bias for each channel."""
    wide = net.add("Concat", "x", net.add("Neg", "x"), axis=1)
    weights = [net.random(14), net.random(14)]
    net.add("GroupNormalization", wide, *weights, out="y", num_groups=2, epsilon=1e-3)


def group_norm_of_groups(net: Net) -> None:
    """18 one for each group."""
    net.add("GroupNormalization", "x", net.random(7), net.random(7), out="y", num_groups=7)


def layer_norm(net: Net) -> None:
    net.add("LayerNormalization", "x", net.random(8), net.random(8), out="y", axis=-1)


def rms_norm(net: Net) -> None:
    net.add("RMSNormalization", "x", net.random(8, 8), out="y", axis=2, epsilon=1e-4)


def attention(net: Net) -> None:
    mask = net.const(np.where(np.eye(8) > 0, -5.0, 0.0))
    once = net.add("Attention", "x", net.add("Neg", "x"), "x", mask)
    net.add("Attention", once, "x", net.add("Tanh", "x"), out="y", is_causal=1, scale=0.5)


def halved_norm(net: Net) -> None:
    half = net.add("Cast", "x", to=TensorProto.FLOAT16)
    weights = [net.const(net.rng.normal(0, 1, 7), np.float16) for _ in range(2)]
    even = net.add("GroupNormalization", half, *weights, num_groups=1)
    net.add("Cast", even, out="y", to=1)


@pytest.mark.parametrize(
    ("part", "opset", "close"),
    [
        (gelu, 20, 1e-6), (gelu, 23, 1e-6), (mish, 18, 1e-6), (mish, 22, 1e-6), (swish, 24, 1e-6),
        (group_norm, 21, 1e-5), (group_norm_of_groups, 18, 1e-5), (layer_norm, 18, 1e-6),
        (rms_norm, 23, 1e-5), (attention, 23, 1e-5), (halved_norm, 21, 5e-3),
    ],
)  # fmt: skip
def test_what_is_said_in_other_words_says_the_same_within_a_rounding(
    part: Callable[[Net], None], opset: int, close: float
) -> None:
    model = whole(part, opset)
    wanted = run(model, FED)
    older = lower(model, [])
    onnx.checker.check_model(older, full_check=True)
    assert np.abs(run(older, FED) - wanted).max() <= close


FED = np.random.default_rng(2).normal(size=(1, 7, 8, 8)).astype(np.float32)


def whole(part: Callable[[Net], None], opset: int) -> Any:
    net = Net()
    part(net)
    model = net.model([IN], [("y", TensorProto.FLOAT, [None] * 4)], opset=opset, ir=10)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def run(model: Any, fed: Any) -> Any:
    """In ONNX Runtime; where it has no kernel for a new form, in ONNX's own words."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options)
    except vendor_errors():
        (said,) = ReferenceEvaluator(model).run(None, {"x": fed})
        return said
    (said,) = session.run(None, {"x": fed})
    return said


def smoothed(net: Net) -> None:
    net.add("Resize", "x", "", net.const([1, 1, 0.5, 0.5]), out="y", mode="linear", antialias=1)


def keeps_aspect(net: Net) -> None:
    more = {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}
    net.add("Resize", "x", "", "", net.const([4, 6], np.int64), out="y", **more)


def axes_by_the_picture(net: Net) -> None:
    most = net.add("ReduceMax", "x", keepdims=0)
    axes = net.add("Cast", net.add("Mul", most, net.const([0.0])), to=TensorProto.INT64)
    net.add("ReduceMean", "x", axes, out="y")


def scattered_by_max(net: Net) -> None:
    where = net.const(np.zeros((1, 7, 1, 8)), np.int64)
    net.add("ScatterElements", "x", where, net.const(np.ones((1, 7, 1, 8))), out="y",
            axis=2, reduction="max")  # fmt: skip


def holes(net: Net) -> None:
    net.add("AveragePool", "x", kernel_shape=[2, 2], dilations=[2, 2], out="y")


def last_window_in_the_padding(net: Net) -> None:
    """8 px by 3 with a pad of 1 behind: the fourth window starts where nothing is."""
    more = {"kernel_shape": [1, 1], "strides": [3, 3], "pads": [0, 0, 2, 2], "ceil_mode": 1}
    net.add("AveragePool", "x", out="y", **more)


def cropped(net: Net) -> None:
    net.add("CenterCropPad", "x", net.const([4, 4], np.int64), out="y", axes=[2, 3])


def turned(net: Net) -> None:
    net.add("RotaryEmbedding", "x", net.random(8, 4), net.random(8, 4), out="y",
            num_heads=7)  # fmt: skip


def attention_in_a_window(net: Net) -> None:
    """28: an attribute that says which neighbours count; and one that nobody knows yet."""
    net.add("Attention", "x", "x", "x", out="y", sliding_window=3)


@pytest.mark.parametrize(
    ("part", "opset", "why"),
    [
        (attention_in_a_window, 23, "Attention y: sliding_window has no older form"),
        (smoothed, 18, "Resize y: it smooths what it makes smaller (antialias)"),
        (keeps_aspect, 18, "Resize y: it keeps the aspect by itself"),
        (axes_by_the_picture, 18, "ReduceMean y: its axes are known only when it runs"),
        (scattered_by_max, 18, "ScatterElements y: reduction max"),
        (holes, 19, "AveragePool y: it has dilations"),
        (last_window_in_the_padding, 19, "AveragePool y: its last window lies in the padding"),
        (cropped, 18, "CenterCropPad y: it came with opset 18, and has no older form"),
        (turned, 23, "RotaryEmbedding y: it came with opset 23, and has no older form"),
    ],
)
def test_what_has_no_older_words_is_refused_with_the_ceiling_and_the_way_out(
    part: Callable[[Net], None], opset: int, why: str
) -> None:
    model = whole(part, opset)
    with pytest.raises(Rejected) as refused:
        lower(model, [])
    assert f"opset {opset}: expected at most 17, which the oldest runtime" in refused.value.what
    assert why in refused.value.what
    assert "opset_version=17, dynamo=False" in refused.value.hint


def test_notes_of_the_exporter_stay_on_its_machine() -> None:
    """The default exporter of torch writes the lines that made each node, with their paths."""
    model = whole(gelu, 20)
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/desk/of/ana/x")
    model.graph.node[1].doc_string = "/desk/of/ana/y"
    model.metadata_props.add(key="description", value="trained on /desk/of/ana/data.yaml")
    did: list[str] = []
    drop_notes(model, did)
    assert b"/desk/of/ana" not in model.SerializeToString()
    assert did == ["notes of the exporter left out of 3 places"]


def test_a_net_as_the_default_exporter_of_torch_writes_it_is_packed(desk: Desk) -> None:
    """Opset 20: pads and reductions by axes, a Gelu, norms, a Split, a Resize, Clip."""
    net = Net(8)
    pads = [net.const([1, 1, 1, 1], np.int64), net.const(0.0), net.const([2, 3], np.int64)]
    x = net.add("Pad", "x", *pads, mode="constant")
    x = net.add("Conv", x, net.random(8, 3, 3, 3, scale=0.2), net.random(8), strides=[4, 4])
    mean = net.add("ReduceMean", x, net.const([2, 3], np.int64), keepdims=1)
    x = net.add("Gelu", net.add("Sub", x, mean))
    net.nodes.append(onnx.helper.make_node("Split", [x], ["a", "b"], axis=1, num_outputs=2))
    x = net.add("LayerNormalization", "a", net.random(24), net.random(24), axis=-1)
    x = net.add("Clip", net.add("Mul", x, "b"), net.const(-6.0), net.const(6.0))
    more = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "antialias": 0,
            "keep_aspect_ratio_policy": "stretch"}  # fmt: skip
    net.add("Resize", x, "", "", net.const([1, 4, 8, 12], np.int64), out="y", **more)
    model = net.model(DESK_IN, OUT, opset=20, ir=10)
    packed = desk.pack(model, above("dynamo") + MASK)
    assert "opset 20 -> 17" in packed.did
    (single,) = [one for one in packed.variants if one.precision == "fp32"]
    assert single.measured["y"] < 1e-4


@pytest.mark.parametrize(("had", "gets"), [(3, 8), (8, 8), (10, 10), (11, 10), (13, 10)])
def test_the_ir_version_is_one_that_the_oldest_runtime_reads(had: int, gets: int) -> None:
    net = Net()
    net.add("Relu", "x", out="y")
    model = net.model([IN], [("y", TensorProto.FLOAT, [1, 7, 8, 8])], ir=had)
    limit_ir(model, [])
    assert model.ir_version == gets
