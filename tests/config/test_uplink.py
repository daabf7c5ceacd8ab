from __future__ import annotations

import pytest

from edge_agent.config.check_uplink import is_loopback, port_of
from edge_agent.config.load import load_text
from edge_agent.config.structs import UplinkConfig

CAMERA = (
    '[streams.a]\nsource = { kind = "video", where = "/dev/video0" }\n'
    'models = [{ name = "endo-polyp" }]\n'
)


def problems(uplink: str) -> list[str]:
    text = load_text(f"{CAMERA}[uplink]\nenabled = true\n{uplink}\n", file="c").text()
    return text.splitlines()


@pytest.mark.parametrize(
    "uplink",
    [
        "",
        'host = "localhost"',
        'host = "127.0.0.9"\nusername = "cart"\npassword_file = "/etc/ea/mqtt"',
        'host = "::1"',
        'host = "broker.ward-3.example"\ntls = true\nport = 443',
        'host = "10.0.0.7"\ntls = true\ncert_file = "/c"\nkey_file = "/k"\nca_file = "/a"',
    ],
)
def test_a_sound_road_has_no_problem(uplink: str) -> None:
    assert problems(uplink) == []


@pytest.mark.parametrize(
    ("uplink", "wanted"),
    [
        ('host = "10.0.0.7"', "uplink.host — plain TCP to 10.0.0.7 (expected TLS, or a broker"),
        ('host = "localhost.example"', "uplink.host — plain TCP to localhost.example"),
        ('host = "a/b"', "uplink.host — wrong value (expected a host name or an address"),
        ('tls = true\ncert_file = "/c"', "uplink.cert_file — without key_file"),
        ('tls = true\nkey_file = "/c"', "uplink.key_file — without cert_file"),
        ('username = "x"\npassword_file = "p"', "uplink.password_file — relative"),
        ('password_file = "/p"', "uplink.password_file — without username"),
        ("seal = true", "uplink.seal — without hot_tier_keys (expected the key to seal to)"),
        ('hot_tier_keys = "x.pub"', "uplink.hot_tier_keys — relative"),
        ("publishes_per_s = 0", "uplink.publishes_per_s — wrong value"),
        ("twin_every_s = 1", "uplink.twin_every_s — wrong value (expected a number at least 10"),
        ('ns = "Default"', "uplink.ns — wrong value (expected a name"),
    ],
)
def test_what_does_not_go_together_is_an_error(uplink: str, wanted: str) -> None:
    (problem,) = problems(uplink)
    assert problem.partition(": ")[2].startswith(wanted), problem


@pytest.mark.parametrize(
    ("uplink", "wanted"),
    [
        ('host = "10.0.0.7"\ninsecure = true', "uplink.insecure — plain TCP to 10.0.0.7: whoever"),
        ("insecure = true", "uplink.insecure — has no effect here"),
        ('ca_file = "/ca"', "uplink.ca_file — has no effect without tls"),
        ("tls = true\nport = 1883", "uplink.port — 1883 is the port without TLS"),
        ("publishes_per_s = 30", "uplink.publishes_per_s — EdgeCore passes on 30"),
    ],
)
def test_what_is_odd_but_works_is_a_warning(uplink: str, wanted: str) -> None:
    (problem,) = problems(uplink)
    assert problem.partition(": warning: ")[2].startswith(wanted), problem


def test_the_port_follows_from_the_kind_of_road() -> None:
    assert port_of(UplinkConfig()) == 1883
    assert port_of(UplinkConfig(tls=True)) == 8883
    assert port_of(UplinkConfig(tls=True, port=443)) == 443


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1"])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example")
