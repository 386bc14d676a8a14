"""Events that a sink refused, and what people do about them."""

from typing import Any

import pytest
from sqlalchemy import delete, select
from sqlalchemy import event as sa_event

from collector.errors import LeaseLost
from collector.ledger import doubts, parked, queries, schema, tallies
from collector.ledger.parked import Cause, ParkedEvent, RetryAnswer
from collector.model import EventKind
from tests.lease_faults import take_over
from tests.unit.ledger.ledgers import ALL, COMPLETE, ENDS, HOUR, NOW, RUNNING, SECOND, START, Ledger, child_of


def listed(ledger: Ledger) -> list[ParkedEvent]:
    return parked.listing(ledger.conn, 100)


def retry(ledger: Ledger, event: ParkedEvent) -> RetryAnswer:
    named = event.strand_id, event.seq
    return parked.retry(ledger.conn, ledger.held["a"], ledger.sinks["a"], [named], ledger.now)[named]


def drop(ledger: Ledger, event: ParkedEvent) -> bool:
    return bool(parked.drop(ledger.conn, ledger.held["a"], ledger.sinks["a"], [(event.strand_id, event.seq)]))


def recounted(ledger: Ledger) -> tuple[int, int]:
    tallies.recount(ledger.conn, ledger.sinks["a"], ALL)
    return ledger.tally()


def test_the_list_says_what_whose_and_why(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.postpone()
    ledger.now += SECOND
    ledger.park(cause="422 from the sink")
    [event] = listed(ledger)
    assert (event.sink, event.source, event.run_key, event.job, event.kind) == (
        "a",
        "source",
        "r",
        "transformation/1",
        EventKind.START,
    )
    assert (event.attempts, event.cause, event.parked_at) == (2, "422 from the sink", NOW + SECOND)
    assert (event.superseded_at, event.retry_at) == (None, None)
    assert parked.listing(ledger.conn, 10, sink_id=ledger.sinks["a"] + 1) == []
    assert parked.listing(ledger.conn, 10, source_id=ledger.source) == [event]
    assert parked.listing(ledger.conn, 0) == []


def test_causes_are_counted_by_sink_without_what_is_on_its_way_again(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    for key in ("1", "2", "3"):
        ledger.happen(key, START)
    ledger.park(*ledger.claim("a")[:2], cause="too long")
    ledger.now += SECOND
    ledger.park(*ledger.claim("a")[:1], cause="too long")
    ledger.park(*ledger.claim("b")[:1], sink="b", cause="too long")
    [*_, first] = [event for event in listed(ledger) if event.sink == "a"]
    retry(ledger, first)
    found = [Cause("a", "too long", 2, ledger.now), Cause("b", "too long", 1, ledger.now)]
    assert parked.causes(ledger.conn, 5) == found
    assert parked.causes(ledger.conn, 1) == found[:1]


def test_a_parked_event_goes_before_what_follows_it(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.park()
    assert retry(ledger, listed(ledger)[0]) is RetryAnswer.QUEUED
    assert ledger.tally() == (2, 0)
    assert ledger.tally() == recounted(ledger)
    assert ledger.drain() == ["r START", "r COMPLETE"]
    assert (ledger.rows("parked"), ledger.rows("lane"), ledger.tally()) == (0, 0, (0, 0))


def test_one_that_was_sent_again_takes_none_of_a_later_strand_along(ledger: Ledger) -> None:
    """Both are the first of their strand."""
    for key in ("x", "y"):
        ledger.happen(key, START)
    ledger.park()
    assert {event.seq for event in listed(ledger)} == {listed(ledger)[0].seq}
    retry(ledger, next(event for event in listed(ledger) if event.run_key == "x"))
    assert ledger.drain() == ["x START"]
    assert [event.run_key for event in listed(ledger)] == ["y"]


def test_a_parked_event_that_goes_again_changes_no_other_strand(ledger: Ledger) -> None:
    ledger.happen("p", START, COMPLETE)
    ledger.happen("r", START, COMPLETE)
    first, other = ledger.claim()
    ledger.park(first)
    ledger.deliver(other)
    assert retry(ledger, listed(ledger)[0]) is RetryAnswer.QUEUED
    assert sorted(ledger.drain()) == ["p COMPLETE", "p START", "r COMPLETE"], "r START was acknowledged before"


def test_what_one_sink_refuses_and_takes_later_changes_no_other(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL, c=ALL)
    ledger.happen("p", START, COMPLETE)
    for sink in "abc":
        ledger.park(sink=sink)
    [of_b] = parked.listing(ledger.conn, 10, sink_id=ledger.sinks["b"])
    named = of_b.strand_id, of_b.seq
    parked.retry(ledger.conn, ledger.held["b"], ledger.sinks["b"], [named], ledger.now)
    ledger.happen("r", START)
    for sink in "ac":
        ledger.park(sink=sink)
    assert sorted(ledger.drain("b")) == ["p COMPLETE", "p START", "r START"]
    assert {row.name: row.refused for row in queries.sinks(ledger.conn)} == {"a": 3, "b": 0, "c": 3}
    assert sorted(event.sink for event in listed(ledger)) == ["a"] * 3 + ["c"] * 3


def test_a_later_event_supersedes_a_parked_one_at_its_own_sink_alone(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("p", START)
    ledger.park(sink="a")
    ledger.park(sink="b")
    ledger.happen("p", COMPLETE)
    ledger.drain("b")
    assert {event.sink: event.superseded_at is not None for event in listed(ledger)} == {"a": False, "b": True}


def test_it_goes_alone_when_all_else_of_its_strand_was_delivered(ledger: Ledger) -> None:
    ledger.happen("p", START)
    ledger.happen("c", START, COMPLETE, parent=child_of("p"))
    ledger.park()
    ledger.drain()
    assert retry(ledger, listed(ledger)[0]) is RetryAnswer.QUEUED
    ledger.happen("p", COMPLETE)
    assert ledger.tally() == (2, 0) == recounted(ledger)
    assert ledger.drain() == ["p START", "p COMPLETE"], "the child's events were acknowledged before"
    assert ledger.tally() == (0, 0) == recounted(ledger)


@pytest.mark.parametrize("goes_on", [True, False], ids=["with more to send", "alone"])
def test_it_is_as_old_as_when_it_was_committed(ledger: Ledger, goes_on: bool) -> None:
    """The age of what is owed counts from there, and after a kill it says which runs are in doubt."""
    ledger.happen("r", START)
    [start] = ledger.claim()
    ledger.park(start)
    ledger.now += HOUR
    if goes_on:
        ledger.happen("r", COMPLETE)
    ledger.take_over(clock_ms=-SECOND)
    retry(ledger, listed(ledger)[0])
    [since] = ledger.conn.scalars(select(schema.lane.c.since))
    assert since == start.committed_at == NOW
    ledger.deliver(*ledger.claim(), recheck_at=ledger.now)
    assert ledger.rows("doubt") == 1


def test_nothing_acknowledged_meanwhile_is_sent_again(ledger: Ledger) -> None:
    ledger.happen("p", START)
    ledger.happen("c", START, parent=child_of("p"))
    ledger.happen("p", COMPLETE)
    ledger.park()
    ledger.deliver()
    assert ledger.heads() == ["p COMPLETE"]
    retry(ledger, listed(ledger)[0])
    assert ledger.drain() == ["p START", "p COMPLETE"]


@pytest.mark.parametrize("latest_first", [True, False])
def test_several_of_a_strand_are_sent_in_their_order(ledger: Ledger, latest_first: bool) -> None:
    ledger.happen("r", START, RUNNING, RUNNING, COMPLETE)
    for _ in range(3):
        ledger.park()
    events = listed(ledger)
    for event in events if latest_first else reversed(events):
        assert retry(ledger, event) is RetryAnswer.QUEUED
    assert ledger.tally() == (4, 0) == recounted(ledger)
    assert ledger.drain() == ["r START", "r RUNNING", "r RUNNING", "r COMPLETE"]
    assert (ledger.rows("parked"), ledger.tally()) == (0, (0, 0))


def test_what_nobody_asked_for_stays_parked(ledger: Ledger) -> None:
    ledger.happen("r", START, RUNNING, COMPLETE)
    for _ in range(3):
        ledger.park()
    first, second, third = sorted(listed(ledger), key=lambda event: event.seq)
    retry(ledger, first)
    retry(ledger, third)
    assert ledger.drain() == ["r START", "r COMPLETE"]
    assert [(event.seq, event.superseded_at) for event in listed(ledger)] == [(second.seq, ledger.now)]
    assert ledger.tally() == (0, 1) == recounted(ledger)


def test_a_hundred_are_put_back_by_as_many_statements_as_two(ledger: Ledger) -> None:
    def executed(*_: Any) -> None:
        statements[-1] += 1

    statements = []
    for runs in (2, 100):
        ledger.poll(*((f"{runs}/{number}", (START,), {}) for number in range(runs)))
        ledger.park()
        named = [(event.strand_id, event.seq) for event in listed(ledger)]
        assert len(named) == runs
        statements.append(0)
        sa_event.listen(ledger.conn.engine, "before_cursor_execute", executed)
        answers = parked.retry(ledger.conn, ledger.held["a"], ledger.sinks["a"], named, ledger.now)
        sa_event.remove(ledger.conn.engine, "before_cursor_execute", executed)
        assert set(answers.values()) == {RetryAnswer.QUEUED}
        assert len(ledger.drain()) == runs
    assert statements[0] == statements[1]


def test_a_superseded_event_is_never_sent_again(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.park()
    ledger.deliver()
    assert retry(ledger, listed(ledger)[0]) is RetryAnswer.SUPERSEDED
    assert ledger.heads() == []


def test_asking_twice_changes_nothing(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.park()
    [event] = listed(ledger)
    assert retry(ledger, event) is RetryAnswer.QUEUED
    assert retry(ledger, event) is RetryAnswer.QUEUED
    assert ledger.tally() == (1, 0) == recounted(ledger)
    ledger.drain()
    assert retry(ledger, event) is RetryAnswer.NOT_PARKED


def test_it_may_be_refused_again_and_keeps_its_attempts(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.park()
    retry(ledger, listed(ledger)[0])
    ledger.park(cause="still refused")
    [event] = listed(ledger)
    assert (event.attempts, event.cause, event.retry_at) == (2, "still refused", None)
    assert ledger.tally() == (1, 1) == recounted(ledger)
    assert ledger.drain() == ["r COMPLETE"]


def test_it_may_fail_for_a_while(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.park()
    retry(ledger, listed(ledger)[0])
    ledger.postpone()
    assert ledger.heads() == []
    ledger.now += SECOND
    assert ledger.drain() == ["r START", "r COMPLETE"]


def test_a_dropped_event_is_gone(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.park()
    [event] = listed(ledger)
    assert drop(ledger, event)
    assert not drop(ledger, event)
    assert listed(ledger) == []
    assert ledger.tally() == (0, 0) == recounted(ledger)


def test_an_event_on_its_way_again_is_not_dropped(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.park()
    [event] = listed(ledger)
    retry(ledger, event)
    assert not drop(ledger, event)


def test_dropping_the_end_of_a_run_ends_the_doubt_about_it(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.postpone(unanswered=True, recheck_at=NOW + HOUR)
    ledger.now += SECOND
    ledger.deliver(recheck_at=NOW + HOUR)
    ledger.park()
    assert doubts.next_due(ledger.conn, ledger.sinks["a"]) is None
    assert ledger.rows("doubt") == 1
    drop(ledger, listed(ledger)[0])
    assert ledger.rows("doubt") == 0


def test_without_the_lease_nothing_is_done(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.park()
    [event] = listed(ledger)
    take_over(ledger.conn, "sink:a", "another", 1000)
    for act in (retry, drop):
        with pytest.raises(LeaseLost):
            act(ledger, event)
    assert listed(ledger) == [event]


def test_a_head_that_is_wanted_no_longer_is_not_counted_once_it_gave_way(ledger: Ledger) -> None:
    ledger.happen("r", START, RUNNING, COMPLETE)
    ledger.park()
    ledger.configure(a=ENDS)
    assert ledger.tally() == (2, 1)
    retry(ledger, listed(ledger)[0])
    assert ledger.tally() == (2, 0)
    assert ledger.drain() == ["r START", "r COMPLETE"]
    assert ledger.tally() == (0, 0)


def test_the_list_goes_on_behind_events_that_are_gone(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    for key in ("one", "two", "three"):
        ledger.happen(key, START)
        ledger.park(*ledger.claim("a"), sink="a", cause=key)
        ledger.now += SECOND
    ledger.park(ledger.claim("b")[0], sink="b")
    assert [(row.sink, row.run_key) for row in parked.listing(ledger.conn, 2)] == [("b", "one"), ("a", "three")]
    ledger.conn.execute(delete(schema.event).where(schema.event.c.body == b"three START"))
    assert [(row.sink, row.run_key) for row in parked.listing(ledger.conn, 2)] == [("b", "one"), ("a", "two")]
    assert [row.cause for row in parked.listing(ledger.conn, 3, sink_id=ledger.sinks["a"])] == ["two", "one"]
    assert [row.run_key for row in parked.listing(ledger.conn, 3, cause="one")] == ["one"]
