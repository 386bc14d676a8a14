"""What a sink is owed, in which order it gets it, and what outcomes change."""

from dataclasses import replace

import pytest
from sqlalchemy import update

from collector.errors import LeaseLost
from collector.ledger import claims, queries, schema
from collector.ledger.claims import Refused, Retried, Settlement
from tests.lease_faults import take_over
from tests.unit.ledger.ledgers import (
    ALL,
    COMPLETE,
    ENDS,
    FAIL,
    HOUR,
    NOW,
    RUNNING,
    SECOND,
    START,
    Ledger,
    child_of,
)


def test_only_the_head_of_a_strand_is_claimed_and_the_oldest_first(ledger: Ledger) -> None:
    ledger.happen("1", START, COMPLETE)
    ledger.now += SECOND
    ledger.happen("2", START)
    assert ledger.heads() == ["1 START", "2 START"]
    assert [item.body for item in ledger.claim(limit=1)] == [b"1 START"]
    ledger.deliver(ledger.claim()[0])
    assert ledger.heads() == ["1 COMPLETE", "2 START"], "an event waits since its commit, not since its turn"


def test_an_event_does_not_go_before_what_came_between_it_and_the_one_before_it(ledger: Ledger) -> None:
    ledger.happen("1", START)
    for key, kind in (("2", START), ("1", COMPLETE)):
        ledger.now += SECOND
        ledger.happen(key, kind)
    ledger.deliver(ledger.claim(limit=1)[0])
    assert ledger.heads() == ["2 START", "1 COMPLETE"]


def test_what_is_due_later_is_not_claimed(ledger: Ledger) -> None:
    ledger.happen("1", START)
    ledger.postpone()
    ledger.happen("2", START)
    assert ledger.heads() == ["2 START"]
    assert claims.next_due(ledger.conn, ledger.sinks["a"]) == NOW
    ledger.deliver()
    assert claims.next_due(ledger.conn, ledger.sinks["a"]) == NOW + SECOND
    ledger.now += SECOND
    assert [(item.body, item.attempts) for item in ledger.claim()] == [(b"1 START", 1)]
    ledger.deliver()
    assert claims.next_due(ledger.conn, ledger.sinks["a"]) is None


def test_what_comes_due_at_one_sink_wakes_no_other(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("1", START)
    ledger.drain("a")
    assert claims.next_due(ledger.conn, ledger.sinks["a"]) is None
    assert claims.next_due(ledger.conn, ledger.sinks["b"]) == NOW


def test_a_floor_leaves_out_what_was_due_before(ledger: Ledger) -> None:
    ledger.happen("1", START)
    ledger.now += SECOND
    ledger.happen("2", START)
    found = claims.claim(ledger.conn, ledger.sinks["a"], ledger.now, 10, floor=ledger.now)
    assert [item.body for item in found] == [b"2 START"]


def test_a_claim_leaves_out_strands_that_are_taken(ledger: Ledger) -> None:
    ledger.happen("1", START)
    ledger.happen("2", START)
    [first] = ledger.claim(limit=1)
    found = claims.claim(ledger.conn, ledger.sinks["a"], ledger.now, 1, taken=[first.strand_id])
    assert [item.body for item in found] == [b"2 START"]


def test_an_acknowledged_event_never_comes_again(ledger: Ledger) -> None:
    ledger.happen("r", START, RUNNING, COMPLETE)
    assert ledger.drain() == ["r START", "r RUNNING", "r COMPLETE"]
    assert ledger.rows("lane") == 0
    assert ledger.tally() == (0, 0)


def test_a_settle_whose_answer_was_lost_can_be_repeated(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    [start] = ledger.claim()
    assert ledger.deliver(start).delivered == 1
    again = ledger.deliver(start)
    assert (again.delivered, again.stale) == (0, (start,))
    assert ledger.heads() == ["r COMPLETE"]
    assert ledger.tally() == (1, 0)


@pytest.mark.parametrize("outcome", ["retried", "parked"])
def test_other_outcomes_of_an_event_that_is_no_head_are_ignored_too(ledger: Ledger, outcome: str) -> None:
    ledger.happen("r", START, COMPLETE)
    [start] = ledger.claim()
    ledger.deliver(start)
    late = Settlement(retried=(Retried(start, NOW + HOUR, "late"),), parked=(Refused(start, "late"),))
    result = ledger.settle(replace(late, **{outcome: ()}))
    assert result.stale == (start,)
    assert [(item.body, item.attempts) for item in ledger.claim()] == [(b"r COMPLETE", 0)]
    assert ledger.tally() == (1, 0)


def test_a_lane_takes_one_outcome_at_a_time(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    [start] = ledger.claim()
    result = ledger.settle(Settlement(delivered=(start, start), retried=(Retried(start, NOW, "twice"),)))
    assert (result.delivered, result.retried, len(result.stale)) == (1, 0, 2)
    assert ledger.tally() == (1, 0)


def test_without_the_lease_nothing_is_settled(ledger: Ledger) -> None:
    ledger.happen("r", START)
    take_over(ledger.conn, "sink:a", "another", 1000)
    with pytest.raises(LeaseLost):
        ledger.deliver()
    assert ledger.heads() == ["r START"]


def test_a_retry_keeps_the_attempts_and_the_cause_until_it_gets_through(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.postpone()
    ledger.now += SECOND
    ledger.postpone()
    [sink] = queries.sinks(ledger.conn)
    assert (sink.cause, sink.oldest, sink.pending) == ("no connection", NOW, 2)
    ledger.now += SECOND
    assert [item.attempts for item in ledger.claim()] == [2]
    ledger.deliver()
    assert [item.attempts for item in ledger.claim()] == [0]
    assert queries.sinks(ledger.conn)[0].cause is None


def test_sinks_go_their_own_pace(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ENDS)
    ledger.happen("r", START, RUNNING, COMPLETE)
    assert ledger.drain("b") == ["r START", "r COMPLETE"]
    assert ledger.heads("a") == ["r START"]
    assert (ledger.tally("a"), ledger.tally("b")) == ((3, 0), (0, 0))


def test_an_event_that_comes_while_its_predecessor_is_under_way_follows_it(ledger: Ledger) -> None:
    ledger.happen("r", START)
    [start] = ledger.claim()
    ledger.happen("r", COMPLETE)
    ledger.deliver(start)
    assert ledger.heads() == ["r COMPLETE"]


def test_a_parked_event_does_not_hold_up_its_strand(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    assert ledger.park().parked == 1
    assert ledger.tally() == (1, 1)
    assert ledger.heads() == ["r COMPLETE"]


def test_a_parked_event_is_superseded_by_a_later_one_of_its_run_only(ledger: Ledger) -> None:
    ledger.happen("p", START)
    ledger.happen("c", START, parent=child_of("p"))
    ledger.park()
    assert ledger.deliver().superseded == 0, "that was the child's"
    ledger.happen("p", COMPLETE)
    assert ledger.deliver().superseded == 1
    assert ledger.tally() == (0, 1), "it is listed until it expires"


def test_a_lane_passes_over_what_its_sink_does_not_want_whatever_other_strands_have(ledger: Ledger) -> None:
    ledger.configure(a=ENDS)
    ledger.happen("1", START, RUNNING, COMPLETE)
    ledger.happen("2", START, COMPLETE)
    assert ledger.drain() == ["1 START", "2 START", "1 COMPLETE", "2 COMPLETE"]


def test_a_long_lane_costs_no_more_than_a_short_one(ledger: Ledger) -> None:
    ledger.configure(a=ENDS)
    ledger.happen("r", START, *[RUNNING] * 300, COMPLETE)
    assert ledger.tally() == (2, 0)
    assert ledger.drain() == ["r START", "r COMPLETE"]


def test_a_head_of_the_future_is_due_when_its_turn_comes(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.now += HOUR
    ledger.happen("r", FAIL)
    ledger.now -= HOUR
    ledger.deliver()
    assert ledger.heads() == ["r FAIL"], "the clock was set back meanwhile"


def test_a_result_of_nothing_is_nothing(ledger: Ledger) -> None:
    result = ledger.settle(Settlement())
    assert (result.delivered, result.retried, result.parked, result.stale) == (0, 0, 0, ())


def test_causes_are_kept_within_bounds(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.park(cause="<html>\0" * 10_000)
    [row] = ledger.conn.exec_driver_sql("SELECT cause FROM parked").scalars()
    assert len(row) <= 2000
    assert "\0" not in row


def test_a_filter_that_changes_half_way_holds_from_the_next_event_on(ledger: Ledger) -> None:
    ledger.happen("r", START, RUNNING, COMPLETE)
    ledger.conn.execute(update(schema.sink).values(filter="COMPLETE"))
    assert ledger.drain() == ["r START", "r COMPLETE"]
    assert ledger.rows("lane") == 0
