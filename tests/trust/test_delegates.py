"""Who may sign what; and desired states over a road that anybody may write on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.core.errors import LinkDown
from edge_agent.links.fetch import HttpSource
from tests.trust.denials import refused, serves
from tests.trust.site import DESIRED, MODEL, Site, path_of
from tools.hot_tier.serve import serving


def test_a_family_cannot_sign_for_another(site: Site) -> None:
    path = site.publish()
    foreign = b"a model that its family never saw"
    with site.house.change() as draft:
        draft.delegate("models-endo-polyp", ["models/endo-polyp/*"])
        draft.put("models-endo-polyp", path_of(foreign), foreign)
    with refused(site, "unknown-target") as trust:
        trust.refresh()
        trust.target(path_of(foreign))
    serves(site, path)


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "models/../../x", "models//x", "models/x\0", "", "a" * 999]
)
def test_a_target_that_escapes_is_never_looked_for(site: Site, path: str) -> None:
    with site.house.change() as draft:
        draft.delegate("nodes", ["*", "*/*", "*/*/*", "*/*/*/*"])
        target = draft.put("nodes", "plain", b"x")
        draft.role("nodes").targets[path] = type(target)(1, target.hashes, path or "plain")
    with refused(site, "path") as trust:
        trust.refresh()
        trust.target(path)


def test_a_link_on_a_stick_leads_nowhere(site: Site, tmp_path: Path) -> None:
    path = site.publish()
    (tmp_path / "secret").write_bytes(MODEL)
    stick = site.copy("stick")
    place = stick / site.stored(path).relative_to(site.folder)
    place.unlink()
    place.symlink_to(tmp_path / "secret")
    with site.device(stick) as trust:
        trust.refresh()
        with pytest.raises(LinkDown, match="free of links"):
            trust.read(path, 1 << 20)


# ── desired state over plain HTTP ─────────────────────────────────────────────────────────────


def test_a_forged_desired_state_is_refused_and_so_is_a_replayed_one(site: Site) -> None:
    old = site.want(7)
    replay = site.copy("old")
    new = site.want(8)
    with serving(site.folder) as server, site.device(HttpSource(server.url)) as trust:
        trust.refresh()
        assert trust.desired(DESIRED) == new
        assert trust.memory.serials == {DESIRED: 8}
    forged = json.dumps({"schema": 1, "serial": 9, "models": {}}).encode()
    for content in (forged, old):
        with serving(site.folder) as server, refused(site, "hash", HttpSource(server.url)) as trust:
            trust.refresh()
            trust.desired(DESIRED, content=content)  # by MQTT: the bytes that came
        stored = site.stored(DESIRED)
        stored.write_bytes(content)
        with serving(site.folder) as server, refused(site, "hash", HttpSource(server.url)) as trust:
            trust.refresh()
            trust.desired(DESIRED)
        stored.write_bytes(new)
    with serving(replay) as server, refused(site, "rollback", HttpSource(server.url)) as trust:
        trust.refresh()
    site.want(6)  # signed, and yet a step back
    with refused(site, "rollback") as trust:
        trust.refresh()
        trust.desired(DESIRED)


@pytest.mark.parametrize(
    "odd",
    [
        {"only_if": "night"},
        {"expires": "tomorrow"},
        {"models": {"tiny": {"version": "1.0.0", "sha256": "a" * 64, "window": "25:00-26:00"}}},
    ],
)
@pytest.mark.parametrize("corrected", [7, 9, 10])
def test_a_signed_state_that_is_not_understood_burns_no_serial(
    site: Site, odd: dict[str, Any], corrected: int
) -> None:
    site.want(6)
    with site.device() as trust:
        trust.refresh()
        trust.desired(DESIRED)
    site.want(9, **odd)
    with refused(site, "malformed", match=next(iter(odd))) as trust:  # and it remembers serial 6
        trust.refresh()
        trust.desired(DESIRED)
    body = site.want(corrected)
    with site.device() as trust:
        trust.refresh()
        assert trust.desired(DESIRED) == body
        assert trust.memory.serials == {DESIRED: corrected}
