"""Who goes first, who is offered first."""

from __future__ import annotations

from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import Ack, Log, LogKey, acknowledged, written
from edge_agent.core.retention import Position, next_offer, victims

RESULT, ALARM, TELEMETRY = RecordClass.RESULT, RecordClass.ALARM, RecordClass.TELEMETRY


def a_log(number: int, stream: str, klass: RecordClass, epoch: int, **more: str) -> Log:
    key = LogKey(more.get("node", "n"), stream, klass, epoch)
    return written(Log(id=number, key=key), 10, 100, ())[0]


def test_the_lowest_class_of_the_oldest_epoch_goes_first() -> None:
    logs = [
        a_log(1, "us0", RESULT, 1),
        a_log(2, "us0", TELEMETRY, 2),
        a_log(3, "us1", TELEMETRY, 2),
        a_log(4, "us0", TELEMETRY, 3),
        a_log(5, "us0", ALARM, 1),
    ]
    assert [log.id for log in victims(logs, "n")] == [2, 3]
    assert [log.id for log in victims([logs[4], logs[0]], "n")] == [1]
    assert victims([], "n") == []


def test_a_guest_goes_before_anything_of_our_own() -> None:
    logs = [a_log(1, "us0", TELEMETRY, 1), a_log(2, "us0", ALARM, 9, node="other")]
    assert [log.id for log in victims(logs, "n")] == [2]


def test_a_log_without_records_has_nothing_to_give() -> None:
    empty, _ = acknowledged(a_log(1, "us0", TELEMETRY, 1), Ack(LogKey("", "", ALARM, 0), 10), 2000)
    assert victims([empty], "n") == []
    assert next_offer([empty], Position(), {}) is None


def test_a_walk_goes_by_class_then_epoch_and_in_turn_among_streams() -> None:
    logs = [a_log(n, s, RESULT, e) for n, s, e in ((1, "a", 2), (2, "b", 2), (3, "a", 1))]
    logs.append(a_log(4, "a", ALARM, 3))
    position, seen = Position(), []
    while (offer := next_offer(logs, position, {})) is not None:
        key = offer.log.key
        first = offer.wanted[0][0]
        seen.append((offer.log.id, first))
        position = Position(at={**position.at, key: first + 5}, last=key)
    assert seen == [(4, 1), (4, 6), (3, 1), (3, 6), (2, 1), (1, 1), (2, 6), (1, 6)]


def test_what_is_in_flight_is_skipped() -> None:
    log = a_log(1, "a", RESULT, 1)
    offer = next_offer([log], Position(at={log.key: 3}), {log.key: ((4, 8),)})
    assert offer is not None
    assert offer.wanted == ((3, 3), (9, 10))
