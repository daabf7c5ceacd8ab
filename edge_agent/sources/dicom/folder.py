"""The clips of a watched folder: those that are there, then those that come.

What is shown next is decided in `core.arrivals`; here it is looked at and opened. File names may
hold a patient's name: they never leave this module, a file is "file 3 of 12".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import xxhash

from edge_agent.core.arrivals import MAX_FILES, Arrivals, Signature
from edge_agent.core.errors import BadFrame, ConfigError, Rejected, SourceLost
from edge_agent.core.frames import Pixels
from edge_agent.ports import Clock
from edge_agent.sources.dicom.header import NoPicture, NotDicom
from edge_agent.sources.dicom.openfile import Name
from edge_agent.sources.dicom.opening import AnyClip
from edge_agent.sources.dicom.tree import Tree

SCAN_US = 500_000
FULL_US = 30_000_000  # between two looks at every single file
REST = 20  # a look may take one part in so many of the time, all at every file a fifth of that
LONGEST_US = 10_000_000  # between two looks
MAX_OPENS = 64  # before a reader gets an answer
CLIP_SUFFIXES = (".dcm", ".dicom", ".ima")
MAX_DOUBTED, MAX_DOUBTED_FRAMES = 8, 10_000  # files shown in doubt whose frames are known again
HEAD_BYTES = 512  # that tell a text from a damaged clip


class Folder:
    """Gives clips in name order, then those that come."""

    def __init__(
        self,
        path: Path,
        *,
        pattern: str,
        loop: bool,
        clock: Clock,
        open_clip: Callable[[Name], AnyClip],
    ) -> None:
        self._path = path
        self._takes_all = pattern == "*"
        self._loop = loop
        self._clock = clock
        self._open_clip = open_clip
        self._pattern = pattern
        self.files = Arrivals(loop=loop, max_files=MAX_FILES)
        self._next_full_us = 0
        self._current = ""
        self._digest = 0  # of what is shown
        self._doubt = ""  # why it does not look finished, though it has been quiet for long
        self._frames: dict[str, list[int]] = {}  # digests of what was shown of files in doubt
        self.begin_at = 0  # frame of the clip that was given last
        self.changes = 0  # goes up with whatever may change the words
        self.begin()

    def begin(self) -> None:
        """The folder is opened, or is there again: what was shown of it stays known."""
        self._tree = Tree(self._path, self._pattern)
        self._next_us: int | None = None  # of the next look

    def next_clip(self) -> AnyClip | None:
        """The next file that opens; None when there is nothing to show now.

        Raises: BadFrame for a bad file, once; SourceLost when the folder is gone.
        """
        for _ in range(MAX_OPENS):
            now_us = self._clock.boot_us()
            if self._next_us is None or now_us >= self._next_us:
                self._look(now_us)
            path = self.files.due(now_us)
            if path is None and self._loop:
                self.files.rewind()
                path = self.files.due(now_us)
            if path is None:
                return None
            clip = self._open(path, now_us)
            if clip is not None:
                return clip
        return None

    def words(self) -> dict[str, str]:
        """What is there, for `streams probe`."""
        files = self.files
        bad, other = files.count("bad"), files.count("other") + self._tree.aside
        said = {"files": f"{len(files) - files.count('other')} in the watched folder"}
        if folders := self._tree.folders:
            said["folders"] = f"{folders} below it"
        if links := self._tree.links:
            said["links"] = f"{links} to folders, not followed"
        if other:
            said["other files"] = f"{other}, without a picture or not finished by their name"
        if waiting := files.count("waiting"):
            said["waiting files"] = f"{waiting}, to be shown or still being written"
        if self._doubt:
            said["doubt"] = f"{self._doubt}; shown, as nothing more was written to it for long"
        if bad:
            said["bad files"] = f"{bad}, the last: {files.bad_words[-1]}"
        return said

    def bounds(self) -> str:
        """What of the folder is left out, in words; "": nothing."""
        said = self._tree.bounds()
        if self.files.left_out:
            said.append(
                f"{self.files.left_out} files that are older than the newest {len(self.files)}"
            )
        return "; ".join(said)

    def has_changed(self, clip: AnyClip, frames: int) -> bool:
        """Whether somebody wrote to the file of which so many frames were shown.

        What it becomes is shown when it is whole again, what was shown of it never twice. Raises:
        SourceLost.
        """
        now = clip.file.now()
        if now == clip.file.signature:
            return False
        if now[2] == clip.file.signature[2] and clip.file.digest() == self._digest:
            clip.file.signature = now  # it was only touched
            return False
        self.files.broke_off(self._current, frames)
        self._note(self._current, now)
        return True

    # ── one file ──────────────────────────────────────────────────────────────────────────────

    def _open(self, path: str, now_us: int) -> AnyClip | None:
        """None: not yet, or it is nothing to be shown. Raises: BadFrame."""
        seen = self.files[path]
        where = f"file {seen.number} of {self.files.total} in the watched folder"
        self.changes += 1
        try:
            clip = self._open_clip(Name(path=self._path / path, where=where))
        except (NoPicture, NotDicom) as none:
            self._put_aside(path, none, now_us)
            return None
        except ConfigError as wrong:  # of a header that was read
            self._tell(path, wrong)
        except (Rejected, SourceLost) as bad:
            self._refuse(path, bad, now_us)
            return None
        try:
            return self._begin(path, clip, now_us)
        except BaseException:
            clip.close()
            raise

    def _begin(self, path: str, clip: AnyClip, now_us: int) -> AnyClip | None:
        if clip.file.signature != self.files[path].signature:  # it changed since it was looked at
            self._note(path, clip.file.signature)
        elif (doubt := clip.file.doubt(clip.header)) and not self.files.is_judged(path, now_us):
            self.files.doubt(path)
        else:
            digest = clip.file.digest()
            begin_at = self.files.begin_at(path, digest)
            if begin_at == 0 and (shown := self._frames.pop(path, None)):
                begin_at = _equal(clip, shown)
            self.files.settle(path, "shown", digest=digest)
            if begin_at is not None:
                self._current, self._digest, self.begin_at = path, digest, begin_at
                self._note_doubt(path, doubt)
                return clip
        clip.close()
        return None

    def _note_doubt(self, path: str, doubt: str) -> None:
        self._doubt = doubt
        if doubt and not self._loop and self.begin_at == 0:
            self._frames[path] = []
            while len(self._frames) > MAX_DOUBTED:
                del self._frames[next(iter(self._frames))]

    def saw(self, pixels: Pixels) -> None:
        """A frame of the current clip is shown: of one in doubt it is known again."""
        frames = self._frames.get(self._current) if self._doubt else None
        if frames is not None and len(frames) < MAX_DOUBTED_FRAMES:
            frames.append(_frame_digest(pixels))

    def _note(self, path: str, signature: Signature) -> None:
        if path in self.files:
            self.files.observe({path: signature}, (), self._clock.boot_us())
        self.changes += 1

    def _put_aside(self, path: str, none: Rejected, now_us: int) -> None:
        """Raises: BadFrame for what calls itself a clip, or was one."""
        start = self._start(path) if isinstance(none, NotDicom) else b" "
        if not start.strip(b"\0"):  # nothing is written yet
            self._refuse(path, none, now_us)
        elif isinstance(none, NotDicom) and (
            self._is_named_clip(path) or _is_nameless(path, start)
        ):
            self._tell(path, none)
        else:
            self.files.settle(path, "other")

    def _refuse(self, path: str, bad: Rejected | SourceLost, now_us: int) -> None:
        """Raises: BadFrame; only when no more bytes, which might mend it, have come for long."""
        if not self.files.is_judged(path, now_us):
            self.files.doubt(path)
        elif self.files[path].signature[2] == 0 and not self._is_named_clip(path):
            self.files.settle(path, "other")  # a mark that something else is complete
        else:
            self._tell(path, bad)

    def _tell(self, path: str, bad: Rejected | ConfigError | SourceLost) -> NoReturn:
        """Raises: BadFrame."""
        self.files.settle(path, "bad", words=str(bad))
        raise BadFrame(bad.what, hint=bad.hint) from None

    def _is_named_clip(self, path: str) -> bool:
        return not self._takes_all or path.lower().endswith(CLIP_SUFFIXES)

    def _start(self, path: str) -> bytes:
        try:
            with (self._path / path).open("rb") as file:
                return file.read(HEAD_BYTES)
        except OSError:
            return b""

    # ── all of them ───────────────────────────────────────────────────────────────────────────

    def _look(self, now_us: int) -> None:
        """Raises: SourceLost."""
        is_first = self._next_us is None
        is_full = is_first or now_us >= self._next_full_us
        look = self._tree.look(now_us, self.files.young(now_us), is_full=is_full)
        offset_us, _ = self._clock.utc_offset_us() if is_first else (None, None)
        wall_us = None if offset_us is None else now_us + offset_us
        gone = [path for path in self.files if path not in look.found] if is_first else look.gone
        self.files.observe(look.found, gone, now_us, wall_us)
        self.changes += bool(gone) or any(path not in self.files for path in look.found)
        cost_us = self._clock.boot_us() - now_us
        self._next_us = now_us + min(max(SCAN_US, REST * cost_us), LONGEST_US)
        if is_full:
            self._next_full_us = now_us + max(FULL_US, 5 * REST * cost_us)


def _equal(clip: AnyClip, shown: list[int]) -> int | None:
    """How many frames the clip begins with that were shown; None: it has no others."""
    for index, digest in enumerate(shown[: clip.frames]):
        try:
            if _frame_digest(clip.pixels(index)) != digest:
                return index
        except BadFrame:
            return index
    return len(shown) if clip.frames > len(shown) else None


def _frame_digest(pixels: Pixels) -> int:
    return xxhash.xxh3_64_intdigest(pixels.data)


def _is_nameless(path: str, start: bytes) -> bool:
    """Whether it may be a clip that is damaged: not named after something else, and no text."""
    suffix = Path(path).suffix
    return (not suffix or suffix[1:].isdecimal()) and b"\0" in start
