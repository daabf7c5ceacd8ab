"""Masks, heatmaps, outputs of other types: read as what they are, or refused with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_agent.core.errors import Rejected
from tests.packing import exports
from tests.packing.desk import Desk
from tests.packing.exports import ONE, SIDE, TWO, manifest, model
from tests.packing.test_meaning import check, seen
from tools.hot_tier.packing.proposing import propose
from tools.hot_tier.packing.report import Wanted


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = exports.flat_frame(tmp_path_factory.mktemp("flat") / "frames")
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes())
    return folder


@pytest.fixture
def bench(tmp_path: Path, flat: Path) -> Desk:
    return Desk(tmp_path, flat)


def square(level: float, kind: Any = np.float32, channels: int = 1) -> NDArray[Any]:
    """[1, C, H, W], of which the first channel has a square of that level, and 0 elsewhere."""
    mask = np.zeros((1, channels, SIDE, SIDE), kind)
    mask[0, 0, 40:100, 60:200] = level
    return mask


# ── masks that are no logits ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int64])
def test_class_indices_are_no_logits(kind: Any, bench: Desk) -> None:
    """A sigmoid of 0 is 0.5: the whole picture was a finding, with exit 0."""
    said = bench.refuse(model(square(3, kind)), manifest("mask_sigmoid", 1), half="no")
    assert "expects logits, got whole numbers of 0 to 3" in said.what
    assert '"mask_argmax"' in said.hint


@pytest.mark.parametrize("decoder", ["mask_sigmoid", "mask_argmax"])
@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_a_drawn_mask_of_0_and_255_is_told(decoder: str, kind: Any, bench: Desk) -> None:
    """`classes = 256`, which a refusal had told, packed a model that never finds anything."""
    more = "classes = 256\n" if decoder == "mask_argmax" else ""
    said = bench.refuse(model(square(255, kind)), manifest(decoder, 1, more=more), half="no")
    assert "id = 255" in said.hint


def test_a_drawn_mask_is_read_with_255_as_its_label(bench: Desk) -> None:
    asked = manifest("mask_argmax", 1).replace("id = 0", "id = 255")
    (found,) = seen(bench, model(square(255, np.uint8)), asked).objects
    assert found.mask is not None
    assert found.mask.area_px == 60 * 140


@pytest.mark.parametrize("array", [square(0.9), square(0), square(7.5), square(1)])
def test_a_mask_that_is_nowhere_below_0_is_none_of_logits(
    array: NDArray[np.float32], bench: Desk
) -> None:
    said = bench.refuse(model(array), manifest("mask_sigmoid", 1), half="no")
    assert "expects logits" in said.what


def test_one_channel_is_no_softmax(bench: Desk) -> None:
    """The softmax of one class is 1: the whole picture was a finding with a score of 1."""
    said = bench.refuse(model(square(5) - 2), manifest("mask_softmax", 1), half="no")
    assert "a channel per class, the background too, got one" in said.what
    assert '"mask_sigmoid"' in said.hint


def test_a_channel_too_many_is_told_as_the_background_first(bench: Desk) -> None:
    """`classes = 2` alone gave the background as the finding."""
    said = bench.refuse(model(square(5, channels=2) - 2), manifest("mask_softmax", 1), half="no")
    assert said.hint.startswith("where class 0 is the background it has no label")


def test_class_0_on_every_frame_is_asked_about(bench: Desk) -> None:
    asked = manifest("mask_argmax", 2)
    told = bench.pack(model(square(1, np.int64)), asked, half="no").warnings
    assert any("class 0, k0, was found on every frame" in one for one in told)


def test_a_softmax_of_one_class_is_no_probability(bench: Desk) -> None:
    said = bench.refuse(model(np.ones((1, 1), np.float32)), manifest("probs", 1), half="no")
    assert "as of a softmax of one class" in said.what


@pytest.mark.parametrize("top", [8.0, 255.0])
def test_heatmaps_beyond_1_are_no_scores(top: float, bench: Desk) -> None:
    """Each keypoint had a score of 1, wherever it was."""
    said = bench.refuse(model(square(top)), manifest("heatmaps", 1), half="no")
    assert "expects scores of about 0 to 1" in said.what
    assert "divide the heatmaps" in said.hint


def test_heatmaps_that_go_a_little_beyond_1_are_read(bench: Desk) -> None:
    assert bench.pack(model(square(1.1)), manifest("heatmaps", 1), half="no").frames == 2


# ── outputs that are no tensors of numbers ────────────────────────────────────────────────────


def with_more(kind: str) -> Any:
    """A YOLO with an output beside it that is text, a sequence or an optional."""
    made = model(exports.yolo(TWO, 2))
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, [1, 6, exports.CELLS])
    if kind == "text":
        words = numpy_helper.from_array(np.array([b"a", b"b"], dtype=object), "words")
        made.graph.node.append(helper.make_node("Constant", [], ["z"], value=words))
        made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.STRING, [2]))
    elif kind == "sequence":
        made.graph.node.append(helper.make_node("SequenceConstruct", ["y"], ["z"]))
        told = helper.make_sequence_type_proto(tensor)
        made.graph.output.append(helper.make_value_info("z", told))
    else:
        made.graph.node.append(helper.make_node("Optional", ["y"], ["z"]))
        told = helper.make_optional_type_proto(tensor)
        made.graph.output.append(helper.make_value_info("z", told))
    return made


@pytest.mark.parametrize("kind", ["text", "sequence", "optional"])
def test_what_is_no_tensor_of_numbers_is_passed_over_or_refused(
    kind: str, bench: Desk, flat: Path
) -> None:
    """`pack` and `--propose` ended in a traceback."""
    check(seen(bench, with_more(kind), manifest("yolo")), TWO)
    (bench.folder / "m.eam").unlink()
    asked = manifest("yolo").replace('["y"]', '["z"]')
    said = bench.refuse(with_more(kind), asked, half="no")
    assert "output z is a" in said.what
    assert "no tensor of numbers" in said.what
    out = bench.folder / "proposed.toml"
    told = propose(Wanted(model=bench.folder / "m.onnx", out=out, frames=flat))
    assert (told.decoder, told.outputs) == ("yolo", ["y"])


# ── proposals ─────────────────────────────────────────────────────────────────────────────────

TRAILING = square(5)[..., None] - np.float32(2)
OF_ONE = np.array([[0.7]], np.float32)
UNSORTED = exports.end_to_end(TWO)[:, ::-1].copy()
TWO_ROWS_FIRST = np.ascontiguousarray(exports.yolo(TWO, 2).swapaxes(1, 2))
APART = square(5, channels=3) - np.float32(2)
SET = exports.end_to_end(TWO, 20)[0]
UNBATCHED = (SET[:, :4].copy(), SET[:, 4].copy(), SET[:, 5].copy())
ROWS_FIRST = np.ascontiguousarray(exports.yolo(ONE, 1).swapaxes(1, 2))


@pytest.mark.parametrize(
    ("arrays", "decoder", "classes"),
    [
        ((TRAILING,), "mask_sigmoid", 1),
        ((OF_ONE,), "probs", 1),
        ((UNSORTED,), "yolo_e2e", 2),
        ((ROWS_FIRST,), "yolo", 1),
        ((TWO_ROWS_FIRST,), "yolo", 2),
        ((APART,), "mask_sigmoid", 3),
        (UNBATCHED, "boxes", 2),
    ],
    ids=["a trailing 1", "one class", "rows of any order", "one class, rows first",
         "two classes, rows first", "masks apart", "no batch"],
)  # fmt: skip
def test_a_proposal_of_any_axes_names_the_decoder_that_packs(
    arrays: tuple[NDArray[Any], ...], decoder: str, classes: int, bench: Desk, flat: Path
) -> None:
    (bench.folder / "m.onnx").write_bytes(model(*arrays).SerializeToString())
    out = bench.folder / "proposed.toml"
    told = propose(Wanted(model=bench.folder / "m.onnx", out=out, frames=flat))
    assert (told.decoder, told.classes) == (decoder, classes)


def test_a_proposal_at_a_size_that_the_net_does_not_take_says_where_to_write_it(
    bench: Desk, flat: Path
) -> None:
    made = model(exports.yolo(TWO, 2))
    fixed = numpy_helper.from_array(np.zeros((1, 3, SIDE, SIDE), np.float32), "fixed")
    made.graph.initializer.append(fixed)
    made.graph.node.insert(0, helper.make_node("Add", ["x", "fixed"], ["shifted"]))
    made.graph.node[1].input[0] = "shifted"
    for axis in (2, 3):
        made.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"a{axis}"
    (bench.folder / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(Rejected) as caught:
        propose(Wanted(model=bench.folder / "m.onnx", out=bench.folder / "p.toml", frames=flat))
    assert "was tried at 640x640 px" in caught.value.what
    assert "write the manifest by hand" in caught.value.hint
