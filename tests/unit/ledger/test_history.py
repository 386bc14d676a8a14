"""Where each event of a run is at each sink, beside what the sinks are really sent."""

import random
from collections.abc import Iterable

import pytest
from sqlalchemy import select

from collector.ledger import configured_sinks, history, parked, resend, run_queries, schema
from collector.ledger.history import RunHistory, Standing
from tests.unit.ledger.ledgers import ALL, COMPLETE, ENDS, FAIL, OTHER, RUNNING, SECOND, START, Ledger, child_of

DELIVERED, WAITING, RETRIED = Standing.DELIVERED, Standing.WAITING, Standing.RETRIED
PARKED, SUPERSEDED, UNWANTED, EARLIER = Standing.PARKED, Standing.SUPERSEDED, Standing.UNWANTED, Standing.EARLIER


def of(ledger: Ledger, key: str) -> RunHistory:
    number = ledger.conn.scalar(select(schema.run.c.id).where(schema.run.c.key == key))
    assert number is not None
    return history.of_run(ledger.conn, number)


def standings(ledger: Ledger, key: str, sink: str = "a") -> list[Standing]:
    found = of(ledger, key).events
    return [each.standing for event in found for each in event.deliveries if each.sink == sink]


def test_events_wait_and_are_delivered_in_order(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START, RUNNING, COMPLETE)
    assert standings(ledger, "r") == [WAITING] * 3
    ledger.deliver()
    assert standings(ledger, "r") == [DELIVERED, WAITING, WAITING]
    ledger.drain()
    assert standings(ledger, "r") == [DELIVERED] * 3


def acknowledged(ledger: Ledger, key: str, sink: str = "a") -> list[int | None]:
    found = of(ledger, key).events
    return [each.acknowledged_at for event in found for each in event.deliveries if each.sink == sink]


def test_a_delivered_event_says_when_the_sink_acknowledged_it_last(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START, COMPLETE)
    first = ledger.now = ledger.now + SECOND
    ledger.deliver()
    assert acknowledged(ledger, "r") == [first, None]
    second = ledger.now = ledger.now + SECOND
    ledger.deliver()
    assert (acknowledged(ledger, "r"), acknowledged(ledger, "r", "b")) == ([first, second], [None, None])
    [strand] = ledger.conn.scalars(select(schema.run.c.strand_id))
    resend.strands(ledger.conn, ledger.held["a"], ledger.sinks["a"], [strand], ledger.now)
    ledger.now += SECOND
    ledger.deliver()
    assert acknowledged(ledger, "r") == [ledger.now, None], "the other one waits again"


def test_what_was_refused_or_put_off_is_not_acknowledged(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START, COMPLETE)
    ledger.park()
    ledger.postpone()
    assert ledger.conn.execute(select(schema.acknowledgement)).all() == []


def test_an_event_from_before_a_sink_is_delivered_once_it_was_filled_with_it(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START, COMPLETE)
    ledger.drain()
    ledger.configure(a=ALL, new=ALL)
    assert standings(ledger, "r", "new") == [EARLIER] * 2
    [strand] = ledger.conn.scalars(select(schema.run.c.strand_id))
    resend.strands(ledger.conn, ledger.held["new"], ledger.sinks["new"], [strand], ledger.now)
    ledger.drain("new")
    assert standings(ledger, "r", "new") == [DELIVERED] * 2


def test_an_event_that_was_tried_says_how_often_why_and_when_next(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START, COMPLETE)
    ledger.postpone()
    [start, complete] = of(ledger, "r").events
    [at_a, at_b] = start.deliveries
    assert (at_a.standing, at_a.attempts, at_a.cause, at_a.due_at) == (RETRIED, 1, "no connection", ledger.now + SECOND)
    assert at_b.standing is WAITING
    assert complete.deliveries[0].standing is WAITING
    assert (start.kind, start.happened_at, start.created_at, start.body) == (START, ledger.now, ledger.now, b"r START")


def test_what_a_sink_does_not_take_is_unwanted(ledger: Ledger) -> None:
    ledger.configure(a=ENDS)
    ledger.happen("r", OTHER, START, RUNNING, COMPLETE)
    assert standings(ledger, "r") == [UNWANTED, WAITING, UNWANTED, WAITING]
    ledger.drain()
    assert standings(ledger, "r") == [UNWANTED, DELIVERED, UNWANTED, DELIVERED]


def test_a_parked_event_is_parked_until_it_is_sent_again(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START)
    ledger.park(cause="400: no")
    assert standings(ledger, "r") == [PARKED]
    assert of(ledger, "r").events[0].deliveries[0].cause == "400: no"
    named = [(event.strand_id, event.seq) for event in parked.listing(ledger.conn, 1)]
    parked.retry(ledger.conn, ledger.held["a"], ledger.sinks["a"], named, ledger.now)
    ledger.happen("r", COMPLETE)
    assert standings(ledger, "r") == [PARKED, WAITING]
    ledger.drain()
    assert standings(ledger, "r") == [DELIVERED, DELIVERED]


def test_a_parked_event_behind_which_another_was_delivered_is_superseded(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START, FAIL)
    ledger.park()
    ledger.deliver()
    assert standings(ledger, "r") == [SUPERSEDED, DELIVERED]


def test_a_new_sink_gets_open_runs_from_their_start_and_nothing_of_those_that_ended(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("over", START, COMPLETE)
    ledger.happen("open", OTHER, START)
    ledger.configure(a=ALL, b=ALL)
    assert standings(ledger, "over", "b") == [EARLIER, EARLIER]
    assert standings(ledger, "open", "b") == [EARLIER, WAITING]
    ledger.drain("b")
    assert standings(ledger, "open", "b") == [EARLIER, DELIVERED]
    ledger.happen("open", COMPLETE)
    assert standings(ledger, "open", "b") == [EARLIER, DELIVERED, WAITING]


def test_a_sink_that_left_is_shown_where_it_is_owed_something(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START)
    ledger.drain("b")
    configured_sinks.sync_sinks(ledger.conn, {}, ledger.now)
    assert [each.sink for each in of(ledger, "r").events[0].deliveries] == ["a"]


def test_children_share_a_strand_and_have_a_history_each(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("parent", START)
    ledger.happen("child", START, COMPLETE, parent=child_of("parent"))
    ledger.deliver()
    assert standings(ledger, "parent") == [DELIVERED]
    assert standings(ledger, "child") == [WAITING, WAITING]


def test_a_sink_that_did_not_answer_is_in_doubt(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START)
    ledger.postpone(unanswered=True, recheck_at=ledger.now + SECOND)
    assert of(ledger, "r").doubts == ("a",)


def test_a_run_that_retention_has_emptied_has_no_events(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    assert history.of_run(ledger.conn, 4711) == RunHistory((), ())


@pytest.mark.parametrize("seed", range(6))
def test_what_is_said_to_wait_is_what_is_sent(ledger: Ledger, seed: int) -> None:
    rng = random.Random(seed)
    ledger.configure(a=ALL, b=ENDS)
    keys = ["p", "q", "r"]
    for key in keys:
        ledger.happen(key, OTHER, START, RUNNING, RUNNING, COMPLETE)
    for _ in range(rng.randrange(12)):
        sink = rng.choice("ab")
        for item in ledger.claim(sink):
            if rng.random() < 0.3:
                ledger.park(item, sink=sink)
            else:
                ledger.deliver(item, sink=sink)
    for sink in "ab":
        left = sorted(waiting(ledger, keys, sink))
        assert left == sorted(ledger.drain(sink)), f"seed {seed}"


def waiting(ledger: Ledger, keys: Iterable[str], sink: str) -> Iterable[str]:
    for key in keys:
        for event in of(ledger, key).events:
            if any(each.sink == sink and each.standing in {WAITING, RETRIED} for each in event.deliveries):
                yield event.body.decode()


def test_marks_say_the_worst_of_what_a_sink_lacks(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ENDS)
    ledger.happen("p", START, RUNNING, COMPLETE)
    ledger.happen("q", START)
    numbers = dict(ledger.conn.execute(select(schema.run.c.key, schema.run.c.id)).all())

    def marks(key: str) -> list[tuple[str, Standing, int]]:
        found = history.marks(ledger.conn, [*numbers.values()]).get(numbers[key], [])
        return [(mark.sink, mark.standing, mark.count) for mark in found]

    assert (marks("p"), marks("q")) == ([("a", WAITING, 3), ("b", WAITING, 2)], [("a", WAITING, 1), ("b", WAITING, 1)])
    ledger.postpone(ledger.claim("a")[0])
    assert marks("p") == [("a", RETRIED, 3), ("b", WAITING, 2)]
    ledger.drain("b")
    at_b = ("b", DELIVERED, 0)
    assert (marks("p"), marks("q")) == ([("a", RETRIED, 3), at_b], [("a", WAITING, 1), at_b])
    ledger.now += SECOND
    ledger.park(next(head for head in ledger.claim("a") if head.body == b"p START"))
    assert marks("p") == [("a", PARKED, 1), at_b]
    ledger.drain("a")
    assert marks("p") == [("a", SUPERSEDED, 1), at_b]


def test_marks_of_sinks_that_came_later_or_want_nothing_of_the_run(ledger: Ledger) -> None:
    ledger.configure(a=ALL, ends=ENDS)
    ledger.happen("p", START, COMPLETE)
    ledger.happen("q", OTHER)
    ledger.drain("a")
    ledger.drain("ends")
    ledger.configure(a=ALL, ends=ENDS, late=ALL)
    numbers = dict(ledger.conn.execute(select(schema.run.c.key, schema.run.c.id)).all())
    found = history.marks(ledger.conn, [*numbers.values()])
    standings = {key: {mark.sink: mark.standing for mark in found[number]} for key, number in numbers.items()}
    assert standings["p"] == {"a": DELIVERED, "ends": DELIVERED, "late": EARLIER}
    assert standings["q"]["ends"] == UNWANTED


def test_marks_say_where_an_attempt_was_not_answered(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("p", START)
    ledger.postpone(unanswered=True, recheck_at=ledger.now + SECOND)
    [found] = history.marks(ledger.conn, [1]).values()
    assert [(mark.sink, mark.standing, mark.unanswered) for mark in found] == [
        ("a", RETRIED, True),
        ("b", WAITING, False),
    ]


def test_a_run_is_found_by_the_number_of_its_event(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("p", START)
    ledger.happen("q", START)
    [second] = of(ledger, "q").events
    assert [row.key for row in run_queries.runs_by_event(ledger.conn, str(second.number))] == ["q"]
    ledger.park()
    names = {event.run_key: event.name for event in parked.listing(ledger.conn, 10)}
    assert [row.key for row in run_queries.runs_by_event(ledger.conn, names["p"])] == ["p"]
    assert run_queries.runs_by_event(ledger.conn, "1.2.3") == []
    assert run_queries.runs_by_event(ledger.conn, "4711") == []
    assert run_queries.runs_by_event(ledger.conn, "²") == []
    assert run_queries.runs_by_event(ledger.conn, "9" * 30) == []
