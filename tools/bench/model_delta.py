"""What a model push costs as a delta: `.venv/bin/python tools/bench/model_delta.py [--quick]`.

The network is a U-Net of 1.1 million parameters, its weights drawn (He), its graph real; as fp32,
fp16 and int8 (one scale a tensor). Nothing is trained here: 30 steps of AdamW are played with
gradients that are noise around a mean of its own for each weight (deviations 1 and 0.3), so every
weight moves by what Adam makes of that, 8 lr on average. Real gradients are sparser, and alike in a
layer. Packages are a manifest and one variant, without golden samples: these are compressed in
their file and new for a new head, so they go as they are. `..._zstd19` is the whole package;
bsdiff4 and xdelta3 (where it is installed) are given the same two. `demo_push` are two packages of
this repository that were really trained, with their golden samples. --quick gives the rivals one.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import bsdiff4
import msgspec
import numpy as np
import zstandard

from edge_agent.core import modeldelta
from tools.bench.common import Goal, Scale, arguments, figure, load, median, spread
from tools.bench.rig import unet

BENCH: Final = "model_delta"
FULL = Scale(seconds=0, rounds=5)
QUICK = Scale(seconds=0, rounds=1)
STEPS: Final = 30
STEP_BITS: Final[tuple[Literal[4, 8], ...]] = (8, 4)
VARIANTS: Final = ("fp32", "fp16", "int8")
CHANGES: Final = ("metadata", "head", "decoder", "lr1e-5", "lr1e-4", "lr1e-3")
SMALL: Final = ("metadata", "head")
RACED: Final = "fp16_lr1e-4"  # the push that is timed; with --quick the rivals get no other
GOALS: Final = {
    "head_ratio": Goal(at_most=0.001),
    "fp16_finetune_ratio": Goal(at_most=0.65),
    "encode_vs_bsdiff4": Goal(at_least=50),
}
MODELS: Final = Path(__file__).resolve().parents[2] / "models"
Codec = Callable[[bytes, bytes], bytes]


class Push(msgspec.Struct, frozen=True):
    """One package, and the one that follows it."""

    variant: str
    change: str
    base: bytes
    new: bytes

    @property
    def name(self) -> str:
        return f"{self.variant}_{self.change}"


def adam(weights: unet.Weights, lr: float, names: Callable[[str], bool]) -> unet.Weights:
    """30 steps of AdamW on the tensors with these names."""
    chance = np.random.default_rng(30)
    moved = {}
    for name, before in weights.items():
        if not names(name):
            moved[name] = before
            continue
        mean = 0.3 * chance.standard_normal(before.shape, np.float32)
        first, second, now = np.zeros_like(before), np.zeros_like(before), before.copy()
        for step in range(1, STEPS + 1):
            gradient = mean + chance.standard_normal(before.shape, np.float32)
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            towards = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            now -= lr * (towards + 0.01 * now)
        moved[name] = now
    return moved


def changed(weights: unet.Weights, change: str) -> unet.Weights:
    if change == "metadata":
        return weights
    if change == "head":
        return adam(weights, 1e-3, lambda name: name.startswith("head"))
    if change == "decoder":
        return adam(weights, 1e-4, lambda name: name.startswith(("up", "dec", "head")))
    return adam(weights, float(change.removeprefix("lr")), lambda _: True)


def pushes() -> Iterator[Push]:
    weights = unet.weights()
    for change in CHANGES:
        after = changed(weights, change)
        for variant in VARIANTS:
            base = unet.package(weights, variant, "1.0.0")
            yield Push(variant, change, base, unet.package(after, variant, "1.0.1"))


def xdelta3(base: bytes, new: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("base", base), ("new", new)):
            (Path(folder) / name).write_bytes(content)
        command = ["xdelta3", "-e", "-9", "-f", "-s", "base", "new", "out"]
        subprocess.run(command, cwd=folder, check=True)
        return (Path(folder) / "out").read_bytes()


def rivals() -> dict[str, Codec]:
    found: dict[str, Codec] = {
        "zstd19": lambda _, new: zstandard.compress(new, 19),
        "bsdiff4": bsdiff4.diff,
    }
    return found | ({"xdelta3": xdelta3} if shutil.which("xdelta3") else {})


def timed(codec: Codec, base: bytes, new: bytes, rounds: int) -> tuple[bytes, list[float]]:
    """What it makes, and how long each round took the processor, children not counted."""
    made, took = b"", []
    for _ in range(rounds):
        began = time.process_time()
        made = codec(base, new)
        took.append(time.process_time() - began)
    return made, took


def say(name: str, value: float, unit: str, notes: str, runs: int = 1) -> None:
    figure(BENCH, name, value, unit, goal=GOALS.get(name), runs=runs, notes=notes)


def measure(push: Push, rounds: int, *, against: bool) -> float:
    """Prints what this push costs; the ratio."""
    delta, took = timed(modeldelta.encode, push.base, push.new, rounds)
    began = time.process_time()
    back = modeldelta.apply(push.base, delta, max_bytes=len(push.new))
    apply_ms = (time.process_time() - began) * 1e3
    assert back == push.new, "a package did not come back"
    mode = modeldelta.inspect(delta).mode
    notes = (
        f"{len(delta)} of {len(push.new)} B, {mode}, encode {median(took) * 1e3:.0f} ms, "
        f"apply {apply_ms:.0f} ms of CPU"
    )
    say_size(push, "", delta, notes, rounds)
    for name, rival in rivals().items() if against else ():
        if name == "bsdiff4" and push.name == RACED:
            continue
        began = time.perf_counter()
        theirs = rival(push.base, push.new)
        notes = f"{len(theirs)} B in {time.perf_counter() - began:.2f} s, {load()}"
        say_size(push, f"_{name}", theirs, notes, 1)
    return len(delta) / len(push.new)


def say_size(push: Push, suffix: str, made: bytes, notes: str, runs: int) -> None:
    """Small ones in bytes: their share of a large package says nothing."""
    if push.change in SMALL:
        say(f"{push.name}{suffix}_bytes", len(made), "B", notes, runs)
    else:
        say(f"{push.name}{suffix}_ratio", len(made) / len(push.new), "of full", notes, runs)


def race(push: Push, rounds: int) -> None:
    """The same package, in turns; in time of the processor, for the machine may be a busy one."""
    ratios, ours, theirs, made = [], [], [], b""
    for _ in range(rounds):
        _, mine = timed(modeldelta.encode, push.base, push.new, 3)
        made, its = timed(bsdiff4.diff, push.base, push.new, 1)
        ours.append(min(mine) * 1e3)
        theirs.append(its[0] * 1e3)
        ratios.append(theirs[-1] / ours[-1])
    notes = (
        f"{push.name}, best of three encodes to one of bsdiff4 in turns, {spread(ratios)}; CPU "
        f"{median(ours):.0f} ms to {median(theirs):.0f} ms, {load()}"
    )
    say("encode_vs_bsdiff4", median(ratios), "x", notes, rounds)
    say_size(push, "_bsdiff4", made, f"{len(made)} B in {median(theirs):.0f} ms of CPU", rounds)


def snapped(fp32: Push) -> None:
    for bits in STEP_BITS:
        base, new = unet.network(fp32.base), unet.network(fp32.new)
        out = unet.packed(modeldelta.snap(base, new, bits), "fp32", "1.0.1")
        delta = modeldelta.encode(fp32.base, out)
        assert modeldelta.apply(fp32.base, delta, max_bytes=len(out)) == out
        wanted, got, was = (unet.numbers(each) for each in (fp32.new, out, fp32.base))
        error = float(np.std(got - wanted) / np.std(wanted - was))
        notes = f"error of the update {error:.2%}; accuracy is for the publisher to test"
        say(f"fp32_snapped{bits}_ratio", len(delta) / len(out), "of full", notes)


def demo_push(*, against: bool) -> None:
    base, new = (
        unet.tarred({path.name: path.read_bytes() for path in folder.iterdir()})
        for folder in (MODELS / "us-chamber" / "1.0.0", MODELS / "us-chamber" / "1.1.0")
    )
    measure(Push("demo", "push", base, new), 1, against=against)


def main() -> None:
    scale = arguments(__doc__, full=FULL, quick=QUICK)
    quick = scale.rounds == 1
    ratios = {}
    for push in pushes():
        against = not quick or push.name == RACED
        ratios[push.name] = measure(push, scale.rounds, against=against)
        if push.name == RACED:
            race(push, scale.rounds)
        if push.name == "fp32_lr1e-4":
            snapped(push)
        if push.change == CHANGES[-1]:
            bare = modeldelta.encode(b"", push.new)
            notes = "planes, no base: what a first push costs"
            say(f"{push.variant}_plain_ratio", len(bare) / len(push.new), "of full", notes)
    heads = [ratios[f"{variant}_head"] for variant in VARIANTS]
    say("head_ratio", max(heads), "of full", "the worst of fp32, fp16 and int8")
    notes = f"lr 1e-4, {STEPS} steps as Adam makes them, played, not trained"
    say("fp16_finetune_ratio", ratios["fp16_lr1e-4"], "of full", notes)
    demo_push(against=not quick)


if __name__ == "__main__":
    main()
