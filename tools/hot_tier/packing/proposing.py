"""A pack manifest made of the file alone, for a person to finish.

What the file says is written down, what it only suggests is said in a comment, and what nobody but
the person knows is left open, which `pack` refuses until it is filled in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import numpy as np

from edge_agent.backends.fill import Filler
from edge_agent.config.merge import parse_toml
from edge_agent.config.problems import dotted
from edge_agent.core.errors import BadFrame, Rejected
from edge_agent.core.manifest import Decoder, HeadSpec, StateSpec
from edge_agent.stores.files import write_atomic
from tools.hot_tier.packing import sessions
from tools.hot_tier.packing.frames import frames_of
from tools.hot_tier.packing.guessing import Guess, Out, guess
from tools.hot_tier.packing.metadata import Hints, hints_of, shown
from tools.hot_tier.packing.opset import limit_ir
from tools.hot_tier.packing.reading import opset_of, read_model
from tools.hot_tier.packing.report import Proposed, Wanted
from tools.hot_tier.packing.shaping import Picture, settle
from tools.hot_tier.packing.wish import OPEN, Foreign, Layout, Order, Wish, WishedInput, todos

LOOKED_AT: Final = 8  # frames
USUAL: Final = (640, 640)  # px, where a file says no size, to look at its outputs
MAX_NAMED: Final = 200  # classes that get a line each without names of their own
FLOATS: Final = (1, 10, 11)  # TensorProto's numbers: float, half, double
UINT8: Final = 2
COLOURS: Final = ("#ffb000", "#22cc66", "#4da3ff", "#ff5c8a", "#b58cff", "#00c2c7")


def propose(wanted: Wanted) -> Proposed:
    """Writes the manifest; never over another one.

    Raises: Rejected.
    """
    if wanted.out.exists():
        raise Rejected(
            f"propose a manifest: {wanted.out.name} is there already",
            hint="move it away, or name another file",
        )
    model = read_model(wanted.model, wanted.limit_bytes)
    hints = hints_of(model)
    limit_ir(model, [])
    facts = _facts(model, hints)
    outs = _outs(model, facts, wanted)
    found = guess(outs, facts.size, hints)
    lines = list(_lines(wanted.model, facts, hints, (outs, found), opset_of(model)))
    text = "\n".join(lines) + "\n"
    try:
        write_atomic(wanted.out, text.encode(), mode=0o644)
    except OSError as error:
        raise Rejected(
            f"write {wanted.out.name}: {error.strerror}", hint="choose another place"
        ) from error
    return Proposed(
        manifest=str(wanted.out),
        decoder=found.decoder,
        outputs=list(found.outputs),
        classes=found.classes,
        notes=list(found.notes),
        todo=[dotted(key) for key in todos(parse_toml(text))],
    )


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """size: [w, h] px, of the file, else of its hints, else usual; fixed: the file says it."""

    name: str
    kind: int
    layout: Layout
    size: tuple[int, int]
    fixed: bool
    gray: bool
    states: tuple[StateSpec, ...]


def _facts(model: Any, hints: Hints) -> Facts:
    """Raises: Rejected."""
    weights = {one.name for one in model.graph.initializer}
    inputs = [one for one in model.graph.input if one.name not in weights]
    pictures = [one for one in inputs if _is_picture(one)]
    if len(pictures) != 1:
        raise Rejected(
            f"propose a manifest: expected one input that is a picture (4 axes, 1 or 3 channels), "
            f"got {[one.name for one in pictures]} of {[one.name for one in inputs]}",
            hint="export the model with the picture as [1, 3, height, width]",
        )
    (value,) = pictures
    sizes = _sizes(value)
    layout: Layout = "nhwc" if sizes[3] in {1, 3} and sizes[1] not in {1, 3} else "nchw"
    high, wide = sizes[1:3] if layout == "nhwc" else sizes[2:]
    fixed = wide > 0 and high > 0
    return Facts(
        name=value.name,
        kind=value.type.tensor_type.elem_type,
        layout=layout,
        size=(wide, high) if fixed else hints.size or USUAL,
        fixed=fixed,
        gray=(sizes[3] if layout == "nhwc" else sizes[1]) == 1,
        states=tuple(_states(inputs, value, model.graph.output)),
    )


def _sizes(value: Any) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _is_picture(value: Any) -> bool:
    sizes, kind = _sizes(value), value.type.tensor_type.elem_type
    channels = len(sizes) == 4 and ({sizes[1], sizes[3]} & {1, 3} or sizes[1] <= 0)
    return bool(channels) and kind in {*FLOATS, UINT8} and max(sizes[2:3]) not in range(1, 4)


def _states(inputs: list[Any], picture: Any, outputs: Any) -> Iterator[StateSpec]:
    """Other inputs with the output that is most likely fed back."""
    left = list(outputs)
    for value in inputs:
        if value is picture:
            continue
        like = [
            one
            for one in left
            if _sizes(one) == _sizes(value)
            and one.type.tensor_type.elem_type == value.type.tensor_type.elem_type
        ]
        stem = re.sub(r"(_?(in|prev|old|0))$", "", value.name.lower())
        like.sort(key=lambda one: not one.name.lower().startswith(stem))
        if not like:
            raise Rejected(
                f"propose a manifest: input {value.name} is no picture, and no output has its type "
                "and shape to be fed back",
                hint="an agent has nothing to feed it: export the model without it",
            )
        left.remove(like[0])
        yield StateSpec(input=value.name, output=like[0].name)


def _outs(model: Any, facts: Facts, wanted: Wanted) -> list[Out]:
    """With what they say on some frames, where it runs. Raises: Rejected."""
    scale = None if facts.kind == UINT8 else "1/255"
    foreign = Foreign(scale=scale, layout=facts.layout, order="gray" if facts.gray else "rgb")
    order: Order = "gray" if facts.gray else "bgr"
    wish = Wish(
        name="proposed",
        version="1.0.0",
        licence="",
        intended_use="",
        states=facts.states,
        heads=(HeadSpec(name="h", task="detection", decoder="boxes", outputs=()),),
        input=WishedInput(size=facts.size, order=order),
        foreign=foreign,
    )
    fed_back = {state.output for state in facts.states}
    kept: dict[str, list[Any]] = {}
    try:
        picture = settle(model, wish, [])
        plain = sessions.Plain(model.SerializeToString(), facts.states)
        for pixels in _pixels(picture, wanted):
            said = plain.run(picture.name, sessions.by_hand(pixels, picture, foreign))
            for name, array in said.items():
                kept.setdefault(name, []).append(array)
    except Rejected as refused:
        if facts.fixed:
            raise
        wide, high = facts.size
        raise Rejected(
            f"{refused.what}; it says no size and was tried at {wide}x{high} px",
            hint="export it with its size, or write the manifest by hand, with [input] size: "
            "docs/models.md",
        ) from refused
    return [
        _out(name, arrays, told=wanted.frames is not None)
        for name, arrays in kept.items()
        if name not in fed_back
    ]


def _out(name: str, arrays: list[Any], *, told: bool) -> Out:
    """Black says nothing of what numbers mean: then shapes alone are kept."""
    last = arrays[-1]
    values = None
    if told and all(one.shape == last.shape for one in arrays):
        values = np.concatenate([one.astype(np.float32) for one in arrays])
    return Out(name=name, shape=last.shape, whole=last.dtype.kind in "iub", values=values)


def _pixels(picture: Picture, wanted: Wanted) -> Iterator[Any]:
    """Inputs of the package: of frames, or one that is black. Raises: Rejected."""
    spec = picture.spec
    bound = np.zeros((1, spec.size[1], spec.size[0], spec.channels), np.uint8)
    if wanted.frames is None:
        yield bound
        return
    filler = Filler(spec, bound)
    for frame in frames_of(wanted.frames, LOOKED_AT):
        try:
            filler.fill(frame, (0, 0, *frame.size))
        except BadFrame as bad:
            raise Rejected(f"read frames: {bad.what}", hint=bad.hint) from bad
        yield bound.copy()


# ── as text ───────────────────────────────────────────────────────────────────────────────────


def _lines(
    path: Path, facts: Facts, hints: Hints, seen: tuple[list[Out], Guess], opset: int
) -> Iterator[str]:
    outs, found = seen
    yield f"# Proposed from {shown(path.name)}, opset {opset}. Check every line."
    yield f"# What begins with {OPEN} is yours to fill in; pack refuses it until then."
    yield "# Every key: docs/models.md"
    yield ""
    yield f"name = {_text(_slug(path.stem))}"
    yield 'version = "1.0.0"'
    if hints.licence:
        yield f"# the file says: {hints.licence}"
    yield f"licence = {_todo('under which licence may others have it?')}"
    use = "what is it for, and what is it not for? Not a medical device."
    yield f"intended_use = {_todo(use)}"
    yield "latency_budget_ms = 100.0  # a run may take so long on the device"
    yield ""
    yield from _input(facts, hints, found)
    yield ""
    yield from _foreign(facts, hints, found)
    for state in facts.states:
        yield ""
        yield "[[states]]  # fed back from frame to frame; check which belongs to which"
        yield f"input = {_text(state.input)}"
        yield f"output = {_text(state.output)}"
    yield ""
    if any(one.values is not None for one in outs) and facts.kind != UINT8:
        yield "# what outputs say of pixels of 0 to 1:"
    for one in outs:
        yield f"# output {shown(one.name)} {list(one.shape)}{_span(one)}"
    yield from _head(found, hints)


def _span(one: Out) -> str:
    if one.values is None or not one.values.size:
        return ""
    return f", on the frames {float(one.values.min()):.4g} to {float(one.values.max()):.4g}"


def _input(facts: Facts, hints: Hints, found: Guess) -> Iterator[str]:
    yield "[input]  # what the edge gives"
    if facts.fixed:
        yield f"size = {list(facts.size)}  # width, height in px, as the file says"
    elif hints.size:
        yield f"size = {list(hints.size)}  # the file takes any; this it notes as its own"
    else:
        yield f"size = {_todo('[width, height] in px: the file takes any')}"
    yield f'order = "{"gray" if facts.gray else "bgr"}"  # cheapest at the edge'
    yield "# as it was trained: letterbox (keeps proportions and pads), crop or stretch"
    yield 'fit = "letterbox"'
    if hints.scaled:
        yield "pad = 114  # Ultralytics' usual: grey, the picture in the middle, one bilinear step"
        yield 'place = "centre"'
        yield 'resample = "bilinear"'
    elif found.decoder == "yolox":
        yield "pad = 114  # YOLOX' usual: grey, the picture top left, one bilinear step"
        yield 'place = "top_left"'
        yield 'resample = "bilinear"'
    else:
        yield "pad = 0  # level of the padding: 114 for YOLOX and Ultralytics"
        yield 'place = "centre"  # "top_left" for YOLOX'
        yield 'resample = "antialiased"  # "bilinear" for OpenCV\'s INTER_LINEAR'


def _foreign(facts: Facts, hints: Hints, found: Guess) -> Iterator[str]:
    yield "[foreign]  # what the file wants: (pixel * scale - mean) / std, pixels of 0 to 255"
    if facts.kind == UINT8:
        yield "# the file takes bytes and scales by itself: no scale, mean, std"
    elif hints.scaled:
        yield 'scale = "1/255"  # Ultralytics\' usual'
    else:
        yield '# "1/255" for pixels of 0 to 1, 1.0 for 0 to 255; mean and std likewise'
        if found.decoder == "yolox":
            yield '# YOLOX takes 0 to 255 and "bgr", but for its oldest files'
        yield f"scale = {_todo('what are pixels multiplied with?')}"
    if not facts.gray:
        yield 'order = "rgb"  # or "bgr", as it was trained'
    yield f'layout = "{facts.layout}"'


def _head(found: Guess, hints: Hints) -> Iterator[str]:
    known = found.decoder in get_args(Decoder)
    for note in found.notes:
        yield f"# {note}"
    yield "[[heads]]"
    yield 'name = "findings"'
    yield f"task = {_text(found.task) if found.task else _todo('detection, segmentation, ...')}"
    if known:
        yield f"decoder = {_text(found.decoder)}  # as shapes and numbers suggest; check it"
    else:
        words = f"{found.decoder or 'none fits'}; see decoders in docs/models.md"
        yield f"decoder = {_todo(words)}"
    yield f"outputs = [{', '.join(map(_text, found.outputs))}]"
    for key, value in found.more.items():
        if key in HeadSpec.__struct_fields__:
            yield f"{key} = {json.dumps(value)}"
    yield "threshold = 0.5  # from your validation"
    yield from _labels(found, hints)


def _labels(found: Guess, hints: Hints) -> Iterator[str]:
    count = found.classes or len(hints.names)
    names = hints.names if len(hints.names) == count else {}
    if not count or (not names and count > MAX_NAMED):
        many = f"{count} classes" if count else "how many is not known"
        yield f"labels = {_todo(f'[{{ id = 0, key = ... }}, ...]: {many}')}"
        return
    if names:
        yield "# names as the file notes them: check that they are those of the outputs"
    yield "labels = ["
    taken: set[str] = set()
    for place, index in enumerate(names or range(found.first, max(count, found.first + 1))):
        name = names.get(index, "")
        key = _text(_key(name, index, taken)) if name else _todo(f"class {index}")
        more = f", name = {_text(name)}" if name else ""
        colour = COLOURS[place % len(COLOURS)]
        yield f'    {{ id = {index}, key = {key}{more}, colour = "{colour}" }},'
    yield "]"


def _key(name: str, index: int, taken: set[str]) -> str:
    """Plain, and of one class only."""
    key = _slug(name, f"class-{index}")
    key = key if key not in taken else f"{key}-{index}"
    taken.add(key)
    return key


def _slug(text: str, other: str = "model") -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-") or other


def _text(value: str) -> str:
    """As TOML writes text: its escapes are those of JSON."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _todo(words: str) -> str:
    return _text(f"{OPEN}: {words}")
