"""`streams snapshot`: one picture with its findings, as a PNG that only its owner can read.

Pixels come over the control socket alone. A result that is not of this picture is not drawn on it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from edge_agent.cli import client, exits, overlay
from edge_agent.cli.client import Client
from edge_agent.cli.exits import CommandError
from edge_agent.cli.streams import checked_name
from edge_agent.cli.tables import number, plain
from edge_agent.core.frames import Pixels, Result

MAX_PICTURE_AGE_MS = 2000.0
MAX_DEPTH = 6  # of /v1/models, while looking for labels


def run(args: argparse.Namespace) -> int:
    """Fetches, draws, writes."""
    stream = checked_name(args.stream)
    daemon = client.connect(args)
    frame, pixels, result = fetch(daemon, stream)
    blank = why_blank(daemon, stream, frame.get("age_ms"))
    warning = overlay.staleness(frame["number"], result, blank)
    names, colours = label_names(daemon, result.model if result is not None else "")
    drawn = overlay.draw(pixels, result, names=names, colours=colours, warning=warning)
    utc = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = args.out or f"{stream}-{utc}.png"
    write_private(path, png(drawn), replace=args.force)
    findings = len(result.objects) + len(result.labels) if result is not None else 0
    if args.json:
        document = {
            "schema": 1,
            "path": path,
            "stream": stream,
            "frame": frame["number"],
            "age_ms": frame.get("age_ms"),
            "findings": 0 if warning else findings,
            "warning": warning,
        }
        print(json.dumps(document))
        return exits.OK
    words = plain(warning) if warning else f"{findings} findings drawn"
    print(
        f"wrote {path}: frame {frame['number']}, {number(frame.get('age_ms'), 0)} ms old, {words}"
    )
    return exits.OK


def fetch(daemon: Client, stream: str) -> tuple[dict[str, Any], Pixels, Result | None]:
    """The newest frame's header, its pixels and the result at hand.

    Raises: CommandError.
    """
    body = daemon.get(f"/v1/frame?stream={stream}")
    try:
        document = msgspec.msgpack.decode(body, type=dict[str, Any])
        frame = document["frame"]
        shape = (frame["h"], frame["w"], frame["channels"])
        pixels = np.frombuffer(frame["pixels"], np.uint8).reshape(shape)
        int(frame["number"])
        found = document.get("result")
        result = msgspec.convert(found, Result, strict=False) if found else None
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise CommandError(
            f"read a frame of {stream}: not understood: {error}",
            hint="is the daemon of another version? compare: edge-agent version",
        ) from error
    gray = shape[2] == 1
    return frame, pixels[..., 0] if gray else pixels, result


def why_blank(daemon: Client, stream: str, age_ms: Any) -> str:
    """What the agent holds against showing results now; "" when nothing."""
    state = (daemon.json("/v1/streams").get("streams") or {}).get(stream) or {}
    if state.get("state", "ok") != "ok":
        return plain(state.get("reason") or state["state"])
    if isinstance(age_ms, int | float) and age_ms > MAX_PICTURE_AGE_MS:
        return f"the picture is {age_ms / 1000:.0f} s old"
    return str(state.get("reason") or "")


def label_names(daemon: Client, model: str) -> tuple[dict[str, str], dict[str, str]]:
    """Shown names and colours by label key, as the model's manifest has them; empty if unknown."""
    names: dict[str, str] = {}
    colours: dict[str, str] = {}
    if not model:
        return names, colours
    try:
        models = daemon.json("/v1/models").get("models")
    except CommandError:  # then the keys have to do
        return names, colours
    of_model = models.get(model) if isinstance(models, dict) else None
    for label in _labels(of_model, MAX_DEPTH):
        names[label["key"]] = str(label.get("name") or label["key"])
        colour = str(label.get("colour") or "")
        if len(colour) == 7 and colour.startswith("#"):
            colours[label["key"]] = colour
    return names, colours


def _labels(node: Any, depth: int) -> list[Mapping[str, Any]]:
    """Every {key, name, colour} below `node`."""
    if depth == 0 or not isinstance(node, dict | list):
        return []
    if isinstance(node, dict) and isinstance(node.get("key"), str):
        return [node]
    below = node.values() if isinstance(node, dict) else node
    return [label for item in below for label in _labels(item, depth - 1)]


def png(pixels: Pixels) -> bytes:
    """HxWx3 BGR as PNG, without any text in it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., ::-1].copy()).save(buffer, "PNG")
    return buffer.getvalue()


def write_private(path: str, content: bytes, *, replace: bool) -> None:
    """Mode 0600 from its first byte; with `replace` a new file takes the old one's place.

    Raises: CommandError.
    """
    target = f"{path}.{os.getpid()}.part" if replace else path
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
            file.write(content)
        if replace:
            Path(target).replace(path)
    except FileExistsError as error:
        raise CommandError(f"write {target}: it exists", hint="another -o FILE, or -f") from error
    except OSError as error:
        if replace:
            Path(target).unlink(missing_ok=True)
        raise CommandError(f"write {target}: {error.strerror}", hint="another -o FILE") from error
