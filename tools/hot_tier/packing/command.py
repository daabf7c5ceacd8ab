"""`python -m tools.hot_tier pack`: its arguments, and what it prints."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from typing import TextIO

import msgspec

from edge_agent.cli.exits import ERROR, OK, REFUSED
from edge_agent.core.errors import EdgeAgentError, Rejected
from tools.hot_tier.packing.apart import pack_apart, propose_apart
from tools.hot_tier.packing.report import HALF_LIMIT, METRICS, Options, Packed, Proposed, Wanted
from tools.hot_tier.packing.wish import read_wish

BYTES = "B", "kB", "MB", "GB"


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run, wrong_usage=parser.error)
    more = parser.add_argument
    more("model", type=Path, metavar="MODEL.onnx")
    made = parser.add_mutually_exclusive_group(required=True)
    made.add_argument("--manifest", type=Path, metavar="M.toml", help="the pack manifest")
    made.add_argument("--propose", type=Path, metavar="M.toml",
         help="pack nothing: write a manifest of what the file says, to finish")  # fmt: skip
    more("--frames", type=Path, metavar="DIR", help="images as the edge sees them")
    more(
        "-o", "--out", type=Path, metavar="OUT.eam", help="default: NAME-VERSION.eam, unless --dir"
    )
    more("--dir", type=Path, metavar="DIR", help="also unpacked, as DIR/NAME/VERSION")
    more("--roi", type=_roi, metavar="X,Y,W,H", help="part of each frame, in px")
    more("--sequence", action="store_true", help="the frames follow one another: measure flicker")
    more("--max-frames", type=int, default=500, metavar="N", help="look at so many (500)")
    more("--limit-mb", type=int, default=1024, metavar="N", help="refuse larger models (1024)")
    more("--labels", type=Path, metavar="DIR", help="what is on the frames: YOLO's .txt, PNG masks "
         "or labels.csv; the package gets the figures")  # fmt: skip
    more("--at-least", type=_least, action="append", default=[], metavar="METRIC=SHARE",
         help=f"refuse a model below it on any label: {', '.join(METRICS)}")  # fmt: skip
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument("--picture", type=Path, metavar="FILE.png",
         help="frames with what was found on them (default: beside OUT.eam)")  # fmt: skip
    picture.add_argument("--no-picture", action="store_true", help="draw none")
    half = parser.add_mutually_exclusive_group()
    half.add_argument("--require-fp16", action="store_true", help="refuse a model that fp16 spoils")
    half.add_argument("--no-fp16", action="store_true", help="make no fp16 variant")
    more("--fp16-limit", type=float, default=HALF_LIMIT, metavar="SHARE",
         help="of an output's span that fp16 may differ (0.02)")  # fmt: skip
    more("--json", action="store_true", help="one JSON document, also when refused")


def _roi(given: str) -> tuple[int, int, int, int]:
    parts = given.split(",")
    if len(parts) != 4 or not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"expected X,Y,W,H in px, got {given}")
    x, y, width, height = map(int, parts)
    return x, y, width, height


def _least(given: str) -> tuple[str, float]:
    metric, _, share = given.partition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if metric not in METRICS or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(METRICS)} and a share of 0 to 1, as recall=0.8, got "
            f"{given}"
        )
    return metric, value


def run(options: argparse.Namespace) -> int:
    """Exit code."""
    if importlib.util.find_spec("onnx") is None:
        print(
            "hot_tier pack: needs the Python package onnx, which is not installed -> "
            "pip install --require-hashes -r requirements.lock, or pip install onnx",
            file=sys.stderr,
        )
        return ERROR
    if options.propose is None and options.frames is None:
        options.wrong_usage("--frames is needed to pack")
    given = [options.out, options.dir, options.labels, options.at_least, options.picture]
    if options.propose is not None and any(given):
        options.wrong_usage(
            "--propose packs nothing: no -o, --dir, --labels, --at-least, --picture"
        )
    try:
        done = _propose(options) if options.propose else pack_apart(_asked(options))
    except Rejected as error:
        if options.json:
            said = {"schema": 1, "refused": {"what": error.what, "hint": error.hint}}
            _say(msgspec.json.encode(said).decode())
        _say(f"refused: {error}", sys.stderr)
        return REFUSED
    except EdgeAgentError as error:
        _say(f"hot_tier pack: {error}", sys.stderr)
        return ERROR
    if options.json:
        _say(msgspec.json.encode(done).decode())
    else:
        _say("\n".join(lines(done) if isinstance(done, Packed) else proposal(done)))
    return OK


def _say(text: str, to: TextIO | None = None) -> None:
    """What was done is done, whether the terminal can write it or is still there."""
    into = to or sys.stdout
    coding = into.encoding or "utf-8"
    try:
        print(text.encode(coding, "backslashreplace").decode(coding), file=into, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), into.fileno())  # nothing more is told at the end


def _propose(options: argparse.Namespace) -> Proposed:
    """Raises: Rejected, EdgeAgentError."""
    return propose_apart(
        Wanted(
            model=options.model,
            out=options.propose,
            frames=options.frames,
            limit_bytes=options.limit_mb << 20,
        )
    )


def proposal(proposed: Proposed) -> list[str]:
    """For people."""
    classes = f", {proposed.classes} classes" if proposed.classes else ""
    reads = f"{proposed.decoder or 'no decoder fits'} of {', '.join(proposed.outputs)}"
    told = [f"{proposed.manifest}: {reads}{classes}"]
    told += [f"  {note}" for note in proposed.notes]
    if proposed.todo:
        told.append(f"yours to fill in: {', '.join(proposed.todo[:20])}")
    return [*told, "a proposal of shapes and numbers: check every line of it"]


def _asked(options: argparse.Namespace) -> Options:
    """Raises: Rejected."""
    out = options.out
    if out is None and options.dir is None:
        wish = read_wish(options.manifest).wish
        out = Path(f"{wish.name}-{wish.version}.eam")
    return Options(
        model=options.model,
        manifest=options.manifest,
        frames=options.frames,
        out=out,
        folder=options.dir,
        roi=options.roi,
        sequence=options.sequence,
        half="require" if options.require_fp16 else "no" if options.no_fp16 else "try",
        half_limit=options.fp16_limit,
        most_frames=max(1, options.max_frames),
        limit_bytes=options.limit_mb << 20,
        labels=options.labels,
        least=dict(options.at_least),
        picture=_picture(options, out),
    )


def _picture(options: argparse.Namespace, out: Path | None) -> Path | None:
    """Raises: Rejected."""
    if options.at_least and options.labels is None:
        raise Rejected("score the model: --at-least needs labels", hint="give --labels DIR")
    if options.picture is not None or options.no_picture or out is None:
        return None if options.no_picture else options.picture
    beside = out.with_suffix(".png")
    among = beside.resolve().parent == options.frames.resolve()
    return None if among else beside  # it would be a frame the next time


def lines(packed: Packed) -> list[str]:
    """The report for people."""
    told = [f"{packed.name} {packed.version}"]
    told += [f"  {one}" for one in packed.did]
    for one in packed.variants:
        told.append(
            f"  {one.precision} {one.file} {_size(one.bytes)} for {', '.join(one.backends)}; "
            "measured and tolerated: "
            + ", ".join(
                f"{name} {one.measured[name]:.2g} / {allowed:.2g}"
                for name, allowed in one.tolerances.items()
            )
        )
    figures = packed.reference
    told += [
        f"  golden samples: {packed.golden_samples}, checked on {packed.runtime}",
        f"  on {packed.frames} frames: {packed.objects} findings",
        f"  frames with a finding: {figures['findings_per_100']:g} of 100",
        f"  part of such a frame that is covered: {figures['mean_area']:.1%}",
        "  best score of a frame, 0 to 1: "
        + " ".join(f"{share:.0%}" for share in figures["scores"]),
    ]
    told += [f"  {label}: {count}" for label, count in packed.found_by_label.items()]
    if "flicker" in figures:
        told.append(f"  flicker: {figures['flicker']:.1%} of neighbouring frames")
    told += [f"  {key}: {value:g}" for key, value in packed.figures.items()]
    if packed.picture:
        told.append(f"  picture: {packed.picture}")
    told += [f"warning: {one}" for one in packed.warnings]
    places = " and ".join(place for place in (packed.out, packed.folder) if place)
    return [*told, f"{places}: {_size(packed.bytes)}, sha256 {packed.sha256}"]


def _size(count: float) -> str:
    for unit in BYTES:
        if count < 1000 or unit == BYTES[-1]:
            break
        count /= 1000
    return f"{count:.3g} {unit}"
