"""Sinks that come and go, and change their minds."""

from sqlalchemy import delete, select, update

from collector.ledger import backfill, configured_sources, parked, queries, retention, schema
from collector.ledger.configured_sources import Configured
from collector.ledger.runs import RunChange
from collector.model import EventKind, RunState
from tests.unit.ledger.ledgers import (
    ALL,
    COMPLETE,
    ENDS,
    FAIL,
    HOUR,
    NOW,
    OTHER,
    RUNNING,
    START,
    Ledger,
    a_run,
    child_of,
)


def configure(ledger: Ledger, **sinks: frozenset[EventKind]) -> None:
    """As the next start of the service does."""
    ledger.configure(**sinks)


def expire(ledger: Ledger) -> None:
    after: int | None = 0
    while after is not None:
        after = retention.expire_events(ledger.conn, after, ledger.now + 1).after


def test_sources_keep_their_numbers(ledger: Ledger) -> None:
    first = configured_sources.sync_sources(ledger.conn, [Configured("source"), Configured("b")], NOW)
    assert configured_sources.sync_sources(ledger.conn, [Configured("c"), Configured("b")], NOW)["b"] == first["b"]
    assert configured_sources.sync_sources(ledger.conn, [Configured("source")], NOW) == {"source": ledger.source}
    assert configured_sources.sync_sources(ledger.conn, [], NOW) == {}
    assert [row.name for row in queries.sources(ledger.conn)] == ["b", "c", "source"]


def test_sinks_keep_their_numbers_and_what_they_are_owed(ledger: Ledger) -> None:
    ledger.happen("r", START)
    before = ledger.sinks["a"]
    configure(ledger, a=ALL)
    assert ledger.sinks["a"] == before
    assert ledger.heads() == ["r START"]
    assert ledger.tally() == (1, 0)


def test_a_new_sink_is_owed_the_open_runs_from_their_start_on(ledger: Ledger) -> None:
    ledger.happen("ended", START, COMPLETE)
    ledger.happen("open", OTHER)
    ledger.happen("open", START, RUNNING)
    ledger.happen("queued", OTHER)
    ledger.happen("given up", START)
    ledger.commit(RunChange(a_run("given up", RunState.UNKNOWN, abandoned_at=a_run("x").seen_at)))
    configure(ledger, a=ALL, new=ENDS)
    assert ledger.tally("new") == (1, 0)
    ledger.happen("open", COMPLETE)
    ledger.happen("queued", START)
    assert sorted(ledger.drain("new")) == ["open COMPLETE", "open START", "queued START"]
    assert ledger.tally("new") == (0, 0)


def test_a_new_sink_is_owed_a_whole_strand_while_its_root_is_open(ledger: Ledger) -> None:
    ledger.happen("p", START)
    ledger.happen("c", START, COMPLETE, parent=child_of("p"))
    configure(ledger, a=ALL, new=ALL)
    assert ledger.tally("new") == (3, 0)
    assert ledger.drain("new") == ["p START", "c START", "c COMPLETE"]


def test_the_start_of_a_child_that_ended_is_not_that_of_an_open_parent(ledger: Ledger) -> None:
    """A parent that is queued has none yet."""
    ledger.happen("parent", OTHER)
    ledger.happen("child", START, COMPLETE, parent=child_of("parent"))
    assert backfill.starts_of_open_runs(ledger.conn) == {}
    ledger.happen("parent", START)
    [(_, seq)] = backfill.starts_of_open_runs(ledger.conn).items()
    assert seq == ledger.conn.scalar(select(schema.event.c.seq).where(schema.event.c.body == b"parent START"))


def test_the_start_of_an_open_run_outlives_retention_for_sinks_to_come(ledger: Ledger) -> None:
    ledger.happen("open", START)
    ledger.drain()
    expire(ledger)
    configure(ledger, a=ALL, new=ALL)
    assert ledger.drain("new") == ["open START"]


def test_a_sink_that_left_is_owed_nothing_new_and_keeps_the_old(ledger: Ledger) -> None:
    ledger.happen("r", START)
    configure(ledger, b=ALL)
    ledger.happen("r", COMPLETE)
    row = next(row for row in queries.sinks(ledger.conn) if row.name == "a")
    assert (row.pending, row.retired_at) == (1, NOW)


def test_a_sink_that_comes_back_goes_on_where_it_was(ledger: Ledger) -> None:
    ledger.happen("waiting", START)
    ledger.happen("delivered", START)
    ledger.deliver(ledger.claim()[1])
    ledger.happen("delivered before", START, FAIL)
    ledger.drain()
    ledger.happen("waiting", RUNNING)
    ledger.now += HOUR
    configure(ledger)
    ledger.now += HOUR
    ledger.happen("waiting", COMPLETE)
    ledger.happen("delivered", COMPLETE)
    ledger.happen("came and went", START, COMPLETE)
    ledger.happen("new", START)
    configure(ledger, a=ALL)
    assert ledger.tally() == (4, 0)
    assert sorted(ledger.drain()) == ["delivered COMPLETE", "new START", "waiting COMPLETE", "waiting RUNNING"]
    ledger.happen("new", COMPLETE)
    assert ledger.drain() == ["new COMPLETE"]
    assert ledger.tally() == (0, 0)


def test_lanes_whose_head_is_gone_move_on_to_what_is_left_and_that_is_listed(ledger: Ledger) -> None:
    ledger.happen("half", START)
    ledger.happen("whole", START, COMPLETE)
    ledger.happen("refused", START, COMPLETE)
    ledger.park(ledger.claim()[2])
    configure(ledger)
    ledger.happen("refused", RUNNING)
    event, run = schema.event, schema.run
    half = select(run.c.id).where(run.c.key == "half").scalar_subquery()
    ledger.now += HOUR
    ledger.happen("half", COMPLETE)
    ledger.conn.execute(delete(event).where((event.c.run_id != half) | (event.c.kind == START)))
    configure(ledger, a=ALL)
    assert ledger.drain() == ["half COMPLETE"]
    assert (ledger.tally(), ledger.rows("lane"), ledger.rows("parked")) == ((0, 0), 0, 0)
    [gap] = queries.skips(ledger.conn, 10)
    assert (gap.kind, gap.subject) == ("gap", "sink a")
    assert gap.cause.startswith("5 events")


def test_retention_does_not_wait_for_a_sink_that_left(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START, COMPLETE)
    ledger.drain("b")
    expire(ledger)
    assert ledger.rows("event") == 2
    configure(ledger, b=ALL)
    expire(ledger)
    assert ledger.rows("event") == 0
    configure(ledger, a=ALL, b=ALL)
    assert ledger.tally("a") == (0, 0)
    assert ledger.drain("a") == []


def test_a_narrower_choice_holds_from_each_lanes_next_event_on(ledger: Ledger) -> None:
    ledger.happen("r", START, RUNNING, RUNNING)
    ledger.happen("s", START, RUNNING, COMPLETE)
    configure(ledger, a=frozenset({COMPLETE}))
    assert ledger.tally() == (3, 0), "two heads and an end"
    assert sorted(ledger.drain()) == ["r START", "s COMPLETE", "s START"]
    assert ledger.tally() == (0, 0)
    ledger.happen("r", RUNNING)
    assert ledger.drain() == []


def test_a_wider_choice_holds_from_each_lanes_next_event_on(ledger: Ledger) -> None:
    configure(ledger, a=ENDS)
    ledger.happen("r", START, RUNNING, COMPLETE)
    configure(ledger, a=ALL)
    assert ledger.tally() == (3, 0)
    assert ledger.drain() == ["r START", "r RUNNING", "r COMPLETE"]
    assert ledger.tally() == (0, 0)


def test_what_a_wider_choice_uncovers_in_a_lane_is_counted(ledger: Ledger) -> None:
    configure(ledger, a=ENDS | {START})
    ledger.happen("r", START)
    ledger.happen("r", RUNNING)
    configure(ledger, a=ALL)
    ledger.happen("r", COMPLETE)
    assert ledger.tally() == (3, 0)
    for left in (2, 1, 0):
        ledger.deliver()
        assert ledger.tally() == (left, 0)


def test_wrong_counts_are_put_right_at_the_start(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.conn.execute(update(schema.tally).values(pending=99))
    configure(ledger, a=ALL)
    assert ledger.tally() == (1, 0)


def test_a_retry_under_way_survives_a_sink_that_left(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.park()
    [event] = parked.listing(ledger.conn, 10)
    parked.retry(ledger.conn, ledger.held["a"], ledger.sinks["a"], [(event.strand_id, event.seq)], NOW)
    configure(ledger)
    configure(ledger, a=ALL)
    assert ledger.tally() == (2, 0)
    assert ledger.drain() == ["r START", "r COMPLETE"]
