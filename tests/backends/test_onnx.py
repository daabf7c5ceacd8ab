from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_agent import backends
from edge_agent.backends.onnx import OnnxBackend
from edge_agent.core.errors import BadFrame, ConfigError, Rejected
from edge_agent.ports import Backend
from tests.backends import graphs
from tests.backends.contract import ROI, SHAPE, BackendContract, echo_manifest

STATE = {"input": "s", "output": "s_next"}


class TestOnnx(BackendContract):
    @pytest.fixture(params=[1, 2])
    def backend(self, request: pytest.FixtureRequest) -> Backend:
        return OnnxBackend(threads=request.param)


def adds_up(folder: Path, state: list[Any], result: list[Any]) -> Path:
    """s_next = s + x; y is s_next in mask layout."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "s"], ["s_next"]),
        helper.make_node("Transpose", ["s_next"], ["y"], perm=[0, 3, 1, 2]),
    ]
    return graphs.save(
        folder,
        nodes,
        {"x": (TensorProto.UINT8, SHAPE), "s": (TensorProto.FLOAT, state)},
        {"y": (TensorProto.FLOAT, [1, 1, 12, 16]), "s_next": (TensorProto.FLOAT, result)},
    )


def test_states_are_fed_back_and_zeroed(tmp_path: Path) -> None:
    adds_up(tmp_path, SHAPE, SHAPE)
    bound = OnnxBackend().load(tmp_path, echo_manifest(states=[STATE])).bind()
    bound.fill(graphs.gray(level=2), ROI)
    assert [float(bound.run()["y"].max()) for _ in range(5)] == [2, 4, 6, 8, 10]
    bound.reset_state()
    assert [float(bound.run()["s_next"].min()) for _ in range(2)] == [2, 4]


def test_states_belong_to_a_stream(tmp_path: Path) -> None:
    adds_up(tmp_path, SHAPE, SHAPE)
    session = OnnxBackend().load(tmp_path, echo_manifest(states=[STATE]))
    one, other = session.bind(), session.bind()
    one.fill(graphs.gray(level=2), ROI)
    other.fill(graphs.gray(level=5), ROI)
    assert [float(b.run()["y"][0, 0, 0, 0]) for b in (one, one, other)] == [2, 4, 5]


@pytest.mark.parametrize(
    ("states", "shape", "words"),
    [
        ([], SHAPE, r"expected inputs \['x'\], got \['s', 'x'\]"),
        ([STATE | {"output": "gone"}], SHAPE, "expected output gone, the file has none"),
        ([STATE], ["n", 12, 16, 1], "same type and fixed shape"),
    ],
)
def test_states_that_do_not_fit_are_refused(
    states: list[dict[str, str]], shape: list[Any], words: str, tmp_path: Path
) -> None:
    adds_up(tmp_path, shape, SHAPE)
    with pytest.raises(Rejected, match=words):
        OnnxBackend().load(tmp_path, echo_manifest(states=states))


def test_outputs_of_a_length_that_changes_are_read(tmp_path: Path) -> None:
    """Pixels above 6: how many there are only a run tells."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["f", "flat"], ["row"]),
        helper.make_node("Greater", ["f", "six"], ["bright"]),
        helper.make_node("Reshape", ["bright", "line"], ["chosen"]),
        helper.make_node("Compress", ["row", "chosen"], ["y"], axis=1),
    ]
    consts = {"flat": [1, 192], "line": [192]}
    graphs.save(
        tmp_path,
        nodes,
        {"x": (TensorProto.UINT8, SHAPE)},
        {"y": (TensorProto.FLOAT, [1, "n"])},
        {name: np.asarray(size, np.int64) for name, size in consts.items()}
        | {"six": np.asarray(6, np.float32)},
    )
    bound = OnnxBackend().load(tmp_path, graphs.manifest(graphs.head("probs", "y"))).bind()
    for bright_rows in (2, 24, 0, 12):
        pixels = np.zeros((24, 32), np.uint8)
        pixels[:bright_rows] = 9
        bound.fill(graphs.frame(pixels), ROI)
        assert bound.run()["y"].tolist() == [[9.0] * (bright_rows // 2 * 16)]


def test_a_run_that_fails_is_a_bad_frame(tmp_path: Path) -> None:
    """An index out of range is found only when it runs."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["f", "flat"], ["row"]),
        helper.make_node("ReduceMax", ["row"], ["top"], axes=[1], keepdims=0),
        helper.make_node("Cast", ["top"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["row", "index"], ["y"], axis=1),
    ]
    graphs.save(
        tmp_path,
        nodes,
        {"x": (TensorProto.UINT8, SHAPE)},
        {"y": (TensorProto.FLOAT, [1, 1])},
        {"flat": np.asarray([1, 192], np.int64)},
    )
    bound = OnnxBackend().load(tmp_path, graphs.manifest(graphs.head("probs", "y"))).bind()
    bound.fill(graphs.gray(level=191), ROI)
    assert bound.run()["y"].tolist() == [[191]]
    bound.fill(graphs.gray(level=250), ROI)
    with pytest.raises(BadFrame, match=r"run model tiny 1\.0\.0") as bad:
        bound.run()
    assert bad.value.hint
    bound.fill(graphs.gray(level=3), ROI)
    assert bound.run()["y"].tolist() == [[3]]


@pytest.mark.parametrize("versions", [{"opset": 99}, {"ir": 99}])
def test_a_model_from_the_future_is_refused_with_what_to_do(
    versions: dict[str, int], tmp_path: Path
) -> None:
    graphs.echoes(tmp_path, SHAPE, [1, 1, 12, 16], **versions)
    with pytest.raises(Rejected, match="load model tiny") as refused:
        OnnxBackend().load(tmp_path, echo_manifest())
    assert "opset <= 17 and IR <= 10" in refused.value.hint


def test_an_input_that_is_not_uint8_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["y"], perm=[0, 3, 1, 2])]
    ports = {"x": (TensorProto.FLOAT, SHAPE)}
    graphs.save(tmp_path, nodes, ports, {"y": (TensorProto.FLOAT, [1, 1, 12, 16])})
    with pytest.raises(Rejected, match=r"expected tensor\(uint8\), got tensor\(float\)"):
        OnnxBackend().load(tmp_path, echo_manifest())


def test_the_first_variant_for_this_backend_is_taken(tmp_path: Path) -> None:
    graphs.echoes(tmp_path, SHAPE, [1, 1, 12, 16])
    variants = [
        {"name": "engine", "file": "gone.onnx", "backends": ["tensorrt"]},
        {"name": "cpu", "file": "model.onnx"},
    ]
    assert OnnxBackend().load(tmp_path, echo_manifest(variants=variants)).variant == "cpu"
    with pytest.raises(Rejected, match="expected a variant for backend onnx") as refused:
        OnnxBackend().load(tmp_path, echo_manifest(variants=variants[:1]))
    assert refused.value.hint


def test_auto_is_onnx_and_tensorrt_is_not_there_yet() -> None:
    assert backends.make("auto", threads=2).name == "onnx"
    with pytest.raises(ConfigError, match="not built in yet") as refused:
        backends.make("tensorrt")
    assert refused.value.field == "engine.backend"
    assert refused.value.hint


def test_loading_a_model_reports_to_nobody(tmp_path: Path) -> None:
    """The vendor's telemetry would leave a session file, a device id and an uploading thread."""
    graphs.echoes(tmp_path / "model", SHAPE, [1, 1, 12, 16])
    home = tmp_path / "home"
    home.mkdir()
    code = (
        "import os, pathlib; from tests.backends.contract import echo_manifest\n"
        "from edge_agent import backends\n"
        f"backends.make('auto').load(pathlib.Path({str(tmp_path / 'model')!r}), echo_manifest())\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    own = {"HOME": str(home), "TMPDIR": str(home), "OPENBLAS_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=keep | own,
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert list(home.iterdir()) == []
    assert int(done.stdout) == 1
