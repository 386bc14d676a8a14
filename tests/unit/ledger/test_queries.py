"""What people and metrics are shown."""

from dataclasses import replace
from typing import Any

from sqlalchemy import select

from collector.ledger import (
    backlog,
    configured_sources,
    job_queries,
    lanes,
    queries,
    run_queries,
    runs,
    schema,
    tallies,
)
from collector.ledger.backlog import Cause
from collector.ledger.configured_sources import Configured
from collector.ledger.run_queries import RunFilter
from collector.ledger.runs import RunChange
from collector.model import Facts, RunState, Skip, SkipKind
from tests.unit.ledger.ledgers import (
    ALL,
    COMPLETE,
    FAIL,
    HOUR,
    NOW,
    OTHER,
    RUNNING,
    SECOND,
    START,
    T0,
    Ledger,
    a_run,
    at,
)


def test_a_sink_shows_what_waits_and_for_how_long(ledger: Ledger) -> None:
    assert queries.sinks(ledger.conn) == [
        queries.SinkRow(ledger.sinks["a"], "a", 0, 0, 0, None, None, None, None),
    ]
    ledger.happen("1", START)
    ledger.postpone(unanswered=True, recheck_at=NOW)
    ledger.now += HOUR
    ledger.happen("2", START, COMPLETE)
    ledger.park(ledger.claim()[-1])
    ledger.take_over(clock_ms=7)
    [row] = queries.sinks(ledger.conn)
    assert (row.pending, row.parked, row.doubts, row.oldest) == (2, 1, 1, NOW)
    assert (row.cause, row.unclean_at) == ("no connection", ledger.now + 7)


def test_the_oldest_event_is_found_whether_or_not_it_was_tried(ledger: Ledger) -> None:
    ledger.happen("old", START)
    ledger.now += SECOND
    ledger.happen("tried", START)
    ledger.postpone(ledger.claim()[1])
    assert queries.sinks(ledger.conn)[0].oldest == NOW


def test_causes_are_counted_for_their_own_sink(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    for key in ("1", "2", "3"):
        ledger.happen(key, START)
    ledger.park(ledger.claim("a")[0])
    ledger.postpone(*ledger.claim("a"))
    ledger.park(ledger.claim("b")[0], sink="b", cause="too long")
    repeated = Cause("no connection", parked=0, retried=2)
    assert backlog.causes(ledger.conn, ledger.sinks["a"], 5) == [repeated, Cause("refused", parked=1, retried=0)]
    assert backlog.causes(ledger.conn, ledger.sinks["a"], 1) == [repeated]
    assert backlog.causes(ledger.conn, ledger.sinks["b"], 5) == [Cause("too long", parked=1, retried=0)]


def test_a_sink_is_counted_afresh_alone(ledger: Ledger) -> None:
    ledger.configure(a=ALL, b=ALL)
    for key in ("1", "2"):
        ledger.happen(key, START, COMPLETE)
    ledger.drain("a")
    for sink in ("a", "b"):
        tallies.recount(ledger.conn, ledger.sinks[sink], ALL)
    assert (ledger.tally("a"), ledger.tally("b")) == ((0, 0), (4, 0))


def test_events_are_counted_in_bytes_for_their_own_source(ledger: Ledger) -> None:
    names = ("before", "source", "behind")
    configured_sources.sync_sources(ledger.conn, [Configured(name) for name in names], NOW)
    ledger.happen("r", START)
    ledger.happen("r", COMPLETE)
    source = schema.source.c
    sizes = dict(ledger.conn.execute(select(source.name, source.event_bytes)).all())
    assert sizes == {"before": 0, "source": len("r START") + len("r COMPLETE"), "behind": 0}


def test_a_source_shows_its_open_runs(ledger: Ledger) -> None:
    configured_sources.sync_sources(ledger.conn, [Configured("idle")], NOW)
    ledger.happen("q", OTHER)
    ledger.happen("r", START)
    ledger.happen("s", START)
    ledger.happen("ended", START, COMPLETE)
    ledger.commit(RunChange(a_run("gone", RunState.UNKNOWN, abandoned_at=T0)), polled_at_ms=NOW)
    idle, source = queries.sources(ledger.conn)
    assert (idle.name, idle.open, idle.pending, idle.polled_at) == ("idle", {}, 0, None)
    assert source.open == {RunState.QUEUED: 1, RunState.RUNNING: 2, RunState.UNKNOWN: 1}
    assert (source.abandoned, source.pending, source.polled_at) == (1, 5, NOW)


def test_what_is_watched_is_counted_by_state(ledger: Ledger) -> None:
    other = configured_sources.sync_sources(ledger.conn, [Configured("another")], NOW)["another"]
    ledger.happen("q", OTHER)
    ledger.happen("r", START)
    ledger.happen("s", START)
    ledger.happen("w", START, RUNNING)
    ledger.happen("ended", START, COMPLETE)
    ledger.commit(RunChange(a_run("gone", RunState.UNKNOWN, abandoned_at=T0)))
    ledger.commit(RunChange(a_run("enriched", RunState.FAILED, started_at=T0)))
    expected = {RunState.QUEUED: 1, RunState.RUNNING: 2, RunState.WAITING: 1}
    assert queries.watched(ledger.conn, ledger.source) == expected
    assert queries.watched(ledger.conn, other) == {}


def test_the_run_that_waits_longest_for_a_person(ledger: Ledger) -> None:
    numbers = configured_sources.sync_sources(ledger.conn, [Configured("source"), Configured("other")], NOW)
    mine, ledger.source = (ledger.source, ledger.lease), numbers["other"]
    ledger.lease = ledger._take("source:other")
    ledger.happen("waits there", START, RUNNING)
    ledger.source, ledger.lease = mine

    def since() -> int | None:
        found = {row.name: row.waiting_since for row in queries.sources(ledger.conn)}
        assert found["other"] == NOW
        return found["source"]

    ledger.happen("runs", START)
    assert since() is None
    ledger.now += HOUR
    ledger.happen("first", START, RUNNING)
    ledger.now += HOUR
    ledger.happen("second", START, RUNNING)
    assert since() == NOW + HOUR
    ledger.happen("first", COMPLETE)
    assert since() == NOW + 2 * HOUR
    waiting = a_run("gone", RunState.WAITING, last_event_at=T0, started_at=T0, abandoned_at=T0)
    ledger.commit(RunChange(waiting))
    assert since() == NOW + 2 * HOUR, "it is not watched any more"
    ledger.happen("second", COMPLETE)
    assert since() is None


def test_runs_are_listed_newest_first_and_by_choice(ledger: Ledger) -> None:
    other = configured_sources.sync_sources(ledger.conn, [Configured("other")], NOW)["other"]
    ledger.happen("1", START, COMPLETE)
    ledger.happen("2", START, FAIL)
    ledger.happen("3", START)
    listed = run_queries.runs(ledger.conn, 10)
    assert [(run.key, run.state) for run in listed] == [
        ("3", RunState.RUNNING),
        ("2", RunState.FAILED),
        ("1", RunState.SUCCEEDED),
    ]
    assert (listed[2].source, listed[2].job, listed[2].ended_at) == ("source", "transformation/1", NOW)
    assert [run.key for run in run_queries.runs(ledger.conn, 1)] == ["3"]
    assert [run.key for run in run_queries.runs(ledger.conn, 10, RunFilter(state=RunState.FAILED))] == ["2"]
    assert run_queries.runs(ledger.conn, 10, RunFilter(other)) == []
    assert len(run_queries.runs(ledger.conn, 10, RunFilter(ledger.source))) == 3


def test_runs_are_searched_by_text_and_by_the_time_at_which_they_started(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    for key, minutes, error in (("one", 3, None), ("two", 1, 'no "table" 50%'), ("three", 2, "no rows")):
        began = at(NOW + 60 * minutes * SECOND)
        ledger.happen(key, START, started_at=began)
        ledger.happen(key, FAIL if error else COMPLETE, facts=Facts(error=error))

    def found(limit: int = 10, searched: int = 10, before: int | None = None, **wanted: Any) -> list[str]:
        rows, _ = run_queries.runs_before(ledger.conn, before, limit, searched, RunFilter(**wanted))
        return [run.key for run in rows]

    assert found(text="T") == ["one", "three", "two"], "as all are runs of a transformation"
    assert found(text="THREE") == ["three"]
    assert found(text='"table"') == ["two"]
    assert found(text="50%") == ["two"]
    assert found(text="f_ur") == [], "an underscore is one"
    assert found(since_ms=NOW) == ["one", "three", "two"]
    assert found(since_ms=NOW + 120 * SECOND) == ["one", "three"]
    assert found(until_ms=NOW + 120 * SECOND) == ["two"]
    assert found(since_ms=NOW, state=RunState.FAILED, searched=2) == ["three"]
    rows, before = run_queries.runs_before(ledger.conn, None, 2, 10, RunFilter(since_ms=NOW))
    assert [run.key for run in rows] == ["one", "three"]
    assert found(before=before, since_ms=NOW) == ["two"]


def test_runs_are_read_page_by_page_and_so_many_searched_at_once(ledger: Ledger) -> None:
    ledger.happen("0", START, FAIL)
    for key in "1234":
        ledger.happen(key, START)
    pages, before = list[list[str]](), None
    for _ in range(3):
        found, before = run_queries.runs_before(ledger.conn, before, 2, 100)
        pages.append([run.key for run in found])
    assert (pages, before) == ([["4", "3"], ["2", "1"], ["0"]], None)
    failed = RunFilter(state=RunState.FAILED)
    found, before = run_queries.runs_before(ledger.conn, None, 2, 3, failed)
    assert found == []
    assert before is not None
    found, before = run_queries.runs_before(ledger.conn, before, 2, 3, failed)
    assert ([run.key for run in found], before) == (["0"], None)


def test_runs_of_a_look_back_are_listed_by_their_beginning_whatever_the_order_of_the_platform(ledger: Ledger) -> None:
    """The platform shows the newest first. A queued run is as new as its queueing."""
    for key, minutes in (("d", 4), ("b", 2), ("e", 5), ("a", 1), ("c", 3)):
        began = at(NOW + 60 * minutes * SECOND)
        ledger.happen(key, OTHER if key == "c" else START, queued_at=began, last_event_at=began, started_at=began)
    same = at(NOW + 120 * SECOND)
    ledger.happen("b2", START, started_at=same)
    newest_first = ["e", "d", "c", "b2", "b", "a"]
    assert [run.key for run in run_queries.runs(ledger.conn, 10)] == newest_first
    pages, before = list[str](), None
    for _ in range(3):
        found, before = run_queries.runs_before(ledger.conn, before, 2, 100)
        pages += [run.key for run in found]
    assert (pages, before) == (newest_first, None)
    of_job = run_queries.runs_of_job(ledger.conn, ledger.source, "transformation/1", 3)
    assert [run.key for run in of_job] == newest_first[:3]


def test_jobs_are_limited_and_by_source(ledger: Ledger) -> None:
    ledger.poll(*((str(n), (START,), {"job": replace(a_run("x").job, name=f"transformation/{n}")}) for n in range(5)))
    assert [job.name for job in job_queries.jobs(ledger.conn, 2)] == ["transformation/0", "transformation/1"]
    assert len(job_queries.jobs(ledger.conn, 10, source_id=ledger.source)) == 5
    assert job_queries.jobs(ledger.conn, 10, source_id=ledger.source + 1) == []


def test_filters_read_as_they_were_written(ledger: Ledger) -> None:
    ledger.configure(a=ALL, none=frozenset())
    assert lanes.filters(ledger.conn) == {ledger.sinks["a"]: ALL, ledger.sinks["none"]: frozenset()}
    ledger.happen("r", START)
    assert ledger.heads("none") == []
    assert ledger.conn.scalars(select(schema.lane.c.sink_id)).all() == [ledger.sinks["a"]]
    assert runs.next_due(ledger.conn, ledger.source) is None


def test_skips_are_counted_by_source_and_kind(ledger: Ledger) -> None:
    ledger.poll(skips=(Skip(SkipKind.SQL, "one", "line 3"), Skip(SkipKind.SQL, "two", "line 4")))
    ledger.now += SECOND
    ledger.poll(skips=(Skip(SkipKind.SQL, "two", "line 4"),))
    ledger.poll(skips=(Skip(SkipKind.ROW, "three", "no id"),))
    assert queries.skip_groups(ledger.conn) == [
        queries.SkipGroup("source", "row", 1, 1, NOW + SECOND),
        queries.SkipGroup("source", "sql", 2, 3, NOW + SECOND),
    ]
    assert [row.subject for row in queries.skips(ledger.conn, 10, kind="row")] == ["three"]
