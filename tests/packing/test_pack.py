"""Foreign models become packages that the agent's own backend loads, and say what they said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from edge_agent.backends.onnx import OnnxBackend
from edge_agent.core.frames import Frame
from edge_agent.core.manifest import Manifest
from edge_agent.ports import Bound
from edge_agent.stores.models import Models
from tests.packing import foreign
from tools.hot_tier.packing.make import pack
from tools.hot_tier.packing.report import Options, Packed

Made = tuple[Packed, Manifest, Path, Any]


@pytest.fixture(scope="module", params=list(foreign.MODELS))
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each model packed once: the report, the manifest as the store reads it, its folder."""
    here = tmp_path_factory.mktemp(request.param)
    file, manifest = foreign.write(here, request.param)
    frames = foreign.write_frames(here / "frames")
    packed = pack(
        Options(
            model=file, manifest=manifest, frames=frames, out=here / "x.eam", folder=here / "made"
        )
    )
    store = Models([here / "made"], shipped=False)
    folder = store.resolve(packed.name, "")
    return packed, store.manifest(folder), folder, onnx.load(file)


def by_numpy(name: str, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the foreign model is fed, by a person who knows it: not by the code under test.

    picture: BGR of the input's size.
    """
    numbers = picture.astype(np.float32)
    if name == "yolo":
        return only_float((numbers[..., ::-1] / 255).transpose(2, 0, 1)[None])
    if name == "detr":
        mean, std = [103.9, 116.8, 123.7], [57.4, 57.1, 58.4]
        return only_float(((numbers - mean) / std)[None])
    if name == "unet":
        gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
        return only_float((gray * 2 / 255 - 1)[None, None])
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    rgb = (numbers[..., ::-1] / 255 - mean) / std
    return only_float(rgb.transpose(2, 0, 1)[None])


def only_float(numbers: NDArray[Any]) -> NDArray[np.float32]:
    return numbers.astype(np.float32)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    """Of the input's size, so that no resize stands between the two ways."""
    rng = np.random.default_rng(77)
    size = (foreign.SIZE[1], foreign.SIZE[0], 3)
    return [rng.integers(0, 256, size).astype(np.uint8) for _ in range(count)]


def feed(bound: Bound, picture: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    bound.fill(Frame(number=1, captured_us=0, pixels=picture), (0, 0, *foreign.SIZE))
    return {name: array.copy() for name, array in bound.run().items()}


def test_the_agent_says_what_the_foreign_model_says(made: Made) -> None:
    packed, manifest, folder, model = made
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    fed_back = {state.input: np.zeros(shape_of(session, state.input)) for state in manifest.states}
    states = {name: zeros.astype(np.float32) for name, zeros in fed_back.items()}
    name = next(one.name for one in session.get_inputs() if one.name not in states)
    bound = OnnxBackend().load(folder, manifest).bind()
    (variant,) = [one for one in manifest.variants if one.precision == "fp32"]
    for picture in pictures(4):
        said = feed(bound, picture)
        values = session.run(None, {name: by_numpy(packed.name, picture), **states})
        wanted = dict(zip([one.name for one in session.get_outputs()], values, strict=True))
        for output, array in said.items():
            assert np.abs(array - wanted[output]).max() <= variant.tolerance_of(output), output
        states = {state.input: wanted[state.output] for state in manifest.states}
    assert set(said) == {one for head in manifest.heads for one in head.outputs} | {
        state.output for state in manifest.states
    }


def shape_of(session: Any, name: str) -> list[int]:
    (port,) = [one for one in session.get_inputs() if one.name == name]
    return [size if isinstance(size, int) else 1 for size in port.shape]


def test_what_is_made_is_uint8_and_old_enough_for_every_runtime(made: Made) -> None:
    _, manifest, folder, _ = made
    for variant in manifest.variants:
        model = onnx.load(folder / variant.file)
        onnx.checker.check_model(model, full_check=True)
        assert model.ir_version <= 10
        assert [one.version for one in model.opset_import] == [17]
        (entry,) = [one for one in model.graph.input if one.name == manifest.input.name]
        assert entry.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        for value in [*model.graph.input, *model.graph.output]:
            assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim), value.name


def test_the_fp16_variant_is_smaller_and_says_the_same_within_its_tolerance(made: Made) -> None:
    packed, manifest, folder, _ = made
    half, single = manifest.variants
    assert (half.precision, half.backends) == ("fp16", ("tensorrt",))
    assert (single.precision, single.backends) == ("fp32", ("onnx", "tensorrt"))
    weights = onnx.load(folder / half.file).graph.initializer
    halved = sum(int(np.prod(one.dims)) for one in weights if one.data_type == 10)
    single_left = sum(int(np.prod(one.dims)) for one in weights if one.data_type == 1)
    assert halved > 3 * single_left
    report = {one.name: one for one in packed.variants}["fp16"]
    assert set(report.measured) == set(half.tolerances)
    assert all(0 < report.measured[name] <= half.tolerances[name] for name in half.tolerances)


def test_the_tar_is_that_of_the_folder(made: Made) -> None:
    packed, _, folder, _ = made
    stored = Path(packed.out).read_bytes()
    assert stored == b"".join(Models([folder.parents[1]], shipped=False).pack(folder))
    assert len(stored) == packed.bytes


def test_the_report_tells_what_was_found(made: Made) -> None:
    packed, manifest, _, _ = made
    assert packed.frames == 6
    assert packed.objects > 0
    assert packed.reference == manifest.reference
    assert sum(packed.reference["scores"]) == pytest.approx(1.0, abs=0.001)
    assert 0 < packed.reference["findings_per_100"] <= 100
    assert ("flicker" in packed.reference) == bool(manifest.states)
    assert packed.golden_samples == 6
