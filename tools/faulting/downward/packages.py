"""Small real models: a dark-spot segmenter, and three that must never stay.

The good one says `spot` where the picture is darker than 60: logits = (60 - grey) / 8. No two
versions have the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Kind = Literal["good", "drifted", "blind", "nan"]
BAD: Final[tuple[Kind, ...]] = ("drifted", "blind", "nan")
NAME: Final = "spot"
FIRST: Final = "1.0.0"
WIDTH, HEIGHT = 48, 32
OPSET, IR = 17, 10
NAN_AT_RUN: Final = 40  # since a start or a swap: later than a shadow that is not disturbed takes
MANIFEST: Final = """\
schema = 1
name = "{name}"
version = "{version}"
licence = "Apache-2.0"
intended_use = "drills"

[input]
name = "x"
size = [{width}, {height}]
channels = 1
order = "gray"
layout = "nhwc"
fit = "stretch"

[[heads]]
name = "dark"
task = "segmentation"
decoder = "mask_sigmoid"
outputs = ["y"]
labels = [{{ id = 0, key = "spot", name = "Spot" }}]

[[variants]]
name = "fp32"
file = "model.onnx"
"""
STATES: Final = """
[[states]]
input = "s"
output = "s_next"
"""


def write(root: Path, version: str, kind: Kind = "good", *, name: str = NAME) -> Path:
    """<root>/<name>/<version>, a whole package.

    drifted: not what its golden sample says. blind: sees nothing. nan: no number any more from
    its run `NAN_AT_RUN` on, so it is live by then.
    """
    folder = root / name / version
    folder.mkdir(parents=True)
    manifest = MANIFEST.format(name=name, version=version, width=WIDTH, height=HEIGHT)
    (folder / "manifest.toml").write_text(manifest + (STATES if kind == "nan" else ""))
    (folder / "model.onnx").write_bytes(_model(kind).SerializeToString())
    limit = -1000.0 if kind == "blind" else 60.0
    grey = np.arange(WIDTH * HEIGHT).reshape(1, HEIGHT, WIDTH, 1).astype(np.uint8)
    said = (limit - grey.transpose(0, 3, 1, 2).astype(np.float32)) / 8
    if kind == "drifted":
        said = said + 0.5
    samples = {} if kind == "nan" else {"output_y_0": said}
    np.savez(folder / "golden.npz", input_0=grey, **samples)
    return folder


def _model(kind: Kind) -> Any:
    make: Any = helper.make_node
    value: Any = helper.make_tensor_value_info
    consts = {"limit": -1000.0 if kind == "blind" else 60.0, "slope": 8.0}
    inputs = [value("x", TensorProto.UINT8, [1, HEIGHT, WIDTH, 1])]
    outputs = [value("y", TensorProto.FLOAT, [1, 1, HEIGHT, WIDTH])]
    nodes = [
        make("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        make("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        make("Sub", ["limit", "t"], ["d"]),
        make("Div", ["d", "slope"], ["e"]),
    ]
    if kind == "nan":  # the root of what is left of its runs, made nothing while it is a number
        inputs.append(value("s", TensorProto.FLOAT, [1]))
        outputs.append(value("s_next", TensorProto.FLOAT, [1]))
        consts |= {"runs": NAN_AT_RUN - 1.5, "one": 1.0, "none": 0.0}
        nodes += [
            make("Sub", ["runs", "s"], ["left"]),
            make("Sqrt", ["left"], ["root"]),
            make("Mul", ["root", "none"], ["nought"]),
            make("Add", ["e", "nought"], ["y"]),
            make("Add", ["s", "one"], ["s_next"]),
        ]
    else:
        nodes.append(make("Identity", ["e"], ["y"]))
    arrays = [numpy_helper.from_array(np.float32(number), key) for key, number in consts.items()]
    graph = helper.make_graph(nodes, "spot", inputs, outputs, arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR
    onnx.checker.check_model(model)
    return model
