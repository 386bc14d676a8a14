"""Runs that a sink may have got wrong."""

from dataclasses import replace

import pytest

from collector.errors import LeaseLost
from collector.ledger import doubts, retention, runs
from collector.ledger.claims import Refused, Settlement
from collector.ledger.runs import RunChange
from collector.model import RunState
from tests.lease_faults import take_over
from tests.unit.ledger.ledgers import COMPLETE, FAIL, HOUR, NOW, RUNNING, SECOND, START, Ledger, a_run

CHECK = NOW + HOUR


def due(ledger: Ledger, now: int = CHECK) -> list[str]:
    return [item.body.decode() for item in doubts.due(ledger.conn, ledger.sinks["a"], now, 10)]


def test_an_unanswered_attempt_is_looked_at_after_the_end_of_the_run(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.postpone(unanswered=True, recheck_at=CHECK)
    ledger.now += SECOND
    ledger.deliver(recheck_at=CHECK)
    assert doubts.next_due(ledger.conn, ledger.sinks["a"]) is None, "only the end can show it"
    assert ledger.deliver(recheck_at=CHECK).doubted == 1
    assert doubts.next_due(ledger.conn, ledger.sinks["a"]) == CHECK
    assert due(ledger, CHECK - 1) == []
    assert due(ledger) == ["r COMPLETE"]


def test_an_answered_retry_leaves_no_doubt(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.postpone(recheck_at=CHECK)
    ledger.now += SECOND
    ledger.deliver(recheck_at=CHECK)
    assert ledger.deliver(recheck_at=CHECK).doubted == 0
    assert due(ledger) == []


def test_a_sink_where_nothing_is_applied_late_has_no_doubts(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.postpone(unanswered=True)
    ledger.now += SECOND
    ledger.deliver()
    ledger.deliver()
    assert ledger.rows("doubt") == 0


def test_a_look_can_be_postponed_and_settled(ledger: Ledger) -> None:
    ledger.happen("r", COMPLETE)
    ledger.postpone(unanswered=True, recheck_at=CHECK)
    ledger.now += SECOND
    ledger.deliver(recheck_at=CHECK)
    [item] = doubts.due(ledger.conn, ledger.sinks["a"], CHECK, 10)
    assert item.attempts == 0
    doubts.postpone(ledger.conn, ledger.held["a"], ledger.sinks["a"], item.run_number, CHECK + HOUR)
    assert due(ledger) == []
    [item] = doubts.due(ledger.conn, ledger.sinks["a"], CHECK + HOUR, 10)
    assert item.attempts == 1
    doubts.resolve(ledger.conn, ledger.held["a"], ledger.sinks["a"], [item.run_number])
    assert ledger.rows("doubt") == 0


def test_without_the_lease_no_doubt_is_settled(ledger: Ledger) -> None:
    take_over(ledger.conn, "sink:a", "another", 1000)
    with pytest.raises(LeaseLost):
        doubts.resolve(ledger.conn, ledger.held["a"], ledger.sinks["a"], [1])
    with pytest.raises(LeaseLost):
        doubts.postpone(ledger.conn, ledger.held["a"], ledger.sinks["a"], 1, CHECK)


def test_after_a_kill_the_runs_that_had_a_lane_are_in_doubt(ledger: Ledger) -> None:
    ledger.happen("delivered", START, COMPLETE)
    ledger.drain()
    ledger.happen("before", START)
    ledger.now += SECOND
    ledger.take_over()
    ledger.now += SECOND
    ledger.happen("before", RUNNING, COMPLETE)
    ledger.happen("after", START, COMPLETE)
    while items := ledger.claim():
        ledger.deliver(*items, recheck_at=CHECK)
    assert due(ledger) == ["before COMPLETE"]


def test_what_was_committed_in_the_very_moment_of_the_take_over_is_in_doubt(ledger: Ledger) -> None:
    ledger.happen("then", START, COMPLETE)
    ledger.take_over()
    ledger.now += SECOND
    while items := ledger.claim():
        ledger.deliver(*items, recheck_at=CHECK)
    assert due(ledger) == ["then COMPLETE"]


def test_after_a_kill_a_clock_that_was_set_back_hides_no_doubt(ledger: Ledger) -> None:
    """What is owed was committed later than it is now."""
    ledger.happen("before", START)
    ledger.now -= HOUR
    ledger.take_over()
    ledger.now += 2 * HOUR
    ledger.happen("before", COMPLETE)
    ledger.happen("after", START, COMPLETE)
    while items := ledger.claim():
        ledger.deliver(*items, recheck_at=CHECK)
    assert due(ledger, ledger.now + CHECK) == ["before COMPLETE"]


def test_a_new_attempt_in_doubt_starts_the_looking_over(ledger: Ledger) -> None:
    ledger.happen("r", FAIL)
    ledger.postpone(unanswered=True, recheck_at=CHECK)
    ledger.now += SECOND
    ledger.postpone(unanswered=True, recheck_at=CHECK)
    ledger.now += SECOND
    ledger.deliver(recheck_at=CHECK)
    assert due(ledger) == ["r FAIL"]
    assert ledger.rows("doubt") == 1


def test_an_end_that_was_refused_is_not_looked_up(ledger: Ledger) -> None:
    """The sink does not have it, so there is no end to find there."""
    ledger.happen("r", FAIL)
    ledger.postpone(unanswered=True, recheck_at=CHECK)
    ledger.now += SECOND
    refused = Settlement(parked=tuple(Refused(item, "422") for item in ledger.claim()))
    assert ledger.settle(refused, recheck_at=CHECK).doubted == 0
    assert due(ledger) == []
    assert doubts.next_due(ledger.conn, ledger.sinks["a"]) is None


def test_an_end_that_is_acknowledged_again_is_looked_at_soon_however_often_it_was_before(ledger: Ledger) -> None:
    ledger.happen("r", FAIL)
    ledger.postpone(unanswered=True, recheck_at=CHECK)
    ledger.now += SECOND
    [end] = ledger.claim()
    ledger.deliver(end, recheck_at=CHECK)
    for _ in range(3):
        doubts.postpone(ledger.conn, ledger.held["a"], ledger.sinks["a"], end.run_number, CHECK)
    assert [item.attempts for item in doubts.due(ledger.conn, ledger.sinks["a"], CHECK, 10)] == [3]
    assert doubts.schedule(ledger.conn, ledger.sinks["a"], [end.run_number], CHECK) == 1
    assert [item.attempts for item in doubts.due(ledger.conn, ledger.sinks["a"], CHECK, 10)] == [0]


def test_doubts_about_runs_that_never_end_do_not_stay_for_ever(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.postpone(unanswered=True, recheck_at=CHECK)
    assert retention.prune(ledger.conn, NOW + HOUR)["doubt"] == 0
    run = runs.by_keys(ledger.conn, ledger.source, ["r"])["r"]
    ledger.commit(RunChange(replace(run, state=RunState.UNKNOWN, abandoned_at=run.seen_at)))
    assert retention.prune(ledger.conn, NOW + HOUR)["doubt"] == 1
    assert a_run("r").open


def test_a_look_brings_what_is_due_and_when_the_next_one_is(ledger: Ledger) -> None:
    def looked(now: int) -> tuple[list[bytes], int | None]:
        items, next_ms = doubts.look(ledger.conn, ledger.sinks["a"], now, 10)
        return [item.body for item in items], next_ms

    ledger.happen("r", FAIL)
    assert looked(CHECK) == ([], None)
    ledger.postpone(unanswered=True, recheck_at=CHECK)
    ledger.now += SECOND
    ledger.deliver(recheck_at=CHECK)
    assert looked(CHECK - 1) == ([], CHECK)
    assert looked(CHECK) == ([b"r FAIL"], CHECK)
