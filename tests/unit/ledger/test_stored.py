"""Runs read back: as they were last seen, in short, and around rows that cannot be read."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from collector.clock import to_ms
from collector.errors import LeaseLost
from collector.ledger import detail, runs, schema, stored
from collector.ledger.runs import RunChange, RunsChanged
from collector.model import Dataset, Facts, Field, Job, Run, RunState
from tests.unit.ledger.ledgers import ALL, HOUR, NOW, SECOND, T0, Ledger, a_run, child_of, engine, later

WIDE = Facts(
    inputs=tuple(Dataset("ns", name, fields=tuple(Field(f"{name}_{n}", "string") for n in range(40))) for name in "ab"),
    ids={"template_handle": "t"},
)


def known(ledger: Ledger, *keys: str) -> dict[str, Run]:
    return stored.known(ledger.conn, ledger.source, keys).runs


def tracked(ledger: Ledger, now_ms: int = NOW + HOUR) -> list[Run]:
    return stored.tracked(ledger.conn, ledger.source, now_ms, 10_000).runs


def seen_again(ledger: Ledger, found: Sequence[Run], seconds: int) -> None:
    moved = [replace(run, seen_at=later(seconds=seconds), due_at=None, misses=0) for run in found]
    ledger.commit(*(RunChange(run, only_seen=True) for run in moved))


def test_a_look_moves_nothing_but_the_look(ledger: Ledger) -> None:
    run = a_run("r", facts=WIDE)
    ledger.commit(RunChange(run))
    before = stored.basis(ledger.conn, ledger.source, ["r"])["r"]
    looked = replace(run, seen_at=later(seconds=30), due_at=later(seconds=90), misses=1)
    ledger.commit(RunChange(looked, only_seen=True))
    assert known(ledger, "r") == {"r": looked}
    assert tracked(ledger) == [replace(looked, facts=Facts(ids=WIDE.ids))]
    after = stored.basis(ledger.conn, ledger.source, ["r"])["r"]
    assert after == (*before[:2], to_ms(looked.seen_at), to_ms(looked.seen_at) + 60 * SECOND, 1)
    whole = replace(looked, raw_state="other")
    ledger.commit(RunChange(whole))
    assert known(ledger, "r") == {"r": whole}
    assert (stored.basis(ledger.conn, ledger.source, ["r"])["r"][1] or 0) > (before[1] or 0), "although no time passed"


def test_a_run_that_is_over_is_watched_no_longer_and_one_that_comes_back_is(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("r")), RunChange(a_run("s")))
    ledger.commit(
        RunChange(a_run("r", RunState.SUCCEEDED, started_at=T0, ended_at=T0)),
        RunChange(a_run("s", RunState.UNKNOWN, abandoned_at=T0)),
    )
    assert (ledger.rows("watch"), tracked(ledger)) == (0, [])
    ledger.commit(RunChange(a_run("s")))
    assert [run.key for run in tracked(ledger)] == ["s"]


def test_500_runs_seen_again_write_a_few_pages(tmp_path: Path) -> None:
    """Each of them holds some kilobytes, of which nothing changed."""
    made, log = engine(tmp_path / "ledger.db"), tmp_path / "ledger.db-wal"
    with made.begin() as conn:
        ledger = Ledger(conn)
        ledger.configure(a=ALL)
        ledger.commit(*(RunChange(a_run(f"{number}", facts=WIDE)) for number in range(500)))
        found = tracked(ledger)
    with made.connect() as conn:
        raw: Any = conn.connection.dbapi_connection
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert log.stat().st_size == 0
    with made.begin() as conn:
        ledger.conn = conn
        seen_again(ledger, found, 30)
    written = log.stat().st_size
    made.dispose()
    assert len(found) == 500
    assert 0 < written < 300_000


def test_what_is_remembered_in_short_follows_what_is_written(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("a")), RunChange(a_run("b")))
    assert [run.raw_state for run in tracked(ledger)] == ["running", "running"]
    ledger.commit(RunChange(a_run("a", raw_state="Stopping")))
    assert {run.key: run.raw_state for run in tracked(ledger)} == {"a": "Stopping", "b": "running"}


def test_only_rows_that_changed_are_read_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    read, keys = detail.read_short, list[str]()

    def counting(key: str, text: str, jobs: dict[Job, Job]) -> Run:
        keys.append(key)
        return read(key, text, jobs)

    monkeypatch.setattr(detail, "read_short", counting)
    ledger.commit(*(RunChange(a_run(f"{number}")) for number in range(20)))
    before = tracked(ledger)
    seen_again(ledger, before, 30)
    ledger.commit(RunChange(a_run("7", raw_state="Stopping")))
    others = {run.key: run for run in before if run.key != "7"}
    assert all(run is others[run.key] for run in tracked(ledger) if run.key != "7"), "nor are they copied"
    assert sorted(keys[:20]) == sorted(f"{number}" for number in range(20))
    assert keys[20:] == ["7"]


def test_what_is_tracked_follows_every_commit(ledger: Ledger) -> None:
    """Though it is read anew only where something moved that it is made of."""
    a, b = a_run("a"), a_run("b")
    steps = [
        (RunChange(a), RunChange(b)),
        (RunChange(replace(a, seen_at=later(seconds=1)), only_seen=True),),
        (RunChange(replace(a, misses=1), only_seen=True),),
        (RunChange(replace(a, misses=0), only_seen=True),),
        (RunChange(replace(a, seen_at=later(seconds=2), due_at=later(seconds=3)), only_seen=True),),
        (RunChange(replace(a, seen_at=later(seconds=2), due_at=later(seconds=4)), only_seen=True),),
        (RunChange(replace(a, seen_at=later(seconds=2), due_at=later(hours=2)), only_seen=True),),
        (RunChange(replace(a, seen_at=later(seconds=5)), only_seen=True), RunChange(a_run("c"))),
        (RunChange(replace(b, raw_state="Stopping")),),
        (RunChange(replace(b, raw_state="Stopping", due_at=later(seconds=9))),),
        (RunChange(replace(b, state=RunState.SUCCEEDED, started_at=T0, ended_at=T0)),),
    ]
    for step in steps:
        ledger.commit(*step)
        found, kept = tracked(ledger), ledger.conn.info.pop(stored._KEY)
        assert found == tracked(ledger), "as another connection reads it"
        ledger.conn.info[stored._KEY] = kept


def test_what_is_tracked_is_read_once_while_runs_are_seen_unchanged(ledger: Ledger) -> None:
    ledger.commit(*(RunChange(a_run(key)) for key in "abc"))
    before = tracked(ledger)
    for seconds in (30, 60):
        seen_again(ledger, before, seconds)
        assert tracked(ledger) is before
    ledger.commit(RunChange(a_run("b", raw_state="Stopping")))
    assert tracked(ledger) is not before


@pytest.mark.parametrize(("due", "misses"), [(None, 0), (None, 1), (None, 2), (40, 0), (40, 1)])
def test_of_looks_only_the_time_is_not_in_the_runs_in_short(ledger: Ledger, due: int | None, misses: int) -> None:
    run = a_run("r", misses=1)
    ledger.commit(RunChange(run))
    looked = replace(run, seen_at=later(seconds=30), due_at=None if due is None else later(seconds=due), misses=misses)
    ledger.commit(RunChange(looked, only_seen=True))
    [found] = tracked(ledger)
    assert replace(found, seen_at=looked.seen_at) == looked
    assert (found.seen_at == looked.seen_at) or (found.due_at is None and misses == run.misses)
    assert known(ledger, "r") == {"r": looked}, "whole, it is as it was last seen"


def test_memory_of_runs_in_short_is_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "KEPT", 5)
    ledger.commit(*(RunChange(a_run(f"{number}")) for number in range(20)))
    assert len(tracked(ledger)) == 20 == len(tracked(ledger))
    assert len(stored._short(ledger.conn)._runs) == 5


def test_runs_that_nobody_asks_for_are_forgotten(sqlite_ledger: Ledger) -> None:
    """As those that ended: they would fill the memory in the course of days."""
    conn, now = sqlite_ledger.conn, [0.0]
    sqlite_ledger.commit(*(RunChange(a_run(key)) for key in ("watched", "ended")))
    watched, ended = (row.id for row in conn.execute(select(schema.run.c.id).order_by(schema.run.c.id)))
    written = {row.id: row.updated_at for row in conn.execute(select(schema.run.c.id, schema.run.c.updated_at))}
    memory = stored._Memory(lambda: now[0])
    memory.of(conn, written, {})
    for _ in range(3):
        now[0] += stored.FORGOTTEN_AFTER - 1
        assert memory.of(conn, {watched: written[watched]}, {}).keys() == {watched}
    assert (watched in memory._runs, ended in memory._runs) == (True, False)
    assert not list(memory._jobs), "a run in memory has its job"


def test_a_row_that_cannot_be_read_keeps_no_other_from_being_read(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("good")), RunChange(a_run("bad")), RunChange(a_run("child", parent=child_of("bad"))))
    ledger.conn.execute(update(schema.run).where(schema.run.c.key == "bad").values(detail="{"))
    found = stored.tracked(ledger.conn, ledger.source, NOW + HOUR, 10)
    assert ([run.key for run in found.runs], found.unreadable) == (["good", "child"], ("bad",))
    both = stored.known(ledger.conn, ledger.source, ["good", "bad"], ["bad"])
    assert (set(both.runs), set(both.unreadable)) == ({"good", "child"}, {"bad"})
    assert "the stored row of run bad cannot be read" in both.unreadable["bad"]


def test_a_row_that_is_set_aside_stays_and_is_watched_no_longer(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("good")), RunChange(a_run("bad", RunState.FAILED, enrich_until=T0)))
    ledger.conn.execute(update(schema.run).where(schema.run.c.key == "bad").values(detail="{"))
    assert [run.key for run in runs.ended(ledger.conn, ledger.source, 10)] == ["bad"]
    ledger.commit(unreadable=("bad",))
    assert runs.ended(ledger.conn, ledger.source, 10) == []
    assert stored.tracked(ledger.conn, ledger.source, NOW + HOUR, 10).unreadable == ()
    assert (ledger.rows("run"), ledger.rows("watch")) == (2, 1)


@pytest.mark.parametrize(
    "meanwhile",
    [
        RunChange(a_run("r", raw_state="Stopping")),
        RunChange(a_run("r", seen_at=later(seconds=30)), only_seen=True),
        RunChange(a_run("r", misses=1), only_seen=True),
        RunChange(a_run("new")),
        RunChange(a_run("child", parent=child_of("r"))),
    ],
    ids=["written", "seen", "missed", "new", "new child"],
)
def test_what_was_decided_on_rows_that_changed_meanwhile_is_not_committed(ledger: Ledger, meanwhile: RunChange) -> None:
    ledger.commit(RunChange(a_run("r")), RunChange(a_run("other")))
    before = stored.known(ledger.conn, ledger.source, ["r", "new"], ["r"])
    ledger.commit(RunChange(a_run("other", raw_state="Stopping")), known=before)
    ledger.commit(meanwhile)
    with pytest.raises(RunsChanged):
        ledger.commit(RunChange(a_run("r", raw_state="Late")), known=before)
    assert "Late" not in {run.raw_state for run in known(ledger, "r").values()}
    ledger.commit(
        RunChange(a_run("r", raw_state="Late")), known=stored.known(ledger.conn, ledger.source, ["r", "new"], ["r"])
    )
    assert known(ledger, "r")["r"].raw_state == "Late"


def test_only_the_holder_of_the_lease_makes_runs_due(ledger: Ledger) -> None:
    ledger.commit(RunChange(a_run("r", due_at=later(hours=1))))
    stale = replace(ledger.lease, token=ledger.lease.token - 1)
    with pytest.raises(LeaseLost):
        runs.make_due(ledger.conn, stale, ledger.source, ["r"], NOW + SECOND)
    assert tracked(ledger, NOW + SECOND) == []
    assert runs.make_due(ledger.conn, ledger.lease, ledger.source, ["r"], NOW + SECOND) == 1
    assert [run.due_at for run in tracked(ledger, NOW + SECOND)] == [later(seconds=1)]


def test_hastening_leaves_alone_what_is_due_anyway_or_over(ledger: Ledger) -> None:
    ledger.commit(
        RunChange(a_run("due", due_at=later(seconds=-5), seen_at=later(seconds=-9))),
        RunChange(a_run("every cycle")),
        RunChange(a_run("ended", RunState.SUCCEEDED, due_at=later(hours=1), started_at=T0, ended_at=T0)),
        RunChange(a_run("waits", RunState.FAILED, due_at=later(hours=1), enrich_until=T0)),
    )
    before = known(ledger, "due", "every cycle", "ended", "waits")
    assert runs.make_due(ledger.conn, ledger.lease, ledger.source, list(before), NOW + SECOND) == 0
    assert known(ledger, *before) == before


def test_a_hint_reaches_a_run_that_was_seen_before_the_clock_went_back(ledger: Ledger) -> None:
    ledger.now = NOW + HOUR
    ledger.commit(RunChange(a_run("every cycle", seen_at=later(hours=1))))
    assert tracked(ledger, NOW + SECOND) == []
    assert runs.make_due(ledger.conn, ledger.lease, ledger.source, ["every cycle"], NOW + SECOND) == 1
    assert [run.key for run in tracked(ledger, NOW + SECOND)] == ["every cycle"]
