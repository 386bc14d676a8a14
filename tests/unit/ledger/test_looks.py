"""Looks at open runs of which nothing changed: what becomes of their times, and of whom nothing is noted."""

from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from sqlalchemy import Connection, select

from collector.clock import to_ms
from collector.errors import LeaseLost
from collector.ledger import schema
from collector.ledger.detail import WatchRow, as_last_seen, watch_row
from collector.ledger.looks import Look, commit_looks
from collector.ledger.runs import RunChange
from collector.lifecycle import observe
from collector.model import Observation, Run, RunState
from tests.unit.ledger.ledgers import NOW, SECOND, T0, Ledger, a_job, a_run, later

SEEN = Look(NOW + 30 * SECOND, NOW + 30 * SECOND)


def written(conn: Connection) -> dict[str, tuple[int, int]]:
    rows = conn.execute(select(schema.run.c.key, schema.run.c.id, schema.run.c.updated_at))
    return {key: (number, at) for key, number, at in rows}


def watched(conn: Connection) -> dict[str, WatchRow]:
    run, watch = schema.run.c, schema.watch.c
    rows = select(run.key, watch.seen_at, watch.due_at, watch.misses).join_from(
        schema.run, schema.watch, run.id == watch.run_id
    )
    return {key: WatchRow(*row) for key, *row in conn.execute(rows)}


def seen_again(run: Run, seconds: int, due: int | None) -> Run:
    at, due_at = later(seconds=seconds), None if due is None else later(seconds=due)
    seen = Observation(run.key, run.run_id, a_job(), run.state, run.raw_state, at, due_at=due_at)
    return observe(run, seen, enrich_within=timedelta(seconds=60)).run


def test_a_look_does_to_the_times_what_the_lifecycle_makes_of_it(ledger: Ledger) -> None:
    """Whatever came before: seen by a clock that ran ahead, due on request, missed."""
    now = NOW + 25 * SECOND
    looks: defaultdict[Look, dict[int, int]] = defaultdict(dict)
    expected: dict[str, WatchRow] = {}
    cases = product([0, 10, 20], [None, 5, 15, 20, 40], [20, 25, 30], [None, 5, 30, 50], [0, 2])
    for number, (first, first_due, again, due, misses) in enumerate(cases):
        first_due_at = None if first_due is None else later(seconds=first_due)
        run = a_run(f"{number}", seen_at=later(seconds=first), started_at=T0, due_at=first_due_at, misses=misses)
        ledger.now = now
        ledger.commit(RunChange(run))
        run = as_last_seen(run, watch_row(run, now))
        expected[run.key] = watch_row(seen_again(run, again, due), now)
        seen_at = NOW + again * SECOND
        row, at = written(ledger.conn)[run.key]
        looks[Look(seen_at, min(seen_at, now) if due is None else NOW + due * SECOND)][row] = at
    assert commit_looks(ledger.conn, ledger.lease, looks) == set()
    assert watched(ledger.conn) == expected


def test_time_that_goes_back_moves_no_run_back(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("r", seen_at=later(seconds=60))))
    number, at = written(ledger.conn)["r"]
    commit_looks(ledger.conn, ledger.lease, {SEEN: {number: at}})
    assert watched(ledger.conn)["r"].seen_at == NOW + 60 * SECOND


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("others", [0, 1, 600])
def test_nothing_is_noted_of_a_run_that_was_written_since_or_is_over(ledger: Ledger, others: int, apart: bool) -> None:
    """Whether all were seen at one moment, or each at another."""
    names = ["written", "over", *(f"{number}" for number in range(others))]
    ledger.commit(*(RunChange(a_run(name)) for name in names))
    known = written(ledger.conn)
    ledger.commit(RunChange(a_run("written", raw_state="Stopping")))
    ledger.commit(RunChange(a_run("over", RunState.UNKNOWN, abandoned_at=T0)))
    now_known = written(ledger.conn)
    known["over"] = now_known["over"]
    before = watched(ledger.conn)
    looks = {SEEN: dict(known.values())}
    if apart:
        looks = {replace(SEEN, due_at=SEEN.due_at - each): dict([row]) for each, row in enumerate(known.values())}
    changed = commit_looks(ledger.conn, ledger.lease, looks)
    assert changed == {known["written"][0], known["over"][0]}
    after = watched(ledger.conn)
    assert after.pop("written") == before["written"]
    assert {key: replace(row, due_at=SEEN.due_at) for key, row in after.items()} == {
        f"{number}": WatchRow(SEEN.seen_at, SEEN.due_at, 0) for number in range(others)
    }
    assert written(ledger.conn) == now_known, "a look writes no run"


def test_nothing_is_noted_without_the_lease(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("r")))
    number, at = written(ledger.conn)["r"]
    with pytest.raises(LeaseLost):
        commit_looks(ledger.conn, replace(ledger.lease, token=ledger.lease.token + 1), {SEEN: {number: at}})
    assert watched(ledger.conn)["r"].seen_at == to_ms(T0)
