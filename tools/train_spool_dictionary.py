"""Trains the dictionary of single records: `.venv/bin/python tools/train_spool_dictionary.py FILE`.

edge_agent/core/records-1.zdict came out of it (zstd 1.5.7). What is in a spool is read with the
dictionary that it was written with: one that was ever released never changes and is never removed.
A better one is records-2.zdict, under another number in front of the body.
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

from edge_agent.core.frames import Alarm, AnyRecord, Event, pack  # noqa: E402 - after the path
from tools.mask_series import MaskSeries  # noqa: E402 - after the path
from tools.record_series import Series  # noqa: E402 - after the path
from tools.train_dictionary import other, scene  # noqa: E402 - after the path

SIZE_BYTES: Final = 8192
SAMPLES: Final = 3000


def records() -> Iterator[AnyRecord]:
    """A third each: boxes, contours, and what else there is."""
    chance = random.Random(20_261_201)
    sizes = ((640, 480), (1280, 960), (800, 600), (1024, 768))
    masks = [MaskSeries(seed, size=size) for seed, size in enumerate(sizes, 40)]
    for index in range(SAMPLES // 3):
        yield Series(scene(chance), seed=index).take(1 + index % 3)[-1]
        yield masks[index % len(masks)].take(1)[0]
        of = scene(chance)
        at_us, boot = chance.randrange(10**9, 10**12), f"{chance.getrandbits(32):08x}"
        yield chance.choice(
            [
                other(chance, of),
                Alarm(node=of.node, stream=of.stream, boot=boot, at_us=at_us, since_us=at_us,
                      code="no-signal", what="no picture", fix="check the cable"),
                Event(node=of.node, stream=of.stream, boot=boot, at_us=at_us, name="started"),
            ]
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    trained = zstandard.train_dictionary(SIZE_BYTES, list(map(pack, records())), level=3)
    file.write_bytes(trained.as_bytes())


if __name__ == "__main__":
    main()
