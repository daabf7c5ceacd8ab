"""From a model's raw outputs to findings that go into a record as they are.

One `Interpreter` per stream and model: decodes each head, outlines and measures areas, follows
objects. Every number is quantised here, so that what is shown, spooled and sent is equal. Never
looks at pixels, never runs a model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from edge_agent.core.calibration import Spacing, is_calibrated, spacing_at
from edge_agent.core.decode import decode_probs, label_keys, name_of
from edge_agent.core.decode_boxes import decode_boxes
from edge_agent.core.decode_masks import Plane, decode_heatmaps, decode_masks
from edge_agent.core.errors import BadFrame
from edge_agent.core.frames import MAX_OBJECTS, Calibration, Label, Mask, Measure, Object
from edge_agent.core.manifest import HeadSpec, Manifest
from edge_agent.core.measure import Shape, bounded, measure_area, measure_box
from edge_agent.core.track import Tracker
from edge_agent.core.vision import Fit, Grid, Rect, fit_region, quantise_px, quantise_score
from edge_agent.inference.contours import Blob, blobs, box_of, coarser, outline, shape_of

# A record is at most 16 KiB of MessagePack; its provenance takes less than 1 KiB.
BUDGET_BYTES = 15 << 10
COARSER_PX = (1.0, 2.0, 4.0)  # tried one after the other when contours are too long
UNSCALED = "unscaled"
BOX_DECODERS = ("boxes", "yolo", "yolo_objectness", "yolox", "yolo_e2e", "nms", "detr")
MASK_DECODERS = ("mask_sigmoid", "mask_softmax", "mask_argmax")

_pack = msgspec.msgpack.Encoder().encode


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What a `Result` holds of one frame.

    spacing_mm: [dx, dy] mm per px that holds for each object, or all over the region where there
    is none. flags: `truncated` when something had to be left out, `unscaled` when an object has no
    millimetres in a picture that has a scale.
    """

    labels: tuple[Label, ...] = ()
    objects: tuple[Object, ...] = ()
    measures: tuple[Measure, ...] = ()
    spacing_mm: Spacing | None = None
    flags: tuple[str, ...] = ()


class _Area(NamedTuple):
    """A segmented area before its outline is drawn."""

    blob: Blob
    grid: Grid


class _Seen(NamedTuple):
    """A finding before it has an id. box: frame px, quantised."""

    head: str
    label: str
    score: float
    box: tuple[float, float, float, float]
    area: _Area | None = None
    keypoints: tuple[tuple[float, float, float], ...] = ()
    is_box: bool = False


class Interpreter:
    """Used by one thread at a time.

    threshold: overrides that of every head. min_area_px: overrides too, px2 of the captured frame.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        threshold: float | None,
        min_area_px: int | None,
        tracking: bool,
        contours: bool,
    ) -> None:
        self._input = manifest.input
        self._heads = tuple(_effective(head, threshold, min_area_px) for head in manifest.heads)
        self._contours = contours
        self._tracker = Tracker() if tracking else None
        self.settings = _settings(self._heads, tracking=tracking, contours=contours)

    def reset(self) -> None:
        """Forgets the objects that it followed; their ids do not come back."""
        if self._tracker is not None:
            self._tracker.reset()

    def interpret(
        self,
        outputs: Mapping[str, NDArray[Any]],
        *,
        frame_size: tuple[int, int],
        roi: Rect,
        calibration: Calibration,
        captured_us: int,
    ) -> Findings:
        """roi: [x, y, w, h] px of the frame that the model was given. calibration: of the frame.

        Raises: BadFrame.
        """
        if roi[0] + roi[2] > frame_size[0] or roi[1] + roi[3] > frame_size[1]:
            raise BadFrame(
                f"interpret frame: region {list(roi)} is not within {list(frame_size)} px"
            )
        spec = self._input
        fit = fit_region(spec.fit, roi, spec.size, spec.place)
        labels: list[Label] = []
        seen: list[_Seen] = []
        cut = False
        for head in self._heads:
            if head.decoder == "probs":
                found = decode_probs(head, outputs, head.threshold)
                labels += [Label(head=head.name, label=key, score=score) for key, score in found]
            else:
                more, truncated = _see(head, outputs, fit)
                seen += more
                cut |= truncated
        if len(seen) > MAX_OBJECTS or len(self._heads) > 1:
            seen.sort(key=lambda finding: -finding.score)
        cut |= len(seen) > MAX_OBJECTS
        seen = seen[:MAX_OBJECTS]
        objects = self._objects(seen, captured_us)
        scales = [spacing_at(calibration, finding.box).spacing_mm for finding in seen]
        measures, too_many = bounded(_measured(seen, scales))
        findings = Findings(
            labels=tuple(labels),
            objects=objects,
            measures=measures,
            spacing_mm=_common(scales, calibration, roi),
            flags=(UNSCALED,) if None in scales and is_calibrated(calibration) else (),
        )
        return within_budget(findings, cut=cut or too_many)

    def _objects(self, seen: list[_Seen], captured_us: int) -> tuple[Object, ...]:
        tracks = [0] * len(seen)
        if self._tracker is not None:
            keys = [f"{finding.head}/{finding.label}" for finding in seen]
            tracks = self._tracker.update(keys, [finding.box for finding in seen], captured_us)
        return tuple(
            Object(
                id=index + 1,
                track=tracks[index],
                head=finding.head,
                label=finding.label,
                score=finding.score,
                box=finding.box,
                mask=self._mask(finding.area) if finding.area else None,
                keypoints=finding.keypoints,
            )
            for index, finding in enumerate(seen)
        )

    def _mask(self, area: _Area) -> Mask:
        rings, exact = outline(area.blob, area.grid) if self._contours else ((), False)
        x0, y0, x1, y1 = box_of(area.blob, area.grid)
        scale = area.grid.scale
        return Mask(
            area_px=round(area.blob.pixels * scale[0] * scale[1]),
            box=(int(x0), int(y0), math.ceil(x1), math.ceil(y1)),
            rings=rings,
            exact=exact,
        )


def _effective(head: HeadSpec, threshold: float | None, min_area_px: int | None) -> HeadSpec:
    return msgspec.structs.replace(
        head,
        threshold=head.threshold if threshold is None else threshold,
        min_area_px=head.min_area_px if min_area_px is None else min_area_px,
    )


def _settings(heads: tuple[HeadSpec, ...], *, tracking: bool, contours: bool) -> str:
    """hex8: equal exactly when the same outputs give the same findings."""
    words = [
        [head.name, head.decoder, head.threshold, head.nms_iou, head.min_area_px, *_reading(head)]
        for head in heads
    ]
    return xxhash.xxh32_hexdigest(_pack([words, tracking, contours]))


def _reading(head: HeadSpec) -> list[Any]:
    """What else changes how numbers are read, where it is said at all."""
    said = (head.columns, head.classes, head.box_unit)
    return [] if said == ((), None, "px") else list(said)


def _see(head: HeadSpec, outputs: Mapping[str, NDArray[Any]], fit: Fit) -> tuple[list[_Seen], bool]:
    """The objects of one head, best first, and whether some were left out."""
    if head.decoder in BOX_DECODERS:
        return _see_boxes(head, outputs, fit)
    if head.decoder in MASK_DECODERS:
        return _see_areas(head, decode_masks(head, outputs, head.threshold), fit)
    return _see_keypoints(head, outputs, fit), False


def _see_boxes(
    head: HeadSpec, outputs: Mapping[str, NDArray[Any]], fit: Fit
) -> tuple[list[_Seen], bool]:
    found = decode_boxes(head, outputs, size=fit.size, threshold=head.threshold)
    keys = label_keys(head)
    seen = []
    for box, score, index in zip(
        found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True
    ):
        x0, y0, x1, y1 = map(quantise_px, fit.box_to_frame(box))
        if x1 > x0 and y1 > y0 and (x1 - x0) * (y1 - y0) >= head.min_area_px:
            name = name_of(keys, index)
            seen.append(
                _Seen(head.name, name, quantise_score(score), (x0, y0, x1, y1), is_box=True)
            )
    return seen, found.truncated


def _see_areas(head: HeadSpec, planes: list[Plane], fit: Fit) -> tuple[list[_Seen], bool]:
    seen: list[_Seen] = []
    cut = False
    for plane in planes:
        height, width = plane.mask.shape
        grid = fit.grid(width, height)
        least = head.min_area_px / (grid.scale[0] * grid.scale[1])
        found, more = blobs(plane.mask, grid, least_pixels=least, limit=MAX_OBJECTS)
        cut |= more
        for blob in found:
            area = _Area(blob, grid)
            x0, y0, x1, y1 = (quantise_px(number) for number in box_of(blob, grid))
            score = quantise_score(plane.score(blob.window, blob.inside))
            seen.append(_Seen(head.name, plane.label, score, (x0, y0, x1, y1), area))
    seen.sort(key=lambda finding: -finding.score)
    return seen, cut


def _see_keypoints(head: HeadSpec, outputs: Mapping[str, NDArray[Any]], fit: Fit) -> list[_Seen]:
    """One object that holds every keypoint, where their mean score reaches the threshold."""
    points = decode_heatmaps(head, outputs)
    score = float(points[:, 2].mean())
    if score < head.threshold:
        return []
    height, width = outputs[head.outputs[0]].shape[-2:]
    grid = fit.grid(width, height)
    places = points[:, :2] * np.asarray(grid.scale) + np.asarray(grid.offset)
    places = places.clip(grid.bounds[:2], grid.bounds[2:])
    low, high = places.min(axis=0), places.max(axis=0)
    x0, y0, x1, y1 = (quantise_px(number) for number in (*low, *high))
    keypoints = tuple(
        (quantise_px(x), quantise_px(y), quantise_score(points[row, 2]))
        for row, (x, y) in enumerate(places.tolist())
    )
    box = (x0, y0, x1, y1)
    return [_Seen(head.name, head.name, quantise_score(score), box, keypoints=keypoints)]


def _common(
    scales: Sequence[Spacing | None], calibration: Calibration, roi: Rect
) -> Spacing | None:
    """The one spacing of all objects; of all that the model was given, where it found none."""
    if not scales:
        x, y, w, h = roi
        return spacing_at(calibration, (x, y, x + w, y + h)).spacing_mm
    return scales[0] if all(one == scales[0] for one in scales) else None


def _measured(seen: list[_Seen], scales: Sequence[Spacing | None]) -> list[list[Measure]]:
    """scales: of each of them."""
    groups = []
    for index, (finding, spacing_mm) in enumerate(zip(seen, scales, strict=True)):
        if finding.area is not None:
            shape: Shape = shape_of(finding.area.blob, finding.area.grid)
            groups.append(measure_area(index + 1, shape, spacing_mm))
        elif finding.is_box:
            groups.append(measure_box(index + 1, finding.box, spacing_mm))
    return groups


def within_budget(findings: Findings, *, cut: bool) -> Findings:
    """Makes findings fit into a record: coarser contours, then none for the smallest objects,
    then fewer measures, then fewer objects. What was left out is flagged `truncated`.
    """
    size = _size(findings)
    for epsilon_px in COARSER_PX:
        if size <= BUDGET_BYTES:
            break
        findings = _coarser(findings, epsilon_px)
        size = _size(findings)
    if size > BUDGET_BYTES:
        cut = True
        findings = _shortened(findings)
    if cut:
        findings = msgspec.structs.replace(findings, flags=("truncated", *findings.flags))
    return findings


def _size(findings: Findings) -> int:
    return len(_pack(findings))


def _coarser(findings: Findings, epsilon_px: float) -> Findings:
    objects = tuple(
        msgspec.structs.replace(found, mask=coarser(found.mask, epsilon_px))
        if found.mask
        else found
        for found in findings.objects
    )
    return msgspec.structs.replace(findings, objects=objects)


def _shortened(findings: Findings) -> Findings:
    objects = list(findings.objects)
    over = _size(findings) - BUDGET_BYTES
    masked = [i for i, found in enumerate(objects) if found.mask is not None]
    for index in sorted(masked, key=lambda i: (_mask_area(objects[i]), -i)):
        if over <= 0:
            break
        over -= len(_pack(objects[index].mask))
        objects[index] = msgspec.structs.replace(objects[index], mask=None)
    measures = list(findings.measures)
    while over > 0 and (measures or objects):
        over -= len(_pack(measures.pop() if measures else objects.pop()))
    return msgspec.structs.replace(findings, objects=tuple(objects), measures=tuple(measures))


def _mask_area(found: Object) -> int:
    return found.mask.area_px if found.mask is not None else 0
