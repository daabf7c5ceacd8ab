"""What was encoded comes back, byte for byte, from whatever two packages; and it is short."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_agent.core.errors import Rejected
from edge_agent.core.modeldelta import apply, encode, inspect, snap
from edge_agent.core.modeldelta.lanes import LANE_ITEMS, Kind
from edge_agent.core.modeldelta.tensors import members, tensors
from tests.modeldelta import made, second

DTYPES = ("f4", "f2", "f8", "i1", "u1", "i2", "i4", "i8")


def there_and_back(base: bytes, new: bytes) -> bytes:
    """The delta; both decoders made the same of it."""
    delta = encode(base, new)
    assert apply(base, delta, max_bytes=len(new)) == new
    if len(new) < 300_000:
        assert second.expand(base, delta) == new
    return delta


def test_metadata_costs_a_few_hundred_bytes() -> None:
    net = made.weights()
    delta = there_and_back(made.model(net), made.model(net, version="1.0.1"))
    assert inspect(delta).mode == "prefix"
    assert len(delta) < 300


def test_a_head_costs_what_the_head_is() -> None:
    net = made.weights()
    head = net | {"block.5.bias": net["block.5.bias"] + np.float32(0.25)}
    delta = there_and_back(made.model(net), made.model(head))
    assert len(delta) < 300 + net["block.5.bias"].nbytes


@pytest.mark.parametrize(
    ("dtype", "step", "most"), [("f4", 1e-3, 0.75), ("f4", 1e-5, 0.55), ("f2", 1e-3, 0.50)]
)
def test_a_fine_tune_is_shorter_than_the_model(dtype: str, step: float, most: float) -> None:
    net = made.weights(dtype=dtype)
    new = made.model(made.tuned(net, step=step))
    delta = there_and_back(made.model(net), new)
    assert inspect(delta).mode == "residual"
    assert len(delta) < most * len(new)


def test_whole_numbers_that_hardly_move_cost_little() -> None:
    chance = np.random.default_rng(3)
    net = {"q": chance.integers(-128, 128, 30_000).astype(np.int8)}
    moved = {"q": net["q"] + (chance.random(30_000) < 0.05).astype(np.int8)}
    delta = there_and_back(made.model(net), made.model(moved))
    assert len(delta) < 0.08 * 30_000  # with 0.29 bits of entropy a number, 0.036 of it


def test_an_unrelated_model_needs_no_base() -> None:
    new = made.model(made.weights(seed=9))
    delta = there_and_back(made.model(made.weights(seed=1)), new)
    assert inspect(delta).mode == "plain"
    assert apply(b"whatever", delta, max_bytes=len(new)) == new
    assert delta == there_and_back(b"", new)
    assert len(delta) < 0.88 * len(new)


def test_tensors_are_found_again_under_other_names_and_in_another_order() -> None:
    net = made.weights()
    renamed = {f"net/{name}": array for name, array in reversed(made.tuned(net).items())}
    new = made.model(renamed)
    assert len(there_and_back(made.model(net), new)) < 0.8 * len(new)


def test_a_tensor_is_matched_by_its_name_before_its_shape() -> None:
    net = made.weights()
    swapped = net | {f"block.{n}.weight": net[f"block.{n}.weight"] for n in (5, 4, 3, 2, 1, 0)}
    new = made.model(dict(sorted(swapped.items(), key=lambda item: item[0][::-1])))
    assert len(there_and_back(made.model(net), new)) < 0.02 * len(new)


def test_large_tensors_are_cut_into_lanes_and_small_ones_share() -> None:
    chance = np.random.default_rng(4)
    net = {f"t{n}": chance.standard_normal(100).astype("f4") for n in range(40)}
    net["large"] = chance.standard_normal(LANE_ITEMS + 5).astype("f4")
    delta = there_and_back(made.model(net), made.model(made.tuned(net)))
    assert len(inspect(delta).lanes) == 2


@pytest.mark.parametrize(("bits", "most", "error"), [(8, 0.27, 0.02), (4, 0.15, 0.3)])
@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_a_snapped_update_is_near_and_its_delta_short(
    bits: Any, most: float, error: float, dtype: str
) -> None:
    net = made.weights(dtype=dtype)
    tuned = made.tuned(net, step=1e-2)
    base, new = made.onnx_file(net), made.onnx_file(tuned)
    out = snap(base, new, bits)
    delta = there_and_back(made.package({"m.onnx": base}), made.package({"m.onnx": out}))
    assert inspect(delta).mode == "snapped"
    assert len(delta) < most * len(out) * (1 if dtype == "f4" else 2)
    name = "block.3.weight"
    spot = {t.name: t for t in tensors(out, members(out))}[name.encode()]
    got = np.frombuffer(out, f"<{dtype}", net[name].size, spot.at).astype("f8")
    wanted, was = (array[name].astype("f8").reshape(-1) for array in (tuned, net))
    assert np.std(got - wanted) < error * np.std(wanted - was)
    small = {t.name: t for t in tensors(new, members(new))}[b"block.3.bias"]
    assert out[small.at : small.at + small.size] == new[small.at : small.at + small.size]


def test_a_snap_onto_a_model_without_its_tensors_is_refused() -> None:
    with pytest.raises(Rejected, match="expected float tensors"):
        snap(b"no onnx", made.onnx_file(made.weights()))


def test_weights_that_are_no_numbers_come_back_too() -> None:
    net = made.weights()
    odd = {name: array.copy() for name, array in made.tuned(net).items()}
    odd["block.0.weight"].reshape(-1)[:4] = [np.nan, np.inf, -np.inf, -0.0]
    new = made.model(odd)
    there_and_back(made.model(net), new)
    there_and_back(new, made.model(net))
    assert snap(made.onnx_file(net), made.onnx_file(odd))


def test_numbers_in_the_older_field_and_bfloat16_are_found() -> None:
    packed = helper.make_tensor("old", TensorProto.FLOAT, [64], np.ones(64).tolist())
    brain = helper.make_tensor("bf", TensorProto.BFLOAT16, [32], bytes(64), raw=True)
    graph = helper.make_graph([], "g", [], [], [packed, brain])
    content = helper.make_model(graph).SerializeToString()
    found = tensors(content, members(content))
    assert [(t.name, t.kind, t.size) for t in found] == [
        (b"old", Kind.F32, 256), (b"bf", Kind.BF16, 64),
    ]  # fmt: skip


def test_equal_packages_are_one_span() -> None:
    package = made.model(made.weights())
    assert len(there_and_back(package, package)) < 120


def test_encoding_is_deterministic() -> None:
    net = made.weights()
    pair = made.model(net), made.model(made.tuned(net))
    assert encode(*pair) == encode(*pair)


def test_applying_needs_one_lane_beside_the_result() -> None:
    chance = np.random.default_rng(4)
    net = {f"t{n}": chance.standard_normal(500_000).astype("f4") for n in range(8)}
    base, new = made.model(net), made.model(made.tuned(net))
    delta = encode(base, new)
    tracemalloc.start()
    try:
        assert len(apply(memoryview(base), delta, max_bytes=1 << 30)) == len(new)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(new) + 40 * LANE_ITEMS  # 10 MiB, whatever the size of the model


@given(base=st.binary(max_size=400), new=st.binary(max_size=400))
@settings(max_examples=80, deadline=None)
def test_any_bytes_come_back(base: bytes, new: bytes) -> None:
    there_and_back(base, new)


@given(
    base=st.binary(max_size=3000),
    edits=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 60), st.binary(max_size=60))),
)
@settings(max_examples=50, deadline=None)
def test_edited_bytes_come_back(base: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    new = base
    for at, gone, put in edits:
        new = new[:at] + put + new[at + gone :]
    there_and_back(base, new)


@st.composite
def nets(draw: st.DrawFn) -> made.Weights:
    found: made.Weights = {}
    for number in range(draw(st.integers(0, 5))):
        kind = np.dtype(draw(st.sampled_from(DTYPES)))
        shape = tuple(draw(st.lists(st.integers(0, 12), max_size=3)))
        size = int(np.prod(shape)) * kind.itemsize
        raw = draw(st.one_of(st.binary(min_size=size, max_size=size), st.just(bytes(size))))
        found[draw(st.sampled_from(["a", "b", "c", f"t{number}"]))] = np.frombuffer(
            raw, kind
        ).reshape(shape)
    return found


@given(old=nets(), fresh=nets(), kept=st.booleans(), cut=st.integers(0, 2000))
@settings(max_examples=50, deadline=None)
def test_any_networks_come_back(
    old: made.Weights, fresh: made.Weights, *, kept: bool, cut: int
) -> None:
    new = made.model(old | fresh if kept else fresh, version="2.0.0")
    base = made.model(old)
    there_and_back(base, new)
    there_and_back(base, new[: len(new) - cut])  # a tar, or a file in it, that ends early
    there_and_back(base[cut:], new[cut:])
