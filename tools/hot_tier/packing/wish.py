"""The pack manifest: what the person says of the model, and how it wants its input.

It has the keys of a package's `manifest.toml`, without what is measured (`variants`, `reference`),
and a table `[foreign]` that the package does not have. `input.name` and `input.size` may be left
out where the file says them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge_agent.config.fields import flaws_of
from edge_agent.config.lines import MAX_DEPTH, Scan, key_lines
from edge_agent.config.merge import parse_toml
from edge_agent.config.problems import Flaw, Key, Problem, as_text, dotted
from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import (
    MAX_HEADS,
    MAX_SIDE_PX,
    HeadSpec,
    Name,
    Place,
    Provenance,
    Resample,
    StateSpec,
    Version,
)
from edge_agent.stores.files import read_bounded

MAX_BYTES = 1 << 20
OPEN = "TO" + "DO"  # how a value begins that `--propose` left open

Pixels = Annotated[int, Meta(ge=1, le=MAX_SIDE_PX)]
Order = Literal["rgb", "bgr", "gray"]
Layout = Literal["nchw", "nhwc"]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the pack manifest."""


class Foreign(Section, frozen=True, kw_only=True):
    """What the file wants: (pixel * scale - mean) / std, in its own order of channels.

    scale: a number, or a fraction as "1/255". mean, std: one number, or one per channel.
    order: None: gray for one channel, else rgb.
    """

    scale: float | Annotated[str, Meta(pattern=r"^[0-9.]+/[0-9.]+$", max_length=32)] | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Annotated[float, Meta(gt=0)], ...] = (1.0,)
    order: Order | None = None
    layout: Layout = "nchw"


class WishedInput(Section, frozen=True, kw_only=True):
    """As the package's `[input]`. channels: None: 1 for gray, else 3."""

    name: Annotated[str, Meta(max_length=128)] = ""
    size: tuple[Pixels, Pixels] | None = None
    channels: Literal[1, 3] | None = None
    order: Order = "rgb"
    layout: Layout = "nhwc"
    fit: Literal["stretch", "letterbox", "crop"] = "letterbox"
    pad: Annotated[int, Meta(ge=0, le=255)] = 0
    place: Place = "centre"
    resample: Resample = "antialiased"
    region: Literal["auto", "frame"] = "auto"


class Wish(Section, frozen=True, kw_only=True):
    """The whole pack manifest."""

    schema: Literal[1] = 1
    name: Name
    version: Version
    licence: str
    intended_use: str
    heads: Annotated[tuple[HeadSpec, ...], Meta(min_length=1, max_length=MAX_HEADS)]
    input: WishedInput = WishedInput()
    foreign: Foreign = Foreign()
    states: tuple[StateSpec, ...] = ()
    provenance: Provenance = Provenance()
    min_agent_version: Version = "0.1.0"
    latency_budget_ms: Annotated[float, Meta(gt=0)] = 100.0
    agreement: dict[str, bool | float | str] = {}


class Asked(msgspec.Struct, frozen=True):
    """wish: checked. fields: the same as written, for the package's manifest."""

    wish: Wish
    fields: dict[str, Any]


def read_wish(path: Path) -> Asked:
    """Everything that is wrong at once, with file, line and key.

    Raises: Rejected.
    """
    text = _text(path)
    try:
        fields = parse_toml(text)
    except (ValueError, RecursionError) as error:
        raise Rejected(f"read pack manifest {path.name}: {error}", hint="write TOML") from error
    left = [*todos(fields)]
    hint = "a person fills it in"
    flaws = [Flaw(key=key, message=f"is still {OPEN}", hint=hint) for key in left]
    flaws += [flaw for flaw in flaws_of(fields, Wish) if flaw.key not in left]
    if not flaws:
        try:
            wish = msgspec.convert(fields, Wish)
        except msgspec.ValidationError as error:
            raise Rejected(f"read pack manifest {path.name}: {error}") from error
        flaws = list(_misfits(wish))
        if not flaws:
            return Asked(wish, {key: value for key, value in fields.items() if key != "foreign"})
    scan = key_lines(text)
    listed = as_text(_problem(path.name, scan, flaw) for flaw in flaws)
    raise Rejected(f"read pack manifest: {listed}", hint=f"correct {path.name}: docs/models.md")


def todos(value: Any, key: Key = ()) -> Iterator[Key]:
    """Where a proposed manifest is not filled in yet, at any depth."""
    if isinstance(value, str) and value.startswith(OPEN):
        yield key
    elif isinstance(value, dict | list) and len(key) < MAX_DEPTH:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for part, inner in pairs:
            yield from todos(inner, (*key, part))


def scale_of(foreign: Foreign) -> float:
    """Raises: Rejected, where it is not said."""
    if foreign.scale is None:
        raise Rejected(
            "read pack manifest: foreign.scale: expected what the model multiplies pixels of "
            "0 to 255 with, got nothing",
            hint='write scale = "1/255" under [foreign] for inputs of 0 to 1, scale = 1.0 for 255',
        )
    if isinstance(foreign.scale, str):
        above, below = foreign.scale.split("/")
        return float(above) / float(below)
    return foreign.scale


def _text(path: Path) -> str:
    try:
        return read_bounded(path, MAX_BYTES).decode()
    except OSError as error:
        raise Rejected(f"read pack manifest {path.name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Rejected(f"read pack manifest {path.name}: {error}", hint="save as UTF-8") from error


def _misfits(wish: Wish) -> list[Flaw]:
    """What only shows when fields are looked at together."""
    flaws = []
    channels = wish.input.channels or (1 if wish.input.order == "gray" else 3)
    if (wish.input.order == "gray") != (channels == 1):
        text = f"wrong value (order {wish.input.order!r} with {channels} channels)"
        flaws.append(Flaw(key=("input", "channels"), message=text))
    for key in ("mean", "std"):
        count = len(getattr(wish.foreign, key))
        if count not in {1, 3}:
            text = f"wrong value (expected one number, or one per channel, got {count})"
            flaws.append(Flaw(key=("foreign", key), message=text))
    try:
        usable = wish.foreign.scale is None or scale_of(wish.foreign) > 0
    except (ValueError, ZeroDivisionError):
        usable = False
    if not usable:
        text = f"wrong value (expected a number above 0, got {wish.foreign.scale!r})"
        flaws.append(Flaw(key=("foreign", "scale"), message=text))
    return flaws


def _problem(file: str, scan: Scan, flaw: Flaw) -> Problem:
    line = next((scan.lines[key] for key in _above(flaw.key) if key in scan.lines), 1)
    return Problem(file=file, line=line, key=dotted(flaw.key), message=flaw.message, hint=flaw.hint)


def _above(key: Key) -> list[Key]:
    return [key[:count] for count in range(len(key), 0, -1)]
