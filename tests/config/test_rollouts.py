"""What `[rollouts]` is told when its keys do not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.load import load_text
from edge_agent.resolve import made_worse, models_of, unresolved

GOOD = """
[rollouts]
enabled = true
repositories = ["https://hot-tier:8443/repository"]
root_file = "/etc/edge-agent/1.root.json"
"""


def told(text: str) -> str:
    return load_text(text).text()


def test_a_sound_section_is_quiet() -> None:
    assert load_text(GOOD).errors == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[rollouts]\nenabled = true", "root_file — missing"),
        (GOOD.replace("https:", "ftp:"), "no repository (expected http"),
        (GOOD.replace("hot-tier:8443", "me:secret@hot-tier"), "a password in an address"),
        (GOOD + 'usb_dir = "media/stick"', "relative (expected an absolute path"),
        (GOOD + 'window = "night"', "expected a window as 22:00-05:00"),
        (GOOD + "allow_unsigned_local = true", "can install any model"),
        (GOOD.replace("https://hot-tier:8443/repository", "http://[::1"), "no repository"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    assert words in told(text)
    assert "secret" not in told(text)


def test_a_stream_that_swaps_in_a_window_needs_one() -> None:
    text = """
[streams.us-1]
swap = "window"
source = { kind = "phantom" }
models = [{ name = "us-chamber" }]
"""
    assert "streams.us-1.swap — window, but rollouts.window is not set" in told(text)
    assert "swap" not in told(text + '\n[rollouts]\nwindow = "22:00-05:00"')


@pytest.mark.parametrize(("enabled", "severity"), [("true", "warn"), ("false", "error")])
def test_a_model_that_rollouts_may_bring_is_no_error(
    tmp_path: Path, enabled: str, severity: str
) -> None:
    """The first version of a model comes down like any other; the check refused such a device."""
    (tmp_path / "1.root.json").write_text("{}")
    text = GOOD.replace("/etc/edge-agent", str(tmp_path)).replace("true", enabled)
    text += '[streams.a]\nsource = { kind = "phantom" }\nmodels = [{ name = "us-chamber" }]\n'
    running = load_text(text).config
    wanted = load_text(text.replace("us-chamber", "dark-spot")).config
    assert running is not None
    assert wanted is not None
    models = models_of(running, tmp_path)
    (flaw,) = unresolved(wanted, models)
    assert (flaw.severity, "dark-spot" in flaw.message) == (severity, True)
    assert ("[rollouts] has brought it" in flaw.hint) == (severity == "warn")
    assert made_worse(running, wanted, models) == [flaw]  # a stream that runs would go dark
