"""What every backend has to do, whatever runs below it. The tests of a backend subclass it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.core.errors import BadFrame, Rejected
from edge_agent.core.manifest import Manifest
from edge_agent.ports import Backend, Bound
from tests.backends import graphs

ROI = (0, 0, 32, 24)
SHAPE = [1, 12, 16, 1]


def echo_manifest(**more: Any) -> Manifest:
    return graphs.manifest(graphs.head("mask_sigmoid", "y", keys=""), **more)


class BackendContract:
    """A subclass brings the fixture `backend`."""

    def bound(self, backend: Backend, folder: Path, **more: Any) -> Bound:
        """An echo: `y` [1, 1, 12, 16] float32 is the input."""
        graphs.echoes(folder, SHAPE, [1, 1, 12, 16])
        return backend.load(folder, echo_manifest(**more)).bind()

    def test_a_filled_frame_comes_out_of_the_model(self, backend: Backend, tmp_path: Path) -> None:
        bound = self.bound(backend, tmp_path)
        bound.fill(graphs.gray(level=7), ROI)
        assert (bound.run()["y"] == 7).all()
        bound.fill(graphs.gray(level=9), ROI)
        assert (bound.run()["y"] == 9).all()

    def test_the_input_can_be_looked_at(self, backend: Backend, tmp_path: Path) -> None:
        bound = self.bound(backend, tmp_path)
        bound.fill(graphs.gray(level=7), ROI)
        assert bound.input_pixels.dtype == np.uint8
        assert bound.input_pixels.shape == (1, 12, 16, 1)
        assert (bound.input_pixels == 7).all()

    def test_streams_of_one_session_do_not_share_buffers(
        self, backend: Backend, tmp_path: Path
    ) -> None:
        graphs.echoes(tmp_path, SHAPE, [1, 1, 12, 16])
        session = backend.load(tmp_path, echo_manifest())
        one, other = session.bind(), session.bind()
        one.fill(graphs.gray(level=1), ROI)
        other.fill(graphs.gray(level=2), ROI)
        first, second = one.run()["y"], other.run()["y"]
        assert (first == 1).all()
        assert (second == 2).all()

    def test_a_session_names_backend_and_variant(self, backend: Backend, tmp_path: Path) -> None:
        graphs.echoes(tmp_path, SHAPE, [1, 1, 12, 16])
        session = backend.load(tmp_path, echo_manifest())
        assert (session.backend, session.variant) == (backend.name, "fp32")

    def test_what_is_bound_lives_on_when_the_session_closes(
        self, backend: Backend, tmp_path: Path
    ) -> None:
        graphs.echoes(tmp_path, SHAPE, [1, 1, 12, 16])
        session = backend.load(tmp_path, echo_manifest())
        bound = session.bind()
        session.close()
        session.close()
        bound.fill(graphs.gray(level=3), ROI)
        assert (bound.run()["y"] == 3).all()
        with pytest.raises(RuntimeError, match="closed"):
            session.bind()

    @pytest.mark.parametrize(
        "roi", [(0, 0, 33, 24), (-1, 0, 8, 8), (0, 20, 8, 8), (4, 4, 0, 8), (40, 40, 8, 8)]
    )
    def test_a_region_outside_the_frame_is_a_bad_frame(
        self, roi: tuple[int, int, int, int], backend: Backend, tmp_path: Path
    ) -> None:
        bound = self.bound(backend, tmp_path)
        with pytest.raises(BadFrame, match="not within the frame of 32x24") as bad:
            bound.fill(graphs.gray(), roi)
        assert bad.value.hint

    @pytest.mark.parametrize(
        "pixels",
        [
            np.zeros((24, 32), np.uint16),
            np.zeros((24, 32, 4), np.uint8),
            np.zeros((0, 32), np.uint8),
            np.zeros(9, np.uint8),
        ],
    )
    def test_pixels_that_are_no_picture_are_a_bad_frame(
        self, pixels: Any, backend: Backend, tmp_path: Path
    ) -> None:
        bound = self.bound(backend, tmp_path)
        with pytest.raises(BadFrame, match="fill input"):
            bound.fill(graphs.frame(pixels), ROI)

    def test_a_bad_frame_spoils_nothing(self, backend: Backend, tmp_path: Path) -> None:
        bound = self.bound(backend, tmp_path)
        bound.fill(graphs.gray(level=7), ROI)
        with pytest.raises(BadFrame):
            bound.fill(graphs.gray(), (0, 0, 99, 99))
        bound.fill(graphs.gray(level=5), ROI)
        assert (bound.run()["y"] == 5).all()

    def test_a_missing_file_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        with pytest.raises(Rejected, match=r"load model tiny 1\.0\.0 \(model\.onnx\).*missing"):
            backend.load(tmp_path, echo_manifest())

    @pytest.mark.parametrize("content", [b"", b"this is no onnx", bytes(4096)])
    def test_a_damaged_file_is_refused(
        self, content: bytes, backend: Backend, tmp_path: Path
    ) -> None:
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(Rejected, match="load model tiny") as refused:
            backend.load(tmp_path, echo_manifest())
        assert refused.value.hint
        assert str(tmp_path) not in str(refused.value)

    def test_a_truncated_file_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        graphs.echoes(tmp_path, SHAPE, [1, 1, 12, 16])
        path = tmp_path / "model.onnx"
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(Rejected, match="load model tiny"):
            backend.load(tmp_path, echo_manifest())

    def test_a_file_that_is_too_large_is_refused_unread(
        self, backend: Backend, tmp_path: Path
    ) -> None:
        with (tmp_path / "model.onnx").open("wb") as file:
            file.truncate((1 << 30) + 1)  # a hole, no disk
        with pytest.raises(Rejected, match="expected at most 1073741824 bytes, got 1073741825"):
            backend.load(tmp_path, echo_manifest())

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"size": [16, 16]}, r"manifest says nhwc \[1, 16, 16, 1\], the file has \[1, 12,"),
            ({"layout": "nchw"}, r"manifest says nchw \[1, 1, 12, 16\], the file has \[1, 12,"),
            ({"channels": 3, "order": "rgb"}, r"\[1, 12, 16, 3\], the file has"),
            ({"name": "image"}, r"expected inputs \['image'\], got \['x'\]"),
        ],
    )
    def test_an_input_that_is_not_the_manifests_is_refused(
        self, changes: dict[str, Any], words: str, backend: Backend, tmp_path: Path
    ) -> None:
        graphs.echoes(tmp_path, SHAPE, [1, 1, 12, 16])
        with pytest.raises(Rejected, match=words) as refused:
            backend.load(tmp_path, echo_manifest(input=changes))
        assert "manifest" in refused.value.hint

    def test_outputs_that_do_not_fit_their_head_are_refused(
        self, backend: Backend, tmp_path: Path
    ) -> None:
        graphs.echoes(tmp_path, SHAPE, [1, 1, 12, 16])
        wrong = graphs.manifest(graphs.head("probs", "y"))
        with pytest.raises(Rejected, match=r"load model tiny.*decoder probs of head h: expected"):
            backend.load(tmp_path, wrong)
        nameless = graphs.manifest(graphs.head("probs", "q"))
        with pytest.raises(Rejected, match=r"expected outputs \['q'\], got \['y'\]"):
            backend.load(tmp_path, nameless)
