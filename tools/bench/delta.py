"""What records and documents cost on the wire: `.venv/bin/python tools/bench/delta.py [--quick]`.

One JSON line per figure. Bodies are what a codec makes of a batch, without envelope and armour;
`..._wire` is the whole payload. `records` are calibrated detections with two measures an object,
`uncalibrated` ones have none. The series is seeded; its model, head and labels are not in the
dictionary's samples, but those come from the same generator, and the dictionary's parameters were
chosen on this scene with another seed. The floor is the sum of the order-0 entropies of every
column by itself, each column under the best of: as it is, its differences, the differences of
those, differences over 2, 4 and 64 rows. The columns are those of the wire, so nothing that follows
from another column is counted; all series are pooled, for the entropy of a short sample flatters.
`outlines` are contours as the agent draws them, on the grid of a mask (`contours` are noise in
units of 1/8 px): `..._wire_to_json_zstd` is the payload against JSON + zstd-3 of the same batch in
the same armour, `..._v1_...` the same for a receiver that announced no codings; an export has no
dictionary, its clip repeats.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import zstandard

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge_agent.core.frames import Result, pack, to_json
from edge_agent.core.wire import armour, documents, envelope, flatten, records
from edge_agent.core.wire.codec import CODINGS, Codecs
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.host import SystemClock
from edge_agent.stores.spool import SpoolLimits, open_spool
from tools.mask_series import MaskSeries
from tools.record_series import Scene, Series

DETECTION: Final = Scene()
SCENES: Final = {
    "records": DETECTION,
    "uncalibrated": replace(DETECTION, spacing_mm=0.0, fps=60.0, pts=True),
    "contours": replace(DETECTION, contours=True),
}
GOALS: Final = {
    "records_b30_ratio": 0.06,
    "records_b1_ratio": 0.15,
    "records_b300_to_entropy": 1.45,
    "uncalibrated_b30_ratio": 0.06,
    "uncalibrated_b1_ratio": 0.15,
    "uncalibrated_b300_to_entropy": 1.45,
    "records_b30_wire_to_json_zstd": 0.35,
    "outlines_b1_wire_to_json_zstd": 0.45,
    "outlines_b30_wire_to_json_zstd": 0.45,
    "outlines_export_wire_to_json_zstd": 1.0,
    "envelope_bytes": 80,
    "document_bytes": 70,
}
JSON_LEVEL: Final = 3
PERIODS: Final = (2, 4, 64)
SPOOLED: Final = 10  # times that each record is appended, so that a file's own pages count little


def say(figure: str, value: float, unit: str, runs: int, notes: str = "") -> None:
    line = {
        "bench": "delta", "figure": figure, "value": round(value, 5), "unit": unit,
        "goal": f"<= {GOALS[figure]:g}" if figure in GOALS else None, "runs": runs, "notes": notes,
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def codecs(*, codings: Sequence[int] = CODINGS, dictionary: bool = True) -> Codecs:
    made = Codecs([DICTIONARY_1])
    made.allow(made.ids if dictionary else (), codings)
    return made


def joined(batch: Sequence[Result]) -> bytes:
    return b"\n".join(map(to_json, batch))


class Sums:
    """Of one batch size, in bytes."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self.encode_s: list[float] = []
        self.decode_s: list[float] = []

    def add(self, batch: Sequence[Result], wire: Codecs) -> None:
        started = time.process_time()
        made = records.encode(batch, wire)
        encoded = time.process_time()
        back = records.decode(made, wire)
        self.encode_s.append((encoded - started) / len(batch))
        self.decode_s.append((time.process_time() - encoded) / len(batch))
        assert back == tuple(batch), "a batch did not come back"
        whole = envelope.encode(made)
        text = joined(batch)
        self.totals["records"] += len(batch)
        self.totals["batches"] += 1
        self.totals["json"] += sum(len(to_json(record)) for record in batch)
        zstd = zstandard.compress(text, JSON_LEVEL)
        self.totals["zstd"] += len(zstd)
        self.totals["zstd_wire"] += len(armour.arm(zstd))
        self.totals["body"] += len(made.body)
        self.totals["envelope"] += len(whole) - len(made.body)
        self.totals["wire"] += len(armour.pack(made.node, [whole]))


def measure(name: str, size: int, batches: int) -> tuple[Sums, list[list[Result]]]:
    """Batches from several seeds, so that one still scene does not decide."""
    sums, wire = Sums(), codecs()
    taken: list[list[Result]] = []
    for seed in range(4):
        series = Series(SCENES[name], seed=1000 + seed)
        taken.append([])
        for _ in range(max(1, batches // 4)):
            batch = series.take(size)
            sums.add(batch, wire)
            taken[-1] += batch
    return sums, taken


def say_sizes(name: str, size: int, sums: Sums) -> None:
    of, runs = sums.totals, sums.totals["batches"]
    per_record = (
        f"{of['body'] / of['records']:.1f} B a record, JSON {of['json'] / of['records']:.0f}"
    )
    say(f"{name}_b{size}_ratio", of["body"] / of["json"], "body/json", runs, per_record)
    say(f"{name}_b{size}_ratio_wire", of["wire"] / of["json"], "payload/json", runs)
    say(f"{name}_b{size}_to_json_zstd", of["body"] / of["zstd"], "body/json+zstd-3", runs)
    say_wire(f"{name}_b{size}", sums)
    for verb, times in (("encode", sums.encode_s), ("decode", sums.decode_s)):
        median_us = sorted(times)[len(times) // 2] * 1e6
        say(f"{name}_b{size}_{verb}_us", median_us, "us/record", runs, "median, processor time")


def say_wire(name: str, sums: Sums) -> None:
    of = sums.totals
    notes = f"{of['wire'] / of['records']:.0f} B a record"
    value = of["wire"] / of["zstd_wire"]
    say(f"{name}_wire_to_json_zstd", value, "payload/json+zstd-3 armoured", of["batches"], notes)


def say_outlines(batches: int) -> None:
    """Each batch with and without what only a newer receiver reads, and an export."""
    wires = {"outlines_v1": codecs(codings=()), "outlines": codecs()}
    kinds = {(name, size): Sums() for name in wires for size in (1, 30)}
    some = [MaskSeries(3), MaskSeries(5, size=(1280, 960))]
    taken = [series.take(30) for series in some for _ in range(batches)]
    for (name, size), sums in kinds.items():
        for batch in taken:
            for at in range(0, 30, 6 if size == 1 else 30):
                sums.add(batch[at : at + size], wires[name])
        say_sizes(name, size, sums)
    clip = MaskSeries(7, size=(800, 600), repeats=54).take(300)
    for name, codings in (("outlines_v1", ()), ("outlines", CODINGS)):
        sums = Sums()
        sums.add(clip, codecs(codings=codings, dictionary=False))
        say_wire(f"{name}_export", sums)


def say_spool(name: str, taken: Sequence[Result]) -> None:
    """What a record takes in a real file, alone and as a day of two streams."""
    packed = sum(len(pack(record)) for record in taken) / len(taken)
    limits = SpoolLimits(limit_bytes=1 << 28, ballast_bytes=0, queue_rows=1 << 16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool.db"
        spool = open_spool(
            path, node="cart-07", clock=SystemClock(), boot="0badcafe",
            random32=lambda: random.getrandbits(32), limits=limits,
        )  # fmt: skip
        took: list[float] = []
        for record in [*taken] * SPOOLED:
            started = time.thread_time()
            spool.append(record)
            took.append(time.thread_time() - started)
        while spool.health().waiting:
            time.sleep(0.01)
        body = spool.stats().bytes / len(took)
        spool.close()
        on_disk = path.stat().st_size / len(took)
    notes = f"{packed:.0f} B as MessagePack, {on_disk:.0f} B of file"
    say(f"spool_{name}_body_bytes", body, "B/record", len(took), notes)
    day = on_disk * 2 * 30 * 86_400 / 1e9
    say(f"spool_{name}_gb_a_day", day, "GB", len(took), "two streams of 30 results/s, all kept")
    middle_us = sorted(took)[len(took) // 2] * 1e6
    say(f"spool_{name}_append_us", middle_us, "us", len(took), "median, processor time")


def entropy_bytes(symbols: Sequence[Any]) -> float:
    total = len(symbols)
    return -sum(n * math.log2(n / total) for n in Counter(symbols).values()) / 8


def steps(column: Sequence[int], period: int = 1) -> list[int]:
    before = [*[0] * period, *column[:-period]]
    return [b - a for a, b in zip(before, column, strict=True)]


def floor_of(column: Sequence[Any]) -> float:
    """Of one column: hashes byte by byte, numbers under the best transform, else as it is."""
    if (
        all(isinstance(value, str) and len(value) == 8 for value in column)
        and len(set(column)) > 99
    ):
        planes = zip(*(bytes.fromhex(value) for value in column), strict=True)
        return sum(map(entropy_bytes, planes))
    if not all(type(value) in (int, float) for value in column):
        return entropy_bytes(column)
    numbers = [round(value * 10_000) if isinstance(value, float) else value for value in column]
    forms = [numbers, steps(numbers), steps(steps(numbers))]
    forms += [steps(numbers, period) for period in PERIODS if len(numbers) > period]
    return min(map(entropy_bytes, forms))


def floor_bytes(series: Sequence[Sequence[Result]]) -> float:
    """The sum over all columns that the wire has, in the order in which it stores them: so what
    one column tells about another is in the floor too."""
    columns: defaultdict[tuple[int, int], list[Any]] = defaultdict(list)
    for batch in series:
        for table in flatten.tables_of(batch):
            for field, values in table.columns.items() if table.rows else ():
                plain = values.tolist() if isinstance(values, np.ndarray) else values
                columns[table.number, field] += plain
    return sum(map(floor_of, columns.values()))


def status_document(chance: random.Random, items: int = 142) -> dict[str, Any]:
    """A twin as KubeEdge holds it, about 18 kB."""
    return {
        f"property-{index:03d}": {
            "actual": {"value": str(chance.randrange(10_000))},
            "expected": {"value": f"{chance.getrandbits(32):08x}"},
            "metadata": {"timestamp": 1_790_000_000_000 + chance.randrange(10**6), "type": "int"},
        }
        for index in range(items)
    }


def merge_patch(old: Any, new: Any) -> Any:
    """RFC 7396, for documents without null."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    patch = {key: merge_patch(old.get(key), new[key]) for key in new if old.get(key) != new[key]}
    return patch | dict.fromkeys(old.keys() - new.keys())


def say_documents(runs: int) -> None:
    totals: Counter[str] = Counter()
    wire = codecs()
    for seed in range(runs):
        chance = random.Random(seed)
        old = status_document(chance)
        new = json.loads(json.dumps(old))
        for name in chance.sample(sorted(new), 5):
            new[name]["actual"]["value"] = str(chance.randrange(10_000))
        sender, receiver = documents.Sender("cart-07", "status", 1), documents.Receiver()
        key = sender.encode(documents.canonical(old), wire)
        receiver.decode(key, wire)
        sender.acknowledge(receiver.ids)
        started = time.process_time()
        delta = sender.encode(documents.canonical(new), wire)
        totals["encode_us"] += round((time.process_time() - started) * 1e6)
        assert receiver.decode(delta, wire) == documents.canonical(new)
        patch = documents.canonical(merge_patch(old, new))
        totals["document"] += delta.raw_len
        totals["key"] += len(key.body)
        totals["delta"] += len(delta.body)
        totals["patch"] += len(patch)
        totals["patch_zstd"] += len(zstandard.compress(patch, JSON_LEVEL))
    size = f"{totals['document'] / runs:.0f} B, 5 fields changed"
    say("document_bytes", totals["delta"] / runs, "B", runs, size)
    say("document_key_bytes", totals["key"] / runs, "B", runs, size)
    say("document_merge_patch_bytes", totals["patch"] / runs, "B", runs, "RFC 7396, compact")
    say("document_merge_patch_zstd_bytes", totals["patch_zstd"] / runs, "B", runs, "zstd-3")
    say("document_encode_us", totals["encode_us"] / runs, "us", runs, "canonical JSON included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, for CI")
    quick = parser.parse_args().quick
    share = 1 if quick else 5
    for name in SCENES:
        for size, batches in ((1, 160), (30, 16), (300, 8)):
            sums, taken = measure(name, size, batches * share)
            say_sizes(name, size, sums)
            if size == 300:
                say_floor(name, sums, floor_bytes(taken))
            if name == "records" and size == 30:
                runs = sums.totals["batches"]
                say("envelope_bytes", sums.totals["envelope"] / runs, "B", runs)
    say_outlines(4 * share)
    for name, some in (
        ("outlines", MaskSeries(3).take(60 * share)),
        ("records", Series(DETECTION, seed=5).take(60 * share)),
    ):
        say_spool(name, some)
    say_documents(20 * share)


def say_floor(name: str, sums: Sums, floor: float) -> None:
    notes = f"floor {floor / sums.totals['records']:.2f} B a record, of the columns on the wire"
    value = sums.totals["body"] / floor
    say(f"{name}_b300_to_entropy", value, "body/floor", sums.totals["batches"], notes)


if __name__ == "__main__":
    main()
