"""What is built on damage is not shown; what is sound is."""

from __future__ import annotations

from edge_agent.core.damage import Chain


def shown(chain: Chain, frames: list[tuple[int, bool]]) -> list[bool]:
    return [chain.shows(packet, key=key) for packet, key in frames]


def test_from_a_damaged_frame_to_the_next_key_frame_nothing_is_shown() -> None:
    chain = Chain(intra=False)
    assert shown(chain, [(1, True), (2, False)]) == [True, True]
    chain.damage(3)
    assert shown(chain, [(3, False), (4, False), (5, True), (6, False)]) == [
        False,
        False,
        True,
        True,
    ]
    assert chain.is_sound


def test_a_frame_before_the_damage_that_comes_out_after_it_is_shown() -> None:
    chain = Chain(intra=False)
    chain.damage(4)
    assert shown(chain, [(2, False), (3, False), (5, False), (4, False)]) == [
        True,
        True,
        False,
        False,
    ]


def test_what_leads_a_key_frame_is_not_shown_and_new_damage_behind_it_stays() -> None:
    chain = Chain(intra=False)
    chain.damage(3)
    chain.damage(8)
    assert shown(chain, [(7, False), (6, True), (7, False), (8, False), (9, False)]) == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_a_damaged_key_frame_mends_nothing() -> None:
    chain = Chain(intra=False)
    chain.damage(2)
    chain.damage(5)
    assert shown(chain, [(5, True), (6, False), (7, True)]) == [False, False, True]


def test_where_each_frame_stands_by_itself_damage_costs_one() -> None:
    chain = Chain(intra=True)
    chain.damage(2)
    assert shown(chain, [(1, True), (2, True), (3, True)]) == [True, False, True]
    chain.damage(9)
    chain.forget()
    assert chain.shows(9, key=False)
