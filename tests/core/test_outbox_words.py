"""What acks and needs may do, and what they may not: forged, early, from a stranger."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_agent.core import logbook, probe
from edge_agent.core.edgecore import Ack, LogAck, NeedSaid
from edge_agent.core.frames import Event, RecordClass
from edge_agent.core.lanes import Cargo, Span, key_of
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.outbox import Load, Outbox
from edge_agent.core.probe import Offer, Probe
from edge_agent.core.receivers import Receivers, Verdict
from edge_agent.core.wire.codec import Codecs

EPOCH, OLD = 2 << 32 | 7, 1 << 32 | 5
NOW_US = 10_000_000
LIVE = LogKey("cart-1", "us", RecordClass.EVENT, EPOCH)
PAST = LogKey("cart-1", "us", RecordClass.EVENT, OLD)


def log_of(key: LogKey, following: int) -> Log:
    return Log(id=1, key=key, next=following)


def outbox(*logs: Log) -> Outbox:
    box = Outbox(node="cart-1", epoch=EPOCH)
    box.up(logs, NOW_US)
    return box


def publish(box: Outbox, now_us: int, nonce: str = "n1") -> Load | None:
    box.turn(now_us, 0.0)
    draft = box.draft(now_us)
    if draft is None:
        return None
    live = [
        Cargo(Span(key_of(run[0]), run[0].seq, run[-1].seq), 100, b"", 0, now_us)
        for run in draft.runs
    ]
    return box.load(draft, live, now_us=now_us, chance=0.0, nonce=nonce)


def event(seq: int) -> Event:
    return Event(node="cart-1", stream="us", epoch=EPOCH, seq=seq)


def said(key: LogKey, upto: int, have: tuple[tuple[int, int], ...] = ()) -> LogAck:
    node, stream, klass, epoch = key
    return LogAck(node=node, stream=stream, klass=klass, epoch=epoch, upto=upto, have=have)


def ack(*logs: LogAck, echo: str = "", rx: str = "rx-a", n: int = 1) -> Ack:
    return Ack(schema=1, node="cart-1", rx=rx, n=n, echo=echo, acks=logs)


def test_a_slot_is_taken_when_its_publish_is_drafted_however_long_encoding_takes() -> None:
    box = outbox()
    box.appended(event(1), NOW_US)
    draft = box.draft(NOW_US)
    assert draft is not None
    box.load(draft, [], now_us=NOW_US + 30_000, chance=0.0, nonce="n1")
    box.appended(event(2), NOW_US + 30_000)
    assert box.draft(NOW_US + 49_999) is None
    assert box.due_us(NOW_US + 30_000) == NOW_US + 50_000
    assert box.draft(NOW_US + 50_000) is not None


# ── acks ──────────────────────────────────────────────────────────────────────────────────────


def test_the_first_word_of_a_receiver_must_answer_a_question_of_ours() -> None:
    box = outbox(log_of(PAST, 11))
    publish(box, NOW_US)
    assert not box.heard(ack(said(PAST, 10)), NOW_US).is_trusted
    assert not box.heard(ack(said(PAST, 10), echo="other"), NOW_US).is_trusted
    heard = box.heard(ack(said(PAST, 10), echo="n1"), NOW_US)
    assert heard.apply == (logbook.Ack(PAST, 10),)


def test_an_ack_of_what_was_never_sent_is_refused_whole() -> None:
    box = outbox(log_of(LIVE, 11))
    publish(box, NOW_US)
    heard = box.heard(ack(said(LIVE, 5), echo="n1"), NOW_US)
    assert heard.is_trusted
    assert heard.apply == ()
    assert box.witness.refused == 1
    assert [finding.code for finding in box.witness.findings] == ["ack-refused"]
    assert box.ledger.known(LIVE) == ()


def test_a_forged_ack_spares_what_came_in_the_same_message() -> None:
    box = outbox(log_of(LIVE, 11), log_of(PAST, 4))
    publish(box, NOW_US)
    heard = box.heard(ack(said(LIVE, 9), said(PAST, 3), echo="n1"), NOW_US)
    assert heard.apply == (logbook.Ack(PAST, 3),)


def test_an_ack_that_comes_before_the_commit_is_applied_after_it() -> None:
    box = outbox()
    box.appended(event(1), NOW_US)
    assert publish(box, NOW_US) is not None
    heard = box.heard(ack(said(LIVE, 1), echo="n1"), NOW_US)
    assert heard.apply == ()
    assert len(heard.arrived) == 1
    assert box.observe([log_of(LIVE, 2)], NOW_US) == (logbook.Ack(LIVE, 1),)
    applied, _ = logbook.acknowledged(log_of(LIVE, 2), logbook.Ack(LIVE, 1), 10)
    assert box.observe([applied], NOW_US) == ()


def test_what_died_uncommitted_may_be_acknowledged_but_not_a_life_that_never_was() -> None:
    box = outbox(log_of(PAST, 11))
    publish(box, NOW_US)
    assert box.heard(ack(said(PAST, 12), echo="n1"), NOW_US).apply != ()
    far = box.heard(ack(said(PAST, 1 << 30)), NOW_US)
    assert far.is_trusted
    assert box.witness.refused == 1
    assert box.heard(ack(said(PAST, 1 << 30), echo="n1"), NOW_US).is_trusted
    assert box.witness.refused == 1  # a spool restored from a backup: we asked, it has more


def test_an_unknown_log_is_refused_and_audited_once() -> None:
    unknown = (
        LIVE._replace(stream="ghost"),
        LIVE._replace(epoch=EPOCH + 1),
        LIVE._replace(epoch=3 << 32 | 1),
        LIVE._replace(epoch=77),
        PAST._replace(node="cart-2"),
    )
    for key in unknown:
        box = outbox()
        publish(box, NOW_US)
        for _ in range(3):
            box.heard(ack(said(key, 3), echo="n1"), NOW_US)
        assert box.witness.refused == 3, key
        assert [finding.code for finding in box.witness.findings] == ["ack-refused"]


def test_a_log_that_died_before_its_first_commit_is_no_forgery_and_is_denied() -> None:
    """After each crash the operator was told that somebody may answer in the hot tier's name."""
    box = outbox(log_of(LIVE, 3))
    publish(box, NOW_US)
    for _ in range(3):
        assert box.heard(ack(said(PAST, 3), echo="n1"), NOW_US).apply == ()
    assert (box.witness.refused, box.witness.findings) == (0, [])
    load = publish(box, NOW_US + 2_000_000, "n2")
    assert load is not None
    assert load.probe is not None
    told = {offer.key: offer for offer in load.probe.logs}
    assert (told[PAST].floor, told[PAST].next, told[PAST].closed) == (1, 1, True)


def test_what_no_dead_life_of_ours_can_have_sent_is_refused() -> None:
    box = outbox(log_of(PAST, 3))
    publish(box, NOW_US)
    sibling = PAST._replace(klass=RecordClass.ALARM)  # of a life that is known
    box.heard(ack(said(sibling, 3), echo="n1"), NOW_US)
    assert box.witness.refused == 0
    box.heard(ack(said(sibling, 1 << 20), echo="n1"), NOW_US)
    box.heard(ack(said(PAST._replace(epoch=OLD + 1), 3), echo="n1"), NOW_US)
    assert box.witness.refused == 2
    assert [finding.code for finding in box.witness.findings] == ["ack-refused"] * 2


def test_a_log_that_is_not_here_is_denied_once_and_one_of_this_life_never() -> None:
    box = outbox(log_of(LIVE, 3))
    publish(box, NOW_US)
    young = LogKey("cart-1", "endo", RecordClass.EVENT, EPOCH)
    guest = LogKey("cart-2", "us", RecordClass.EVENT, OLD)
    waited_for = (said(PAST, 3), said(young, 3), said(guest, 3))
    box.heard(ack(*waited_for, echo="n1"), NOW_US)
    load = publish(box, NOW_US + 2_000_000, "n2")
    assert load is not None
    assert load.probe is not None
    told = {offer.key: offer for offer in load.probe.logs}
    assert told.keys() == {LIVE, PAST}
    assert (told[PAST].floor, told[PAST].next, told[PAST].closed) == (1, 1, True)
    box.heard(ack(said(PAST, 3), echo="n2"), NOW_US)
    box.heard(ack(said(PAST, 3)), NOW_US)
    offers, _ = box.ledger.page()
    assert PAST not in {offer.key for offer in offers}


def test_a_loss_that_the_receiver_tells_of_is_raised_once_and_booked_by_the_ack() -> None:
    box = outbox(log_of(PAST, 101))
    publish(box, NOW_US)
    mourned = msgspec.structs.replace(said(PAST, 100), lost=30)
    for echo in ("n1", "", "n1"):
        heard = box.heard(ack(mourned, echo=echo), NOW_US)
    assert [(one.code, one.records) for one in box.witness.findings] == [("lost-at-receiver", 30)]
    assert heard.apply == (logbook.Ack(PAST, 100, (), 30),)
    log, _ = logbook.acknowledged(log_of(PAST, 101), heard.apply[0], 1000)
    assert (log.lost, log.is_settled) == (30, True)
    assert logbook.acknowledged(log, heard.apply[0], 1000) == (log, ())
    more, _ = logbook.acknowledged(log, heard.apply[0]._replace(lost=5000), 1000)
    assert more.lost == 100, "never more than were acknowledged"


def test_acks_join_in_any_order() -> None:
    box = outbox(log_of(PAST, 101))
    publish(box, NOW_US)
    for upto, have in ((20, ((30, 40),)), (10, ()), (20, ((50, 60),)), (25, ())):
        box.heard(ack(said(PAST, upto, have), echo="n1"), NOW_US)
    assert box.ledger.known(PAST) == ((1, 25), (30, 40), (50, 60))


def test_a_step_back_without_our_nonce_is_only_old() -> None:
    box = outbox(log_of(PAST, 101))
    publish(box, NOW_US)
    box.heard(ack(said(PAST, 50), echo="n1"), NOW_US)
    assert publish(box, NOW_US + 2_000_000, "n2") is not None
    assert box.heard(ack(said(PAST, 20)), NOW_US).forfeit == ()
    assert box.heard(ack(said(PAST, 20), echo="n1"), NOW_US).forfeit == ()
    assert box.ledger.known(PAST) == ((1, 50),)
    heard = box.heard(ack(said(PAST, 20), echo="n2"), NOW_US)
    assert heard.forfeit == (logbook.Ack(PAST, 20),)
    assert box.heard(ack(said(PAST, 20), echo="n2"), NOW_US).forfeit == ()
    assert box.ledger.skips()[PAST] == ((1, 20),)


def test_a_full_list_of_ranges_says_nothing_of_what_lies_above() -> None:
    box = outbox(log_of(PAST, 1001))
    publish(box, NOW_US)
    first = tuple((a, a) for a in range(3, 67, 2))
    box.heard(ack(said(PAST, 1, ((900, 910),)), echo="n1"), NOW_US)
    publish(box, NOW_US + 2_000_000, "n2")
    assert box.heard(ack(said(PAST, 1, first), echo="n2"), NOW_US).forfeit == ()


# ── who speaks ────────────────────────────────────────────────────────────────────────────────


def asked(count: int) -> Receivers:
    receivers = Receivers()
    for number in range(count):
        receivers.ask(f"n{number}", number, {}, ())
    return receivers


def test_a_stranger_is_believed_after_two_answers_that_the_other_did_not_give() -> None:
    receivers = asked(4)
    assert receivers.judge("a", "n0", 10) is Verdict.TRUSTED
    assert receivers.judge("b", "n1", 11) is Verdict.UNASKED
    assert receivers.judge("b", "n1", 12) is Verdict.UNASKED
    assert receivers.judge("b", "n2", 13) is Verdict.REPLACED
    assert receivers.judge("a", "n0", 14) is Verdict.UNASKED
    assert receivers.current == "b"


def test_two_that_answer_the_same_question_are_contested_until_one_is_quiet() -> None:
    receivers = asked(3)
    receivers.judge("a", "n0", 0)
    assert receivers.judge("b", "n0", 1) is Verdict.CONTESTED
    assert receivers.judge("a", "n1", 2) is Verdict.CONTESTED
    late_us = 61_000_000
    receivers.ask("n9", late_us, {}, ())
    assert receivers.judge("a", "n9", late_us + 5) is Verdict.TRUSTED
    assert not receivers.is_contested


def test_one_that_comes_back_is_contested() -> None:
    receivers = asked(8)
    receivers.judge("a", "n0", 0)
    receivers.judge("b", "n1", 1)
    assert receivers.judge("b", "n2", 2) is Verdict.REPLACED
    assert receivers.judge("a", "n5", 3) is Verdict.CONTESTED


def test_another_agent_of_this_name_is_told_until_the_receiver_is_silent_of_it() -> None:
    """Two devices with one name were told at the hot tier alone."""
    box = outbox(log_of(PAST, 11))
    publish(box, NOW_US)
    lives = msgspec.structs.replace(ack(echo="n1"), epochs=(OLD, EPOCH))
    box.heard(lives, NOW_US)
    assert not box.is_shared(NOW_US), "an earlier life of our own"
    stranger = msgspec.structs.replace(ack(rx="rx-b"), epochs=(EPOCH, 77))
    box.heard(stranger, NOW_US)
    assert not box.is_shared(NOW_US), "nobody whom we asked"
    both = msgspec.structs.replace(ack(), epochs=(EPOCH, 9 << 32 | 1))
    box.heard(both, NOW_US)
    assert box.is_shared(NOW_US + 119_000_000)
    assert not box.is_shared(NOW_US + 120_000_000)


# ── needs ─────────────────────────────────────────────────────────────────────────────────────


def need(
    a: int, b: int, why: Literal["dict", "version"] = "dict", name: str = "us/event"
) -> NeedSaid:
    return NeedSaid(
        schema=1, node="cart-1", kind="records", name=name, epoch=EPOCH, a=a, b=b, why=why
    )


def in_flight() -> Outbox:
    box = outbox()
    publish(box, NOW_US)
    box.heard(ack(echo="n1"), NOW_US)
    box.appended(event(1), NOW_US)
    assert publish(box, NOW_US + 60_000, "n2") is not None
    box.observe([log_of(LIVE, 2)], NOW_US)
    return box


def test_a_batch_that_lacks_its_dictionary_is_sent_again_plain_and_at_once() -> None:
    box = in_flight()
    assert box.needed(need(1, 1), NOW_US + 70_000)
    want = box.want(NOW_US + 70_000)
    assert want is not None
    assert want.plain
    assert want.wanted == ((1, 1),)
    assert not box.needed(need(1, 1), NOW_US + 80_000)


def test_a_need_of_what_is_not_on_its_way_changes_nothing() -> None:
    box = in_flight()
    assert not box.needed(need(5, 9), NOW_US)
    assert not box.needed(need(1, 1, name="us/none"), NOW_US)
    assert not box.needed(need(1, 1, name="us"), NOW_US)
    assert box.want(NOW_US) is None


def test_a_receiver_that_is_too_old_is_told_of() -> None:
    box = in_flight()
    assert box.needed(need(1, 1, "version"), NOW_US)
    assert [finding.code for finding in box.witness.findings] == ["receiver-too-old"]


# ── probes ────────────────────────────────────────────────────────────────────────────────────


def test_a_probe_holds_64_logs_and_says_that_more_follow() -> None:
    logs = [log_of(LogKey("cart-1", f"s{i}", RecordClass.EVENT, OLD), 5) for i in range(150)]
    box = outbox(*logs)
    pages = []
    for number in range(3):
        load = publish(box, NOW_US + number * 50_000, f"n{number}")
        assert load is not None
        assert load.probe is not None
        pages.append(load.probe)
    assert [len(page.logs) for page in pages] == [64, 64, 22]
    assert [page.more for page in pages] == [True, True, False]
    assert len({offer.stream for page in pages for offer in page.logs}) == 150


def test_logs_of_other_nodes_are_not_ours_to_speak_of() -> None:
    box = outbox(log_of(LogKey("cart-2", "us", RecordClass.EVENT, OLD), 5))
    load = publish(box, NOW_US)
    assert load is not None
    assert load.probe is not None
    assert load.probe.logs == ()


def test_a_probe_survives_the_wire() -> None:
    offer = Offer(
        node="cart-1", stream="", klass=RecordClass.ALARM, epoch=EPOCH, floor=3, next=9,
        closed=True, void=((4, 5, "evicted"),),
    )  # fmt: skip
    sent = Probe(nonce="abc", logs=(offer,), more=True)
    envelope = probe.encode("cart-1", sent, Codecs())
    assert probe.decode(envelope, Codecs()) == sent
    assert envelope.node == "cart-1"
