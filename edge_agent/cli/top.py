"""`edge-agent top`: the live view, redrawn in place with plain escape codes; q or Ctrl-C quits.

Where stdout is no terminal it prints one screen and ends.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_agent.cli import client, exits, status
from edge_agent.cli.tables import Paint, clip, number, plain, table

if TYPE_CHECKING:
    from edge_agent.cli.status import Status, Subparsers

BARS = "▁▂▃▄▅▆▇█"
HISTORY_POINTS = 40
SHORTEST_PERIOD_S = 0.1
ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, no cursor
LEAVE = "\x1b[?25h\x1b[?1049l"

History = dict[str, collections.deque[float]]


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "top", help="the live view", description="The live view; q or Ctrl-C quits."
    )
    client.add_daemon_options(parser)
    parser.add_argument(
        "--period", metavar="SECONDS", type=float, default=1.0, help="redraw so often (1)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    daemon = client.connect(args)
    paint = Paint.fitting(sys.stdout)
    history: History = {}
    first = daemon.json("/v1/status")
    remember(history, first)
    if not sys.stdout.isatty():
        print("\n".join(screen(first, history, paint)))
        return exits.OK
    with _full_screen(), contextlib.suppress(KeyboardInterrupt):
        _redraw(screen(first, history, paint, _columns()))
        while not _quit_within(max(args.period, SHORTEST_PERIOD_S)):
            latest = daemon.json("/v1/status")
            remember(history, latest)
            _redraw(screen(latest, history, paint, _columns()))
    return exits.OK


def remember(history: History, latest: Status) -> None:
    """Keeps the results per second of each stream, the last HISTORY_POINTS of them."""
    streams: Mapping[str, Status] = latest.get("streams") or {}
    for name in set(history) - set(streams):
        del history[name]
    for name, stream in streams.items():
        points = history.setdefault(name, collections.deque(maxlen=HISTORY_POINTS))
        points.append(float(stream.get("fps_out") or 0.0))


def screen(latest: Status, history: History, paint: Paint, columns: int | None = None) -> list[str]:
    """The status screen, and below it what each stream loses and how it went."""
    streams: Mapping[str, Status] = latest.get("streams") or {}
    rows = [_detail(name, stream, history.get(name, ())) for name, stream in streams.items()]
    lines = status.lines(latest, paint, columns)
    if rows:
        head, *body = table(
            ("stream", ">captured", ">inferred", ">added p50/p99", ">age ms", "lost", "results/s"),
            rows,
        )
        lines += ["", paint(head, "bold"), *body]
    return lines


def _detail(name: str, stream: Status, points: Sequence[float]) -> list[str]:
    lost = {why: count for why, count in (stream.get("dropped") or {}).items() if count}
    return [
        plain(name),
        plain(stream.get("captured")),
        plain(stream.get("inferred")),
        status.percentiles(stream.get("added_ms")),
        number(stream.get("age_ms"), 0),
        ", ".join(f"{count} {plain(why)}" for why, count in lost.items()) or "nothing",
        sparkline(points),
    ]


def sparkline(points: Sequence[float]) -> str:
    """One bar per point, from zero to the highest."""
    highest = max(points, default=0.0)
    if highest <= 0:
        return BARS[0] * len(points)
    return "".join(BARS[round(max(point, 0.0) / highest * (len(BARS) - 1))] for point in points)


def _columns() -> int:
    return os.get_terminal_size(sys.stdout.fileno()).columns


def _redraw(lines: list[str]) -> None:
    size = os.get_terminal_size(sys.stdout.fileno())
    shown = [clip(line, max(size.columns - 1, 1)) for line in lines][: max(size.lines - 1, 1)]
    body = "".join(f"{line}\x1b[K\r\n" for line in shown)
    sys.stdout.write(f"\x1b[H{body}\x1b[J")
    sys.stdout.flush()


@contextlib.contextmanager
def _full_screen() -> Iterator[None]:
    """Keys come at once and unechoed; the terminal is given back as it was."""
    keys = sys.stdin.fileno() if sys.stdin.isatty() else None
    before: list[Any] = termios.tcgetattr(keys) if keys is not None else []
    try:
        if keys is not None:
            tty.setcbreak(keys)
        sys.stdout.write(ENTER)
        yield
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
        if keys is not None:
            termios.tcsetattr(keys, termios.TCSADRAIN, before)


def _quit_within(period_s: float) -> bool:
    """Waits for so long; True as soon as q is pressed."""
    watched = [sys.stdin] if sys.stdin.isatty() else []
    ready, _, _ = select.select(watched, [], [], period_s)
    return bool(ready) and os.read(sys.stdin.fileno(), 64)[:1] in (b"q", b"Q", b"\x03", b"")
