"""Every Struct is made ready for decoding while there is but one thread.

msgspec prepares a Struct at its first decoding or conversion and shows it to other threads before
it is whole: two threads that decode the same type for the first time end the process (SIGSEGV in
`msgspec._core`, seen at a start of the whole agent). Later uses are safe in any thread.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


def make_ready(package: str = "edge_agent") -> int:
    """Those of a package that are imported by now; how many. Before the first thread decodes."""
    count = 0
    for kind in {*_below(msgspec.Struct)}:
        if kind.__module__.partition(".")[0] == package:
            count += _is_made(kind)
    return count


def _below(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for one in kind.__subclasses__():
        yield one
        yield from _below(one)


def _is_made(kind: type[msgspec.Struct]) -> bool:
    try:
        msgspec.json.Decoder(kind)
    except (TypeError, NameError):  # one that is only ever encoded
        return False
    return True
