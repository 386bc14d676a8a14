"""One platform run has one life, whichever source sees it."""

import pytest

from collector.ledger import configured_sources, leases, queries, runs, stored
from collector.ledger.configured_sources import Configured
from collector.ledger.duplicates import Duplicates
from collector.ledger.leases import Lease
from collector.ledger.runs import PollCommit
from tests.unit.ledger.ledgers import ALL, COMPLETE, NOW, SECOND, START, Ledger, a_run, change


@pytest.fixture
def both(ledger: Ledger) -> Ledger:
    """The source's run r has begun; there is another source beside it."""
    ledger.configure(a=ALL)
    configured_sources.sync_sources(ledger.conn, [Configured("source"), Configured("other")], NOW)
    ledger.happen("r", START)
    return ledger


def other(ledger: Ledger) -> tuple[int, Lease]:
    number = {row.name: row.id for row in queries.sources(ledger.conn)}["other"]
    lease = leases.take(ledger.conn, "source:other", "test", 60_000)
    assert lease is not None
    return number, lease


def seen_by_other(ledger: Ledger, *keys: str, **more: object) -> Duplicates:
    number, lease = other(ledger)
    changes = tuple(change(None, key, [START, COMPLETE], ledger.now, **more) for key in keys)
    return runs.commit_poll(ledger.conn, PollCommit(lease, number, changes, cursor="moved"), ledger.now)


def test_a_run_of_another_source_is_left_out_and_listed(both: Ledger) -> None:
    left_out = seen_by_other(both, "r", "mine")
    assert left_out.keys == {"r"}
    [row] = queries.skips(both.conn, 10)
    assert (row.source, row.kind, row.subject, row.count) == ("other", "duplicate", "run r", 1)
    assert "as run r of source source" in row.cause
    assert both.drain() == ["r START", "mine START", "mine COMPLETE"]
    number, _ = other(both)
    assert runs.source_state(both.conn, number).cursor == "moved", "the page is not stalled"
    assert list(stored.known(both.conn, number, ["r", "mine"]).runs) == ["mine"]


def test_two_keys_of_one_run_in_a_page_are_one_life(both: Ledger) -> None:
    left_out = seen_by_other(both, "x", "y", run_id=a_run("x").run_id)
    assert left_out.keys == {"y"}
    assert both.drain() == ["r START", "x START", "x COMPLETE"]
    assert seen_by_other(both, "z", run_id=a_run("x").run_id).skips[0].cause.endswith("not reported a second time")


def test_a_run_of_a_source_that_left_comes_over_and_goes_on(both: Ledger) -> None:
    """As after an upgrade of a ledger that does not know yet which account each source has."""
    configured_sources.sync_sources(both.conn, [Configured("other")], NOW)
    assert seen_by_other(both, "r") == Duplicates(frozenset({"r"}))
    number, lease = other(both)
    run = stored.known(both.conn, number, ["r"]).runs["r"]
    assert [each.key for each in stored.tracked(both.conn, number, both.now + SECOND, 10).runs] == ["r"]
    end = change(run, "r", [COMPLETE], both.now + SECOND)
    runs.commit_poll(both.conn, PollCommit(lease, number, (end,)), both.now + SECOND)
    both.now += SECOND
    assert both.tally() == (2, 0)
    pending = {row.name: row.pending for row in queries.sources(both.conn)}
    assert pending == {"source": 0, "other": 2}
    assert both.drain() == ["r START", "r COMPLETE"]
    assert {row.name: row.pending for row in queries.sources(both.conn)} == {"source": 0, "other": 0}
    assert queries.skips(both.conn, 10) == []


def test_a_run_that_ended_elsewhere_stays_silent(both: Ledger) -> None:
    both.happen("r", COMPLETE)
    configured_sources.sync_sources(both.conn, [Configured("other")], NOW)
    seen_by_other(both, "r")
    number, _ = other(both)
    known = stored.known(both.conn, number, ["r"]).runs["r"]
    assert known.ended_at is not None
    assert both.drain() == ["r START", "r COMPLETE"]


@pytest.mark.parametrize("key", ["a", "z"])
def test_a_run_of_a_source_that_left_comes_over_under_its_own_key_only(both: Ledger, key: str) -> None:
    configured_sources.sync_sources(both.conn, [Configured("other")], NOW)
    [skip] = seen_by_other(both, key, run_id=a_run("r").run_id).skips
    assert "as run r of source source" in skip.cause
    number, _ = other(both)
    assert stored.known(both.conn, number, ["r", key]).runs == {}


def test_the_log_names_all_sources_whose_runs_come_over(both: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    names = ("source", "other", "another")
    numbers = configured_sources.sync_sources(both.conn, [Configured(name) for name in names], NOW)
    lease = leases.take(both.conn, "source:another", "test", 60_000)
    assert lease is not None
    begun = change(None, "s", [START], both.now)
    runs.commit_poll(both.conn, PollCommit(lease, numbers["another"], (begun,)), both.now)
    configured_sources.sync_sources(both.conn, [Configured("other")], NOW)
    assert seen_by_other(both, "r", "s") == Duplicates(frozenset({"r", "s"}))
    [logged] = [vars(record)["fields"] for record in caplog.records if record.getMessage() == "run.taken_over"]
    assert (logged["runs"], logged["former_source"]) == (2, "another, source")
