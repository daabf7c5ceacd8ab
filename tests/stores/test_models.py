from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from edge_agent.core.errors import Rejected
from edge_agent.stores.models import Models, shipped_folder, version_key
from tests import tiny


def store(*dirs: Path) -> Models:
    return Models(dirs, shipped=False)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        tiny.write_package(tmp_path, version=version)
    return tmp_path


def test_the_only_version_needs_no_name(tmp_path: Path) -> None:
    folder = tiny.write_package(tmp_path)
    assert store(tmp_path).resolve("tiny", "") == folder
    assert store(tmp_path).manifest(folder).name == "tiny"


def test_current_says_which_of_several(two: Path) -> None:
    (two / "tiny" / "current").write_text("1.9.0\n")
    assert store(two).resolve("tiny", "") == two / "tiny" / "1.9.0"
    assert store(two).resolve("tiny", "1.0.0") == two / "tiny" / "1.0.0"


def test_without_current_the_versions_are_named(two: Path) -> None:
    with pytest.raises(Rejected, match=r"got 1\.0\.0, 1\.9\.0, 1\.10\.0") as refused:
        store(two).resolve("tiny", "")
    assert '"1.10.0"' in refused.value.hint


def test_a_version_that_is_not_there_is_refused(two: Path) -> None:
    with pytest.raises(Rejected, match=r"expected version 2\.0\.0, got 1\.0\.0"):
        store(two).resolve("tiny", "2.0.0")
    (two / "tiny" / "current").write_text("9.9.9")
    with pytest.raises(Rejected, match=r"expected version 9\.9\.9"):
        store(two).resolve("tiny", "")


@pytest.mark.parametrize("name", ["huge", "../tiny", "tiny/1.0.0", "", ".", "Tiny"])
def test_a_name_that_is_not_there_is_refused_with_what_is(name: str, two: Path) -> None:
    with pytest.raises(Rejected, match="expected one of: tiny"):
        store(two).resolve(name, "")


@pytest.mark.parametrize("version", ["../tiny/1.0.0", ".", "..", "1.0.0/../1.0.0"])
def test_a_version_is_never_a_path(version: str, two: Path) -> None:
    with pytest.raises(Rejected, match="expected version"):
        store(two).resolve("tiny", version)


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="expected one of: none"):
        store(tmp_path / "gone").resolve("tiny", "")


def test_the_first_folder_wins_and_current_may_name_another(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    tiny.write_package(own, version="1.1.0")
    tiny.write_package(other, version="1.1.0")
    tiny.write_package(other, version="1.0.0")
    (other / "tiny" / "current").write_text("1.0.0")
    assert store(own, other).resolve("tiny", "1.1.0").parent.parent == own
    assert store(own, other).resolve("tiny", "").parent.parent == other
    (own / "tiny" / "current").write_text("1.1.0")
    assert store(own, other).resolve("tiny", "").parent.parent == own


def test_versions_ascend_as_semver_has_them(two: Path) -> None:
    for version in ("1.10.0-rc.2", "1.10.0-rc.10", "1.10.0-alpha"):
        tiny.write_package(two, version=version)
    (two / "tiny" / "2.0.0").mkdir()  # no manifest: no package
    (two / "tiny" / "notes").mkdir()
    (two / "README").write_text("")
    assert store(two).versions() == {
        "tiny": ["1.0.0", "1.9.0", "1.10.0-alpha", "1.10.0-rc.2", "1.10.0-rc.10", "1.10.0"]
    }
    assert version_key("1.0.0") < version_key("1.0.0+b1")


def test_a_manifest_is_of_its_folders(tmp_path: Path) -> None:
    folder = tiny.write_package(tmp_path)
    moved = folder.rename(folder.parent / "1.0.1")
    with pytest.raises(Rejected, match=r"got tiny 1\.0\.0") as refused:
        store(tmp_path).manifest(moved)
    assert refused.value.hint == "move the package to tiny/1.0.0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"schema = ", "read manifest tiny/1.0.0/manifest.toml"),
        (b"\xff\xfe", "read manifest tiny/1.0.0/manifest.toml"),
        (b"schema = 1", "missing required field"),
        (b"#" * (1 << 20) + b"#", "expected at most 1048576 bytes"),
    ],
)
def test_a_damaged_manifest_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    folder = tiny.write_package(tmp_path)
    (folder / "manifest.toml").write_bytes(content)
    with pytest.raises(Rejected, match=words):
        store(tmp_path).manifest(folder)
    (folder / "manifest.toml").unlink()
    with pytest.raises(Rejected, match="No such file"):
        store(tmp_path).manifest(folder)


def test_the_identity_is_of_the_content_alone(tmp_path: Path) -> None:
    folder = tiny.write_package(tmp_path)
    models = store(tmp_path)
    first = models.identity(folder)
    assert len(first) == 64
    os.utime(folder / "model.onnx", (1, 1))
    (folder / "model.onnx").chmod(0o600)
    (folder / "notes.txt").write_text("not of the package")
    assert models.identity(folder) == first
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    assert models.identity(folder) != first


def test_the_tar_is_canonical_and_plain(tmp_path: Path) -> None:
    folder = tiny.write_package(tmp_path)
    packed = b"".join(store(tmp_path).pack(folder))
    assert hashlib.sha256(packed).hexdigest() == store(tmp_path).identity(folder)
    ours = io.BytesIO()
    with tarfile.open(fileobj=ours, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("golden.npz", "manifest.toml", "model.onnx"):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = (folder / name).stat().st_size, 0o644
            tar.addfile(entry, io.BytesIO((folder / name).read_bytes()))
    assert packed == ours.getvalue()


def test_a_package_that_lacks_a_file_has_no_identity(tmp_path: Path) -> None:
    folder = tiny.write_package(tmp_path)
    (folder / "golden.npz").unlink()
    with pytest.raises(Rejected, match=r"read model tiny: file golden\.npz: No such file"):
        store(tmp_path).identity(folder)


def test_shipped_models_come_last(two: Path) -> None:
    both = Models([two], shipped=True)
    assert "tiny" in both.versions()
    assert shipped_folder().name == "models"
