from __future__ import annotations

import pytest

from edge_agent.config.diff import Changes, diff
from edge_agent.config.lastgood import MAX_BYTES, choose, decode_last_good, encode_last_good
from edge_agent.config.load import load_text
from edge_agent.config.structs import Config
from edge_agent.core.errors import ConfigError, Damaged

TEXT = """\
node = "edge-7"
[streams.a]
title = "Überwachung ☃"
source = { kind = "video", where = "rtsp://u:{password}@h/s", password_file = "/etc/x", fps = 25 }
models = [{ name = "us-chamber", threshold = 0.25 }, { name = "endo-polyp", every = 3 }]
[streams.b]
source = { kind = "phantom", size = [320, 240], roi = [0, 0, 10, 10], spacing_mm = [0.1, 0.2] }
models = [{ name = "us-chamber", version = "1.0.0" }]
"""


def _config(*overrides: str) -> Config:
    loaded = load_text(TEXT, overrides=overrides)
    assert loaded.config is not None, loaded.text()
    return loaded.config


def test_the_last_good_one_comes_back_as_it_was() -> None:
    assert decode_last_good(encode_last_good(_config())) == _config()
    assert decode_last_good(encode_last_good(Config())) == Config()


def test_any_damage_is_noticed() -> None:
    content = encode_last_good(_config())
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(Damaged) as caught:
            decode_last_good(bytes(changed))
        assert caught.value.healable


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b"0" * (MAX_BYTES + 1)],
    ids=["empty", "no fields", "null", "no text", "deep", "large"],
)
def test_what_is_no_last_good_is_damaged(content: bytes) -> None:
    with pytest.raises(Damaged, match="read last good configuration"):
        decode_last_good(content)


def test_a_torn_last_good_is_damaged() -> None:
    content = encode_last_good(_config())
    for length in range(len(content)):
        with pytest.raises(Damaged):
            decode_last_good(content[:length])


def test_a_last_good_of_a_later_agent_is_damaged() -> None:
    content = encode_last_good(_config()).replace(b'"schema":1', b'"schema":2')
    with pytest.raises(Damaged, match="expected schema 1, got 2"):
        decode_last_good(content)


# ── what to run ───────────────────────────────────────────────────────────────────────────────


def test_a_sound_file_is_run() -> None:
    chosen = choose(load_text(TEXT), Config())
    assert chosen.config == _config()
    assert not chosen.degraded


def test_a_broken_file_runs_the_last_good_one_and_says_where() -> None:
    chosen = choose(load_text(TEXT + "x = 1\n", file="c"), _config())
    assert chosen.config == _config()
    assert chosen.degraded
    assert [problem.text()[:5] for problem in chosen.problems] == ["c:9: "]


def test_a_broken_file_and_no_last_good_one_says_everything() -> None:
    loaded = load_text("x = 1\n[log]\nlevl = 1\n", file="c")
    with pytest.raises(ConfigError) as caught:
        choose(loaded, None)
    assert caught.value.what.splitlines()[0] == "configuration has 2 errors:"
    assert "c:1: x — unknown key" in caught.value.what
    assert "c:3: log.levl — unknown key" in caught.value.what
    assert caught.value.hint


# ── what a reload changes ─────────────────────────────────────────────────────────────────────


def test_equal_configurations_have_no_difference() -> None:
    assert diff(_config(), _config()) == Changes()
    assert not diff(_config(), _config())


def test_streams_come_go_and_change() -> None:
    new = load_text(TEXT.replace("streams.b", "streams.c").replace("fps = 25", "fps = 30")).config
    assert new is not None
    assert diff(_config(), new) == Changes(added=("c",), removed=("b",), changed=("a",))


def test_each_key_says_what_it_takes_to_apply() -> None:
    new = _config(
        "node=other",
        "state_dir=/x",
        "engine.isolation=thread",
        "engine.lanes=2",
        "models.dirs=['/m']",
        "log.level=debug",
        "console.port=0",
    )
    assert diff(_config(), new) == Changes(
        restart=("console.port", "engine.isolation", "node", "state_dir"),
        child=("engine.lanes", "models.dirs"),
        live=("log.level",),
    )
