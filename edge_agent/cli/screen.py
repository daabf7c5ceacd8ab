"""Draws the demo's view with rich: each stream's picture in half blocks, its figures below.

A result is drawn only on its own frame, and a picture that is not fresh says so across itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge_agent.cli import overlay
from edge_agent.core.frames import Pixels, Result
from edge_agent.core.manifest import Manifest
from edge_agent.services.console.views import Shot
from edge_agent.views import Views

PICTURE_COLUMNS = 56
FRAME_COLUMNS = 4  # of a panel, its border and a blank at each side
GAP_COLUMNS = 1
SMALLEST_COLUMNS = 2
FIGURES_LINES = 6
BANNER = "demo models on synthetic training, not a medical device"

Status = Mapping[str, Any]


class Scene(NamedTuple):
    """All that is drawn, taken on the loop in one go: whoever draws must not ask a live house."""

    status: Status
    shots: Mapping[str, Shot]
    reasons: Mapping[str, str]  # why a stream's picture is not shown as fresh
    manifests: Mapping[str, Manifest]


def scene(views: Views) -> Scene:
    """What there is now. On the loop."""
    channels = views.rooms.pipeline.channels
    found = {name: views.frame(name) for name in views.config.streams}
    return Scene(
        status=views.status(),
        shots={name: shot for name, shot in found.items() if shot is not None},
        reasons={name: channel.reason or "" for name, channel in channels.items()},
        manifests=dict(views.manifests),
    )


def drawn(now: Scene, stream: str) -> Pixels | None:
    """The newest frame with its findings, HxWx3 BGR; None while there is no frame."""
    shot = now.shots.get(stream)
    if shot is None:
        return None
    frame = shot.frame
    shape = (frame.h, frame.w) if frame.channels == 1 else (frame.h, frame.w, frame.channels)
    pixels = np.frombuffer(frame.pixels, np.uint8).reshape(shape)
    warning = overlay.staleness(frame.number, shot.result, now.reasons.get(stream, ""))
    names, colours = labels_of(now, shot.result)
    return overlay.draw(pixels, shot.result, names=names, colours=colours, warning=warning)


def labels_of(now: Scene, result: Result | None) -> tuple[dict[str, str], dict[str, str]]:
    """Shown names and colours by label key, of the version that made the result."""
    manifest = now.manifests.get(f"{result.model}@{result.version}") if result else None
    labels = [label for head in manifest.heads for label in head.labels] if manifest else []
    return {x.key: x.name or x.key for x in labels}, {x.key: x.colour for x in labels}


def half_blocks(picture: Pixels, columns: int, max_lines: int = 1 << 16) -> Text:
    """A picture in text: each cell is two pixels, the upper half block in two colours."""
    height, width = picture.shape[:2]
    columns = max(SMALLEST_COLUMNS, min(columns, int(2 * max_lines * width / height)))
    rows = min(2 * max_lines, max(2, round(columns * height / width / 2) * 2))
    small = cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA)
    text = Text()
    for y in range(0, rows, 2):
        for (b0, g0, r0), (b1, g1, r1) in zip(
            small[y].tolist(), small[y + 1].tolist(), strict=True
        ):
            text.append("▀", style=f"rgb({r0},{g0},{b0}) on rgb({r1},{g1},{b1})")
        text.append("\n")
    return text


def figures(stream: Status) -> Table:
    """What a stream does, in six lines."""
    table = Table.grid(padding=(0, 1))
    for _ in range(2):
        table.add_column(no_wrap=True, overflow="ellipsis")
    latency = stream["latency_ms"]
    lost = {why: count for why, count in stream["dropped"].items() if count}
    state = stream["state"]
    rows = (
        ("state", Text(state, style="bold green" if state == "ok" else "bold red")),
        ("model", f"{stream['model']} {stream['model_version']}"),
        ("fps in / out", f"{stream['fps_in']:.1f} / {stream['fps_out']:.1f}"),
        ("p50 / p99", f"{ms(latency['p50'])} / {ms(latency['p99'])} ms"),
        ("frames", f"{stream['captured']} captured, {stream['inferred']} inferred"),
        ("lost", ", ".join(f"{count} {why}" for why, count in lost.items()) or "none"),
    )
    for name, value in rows:
        table.add_row(Text(name, style="dim"), value)
    return table


def ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def view(
    now: Scene,
    elapsed_s: float,
    far: Status | None = None,
    size: tuple[int, int] | None = None,
) -> RenderableType:
    """The whole screen. far: the news from behind the edge. size: columns and lines that there are;
    pictures shrink to what is left of them, and no line is longer.
    """
    status = now.status
    below = _below(now, elapsed_s, far)
    columns, lines = PICTURE_COLUMNS, 1 << 16
    if size is not None:
        room = size[0] // max(1, len(status["streams"])) - GAP_COLUMNS - FRAME_COLUMNS
        columns = max(SMALLEST_COLUMNS, min(columns, room))
        lines = max(1, size[1] - 4 - FIGURES_LINES - len(below))  # a frame, a blank, a last line
    grid = Table.grid(expand=False, padding=(0, 1))
    panels = []
    for name, stream in status["streams"].items():
        picture = drawn(now, name)
        body: RenderableType = (
            Text("no picture yet") if picture is None else half_blocks(picture, columns, lines)
        )
        title = Text.assemble((name, "bold"), f"  {stream['title']}", overflow="ellipsis")
        inside = Group(body, figures(stream))
        panels.append(Panel(inside, title=title, width=columns + FRAME_COLUMNS))
    grid.add_row(*panels)
    return Group(grid, *below)


def _below(now: Scene, elapsed_s: float, far: Status | None) -> list[Text]:
    """The lines below the pictures, none of which is wrapped."""
    status = now.status
    problems = [Text(f"! {p['what']} -> {p['fix']}", style="yellow") for p in status["problems"]]
    spool = status["spool"]
    foot = Text(
        f"{BANNER}  ·  q quits  ·  {elapsed_s:5.1f} s  {status['state']}  "
        f"edge-agent {status['version']}",
        style="dim",
    )
    coming = [line for name, model in status["models"].items() for line in trial(name, model)]
    found = [*road(spool, status["uplink"], far).split(), *coming, *problems[:3], foot]
    for line in found:
        line.no_wrap, line.overflow = True, "ellipsis"
    return found


def trial(name: str, model: Status) -> list[Text]:
    """Where the next version of a model stands; nothing while none has come."""
    rollout = model.get("rollout") or {}
    if not rollout.get("state"):
        return []
    words = f"model  {name} {model['active']} runs; {rollout['version']}: {rollout['state']}"
    why = rollout.get("waits_for") or rollout.get("reason") or ""
    return [Text(f"{words}, {why}" if why else words)]


def road(spool: Status, uplink: Status, far: Status | None) -> Text:
    """What goes up, what it saves, how late it is."""
    kept = f"{spool['appended']:,} records made, {spool['records']:,} kept here"
    if far is None:
        return Text(f"spool  {kept}")
    link = far.get("link", "?")
    raw, sent = uplink["raw_bytes"], uplink["sent_bytes"]
    saved = f"{1 - sent / raw:.0%} saved" if raw else "nothing sent yet"
    lag = (far.get("live_latency_ms") or {}).get("p50")
    there = f"{far.get('received', 0):,} at the hot tier"
    bytes_up = f"{sent / 1000:,.0f} kB for {raw / 1000:,.0f} kB of JSON, {saved}"
    words = Text(f"uplink {kept}, {there}\n       {bytes_up}  ·  lag {ms(lag)} ms  ·  link ")
    words.append(link, style="bold green" if link == "up" else "bold red")
    return words.append(" (c cuts it)" if link == "up" else " (c restores it)", style="dim")


def montage(now: Scene) -> Pixels:
    """The streams' pictures side by side, HxWx3 BGR, for a PNG."""
    pictures = [drawn(now, name) for name in now.status["streams"]]
    found = [picture for picture in pictures if picture is not None]
    height = max((picture.shape[0] for picture in found), default=1)
    scaled = [cv2.resize(p, (round(p.shape[1] * height / p.shape[0]), height)) for p in found] or [
        np.zeros((1, 1, 3), np.uint8)
    ]
    return np.hstack(scaled)
