"""Whose fault it is that something took too long: time that was not its own counts for nothing."""

from __future__ import annotations

import pytest

from edge_agent.core.blame import Spent, free_bytes_of, is_of_memory, spent_of

STAT = "{pid} (a (thread) of us) {state} 1 2 3 4 5 6 7 8 9 10 {user} {system} 0 0 20 10 1 0"


def stat(state: str, ticks: int = 0) -> str:
    return STAT.format(pid=7, state=state, user=ticks, system=0)


@pytest.mark.parametrize(
    ("spent", "own_s", "why"),
    [
        (Spent(10e6, 0, is_held=True), 10.0, "on a core all the time"),
        (Spent(1e6, 9e6, is_held=True), 1.0, "runnable, without a core"),
        (Spent(1e6, 0, is_held=True), 1.0, "runnable still, and its waiting not yet told"),
        (Spent(0.1e6, 0), 10.0, "asleep by its own will"),
        (Spent(1e6, 8e6), 2.0, "waited, and asleep at last"),
        (Spent(10e6, 30e6, is_held=True), 10.0, "four threads of its own on one core"),
    ],
)
def test_time_is_its_own_on_a_core_or_asleep(spent: Spent, own_s: float, why: str) -> None:
    assert spent.own_us(10e6) == own_s * 1e6, why


@pytest.mark.parametrize(
    ("state", "is_held"), [("R", True), ("D", True), ("T", True), ("S", False)]
)
def test_threads_are_summed(state: str, is_held: bool) -> None:
    told = spent_of([("2000000 500000 3", stat("S")), ("1000000 0 1", stat(state))])
    assert told == Spent(3000.0, 500.0, is_held)
    assert told.since(Spent(1000.0, 500.0)) == Spent(2000.0, 0.0, is_held)


def test_a_kernel_without_schedstat_tells_time_on_a_core_by_ticks() -> None:
    assert spent_of([("", stat("R", 25))]) == Spent(250_000.0, 0.0, is_held=True)
    assert spent_of([("0 0 0", stat("R", 25))]).ran_us == 250_000.0


@pytest.mark.parametrize(
    ("words", "is_so"),
    [
        ("std::bad_alloc", True),
        ("[ONNXRuntimeError] : Failed to allocate memory for requested buffer", True),
        ("Unable to allocate 64.0 GiB for an array", True),
        ("Protobuf parsing failed.", False),
    ],
)
def test_runtimes_speak_of_memory_in_words(words: str, is_so: bool) -> None:
    assert is_of_memory(words) is is_so


def test_free_memory_is_what_the_kernel_reckons_or_unknown() -> None:
    assert free_bytes_of("MemTotal: 9 kB\nMemAvailable:   12 kB\n") == 12 << 10
    assert free_bytes_of("") is None
    assert free_bytes_of("MemAvailable:\nMemAvailable: much\n") is None


def test_what_the_kernel_does_not_tell_counts_for_nothing() -> None:
    whole = ("2000000 500000 3", stat("S"))
    torn = [("", ""), ("x y z", stat("R")), ("1", stat("R")), ("1 2 3", "7 (a) R 1")]
    assert spent_of([whole, *torn]) == spent_of([whole])
