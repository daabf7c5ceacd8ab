"""Two small convolutional nets and their ONNX files. Imported by the training tool alone: torch.

Both take uint8 NHWC as a frame leaves the resize; cast, scale and transpose are in the graph.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

OPSET = 17
IR_VERSION = 8
STRIDE = 16  # input px per cell of the polyp net


def _block(wide_in: int, wide_out: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(wide_in, wide_out, 3, stride, dilation, dilation, bias=False),
        nn.BatchNorm2d(wide_out),
        nn.ReLU(),
    )


def _up(values: Tensor) -> Tensor:
    return nnf.interpolate(values, scale_factor=2.0, mode="nearest")


class ChamberNet(nn.Module):  # type: ignore[misc]  # torch is in no lock
    """A U-Net whose skips are sums. 1xHxWx1 uint8 to 1x1xHxW logits; sides in multiples of 32."""

    def __init__(self, widths: tuple[int, ...] = (16, 24, 48, 56, 56)) -> None:
        super().__init__()
        before = (1, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(
                _block(inner, outer, stride=2),
                *([] if level == 0 else [_block(outer, outer)]),
            )
            for level, (inner, outer) in enumerate(zip(before, widths, strict=True))
        )
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.narrow = nn.ModuleList(nn.Conv2d(deep, shallow, 1) for deep, shallow in pairs)
        self.mix = nn.ModuleList(_block(shallow, shallow) for _, shallow in pairs)
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        values = image.permute(0, 3, 1, 2).float() * (1.0 / 255.0)
        skips = []
        for stage in self.down:
            values = stage(values)
            skips.append(values)
        skips.pop()
        for narrow, mix in zip(self.narrow, self.mix, strict=True):
            values = mix(_up(narrow(values)) + skips.pop())
        logits: Tensor = nnf.interpolate(
            self.head(values), scale_factor=2.0, mode="bilinear", align_corners=False
        )
        return logits


class PolypNet(nn.Module):  # type: ignore[misc]  # as above
    """One guess per cell of 16 px. 1xHxWx3 uint8 RGB to boxes, scores, classes of N cells."""

    def __init__(self, size: tuple[int, int], widths: tuple[int, ...] = (16, 24, 40, 56)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.body = nn.Sequential(
            _block(3, a, stride=2), _block(a, b, stride=2), _block(b, b),
            _block(b, c, stride=2), _block(c, c), _block(c, d, stride=2),
            _block(d, d), _block(d, d, dilation=2), _block(d, d, dilation=3),
        )  # fmt: skip
        self.head = nn.Conv2d(d, 5, 1)
        ys, xs = torch.meshgrid(
            torch.arange(size[1] // STRIDE), torch.arange(size[0] // STRIDE), indexing="ij"
        )
        centres = torch.stack([xs, ys], dim=-1).reshape(1, -1, 2).float()
        self.register_buffer("centres", (centres + 0.5) * STRIDE)

    def raw(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Score logits [n, N] and boxes [n, N, 4] in input px."""
        values = image.permute(0, 3, 1, 2).float() * (1.0 / 255.0)
        cells = self.head(self.body(values)).flatten(2).permute(0, 2, 1)
        reach = torch.exp(torch.clamp(cells[..., 1:], -4.0, 4.0)) * STRIDE
        low, high = self.centres - reach[..., :2], self.centres + reach[..., 2:]
        return cells[..., 0], torch.cat([low, high], dim=-1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, boxes = self.raw(image)
        scores = torch.sigmoid(logits)
        return boxes, scores, scores * 0.0


def export(net: nn.Module, shape: tuple[int, ...], path: Path, outputs: tuple[str, ...]) -> None:
    """Writes the net as ONNX with a fixed input `image` of `shape`, without anything of this
    machine inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the legacy exporter announces its end; it suits IR 8
        torch.onnx.export(
            net.eval(), (torch.zeros(shape, dtype=torch.uint8),), str(path),
            input_names=["image"], output_names=list(outputs), opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    model = onnx.load(str(path))
    model.ir_version = IR_VERSION
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
