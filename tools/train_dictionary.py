"""Trains a dictionary for small live batches: `.venv/bin/python tools/train_dictionary.py FILE`.

The same zstd library gives the same bytes for the same records: the samples are seeded and the
parameters fixed. edge_agent/core/wire/dictionary-1.zdict came out of it (zstd 1.5.7) before the
records got their later fields. A dictionary that was ever released is never trained again: a
better one is dictionary-2.zdict, with an id of its own in `can.dict`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import zstandard

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from edge_agent.core.frames import DROPS, SIGNALS, AnyRecord, ClockMap, ModelStats, Tally  # noqa: E402 - after the path
from edge_agent.core.wire import records  # noqa: E402 - after the path
from tools.record_series import Scene, Series  # noqa: E402 - after the path

SIZE_BYTES: Final = 8192
SAMPLES: Final = 4000
WORDS: Final = ("polyp", "chamber", "vessel", "lesion", "nerve", "valve", "needle", "stone", "mass")


def scene(chance: random.Random) -> Scene:
    """One of the many things that a stream can be."""
    word = chance.choice(WORDS)
    calibrated = chance.random() < 0.6
    return Scene(
        model=f"{chance.choice(('us', 'endo', 'lap'))}-{word}",
        version=f"{chance.randint(1, 3)}.{chance.randint(0, 4)}.{chance.randint(0, 3)}",
        head=chance.choice((word, word + "s", "boxes", "detections")),
        labels=(word, chance.choice(("artefact", "tool", word + "-b"))),
        size=chance.choice(((1920, 1080), (1280, 720), (1024, 768), (800, 600), (640, 480))),
        fps=chance.choice((25.0, 30.0, 50.0, 60.0)),
        spacing_mm=round(chance.uniform(0.03, 0.3), 4) if calibrated else 0.0,
        backend=chance.choice(("tensorrt", "tensorrt", "onnx")),
        variant=chance.choice(("fp16", "fp16", "fp32", "int8")),
        contours=chance.random() < 0.1,
        classes=chance.choice(((), (), (), ("standard", "oblique", "none"))),
        pts=chance.random() < 0.4,
    )


def samples() -> Iterator[bytes]:
    """Raw bodies of 1 to 4 records, mostly of one or two."""
    chance = random.Random(20_261_123)
    for index in range(SAMPLES):
        if index % 12 == 0:
            yield records.raw_of([other(chance, scene(chance))])
            continue
        series = Series(scene(chance), seed=index)
        series.take(chance.randint(0, 8))
        yield records.raw_of(series.take(chance.choice((1, 1, 1, 2, 2, 3, 4))))


def other(chance: random.Random, of: Scene) -> AnyRecord:
    """What else is live all the time."""
    at_us, captured = chance.randrange(10**9, 10**12), chance.randrange(10**6)
    boot = f"{chance.getrandbits(32):08x}"
    kind = chance.randrange(3)
    if kind == 0:
        dropped = {drop.value: chance.choice((0, 0, captured // 99)) for drop in DROPS}
        return Tally(
            node=of.node, stream=of.stream, boot=boot, at_us=at_us, captured=captured,
            inferred=captured - sum(dropped.values()), dropped=dropped,
            state=chance.choice(SIGNALS).value,
        )  # fmt: skip
    if kind == 1:
        return ModelStats(
            node=of.node, stream=of.stream, boot=boot, at_us=at_us, model=of.model,
            version=of.version, frames=captured, findings=captured // 3,
            scores=tuple(chance.randrange(400) for _ in range(10)),
            input_mean=round(chance.uniform(20, 120), 2), input_sd=round(chance.uniform(5, 60), 2),
        )  # fmt: skip
    return ClockMap(
        node=of.node, stream="", boot=boot, at_us=at_us, synchronised=True,
        utc_offset_us=1_790_000_000_000_000 + chance.randrange(10**12), utc_error_us=1200,
    )  # fmt: skip


def trained() -> bytes:
    """The dictionary."""
    given: list[bytes | bytearray | memoryview] = list(samples())
    return zstandard.train_dictionary(
        SIZE_BYTES, given, k=700, d=8, level=3, dict_id=32_769
    ).as_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="where to write it")
    parser.parse_args().file.write_bytes(trained())
    return 0


if __name__ == "__main__":
    sys.exit(main())
