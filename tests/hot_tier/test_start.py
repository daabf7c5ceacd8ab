"""What cannot be as it was asked for is said at the start, with the way out."""

from __future__ import annotations

import socket
from pathlib import Path

import anyio
import pytest

from edge_agent.core.errors import ConfigError
from tools.hot_tier import HotTier, HttpRoad
from tools.hot_tier.__main__ import main


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--http", "99999"], "a port, 0 to 65535"),
        (["--http", "-1"], "a port, 0 to 65535"),
        (["--mqtt", "broker:0"], "a port from 1 to 65535"),
        (["--http", "0", "--router", "cloudcore:9443"], "http://HOST:PORT"),
        (["--http", "0", "--node", "Ward.3"], "a name of lower case"),
        (["--http", "0", "--relay", "Ward.3"], "a name of lower case"),
        (["--http", "0", "--ns", "a/b"], "a name of lower case"),
        (["--http", "0", "--raw-max-mib", "0"], "expected 1 to"),
        ([], "give --mqtt, --http, or both"),
    ],
)
def test_wrong_words_are_refused_with_what_was_expected(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["receive", "--db", str(tmp_path / "db"), *words])
    assert said in capsys.readouterr().err


@pytest.mark.anyio
async def test_a_database_without_its_folder_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="make its folder"):
        async with HotTier(tmp_path / "none" / "db", HttpRoad(0)):
            pass


@pytest.mark.anyio
async def test_a_second_receiver_says_what_is_in_its_way(tmp_path: Path) -> None:
    road = HttpRoad(0)
    async with HotTier(tmp_path / "db", road):
        with pytest.raises(ConfigError, match="in use by another receiver"):
            async with HotTier(tmp_path / "db", HttpRoad(0)):
                pass
        async with HotTier(tmp_path / "other", HttpRoad(road.port)) as second:
            (one,) = second.sheet()["problems"]
            assert one["code"] == "road-down"
            assert "--http 0" in one["fix"]


@pytest.mark.anyio
async def test_a_port_that_is_free_again_is_taken_and_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tier = HotTier(tmp_path / "db", HttpRoad(taken.getsockname()[1]))
        async with tier:
            assert [one["code"] for one in tier.sheet()["problems"]] == ["road-down"]
            taken.close()
            with anyio.fail_after(20):
                while tier.sheet()["problems"]:
                    await anyio.sleep(0.05)


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
async def test_an_address_of_another_machine_is_told_with_bind(tmp_path: Path, host: str) -> None:
    async with HotTier(tmp_path / "db", HttpRoad(0, host=host)) as tier:
        (one,) = tier.sheet()["problems"]
        assert one["code"] == "road-down"
        assert "--bind" in one["fix"]
