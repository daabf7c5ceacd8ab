"""Texts with bytes that are no UTF-8 cross between processes as they were."""

from __future__ import annotations

import json
import os

import msgspec
import pytest

from edge_agent.core.bytewise import MARK, jsoned, packed, shown, unjsoned, unpacked

ODD = os.fsdecode(b"/st\xff\xc3/\xe4")


class Note(msgspec.Struct):
    path: str
    key: bytes
    inside: dict[str, tuple[str, ...]]


@pytest.mark.parametrize("path", ["/plain", "/süd/…", ODD])
def test_a_message_comes_back_as_it_went(path: str) -> None:
    note = Note(path, b"\x00\xff", {path: (path, "x")})
    assert unpacked(packed(note), Note) == note
    assert unpacked(packed({"path": path}), dict[str, str]) == {"path": path}
    assert unjsoned(jsoned([path]), list[str]) == [path]
    assert (packed(note)[:1] == MARK) is (path == ODD)
    assert b"\n" not in jsoned([path])  # a line is a message


def test_what_is_shown_to_others_is_always_json() -> None:
    assert json.loads(shown({"where": ODD})) == {"where": "/st\ufffd\ufffd/\ufffd"}
    assert json.loads(shown({"where": "süd"})) == {"where": "süd"}
