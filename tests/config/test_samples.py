from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import structs
from edge_agent.config.load import load_text
from edge_agent.config.merge import parse_toml
from edge_agent.config.render import as_toml, as_values, schema
from edge_agent.config.samples import USES, fitted, names, sample
from edge_agent.config.structs import Config, DicomSource, PhantomSource
from edge_agent.config.words import WORDS
from edge_agent.core.errors import ConfigError

ALL = names()


def test_there_is_a_sample_per_use() -> None:
    assert set(ALL) == set(USES.values())
    assert [sample(use) for use in USES] == [sample(name) for name in USES.values()]


def test_an_unknown_sample_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="expected one of demo, endoscopy-tower"):
        sample("../secret")


@pytest.mark.parametrize("name", ALL)
def test_a_sample_loads_without_problem_or_warning(name: str) -> None:
    loaded = load_text(sample(name))
    assert loaded.text() == ""
    assert loaded.config is not None


@pytest.mark.parametrize("name", ALL)
def test_the_first_lines_of_a_sample_say_what_it_is_not(name: str) -> None:
    first = " ".join(line.lstrip("# ") for line in sample(name).splitlines()[:3])
    assert "CPU only today" in first
    assert "Not a cleared medical device" in first


@pytest.mark.parametrize("name", ALL)
def test_a_sample_promises_no_page(name: str) -> None:
    assert not re.search(r"(?i)\b(page|dashboard|browser)\b|open http", sample(name))


@pytest.mark.parametrize("name", ALL)
def test_what_a_sample_offers_in_comments_loads_too(name: str) -> None:
    """Each `# key = value` and each commented table, with its comment sign taken off."""
    text = re.sub(r"^# (\[\[?[a-z.]+\]\]?|[a-z_]+ = .*)$", r"\1", sample(name), flags=re.MULTILINE)
    assert load_text(text).text() == ""
    assert name == "demo" or text != sample(name)


@pytest.mark.parametrize("name", ALL)
def test_each_key_of_a_sample_is_explained(name: str) -> None:
    lines = sample(name).splitlines()
    for above, line in zip(["", *lines], lines, strict=False):
        if " = " not in line or line.startswith("#"):
            continue
        key = line.partition(" = ")[0]
        is_plain = key in {"title", "room", "kind", "name", "version", "scene", "fps", "height"}
        assert is_plain or "# " in line or above.startswith("# "), line


def test_the_demo_shows_a_clip_and_a_phantom() -> None:
    config = load_text(sample("demo")).config
    assert config is not None
    ultrasound, endoscope = config.streams["ultrasound"], config.streams["endoscope"]
    assert isinstance(ultrasound.source, DicomSource)
    assert (ultrasound.source.path, ultrasound.source.loop) == ("sample:ultrasound", True)
    assert isinstance(endoscope.source, PhantomSource)
    assert (endoscope.source.scene, endoscope.source.fps) == ("endoscope", 60)
    models = [stream.models[0] for stream in (ultrasound, endoscope)]
    assert [(model.name, model.version) for model in models] == [
        ("us-chamber", ""),
        ("endo-polyp", "1.0.0"),
    ]


@pytest.mark.parametrize("name", ["ultrasound-cart", "endoscopy-tower"])
def test_a_sample_is_fitted_to_the_machine(name: str) -> None:
    text = fitted(sample(name), node="edge-7", port=9812, cameras=["/dev/video4", "/dev/video6"])
    tables = parse_toml(text)
    (stream,) = tables["streams"].values()
    assert (tables["node"], tables["console"]["port"]) == ("edge-7", 9812)
    assert stream["source"]["where"] == "/dev/video4"
    assert load_text(text).text() == ""


def test_without_a_camera_the_sample_keeps_its_own() -> None:
    text = fitted(sample("ultrasound"), node="edge-7", port=9810, cameras=[])
    assert 'where = "/dev/video0"' in text


# ── show ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ALL)
def test_what_show_prints_is_the_same_configuration(name: str) -> None:
    loaded = load_text(sample(name))
    assert loaded.config is not None
    assert load_text(as_toml(loaded.config, loaded.tables)).config == loaded.config
    assert msgspec.convert(as_values(loaded.config), Config) == loaded.config


def test_show_marks_defaults_and_masks_passwords() -> None:
    text = (
        '[streams.a]\nsource = { kind = "video", where = "rtsp://u:hunter2@h/s" }\n'
        'models = [{ name = "a" }, { name = "b", every = 2 }]\n'
    )
    loaded = load_text(text)
    assert loaded.config is not None
    shown = as_toml(loaded.config, loaded.tables)
    assert "hunter2" not in shown + json.dumps(as_values(loaded.config))
    assert 'where = "rtsp://u:***@h/s"\n' in shown
    assert re.search(r"^every = 1 +# default$", shown, re.MULTILINE)
    assert re.search(r"^every = 2$", shown, re.MULTILINE)
    assert "# fps is not set\n" in shown


# ── words, schema, manual ─────────────────────────────────────────────────────────────────────


def test_each_field_has_its_words_and_no_words_are_left_over() -> None:
    sections = [kind for kind in vars(structs).values() if _is_section(kind)]
    fields = {
        f"{kind.__name__}.{name}"
        for kind in sections
        for name in kind.__struct_fields__
        if not (kind.__base__ is structs.SourceBase and name in _base_fields())
    }
    assert fields == set(WORDS)


def _is_section(kind: object) -> bool:
    return (
        isinstance(kind, type) and issubclass(kind, structs.Section) and kind is not structs.Section
    )


def _base_fields() -> tuple[str, ...]:
    return structs.SourceBase.__struct_fields__


def test_the_schema_describes_each_key() -> None:
    document = json.loads(json.dumps(schema()))
    for part in document["$defs"].values():
        for name, shape in part["properties"].items():
            assert name == "kind" or shape["description"], name


def test_the_manual_is_current() -> None:
    tool = Path(__file__).parents[2] / "tools" / "docs_config.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
