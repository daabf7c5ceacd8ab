"""The wanted state: what is taken, what is refused, what follows, and when a swap may be."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import desired as ds
from edge_agent.core.desired import Memory, Pin, Standing
from edge_agent.core.errors import Rejected
from edge_agent.core.moment import Idle, is_open, waits_for

A, B = "a" * 64, "b" * 64
HALT = {"sha256": B, "version": "1.0.0", "reason": "found nothing"}
NOW = dt.datetime(2026, 11, 25, tzinfo=dt.timezone.utc)


def document(serial: int = 5, sha: str = A, **more: Any) -> dict[str, Any]:
    models = {"us-chamber": {"version": "1.1.0", "sha256": sha}}
    return {"schema": 1, "serial": serial, "models": models, **more}


def read(**more: Any) -> ds.Desired:
    return ds.read(msgspec.json.encode(document(**more)), "desired/cart-3.json")


def test_a_whole_document_is_read() -> None:
    wanted = read(config={"version": "7", "sha256": B}, expires="2027-01-01T00:00:00Z")
    assert wanted.models["us-chamber"].mode == "swap"
    assert wanted.config == ds.WantedConfig(version="7", sha256=B)


def test_what_is_halted_is_read_in_order_and_left_out_where_nothing_is() -> None:
    wanted = read(halted={"us-chamber": [HALT, {**HALT, "sha256": A}]})
    assert wanted.halted["us-chamber"][0] == ds.Halt(
        sha256=B, version="1.0.0", reason="found nothing"
    )
    assert ds.read(msgspec.json.encode(wanted), "again") == wanted
    assert b"halted" not in msgspec.json.encode(read())  # older agents know no such key


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"only_if": "night"}, "unknown field `only_if`"),
        ({"schema": 2}, "schema"),
        ({"serial": -1}, "serial"),
        ({"sha": "A" * 64}, "sha256"),
        ({"expires": "tomorrow"}, "expires: expected a time"),
        ({"expires": "2027-01-01T00:00:00"}, "expires: expected a time"),
        ({"models": {"../x": {"version": "1.0.0", "sha256": A}}}, "models"),
        ({"models": {"m": {"version": "1.0.0", "sha256": A, "window": "25:00-26:00"}}}, "window"),
        ({"models": {"m": {"version": "1.0.0", "sha256": A, "mode": "force"}}}, "mode"),
        ({"halted": {"m": [{"sha256": A, "version": "1.0.0", "until": "noon"}]}}, "until"),
        ({"halted": {"m": [{"sha256": "x", "version": "1.0.0"}]}}, "sha256"),
        ({"halted": {"m": [HALT] * 17}}, "length <= 16"),
        ({"halted": {f"m{n}": [HALT] for n in range(65)}}, "length <= 64"),
        ({"halted": {"m": [{**HALT, "reason": "x" * 201}]}}, "length <= 200"),
    ],
)
def test_what_is_not_understood_refuses_the_whole_document(
    more: dict[str, Any], words: str
) -> None:
    with pytest.raises(Rejected, match=words):
        read(**more)


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_read_or_rejected(raw: bytes) -> None:
    with pytest.raises(Rejected):
        ds.read(raw, "desired/x.json")


def test_a_lower_serial_is_refused_an_equal_one_is_nothing_to_do_gaps_are_normal() -> None:
    memory, why = ds.hear(Memory(), "desired/cart-3.json", read(serial=5), NOW)
    assert (memory.serial, why) == (5, "")
    memory, why = ds.hear(memory, "desired/cart-3.json", read(serial=4), NOW)
    assert memory.serial == 5
    assert "serial 4 is older than 5" in why
    again, why = ds.hear(memory, "desired/cart-3.json", read(serial=5), NOW)
    assert (again.desired, why) == (memory.desired, "")
    memory, why = ds.hear(memory, "desired/cart-3.json", read(serial=900), NOW)
    assert (memory.serial, why) == (900, "")


def test_one_serial_has_one_content() -> None:
    memory, _ = ds.hear(Memory(), "t", read(serial=5), NOW)
    memory, why = ds.hear(memory, "t", read(serial=5, sha=B), NOW)
    assert "came twice with different content" in why
    assert memory.desired == read(serial=5)


def test_an_expired_one_starts_nothing_and_without_a_clock_none_is() -> None:
    late = read(expires="2026-11-24T00:00:00Z")
    assert "expired" in ds.hear(Memory(), "t", late, NOW)[1]
    assert not ds.hear(Memory(), "t", late, None)[1]


def test_the_highest_serial_counts_and_of_two_equal_ones_the_nodes_own() -> None:
    node, cohort = "desired/cart-3.json", "desired/carts.json"
    assert ds.newest({node: read(serial=5), cohort: read(serial=6)}, node) == cohort
    assert ds.newest({cohort: read(serial=6), node: read(serial=6)}, node) == node
    assert ds.newest({}, node) == ""


def plan(memory: Memory, **standing: Any) -> ds.Plan:
    return ds.plan(memory, {"us-chamber": Standing(**standing)})


def test_a_pin_wins_over_any_serial_unless_it_pins_what_is_wanted() -> None:
    memory, _ = ds.hear(Memory(), "t", read(), NOW)
    assert plan(memory, current=B).offers["us-chamber"].serial == 5
    assert plan(memory, current=A).offers == {}
    held = msgspec.structs.replace(memory, pins={"us-chamber": Pin(version="1.0.0")})
    note = ds.Note(ds.Became.PINNED, "an operator holds it to 1.0.0")
    assert plan(held, current=B) == ({}, {"us-chamber": note})
    same = msgspec.structs.replace(memory, pins={"us-chamber": Pin(version="1.1.0")})
    assert plan(same, current=B).offers
    told = plan(memory, current=B, held="1.0.0").notes["us-chamber"]
    assert told == (ds.Became.HELD, "the configuration holds it to 1.0.0")


def test_a_model_that_no_stream_runs_is_only_staged() -> None:
    memory, _ = ds.hear(Memory(), "t", read(), NOW)
    assert ds.plan(memory, {}).notes == {"us-chamber": (ds.Became.UNUSED, "no stream runs it")}
    staged = {"us-chamber": {"version": "1.1.0", "sha256": A, "mode": "stage"}}
    memory, _ = ds.hear(Memory(), "t", read(models=staged), NOW)
    assert ds.plan(memory, {}).offers["us-chamber"].mode == "stage"


def test_the_memory_comes_back_from_its_bytes() -> None:
    memory, _ = ds.hear(Memory(pins={"m": Pin(version="1.0.0", by="uid 0")}), "t", read(), NOW)
    assert ds.decode(ds.encode(memory)) == memory


# ── the moment ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("window", "hour", "expected"),
    [("22:00-05:00", 23, True), ("22:00-05:00", 4, True), ("22:00-05:00", 5, False),
     ("08:00-12:00", 8, True), ("08:00-12:00", 12, False), ("", 3, True)],
)  # fmt: skip
def test_a_window_may_lead_over_midnight(window: str, hour: int, expected: bool) -> None:
    assert is_open(window, hour * 60) is expected


def waits(policy: Any, idle: dict[str, Idle], window: str = "", minute: int = 0) -> str:
    policies = dict.fromkeys(("us-1", "us-2"), policy)
    return waits_for(policies, idle, window=window, house_window="22:00-05:00", minute=minute)


def test_between_exams_every_stream_has_to_be_free() -> None:
    busy, free, dark = Idle(exam="e1"), Idle(since_exam_s=61), Idle(exam="e1", no_signal_s=60)
    assert waits("between_exams", {"us-1": free, "us-2": dark}) == ""
    assert waits("between_exams", {"us-1": free, "us-2": busy}).startswith("us-2: an exam")
    assert waits("between_exams", {"us-1": free, "us-2": Idle(since_exam_s=59)})
    assert waits("now", {"us-1": busy, "us-2": busy}) == ""


def test_a_wanted_window_holds_whatever_the_policy() -> None:
    assert waits("now", {}, window="22:00-05:00", minute=12 * 60) == "its window 22:00-05:00"
    assert waits("window", {}, minute=12 * 60) == "us-1: the window 22:00-05:00"
    assert waits("window", {}, minute=23 * 60) == ""
