"""A candidate is proved in a process of its own: it breaks that one at most, and is told why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edge_agent import backends
from edge_agent.backends import engines as shelf
from edge_agent.backends.prepare import Bounds, Prepared, prepare
from edge_agent.core.errors import BadPackage, ConfigError, Damaged, EdgeAgentError, Overloaded
from edge_agent.core.manifest import Manifest
from edge_agent.stores import package as packages
from edge_agent.stores.models import Models
from tests.backends.graphs import SIZE, gray, manifest, save
from tests.installer import rascals
from tests.tiny import write_package

STORE = Models((), shipped=False)
SHAPE = [1, SIZE[1], SIZE[0], 1]


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    return tmp_path / "state" / "engines"


def package(tmp_path: Path, fault: str = "") -> tuple[Path, Manifest, str]:
    folder = write_package(tmp_path / "models", fault=fault)
    return folder, STORE.manifest(folder), STORE.identity(folder)


def prove(engines: Path, found: tuple[Path, Manifest, str], **more: Any) -> Prepared:
    return prepare(*found, engines, **more)


def test_what_is_prepared_is_loaded_and_says_the_same(tmp_path: Path, engines: Path) -> None:
    folder, spec, sha = found = package(tmp_path)
    told = prove(engines, found)
    path = engines / told.engine
    assert told.runtime == f"ort{ort.__version__}"
    assert path.stat().st_size == told.engine_bytes > 0
    assert told.golden_samples == 1
    assert told.build_ms > 0
    assert shelf.is_whole(path)
    assert sorted(p.name for p in engines.iterdir()) == sorted(
        [path.name, path.with_suffix(".xxh3").name]
    )
    assert path.stat().st_mode & 0o777 == 0o600
    says = []
    for backend in (backends.make(), backends.make(engines=engines)):
        bound = backend.load(folder, spec, sha).bind()
        bound.fill(gray(64, 48, 70), (0, 0, 64, 48))
        says.append(bound.run()["y"].copy())
    assert np.array_equal(*says)
    (folder / "model.onnx").write_bytes(b"not looked at any more")
    backends.make(engines=engines).load(folder, spec, sha)


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "no digest", "no model"])
def test_a_prepared_file_that_is_damaged_is_passed_over(
    tmp_path: Path, engines: Path, harm: str
) -> None:
    folder, spec, sha = found = package(tmp_path)
    path = engines / prove(engines, found).engine
    content = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif harm == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "no digest":
        path.with_suffix(".xxh3").unlink()
    else:
        path.write_bytes(b"no model, but whole")
        path.with_suffix(".xxh3").write_text(shelf.digest(path, path.name))
    bound = backends.make(engines=engines).load(folder, spec, sha).bind()
    bound.run()


def test_golden_samples_that_differ_refuse_it(tmp_path: Path, engines: Path) -> None:
    folder, _, _ = package(tmp_path)
    picture = np.zeros((1, 48, 64, 1), np.uint8)
    right = np.full((1, 1, 48, 64), 60 / 8, np.float32)
    for off, passes in ((0.0005, True), (0.1, False)):
        np.savez(folder / "golden.npz", input_0=picture, output_y_0=right + np.float32(off))
        found = folder, STORE.manifest(folder), STORE.identity(folder)
        if passes:
            assert prove(engines, found).golden_difference == pytest.approx(off, rel=1e-2)
        else:
            with pytest.raises(BadPackage, match=r"golden samples.*within 0.001, got 0.1"):
                prove(engines, found)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("corrupt", "optimise model tiny"),
        ("wrong-input", "the file has"),
        ("nan", "got inf"),
    ],
)
def test_a_candidate_that_is_wrong_is_refused_with_its_reason(
    tmp_path: Path, engines: Path, fault: str, why: str
) -> None:
    folder, spec, _ = package(tmp_path, fault)
    if fault == "nan":
        wanted = np.zeros((1, 1, 48, 64), np.float32)
        np.savez(folder / "golden.npz", input_0=np.zeros((1, 48, 64, 1), np.uint8),
                 output_y_0=wanted)  # fmt: skip
    with pytest.raises(BadPackage, match=why) as refused:
        prove(engines, (folder, spec, STORE.identity(folder)))
    assert refused.value.hint
    assert not [p for p in engines.iterdir() if p.name.startswith(".making")]


def test_a_candidate_that_never_returns_is_ended(tmp_path: Path, engines: Path) -> None:
    found = package(tmp_path, "always")
    with pytest.raises((BadPackage, Overloaded), match=r"not done within 1\.5 s"):
        prove(engines, found, bounds=Bounds(wall_s=1.5))
    folder = engines / ".making-left"
    folder.mkdir()
    with pytest.raises(BadPackage, match=r"SIGXCPU|SIGKILL"):
        prove(engines, found, bounds=Bounds(cpu_s=1))
    assert not folder.exists(), "what an earlier one left is swept"


def test_a_candidate_that_allocates_without_end_is_refused(tmp_path: Path, engines: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], keepdims=0),
        helper.make_node("ConstantOfShape", ["side"], ["plane"]),
        helper.make_node("Add", ["plane", "m"], ["wide"]),
        helper.make_node("ReduceMean", ["wide"], ["w"], keepdims=0),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Add", ["t", "w"], ["y"]),
    ]
    folder = save(
        tmp_path / "tiny" / "1.0.0", nodes, {"x": (TensorProto.UINT8, SHAPE)},
        {"y": (TensorProto.FLOAT, [1, 1, SIZE[1], SIZE[0]])},
        {"side": np.array([30_000, 30_000], np.int64)},
    )  # fmt: skip
    np.savez(folder / "golden.npz", input_0=np.zeros(SHAPE, np.uint8))
    (folder / "manifest.toml").touch()
    sha = packages.identity(folder, manifest())
    with pytest.raises(BadPackage, match=r"memory|allocat|ended"):
        prepare(folder, manifest(), sha, engines, bounds=Bounds(memory_bytes=1 << 30))


def test_a_candidate_that_kills_its_process_is_refused_with_the_signal(
    tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a crash in a runtime would."""
    in_its_place(monkeypatch, "os.abort()")
    with pytest.raises(BadPackage, match=signal.Signals(signal.SIGABRT).name):
        prove(engines, package(tmp_path))


@contextmanager
def on_a_loaded_core(hogs: int) -> Iterator[None]:
    """This thread, and what it starts, share one core with others that never rest."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    endless = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(endless, start_new_session=True) for _ in range(hogs)]
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
        for process in processes:
            process.kill()
            process.wait()


def test_a_proof_that_had_no_core_says_nothing_of_the_package(
    tmp_path: Path, engines: Path
) -> None:
    """The machine was loaded by others; a good package was refused for ever."""
    with on_a_loaded_core(hogs=4), pytest.raises(Overloaded, match="it had a core for") as caught:
        prove(engines, package(tmp_path, "always"), bounds=Bounds(wall_s=2.0))
    assert "stop what else runs here" in caught.value.hint


def in_its_place(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """A real process that does what a runtime may do."""
    real: Callable[..., Any] = subprocess.Popen

    def started(words: list[str], **more: Any) -> Any:
        return real([words[0], "-c", f"import os, sys; sys.stdin.read(); {code}"], **more)

    monkeypatch.setattr(subprocess, "Popen", started)


def test_one_that_sleeps_of_its_own_will_never_returns(
    tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_its_place(monkeypatch, "import time; time.sleep(60)")
    with pytest.raises(BadPackage, match="not done within 2 s"):
        prove(engines, package(tmp_path), bounds=Bounds(wall_s=2.0))


def test_one_that_was_stopped_by_somebody_does_not(
    tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_its_place(monkeypatch, "os.kill(os.getpid(), 19)")
    with pytest.raises(Overloaded, match="not done within 2 s"):
        prove(engines, package(tmp_path), bounds=Bounds(wall_s=2.0))


def test_an_error_that_nobody_thought_of_is_no_fault_of_the_package(
    tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_its_place(monkeypatch, "import nothing_of_that_name")
    with pytest.raises(Damaged, match=r"ended with exit 1: ModuleNotFoundError"):
        prove(engines, package(tmp_path))


def test_a_process_that_can_not_be_started_is_no_fault_of_the_package(
    tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(Damaged, match=r"start its process: No such file"):
        prove(engines, package(tmp_path))


WISHES = "os.write(2, b\"terminate called after throwing an instance of 'std::bad_alloc'\"); "


@pytest.mark.parametrize(
    ("bound", "blamed"), [(1 << 28, BadPackage), (1 << 60, Overloaded)], ids=["own", "machine"]
)
def test_who_wants_more_memory_than_its_bound_is_blamed_if_the_machine_has_that(
    tmp_path: Path, engines: Path, monkeypatch: pytest.MonkeyPatch, bound: int,
    blamed: type[EdgeAgentError],
) -> None:  # fmt: skip
    in_its_place(monkeypatch, WISHES + "os.abort()")
    with pytest.raises(blamed, match=r"SIGABRT.*bad_alloc"):
        prove(engines, package(tmp_path), bounds=Bounds(memory_bytes=bound))


def test_golden_samples_of_64_gib_fail_by_memory_of_this_machine_or_by_their_bound(
    tmp_path: Path, engines: Path
) -> None:
    folder, spec, _ = package(tmp_path)
    (folder / "golden.npz").write_bytes(rascals.bomb())
    with pytest.raises(BadPackage, match="it wanted more"):
        prove(engines, (folder, spec, STORE.identity(folder)), bounds=Bounds(memory_bytes=1 << 30))


@pytest.mark.parametrize("body", [b"", b"PK\3\4 no zip", b"no numpy"])
def test_golden_samples_that_are_none_are_the_package_s_fault(
    tmp_path: Path, engines: Path, body: bytes
) -> None:
    folder, spec, _ = package(tmp_path)
    (folder / "golden.npz").write_bytes(body)
    with pytest.raises(BadPackage, match="golden samples of tiny") as caught:
        prove(engines, (folder, spec, STORE.identity(folder)))
    assert caught.value.hint == "pack the model again"


def test_nothing_is_prepared_of_bytes_that_are_not_the_package(
    tmp_path: Path, engines: Path
) -> None:
    """What had rotted between the installation and the build was kept as this package's."""
    folder, spec, sha = package(tmp_path)
    content = bytearray((folder / "model.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(Damaged, match="expected sha256"):
        prove(engines, (folder, spec, sha))
    assert list(engines.iterdir()) == []


def test_what_was_prepared_of_another_package_is_not_taken(tmp_path: Path, engines: Path) -> None:
    """A copy under another name, digest and all, was loaded as that name's."""
    folder, spec, sha = found = package(tmp_path)
    path = engines / prove(engines, found).engine
    assert backends.make(engines=engines).load(folder, spec, sha).is_prepared
    other = engines / path.name.replace(sha[:32], "ab" * 16)
    for one, target in ((path, other), (path.with_suffix(".xxh3"), other.with_suffix(".xxh3"))):
        target.write_bytes(one.read_bytes())
    assert not backends.make(engines=engines).load(folder, spec, "ab" * 32).is_prepared


def test_a_runtime_that_this_build_lacks_is_the_configuration_s_fault(
    tmp_path: Path, engines: Path
) -> None:
    with pytest.raises(ConfigError, match=r"engine\.backend"):
        prove(engines, package(tmp_path), backend="tensorrt")


def test_an_engine_that_finds_no_room_on_the_disk_is_no_fault_of_the_package(
    tmp_path: Path, engines: Path
) -> None:
    """The runtime speaks of its serialisation then, as it does of a file that is no model."""
    folder, _, _ = package(tmp_path)
    code = (
        "import sys; from pathlib import Path; from tests.backends.test_prepare import *; "
        "folder, engines = map(Path, sys.argv[1:]); "
        "(engines / 'else').write_bytes(b'x' * 65536); "
        "found = (folder, STORE.manifest(folder), STORE.identity(folder)); "
        "pytest.raises(Overloaded, prove, engines, found).match('optimise model tiny')"
    )
    engines.mkdir(parents=True)
    told = subprocess.run(
        ["unshare", "-rm", "sh", "-c",
         'mount -t tmpfs -o size=64k tmpfs "$3" || exit 77; exec "$0" -c "$1" "$2" "$3"',
         sys.executable, code, str(folder), str(engines)],
        check=False, capture_output=True, text=True,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    if told.returncode == 77 or "unshare" in told.stderr:
        pytest.skip("no file system may be mounted here")
    assert told.returncode == 0, told.stderr


def test_what_belongs_to_no_package_is_collected(tmp_path: Path, engines: Path) -> None:
    told = prove(engines, package(tmp_path))
    stranger = shelf.engine_path(engines, "cd" * 32, "fp32", "ort0")
    stranger.write_bytes(b"x" * 100)
    sha = told.engine.split("-")[0]
    assert shelf.collect(engines, [sha + "0" * 32]) == 100
    assert (engines / told.engine).exists()
    assert shelf.collect(engines, []) > 100
    assert not os.listdir(engines)  # noqa: PTH208 - names are enough
    assert shelf.collect(tmp_path / "nowhere", []) == 0
