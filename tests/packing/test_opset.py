"""Newer opsets come down where what they say can be said in the older words, and say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from edge_agent.core.errors import Rejected
from tests.packing.foreign import Net, Port
from tools.hot_tier.packing.opset import limit_ir, lower

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


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize(
    "part", [uneven_split, split_by_sizes, padded, sampled, sampled_by_default, in_a_branch]
)
def test_what_comes_down_says_the_same(part: Callable[[Net], None], opset: int) -> None:
    if part in {sampled, sampled_by_default} and opset == 18:
        opset = 21
    net = Net()
    part(net)
    model = net.model([IN], [("y", TensorProto.FLOAT, [None] * 4)], opset=opset, ir=10)
    model = onnx.shape_inference.infer_shapes(model)
    fed = np.random.default_rng(2).normal(size=(1, 7, 8, 8)).astype(np.float32)
    wanted = run(model, fed)
    did: list[str] = []
    older = lower(model, did)
    assert did == [f"opset {opset} -> 17"]
    assert [(one.domain, one.version) for one in older.opset_import] == [("", 17)]
    assert np.array_equal(run(older, fed), wanted)


def run(model: Any, fed: Any) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    (said,) = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": fed})
    return said


def pad_of_some_axes(net: Net) -> None:
    pads = [net.const(one, kind) for one, kind in (([1, 1], np.int64), (0.0, np.float32))]
    net.add("Pad", "x", *pads, net.const([3], np.int64), out="y")


def mish(net: Net) -> None:
    net.add("Mish", "x", out="y")


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (pad_of_some_axes, "Pad y: its axes or mode are of opset 18"),
        (mish, "No Previous Version of Mish exists"),
    ],
)
def test_what_has_no_older_words_is_refused(part: Callable[[Net], None], why: str) -> None:
    net = Net()
    part(net)
    model = net.model([IN], [("y", TensorProto.FLOAT, [None] * 4)], opset=18, ir=10)
    with pytest.raises(Rejected, match=why):
        lower(model, [])


@pytest.mark.parametrize(("had", "gets"), [(3, 8), (8, 8), (10, 10), (11, 10), (13, 10)])
def test_the_ir_version_is_one_that_the_oldest_runtime_reads(had: int, gets: int) -> None:
    net = Net()
    net.add("Relu", "x", out="y")
    model = net.model([IN], [("y", TensorProto.FLOAT, [1, 7, 8, 8])], ir=had)
    limit_ir(model, [])
    assert model.ir_version == gets
