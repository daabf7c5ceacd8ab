"""A packed record in fewer bytes, by itself: what the spool holds. No other record is needed.

    body = c1 | 01 | zstd frame, without magic number, with dictionary `records-1.zdict`

No MessagePack begins with `c1`, so plain bodies, as older agents wrote them, are told apart, and an
older agent takes these for none of its own and leaves them alone. Dictionaries are never removed.
"""

from __future__ import annotations

import pkgutil
from typing import Final

import zstandard

from edge_agent.core.errors import Damaged

FILE: Final = "records-1.zdict"
HEAD: Final = b"\xc1\x01"
FIRST: Final = HEAD[0]
LEVEL: Final = 1  # 5 to 13 us a record on a busy x86 core; level 3 takes half as long again for 2 %
MAX_BYTES: Final = 64 << 10  # before it was made smaller


def _dictionary() -> zstandard.ZstdCompressionDict:
    content = pkgutil.get_data(__package__ or "", FILE)
    if content is None:
        raise Damaged(f"read {FILE}: expected it beside the code, got nothing")
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_FULLDICT)


_DICTIONARY: Final = _dictionary()


class Shrinker:
    """For one thread at a time."""

    def __init__(self) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            LEVEL,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=True,
            write_checksum=False,  # each row of a spool has one
            write_dict_id=False,
        )
        self._zstd = zstandard.ZstdCompressor(dict_data=_DICTIONARY, compression_params=parameters)

    def shrink(self, packed: bytes) -> bytes:
        """The same when that is no smaller, or larger than `MAX_BYTES`."""
        if len(packed) > MAX_BYTES:
            return packed
        body = HEAD + self._zstd.compress(packed)
        return body if len(body) < len(packed) else packed


def is_shrunk(body: bytes | bytearray | memoryview) -> bool:
    return len(body) > 0 and body[0] == FIRST


def grown(body: bytes | bytearray | memoryview) -> bytes:
    """What was packed. Never more than `MAX_BYTES` is taken for it.

    Raises: ValueError for what is damaged, or of another dictionary.
    """
    if bytes(body[:2]) != HEAD:
        raise ValueError(f"read record: expected a body of kind 1, got {bytes(body[:2]).hex()}")
    frame = bytes(body[2:])
    try:
        facts = zstandard.get_frame_parameters(frame, zstandard.FORMAT_ZSTD1_MAGICLESS)
        if not 0 < facts.content_size <= MAX_BYTES:
            raise ValueError(f"read record: expected at most {MAX_BYTES} bytes, got more or none")
        reader = zstandard.ZstdDecompressor(
            dict_data=_DICTIONARY, format=zstandard.FORMAT_ZSTD1_MAGICLESS
        )
        return reader.decompress(frame, max_output_size=MAX_BYTES, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(f"read record: {error}") from error
