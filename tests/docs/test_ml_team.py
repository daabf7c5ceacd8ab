"""docs/ml-team.md is true: each of its commands is typed, in its order, and does what it says.

Real programs throughout: a publisher, a served repository, a broker, a receiver, two devices with a
synthetic picture. Only names of places and how long a trial takes are others than on the page.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests import house
from tests.broker import Broker
from tests.broker import broker as broker  # noqa: PLC0414 - a fixture
from tests.broker import make_broker as make_broker  # noqa: PLC0414 - a fixture
from tests.docs.dark_spot import write_frames, write_model
from tests.docs.page import Block, Desk, Said, blocks, patiently, sitting

FIRST_VERSION_COMES_DOWN: Final = True  # to a stream whose model is nowhere yet
HALTS_ARE_OBEYED: Final = True  # by devices: what is halted or withdrawn stops running there

PAGE: Final = (house.ROOT / "docs" / "ml-team.md").read_text(encoding="utf-8")
BLOCKS: Final = blocks(PAGE)
SHELL: Final = [block for block in BLOCKS if block.kind == "sh"]
QUICK: Final = """
[engine]
realtime = false
lanes = 1
hang_s = 60.0

[console]
http = false
"""
SLOPES: Final = {"1.2.0": -32.0}  # of the versions that say the opposite
LIMITS: Final = {"1.0.0": 60.0, "1.1.0": 62.0, "1.2.0": 62.0, "1.3.0": 63.0}


class Site(NamedTuple):
    """folder: of everything. desk: where the page is typed."""

    folder: Path
    desk: Desk

    def configure(self, node: str, cohort: str) -> Path:
        """The configuration on the page, for this device."""
        text = next(one.text for one in BLOCKS if "[rollouts]" in one.text)
        text = self.desk.meant(text).replace('"cart-1"', f'"{node}"')
        text = text.replace('"canary"', f'"{cohort}"').replace("/state", f"/state-{node}")
        text = re.sub(r"(?m)^insecure = .*$", "", text)  # has no effect on loopback, and it says so
        for key, value in (("shadow_frames", 10), ("probation_frames", 10), ("probation_s", 0.5)):
            text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
            assert count == 1, f"{key} is on the page"
        path = self.folder / "etc" / ("config.toml" if node == "cart-1" else f"{node}.toml")
        path.write_text(text + QUICK + ("" if FIRST_VERSION_COMES_DOWN else self._installed()))
        return path

    def _installed(self) -> str:
        """Instead of a first version that comes down."""
        folder = self.folder / "installed"
        if not folder.exists():
            manifest = ["--manifest", "dark-spot.toml", "--frames", "frames"]
            words = " ".join(["python -m tools.hot_tier pack dark-spot.onnx", *manifest])
            assert self.desk.type(f"{words} --dir {folder}").code == 0
        return f'\n[models]\ndirs = ["{folder}"]\nshipped = false\n'

    def put_model(self, version: str) -> None:
        """What the ML team has trained, in the place where the page looks for it."""
        slope, limit = SLOPES.get(version, 32.0), LIMITS[version]
        write_model(self.folder / "dark-spot.onnx", slope=slope, limit=limit)

    def runs(self, node: str, version: str) -> None:
        """Until `fleet` sees it there: it only looks."""
        fleet = "python -m tools.hot_tier fleet --dry-run --db $HOT/hot-tier.db $WHERE"
        patiently(lambda: holds(f"{node}: dark-spot {version} " in self.desk.type(fleet).out, node))

    def status(self) -> str:
        return self.desk.type("edge-agent status").out


def holds(condition: object, said: object) -> None:
    assert condition, said


@pytest.fixture
def site(tmp_path: Path, broker: Broker) -> Iterator[Site]:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    places = {
        "/srv/edge": str(tmp_path / "hot"),
        "/etc/edge-agent": str(tmp_path / "etc"),
        "/var/lib/edge-agent": str(tmp_path / "state"),
        "--bind 0.0.0.0 --port 8080": f"--port {port}",
        "hot-tier.example:8080": f"127.0.0.1:{port}",
        "broker.example:1883": f"127.0.0.1:{broker.port}",
        "broker.example": "127.0.0.1",
        "port = 1883": f"port = {broker.port}",
    }
    (tmp_path / "etc").mkdir()
    write_frames(tmp_path / "frames", (320, 240))
    with sitting(tmp_path, places) as desk:
        yield Site(tmp_path, desk)


# ── what is seen at each step ─────────────────────────────────────────────────────────────────

Look = Callable[[Site, Said], None]


def sees(*words: str, code: int = 0) -> Look:
    """All of these, and this exit code."""

    def look(_: Site, said: Said) -> None:
        assert said.code == code, said.out
        for word in words:
            assert re.search(word, said.out), f"{word} in:\n{said.out}"

    return look


def packed(site: Site, said: Said) -> None:
    sees(r"on 8 frames: \d+ findings", r"dark-spot-1.0.0.eam: .* sha256")(site, said)


def empty_device(site: Site, said: Said) -> None:
    sees("cart-1", "uplink +connected" if FIRST_VERSION_COMES_DOWN else "cart-1")(site, said)


def came(_: Site, said: Said) -> None:
    sees("cart-1: dark-spot 1.0.0 .*applied", "(?m)^  dark-spot: applied")(_, said)


def staged(site: Site, said: Said) -> None:
    sees("dark-spot 1.1.0: done: ward-a has it")(site, said)
    sees("cart-1: dark-spot 1.1.0", "cart-2: dark-spot 1.1.0")(site, said)


def halted(site: Site, said: Said) -> None:
    why = "1 of 1 nodes of canary refused dark-spot 1.2.0: cart-1: probe: agreement 0."
    sees(f"dark-spot 1.2.0: halt(ed)?: {why}", code=3)(site, said)
    assert "cart-2: dark-spot 1.1.0" in said.out


def event(_: Site, said: Said) -> None:
    assert said.code == 0, said.out
    report = json.loads(json.loads(said.out)["what"])
    assert (report["version"], report["outcome"]) == ("1.2.0", "rejected")


def rolled_back(site: Site, said: Said) -> None:
    sees("dark-spot 1.1.0: rolled_back")(site, said)
    site.runs("cart-1", "1.0.0")


def stopped(site: Site, said: Said) -> None:
    sees("dark-spot 1.3.0: halted: stopped by the publisher", code=3)(site, said)
    if HALTS_ARE_OBEYED:
        site.runs("cart-1", "1.1.0")


def withdrawn(site: Site, said: Said) -> None:
    where = r"halted in desired/ward-a.json, desired/canary.json"
    sees(f"withdrew dark-spot 1.1.0 .*{where}")(site, said)
    if HALTS_ARE_OBEYED:
        site.runs("cart-1", "1.0.0")


def gone(site: Site, said: Said) -> None:
    if HALTS_ARE_OBEYED:
        sees("cart-1: dark-spot 1.0.0", code=3)(site, said)
        assert "cart-2: dark-spot 1.1.0" not in said.out


def everywhere(site: Site, said: Said) -> None:
    sees('"serial":', '"halted":.*misses small regions')(site, said)
    if HALTS_ARE_OBEYED:
        site.runs("cart-1", "1.0.0")
        site.runs("cart-2", "1.0.0")


class Step(NamedTuple):
    """One block of the page. head: how its section begins. before: what somebody has done by then.

    again: somebody types it until the look holds.
    """

    head: str
    look: Look
    again: bool = False
    before: Callable[[Site], object] = lambda _: None


def prepared(site: Site) -> None:
    """What the page asks for in a folder: a model, pictures, its manifest as it stands there."""
    site.put_model("1.0.0")
    manifest = next(one.text for one in BLOCKS if one.kind == "toml" and "[foreign]" in one.text)
    (site.folder / "dark-spot.toml").write_text(manifest)


def enrolled(site: Site) -> None:
    """Both devices have their configuration; the second one starts beside the first."""
    site.configure("cart-1", "canary")
    config = site.configure("cart-2", "ward-a")
    site.desk.stay(f"python -m edge_agent run --config {config}", "cart-2.log")


STEPS: Final = (
    Step("Before", sees()),
    Step("1.", sees("made .*1.root.json", "take root-1, root-2, root-3 and targets out")),
    Step("2.", packed, before=prepared),
    Step("2.", sees(*["pass .*\n.*"] * 4)),
    Step("3.", sees("^dark-spot 1.0.0 [0-9a-f]{64}: .* bytes, whole")),
    Step("4.", sees('"url":')),
    Step("4.", sees('"rx":')),
    Step("5.", sees()),
    Step("5.", sees("warning: .*dark-spot", code=4), before=enrolled),
    Step("5.", sees()),
    Step("5.", empty_device, again=True),
    Step("6.", sees('"serial":1')),
    Step("6.", came, again=True),
    Step("6.", sees("dark-spot +1.0.0 +committed") if FIRST_VERSION_COMES_DOWN else sees()),
    Step("7.", sees("from 1.0.0"), before=lambda site: site.put_model("1.1.0")),
    Step("7.", sees("dark-spot 1.1.0: canary first; hot_tier fleet goes on")),
    Step("7.", staged, again=True),
    Step("8.", sees("canary first"), before=lambda site: site.put_model("1.2.0")),
    Step("8.", halted, again=True),
    Step("8.", sees("dark-spot +1.2.0 +rejected .*probe: agreement 0.")),
    Step("8.", event, again=True),
    Step("9.", sees("dark-spot: held to 1.1.0")),
    Step("9.", sees("dark-spot: free again")),
    Step("9.", rolled_back),
    Step("9.", sees("dark-spot 1.1.0: committed", "free again")),
    Step("10.", sees("canary first"), before=lambda site: site.put_model("1.3.0")),
    Step("10.", stopped),
    Step("11.", withdrawn),
    Step("11.", gone, again=True),
    Step("11.", everywhere),
    Step("Every day", sees()),
)


def test_every_block_of_the_page_has_its_step() -> None:
    assert [block.head.split()[0] for block in SHELL] == [step.head.split()[0] for step in STEPS]


@pytest.mark.timeout(120)
def test_a_model_is_packed_and_published_as_the_page_says_it(site: Site) -> None:
    """The desk's part of the way; the devices' part takes minutes."""
    desk = next(number for number, block in enumerate(SHELL) if block.stays)
    walk_all(site, SHELL[:desk], STEPS[:desk])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_whole_way_of_a_model_as_the_page_says_it(site: Site) -> None:
    walk_all(site, SHELL, STEPS)


def walk_all(site: Site, shell: Sequence[Block], steps: Sequence[Step]) -> None:
    for number, (block, step) in enumerate(zip(shell, steps, strict=True)):
        step.before(site)
        try:
            walk(site, block, step)
        except AssertionError as wrong:
            note = f"step {number}, {block.head}:\n{block.text}\n{wrong}\n{site.desk.logs()}"
            raise AssertionError(f"{note}\n{site.status()}") from None
        if block.head.startswith("Before"):
            site.desk.settings = site.desk.meant(block.text)


def walk(site: Site, block: Block, step: Step) -> None:
    if block.stays:
        log = site.desk.stay(block.text, f"{step.head}{len(site.desk.logs())}.log")
        patiently(lambda: step.look(site, Said(0, log.read_text())))
    elif step.again:
        patiently(lambda: step.look(site, site.desk.type(block.text)))
    else:
        step.look(site, site.desk.type(block.text))
