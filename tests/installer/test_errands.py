"""Errands by real processes against a real repository over HTTP, a stick, and nobody at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from edge_agent.core.errors import (
    BadPackage,
    ConfigError,
    Damaged,
    LinkDown,
    Overloaded,
    Rejected,
)
from edge_agent.errands import Errand, Place
from edge_agent.installer import work
from edge_agent.services.rollouts import Installers
from edge_agent.stores.installed import Installed
from tests.installer import rascals
from tests.installer.hot_side import NODE, HotSide

pytestmark = pytest.mark.anyio


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[HotSide]:
    hot = HotSide(tmp_path / "hot")
    with hot.serving():
        yield hot


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return tmp_path / "device"


async def run(errand: Errand, told: list[tuple[str, dict[str, Any]]] | None = None) -> Any:
    def hear(what: str, facts: Mapping[str, object]) -> None:
        if told is not None:
            told.append((what, dict(facts)))

    return await Installers().run(errand, hear)


async def test_what_is_wanted_is_fetched_installed_and_proved(hot: HotSide, device: Path) -> None:
    sha = hot.publish("1.1.0").sha256
    serial = hot.want("1.1.0")
    facts = await run(hot.errand("wanted", device))
    (target,) = facts["desired"]
    assert target == f"desired/{NODE}.json"
    assert f'"serial":{serial}' in facts["desired"][target]
    told: list[tuple[str, dict[str, Any]]] = []
    named = {"model": "tiny", "version": "1.1.0", "sha": sha}
    facts = await run(hot.errand("fetch", device, **named), told)
    assert facts["via"] == "full"
    assert facts["fetched_bytes"] == facts["length_bytes"]
    assert told[-2] == ("bytes", {"done": facts["length_bytes"], "of": facts["length_bytes"]})
    assert told[-1][0] == "fetched"
    again = await run(hot.errand("fetch", device, **named))
    assert (again["via"], again["fetched_bytes"]) == ("here", 0)
    facts = await run(hot.errand("prove", device, **named))
    assert facts["golden_samples"] == 1
    store = Installed(device / "models", limit_bytes=1 << 30)
    assert [one.sha for one in store.have()] == [sha]
    assert not list((device / "models" / ".incoming").iterdir())


async def test_the_next_version_comes_as_a_delta_of_what_is_here(
    hot: HotSide, device: Path
) -> None:
    first = hot.publish("1.1.0").sha256
    second = hot.publish("1.2.0").sha256
    for sha, version in ((first, "1.1.0"), (second, "1.2.0")):
        named = {"model": "tiny", "version": version, "sha": sha}
        facts = await run(hot.errand("fetch", device, **named))
    assert facts["via"] == "delta"
    assert facts["fetched_bytes"] < 0.5 * facts["length_bytes"]


async def test_a_repository_that_is_away_is_weather(hot: HotSide, device: Path) -> None:
    place = hot.place(device, repositories=("http://127.0.0.1:9/",))
    with pytest.raises(LinkDown):
        await run(hot.errand("wanted", device, place=place))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sha": "f" * 64}, "expected a signed target, got none"),
        ({"version": "9.0.0"}, "expected tiny 9.0.0"),
        ({"agent": "0.0.1"}, "expected agent '0.1.0' or newer, got 0.0.1"),
    ],
)
async def test_what_was_not_signed_so_is_not_fetched(
    hot: HotSide, device: Path, fields: dict[str, str], words: str
) -> None:
    named = {"model": "tiny", "version": "1.1.0", "sha": hot.publish("1.1.0").sha256}
    errand = hot.errand("fetch", device, **named)
    with pytest.raises(Rejected, match=words) as caught:
        await run(type(errand)(**{**_fields(errand), **fields}))
    assert not isinstance(caught.value, BadPackage)  # it may be another thing tomorrow


def _fields(errand: Errand) -> dict[str, Any]:
    return {name: getattr(errand, name) for name in errand.__struct_fields__}


async def test_without_the_bootstrap_root_it_is_said_what_is_missing(
    hot: HotSide, device: Path
) -> None:
    with pytest.raises(ConfigError, match=r"rollouts.root_file: read .*: No such file") as caught:
        await run(hot.errand("wanted", device, place=hot.place(device, root_file="/none")))
    assert "1.root.json" in caught.value.hint


async def test_a_file_is_installed_when_the_repository_around_it_has_signed_it(
    hot: HotSide, device: Path
) -> None:
    sha = hot.publish("1.1.0").sha256
    (file,) = (hot.house.folder / "targets" / "models" / "tiny").glob("*.eam")
    place = hot.place(device, repositories=())
    facts = await run(hot.errand("adopt", device, place=place, file=str(file)))
    assert facts == {"model": "tiny", "version": "1.1.0", "sha": sha, "unsigned": False}


async def test_a_file_that_nobody_signed_is_refused_unless_the_operator_said_so(
    hot: HotSide, device: Path, tmp_path: Path
) -> None:
    tar, sha = rascals.packed(rascals.write(tmp_path / "mine"))
    with pytest.raises(Rejected, match="expected a signed target, got none"):
        await run(hot.errand("adopt", device, file=str(tar)))
    errand = hot.errand("adopt", device, file=str(tar), allow_unsigned=True)
    assert (await run(errand))["unsigned"]
    assert Installed(device / "models", limit_bytes=1 << 30).folder(sha) is not None
    no_root = hot.place(device / "other", root_file="")
    with pytest.raises(Rejected, match="nobody whose signature counts has signed tiny"):
        await run(hot.errand("adopt", device, place=no_root, file=str(tar)))


async def test_what_is_no_package_is_refused(hot: HotSide, device: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.eam"
    junk.write_bytes(b"\0" * 2048)
    for file in (str(junk), "/none.eam"):
        with pytest.raises(Rejected):
            await run(hot.errand("adopt", device, file=file, allow_unsigned=True))


async def test_a_stick_is_asked_first_and_needs_no_network(hot: HotSide, device: Path) -> None:
    hot.publish("1.1.0")
    serial = hot.want("1.1.0")
    place = hot.place(device, repositories=("http://127.0.0.1:9/",), extra=(str(hot.house.folder),))
    facts = await run(hot.errand("wanted", device, place=place))
    assert f'"serial":{serial}' in facts["desired"][f"desired/{NODE}.json"]


async def test_an_installer_that_is_killed_is_weather_and_one_nobody_waits_for_is_ended(
    hot: HotSide, device: Path
) -> None:
    named = {
        "model": "tiny",
        "version": "1.1.0",
        "sha": hot.publish("1.1.0", fault="endless").sha256,
    }
    await run(hot.errand("fetch", device, **named))
    errand = hot.errand("prove", device, **named)
    async with anyio.create_task_group() as group:

        async def expect() -> None:
            with pytest.raises((Overloaded, LinkDown), match=r"the installer (died|broke off)"):
                await run(errand)

        group.start_soon(expect)
        while not (found := children()):
            await anyio.sleep(0.01)
        await anyio.sleep(0.5)
        os.kill(found[0], 9)
    async with anyio.create_task_group() as group:
        group.start_soon(run, errand)
        while not children():
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert not children()


async def test_a_download_that_went_bad_here_is_fetched_afresh(hot: HotSide, device: Path) -> None:
    """It was said of the package, for ever."""
    sha = hot.publish("1.1.0").sha256
    named = {"model": "tiny", "version": "1.1.0", "sha": sha}
    tar = device / "models" / ".incoming" / sha / work.TAR
    errand = hot.errand("fetch", device, **named)

    def say(_what: str, **_facts: object) -> None:
        return

    for harm in ("rotten", "cut", "gone"):
        await anyio.to_thread.run_sync(work.download, errand, say)
        content = bytearray(tar.read_bytes())
        if harm == "gone":
            tar.unlink()
        else:
            content[600] ^= 1
            tar.write_bytes(content[: -512 if harm == "cut" else None])
        with pytest.raises(Damaged, match="expected the bytes that were signed, got"):
            work.admit(errand)
        assert not tar.parent.exists()
    facts = await run(hot.errand("fetch", device, **named))
    assert facts["fetched_bytes"] == facts["length_bytes"]


async def test_what_was_signed_and_is_no_package_is_a_bad_one(
    hot: HotSide, device: Path, tmp_path: Path
) -> None:
    """Its bytes are right, so that whoever fetches them again gets the same."""
    folder = rascals.write(tmp_path / "new", name="other")
    tar, other = rascals.packed(folder)
    junk = b"\0" * 2048
    for body, model, words in (
        (junk, "tiny", "read package: expected a tar|cut off|expected zeros"),
        (tar.read_bytes(), "tiny", "expected a package of tiny, got one of other"),
    ):
        sha = hashlib.sha256(body).hexdigest()
        place = device / "models" / ".incoming" / sha
        place.mkdir(parents=True)
        (place / work.TAR).write_bytes(body)
        with pytest.raises(BadPackage, match=words):
            work.admit(hot.errand("fetch", device, model=model, version="1.0.0", sha=sha))
    assert Installed(device / "models", limit_bytes=1 << 30).folder(other) is not None


def children() -> list[int]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def test_what_was_prepared_goes_with_its_package(tmp_path: Path) -> None:
    device, made = tmp_path / "device", tmp_path / "made"
    store = Installed(device / "models", limit_bytes=64 << 20)
    sha = rascals.install(store, rascals.write(made))
    engines = device / "engines"
    engines.mkdir()
    for name in (f"{sha[:32]}-fp32-ort1-x.onnx", f"{'0' * 32}-fp32-ort1-x.onnx"):
        (engines / name).write_bytes(b"x" * 100)
    place = Place(models=str(device / "models"), tuf=str(device / "tuf"), engines=str(engines))
    errand = Errand(verb="collect", place=place, keep=(sha,))
    assert work.collect(errand, lambda *_: None) == {"freed_bytes": 100}
    assert [path.name[:32] for path in engines.iterdir()] == [sha[:32]]
    gone = Errand(verb="collect", place=place)
    work.collect(gone, lambda *_: None)
    assert list(engines.iterdir()) == []
    assert store.have() == []
