from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.config.load import MAX_FILE_BYTES, Loaded, load, load_text, paths
from edge_agent.config.structs import Config, DicomSource

STREAM = """\
[streams.us]
source = { kind = "dicom", path = "sample:ultrasound", loop = true }
models = [{ name = "us-chamber" }]
"""


def _written(folder: Path, **texts: str) -> Path:
    """config.toml and drop-ins, whose names begin with `d`."""
    (folder / "config.d").mkdir(exist_ok=True)
    for name, text in texts.items():
        place = folder if name == "config" else folder / "config.d"
        (place / f"{name}.toml").write_text(text, "utf-8")
    return folder / "config.toml"


def _load(file: Path, *overrides: str) -> Loaded:
    return load(paths(file), overrides)


def test_drop_ins_merge_in_name_order_and_overrides_come_last(tmp_path: Path) -> None:
    file = _written(
        tmp_path,
        config=STREAM + '[engine]\nlanes = 1\nhang_s = 1\nbackend = "onnx"\n',
        d20='[engine]\nlanes = 3\n[streams.us]\ntitle = "Übersicht"\n',
        d10="[engine]\nlanes = 2\nhang_s = 2\n",
    )
    config = _load(file, "console.port=0", "streams.us.models.0.every=1").config
    assert config is not None
    assert (config.engine.lanes, config.engine.hang_s, config.engine.backend) == (3, 2, "onnx")
    assert config.streams["us"].title == "Übersicht"
    assert isinstance(config.streams["us"].source, DicomSource)
    assert config.console.port == 0


def test_a_problem_names_the_file_that_wrote_the_last_value(tmp_path: Path) -> None:
    file = _written(
        tmp_path,
        config="[engine]\nlanes = 1\nhang_s = -1\n",
        d10="# first\n[engine]\nlanes = -1\n",
    )
    drop_in = tmp_path / "config.d" / "d10.toml"
    places = [(problem.file, problem.line) for problem in _load(file).errors]
    assert places == [(str(file), 3), (str(drop_in), 3)]


def test_arrays_are_replaced_as_a_whole(tmp_path: Path) -> None:
    file = _written(
        tmp_path,
        config=STREAM.replace("}]", '}, { name = "b" }]'),
        d1='[[streams.us.models]]\nname = "c"\n',
    )
    config = _load(file).config
    assert config is not None
    assert [model.name for model in config.streams["us"].models] == ["c"]


def test_drop_ins_alone_are_enough(tmp_path: Path) -> None:
    file = _written(tmp_path, d1=STREAM)
    assert _load(file).text() == ""


def test_a_missing_file_is_told_with_the_way_to_make_one(tmp_path: Path) -> None:
    file = tmp_path / "none.toml"
    loaded = _load(file)
    assert loaded.config is None
    assert loaded.text() == (
        f"{file}: cannot be read: no such file -> edge-agent init --output {file}"
    )


def test_a_folder_a_pipe_and_a_large_file_are_refused(tmp_path: Path) -> None:
    large, pipe = tmp_path / "large.toml", tmp_path / "pipe.toml"
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    os.mkfifo(pipe)
    assert "larger than 1048576 bytes" in _load(large).text()
    assert "no regular file" in _load(pipe).text()
    assert "cannot be read" in _load(tmp_path).text()


def test_a_file_of_another_encoding_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b"# one\ntitle = 'M\xfcnchen'\n")
    assert _load(file).text() == f"{file}:2: not UTF-8 text -> save as UTF-8"


def test_a_file_from_windows_is_read(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_bytes(b"\xef\xbb\xbf" + STREAM.replace("\n", "\r\n").encode() + b"x = 1\r\n")
    assert [problem.line for problem in _load(file).problems] == [4]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(STREAM)
    file.chmod(0)
    assert "permission denied" in _load(file).text()


def test_too_many_drop_ins_are_refused(tmp_path: Path) -> None:
    file = _written(tmp_path, **{f"d{number}": "" for number in range(70)})
    assert "too many files (expected at most 63, got 70)" in _load(file).text()


def test_a_broken_file_hides_no_flaw_of_another_and_invents_none(tmp_path: Path) -> None:
    file = _written(
        tmp_path, config="[streams.us\n", d1="[streams.us]\ntitle = 5\n", d2="[log]\nlevl = 1\n"
    )
    keys = [problem.key for problem in _load(file).problems]
    assert keys == ["", "streams.us.title", "log.levl"]


def test_the_state_dir_is_known_although_the_file_is_broken() -> None:
    broken = 'state_dir = "/data/edge"\n[streams.us\nstate_dir = "/other"\n'
    assert load_text(broken).state_dir == "/data/edge"
    assert load_text(broken, overrides=["state_dir=/mine"]).state_dir == "/mine"
    assert load_text("state_dir = 5").state_dir == Config().state_dir


# ── --set ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("node=edge-7", "edge-7"),
        ('node="edge-7"', "edge-7"),
        (" node = edge-7 ", "edge-7"),
    ],
)
def test_a_value_that_is_no_toml_is_text(override: str, wanted: str) -> None:
    config = load_text(STREAM, overrides=[override]).config
    assert config is not None
    assert config.node == wanted


def test_overrides_take_tables_and_items_of_arrays() -> None:
    config = load_text(
        STREAM,
        overrides=[
            "engine={lanes = 2}",
            "engine.hang_s=3",
            "streams.us.models.0.threshold=0.25",
            'streams.p={source = {kind = "phantom"}, models = [{name = "a"}]}',
        ],
    ).config
    assert config is not None
    assert (config.engine.lanes, config.engine.hang_s) == (2, 3)
    assert config.streams["us"].models[0].threshold == 0.25
    assert list(config.streams) == ["us", "p"]


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("lanes", '--set: not understood (expected section.key=value, got "lanes")'),
        ("=1", '--set: not understood (expected section.key=value, got "=1")'),
        ("a b=1", '--set: not understood (expected section.key=value, got "a b=1")'),
        ("a\nb=1", "--set: not understood"),
        ("engine.lanes=x", "--set: engine.lanes — wrong type"),
        ("engine.lane=1", '--set: engine.lane — unknown key, did you mean "lanes"?'),
        ("streams.us.models.7.every=1", "--set: streams.us.models.7.every — leads through"),
        ("engine.lanes.x=1", "--set: engine.lanes — wrong type"),
        ("a." * 40 + "b=1", "--set: not understood"),
        ("engine.listeners=" + "[" * 5000, "--set: engine.listeners — wrong type"),
        ("engine.listeners=[]\nx = 1", "--set: engine.listeners — wrong type"),
    ],
)
def test_a_bad_override_is_told(override: str, wanted: str) -> None:
    loaded = load_text(STREAM, overrides=[override])
    assert loaded.config is None
    assert loaded.text().startswith(wanted)


def test_overrides_are_bounded() -> None:
    assert "too many" in load_text(STREAM, overrides=["engine.lanes=1"] * 300).text()
