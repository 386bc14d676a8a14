"""No statement of the ordinary round walks a table that grows with the backlog or with the history."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event as sa_event

from collector.ledger import (
    acknowledged,
    activity,
    backlog,
    claims,
    doubts,
    due_times,
    history,
    jobs,
    leases,
    parked,
    queries,
    requests,
    retention,
    run_queries,
    runs,
    stored,
)
from collector.ledger.acknowledged import JobName, SinkDetail
from collector.ledger.claims import Settlement
from collector.ledger.looks import Look, commit_looks
from collector.ledger.run_queries import RunFilter
from collector.ledger.shards import Shard
from collector.model import RunState
from tests.unit.ledger.ledgers import (
    COMPLETE,
    HOUR,
    NOW,
    RUNNING,
    SECOND,
    START,
    Ledger,
    change,
    child_of,
)

GROWING = (
    "run",
    "event",
    "lane",
    "parked",
    "doubt",
    "request",
    "old",
    "ahead",
    "child",
    "parent",
    "watch",
    "acknowledgement",
)


@contextmanager
def watched(ledger: Ledger) -> Iterator[list[str]]:
    """The query plans of what is executed meanwhile, as `statement: step`."""
    engine, plans = ledger.conn.engine, list[str]()
    raw: Any = ledger.conn.connection.dbapi_connection

    def explain(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.split(maxsplit=1)[0] not in {"SELECT", "INSERT", "UPDATE", "DELETE"}:
            return
        steps = raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters[0] if many else parameters)
        plans.extend(f"{' '.join(statement.split())}: {step[-1]}" for step in steps)

    sa_event.listen(engine, "before_cursor_execute", explain)
    try:
        yield plans
    finally:
        sa_event.remove(engine, "before_cursor_execute", explain)


def step(plan: str) -> str:
    return plan.rpartition(": ")[2]


def walks(plans: list[str]) -> list[str]:
    """Steps that read all of a growing table or index."""
    return [plan for plan in plans if step(plan).startswith("SCAN ") and step(plan).split()[1] in GROWING]


@pytest.fixture
def busy(sqlite_ledger: Ledger) -> Ledger:
    return busied(sqlite_ledger)


@pytest.fixture
def busy_postgres(postgres_ledger: Ledger) -> Ledger:
    return busied(postgres_ledger)


def busied(ledger: Ledger) -> Ledger:
    """Some of everything."""
    for number in range(30):
        ledger.happen(f"{number}", START)
    ledger.park(*ledger.claim(limit=3))
    ledger.postpone(*ledger.claim()[:3], unanswered=True, recheck_at=NOW)
    ledger.happen("child", START, parent=child_of("29"))
    for number in range(10):
        ledger.happen(f"{number}", COMPLETE)
    ledger.now += SECOND
    return ledger


def commit(ledger: Ledger) -> None:
    known = runs.by_keys(ledger.conn, ledger.source, ["20", "new"])
    ledger.commit(
        change(known["20"], "20", [COMPLETE], ledger.now),
        change(None, "new", [START], ledger.now),
        change(None, "new child", [START], ledger.now, parent=child_of("new")),
        cursor="c",
        polled_at_ms=ledger.now,
    )


def look_again(ledger: Ledger) -> None:
    keys = ("20", "21", "22")
    known = stored.known(ledger.conn, ledger.source, keys)
    *together, alone = (known.row(key) for key in keys)
    looks = {Look(ledger.now, ledger.now): dict(together), Look(ledger.now, ledger.now + 1): dict([alone])}
    assert commit_looks(ledger.conn, ledger.lease, looks) == set()


def settle(ledger: Ledger) -> None:
    items = ledger.claim()
    ledger.deliver(*items[:5], recheck_at=NOW)
    ledger.park(*items[5:8])
    ledger.postpone(*items[8:10], unanswered=True, recheck_at=NOW)


def retry(ledger: Ledger) -> None:
    event = parked.listing(ledger.conn, 100)[0]
    parked.retry(ledger.conn, ledger.held["a"], ledger.sinks["a"], [(event.strand_id, event.seq)], ledger.now)
    ledger.deliver(*ledger.claim()[:1])


ROUND: dict[str, Callable[[Ledger], object]] = {
    "commit": commit,
    "looks": look_again,
    "settle": settle,
    "claim": lambda ledger: ledger.claim(),
    "next due": lambda ledger: claims.next_due(ledger.conn, ledger.sinks["a"]),
    "tracked": lambda ledger: stored.tracked(ledger.conn, ledger.source, ledger.now, 10),
    "ended": lambda ledger: runs.ended(ledger.conn, ledger.source, 10),
    "open children": lambda ledger: stored.known(ledger.conn, ledger.source, [], ["29", "child"]),
    "next poll": lambda ledger: runs.next_due(ledger.conn, ledger.source),
    "state": lambda ledger: runs.source_state(ledger.conn, ledger.source),
    "doubts": lambda ledger: doubts.due(ledger.conn, ledger.sinks["a"], NOW + HOUR, 10),
    "next doubt": lambda ledger: doubts.next_due(ledger.conn, ledger.sinks["a"]),
    "resolve": lambda ledger: doubts.resolve(ledger.conn, ledger.held["a"], ledger.sinks["a"], [1, 2]),
    "requests": lambda ledger: requests.claim(ledger.conn, ledger.lease, 10),
    "lease": lambda ledger: leases.renew(ledger.conn, ledger.lease, 1000),
    "sinks": lambda ledger: queries.sinks(ledger.conn),
    "watched": lambda ledger: queries.watched(ledger.conn, ledger.source),
    "expire events": lambda ledger: retention.expire_events(ledger.conn, 0, NOW + HOUR),
    "expire runs": lambda ledger: retention.expire_runs(ledger.conn, 0, {ledger.source: NOW + HOUR}),
    "impossible due times": lambda ledger: due_times.has_impossible(
        ledger.conn, due_times.Limits(NOW, NOW + HOUR, NOW + HOUR, SECOND)
    ),
    "pull in": lambda ledger: due_times.pull_in(ledger.conn, due_times.Limits(NOW, NOW + HOUR, NOW + HOUR, SECOND)),
}


@pytest.mark.parametrize("part", ROUND)
def test_the_ordinary_round_goes_by_indexes(busy: Ledger, part: str) -> None:
    with watched(busy) as plans:
        ROUND[part](busy)
    assert plans
    assert walks(plans) == []


def test_pages_of_sources_and_sinks_go_by_indexes_of_what_they_list(busy: Ledger) -> None:
    """Runs and lanes as such are too many: only those that are open, or tried, are read."""
    with watched(busy) as plans:
        run_queries.abandoned_runs(busy.conn, busy.source, 20)
        backlog.causes(busy.conn, busy.sinks["a"], 20)
        backlog.unanswered(busy.conn, busy.sinks["a"], 20)
        activity.within(busy.conn, ["source:source"], 0, 60_000)
    assert walks(plans) == []
    steps = [step(plan) for plan in plans]
    for wanted in (
        "SEARCH run USING INDEX run_open (source_id=? AND state=? AND abandoned_at>?)",
        "SEARCH lane USING INDEX lane_retry (sink_id=?)",
        "SEARCH activity USING PRIMARY KEY (name=? AND since>?)",
    ):
        assert wanted in steps


@contextmanager
def watched_in_postgres(ledger: Ledger) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """What is executed meanwhile, each with the nodes of its plan as it would be with many rows."""
    engine, nodes = ledger.conn.engine, list[tuple[str, dict[str, Any]]]()
    raw: Any = ledger.conn.connection.dbapi_connection
    ledger.conn.exec_driver_sql("SET LOCAL enable_seqscan = off")

    def explain(_conn: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.split(maxsplit=1)[0] in {"SELECT", "INSERT", "UPDATE", "DELETE"}:
            rows = raw.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters[0] if many else parameters)
            nodes.extend((statement, node) for node in within(rows.fetchone()[0][0]["Plan"], limited=False))

    sa_event.listen(engine, "before_cursor_execute", explain)
    try:
        yield nodes
    finally:
        sa_event.remove(engine, "before_cursor_execute", explain)


def within(node: dict[str, Any], *, limited: bool) -> Iterator[dict[str, Any]]:
    """The node and all below it; `limited` where only the first rows are asked for."""
    limited = limited or node["Node Type"] == "Limit"
    yield {**node, "limited": limited}
    for child in node.get("Plans", ()):
        yield from within(child, limited=limited)


def walks_in_postgres(nodes: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Scans of a growing table that neither look for something in an index nor end with the first rows."""
    return [
        f"{node['Node Type']} of {node['Relation Name']}: {statement}"
        for statement, node in nodes
        if node["Node Type"].endswith("Scan") and node.get("Relation Name") in GROWING
        if "Index Cond" not in node and "Recheck Cond" not in node
        if not (node["limited"] and node["Node Type"].startswith("Index"))
    ]


@pytest.mark.parametrize("part", ROUND)
def test_the_ordinary_round_goes_by_indexes_in_postgresql(busy_postgres: Ledger, part: str) -> None:
    with watched_in_postgres(busy_postgres) as nodes:
        ROUND[part](busy_postgres)
    assert nodes
    assert walks_in_postgres(nodes) == []


def test_a_claim_takes_the_head_of_the_index(busy: Ledger) -> None:
    with watched(busy) as plans:
        busy.claim()
    steps = [step(plan) for plan in plans]
    assert any(
        step.startswith("SEARCH lane USING INDEX lane_due (sink_id=? AND due_at>? AND due_at<?)") for step in steps
    )
    assert any("SEARCH event USING INDEX sqlite_autoindex_event_1 (strand_id=? AND seq=?)" in step for step in steps)


def test_a_settle_finds_lanes_by_their_keys(busy: Ledger) -> None:
    items = busy.claim()[:5]
    with watched(busy) as plans:
        busy.deliver(*items)
    found = {step(plan) for plan in plans if step(plan).startswith("SEARCH lane ")}
    assert found == {"SEARCH lane USING PRIMARY KEY (sink_id=? AND strand_id=?)"}


def test_a_claim_of_a_shard_reads_its_index_from_the_floor_on(busy: Ledger) -> None:
    with watched(busy) as plans:
        claims.claim(busy.conn, busy.sinks["a"], busy.now, 10, NOW, (), Shard(1, 2))
        claims.next_due(busy.conn, busy.sinks["a"], Shard(1, 2), NOW)
    found = [step(plan) for plan in plans]
    for of_what in ("found", "lane"):
        wanted = f"SEARCH {of_what} USING COVERING INDEX lane_due (sink_id=? AND due_at>?"
        assert any(each.startswith(wanted) for each in found), found
    assert walks(plans) == []


def test_open_runs_are_counted_from_their_index_alone(busy: Ledger) -> None:
    with watched(busy) as plans:
        queries.sources(busy.conn)
    steps = [step(plan) for plan in plans]
    assert sum("USING COVERING INDEX run_open" in step for step in steps) == 2
    assert walks(plans) == [plan for plan in plans if "USING COVERING INDEX run_open" in plan]


def test_the_last_backfill_is_found_by_its_index(busy: Ledger) -> None:
    with watched(busy) as plans:
        requests.last_backfill(busy.conn, "source:source")
    [plan] = plans
    assert "SEARCH request USING INDEX request_backfill (target=?)" in plan


def test_the_run_that_waits_longest_is_looked_for_among_those_that_wait(busy: Ledger) -> None:
    busy.happen("waits", START, RUNNING)
    with watched(busy) as plans:
        assert queries.sources(busy.conn)[0].waiting_since == busy.now
    searches = [step(plan) for plan in plans if "min(run.last_event_time)" in plan]
    assert [search.partition(" (")[0] for search in searches] == ["SEARCH run USING INDEX run_open"]
    assert "state=?" in searches[0]


@pytest.mark.parametrize("source", [None, 1])
def test_runs_are_listed_from_the_end(busy: Ledger, source: int | None) -> None:
    with watched(busy) as plans:
        run_queries.runs(busy.conn, 10, RunFilter(source))
        run_queries.runs(busy.conn, 10, RunFilter(source, RunState.FAILED))
    assert len([plan for plan in plans if "USING INDEX run_began" in step(plan)]) == 2
    assert not any("TEMP B-TREE" in step(plan) for plan in plans)


def test_runs_of_a_job_are_listed_from_the_end(busy: Ledger) -> None:
    [run] = run_queries.runs(busy.conn, 1)
    with watched(busy) as plans:
        run_queries.runs_of_job(busy.conn, busy.source, run.job, 10)
        jobs.platform_ids(busy.conn, busy.source, run.job)
        jobs.platform_name(busy.conn, busy.source, run.job)
        acknowledged.page(
            busy.conn, SinkDetail(1, frozenset(), 0), JobName(busy.source, "source", run.job), (1, 1), None
        )
    assert len([plan for plan in plans if "USING INDEX run_job (source_id=? AND job=?" in step(plan)]) >= 4
    assert not any("TEMP B-TREE FOR ORDER BY" in step(plan) and " run " in plan for plan in plans)


@pytest.mark.parametrize(
    "wanted",
    [RunFilter(), RunFilter(since_ms=NOW - HOUR), RunFilter(1, RunState.FAILED, until_ms=NOW + HOUR)],
    ids=["all", "since", "until"],
)
def test_pages_of_runs_are_read_from_their_index(busy: Ledger, wanted: RunFilter) -> None:
    with watched(busy) as plans:
        run_queries.runs_before(busy.conn, 20, 10, 15, wanted)
    steps = [step(plan) for plan in plans if " run_began " in plan]
    assert len(steps) >= 2
    assert all("SEARCH run USING" in each for each in steps)
    assert not [plan for plan in plans if step(plan).startswith("SCAN run")]


def test_marks_are_found_by_the_runs(busy: Ledger) -> None:
    with watched(busy) as plans:
        history.marks(busy.conn, [1, 2])
    assert not [
        plan for plan in plans if step(plan).startswith(("SCAN run", "SCAN event", "SCAN parked", "SCAN doubt"))
    ]


def test_parked_events_are_chosen_before_their_runs_are_read(busy: Ledger) -> None:
    busy.park(*busy.claim()[:5])
    with watched(busy) as plans:
        assert len(parked.listing(busy.conn, 3)) == 3
    joined = [step(plan) for plan in plans if " JOIN event " in plan]
    assert joined
    assert not [each for each in joined if each.startswith(("SCAN parked", "SCAN run", "SCAN event"))]


def test_one_run_is_found_by_its_ids(busy: Ledger) -> None:
    with watched(busy) as plans:
        run_queries.runs_by_id(busy.conn, "1")
        run_queries.runs_by_id(busy.conn, "1", source_id=1)
        run_queries.details(busy.conn, ["1", "2"])
        history.of_run(busy.conn, 1)
    assert not [plan for plan in plans if step(plan).startswith(("SCAN run", "SCAN event", "SCAN parked"))]


def test_a_settle_writes_the_same_statements_for_one_and_for_many(busy: Ledger) -> None:
    counts = []
    for size in (1, 20):
        items = busy.claim()[:size]
        with watched(busy) as plans:
            busy.settle(replace(Settlement(), delivered=tuple(items)))
        counts.append(len({plan.rpartition(": ")[0] for plan in plans}))
    assert counts[1] <= counts[0] + 1
