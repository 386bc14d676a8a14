"""What a poll commits, and what the next one gets."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from collector.clock import to_ms
from collector.errors import LeaseLost, LedgerError
from collector.ledger import job_queries, queries, runs, schema, stored
from collector.ledger.runs import Ended, NewEvent, PollCommit, RunChange, SourceState
from collector.model import RunState, Skip, SkipKind
from tests.lease_faults import take_over
from tests.unit.ledger.ledgers import (
    ABORT,
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
    a_job,
    a_run,
    at,
    change,
    child_of,
    later,
)


def test_what_is_committed_comes_back(ledger: Ledger) -> None:
    run = a_run("r", RunState.QUEUED, queued_at=T0, handle={"id": "7"}, parent=child_of("p"))
    ledger.commit(RunChange(run), cursor="c1", polled_at_ms=NOW)
    assert runs.by_keys(ledger.conn, ledger.source, ["r", "unknown"]) == {"r": run}
    assert runs.source_state(ledger.conn, ledger.source) == SourceState("c1", NOW, None)
    ledger.commit()
    assert runs.source_state(ledger.conn, ledger.source) == SourceState("c1", NOW, None), "None leaves it"


def test_the_same_key_at_another_source_is_another_run(ledger: Ledger) -> None:
    ledger.happen("r", START)
    assert runs.by_keys(ledger.conn, ledger.source + 1, ["r"]) == {}


def test_events_are_numbered_in_their_strand(ledger: Ledger) -> None:
    ledger.happen("r", OTHER)
    ledger.happen("r", START, RUNNING)
    ledger.happen("r", COMPLETE)
    events = ledger.conn.execute(select(schema.event.c.seq, schema.event.c.kind).order_by(schema.event.c.id)).all()
    assert events == [(1, "OTHER"), (2, "START"), (3, "RUNNING"), (4, "COMPLETE")]


def test_an_event_knows_when_it_was_committed_and_what_time_it_speaks_of(ledger: Ledger) -> None:
    run = a_run("r", started_at=T0, last_event_at=T0)
    ledger.commit(RunChange(run, (NewEvent(START, b"{}", NOW - HOUR),)))
    [item] = ledger.claim()
    assert (item.committed_at, item.happened_at, item.body, item.attempts) == (NOW, NOW - HOUR, b"{}", 0)


def test_without_the_lease_nothing_is_committed(ledger: Ledger) -> None:
    take_over(ledger.conn, "source:source", "another", 1000)
    with pytest.raises(LeaseLost):
        ledger.happen("r", START)
    assert ledger.rows("run") == 0


@pytest.mark.parametrize(
    ("before", "again"), [((START,), START), ((START, COMPLETE), FAIL), ((), (START, START)), ((), (ABORT, COMPLETE))]
)
def test_a_run_has_one_start_and_one_end_whatever_a_caller_believes(
    ledger: Ledger, before: tuple[str, ...], again: object
) -> None:
    kinds = again if isinstance(again, tuple) else (again,)
    if before:
        ledger.happen("r", *before)  # type: ignore[arg-type]
    stale = change(None, "r", kinds, NOW)
    with pytest.raises(LedgerError, match="run r has its START or its end already"):
        ledger.commit(stale)


def test_several_changes_of_one_run_in_a_page_are_one(ledger: Ledger) -> None:
    first = change(None, "r", [START], NOW)
    second = change(first.run, "r", [COMPLETE], NOW + SECOND)
    ledger.commit(first, second)
    assert runs.by_keys(ledger.conn, ledger.source, ["r"])["r"] == second.run
    assert ledger.drain() == ["r START", "r COMPLETE"]


# Strands


def test_a_child_shares_the_strand_of_its_parent(ledger: Ledger) -> None:
    ledger.happen("p", START)
    ledger.happen("c", START, parent=child_of("p"))
    ledger.happen("c", COMPLETE)
    ledger.happen("p", COMPLETE)
    assert len({item.strand_id for item in ledger.claim()}) == 1
    assert ledger.drain() == ["p START", "c START", "c COMPLETE", "p COMPLETE"]


def test_in_one_commit_a_parent_begins_first_and_ends_last_in_whatever_order_they_come(ledger: Ledger) -> None:
    ends = (START, COMPLETE)
    ledger.poll(
        ("g", ends, {"parent": child_of("c")}), ("c", ends, {"parent": child_of("p")}), ("p", ends, {}), ("x", ends, {})
    )
    sent = [body for body in ledger.drain() if not body.startswith("x")]
    assert sent == ["p START", "c START", "g START", "g COMPLETE", "c COMPLETE", "p COMPLETE"]


def test_grandchildren_keep_their_depth_over_commits(ledger: Ledger) -> None:
    ledger.happen("p", START)
    ledger.happen("c", START, parent=child_of("p"))
    ledger.happen("g", START, parent=child_of("c"))
    ledger.poll(("p", [COMPLETE], {}), ("g", [COMPLETE], {}), ("c", [COMPLETE], {}))
    assert ledger.drain()[3:] == ["g COMPLETE", "c COMPLETE", "p COMPLETE"]


def test_a_strand_never_changes_after_the_first_commit(ledger: Ledger) -> None:
    ledger.happen("c", START, parent=child_of("p"))
    ledger.happen("p", START)
    ledger.happen("c", COMPLETE)
    assert len({item.strand_id for item in ledger.claim()}) == 2
    assert runs.by_keys(ledger.conn, ledger.source, ["c"])["c"].parent == child_of("p")


def test_runs_that_name_each_other_as_parents_are_roots(ledger: Ledger) -> None:
    ledger.poll(
        ("a", [START], {"parent": child_of("b")}),
        ("b", [START], {"parent": child_of("a")}),
        ("c", [START], {"parent": child_of("c")}),
    )
    assert len({item.strand_id for item in ledger.claim()}) == 3


# What is asked for next


def test_open_runs_are_tracked_when_due_and_oldest_first(ledger: Ledger) -> None:
    ledger.commit(
        RunChange(a_run("later", due_at=later(hours=1))),
        RunChange(a_run("overdue", due_at=later(hours=-2), seen_at=later(hours=-3))),
        RunChange(a_run("every cycle", seen_at=later(hours=-1))),
        RunChange(a_run("ended", RunState.SUCCEEDED, started_at=T0, ended_at=T0)),
        RunChange(a_run("to enrich", RunState.FAILED, enrich_until=later(seconds=60))),
        RunChange(a_run("abandoned", RunState.UNKNOWN, abandoned_at=T0)),
    )
    tracked = stored.tracked(ledger.conn, ledger.source, NOW, 10).runs
    assert [run.key for run in tracked] == ["overdue", "every cycle"]
    assert tracked[1].due_at is None, "as the platform said"
    assert [run.key for run in stored.tracked(ledger.conn, ledger.source, NOW, 1).runs] == ["overdue"]
    assert [run.key for run in stored.tracked(ledger.conn, ledger.source, NOW + 2 * HOUR, 10).runs][-1] == "later"
    assert runs.ended(ledger.conn, ledger.source, 10) == [Ended("to enrich", to_ms(later(seconds=60)))]


def test_the_next_due_time_is_of_runs_that_asked_for_one(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("every cycle")))
    assert runs.next_due(ledger.conn, ledger.source) is None
    ledger.commit(RunChange(a_run("x", due_at=later(hours=2))), RunChange(a_run("y", due_at=later(hours=1))))
    assert runs.next_due(ledger.conn, ledger.source) == NOW + HOUR
    ledger.commit(RunChange(a_run("y", RunState.SUCCEEDED, due_at=later(hours=1), started_at=T0, ended_at=T0)))
    assert runs.next_due(ledger.conn, ledger.source) == NOW + 2 * HOUR


def test_an_abandoned_run_that_is_seen_again_is_tracked_again(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("r", RunState.UNKNOWN, abandoned_at=T0)))
    assert stored.tracked(ledger.conn, ledger.source, NOW, 10).runs == []
    ledger.commit(RunChange(a_run("r")))
    assert [run.key for run in stored.tracked(ledger.conn, ledger.source, NOW, 10).runs] == ["r"]


def test_more_runs_than_one_statement_asks_for(ledger: Ledger) -> None:
    keys = [str(number) for number in range(1203)]
    ledger.poll(*((key, (START, COMPLETE), {}) for key in keys))
    assert set(runs.by_keys(ledger.conn, ledger.source, keys)) == set(keys)
    ledger.deliver(*ledger.claim(limit=2000))
    ledger.deliver(*ledger.claim(limit=2000))
    assert ledger.tally() == (0, 0)
    assert ledger.rows("lane") == 0


# Jobs


def test_a_job_shows_its_last_run_and_counts_every_end_once(ledger: Ledger) -> None:
    ledger.happen("1", START)
    ledger.now += 5 * SECOND
    ledger.happen("1", COMPLETE)
    ledger.happen("2", START, FAIL)
    ledger.happen("3", START, ABORT)
    ledger.commit(RunChange(runs.by_keys(ledger.conn, ledger.source, ["1"])["1"]))
    [job] = job_queries.jobs(ledger.conn, 10)
    assert (job.succeeded, job.failed, job.canceled, job.duration_ms_sum) == (1, 1, 1, 5 * SECOND)
    assert (job.run_key, job.state, job.started_at, job.ended_at) == ("3", RunState.CANCELED, ledger.now, ledger.now)


def test_the_last_run_of_a_job_is_the_one_that_began_last(ledger: Ledger) -> None:
    ledger.happen("new", START, began_at=later(hours=1))
    ledger.happen("old", START, FAIL, began_at=T0)
    [job] = job_queries.jobs(ledger.conn, 10)
    assert (job.run_key, job.state, job.failed) == ("new", RunState.RUNNING, 1)
    ledger.happen("new", COMPLETE)
    [job] = job_queries.jobs(ledger.conn, 10)
    assert (job.run_key, job.state, job.succeeded, job.failed) == ("new", RunState.SUCCEEDED, 1, 1)


def test_jobs_are_distinguished_by_name_and_described(ledger: Ledger) -> None:
    described = replace(a_job("transformation/b"), description="Loads b")
    ledger.poll(("1", [START], {"job": a_job("transformation/a")}), ("2", [START], {"job": described}))
    assert [(job.name, job.description, job.run_key) for job in job_queries.jobs(ledger.conn, 10)] == [
        ("transformation/a", None, "1"),
        ("transformation/b", "Loads b", "2"),
    ]


def test_a_job_whose_run_was_only_seen_again_is_not_written(ledger: Ledger) -> None:
    ledger.happen("r", START)
    run = runs.by_keys(ledger.conn, ledger.source, ["r"])["r"]
    ledger.now += HOUR
    ledger.commit(RunChange(replace(run, seen_at=at(ledger.now))))
    [job] = job_queries.jobs(ledger.conn, 10)
    assert job.updated_at == NOW


# Skips


def test_skips_are_counted_by_subject_with_their_last_cause(ledger: Ledger) -> None:
    odd = Skip(SkipKind.STATUS, "Paused", "status 'Paused' is not known")
    ledger.commit(skips=(odd, odd, Skip(SkipKind.ROW, "row 5", "no id")))
    ledger.now += SECOND
    ledger.commit(skips=(replace(odd, cause="still not known"),))
    status, row = queries.skips(ledger.conn, 10)
    assert (status.kind, status.subject, status.count, status.cause) == ("status", "Paused", 3, "still not known")
    assert (status.first_at, status.last_at) == (NOW, NOW + SECOND)
    assert (row.kind, row.count) == ("row", 1)


def test_endless_subjects_end_in_one_row(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.ledger.skips.KEPT", 5)
    skips = tuple(Skip(SkipKind.ROW, f"row {number}", "no id") for number in range(7))
    ledger.commit(skips=skips[:3])
    ledger.commit(skips=skips)
    ledger.commit(skips=skips[5:])
    rows = {row.subject: row for row in queries.skips(ledger.conn, 100)}
    assert len(rows) == 6
    assert rows["row 0"].count == 2
    assert (rows["*"].kind, rows["*"].count) == ("overflow", 4)


def test_words_of_others_do_no_harm(ledger: Ledger) -> None:
    broken = "half \ud83d of a pair, \x00 and much more " + "x" * 5000
    run = a_run("r", facts=replace(a_run("x").facts, error=broken), raw_state=broken)
    ledger.commit(RunChange(run), skips=(Skip(SkipKind.ROW, broken, broken),))
    stored = runs.by_keys(ledger.conn, ledger.source, ["r"])["r"]
    assert stored.facts.error == broken.replace("\ud83d", "?")
    [skip] = queries.skips(ledger.conn, 10)
    assert len(skip.subject) <= 500
    assert "\0" not in skip.cause


def test_a_page_with_nothing_new_commits_nothing_but_the_time(ledger: Ledger) -> None:
    ledger.commit(polled_at_ms=NOW)
    assert ledger.rows("run") == ledger.rows("event") == ledger.rows("lane") == 0


def test_events_go_only_to_sinks_that_want_them(ledger: Ledger) -> None:
    ledger.configure(a=ALL, ends=frozenset({START, COMPLETE}))
    ledger.happen("r", OTHER)
    assert ledger.heads("ends") == []
    ledger.happen("r", START, RUNNING)
    ledger.happen("r", RUNNING)
    ledger.happen("r", COMPLETE)
    assert (ledger.tally("a"), ledger.tally("ends")) == ((5, 0), (2, 0))
    assert ledger.drain("ends") == ["r START", "r COMPLETE"]
    assert ledger.tally("ends") == (0, 0)
    assert to_ms(T0) == NOW


def test_a_commit_that_fails_half_way_leaves_nothing(ledger: Ledger) -> None:
    ledger.happen("r", START)
    commit = PollCommit(
        ledger.lease, ledger.source, (change(None, "new", [START], NOW), change(None, "r", [START], NOW))
    )
    with pytest.raises(LedgerError), ledger.conn.begin_nested():
        runs.commit_poll(ledger.conn, commit, NOW)
    assert runs.by_keys(ledger.conn, ledger.source, ["new"]) == {}
