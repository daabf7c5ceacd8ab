"""One DICOM file, open: its facts, and its frames one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from numpy.typing import NDArray

from edge_agent.config.structs import DicomSource
from edge_agent.core import calibration, dicom_timing
from edge_agent.core.dicom_coding import Misfit
from edge_agent.core.errors import BadFrame, Rejected, SourceLost
from edge_agent.core.frames import Pixels
from edge_agent.core.jpeg import Damaged
from edge_agent.core.order import spread
from edge_agent.sources.dicom import header as head
from edge_agent.sources.dicom import layout, syntax
from edge_agent.sources.dicom.openfile import Name, OpenFile
from edge_agent.sources.dicom.pixels import Decode, Show

MAX_TRIED = 16  # frames, spread over a clip: when none of them decodes, it is refused
MAX_KEPT_BYTES = 256 << 20  # a looped clip that decodes to no more is decoded once


class Clip:
    """An open file of one frame or many. Raises at construction: Rejected, SourceLost, ConfigError.

    keep: keeps decoded frames, if they fit in MAX_KEPT_BYTES.
    """

    decoder = ""  # what decodes it, where that is a process of its own

    def __init__(self, name: Name, config: DicomSource, key: bytes, *, keep: bool = False) -> None:
        self.file, self._where = OpenFile(name, config.max_file_bytes), name.where
        try:
            self._open(config, key)
        except BaseException:
            self.file.close()
            raise
        number, pixels = self._sample
        self._kept: dict[int, Pixels] | None = None
        if keep and self.frames * pixels.nbytes <= MAX_KEPT_BYTES:
            self._kept = {number: pixels}

    def _open(self, config: DicomSource, key: bytes) -> None:
        file, where = self.file, self._where
        header = head.read(file.name.path, file.content, where=where, key=key)
        with head.translated(where):
            self._layout = layout.find(
                file.content, header, where=where, file_bytes=file.size_bytes
            )
        self.header = header = msgspec.structs.replace(header, frames=self._layout.frames)
        self.size, self.frames, self.exam = header.size, header.frames, header.exam
        self.notes = self._layout.notes  # what the file has otherwise than its header says
        self.times = dicom_timing.times(header.timing, self.frames, config.fps)
        self.calibration = calibration.override(
            calibration.from_regions(header.regions, header.size),
            header.size,
            roi=config.roi,
            spacing_mm=config.spacing_mm,
        )
        self._decode = Decode(header, self._layout.pixel_vr)
        tried = spread(self.frames, MAX_TRIED)
        good, stored = self._first_good(tried, header)
        self._show = Show(header, lambda index: self._stored_or(index, stored))
        self._sample = (good, self._show(stored))
        self.syntax = syntax.name(header.syntax)
        self.levels = "; ".join(filter(None, (self._show.words, self._decode.words)))

    def _first_good(self, tried: Sequence[int], header: head.Header) -> tuple[int, NDArray[Any]]:
        """One damaged frame costs that frame; a clip of which none decodes is refused.

        So is one whose first whole frame is of another image than its header tells of.
        """
        wrong: BadFrame | None = None
        for index in tried:
            try:
                return index, self._stored(index)
            except Misfit as misfit:
                raise Rejected(
                    f"open {self._where}: expected frames of the image that the header tells "
                    f"of, {misfit}",
                    hint="export it again; its header and its frames are not of one image",
                ) from None
            except BadFrame as bad:
                wrong = bad
            except head.BAD_BYTES:
                continue
        if wrong is not None:
            raise Rejected(wrong.what, hint=wrong.hint)
        raise Rejected(
            f"open {self._where}: expected pixels that decode, got a frame of "
            f"{syntax.name(header.syntax)}, {header.bits_stored} bits, that does not",
            hint=syntax.hint_for_damaged(header.syntax),
        )

    def _stored_or(self, index: int, other: NDArray[Any]) -> NDArray[Any]:
        """`other` for a frame that does not decode. Raises: SourceLost."""
        try:
            return self._stored(index)
        except (BadFrame, Misfit, *head.BAD_BYTES):
            return other

    def pixels(self, index: int) -> Pixels:
        """Frame `index` from 0: uint8, HxW gray or HxWx3 BGR, read-only.

        Raises: BadFrame, SourceLost.
        """
        if index == self._sample[0]:
            return self._sample[1]
        if self._kept is not None and (known := self._kept.get(index)) is not None:
            return known
        try:
            pixels = self._show(self._stored(index))
        except Misfit as misfit:
            raise BadFrame(
                f"decode frame {index + 1} of {self.frames} of {self._where}: {misfit}"
            ) from None
        except head.BAD_BYTES as error:
            why = f": {error}" if isinstance(error, Damaged) else ""  # others quote what they read
            raise BadFrame(
                f"decode frame {index + 1} of {self.frames} of {self._where}: damaged bytes{why}",
                hint="copy the file again from where it came from",
            ) from None
        if self._kept is not None:
            self._kept[index] = pixels
        return pixels

    @property
    def oddities(self) -> tuple[str, ...]:
        """What of the file is otherwise than its header says."""
        return self.notes

    def close(self) -> None:
        self.file.close()
        self._kept = None

    def _stored(self, index: int) -> NDArray[Any]:
        """As decoded. Raises: SourceLost, BadFrame, and what wrong bytes raise."""
        try:
            read = self._layout.read(self.file.content, index)
        except OSError as error:
            raise SourceLost(f"read {self._where}: {error.strerror}") from None
        is_coded = isinstance(self._layout, layout.Encapsulated)
        if is_coded and layout.is_run_together(read):
            raise BadFrame(
                f"decode frame {index + 1} of {self.frames} of {self._where}: expected one "
                "image, got several behind each other in one fragment",
                hint="export the clip again; each image begins a fragment of its own",
            )
        return self._decode(read)
