"""Operators of opset 18 and later, said in those of opset 17: one rule for each.

A rule changes its node, or puts others in its place. It raises `Rejected` with the reason alone
where the old words do not say the same; `opset` adds what is to be done. That a rule is right is
shown on the person's frames as well: the file as it came is run beside the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from onnx import TensorProto

from tools.hot_tier.packing.known import Bench, Sizes

Rule = Callable[[Bench], None]

NARROW: Final = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
UNTOUCHED: Final = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"})


def ints(bench: Bench, index: int, what: str) -> list[int] | None:
    """A constant input as whole numbers; None where it is left out. Raises: Rejected."""
    name = bench.given(index)
    if not name:
        return None
    found = bench.known.constant(name)
    if found is None:
        raise bench.refuse(f"its {what} are known only when it runs")
    return [int(one) for one in found.reshape(-1)]


def rank_of(bench: Bench) -> int:
    """Of the first input. Raises: Rejected."""
    rank = bench.known.rank(bench.given(0))
    if rank is None:
        raise bench.refuse("how many axes its input has is not known")
    return rank


def sizes_of(bench: Bench, index: int = 0) -> Sizes:
    """Raises: Rejected."""
    sizes = bench.known.sizes(bench.given(index))
    if sizes is None:
        raise bench.refuse("its size is not known")
    return sizes


def axes_of(bench: Bench, axes: list[int], rank: int) -> list[int]:
    """As 0 and up. Raises: Rejected."""
    found = [axis + rank if axis < 0 else axis for axis in axes]
    if any(not 0 <= axis < rank for axis in found) or len(set(found)) != len(found):
        raise bench.refuse(f"axes {axes} of {rank} make no sense")
    return found


def reduce(bench: Bench) -> None:
    """18: axes are an input, and none may mean nothing. 13: an attribute; none means all."""
    axes = ints(bench, 1, "axes")
    idle = bool(bench.said("noop_with_empty_axes", 0))
    bench.unsay("noop_with_empty_axes")
    del bench.node.input[1:]
    if not axes and idle:
        if bench.node.op_type not in UNTOUCHED:
            raise bench.refuse("it reduces over no axes")
        bench.add("Identity", bench.given(0), last=True)
        return
    if axes:
        bench.say("axes", axes)
    bench.keep()


def split(bench: Bench) -> None:
    """18: `num_outputs`, the last part may be smaller. 13: equal parts, or their sizes."""
    bench.unsay("num_outputs")
    if not bench.given(1):
        sizes, axis = sizes_of(bench), bench.said("axis", 0)
        (axis,) = axes_of(bench, [axis], len(sizes))
        size, parts = sizes[axis], len(bench.node.output)
        if size % parts:
            step = -(-size // parts)
            shares = [min(step, size - step * index) for index in range(parts)]
            if min(shares) < 0:
                raise bench.refuse(f"{size} cannot be split into {parts} parts")
            del bench.node.input[1:]
            bench.node.input.append(bench.const(shares, np.int64))
    bench.keep()


def pad(bench: Bench) -> None:
    """18 may name axes, 19 may wrap; else as 13."""
    axes = ints(bench, 3, "axes")
    wraps = bench.said("mode", "constant") == "wrap"
    if axes is not None or wraps:
        rank = rank_of(bench)
        pads = ints(bench, 1, "pads") or []
        chosen = list(range(rank)) if axes is None else axes_of(bench, axes, rank)
        if len(pads) != 2 * len(chosen):
            raise bench.refuse(f"{len(pads)} pads for {len(chosen)} axes")
        both = [0] * 2 * rank
        for index, axis in enumerate(chosen):
            both[axis], both[rank + axis] = pads[index], pads[index + len(chosen)]
        if wraps:
            _wrap(bench, both, sizes_of(bench))
            return
        kept = [bench.given(0), bench.const(both, np.int64), bench.given(2)]
        del bench.node.input[:]
        bench.node.input.extend(kept if kept[2] else kept[:2])
    bench.keep()


def _wrap(bench: Bench, pads: list[int], sizes: Sizes) -> None:
    """Beside each axis its other end. Raises: Rejected."""
    rank, value = len(sizes), bench.given(0)
    for axis, size in enumerate(sizes):
        before, after = pads[axis], pads[rank + axis]
        if min(before, after) < 0 or max(before, after) > size:
            raise bench.refuse("it wraps more than once")
        parts = [value]
        if before:
            parts.insert(0, _cut(bench, value, axis, (size - before, size)))
        if after:
            parts.append(_cut(bench, value, axis, (0, after)))
        if len(parts) > 1:
            value = bench.add("Concat", *parts, axis=axis)
    bench.add("Identity", value, last=True)


def _cut(bench: Bench, value: str, axis: int, edges: tuple[int, int]) -> str:
    low, high, on = (bench.const([one], np.int64) for one in (*edges, axis))
    return bench.add("Slice", value, low, high, on)


def resize(bench: Bench) -> None:
    """18: antialias, axes, a policy for the aspect; 19: `half_pixel_symmetric`. Else as 13."""
    if bench.said("antialias", 0):
        raise bench.refuse("it smooths what it makes smaller (antialias)")
    if bench.said("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise bench.refuse("it keeps the aspect by itself (keep_aspect_ratio_policy)")
    axes = bench.said("axes")
    mode = bench.said("coordinate_transformation_mode", "half_pixel")
    if axes is not None:
        if mode == "tf_crop_and_resize":
            raise bench.refuse("it cuts some axes (tf_crop_and_resize)")
        _all_axes(bench, list(axes))
    if mode == "half_pixel_symmetric":
        _symmetric(bench)
    bench.unsay("antialias", "keep_aspect_ratio_policy", "axes")
    bench.keep()


def _all_axes(bench: Bench, axes: list[int]) -> None:
    """Scales or sizes of some axes become those of all. Raises: Rejected."""
    sizes = sizes_of(bench)
    chosen = axes_of(bench, axes, len(sizes))
    for index, kind in ((2, np.float32), (3, np.int64)):
        name = bench.given(index)
        told = bench.known.constant(name) if name else None
        if not name or (told is not None and not told.size):
            continue
        if told is None or told.size != len(chosen):
            raise bench.refuse("its scales and sizes are known only when it runs")
        every = np.ones(len(sizes), kind) if index == 2 else np.array(sizes, kind)
        every[chosen] = told.reshape(-1)
        bench.node.input[index] = bench.const(every, kind)


def _symmetric(bench: Bench) -> None:
    """Is `half_pixel` where the scale leaves no rest. Raises: Rejected."""
    sizes, told = sizes_of(bench), bench.known.constant(bench.given(2))
    if bench.given(2) and told is not None and told.size == len(sizes):
        wide = np.array(sizes) * told.reshape(-1).astype(np.float64)
        exact = bool(np.allclose(wide, np.round(wide), rtol=0, atol=1e-4))
    else:
        exact = bool(bench.given(3))  # of sizes the scale is made, without a rest
    if not exact:
        raise bench.refuse("its scale leaves a rest (half_pixel_symmetric)")
    bench.say("coordinate_transformation_mode", "half_pixel")


def grid_sample(bench: Bench) -> None:
    """20 has other words for the same modes, and more axes."""
    if rank_of(bench) != 4:
        raise bench.refuse("expected 4 axes")
    words = {"linear": "bilinear", "cubic": "bicubic"}
    mode = bench.said("mode", "linear")
    bench.say("mode", words.get(mode, mode))
    bench.keep()


def scatter(bench: Bench) -> None:
    """18 takes `max` and `min` besides."""
    if bench.said("reduction", "none") not in {"none", "add", "mul"}:
        raise bench.refuse(f"reduction {bench.said('reduction')}")
    bench.keep()


def pool(bench: Bench) -> None:
    """19: holes in a mean; 22: no window starts in the padding behind the picture."""
    if bench.node.op_type != "MaxPool":
        if any(one != 1 for one in bench.said("dilations", [])):
            raise bench.refuse("it has dilations")
        bench.unsay("dilations")
    if bench.said("ceil_mode", 0):
        _refuse_other_count(bench)
    bench.keep()


def _refuse_other_count(bench: Bench) -> None:
    """Raises: Rejected where the older rule makes one window more."""
    kernel = list(bench.said("kernel_shape"))
    axes = len(kernel)
    sizes = sizes_of(bench)[-axes:]
    strides, pads = bench.said("strides", [1] * axes), bench.said("pads", [0] * 2 * axes)
    holes = bench.said("dilations", [1] * axes)
    for axis, size in enumerate(sizes):
        room = size + pads[axis] + pads[axes + axis] - (kernel[axis] - 1) * holes[axis] - 1
        last = -(-room // strides[axis]) * strides[axis]  # where the last window starts
        if last >= size + pads[axis]:
            raise bench.refuse("its last window lies in the padding alone (ceil_mode)")


def gelu(bench: Bench) -> None:
    """x/2 * (1 + erf(x / sqrt 2)), or with a tanh."""
    x = bench.given(0)
    number = _numbers(bench)
    if bench.said("approximate", "none") == "tanh":
        cube = bench.add("Mul", bench.add("Mul", x, x), x)
        inner = bench.add("Add", x, bench.add("Mul", cube, number(0.044715)))
        bent = bench.add("Tanh", bench.add("Mul", inner, number(math.sqrt(2 / math.pi))))
    else:
        bent = bench.add("Erf", bench.add("Mul", x, number(math.sqrt(0.5))))
    half = bench.add("Mul", x, number(0.5))
    bench.add("Mul", half, bench.add("Add", bent, number(1.0)), last=True)


def mish(bench: Bench) -> None:
    """x * tanh(softplus(x))."""
    x = bench.given(0)
    bench.add("Mul", x, bench.add("Tanh", bench.add("Softplus", x)), last=True)


def swish(bench: Bench) -> None:
    """x * sigmoid(alpha * x)."""
    x = inner = bench.given(0)
    alpha = float(bench.said("alpha", 1.0))
    if alpha != 1.0:
        inner = bench.add("Mul", x, _numbers(bench)(alpha))
    bench.add("Mul", x, bench.add("Sigmoid", inner), last=True)


def group_norm(bench: Bench) -> None:
    """Each group is one plane of an InstanceNormalization; then scale and bias of channels.

    18 has scale and bias of each group, 21 of each channel.
    """
    sizes, groups = sizes_of(bench), int(bench.said("num_groups"))
    weights = sizes_of(bench, 1)
    if len(sizes) < 3 or groups < 1 or sizes[1] % groups or weights[0] not in {groups, sizes[1]}:
        raise bench.refuse(f"{groups} groups of {list(sizes)} make no sense")
    kind = bench.known.kind(bench.given(0))
    x, put_back = _widened(bench, kind)
    flat = bench.add("Reshape", x, bench.const([sizes[0], groups, -1], np.int64))
    ones, zeros = bench.const(np.ones(groups), np.float32), bench.const(np.zeros(groups), "f4")
    even = bench.add("InstanceNormalization", flat, ones, zeros, epsilon=_epsilon(bench))
    share = sizes[1] // weights[0]
    cut = [sizes[0], weights[0], share, -1]
    even = bench.add("Reshape", even, bench.const(cut, np.int64))
    for index, how in ((1, "Mul"), (2, "Add")):
        weight = bench.add("Reshape", bench.given(index), bench.const([-1, 1, 1], np.int64))
        if kind in NARROW:
            weight = bench.add("Cast", weight, to=TensorProto.FLOAT)
        even = bench.add(how, even, weight)
    even = bench.add("Reshape", even, bench.const(sizes, np.int64))
    put_back(even)


def rms_norm(bench: Bench) -> None:
    """x / sqrt(mean(x^2) + epsilon) * scale, the mean over the last axes."""
    rank = rank_of(bench)
    (first,) = axes_of(bench, [int(bench.said("axis", -1))], rank)
    kind = bench.known.kind(bench.given(0))
    x, put_back = _widened(bench, kind)
    mean = bench.add("ReduceMean", bench.add("Mul", x, x), axes=list(range(first, rank)))
    more = bench.add("Add", mean, bench.const(_epsilon(bench), np.float32))
    even = bench.add("Div", x, bench.add("Sqrt", more))
    scale = bench.given(1)
    if kind in NARROW:
        scale = bench.add("Cast", scale, to=TensorProto.FLOAT)
    put_back(bench.add("Mul", even, scale))


def attention(bench: Bench) -> None:
    """softmax(q * k^T * scale + mask) * v, for as many heads of keys as of queries."""
    q, k, v = (sizes_of(bench, index) for index in range(3))
    plain = all(len(one) == 4 for one in (q, k, v)) and q[:2] == k[:2] == v[:2]
    asks = ("softcap", "qk_matmul_output_mode", "softmax_precision")
    if not plain or len(bench.node.input) > 4 or len(bench.node.output) > 1:
        raise bench.refuse("expected [batch, heads, length, size] and no past")
    if any(bench.said(name, 0) not in {0, TensorProto.FLOAT} for name in asks):
        raise bench.refuse(f"expected none of {', '.join(asks)}")
    number = _numbers(bench)
    scale = float(bench.said("scale", 0.0)) or 1 / math.sqrt(q[3])
    turned = bench.add("Transpose", bench.given(1), perm=[0, 1, 3, 2])
    fit = bench.add("MatMul", bench.add("Mul", bench.given(0), number(scale)), turned)
    if bench.given(3):
        if bench.known.kind(bench.given(3)) != bench.known.kind(bench.given(0)):
            raise bench.refuse("its mask is no number to be added")
        fit = bench.add("Add", fit, bench.given(3))
    if bench.said("is_causal", 0):
        if q[2] != k[2]:
            raise bench.refuse("is_causal with other lengths of queries than of keys")
        later = np.triu(np.full((q[2], q[2]), -np.inf), 1)
        fit = bench.add("Add", fit, bench.const(later, _kind_of(bench)))
    bench.add("MatMul", bench.add("Softmax", fit, axis=-1), bench.given(2), last=True)


def _epsilon(bench: Bench) -> float:
    return float(bench.said("epsilon", 1e-5))


def _kind_of(bench: Bench) -> Any:
    """numpy's type of the first input. Raises: Rejected."""
    kinds: dict[int, Any] = {
        TensorProto.FLOAT: np.float32,
        TensorProto.FLOAT16: np.float16,
        TensorProto.DOUBLE: np.float64,
    }
    kind = bench.known.kind(bench.given(0))
    if kind not in kinds:
        raise bench.refuse("its type is not known")
    return kinds[kind]


def _numbers(bench: Bench) -> Callable[[float], str]:
    """Constants of the type of the first input. Raises: Rejected."""
    kind = _kind_of(bench)
    return lambda value: bench.const(value, kind)


def _widened(bench: Bench, kind: int) -> tuple[str, Callable[[str], str]]:
    """The first input in single precision, and what brings the result back into its own.

    Raises: Rejected.
    """
    if kind == TensorProto.FLOAT:
        return bench.given(0), lambda value: bench.add("Identity", value, last=True)
    if kind not in NARROW:
        raise bench.refuse("its type is not known, or double")
    wide = bench.add("Cast", bench.given(0), to=TensorProto.FLOAT)
    return wide, lambda value: bench.add("Cast", value, to=kind, last=True)


RULES: Final[dict[str, Rule]] = {
    "Attention": attention, "AveragePool": pool, "Gelu": gelu, "GridSample": grid_sample,
    "GroupNormalization": group_norm, "LpPool": pool, "MaxPool": pool, "Mish": mish, "Pad": pad,
    "RMSNormalization": rms_norm, "Resize": resize, "ScatterElements": scatter,
    "ScatterND": scatter, "Split": split, "Swish": swish,
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
         "ReduceMin", "ReduceProd", "ReduceSumSquare"), reduce,
    ),
}  # fmt: skip
"""By operator."""

SAME: Final = frozenset({
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "CastLike", "Celu", "Compress",
    "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "Cosh", "DepthToSpace",
    "DequantizeLinear", "Det", "Dropout", "Einsum", "Elu", "Equal", "EyeLike", "Flatten", "GRU",
    "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity",
    "If", "InstanceNormalization", "IsInf", "IsNaN", "LSTM", "Loop", "LpNormalization",
    "MaxUnpool", "Mod", "OneHot", "QLinearMatMul", "QuantizeLinear", "RNN", "Range", "Reshape",
    "ReverseSequence", "RoiAlign", "Round", "Scan", "Selu", "Shape", "Sin", "Sinh", "Size",
    "Softplus", "Softsign", "SpaceToDepth", "Squeeze", "Tan", "ThresholdedRelu", "TopK",
    "Transpose", "Unique", "Unsqueeze",
})  # fmt: skip
"""Newer forms of these take more types, or have attributes more whose defaults say the same."""
