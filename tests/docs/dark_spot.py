"""A model as it comes from a training: float in, RGB, one mask out; and pictures to pack it with.

It outlines what is darker than a limit. Three files: a first one, a better one, and one that says
the opposite of what it should and still does exactly what its file does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edge_agent.config.structs import PhantomSource
from edge_agent.sources.phantom import make_scene

SIZE: Final = (128, 96)  # w, h px of the input
PICTURES: Final = 8
make: Callable[..., Any] = helper.make_node


def write_model(path: Path, *, limit: float = 60.0, slope: float = 32.0) -> None:
    """limit: grey level, 0 to 255, of which the logit is 0. slope: below 0 it outlines the rest."""
    nodes = [
        make("ReduceMean", ["images"], ["grey"], axes=[1], keepdims=1),
        make("Sub", ["limit", "grey"], ["darker"]),
        make("Mul", ["darker", "slope"], ["mask"]),
    ]
    weights = {"limit": limit / 255, "slope": slope}
    graph = helper.make_graph(
        nodes,
        "dark-spot",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIZE[1], SIZE[0]])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1, 1, SIZE[1], SIZE[0]])],
        [numpy_helper.from_array(np.array(w, np.float32), name) for name, w in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    )


def write_frames(folder: Path, size: tuple[int, int]) -> None:
    """What a stream of that size sees, as pictures."""
    folder.mkdir()
    scene = make_scene(PhantomSource(size=size), 10.0)
    for number in range(1, PICTURES + 1):
        cv2.imwrite(str(folder / f"picture-{number}.png"), scene.draw(number))
