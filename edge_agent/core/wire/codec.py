"""Bodies: as they are, as a zstd frame, or as a zstd frame behind a dictionary.

Level 3 where bodies may be large: higher ones cost 3 to 30 times as much for a few bytes in a
hundred. Every frame says how
long its content is and carries a checksum. Not to be shared between threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import zstandard

from edge_agent.core.wire.envelope import (
    ID_BYTES,
    MAX_RAW_BYTES,
    NO_ID,
    Codec,
    Envelope,
    need,
    short_id,
)
from edge_agent.core.wire.grids import Grids
from edge_agent.core.wire.outcome import Need, WireError
from edge_agent.core.wire.rings import CODING

CODINGS: Final = (CODING,)  # beyond those of version 1; what to announce in `can.coding`
LEVEL: Final = 3
MAX_WINDOW_BYTES: Final = 1 << 22  # holds the largest base and the largest content together
PRIMED_LEVEL: Final = 9  # 5 us more than level 3 on a body of 300 bytes, 1 % shorter
SMALL_BYTES: Final = 16_384  # beyond, a dictionary of a few kB says nothing new


def compressor(
    level: int = LEVEL, dictionary: zstandard.ZstdCompressionDict | None = None
) -> zstandard.ZstdCompressor:
    """With content size and checksum; without what the envelope says already: the magic number,
    the id of the dictionary.
    """
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_checksum=True,
        write_content_size=True,
        write_dict_id=False,
    )
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)


def unzstd(
    frame: bytes, raw_len: int, dictionary: zstandard.ZstdCompressionDict | None = None
) -> bytes:
    """Exactly one whole frame of exactly `raw_len` bytes; no more than that is ever allocated.

    Raises: WireError.
    """
    try:
        facts = zstandard.get_frame_parameters(frame, zstandard.FORMAT_ZSTD1_MAGICLESS)
        if facts.content_size != raw_len or not facts.has_checksum or facts.dict_id:
            raise WireError(
                f"decode zstd: expected a frame of {raw_len} bytes with a checksum and no id of a "
                f"dictionary, got {facts.content_size} bytes"
            )
        if facts.window_size > MAX_WINDOW_BYTES:  # whole content is never decoded in a window
            raise WireError(
                f"decode zstd: expected a window <= {MAX_WINDOW_BYTES}, got {facts.window_size}"
            )
        decompressor = zstandard.ZstdDecompressor(
            dict_data=dictionary,
            max_window_size=MAX_WINDOW_BYTES,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        )
        if not raw_len:
            return decompressor.stream_reader(frame).read(1)
        raw = decompressor.decompress(frame, max_output_size=raw_len, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(f"decode zstd: {error}") from error
    if len(raw) != raw_len:
        raise WireError(f"decode zstd: expected {raw_len} bytes, got {len(raw)}")
    return raw


class Codecs:
    """The dictionaries that are here, and which of them may be used towards the other side."""

    def __init__(self, dictionaries: Iterable[bytes] = ()) -> None:
        """dictionaries: trained ones, by their content; the newest first."""
        contents = list(dictionaries)
        self._dictionaries: Mapping[bytes, zstandard.ZstdCompressionDict] = {
            short_id(content): zstandard.ZstdCompressionDict(
                content, dict_type=zstandard.DICT_TYPE_FULLDICT
            )
            for content in contents
        }
        self._plain = compressor()
        self._primed: zstandard.ZstdCompressor | None = None
        self._ref = NO_ID
        self._grids = Grids()
        self._allowed: Grids | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """What to announce in `can.dict`, as hex16."""
        return tuple(name.hex() for name in self._dictionaries)

    @property
    def grids(self) -> Grids | None:
        """What finds the steps of contours, where the other side can read them."""
        return self._allowed

    def allow(self, announced: Iterable[str], codings: Iterable[int] = ()) -> None:
        """Uses the first dictionary that the other side announced, and the codings that it did;
        none before it did.
        """
        self._allowed = self._grids if CODING in codings else None
        there = set(announced)
        chosen = next((name for name in self._dictionaries if name.hex() in there), NO_ID)
        if chosen == self._ref:
            return
        self._ref = chosen
        self._primed = compressor(PRIMED_LEVEL, self._dictionaries[chosen]) if chosen else None

    def squeeze(self, raw: bytes) -> tuple[Codec, bytes, bytes]:
        """(codec, ref, body): the shortest of what may be used, ref included."""
        options = [(Codec.RAW, NO_ID, raw), (Codec.ZSTD, NO_ID, self._plain.compress(raw))]
        if self._primed and len(raw) <= SMALL_BYTES:
            options.append((Codec.ZSTD_DICT, self._ref, self._primed.compress(raw)))
        return min(options, key=lambda option: len(option[1]) + len(option[2]))

    def expand(self, envelope: Envelope) -> bytes | Need:
        """The raw bytes of a body whose codec is raw, zstd or zstd with a dictionary. One that is
        still sealed needs a key.

        Raises: WireError.
        """
        if envelope.is_sealed:
            return need(envelope, "key")
        if envelope.raw_len > MAX_RAW_BYTES:
            raise WireError(f"decode body: expected {MAX_RAW_BYTES} bytes, got {envelope.raw_len}")
        if envelope.codec is Codec.RAW:
            return envelope.body
        if envelope.codec is Codec.ZSTD:
            return unzstd(envelope.body, envelope.raw_len)
        if envelope.codec is not Codec.ZSTD_DICT or len(envelope.ref) != ID_BYTES:
            raise WireError(f"decode body: expected raw, zstd or zstd_dict, got {envelope.codec}")
        dictionary = self._dictionaries.get(envelope.ref)
        if dictionary is None:
            return need(envelope, "dict", self.ids)
        return unzstd(envelope.body, envelope.raw_len, dictionary)
