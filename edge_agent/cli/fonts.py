"""Fonts for labels in any script: the first installed font that has every glyph of a text.

Bounded: so many files are looked at and so many opened. Where no font fits, the caller writes the
label's key instead; boxes of missing glyphs are never drawn.
"""

from __future__ import annotations

import functools
import os
import unicodedata

from PIL import ImageFont, features
from PIL.ImageFont import FreeTypeFont

MAX_FILES_SEEN = 5000
MAX_FONTS_OPENED = 200
SUFFIXES = (".ttf", ".otf", ".ttc")
TRIED_PX = 16  # glyphs are compared at this size
NEVER_ASSIGNED = "\U0010ffff"  # every font draws its box of a missing glyph for it


def font_for(text: str, size_px: int) -> FreeTypeFont | None:
    """A font with all glyphs of `text` in the order and shape that its script needs, or None."""
    path = _path_for(text)
    return None if path is None else _open(path, size_px)


def readable(text: str) -> str:
    """`text` as the font that comes with Pillow can write it."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)


@functools.lru_cache(maxsize=16)
def plain_font(size_px: int) -> FreeTypeFont:
    """For ASCII: an installed font, else the one that comes with Pillow."""
    found = font_for("NOT FOR DIAGNOSIS 0.93 jgq", size_px)
    if found is not None:
        return found
    bundled = ImageFont.load_default(size_px)
    assert isinstance(bundled, ImageFont.FreeTypeFont), "Pillow without FreeType has no sizes"
    return bundled


@functools.lru_cache(maxsize=4096)
def _path_for(text: str) -> str | None:
    if _needs_shaping(text) and not features.check("raqm"):
        return None  # the glyphs are there, but the wrong way round
    return next((path for path in installed() if _covers(path, text)), None)


def _needs_shaping(text: str) -> bool:
    return any(
        unicodedata.bidirectional(char) in ("R", "AL") or unicodedata.category(char) in ("Mn", "Mc")
        for char in text
    )


@functools.lru_cache(maxsize=1)
def installed() -> tuple[str, ...]:
    """Paths of installed fonts, upright sans first."""
    found = [entry for folder in _folders() for entry in _files(folder) if entry.endswith(SUFFIXES)]
    return tuple(sorted(dict.fromkeys(found), key=_preference)[:MAX_FONTS_OPENED])


def _folders() -> list[str]:
    home = os.environ.get("HOME", "")
    personal = os.environ.get("XDG_DATA_HOME") or (f"{home}/.local/share" if home else "")
    folders = ["/usr/share/fonts", "/usr/local/share/fonts", f"{home}/.fonts" if home else ""]
    return [*filter(None, folders), *([f"{personal}/fonts"] if personal else [])]


def _files(folder: str) -> list[str]:
    files: list[str] = []
    for place, _, names in os.walk(folder):
        files += (f"{place}/{name}" for name in sorted(names))
        if len(files) >= MAX_FILES_SEEN:
            break
    return files[:MAX_FILES_SEEN]


def _preference(path: str) -> tuple[bool, bool, bool, bool, str]:
    name = path.rsplit("/", 1)[-1].lower()
    return (
        "sans" not in name,
        any(word in name for word in ("italic", "oblique")),
        any(word in name for word in ("bold", "light", "thin", "black", "condensed")),
        "mono" in name,
        name,
    )


@functools.lru_cache(maxsize=64)
def _open(path: str, size_px: int) -> FreeTypeFont | None:
    try:
        return ImageFont.truetype(path, size_px)
    except (OSError, ValueError):  # a broken file, or one of pictures only
        return None


def _covers(path: str, text: str) -> bool:
    font = _open(path, TRIED_PX)
    if font is None:
        return False
    missing = _glyph(font, NEVER_ASSIGNED)
    return all(
        _glyph(font, char) != missing
        for char in set(text)
        if not char.isspace() and unicodedata.category(char) != "Cf"
    )


def _glyph(font: FreeTypeFont, char: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(char)
    return mask.size, bytes(mask)
