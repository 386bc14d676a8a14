"""What a sink has acknowledged, run by run."""

from collections import Counter

from sqlalchemy import delete

from collector.ledger import acknowledged, configured_sources, schema
from collector.ledger.acknowledged import JobName, Page, SinkDetail, Uncompared
from collector.ledger.configured_sources import Configured
from collector.ledger.run_order import Place
from tests.unit.ledger.ledgers import (
    ALL,
    COMPLETE,
    ENDS,
    FAIL,
    OTHER,
    RUNNING,
    SECOND,
    START,
    Ledger,
    a_job,
    child_of,
)


def detail(ledger: Ledger, sink: str = "a") -> SinkDetail:
    found = acknowledged.sink(ledger.conn, sink)
    assert found is not None
    return found


def page(
    ledger: Ledger,
    sink: str = "a",
    job: str = "transformation/1",
    before: Place | None = None,
    since: int | None = None,
) -> Page:
    name = JobName(ledger.source, "source", job)
    return acknowledged.page(ledger.conn, detail(ledger, sink), name, before, since)


def kinds(found: Page) -> dict[str, list[str]]:
    return {run.key: [event.kind.value for event in run.events] for run in found.runs}


def test_what_was_acknowledged_is_there_with_the_last_body(ledger: Ledger) -> None:
    ledger.configure(a=ENDS)
    ledger.happen("r", OTHER, START, RUNNING, COMPLETE)
    ledger.drain()
    [run] = page(ledger).runs
    assert [event.kind for event in run.events] == [START, COMPLETE]
    assert (run.last_body, run.has_start, run.events[0].happened_at) == (b"r COMPLETE", True, ledger.now)


def test_what_is_on_its_way_or_in_doubt_waits(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("way", START)
    ledger.happen("doubt", START)
    first, second = ledger.claim()
    ledger.postpone(second, unanswered=True, recheck_at=ledger.now + SECOND)
    ledger.now += SECOND
    ledger.deliver(second)
    assert page(ledger).others == {Uncompared.WAITING: 2}
    assert first.run_number != second.run_number


def test_a_refused_event_does_not_count(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("half", START, COMPLETE)
    ledger.deliver()
    ledger.park()
    ledger.happen("all", START)
    ledger.park()
    assert kinds(page(ledger)) == {"half": ["START"]}
    assert page(ledger).others == {Uncompared.PARKED: 1}


def test_runs_that_ended_before_the_sink_came_are_counted_only(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("over", START, COMPLETE)
    ledger.happen("open", START)
    ledger.configure(a=ALL, b=ALL)
    ledger.drain("b")
    assert kinds(page(ledger, "b")) == {"open": ["START"]}
    assert page(ledger, "b").others == {Uncompared.EARLIER: 1}


def test_what_retention_removed_is_missed_only_where_it_matters(ledger: Ledger) -> None:
    ledger.configure(a=ALL, ends=frozenset({COMPLETE}))
    ledger.happen("half", START)
    began = ledger.now
    ledger.now += SECOND
    ledger.happen("half", COMPLETE)
    ledger.happen("gone", START, FAIL)
    ledger.drain()
    ledger.drain("ends")
    ledger.conn.execute(
        delete(schema.event).where(schema.event.c.body.in_([b"half START", b"gone START", b"gone FAIL"]))
    )
    [run] = page(ledger).runs
    assert (run.key, run.started_at, run.has_start) == ("half", began, False)
    assert page(ledger).others == {Uncompared.REMOVED: 1}
    [run] = page(ledger, "ends").runs
    assert (run.started_at, run.has_start) == (None, True)


def test_children_are_compared_once_their_whole_strand_is_delivered(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("parent", START)
    ledger.happen("child", START, COMPLETE, parent=child_of("parent"))
    ledger.deliver()
    assert page(ledger).others == {Uncompared.WAITING: 2}
    ledger.drain()
    assert kinds(page(ledger)) == {"child": ["START", "COMPLETE"], "parent": ["START"]}


def test_pages_go_on_until_all_runs_of_the_window_are_seen(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("old", START, COMPLETE)
    ledger.now += 100 * SECOND
    for number in range(acknowledged.AT_ONCE + 1):
        ledger.happen(f"r{number}", START)
    ledger.drain()
    first = page(ledger)
    assert (len(first.runs), first.runs[0].key) == (acknowledged.AT_ONCE, f"r{acknowledged.AT_ONCE}")
    rest = page(ledger, before=first.before)
    assert ([run.key for run in rest.runs], rest.before) == (["r0", "old"], None)
    assert [run.key for run in page(ledger, before=first.before, since=ledger.now).runs] == ["r0"]
    assert acknowledged.count(ledger.conn, None) == acknowledged.AT_ONCE + 2
    assert acknowledged.count(ledger.conn, ledger.now) == acknowledged.AT_ONCE + 1


def test_jobs_come_one_after_another(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    for number, name in enumerate(("b", "a", "b")):
        ledger.happen(f"r{number}", START, job=a_job(name))
    names, job = list[str](), acknowledged.next_job(ledger.conn, None)
    while job is not None:
        names.append(job.name)
        job = acknowledged.next_job(ledger.conn, job)
    assert names == ["a", "b"]


def test_jobs_of_all_sources_come_with_the_names_of_their_own(ledger: Ledger) -> None:
    names = ("before", "source", "behind")
    numbers = configured_sources.sync_sources(ledger.conn, [Configured(name) for name in names], ledger.now)
    for name in names:
        ledger.source, ledger.lease = numbers[name], ledger._take(f"source:{name}")
        ledger.happen(f"r {name}", START, job=a_job("a"))
    found, job = list[tuple[str, str]](), acknowledged.next_job(ledger.conn, None)
    while job is not None:
        found.append((job.source, job.name))
        job = acknowledged.next_job(ledger.conn, job)
    assert sorted(found) == [("before", "a"), ("behind", "a"), ("source", "a")]


def test_an_unknown_sink_has_no_detail_and_known_runs_are_recognised(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    ledger.happen("r", START)
    assert acknowledged.sink(ledger.conn, "other") is None
    ledger.drain()
    [run] = page(ledger).runs
    assert acknowledged.known(ledger.conn, [run.run_id, "another"]) == {run.run_id}
    assert page(ledger).others == Counter()
