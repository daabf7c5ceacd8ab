"""Dictionary 1, for small batches of records: the bytes of `dictionary-1.zdict` beside this file.

A file, so that a decoder in another language reads the same one: `docs/wire.md` names it with its
id and size. It is read once, at import, and never changes: a better one is dictionary 2.
"""

from __future__ import annotations

import pkgutil
from typing import Final

from edge_agent.core.errors import Damaged

FILE: Final = "dictionary-1.zdict"


def _shipped() -> bytes:
    content = pkgutil.get_data(__package__ or "", FILE)
    if content is None:
        raise Damaged(f"read {FILE}: expected it beside the code, got nothing")
    return content


DICTIONARY_1: Final = _shipped()
