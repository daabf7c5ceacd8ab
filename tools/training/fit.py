"""The training loops: seeded, on the CPU, deterministic for one build of torch. Imports torch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor, nn

from tools.training.nets import STRIDE, ChamberNet, PolypNet
from tools.training.sectors import SIZE

BATCH = 16


def begin(seed: int, threads: int) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(mode=True)


def _batches(count: int, steps: int, seed: int) -> Iterator[NDArray[np.intp]]:
    rng = np.random.default_rng([seed, 0xBA7C4])
    order: list[int] = []
    for _ in range(steps):
        if len(order) < BATCH:
            order = list(rng.permutation(count))
        yield np.array([order.pop() for _ in range(min(BATCH, count))])


class _Course:
    """AdamW with a warm-up, a cosine descent and an average of the weights."""

    def __init__(self, net: nn.Module, *, steps: int, rate: float) -> None:
        self._net, self._steps, self._rate = net, steps, rate
        self._optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
        self._average = {k: v.detach().clone() for k, v in net.state_dict().items()}

    def step(self, loss: Tensor, number: int) -> None:
        warm = min(1.0, (number + 1) / (0.05 * self._steps + 1))
        fall = 0.5 * (1 + math.cos(math.pi * number / self._steps))
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate * warm * (0.02 + 0.98 * fall)
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._net.parameters(), 5.0)
        self._optimiser.step()
        keep = min(0.98, (1 + number) / (10 + number))
        for key, value in self._net.state_dict().items():
            if value.dtype.is_floating_point:
                self._average[key].mul_(keep).add_(value.detach(), alpha=1 - keep)
            else:
                self._average[key].copy_(value)

    def finish(self) -> None:
        self._net.load_state_dict(self._average)
        self._net.eval()


def _jitter(images: Tensor) -> Tensor:
    """Gain, offset and contrast curve that differ from picture to picture; uint8 again."""
    shape = (len(images), *([1] * (images.dim() - 1)))
    gain = 0.75 + 0.5 * torch.rand(shape)
    curve = torch.exp(0.25 * torch.randn(shape))
    level = (images.float() / 255.0).pow(curve) * gain
    return (level.clamp(0, 1) * 255.0).to(torch.uint8)


def chambers(
    net: ChamberNet, images: NDArray[np.uint8], masks: NDArray[np.uint8], *,
    steps: int, rate: float, seed: int, jitter: bool = True,
) -> None:  # fmt: skip
    """Fits masks [n, h, w] of 0 and 1 to pictures [n, h, w]: cross entropy and soft Dice."""
    net.train()
    course = _Course(net, steps=steps, rate=rate)
    for number, chosen in enumerate(_batches(len(images), steps, seed)):
        picture, truth = torch.from_numpy(images[chosen]), torch.from_numpy(masks[chosen])
        if number % 2:
            picture, truth = picture.flip(2), truth.flip(2)
        picture = _jitter(picture) if jitter else picture
        target = truth.float()
        logits = net(picture[..., None])[:, 0]
        probability = torch.sigmoid(logits)
        shared = 2 * (probability * target).sum((1, 2)) + 20
        dice = 1 - shared / (probability.sum((1, 2)) + target.sum((1, 2)) + 20)
        course.step(nnf.binary_cross_entropy_with_logits(logits, target) + dice.mean(), number)
    course.finish()


def _assign(net: PolypNet, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each cell: is it near a polyp's middle, does it count at all, and which box it answers
    for. boxes: [n, m, 4] with NaN as filling."""
    there = ~boxes[..., 0].isnan()
    filled = boxes.nan_to_num(-1e4)
    middle = (filled[..., :2] + filled[..., 2:]) / 2
    half = ((filled[..., 2:] - filled[..., :2]) / 2).clamp(min=1.0)
    away = ((net.centres[:, :, None] - middle[:, None]) / half[:, None]).norm(dim=-1)
    away = torch.where(there[:, None], away, torch.full_like(away, 1e4))
    nearest, which = away.min(dim=-1)
    closest = torch.zeros_like(nearest, dtype=torch.bool)
    rows = torch.arange(len(boxes))[:, None].expand(there.shape)
    closest[rows[there], away.argmin(dim=1)[there]] = True
    positive = (nearest < 0.35) | closest
    counts = positive | (nearest > 0.8)
    chosen = torch.gather(filled, 1, which[..., None].expand(-1, -1, 4))
    return positive, counts, chosen


def _giou(boxes: Tensor, truth: Tensor) -> Tensor:
    low, high = torch.max(boxes[:, :2], truth[:, :2]), torch.min(boxes[:, 2:], truth[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(-1) + (truth[:, 2:] - truth[:, :2]).prod(-1) - shared
    hull = (torch.max(boxes[:, 2:], truth[:, 2:]) - torch.min(boxes[:, :2], truth[:, :2])).prod(-1)
    overlap: Tensor = shared / union - (hull - union) / hull
    return overlap


def polyps(
    net: PolypNet, images: NDArray[np.uint8], boxes: NDArray[np.float32], *,
    steps: int, rate: float, seed: int,
) -> None:  # fmt: skip
    """Fits boxes [n, m, 4] (NaN is filling) to pictures [n, h, w, 3]: focal loss and GIoU."""
    net.train()
    course = _Course(net, steps=steps, rate=rate)
    for number, chosen in enumerate(_batches(len(images), steps, seed)):
        picture, truth = torch.from_numpy(images[chosen]), torch.from_numpy(boxes[chosen])
        if number % 2:
            picture = picture.flip(2)
            truth = torch.stack(
                [SIZE[0] - truth[..., 2], truth[..., 1], SIZE[0] - truth[..., 0], truth[..., 3]], -1
            )
        logits, guess = net.raw(_jitter(picture))
        positive, counts, answer = _assign(net, truth)
        target = positive.float()
        certainty = torch.sigmoid(logits)
        miss = (target - certainty).abs().pow(2)
        entropy = nnf.binary_cross_entropy_with_logits(logits, target, reduction="none")
        focal = (entropy * miss * counts).sum() / positive.sum().clamp(min=1)
        place = (1 - _giou(guess[positive], answer[positive])).mean() if positive.any() else 0.0
        course.step(focal + place, number)
    course.finish()


__all__ = ["BATCH", "STRIDE", "begin", "chambers", "polyps"]
