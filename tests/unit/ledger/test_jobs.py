"""What the ledger keeps of a job's datasets."""

from dataclasses import replace

from sqlalchemy import event, select

from collector.ledger import configured_sources, jobs, schema
from collector.ledger.configured_sources import Configured
from collector.model import ColumnEdge, Dataset, Definition, Field
from tests.unit.ledger.ledgers import COMPLETE, FAIL, NOW, START, Ledger, a_job, change

JOB = "transformation/1"
OUTPUT = Dataset(
    "cdf://host/project",
    "events",
    fields=(Field("a", "int"),),
    columns=(ColumnEdge("a", "cdf://host/project", "raw/x/y", "k"),),
    symlinks=(("n", "m", "TABLE"),),
    storage=("file", None),
)
INPUT = Dataset("cdf://host/project", "raw/x/y")
WHOLE = Definition((INPUT,), (OUTPUT,))


def ended(ledger: Ledger, key: str, definition: Definition | None) -> None:
    known = {} if definition is None else {JOB: definition}
    ledger.commit(change(None, key, [START, COMPLETE if definition else FAIL], ledger.now), definitions=known)


def test_the_last_definition_comes_back_as_it_was(ledger: Ledger) -> None:
    assert jobs.definitions(ledger.conn, ledger.source, [JOB, "another"]) == {}
    ended(ledger, "1", WHOLE)
    assert jobs.definitions(ledger.conn, ledger.source, [JOB, "another"]) == {JOB: WHOLE}
    assert jobs.definitions(ledger.conn, ledger.source + 1, [JOB]) == {}


def test_what_a_later_run_does_not_know_stays(ledger: Ledger) -> None:
    ended(ledger, "1", WHOLE)
    ended(ledger, "2", Definition(None, ()))
    assert jobs.definitions(ledger.conn, ledger.source, [JOB]) == {JOB: Definition((INPUT,), ())}
    ended(ledger, "3", None)
    assert jobs.definitions(ledger.conn, ledger.source, [JOB]) == {JOB: Definition((INPUT,), ())}


def test_the_latest_jobs_are_those_of_their_source(ledger: Ledger) -> None:
    other = configured_sources.sync_sources(ledger.conn, [Configured("source"), Configured("other")], NOW)["other"]
    for name in ("b", "a", "c"):
        ledger.happen(name, START, job=a_job(name))
    ledger.happen("again", START, job=replace(a_job("b"), description="new"))
    found = jobs.latest(ledger.conn, ledger.source, 2)
    assert [(each.name, each.description) for each in found] == [("a", None), ("b", "new")]
    assert jobs.latest(ledger.conn, other, 2) == []


def test_the_same_definition_again_writes_nothing(ledger: Ledger) -> None:
    ended(ledger, "1", WHOLE)
    written: list[int] = []

    @event.listens_for(ledger.conn, "after_cursor_execute")
    def counted(conn: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE job"):
            written.append(cursor.rowcount)  # type: ignore[attr-defined]

    jobs.define(ledger.conn, ledger.source, {JOB: WHOLE})
    jobs.define(ledger.conn, ledger.source, {JOB: Definition((), None)})
    assert written == [0, 1]


def test_half_a_surrogate_pair_in_a_name_breaks_nothing(ledger: Ledger) -> None:
    ended(ledger, "1", Definition((Dataset("gs://b", "x\ud800.csv"),), None))
    text = ledger.conn.scalar(select(schema.job.c.inputs))
    assert text is not None
    assert "x?.csv" in text
