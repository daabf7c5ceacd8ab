"""What to do about outputs that no decoder reads as they stand, or that another one reads. Pure.

Every refusal of an output ends with one of these: the decoder to declare, the key to write, or the
option to export with.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from edge_agent.core.decode import BESIDE, STRIDES, STRIDES_P6, cells, classes_named
from edge_agent.core.manifest import HeadSpec

Size = tuple[int, int]
MASK_PARTS = 32  # coefficients of a YOLO's masks, behind its classes
MOST_CLASSES = 1500  # that a person may have meant; more are rows

EXPORTS = {
    "yolo": (
        "export one output [1, 4 + C, N] of centre, size and class scores: Ultralytics "
        "yolo export format=onnx nms=False end2end=False opset=17"
    ),
    "yolo_objectness": (
        "export one output [1, N, 5 + C]: YOLOv5 export.py --include onnx --opset 17, YOLOv7 "
        "export.py --grid, YOLOX export_onnx.py --decode_in_inference"
    ),
    "yolox": (
        "export one output [1, N, 5 + C]: YOLOX tools/export_onnx.py --opset 17, without "
        "--decode_in_inference"
    ),
    "yolo_e2e": (
        "export one output [1, N, 6] of x0 y0 x1 y1 score class: Ultralytics yolo export "
        "format=onnx nms=True, or an end-to-end model (YOLOv10, YOLO26)"
    ),
    "nms": (
        "export one output [N, 7] of batch x0 y0 x1 y1 class score (YOLOv7 export.py --grid "
        "--end2end --max-wh 640), or name the order: columns = [...] under [[heads]]"
    ),
    "boxes": (
        "give three outputs in this order: boxes [1, N, 4] x0 y0 x1 y1, scores [1, N], classes "
        "[1, N]; split one tensor of six columns by Slice in the graph, or choose yolo_e2e"
    ),
    "detr": (
        "give two outputs in this order: logits [1, Q, C] and boxes [1, Q, 4], centre and size of "
        '0 to 1; one tensor of both after the sigmoid is decoder = "yolo", box_unit = "relative"'
    ),
    "mask_sigmoid": "export logits [1, C, H, W] or [1, H, W, C], one channel per label",
    "mask_softmax": (
        "export logits [1, C, H, W] or [1, H, W, C], one channel per class, the background too"
    ),
    "mask_argmax": "export class indices [1, H, W]; values of each class are for mask_softmax",
    "probs": "export probabilities [1, C]: a softmax or sigmoid, then Flatten",
    "heatmaps": "export heatmaps [1, K, H, W] or [1, H, W, K], one per keypoint",
}
END_TO_END = (
    'rows of x0 y0 x1 y1 score class are decoder = "yolo_e2e" (or export with nms=False '
    "end2end=False for a column per class)"
)
THREE_ANCHORS = (
    "three anchors per cell come with an objectness column (YOLOv3 to v5, v7): decoder = "
    '"yolo_objectness"'
)
RAW_GRIDS = (
    'offsets and logarithms in cells are decoder = "yolox" (or export with --decode_in_inference)'
)
OBJECTNESS = (
    'with an objectness column, one label less: decoder = "yolo_objectness"; where one row may '
    "well be of several classes, say so by classes = {count}, as many as labels, under [[heads]]"
)
COUNTED = (
    "set the scores behind that count to 0 in the graph (Where, with Less of a Range and {name}), "
    "or export the suppression so that it fills with scores of 0"
)
NO_OBJECT = (
    'take "no object" out in the graph: the logit of a class less the ReduceLogSumExp of all other '
    "logits, that of no object among them; docs/models.md, A DETR"
)
SQUASHED = "export the model without its last sigmoid or softmax"
INDICES = 'class indices are decoder = "mask_argmax", with 0 the background and without a label'
DRAWN = (
    '0 and 255 are a drawn mask: decoder = "mask_argmax" with labels = [{ id = 255, key = ... }], '
    "or divide it by 255 in the graph for an id of 1"
)
HEAT = "divide the heatmaps in the graph so that they go to 1, or take their sigmoid"
ONE = "take the sigmoid of its logit in place of the softmax, or export both classes"
FIRST_IS_BACKGROUND = (
    "where class 0 is the background it has no label: give the labels an id one higher"
)
TENSORFLOW = (
    'boxes of TensorFlow are y0 x0 y1 x1: columns = ["y0", "x0", "y1", "x1"] under [[heads]]; '
    'where they have been turned in the graph, columns = ["x0", "y0", "x1", "y1"]'
)
RELATIVE = 'write box_unit = "relative" under [[heads]], or multiply the boxes in the graph'


def of_tensorflow(outputs: Sequence[str]) -> bool:
    """Whether one is named as TensorFlow's detectors name theirs, with or without a `:0`."""
    return any("detection_" in one.lower() for one in outputs)


def grids(size: Size) -> dict[int, int]:
    """Rows of detectors with one or three anchors in each cell of an input, to anchors per cell."""
    many = [cells(size, one) for one in (STRIDES, STRIDES_P6, (16, 32), (4, 8, 16, 32))]
    single = [cells(size, (one,)) for one in (4, 8, 16, 32)]
    return {3 * count: 3 for count in many} | {count: 1 for count in [*many, *single] if count}


def rows_and_columns(shape: Sequence[int]) -> tuple[int, int]:
    """Of a table in either layout: the longer axis has the rows."""
    last = [one for one in shape if one != 1][-2:] if len(shape) > 2 else list(shape)
    if len(last) < 2:
        last = list(shape[-2:])
    return max(last), min(last)


def of_shape(head: HeadSpec, shapes: Sequence[Sequence[int]], size: Size) -> str:
    """For outputs that the decoder does not read, or that have another number of classes."""
    told = [EXPORTS[head.decoder]]
    if len(shapes) == 1 and 2 <= len([one for one in shapes[0] if one != 1]) <= 3:
        told = [*_tables(head, shapes[0], size), *told]
    if len(head.outputs) > 1 and head.decoder in {*BESIDE, "yolo_e2e", "nms"}:
        told.append("name one output, or join boxes and scores by Concat in the graph")
    return "; ".join(told)


def _tables(head: HeadSpec, shape: Sequence[int], size: Size) -> list[str]:
    """Other decoders that a single table of these sizes may be for."""
    rows, columns = rows_and_columns(shape)
    anchors = grids(size).get(rows, 0)
    told = []
    if columns == 6 and head.decoder != "yolo_e2e" and not anchors:
        told.append(END_TO_END)
    if columns == 7 and head.decoder != "nms" and not anchors:
        told.append('rows of batch x0 y0 x1 y1 class score are decoder = "nms"')
    return [*told, *of_grid(head, rows, columns, size)]


def of_grid(head: HeadSpec, rows: int, columns: int, size: Size) -> list[str]:
    """Other decoders for a row per cell, or three."""
    anchors, named = grids(size).get(rows, 0), classes_named(head)
    told = []
    if head.decoder != "yolo_objectness" and anchors == 3:
        told.append(THREE_ANCHORS)
    if head.decoder not in {"yolo_objectness", "yolox"} and (anchors, columns) == (1, named + 5):
        told.append(f'with an objectness column: decoder = "yolo_objectness"; {RAW_GRIDS}')
    if head.decoder != "yolo" and anchors < 3 and columns == named + 4:
        told.append('without an objectness column: decoder = "yolo"')
    if head.decoder == "yolo" and columns == named + 4 + MASK_PARTS:
        told.append("32 columns too many are those of a segmentation: export the detection model")
    return told


def of_classes(head: HeadSpec, count: int, shapes: Sequence[Sequence[int]], size: Size) -> str:
    """For an output with another number of classes than the labels name."""
    told = []
    if len(shapes) == 1 and head.decoder in BESIDE:
        told = _tables(head, shapes[0], size)
    one_more = count == classes_named(head) + 1
    if head.decoder == "detr":
        told.append(NO_OBJECT)
    background = head.decoder == "mask_softmax" and one_more
    if background and any(not one.id for one in head.labels):
        told.append(FIRST_IS_BACKGROUND)
    elif classes_named(head) <= count < MOST_CLASSES:
        told.append(
            f"if it does have {count} classes and no others are wanted, write classes = {count} "
            "under [[heads]]"
        )
    told.append("else correct the labels, or choose the decoder that fits (docs/models.md)")
    return "; ".join(told)


def orders(whole: Sequence[bool], probable: Sequence[bool]) -> str:
    """The order of columns that rows of a suppression seem to have; "" when none fits.

    whole: columns of whole numbers alone. probable: columns of 0 to 1 alone, or filling.
    """
    if len(whole) == 6 and whole[5] and probable[4] and not probable[0]:
        return END_TO_END
    first = len(whole) - 6
    for places in sorted(permutations((0, 1)) if first in {0, 1} else []):
        for start in (0, 4):
            kind, score = (first + start + place for place in places)
            if whole[kind] and probable[score]:
                return f'decoder = "nms" with columns = {columns(first, start, places[0])}'
    return ""


def columns(first: int, start: int, kind: int) -> str:
    """As they are written in a manifest."""
    pair = ["class", "score"] if kind == 0 else ["score", "class"]
    box = ["x0", "y0", "x1", "y1"]
    names = ["batch"] * first + (pair + box if start == 0 else box + pair)
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
