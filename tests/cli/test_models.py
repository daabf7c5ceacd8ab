"""What is known of models without a daemon; a model that misbehaves hurts its own process alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_agent.cli import exits
from edge_agent.cli.main import main
from edge_agent.stores import package
from tests import tiny
from tests.core.test_package import tar_of
from tests.stores.packages import packed, store_at

make: Callable[..., Any] = helper.make_node
value: Callable[..., Any] = helper.make_tensor_value_info


class Place(NamedTuple):
    """state_dir with 1.1.0 current and 1.0.0 previous; a folder of the operator's with 0.9.0."""

    root: Path
    options: list[str]
    shas: list[str]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    store, shas = store_at(tmp_path / "state" / "models"), []
    for version in ("1.0.0", "1.1.0"):
        one = packed(tmp_path / "made", version)
        store.admit(one.tar, one.sha)
        store.commit("tiny", one.sha)
        shas.append(one.sha)
    tiny.write_package(tmp_path / "own", version="0.9.0")
    config = tmp_path / "config.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\n[models]\nshipped = false\ndirs = ["{tmp_path}/own"]\n'
    )
    return Place(tmp_path, ["--config", str(config)], shas)


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main(["models", *words, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if said.out else said.err


def statuses(document: Any) -> dict[str, str]:
    (only,) = document["packages"]
    return {check["check"]: check["status"] for check in only["checks"]}


def reasons(document: Any) -> str:
    return " ".join(
        check["what"]
        for one in document["packages"]
        for check in one["checks"]
        if check["status"] not in ("pass", "skip")
    )


def test_a_list_says_what_is_where_and_which_is_current(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = asked(capsys, "list", *place.options)
    rows = [
        (one["version"], one["from"], one["current"], one["previous"]) for one in document["models"]
    ]
    assert (code, document["schema"]) == (exits.OK, 1)
    assert rows == [
        ("0.9.0", "folder", False, False),
        ("1.0.0", "installed", False, True),
        ("1.1.0", "installed", True, False),
    ]
    assert [one["sha256"] for one in document["models"][1:]] == place.shas
    assert main(["models", "list", *place.options]) == exits.OK
    shown = capsys.readouterr().out
    assert place.shas[1][:16] in shown
    assert "previous" in shown


def test_a_package_that_cannot_be_read_is_listed_as_such(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place.root / "state" / "models" / "tiny"
    (folder / place.shas[0] / "manifest.toml").write_text("schema = ")
    (folder / place.shas[1] / "golden.npz").unlink()
    _, document = asked(capsys, "list", *place.options)
    faults = {one["sha256"]: one["fault"] for one in document["models"]}
    assert "read manifest" in faults[place.shas[0]]
    assert faults[place.shas[1]] == "file golden.npz: No such file or directory"


def test_info_tells_what_a_model_is_for(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "info", "tiny", *place.options]) == exits.OK
    shown = capsys.readouterr().out
    for words in ("tiny 1.1.0", "intended use", "tests", "16 x 12 px, gray, nhwc", "current",
                  "dark: segmentation by mask_sigmoid of y", "Dark", "fp32: model.onnx",
                  place.shas[1], "medical device"):  # fmt: skip
        assert words in shown
    code, document = asked(capsys, "info", "tiny", "0.9.0", *place.options)
    assert (code, document["version"], document["from"]) == (exits.OK, "0.9.0", "folder")
    assert document["manifest"]["heads"][0]["labels"][0]["key"] == "dark"
    assert document["medical_device"] is False
    code, said = asked(capsys, "info", "tiny", "2.0.0", *place.options)
    assert code == exits.ERROR
    assert "0.9.0, 1.0.0, 1.1.0" in said


def test_a_good_package_is_sound_but_for_what_it_does_not_show(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = asked(capsys, "verify", "tiny", *place.options)
    assert code == exits.WARNINGS
    assert statuses(document) == {
        "hash": "pass", "manifest": "pass", "files": "pass", "run fp32": "warn"
    }  # fmt: skip
    assert reasons(document) == "its golden samples hold no outputs"


def test_the_shipped_models_pass_in_any_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(__file__).parents[2] / "models" / "us-chamber" / "1.0.0"
    content = b"".join(package.pack(folder, package.read_manifest(folder)))
    tar = tmp_path / "us-chamber.eam"
    tar.write_bytes(content)
    sha = hashlib.sha256(content).hexdigest()
    assert main(["models", "verify", str(tar), "--sha256", sha]) == exits.OK
    shown = capsys.readouterr().out
    assert "8 golden samples" in shown
    assert sha in shown
    code, document = asked(capsys, "verify", str(tar), "--sha256", "0" * 64)
    assert (code, statuses(document)["hash"]) == (exits.CHECK_FAILED, "fail")
    assert "run fp32" not in statuses(document)  # who knows what it is


def test_a_rotten_package_is_found_among_all(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place.root / "state" / "models" / "tiny" / place.shas[0]
    with (folder / "golden.npz").open("ab") as file:
        file.write(b"rot")
    code, document = asked(capsys, "verify", *place.options)
    assert code == exits.CHECK_FAILED
    ok = {one["what"]: one["ok"] for one in document["packages"]}
    assert ok == {"tiny 0.9.0": True, "tiny 1.0.0": False, "tiny 1.1.0": True}
    assert f"expected {place.shas[0]}" in reasons(document)


@pytest.mark.parametrize("damage", ["cut", "link", "flip"])
def test_a_file_in_another_form_is_no_package(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = packed(tmp_path)
    content = one.tar.read_bytes()
    changed = {
        "cut": content[:-1],
        "link": content[:156] + b"2" + content[157:],
        "flip": content[:110] + b"\1" + content[111:],
    }
    one.tar.write_bytes(changed[damage])
    code, document = asked(capsys, "verify", str(one.tar))
    assert (code, statuses(document)) == (exits.CHECK_FAILED, {"package": "fail"})
    assert "read package" in reasons(document)


def test_what_the_manifest_does_not_name_is_a_warning_in_a_folder_and_wrong_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.write_package(tmp_path)
    (folder / "run.sh").write_text("#!")
    code, document = asked(capsys, "verify", str(folder))
    assert (code, statuses(document)["files"]) == (exits.WARNINGS, "warn")
    tar = tmp_path / "bad.eam"
    tar.write_bytes(tar_of(sorted((path.name, path.read_bytes()) for path in folder.iterdir())))
    code, document = asked(capsys, "verify", str(tar))
    assert code == exits.CHECK_FAILED
    assert "not named: run.sh" in reasons(document)


def test_a_package_for_a_newer_agent_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tiny.write_package(tmp_path)
    manifest = folder / "manifest.toml"
    manifest.write_text('min_agent_version = "99.0.0"\n' + manifest.read_text())
    code, document = asked(capsys, "verify", str(folder))
    assert (code, statuses(document)["agent"]) == (exits.REFUSED, "refused")


# ── models that misbehave ─────────────────────────────────────────────────────────────────────


def rascal(folder: Path, kind: str) -> Path:
    """greedy: wants 64 GiB when it runs. endless: never returns. Gives its folder."""
    tiny.write_package(folder)
    nodes = [
        make("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        make("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
    ]
    consts: dict[str, Any] = {}
    shape = [1, 1, tiny.SIZE[1], tiny.SIZE[0]]
    if kind == "greedy":
        consts = {"none": np.float32(0), "side": np.array([1 << 17, 1 << 17], np.int64)}
        nodes += [
            make("ReduceMax", ["f"], ["most"], keepdims=0),
            make("Mul", ["most", "none"], ["nought"]),
            make("Cast", ["nought"], ["n"], to=TensorProto.INT64),
            make("Add", ["n", "side"], ["shape"]),
            make("ConstantOfShape", ["shape"], ["plane"]),
            make("ReduceMax", ["plane"], ["p"], keepdims=0),
            make("Add", ["t", "p"], ["y"]),
        ]
    else:
        consts = {"trips": np.int64(1 << 60), "go": np.bool_(True), "one": np.float32(1)}
        body = helper.make_graph(
            [make("Identity", ["c"], ["d"]), make("Add", ["v", "one"], ["w"])], "body",
            [value("i", TensorProto.INT64, []), value("c", TensorProto.BOOL, []),
             value("v", TensorProto.FLOAT, shape)],
            [value("d", TensorProto.BOOL, []), value("w", TensorProto.FLOAT, shape)],
        )  # fmt: skip
        nodes.append(make("Loop", ["trips", "go", "t"], ["y"], body=body))
    graph = helper.make_graph(
        nodes, "rascal", [value("x", TensorProto.UINT8, [1, tiny.SIZE[1], tiny.SIZE[0], 1])],
        [value("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(one), name) for name, one in consts.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", tiny.OPSET)])
    model.ir_version = tiny.IR
    at = folder / "tiny" / "1.0.0"
    onnx.save(model, at / "model.onnx")
    return at


def with_golden(folder: Path, **arrays: Any) -> Path:
    np.savez_compressed(folder / "golden.npz", **arrays)
    return folder


def bomb(folder: Path) -> Path:
    """A small file that says of itself to be a large one."""
    content = bytearray((folder / "golden.npz").read_bytes())
    at = content.index(b"PK\x01\x02") + 24  # of the directory: the size when unpacked
    content[at : at + 4] = (600 << 20).to_bytes(4, "little")
    (folder / "golden.npz").write_bytes(content)
    return folder


def black() -> Any:
    return np.zeros((1, tiny.SIZE[1], tiny.SIZE[0], 1), np.uint8)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda at: tiny.write_package(at, fault="corrupt"), "model.onnx"),
        (lambda at: tiny.write_package(at, fault="wrong-input"), "manifest says nhwc"),
        (
            lambda at: with_golden(
                tiny.write_package(at, fault="nan"),
                input_0=black(),
                output_y_0=np.zeros((1, 1, 48, 64), np.float32),
            ),
            "y differs by inf",
        ),
        (
            lambda at: with_golden(
                tiny.write_package(at),
                input_0=black(),
                output_y_0=np.full((1, 1, 48, 64), 7.0, np.float32),
            ),
            "y differs by 0.5, allowed 0.001",
        ),
        (lambda at: with_golden(tiny.write_package(at), input_0=black()[:, 1:]), "expected input"),
        (lambda at: with_golden(tiny.write_package(at), nothing=black()), "1 to 64 inputs, got 0"),
        (
            lambda at: bomb(tiny.write_package(at)),
            "expected at most 536870912 bytes when unpacked, got 629145600",
        ),
        (lambda at: rascal(at, "greedy"), "Failed to allocate memory"),
        (lambda at: rascal(at, "endless"), "not done within 3 s while running its golden samples"),
    ],
    ids=["corrupt", "shape", "nan", "apart", "golden-shape", "no-golden", "bomb", "greedy",
         "endless"],
)  # fmt: skip
def test_a_model_that_misbehaves_is_told_by_its_reason(
    prepare: Callable[[Path], Path],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = prepare(tmp_path / "made")
    limits = ["--timeout-s", "3"] if "not done" in words else []
    code, document = asked(capsys, "verify", str(folder), *limits)
    assert (code, statuses(document)["run fp32"]) == (exits.CHECK_FAILED, "fail")
    assert words in reasons(document)


def test_wrong_words_are_said_as_such(
    place: Place, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for words, code in (
        (["verify", "nope", *place.options], exits.ERROR),
        (["verify", str(tmp_path / "gone.eam")], exits.ERROR),
        (["verify", "tiny", "--sha256", "12", *place.options], exits.USAGE),
        (["verify", "tiny", "--timeout-s", "0", *place.options], exits.USAGE),
        (
            [
                "verify",
                "--set",
                f"state_dir={tmp_path}/none",
                "--set",
                "models.dirs=[]",
                *place.options,
            ],
            exits.NOTHING_TO_DO,
        ),
        (["list", "--set", "models.nope=1", *place.options], exits.ERROR),
    ):
        assert main(["models", *words]) == code
        assert "edge-agent: " in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_who_may_not_look_is_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.root / "state").chmod(0)
    assert main(["models", "list", *place.options]) == exits.REFUSED
    assert "use sudo" in capsys.readouterr().err
    (place.root / "state").chmod(0o700)
