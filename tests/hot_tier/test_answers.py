"""When what is said to whom; and who is there twice. No clock but the one that is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.core import edgecore, signed
from edge_agent.core.edgecore import Ack, Topics
from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import LogKey
from edge_agent.core.wire.outcome import Need
from edge_agent.links.road_keys import RoadSigner, RoadVerifier
from tools.hot_tier.answers import Answers, Letter
from tools.hot_tier.desk import Asked, Outcome
from tools.hot_tier.epochs import Epochs
from tools.hot_tier.papers import Docs
from tools.hot_tier.receiver import Log

S = 1_000_000
TOPICS = Topics.of("default", "a")


def log(n: int = 1, *, upto: int = 5, floor: int = 1, holes: int = 0) -> Log:
    key = LogKey("a", f"s{n}", RecordClass.RESULT, (1 << 62) + n)
    big = 10**9
    have = tuple((big + 3 * i, big + 3 * i) for i in range(holes))
    return Log(id=n, key=key, upto=upto, floor=floor, next=2 * big, have=have)


def answers() -> Answers:
    return Answers("rx", n=1 << 32, dicts=("0123456789abcdef",))


def changed(*logs: Log, carrier: str = "a") -> Outcome:
    return Outcome(
        logs={one.key: one for one in logs},
        touched={carrier: dict.fromkeys(one.key for one in logs)},
        docs={carrier: {}},
    )


def asked(nonce: str, *logs: Log) -> Outcome:
    outcome = changed(*logs)
    keys = tuple(one.key for one in logs)
    outcome.asked.append(Asked("a", "a", nonce, keys, frozenset()))
    return outcome


def read(letters: Iterable[Letter]) -> list[Ack]:
    """As the node reads it."""
    found = []
    for letter in letters:
        assert len(letter.payload) <= 32_000
        said = edgecore.read(TOPICS, TOPICS.down(letter.what), letter.payload)
        assert isinstance(said, Ack)
        found.append(said)
    return found


def test_each_probe_is_answered_at_once_with_its_nonce() -> None:
    at = answers()
    at.took(asked("n1", log()))
    at.took(asked("n2", log(2)))
    said = read(at.due(0))
    assert [(ack.echo, ack.acks[0].stream, ack.acks[0].upto) for ack in said] == [
        ("n1", "s1", 5),
        ("n2", "s2", 5),
    ]
    assert said[0].can.dicts == ("0123456789abcdef",)
    assert said[0].n < said[1].n
    assert at.due(100_000) == []


def test_a_change_is_told_at_once_and_then_four_times_a_second() -> None:
    at = answers()
    times = []
    for ms in range(1000):
        if ms % 10 == 0:
            at.took(changed(log(upto=ms + 1)))
        times += [ms for _ in at.due(ms * 1000)]
    assert times == [0, 250, 500, 750]
    (last,) = read(at.due(S))
    assert (last.echo, last.acks[0].upto) == ("", 991)


def test_what_was_told_is_repeated_ever_more_seldom_until_the_floor_has_passed() -> None:
    at = answers()
    at.took(changed(log(upto=5, floor=1)))
    times = [s for s in range(200) if at.due(s * S)]
    assert times == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    at.took(changed(log(upto=5, floor=6)))
    assert len(at.due(200 * S)) == 1
    assert at.wake_us() is None


def test_repeats_go_on_for_a_day_once_a_minute_and_end() -> None:
    """They wake an edge whose questions have become rare: after an outage of a day, too."""
    at = answers()
    at.took(changed(log()))
    told = [s for s in range(0, 100_000, 5) if at.due(s * S)]
    assert 24 * 3600 < told[-1] <= 25 * 3600
    assert len(told) <= 25 * 60 + 10
    assert at.wake_us() is None


def test_many_logs_full_of_holes_are_cut_into_letters_within_bounds() -> None:
    at = answers()
    logs = [log(n, holes=4000) for n in range(1, 65)]
    at.took(asked("n", *logs))
    said = read(at.due(0))
    assert sum(len(ack.acks) for ack in said) == 64
    assert all(len(one.have) == 32 for ack in said for one in ack.acks)
    assert {ack.echo for ack in said} == {"n"}


def test_signed_letters_are_within_bounds_name_the_question_and_wait_for_the_first() -> None:
    signer = RoadSigner(Ed25519PrivateKey.generate())
    at = Answers("r" * 64, n=1 << 60, dicts=("0123456789abcdef",), signer=signer)
    at.took(changed(log()))
    assert at.due(0) == []  # nobody asked yet
    nonce = "n" * 64
    at.took(asked(nonce, *(log(n, holes=4000) for n in range(1, 65))))
    letters = at.due(S)
    assert max(len(letter.payload) for letter in letters) > 0.9 * edgecore.MAX_DOWN_BYTES
    assert sum(len(ack.acks) for ack in read(letters)) >= 64
    pinned = RoadVerifier([signer.public])
    assert {signed.check(one.what, one.payload, pinned) for one in letters} == {nonce}
    at.took(Outcome(needs=[("a", need_of("key"))]))
    (need,) = [one for one in at.due(2 * S) if one.what == "need"]
    signed.check("need", need.payload, pinned)


def need_of(why: Literal["key"]) -> Need:
    return Need(node="a", kind="records", name="s/event", epoch=1, a=1, b=2, why=why)


def test_what_does_not_fit_into_a_tick_waits_for_the_next() -> None:
    at = answers()
    at.took(changed(*(log(n) for n in range(1, 401))))
    sizes = [sum(len(ack.acks) for ack in read(at.due(ms * 250_000))) for ms in range(3)]
    assert sizes == [256, 144, 0]


def test_a_flood_of_probes_is_answered_at_ten_a_second() -> None:
    at = answers()
    for n in range(1000):
        at.took(asked(f"n{n}", log()))
    said = sum(len([a for a in read(at.due(ms * 1000)) if a.echo]) for ms in range(0, 10_000, 10))
    assert said == 64
    assert at.wake_us() is not None


def test_a_need_is_said_once_a_second_and_read_by_the_node() -> None:
    at = answers()
    need = Need(node="", kind="records", name="s/event", epoch=1, a=0, b=-1, why="version")
    said = []
    for ms in range(0, 2000, 100):
        at.took(Outcome(needs=[("a", need)]))
        said += at.due(ms * 1000)
    assert [letter.what for letter in said] == ["need", "need"]
    read_back = edgecore.read(TOPICS, TOPICS.down("need"), said[0].payload)
    assert isinstance(read_back, edgecore.NeedSaid)
    assert read_back.node == "a"


def test_documents_stand_in_every_ack_and_bring_one_themselves() -> None:
    at = answers()
    docs: Docs = {"twin": ("0123456789abcdef",)}
    at.took(Outcome(touched={"a": {}}, docs={"a": docs}, fresh_docs={"a"}))
    (ack,) = read(at.due(0))
    assert ack.docs == docs
    at.took(msgspec.structs.replace(changed(log()), docs={"a": docs}))
    (ack,) = read(at.due(S))
    assert ack.docs == docs


def test_a_carrier_is_told_of_what_it_carried_and_nobody_else() -> None:
    at = answers()
    at.took(changed(log(), carrier="b"))
    assert [letter.node for letter in at.due(0)] == ["b"]


# ── who is there twice ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("epochs", "is_double"),
    [
        ([1, 1, 1], False),
        ([1, 2, 3, 4], False),  # restarts
        ([1, 2, 1, 2, 2], False),  # a restart, and probes that overtook each other
        ([1, 2, 1, 2, 1], True),
        ([1, 2, 3, 1, 2, 3], True),
    ],
)
def test_epochs_that_take_turns_are_two_agents(epochs: list[int], is_double: bool) -> None:
    at = Epochs()
    for s, epoch in enumerate(epochs):
        at.heard("a", frozenset({epoch}), s * S)
    assert (at.doubles(10 * S) == ["a"]) is is_double
    assert at.doubles(1000 * S) == []


def test_one_late_message_of_an_agent_that_has_ended_makes_no_two_agents() -> None:
    at = Epochs()
    for s, epoch in ((0, 1), (5, 1), (10, 2), (15, 2), (40, 1), (42, 2), (47, 2)):
        at.heard("a", [epoch], s * S)
    assert at.doubles(47 * S) == []


@pytest.mark.parametrize("pause_s", [1, 5, 10, 13])
def test_two_agents_are_told_of_within_a_minute_and_until_one_is_gone(pause_s: int) -> None:
    """They probe in turns, once in so many seconds; or write their status at least."""
    at, told_s = Epochs(), []
    for s in range(200):
        for number, epoch in enumerate((7, 8)):
            if (s + number * pause_s // 2) % pause_s == 0:
                at.alive("a", epoch, s * S)
        if at.shared(s * S) == {"a": (7, 8)}:
            told_s.append(s)
    assert told_s[0] <= 60
    assert told_s == list(range(told_s[0], 200))  # without a break
    for s in range(200, 200 + 500, pause_s):
        at.alive("a", 8, s * S)
    assert at.doubles(700 * S) == []


def test_who_shares_a_name_is_told_so_in_the_acknowledgement() -> None:
    at = answers()
    at.took(Outcome(asked=[Asked("a", "a", "nonce", (), frozenset())], touched={"a": {}}))
    (letter,) = at.due(S, {"a": (7, 8), "b": (1, 2)})
    said = edgecore.read(TOPICS, "edge-agent/a/down/ack", letter.payload)
    assert isinstance(said, Ack)
    assert said.epochs == (7, 8)
