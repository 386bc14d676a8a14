"""Retention, and what it must never touch."""

from collections.abc import Callable

import pytest
from sqlalchemy import select, update

from collector.ledger import (
    claims,
    configured_sources,
    doubts,
    due_times,
    job_queries,
    parked,
    queries,
    retention,
    runs,
    schema,
    stored,
    tallies,
)
from collector.ledger.configured_sources import Configured
from collector.ledger.retention import Swept
from collector.ledger.runs import RunChange
from collector.model import RunState, Skip, SkipKind
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
    T0,
    Ledger,
    a_job,
    a_run,
    child_of,
)

LATER = NOW + 24 * HOUR


def sweep(ledger: Ledger, step: Callable[[int], Swept]) -> int:
    after: int | None = 0
    removed = 0
    while after is not None:
        swept = step(after)
        removed, after = removed + swept.removed, swept.after
    return removed


def expire_events(ledger: Ledger, older_than_ms: int = LATER) -> int:
    return sweep(ledger, lambda after: retention.expire_events(ledger.conn, after, older_than_ms))


def expire_runs(ledger: Ledger, older_than_ms: int = LATER) -> int:
    return sweep(ledger, lambda after: retention.expire_runs(ledger.conn, after, {ledger.source: older_than_ms}))


def left(ledger: Ledger) -> list[str]:
    return [body.decode() for body in ledger.conn.scalars(select(schema.event.c.body).order_by(schema.event.c.id))]


def test_delivered_events_go_when_they_are_old(ledger: Ledger) -> None:
    ledger.happen("old", START, COMPLETE)
    ledger.now += HOUR
    ledger.happen("young", START, COMPLETE)
    ledger.drain()
    assert expire_events(ledger, NOW + 1) == 2
    assert left(ledger) == ["young START", "young COMPLETE"]
    assert ledger.rows("acknowledgement") == 2, "of each event as long as the event"
    assert expire_events(ledger, NOW + 1) == 0


def test_acknowledgements_go_with_their_own_events_and_no_others(ledger: Ledger) -> None:
    ledger.happen("open", START)
    ledger.happen("over", START, COMPLETE)
    ledger.drain()
    assert expire_events(ledger) == 2
    [stays] = ledger.conn.scalars(select(schema.acknowledgement.c.strand_id))
    assert stays == ledger.conn.scalar(select(schema.event.c.strand_id)), "both strands have a first event"


def test_what_a_sink_is_owed_stays(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ENDS)
    ledger.happen("r", START, RUNNING, COMPLETE)
    ledger.drain("a")
    ledger.deliver(sink="b")
    assert expire_events(ledger) == 2, "b has its START and wants no RUNNING"
    assert left(ledger) == ["r COMPLETE"]
    assert ledger.drain("b") == ["r COMPLETE"]
    assert expire_events(ledger) == 1


def test_what_is_parked_stays(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.park()
    ledger.drain()
    expire_events(ledger)
    assert left(ledger) == ["r START"]


def test_what_is_in_doubt_stays(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.postpone(unanswered=True, recheck_at=LATER)
    ledger.now += SECOND
    ledger.deliver(recheck_at=LATER)
    ledger.deliver(recheck_at=LATER)
    expire_events(ledger)
    assert left(ledger) == ["r START", "r COMPLETE"]


def test_events_of_open_runs_stay_and_those_of_abandoned_ones_go(ledger: Ledger) -> None:
    ledger.happen("open", START)
    ledger.happen("given up", START)
    ledger.commit(RunChange(a_run("given up", RunState.UNKNOWN, abandoned_at=a_run("x").seen_at)))
    ledger.drain()
    expire_events(ledger)
    assert left(ledger) == ["open START"]


def test_many_events_go_in_short_steps(ledger: Ledger) -> None:
    ledger.poll(*((str(number), (START, COMPLETE), {}) for number in range(1200)))
    ledger.deliver(*ledger.claim(limit=5000))
    ledger.deliver(*ledger.claim(limit=5000))
    ledger.happen("pending", START, FAIL)
    swept = retention.expire_events(ledger.conn, 0, LATER)
    assert (swept.removed, swept.after) == (1000, 1000)
    assert expire_events(ledger) == 1400
    assert left(ledger) == ["pending START", "pending FAIL"]


def test_numbers_of_events_never_come_back(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.drain()
    expire_events(ledger)
    ledger.happen("s", START)
    assert ledger.conn.scalar(select(schema.event.c.id)) == 3


def test_ended_runs_go_after_their_events_and_after_the_look_back(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.happen("open", START)
    ledger.drain()
    assert expire_runs(ledger) == 0, "its events are there"
    expire_events(ledger)
    assert expire_runs(ledger, NOW) == 0, "the look-back would find it again"
    assert expire_runs(ledger) == 1
    assert set(runs.by_keys(ledger.conn, ledger.source, ["r", "open"])) == {"open"}
    assert sweep(ledger, lambda after: retention.expire_runs(ledger.conn, after, {})) == 0


def test_the_newest_run_is_found_of_each_source_however_little_runs_there(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP", 2)
    names = [Configured(name) for name in ("source", "idle", "empty")]
    numbers = configured_sources.sync_sources(ledger.conn, names, ledger.now)
    busy, idle = numbers["source"], numbers["idle"]
    ledger.source = idle
    ledger.happen("older", START)
    ledger.now += HOUR
    ledger.happen("newer", START, COMPLETE)
    of_idle, ledger.source = ledger.now, busy
    for key in ("a", "b", "c"):
        ledger.now += HOUR
        ledger.happen(key, START)
    assert retention.newest_runs(ledger.conn, numbers.values()) == {busy: ledger.now, idle: of_idle}


def test_a_run_that_ended_lately_stays_whatever_the_clock_said_when_it_was_reported(ledger: Ledger) -> None:
    """The clock of a machine that has just booted may be years behind; the look-back would find the run again."""
    ledger.now -= 1000 * HOUR
    ledger.happen("r", START, COMPLETE, ended_at=T0)
    ledger.drain()
    expire_events(ledger)
    assert expire_runs(ledger, NOW) == 0
    assert expire_runs(ledger) == 1


def test_a_root_stays_as_long_as_its_children(ledger: Ledger) -> None:
    ledger.happen("p", START)
    ledger.happen("c", START, parent=child_of("p"))
    ledger.happen("p", COMPLETE)
    ledger.drain()
    expire_events(ledger)
    assert expire_runs(ledger) == 0
    ledger.happen("c", COMPLETE)
    assert ledger.drain() == ["c COMPLETE"]
    expire_events(ledger)
    assert expire_runs(ledger) + expire_runs(ledger) == 2
    assert ledger.rows("run") == 0


def test_parked_events_expire_and_are_counted(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    ledger.happen("r", START, COMPLETE)
    for sink in ("a", "a", "b"):
        ledger.park(sink=sink)
    ledger.now += HOUR
    [*_, start] = [event for event in parked.listing(ledger.conn, 10) if event.sink == "a"]
    parked.retry(ledger.conn, ledger.held["a"], ledger.sinks["a"], [(start.strand_id, start.seq)], ledger.now)
    assert retention.expire_parked(ledger.conn, NOW) == {}
    assert retention.expire_parked(ledger.conn, LATER) == {ledger.sinks["a"]: 1, ledger.sinks["b"]: 1}
    assert (ledger.tally("a"), ledger.tally("b")) == ((1, 0), (1, 0))
    for sink in ("a", "b"):
        before = ledger.tally(sink)
        tallies.recount(ledger.conn, ledger.sinks[sink], ALL)
        assert ledger.tally(sink) == before
    assert ledger.drain("a") == ["r START"]


def test_only_so_many_parked_events_expire_at_once(ledger: Ledger) -> None:
    ledger.happen("r", START, RUNNING, COMPLETE)
    for _ in range(3):
        ledger.park()
    assert retention.expire_parked(ledger.conn, LATER, limit=2) == {ledger.sinks["a"]: 2}
    assert ledger.tally() == (0, 1)


def test_old_skips_and_idle_jobs_are_forgotten(ledger: Ledger) -> None:
    ledger.poll(("r", (START, COMPLETE), {}), ("s", (START,), {"job": a_job("transformation/2")}))
    ledger.commit(skips=(Skip(SkipKind.ROW, "row 1", "no id"),))
    assert retention.prune(ledger.conn, NOW) == {"request": 0, "skip": 0, "job": 0, "doubt": 0}
    assert retention.prune(ledger.conn, LATER) == {"request": 0, "skip": 1, "job": 1, "doubt": 0}
    assert [job.name for job in job_queries.jobs(ledger.conn, 10)] == ["transformation/2"], "its run is open"


def pulled_in(ledger: Ledger, now_ms: int = NOW) -> int:
    limits = due_times.Limits(now_ms, now_ms + HOUR, now_ms + 60 * SECOND, skew=SECOND)
    is_due = due_times.has_impossible(ledger.conn, limits)
    moved = due_times.pull_in(ledger.conn, limits)
    assert is_due == (moved > 0)
    return moved


def test_clocks_that_differ_by_less_than_a_moment_are_left_alone(ledger: Ledger) -> None:
    ledger.now += SECOND
    ledger.happen("r", START)
    assert pulled_in(ledger) == 0
    assert pulled_in(ledger, NOW - 1) == 2


def test_a_clock_that_ran_ahead_does_not_hold_events_up(ledger: Ledger) -> None:
    ledger.now += 1000 * HOUR
    ledger.happen("r", START, COMPLETE)
    ledger.commit(RunChange(a_run("due", due_at=a_run("x").seen_at.replace(year=2030))))
    ledger.now = NOW
    assert ledger.heads() == []
    assert pulled_in(ledger) == 2
    assert pulled_in(ledger) == 0
    assert queries.sinks(ledger.conn)[0].oldest == NOW
    assert ledger.drain() == ["r START", "r COMPLETE"]
    assert "due" in [run.key for run in stored.tracked(ledger.conn, ledger.source, NOW, 10).runs]


def test_nor_does_one_that_ran_ahead_a_little(ledger: Ledger) -> None:
    """What was never tried was due when it was committed, and a run is not seen in the future."""
    ledger.now += HOUR // 2
    ledger.happen("r", START, COMPLETE)
    ledger.happen("open", START)
    ledger.now = NOW
    assert (ledger.heads(), stored.tracked(ledger.conn, ledger.source, NOW, 10).runs) == ([], [])
    assert pulled_in(ledger) == 3
    assert pulled_in(ledger) == 0
    assert ledger.drain() == ["r START", "open START", "r COMPLETE"]
    assert [run.key for run in stored.tracked(ledger.conn, ledger.source, NOW, 10).runs] == ["open"]


def test_back_offs_are_left_alone_by_that(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.postpone()
    assert pulled_in(ledger) == 0
    assert claims.next_due(ledger.conn, ledger.sinks["a"]) == NOW + SECOND


def test_a_back_off_by_a_clock_that_ran_ahead_a_little_ends_with_it(ledger: Ledger) -> None:
    ledger.happen("r", START)
    ledger.now += HOUR // 2
    ledger.postpone()
    assert pulled_in(ledger) == 1
    assert claims.next_due(ledger.conn, ledger.sinks["a"]) == NOW


def test_a_lane_that_was_never_tried_is_pulled_in_however_near_it_is(ledger: Ledger) -> None:
    """Its due time is its commit time, and no schedule means a time to come by that."""
    ledger.now += 10 * SECOND
    ledger.happen("r", START)
    ledger.now = NOW
    assert ledger.heads() == []
    assert pulled_in(ledger) == 2, "its lane and its run"
    assert ledger.heads() == ["r START"]


def test_what_waits_since_a_time_to_come_waits_since_now(ledger: Ledger) -> None:
    ledger.happen("early", START)
    ledger.now += HOUR
    ledger.postpone()
    ledger.happen("late", START)
    ledger.postpone(*(item for item in ledger.claim() if item.body == b"late START"))
    assert pulled_in(ledger, NOW + SECOND) == 3
    sinces = ledger.conn.scalars(select(schema.lane.c.since).order_by(schema.lane.c.strand_id)).all()
    assert sinces == [NOW, NOW + SECOND]


def test_a_look_at_a_doubt_that_a_clock_ahead_put_off_is_due_now(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.postpone(unanswered=True, recheck_at=NOW)
    ledger.now += SECOND
    while items := ledger.claim():
        ledger.deliver(*items, recheck_at=NOW + 10 * HOUR)
    assert doubts.due(ledger.conn, ledger.sinks["a"], NOW, 10) == []
    assert pulled_in(ledger) == 1
    assert [item.kind for item in doubts.due(ledger.conn, ledger.sinks["a"], NOW, 10)] == [COMPLETE]
    assert pulled_in(ledger) == 0


def test_free_pages_do_not_count_against_the_limit(ledger: Ledger) -> None:
    ledger.poll(*((str(number), (START, COMPLETE), {}) for number in range(300)))
    full = retention.size(ledger.conn)
    ledger.drain()
    expire_events(ledger)
    assert retention.size(ledger.conn).used < full.used
    assert retention.size(ledger.conn).file >= full.used


@pytest.mark.parametrize("table", ["lane", "parked", "doubt"])
def test_an_empty_ledger_has_nothing_to_sweep(ledger: Ledger, table: str) -> None:
    assert (expire_events(ledger), expire_runs(ledger), ledger.rows(table)) == (0, 0, 0)


def test_a_young_event_ends_the_walk(ledger: Ledger) -> None:
    ledger.happen("r", START, COMPLETE)
    ledger.drain()
    assert retention.expire_events(ledger.conn, 0, NOW) == Swept(None, 0)
    ledger.conn.execute(update(schema.event).values(created_at=NOW - 1))
    assert expire_events(ledger, NOW) == 2
