"""What a person says is on the frames: boxes as YOLO writes them, masks as PNG, classes in a CSV.

    FOLDER/NAME.txt     class cx cy w h, as parts of the frame, one box a line; empty: nothing there
    FOLDER/NAME.png     gray or palette, of the frame's size: 0 is nothing
    FOLDER/labels.csv   file,label

NAME is that of the frame without its ending. With several heads each has a folder of its own,
FOLDER/HEAD. Files come from elsewhere: they are bounded, and what is not understood is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import HeadSpec
from edge_agent.stores.files import read_bounded

MAX_TEXT_BYTES: Final = 1 << 20  # of one file of boxes
MAX_TABLE_BYTES: Final = 16 << 20
MAX_MASK_BYTES: Final = 64 << 20
MAX_BOXES: Final = 2000  # of one frame
MAX_ROWS: Final = 200_000
SLACK: Final = 2e-3  # of a frame, by which a box may stand out: labels are rounded
VOID: Final = 255  # of a mask of several labels: nobody knows, not counted
PLAIN: Final = ("classes", "obj.names", "README", "notes", "train", "val", "test")  # beside labels
TABLE: Final = "labels.csv"
SCORED: Final = ("detection", "segmentation", "classification")

Mask = NDArray[np.int32]
"""[H, W]: id of the label, -1 nothing, -2 not counted."""
NOTHING, UNKNOWN = -1, -2


class Box(NamedTuple):
    """label: its id. box: x0 y0 x1 y1 px of the frame."""

    label: int
    box: tuple[float, float, float, float]


Truth = list[Box] | Mask | int
"""Of one frame and head: its boxes, its mask, or the id of its class."""


class Truths:
    """All that a folder of labels says, by head and name of the frame."""

    def __init__(self, folder: Path, heads: tuple[HeadSpec, ...], frames: list[Path]) -> None:
        """frames: all of the folder, also such as are not looked at. Raises: Rejected."""
        self._title = "read labels"
        if not folder.is_dir():
            raise Rejected(
                f"{self._title}: {folder.name}: expected a folder",
                hint="give --labels the folder that holds them: docs/models.md",
            )
        self._folder = folder
        _refuse_doubles(frames)
        self._stems = {path.stem for path in frames}
        self.heads = tuple(head for head in heads if _is_scored(head))
        if not self.heads:
            raise Rejected(
                f"{self._title}: no head of this model can be scored: expected labels, and one "
                f"of {', '.join(SCORED)} whose decoder gives it",
                hint="leave --labels out",
            )
        self._tables = {
            head.name: self._table(head, {path.name for path in frames})
            for head in self.heads
            if head.task == "classification"
        }
        self._refuse_own(frames)

    def of(self, head: HeadSpec, frame: Path, size: tuple[int, int]) -> Truth | None:
        """None: this frame is not labelled. size: [w, h] px. Raises: Rejected."""
        if head.task == "classification":
            return self._tables[head.name].get(frame.name)
        kind = ".txt" if head.task == "detection" else ".png"
        path = self._home(head) / (frame.stem + kind)
        if not path.exists():
            return None
        if head.task == "detection":
            return boxes_of(path.name, _bytes(path, MAX_TEXT_BYTES), head, size)
        return mask_of(path.name, _bytes(path, MAX_MASK_BYTES), head, size)

    def strangers(self) -> int:
        """Files of labels that are those of no frame: of other names, or another folder."""
        found: set[Path] = set()
        for head in self.heads:
            kind = {"detection": ".txt", "segmentation": ".png"}.get(head.task)
            if kind is not None:
                files = islice(self._home(head).glob(f"*{kind}"), MAX_ROWS)
                found |= {path for path in files if path.stem not in self._stems}
        return len([path for path in found if path.stem not in PLAIN])

    def _home(self, head: HeadSpec) -> Path:
        own = self._folder / head.name
        return own if len(self.heads) > 1 or own.is_dir() else self._folder

    def _table(self, head: HeadSpec, frames: set[str]) -> Mapping[str, int]:
        path = self._home(head) / TABLE
        return classes_of(path.name, _bytes(path, MAX_TABLE_BYTES), head, frames)

    def _refuse_own(self, frames: list[Path]) -> None:
        """A mask that is the frame itself would score anything."""
        homes = {self._home(head).resolve() for head in self.heads if head.task == "segmentation"}
        if homes & {path.parent.resolve() for path in frames}:
            raise Rejected(
                f"{self._title}: masks lie in the folder of the frames, where a PNG is a frame",
                hint="put masks into a folder of their own, under the names of their frames",
            )


def _is_scored(head: HeadSpec) -> bool:
    kinds = {
        "classification": head.decoder == "probs",
        "segmentation": head.decoder.startswith("mask_"),
        "detection": not head.decoder.startswith("mask_"),
    }
    return bool(head.labels) and kinds.get(head.task, False) and head.decoder != "heatmaps"


def _refuse_doubles(frames: list[Path]) -> None:
    """Raises: Rejected where a file of labels would be that of two frames."""
    seen: dict[str, str] = {}
    for path in frames:
        if path.stem in seen:
            raise Rejected(
                f"read labels: frames {seen[path.stem]} and {path.name} would share their labels",
                hint="give frames names that differ in more than their ending",
            )
        seen[path.stem] = path.name


def _bytes(path: Path, limit: int) -> bytes:
    """Raises: Rejected."""
    try:
        return read_bounded(path, limit)
    except FileNotFoundError:
        raise Rejected(
            f"read labels: expected {path.name}, there is none", hint="docs/models.md says the form"
        ) from None
    except OSError as error:
        raise Rejected(f"read labels: {path.name}: {error.strerror or error}") from error


def boxes_of(name: str, stored: bytes, head: HeadSpec, size: tuple[int, int]) -> list[Box]:
    """size: [w, h] px of the frame.

    Raises: Rejected with the line.
    """
    try:
        lines = stored.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise _wrong(name, 0, "expected text, got other bytes") from None
    found: list[Box] = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(found) == MAX_BOXES:
            raise _wrong(name, number, f"expected at most {MAX_BOXES} boxes")
        found.append(_box(name, number, words, size))
        if head.labels and found[-1].label not in {one.id for one in head.labels}:
            known = ", ".join(f"{one.id} {one.key}" for one in head.labels[:8])
            raise _wrong(name, number, f"class {found[-1].label} is no label of {head.name}: "
                         f"{known}")  # fmt: skip
    return found


def _box(name: str, number: int, words: list[str], size: tuple[int, int]) -> Box:
    """Raises: Rejected."""
    if len(words) != 5:
        more = "; are these polygons, or predictions?" if len(words) > 5 else ""
        raise _wrong(name, number, f"expected class cx cy w h, got {len(words)} words{more}")
    if not _WHOLE.fullmatch(words[0]) or not all(map(_NUMBER.fullmatch, words[1:])):
        raise _wrong(name, number, f"expected numbers, got {' '.join(words)[:60]!r}")
    label = int(float(words[0]))
    x, y, wide, high = map(float, words[1:])
    edges = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
    if wide <= 0 or high <= 0 or min(edges) < -SLACK or max(edges) > 1 + SLACK:
        raise _wrong(name, number, f"expected a box inside the frame, as parts of it, got "
                     f"{' '.join(words[1:])[:60]}")  # fmt: skip
    scale = (*size, *size)
    x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) * of for edge, of in zip(edges, scale, strict=True))
    return Box(label, (x0, y0, x1, y1))


def mask_of(name: str, stored: bytes, head: HeadSpec, size: tuple[int, int]) -> Mask:
    """[H, W] ids of labels. With one label every level but 0 is it; with several the level is the
    id, or the id and one where a label has id 0, and 255 is not counted.

    Raises: Rejected.
    """
    levels = _levels(name, stored, size)
    ids = sorted(one.id for one in head.labels) or [0]
    meant = np.full(256, NOTHING - 8, np.int32)
    meant[0] = NOTHING
    if len(ids) == 1:
        others = np.unique(levels[levels > 0])
        if others.size > 1:
            raise _wrong(name, 0, f"expected 0 and one more level for the only label, got "
                         f"{others[:8].tolist()}")  # fmt: skip
        meant[1:] = ids[0]
    else:
        shift = 1 if ids[0] == 0 else 0
        meant[VOID] = UNKNOWN
        for one in ids:
            if one + shift < VOID:
                meant[one + shift] = one
    found = meant[levels]
    strange = np.unique(levels[found < UNKNOWN])
    if strange.size:
        raise _wrong(name, 0, f"levels {strange[:8].tolist()} are no label of {head.name}")
    return np.asarray(found, np.int32)


def _levels(name: str, stored: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Raises: Rejected."""
    try:
        with Image.open(io.BytesIO(stored), formats=("PNG",)) as image:
            given = image.size
            if given == size and image.mode in {"L", "P", "1"}:
                plain = image.convert("L") if image.mode == "1" else image
                return np.array(plain, np.uint8)
            mode = image.mode
    except (UnidentifiedImageError, Image.DecompressionBombError, *_BROKEN):
        raise _wrong(name, 0, "expected a PNG, got damaged or foreign bytes") from None
    if given != size:
        raise _wrong(name, 0, f"expected the {size[0]} x {size[1]} px of its frame, got "
                     f"{given[0]} x {given[1]}")  # fmt: skip
    raise _wrong(name, 0, f"expected one channel of 8 bits (gray or palette), got {mode}")


def classes_of(name: str, stored: bytes, head: HeadSpec, frames: set[str]) -> dict[str, int]:
    """Id of the class by name of the frame.

    Raises: Rejected with the line.
    """
    keys = {one.key: one.id for one in head.labels}
    found: dict[str, int] = {}
    try:
        rows = csv.reader(io.StringIO(stored.decode("utf-8-sig")), strict=True)
        for number, row in enumerate(rows, 1):
            words = [word.strip() for word in row]
            if not any(words) or (number == 1 and words[:2] == ["file", "label"]):
                continue
            if number > MAX_ROWS:
                raise _wrong(name, number, f"expected at most {MAX_ROWS} rows")
            file, label = _row(name, number, words, keys)
            if file not in frames:
                raise _wrong(name, number, f"there is no frame {file[:80]!r}")
            if found.setdefault(file, label) != label:
                raise _wrong(name, number, f"{file[:80]!r} has two labels")
    except UnicodeDecodeError:
        raise _wrong(name, 0, "expected text in UTF-8, got other bytes") from None
    except csv.Error as error:
        raise _wrong(name, 0, f"expected a CSV: {error}") from None
    return found


def _row(name: str, number: int, words: list[str], keys: Mapping[str, int]) -> tuple[str, int]:
    """Raises: Rejected."""
    if len(words) != 2:
        raise _wrong(name, number, f"expected file,label, got {len(words)} cells")
    if words[1] not in keys:
        raise _wrong(name, number, f"expected one of {', '.join(list(keys)[:8])}, got "
                     f"{words[1][:60]!r}")  # fmt: skip
    return words[0], keys[words[1]]


def _wrong(name: str, line: int, why: str) -> Rejected:
    place = f"{name}, line {line}" if line else name
    return Rejected(f"read labels: {place}: {why}", hint="docs/models.md says the form of labels")


_WHOLE = re.compile(r"[0-9]{1,6}(\.0{1,6})?")
_NUMBER = re.compile(r"-?[0-9]{0,4}\.?[0-9]{1,20}([eE]-?[0-9]{1,2})?", re.ASCII)
# What Pillow raises on bytes that are wrong.
_BROKEN = (OSError, ValueError, SyntaxError, LookupError, TypeError, OverflowError, EOFError)
