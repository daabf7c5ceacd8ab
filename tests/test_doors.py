"""Wherever a file is opened that somebody else may have put there, a pipe or a device is refused:
the one would be waited for, the other never ends.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.cli import exits
from edge_agent.cli.main import main
from edge_agent.cli.models_trial import Order, held_of
from edge_agent.core.errors import ConfigError, EdgeAgentError, LinkDown, Rejected
from edge_agent.errands import Errand, Place
from edge_agent.held import open_plain
from edge_agent.installer import repository
from edge_agent.links.fetch import FolderSource
from edge_agent.stores import audit, package
from edge_agent.stores.document import Document
from edge_agent.stores.files import read_bounded
from edge_agent.stores.handover import HandOver
from edge_agent.stores.models import Models
from edge_agent.stores.papers import Papers
from edge_agent.stores.shelf import Shelf
from tests import tiny
from tests.stores.packages import store_at

TIMEOUT_S = 20
KINDS = {
    "pipe": "a named pipe", "device": "a device", "socket": "a socket", "folder": "a folder",
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Whoever waits at a door is called away."""

    def late(_number: int, _frame: object) -> None:
        raise AssertionError(f"still waiting after {TIMEOUT_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(TIMEOUT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=[*KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def put(path: Path, kind: str) -> Path:
    """In place of the file that is there."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as listening:
            here = Path.cwd()
            os.chdir(path.parent)  # the path of a socket is short
            listening.bind(path.name)
            os.chdir(here)
    return path


def test_a_plain_file_is_opened_and_everything_else_is_called_by_its_name(
    kind: str, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"content")
    (tmp_path / "link").symlink_to(plain)
    with open_plain(tmp_path / "link") as file:
        assert file.read() == b"content"
        assert stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "none")
    path = put(tmp_path / "other", kind)
    before = len([*Path("/proc/self/fd").iterdir()])
    for reading in (lambda: open_plain(path), lambda: read_bounded(path, 10)):
        with pytest.raises(Rejected, match=f"read other: expected a plain file, got {KINDS[kind]}"):
            reading()
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_the_stores_refuse_what_is_no_file(kind: str, tmp_path: Path) -> None:
    folder = tiny.write_package(tmp_path / "made")
    manifest = package.read_manifest(folder)
    put(folder / "golden.npz", kind)
    put(tmp_path / "named" / "tiny" / "current", kind)
    tar = put(tmp_path / "tar.eam", kind)
    put(folder.parent / "2.0.0" / "manifest.toml", kind)
    order = Order(folder=str(folder), manifest=manifest, sha="", memory_bytes=1, cpu_s=1)
    doors: tuple[Callable[[], object], ...] = (
        lambda: package.identity(folder, manifest),
        lambda: package.read_manifest(folder.parent / "2.0.0"),
        lambda: Models([tmp_path / "named", tmp_path / "made"], shipped=False).resolve("tiny", ""),
        lambda: store_at(tmp_path / "models").admit(tar, "ab" * 32),
        lambda: held_of(order),
    )
    for door in doors:
        with pytest.raises(Rejected, match=KINDS[kind]):
            door()


def test_a_copy_that_is_no_file_is_a_rotten_one(kind: str, tmp_path: Path) -> None:
    papers = Papers(tmp_path / "rollouts", max_bytes=100)
    papers.write("tiny", b"{}")
    put(tmp_path / "rollouts" / "tiny.json", kind)
    assert papers.read("tiny") == b"{}"
    put(tmp_path / "rollouts" / "tiny.copy.json", kind)
    shelf = Shelf(tmp_path / "models")
    for name in ("pointers.json", "pointers.copy.json"):
        put(tmp_path / "models" / "tiny" / name, kind)
    for reading in (
        lambda: papers.read("tiny"),
        lambda: Document(tmp_path / "rollouts", "tiny").read(),
        lambda: shelf.pointers("tiny"),
    ):
        with pytest.raises(EdgeAgentError, match=KINDS[kind]):
            reading()
    papers.put_aside("tiny")
    papers.write("tiny", b'{"a":1}')
    assert papers.read("tiny") == b'{"a":1}'


def test_the_audit_and_the_hand_over_do_not_wait_either(kind: str, tmp_path: Path) -> None:
    for name in ("audit.log", "audit.000000001.log", "audit.head"):
        put(tmp_path / name, kind)
    assert not audit.log_files(tmp_path)
    assert audit.check(tmp_path).entries == 0
    content = b'{"signed":{"_type":"timestamp","version":1}}'
    hand = HandOver(tmp_path / "handover")
    path = put(hand.folder / "metadata" / "timestamp.json", kind)
    hand.put(content)  # what stood there is put aside
    assert path.read_bytes() == content


def test_the_installer_refuses_what_is_no_file(kind: str, tmp_path: Path) -> None:
    path = put(tmp_path / "some.eam", kind)
    for door in (
        lambda: repository.identify(path),
        lambda: repository.copy(path, tmp_path / "into", lambda *_words: None),
    ):
        with pytest.raises(Rejected, match=f"install some.eam: .*{KINDS[kind]}"):
            door()
    place = Place(models="", tuf=str(tmp_path), engines="", root_file=str(path))
    errand = Errand(verb="wanted", place=place)
    with pytest.raises(ConfigError, match=f"rollouts.root_file: .*{KINDS[kind]}"):  # noqa: SIM117
        with repository.opened(errand):
            pass


def test_a_stick_gives_nothing_but_files(kind: str, tmp_path: Path) -> None:
    put(tmp_path / "metadata" / "timestamp.json", kind)
    with pytest.raises(LinkDown):
        list(FolderSource(tmp_path).open("metadata/timestamp.json", offset=0, max_bytes=10))


def test_the_commands_refuse_what_is_no_file(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*words: str) -> tuple[int, str]:
        code = main(["models", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    config = tmp_path / "config.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\n[models]\nshipped = false\ndirs = ["{tmp_path}/own"]\n'
    )
    options = ("--config", str(config))
    if kind != "folder":
        path = put(tmp_path / "some.eam", kind)
        code, words = asked("verify", str(path))
        assert (code, KINDS[kind] in words) == (exits.CHECK_FAILED, True), words
    folder = tiny.write_package(tmp_path / "own")
    for name in ("golden.npz", "model.onnx"):
        kept = (folder / name).read_bytes()
        put(folder / name, kind)
        code, words = asked("verify", str(folder))
        assert (code, KINDS[kind] in words) == (exits.CHECK_FAILED, True), words
        code, words = asked("info", "tiny", *options)
        assert (code, KINDS[kind] in words) == (exits.CHECK_FAILED, True), words
        (folder / name).rmdir() if kind == "folder" else (folder / name).unlink()
        (folder / name).write_bytes(kept)
    put(folder / "manifest.toml", kind)
    code, words = asked("list", "--json", *options)
    assert code == exits.OK
    for one in json.loads(words)["models"]:
        assert KINDS[kind] in one["fault"]
