"""Whatever one bit of a package is, nothing runs but what it has to be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent import backends
from edge_agent.backends.onnx import OnnxBackend, OnnxSession
from edge_agent.config.structs import Config, PhantomSource, StreamConfig, StreamModel
from edge_agent.core.errors import BadPackage, Damaged, EdgeAgentError, Rejected
from edge_agent.core.manifest import Manifest
from edge_agent.ground import Orders
from edge_agent.inference.seats import Shelf
from edge_agent.stores import known, models, package
from edge_agent.stores.known import Remembered, parse_shipped
from edge_agent.stores.models import Models
from edge_agent.stores.shelf import Shelf as Installed
from tests.stores.packages import packed, store_at
from tests.tiny import SIZE, write_package
from tools.list_models import listed

ROOT = Path(__file__).parents[2]
FLIPS = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
BITS = st.floats(0, 1, exclude_max=True)  # where in a file, and which file


def sampled(root: Path, version: str = "1.0.0", says: float = 60 / 8) -> Path:
    folder = write_package(root, version=version)
    np.savez(
        folder / "golden.npz",
        input_0=np.zeros((1, SIZE[1], SIZE[0], 1), np.uint8),
        output_y_0=np.full((1, 1, SIZE[1], SIZE[0]), says, np.float32),
    )
    return folder


def config(*, version: str = "") -> Config:
    model = StreamModel(name="tiny", version=version)
    return Config(streams={"a": StreamConfig(source=PhantomSource(), models=(model,))})


def runs(store: Models, name: str = "tiny", version: str = "") -> str:
    """What an agent and its inference side do: the hash of what would run on a frame."""
    folder = store.resolve(name, version)
    return Shelf(backends.make()).load(str(folder), store.identity(folder)).sha


def outcome(store: Models) -> tuple[str, EdgeAgentError | None]:
    """What would run, or why nothing does."""
    try:
        return runs(store), None
    except EdgeAgentError as told:
        return "", told


class Flipped:
    """One bit of one file of a folder is another, while this lasts."""

    def __init__(self, folder: Path, where: float, which: float) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self._path = files[int(which * len(files))]
        self._before = self._path.read_bytes()
        self._bit = int(where * 8 * len(self._before))

    def __enter__(self) -> Path:
        content = bytearray(self._before)
        content[self._bit // 8] ^= 1 << self._bit % 8
        self._path.write_bytes(content)
        return self._path

    def __exit__(self, *_: object) -> None:
        self._path.write_bytes(self._before)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Models that ship with an agent, and their list."""
    root = tmp_path / "wheel" / "models"
    for version in ("1.0.0", "1.1.0"):
        sampled(root, version)
    (root / "tiny" / "current").write_text("1.0.0")
    known.shipped.cache_clear()
    monkeypatch.setattr(known, "SHIPPED", tmp_path / "wheel" / "list" / "shipped.sha256")
    monkeypatch.setattr(models, "shipped_folder", lambda: root)
    known.SHIPPED.parent.mkdir()
    known.SHIPPED.write_text(listed(root))
    return root


@pytest.fixture(autouse=True)
def _forgets() -> Any:
    yield
    known.shipped.cache_clear()


# ── one bit, of any file ──────────────────────────────────────────────────────────────────────


@FLIPS
@given(where=BITS, which=BITS)
def test_no_bit_of_what_is_shipped_changes_what_runs(
    wheel: Path, where: float, which: float
) -> None:
    """Also of the file that names the current version, and of the list."""
    right = package.look(wheel / "tiny" / "1.0.0").sha
    with Flipped(wheel.parent, where, which):
        known.shipped.cache_clear()
        sha, told = outcome(Models((), shipped=True))
    assert sha in (right, "")
    if told is not None:
        assert "reinstall edge-agent" in told.hint


@FLIPS
@given(where=BITS, which=BITS)
def test_no_bit_of_an_installed_package_changes_what_runs(
    tmp_path: Path, where: float, which: float
) -> None:
    root = tmp_path / "state"
    if not root.exists():
        one = packed(tmp_path / "made")
        store_at(root).admit(one.tar, one.sha)
        store_at(root).commit("tiny", one.sha)
    store = Models((), shipped=False, installed=Installed(root))
    (sha,) = Installed(root).shas("tiny")
    with Flipped(root / "tiny" / sha, where, which), pytest.raises(Damaged, match="reinstall it"):
        runs(store)
    assert runs(store) == sha


@pytest.mark.parametrize("law", ["sum", "ran"])
@FLIPS
@given(where=BITS, which=BITS)
def test_no_bit_of_a_folder_of_the_operator_changes_what_runs(
    tmp_path: Path, law: str, where: float, which: float
) -> None:
    folder = tmp_path / "own" / "tiny" / "1.0.0"
    remembered = Remembered(tmp_path / "state")
    if not folder.exists():
        sampled(tmp_path / "own")
        if law == "sum":
            known.write_sum(folder, package.look(folder).sha)
        else:
            remembered.note(folder, package.look(folder).sha, is_wanted=True)
    right = package.look(folder).sha
    with Flipped(folder, where, which) as path:
        sha, told = outcome(Models([tmp_path / "own"], shipped=False, remembered=remembered))
    if told is None:  # the end of the line of its sum
        assert (sha, path.name) == (right, known.SUM)
    else:
        assert "reinstall it" in told.hint
        assert "models accept tiny 1.0.0" in told.hint
    assert runs(Models([tmp_path / "own"], shipped=False, remembered=remembered)) == right


def test_the_list_of_the_shipped_models_is_of_what_ships() -> None:
    assert known.SHIPPED.read_text() == listed(ROOT / "models"), "python -m tools.list_models"


@pytest.mark.parametrize(
    "text",
    ["rot\n", "0" * 64 + "  tiny/1.0.0 curreft\n", "0" * 64 + "  tiny/1.0\n",
     2 * ("0" * 64 + "  tiny/1.0.0\n")],
)  # fmt: skip
def test_of_a_rotten_list_nothing_is_believed(text: str) -> None:
    for said in (text, known.sealed_list(text)):
        with pytest.raises(Damaged, match=r"shipped\.sha256"):
            parse_shipped(said)


def test_a_shipped_package_that_lost_its_files_is_damaged_and_not_another_version(
    wheel: Path,
) -> None:
    """The hint was to set version = "1.1.0"; of the demo models that may be one bad on purpose."""
    (wheel / "tiny" / "1.0.0" / "manifest.toml").unlink()
    with pytest.raises(Damaged, match=r"tiny 1\.0\.0 is damaged"):
        runs(Models((), shipped=True))
    shutil.rmtree(wheel / "tiny" / "1.0.0")
    with pytest.raises(Damaged, match=r"tiny 1\.0\.0 is damaged") as told:
        runs(Models((), shipped=True))
    assert told.value.hint == "reinstall edge-agent"


def test_what_nobody_listed_is_none_of_the_shipped(wheel: Path) -> None:
    sampled(wheel, "9.0.0")
    with pytest.raises(Rejected, match="none of those that come with the agent"):
        runs(Models((), shipped=True), version="9.0.0")


def test_a_folder_that_takes_name_and_version_of_a_shipped_one_is_that_one(
    wheel: Path, tmp_path: Path
) -> None:
    """A copy of the demo model with a flipped label ran, before it was ever seen whole."""
    shutil.copytree(wheel / "tiny", tmp_path / "own" / "tiny")
    store = Models([tmp_path / "own"], shipped=True)
    assert runs(store) == runs(Models((), shipped=True))
    manifest = tmp_path / "own" / "tiny" / "1.0.0" / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('"Dark"', '"Dirk"'))
    with pytest.raises(Damaged, match="the version of that name that comes with the agent is"):
        runs(store)
    known.write_sum(manifest.parent, package.look(manifest.parent).sha)
    assert runs(store), "somebody says that it is meant"


# ── what is loaded is what was hashed ─────────────────────────────────────────────────────────


class Rotting(OnnxBackend):
    """A disk that gives other bytes from the moment at which the file was hashed."""

    def load(
        self, folder: Path, manifest: Manifest, sha: str = "", *, file: Path | None = None
    ) -> OnnxSession:
        (folder / "model.onnx").write_bytes(b"rot")
        return super().load(folder, manifest, sha, file=file)


def test_what_rots_after_it_was_hashed_changes_nothing(tmp_path: Path) -> None:
    folder = sampled(tmp_path)
    sha = package.look(folder).sha
    before = len([*Path("/proc/self/fd").iterdir()])
    loaded = Shelf(Rotting()).load(str(folder), sha)
    assert (loaded.sha, loaded.is_proven) == (sha, True)
    with pytest.raises(Damaged, match="is damaged"):
        Shelf(backends.make()).load(str(folder), sha)
    assert len([*Path("/proc/self/fd").iterdir()]) == before, "what was held is let go"


def test_bytes_beside_the_package_are_no_part_of_the_model(tmp_path: Path) -> None:
    """Weights in a file that no manifest names were loaded, whatever was in them."""
    folder = sampled(tmp_path)
    model = onnx.load(str(folder / "model.onnx"))
    onnx.save(model, str(folder / "model.onnx"), save_as_external_data=True,
              location="weights.bin", size_threshold=0)  # fmt: skip
    assert (folder / "weights.bin").stat().st_size
    with pytest.raises(BadPackage):
        Shelf(backends.make()).load(str(folder), package.look(folder).sha)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda at: sampled(at, says=7.0), "y differs by 0.5, expected at most 0.001"),
        (lambda at: golden(sampled(at), b"no zip"), "its golden sample in golden.npz"),
        (lambda at: golden(sampled(at), input_0=np.zeros((1, 2, 2, 1), np.uint8),
                           output_y_0=np.zeros(1)), "expected input"),
        (lambda at: golden(sampled(at), output_y_0=np.zeros(1)), "got 0"),
    ],
)  # fmt: skip
def test_one_that_does_not_give_its_golden_sample_never_runs(
    tmp_path: Path, harm: Callable[[Path], Path], words: str
) -> None:
    folder = harm(tmp_path)
    with pytest.raises(BadPackage, match=words) as told:
        Shelf(backends.make()).load(str(folder), package.look(folder).sha)
    assert told.value.what.startswith("model tiny 1.0.0 is damaged: its golden sample")
    assert "reinstall it" in told.value.hint


def test_a_model_that_is_no_good_is_not_tried_by_each_of_its_streams(tmp_path: Path) -> None:
    """Each waited for a first run that is given up, longer than a side may take to start."""
    folder = sampled(tmp_path, says=7.0)
    sha, backend = package.look(folder).sha, Counting()
    shelf = Shelf(backend)
    for _ in range(4):
        with pytest.raises(BadPackage, match="its golden sample"):
            shelf.load(str(folder), sha)
    assert backend.loads == 1


class Counting(OnnxBackend):
    loads = 0

    def load(
        self, folder: Path, manifest: Manifest, sha: str = "", *, file: Path | None = None
    ) -> OnnxSession:
        self.loads += 1
        return super().load(folder, manifest, sha, file=file)


def test_of_what_nobody_knows_every_golden_sample_is_run(tmp_path: Path) -> None:
    """The first alone does not see each flipped bit of a network."""
    picture = np.zeros((1, SIZE[1], SIZE[0], 1), np.uint8)
    says = np.full((1, 1, SIZE[1], SIZE[0]), 60 / 8, np.float32)
    folder = golden(sampled(tmp_path), input_0=picture, output_y_0=says, input_1=picture,
                    output_y_1=says - 1)  # fmt: skip
    sha = package.look(folder).sha
    assert Shelf(backends.make()).load(str(folder), sha).is_proven
    with pytest.raises(BadPackage, match="y differs by 1"):
        Shelf(backends.make()).load(str(folder), sha, is_known=False)
    store = Models([tmp_path], shipped=False, remembered=Remembered(tmp_path / "state"))
    orders = Orders(store)
    first = orders.of(config())[0]
    assert [first[0].models[0].known, first[0].models[0].sha] == [False, sha]
    orders.ran(folder, sha, is_wanted=True)
    assert orders.of(config())[0] == first, "the stream would start anew for it"
    assert Orders(store).of(config())[0][0].models[0].known


def golden(folder: Path, content: bytes = b"", **arrays: Any) -> Path:
    if content:
        (folder / "golden.npz").write_bytes(content)
    else:
        np.savez(folder / "golden.npz", **arrays)
    return folder


def test_what_was_prepared_wrongly_is_passed_over_for_the_package_itself(tmp_path: Path) -> None:
    """A short cut that computes otherwise is no fault of the package."""
    folder, engines = sampled(tmp_path / "made"), tmp_path / "engines"
    other = write_package(tmp_path / "other", fault="blind")
    sha = package.look(folder).sha
    engines.mkdir()
    backend = backends.make(engines=engines)
    backend.prepare(other, package.read_manifest(other), sha)  # as this one's
    assert backend.load(folder, package.read_manifest(folder), sha).is_prepared
    loaded = Shelf(backend).load(str(folder), sha)
    assert loaded.is_proven
    assert not loaded.session.is_prepared


# ── what stands in ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def store(tmp_path: Path) -> Models:
    """1.0.0 ran, then 1.1.0 became current and ran."""
    found = Models([tmp_path / "own"], shipped=False, remembered=Remembered(tmp_path / "state"))
    for version in ("1.0.0", "1.1.0"):
        folder = sampled(tmp_path / "own", version)
        (folder.parent / "current").write_text(version)
        Orders(found).ran(folder, found.identity(folder), is_wanted=True)
    return found


def rot(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"rot")


def test_the_last_that_ran_well_stands_in(store: Models, tmp_path: Path) -> None:
    orders = Orders(store)
    rot(tmp_path / "own" / "tiny" / "1.1.0")
    found, wrong = orders.of(config())
    assert (found[0].models[0].options.version, wrong) == ("1.0.0", {})
    assert "tiny 1.0.0, which ran before, stands in" in orders.fell_back["a"].what
    found, wrong = orders.of(config(version="1.1.0"))
    assert (found, list(wrong)) == ([], ["a"]), "a stream that names its version waits"
    rot(tmp_path / "own" / "tiny" / "1.0.0")
    assert orders.of(config())[0] == []


@pytest.mark.parametrize("why", ["blocked", "condemned", "never ran", "folder gone"])
def test_what_stands_in_is_good_itself(store: Models, tmp_path: Path, why: str) -> None:
    old = tmp_path / "own" / "tiny" / "1.0.0"
    sha = store.identity(old)
    if why == "never ran":
        store = Models([tmp_path / "own"], shipped=False, remembered=Remembered(tmp_path / "other"))
        known.write_sum(old.parent / "1.1.0", "0" * 64)
    elif why == "folder gone":
        shutil.copytree(tmp_path / "own", tmp_path / "new")
        store = Models([tmp_path / "new"], shipped=False, remembered=Remembered(tmp_path / "state"))
        known.write_sum(tmp_path / "new" / "tiny" / "1.1.0", "0" * 64)
    orders = Orders(store)
    if why == "blocked":
        orders.blocked = lambda _, one: "refused here" if one == sha else ""
    elif why == "condemned":
        orders.condemn(sha, "it gives something else", "reinstall it")
    rot(old.parent / "1.1.0")
    found, wrong = orders.of(config())
    assert (found, list(wrong)) == ([], ["a"])


def test_news_are_told_by_the_files_alone(store: Models, tmp_path: Path) -> None:
    folder = tmp_path / "own" / "tiny" / "1.1.0"
    before = (folder / "model.onnx").read_bytes()
    orders = Orders(store)
    orders.of(config())
    assert not orders.has_news(config()), "nothing is wrong"
    rot(folder)
    orders.of(config())
    assert not orders.has_news(config())
    (folder / "model.onnx").write_bytes(before)
    assert orders.has_news(config())
    assert orders.of(config())[0][0].models[0].options.version == "1.1.0"


def test_what_ran_is_remembered_only_as_far_as_it_can_be(tmp_path: Path) -> None:
    folder = sampled(tmp_path / "own")
    sha = package.look(folder).sha
    (tmp_path / "state").write_text("no folder")
    blind = Remembered(tmp_path / "state")
    blind.note(folder, sha, is_wanted=True)
    assert blind.trouble
    (tmp_path / "state").unlink()
    one = Remembered(tmp_path / "state")
    one.note(folder, sha, is_wanted=True)
    again = Remembered(tmp_path / "state")
    assert (again.first_of(folder), again.good("tiny")[0].sha) == (sha, sha)
    for name in ("models-known.json", "models-known.copy.json"):
        (tmp_path / "state" / name).write_bytes(b"rot")
    assert Remembered(tmp_path / "state").first_of(folder) == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize("what", ["own", "own/tiny", "own/tiny/1.0.0", "own/tiny/1.0.0/model.onnx"])
def test_what_may_not_be_read_is_told_and_nothing_else_runs_instead(
    tmp_path: Path, what: str
) -> None:
    """The start ended in a traceback, or the shipped one of that name ran."""
    sampled(tmp_path / "own")
    mode = (tmp_path / what).stat().st_mode
    (tmp_path / what).chmod(0)
    try:
        found, wrong = Orders(Models([tmp_path / "own"], shipped=True)).of(config())
        assert found == []
        assert "Permission denied" in wrong["a"].what
        assert "let the user of the service read" in wrong["a"].hint
    finally:
        (tmp_path / what).chmod(mode)


def test_an_error_of_a_file_says_whose_it_is(tmp_path: Path) -> None:
    folder = sampled(tmp_path)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    with pytest.raises(EdgeAgentError, match="expected a plain file, got a folder"):
        package.look(folder)
