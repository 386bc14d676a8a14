"""One schema, made by migrations, for both databases."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import ClauseElement, Connection, Engine, Row, insert, inspect
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from collector.clock import to_ms
from collector.errors import LedgerError, LedgerTooNew
from collector.ledger import (
    claims,
    detail,
    doubts,
    job_queries,
    jobs,
    lanes,
    leases,
    memory,
    migration,
    run_rows,
    runs,
    schema,
    stored,
    tallies,
)
from collector.ledger import statements as ledger_statements
from collector.ledger.schema import REVISIONS, db_now, metadata
from collector.ledger.sqlite import file
from collector.model import RunState
from collector.platforms.cdf.job_list import Mark, read_mark
from tests.unit.ledger.ledgers import NOW, T0, a_run, later

# what is compared of these indexes is their text
pytestmark = [
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping metadata-specified expression-based index"),
]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Engine]:
    made = file.engine(file.connect_writer(tmp_path / "ledger.db"), writes=True)
    yield made
    made.dispose()


def statements(conn: Connection) -> dict[str, str]:
    rows = conn.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%'")
    return {name: "".join(sql.replace('"', "").split()) for name, sql in rows}


def test_the_migrations_make_what_a_new_file_has(empty: Engine, tmp_path: Path) -> None:
    with empty.begin() as conn:
        upgraded_to(conn, "head")
        assert not migration.migrate(conn, "ledger"), "nothing is left to do"
        migrated, rows = statements(conn), contents(conn)
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
    other = file.engine(file.connect_writer(tmp_path / "other.db"), writes=True)
    with other.begin() as conn:
        assert migration.migrate(conn, "ledger")
        assert not migration.migrate(conn, "ledger"), "nothing is left to do"
        assert statements(conn) == migrated
        assert contents(conn) == rows
    other.dispose()


def contents(conn: Connection) -> dict[str, Sequence[Row[Any]]]:
    return {table: conn.exec_driver_sql(f"SELECT * FROM {table}").all() for table in inspect(conn).get_table_names()}


def test_a_ledger_of_the_first_version_keeps_what_it_holds(empty: Engine) -> None:
    with empty.begin() as conn:
        upgraded_to(conn, "0001")
        conn.exec_driver_sql("INSERT INTO source (name) VALUES ('source')")
        conn.exec_driver_sql(
            "INSERT INTO job VALUES (1, 'load', 'key', 'uuid', 1, 'succeeded', 1, 2, 3, 4, 5, 6, 'Loads', 7)"
        )
        assert migration.migrate(conn, "ledger")
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        [job] = job_queries.jobs(conn, 10)
    assert (job.name, job.succeeded, job.failed, job.description, job.schedule) == ("load", 3, 4, "Loads", None)


def test_open_runs_of_an_older_ledger_are_watched(empty: Engine) -> None:
    """What the look-back and the schedule of a run were before holds on."""
    open_run, over = a_run("open", due_at=later(seconds=30)), a_run("over", RunState.SUCCEEDED, ended_at=T0)
    waits = a_run("waits", RunState.FAILED, enrich_until=later(seconds=60))
    with empty.begin() as conn:
        upgraded_to(conn, "0003")
        conn.exec_driver_sql("INSERT INTO source (name) VALUES ('source')")
        for run, due_at in ((open_run, to_ms(later(seconds=30))), (over, None), (waits, None)):
            row = {**detail.columns(run), "poll_due_at": due_at, "source_id": 1, "updated_at": 1}
            conn.execute(insert(schema.run), {**row, "strand_id": 1, "depth": 0, "last_seq": 0})
        migration.migrate(conn, "ledger")
        assert stored.tracked(conn, 1, NOW, 10).runs == []
        assert stored.tracked(conn, 1, NOW + 30_000, 10).runs == [open_run]
        assert stored.known(conn, 1, ["waits", "over"]).runs == {"waits": waits, "over": over}
        assert conn.exec_driver_sql("SELECT count(*) FROM watch").scalar_one() == 2


def upgraded_to(conn: Connection, revision: str) -> None:
    config = Config(attributes={"connection": conn})
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    command.upgrade(config, revision)


def test_the_names_in_a_cursor_move_to_the_memory_of_their_source(empty: Engine) -> None:
    with empty.begin() as conn:
        upgraded_to(conn, "0002")
        cursors = ['{"v":1,"newest":7,"since":3,"names":{"12":"pumps \u00e9"}}', '{"v":1,"since":5}', "nonsense", None]
        for number, cursor in enumerate(cursors):
            conn.exec_driver_sql("INSERT INTO source (name, cursor) VALUES (?, ?)", (f"s{number}", cursor))
        migration.migrate(conn, "ledger")
        assert memory.read(conn, 1) == {"name/12": "pumps \u00e9"}
        kept = conn.exec_driver_sql("SELECT cursor FROM source ORDER BY id").scalars().all()
        assert conn.exec_driver_sql("SELECT count(*) FROM memory").scalar_one() == 1
    assert read_mark(kept[0]) == Mark(newest=7, since=3)
    assert kept[1:] == cursors[1:]


def test_a_second_life_that_is_there_already_is_closed_and_the_first_one_goes_on(
    empty: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Two sources on one account: r is open in both, e ended in both, and only the second one has s."""
    column_names = (
        "source_id",
        "key",
        "run_uuid",
        "job",
        "strand_id",
        "depth",
        "last_seq",
        "state",
        "ended_at",
        "seen_at",
        "updated_at",
        "poll_due_at",
        "detail",
    )
    places = ", ".join("?" * len(column_names))
    insert = f"INSERT INTO run ({', '.join(column_names)}) VALUES ({places})"
    with empty.begin() as conn:
        upgraded_to(conn, "0002")
        conn.exec_driver_sql("INSERT INTO source (name) VALUES ('a'), ('b')")
        runs_there = [(1, "r", None), (1, "e", T0), (2, "r", None), (2, "e", T0), (2, "s", None)]
        for number, (source, key, ended_at) in enumerate(runs_there, start=1):
            row = detail.columns(a_run(key, ended_at=ended_at)) | {"strand_id": number, "depth": 0, "last_seq": 1}
            row |= {"source_id": source, "updated_at": NOW, "poll_due_at": None if row["ended_at"] else NOW}
            conn.exec_driver_sql(insert, tuple(row[name] for name in column_names))
        migration.migrate(conn, "ledger")
        kept = conn.exec_driver_sql("SELECT source_id, key, poll_due_at IS NULL, ended_at IS NULL FROM run ORDER BY id")
        assert [tuple(row) for row in kept] == [
            (1, "r", 0, 1), (1, "e", 1, 0), (2, "r~3", 1, 0), (2, "e~4", 1, 0), (2, "s", 0, 1),
        ]  # fmt: skip
        closed = stored.known(conn, 2, ["r~3"]).runs["r~3"]
        assert not closed.open
        assert closed.run_id != a_run("r").run_id
        assert stored.known(conn, 1, ["r"]).runs["r"] == a_run("r")
        row = detail.columns(a_run("r")) | {"strand_id": 9, "depth": 0, "last_seq": 1, "source_id": 2}
        row |= {"updated_at": NOW, "key": "another", "poll_due_at": None}
        with pytest.raises(IntegrityError):
            conn.exec_driver_sql(insert, tuple(row[name] for name in column_names))
    assert [record.getMessage() for record in caplog.records].count("run.duplicate_closed") == 2


def test_every_migration_is_named_in_the_schema() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert tuple(reversed([found.revision for found in script.walk_revisions()])) == REVISIONS
    assert script.get_heads() == [REVISIONS[-1]]


def test_a_migration_that_does_not_end_leaves_the_ledger_as_it_was(empty: Engine) -> None:
    def stopped(conn: Connection) -> None:
        migration.migrate(conn, "ledger")
        raise RuntimeError

    with pytest.raises(RuntimeError), empty.begin() as conn:
        stopped(conn)
    with empty.begin() as conn:
        assert migration.revision(conn) is None
        assert statements(conn) == {}


def test_a_newer_ledger_is_refused_with_what_to_do(empty: Engine) -> None:
    with empty.begin() as conn:
        migration.migrate(conn, "ledger")
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999', compatible_from = '9999'")
        for attempt in (migration.migrate, migration.check):
            with pytest.raises(LedgerTooNew, match=r"schema 9999, made by a newer version.*install the newer version"):
                attempt(conn, "ledger")


def test_a_newer_ledger_is_used_if_its_migrations_only_added(empty: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with empty.begin() as conn:
        migration.migrate(conn, "ledger")
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        assert not migration.migrate(conn, "ledger")
        migration.check(conn, "ledger")
        assert migration.version(conn) == migration.Version("9999", "0012"), "the later ones only add"
        with pytest.raises(LedgerTooNew, match=r"schema 9999.*cannot copy all that is in it: use the newer version"):
            migration.check_same(conn, "ledger")


@pytest.mark.parametrize(
    ("found", "usable"),
    [
        (migration.Version("0001"), True),
        (migration.Version(REVISIONS[-1], REVISIONS[-1]), True),
        (migration.Version("9999", "0012"), True),
        (migration.Version("9999", "9998"), False),
        (migration.Version("9999"), False),
    ],
)
def test_a_program_works_on_what_it_knows_or_what_is_compatible(found: migration.Version, usable: bool) -> None:
    assert found.is_usable is usable


def test_a_reader_wants_the_present_schema(empty: Engine) -> None:
    with empty.begin() as conn, pytest.raises(LedgerError, match="start the service, which migrates it"):
        migration.check(conn, "ledger")


def test_a_start_with_a_file_loads_neither_alembic_nor_what_postgresql_needs(tmp_path: Path) -> None:
    opening = (
        "import sys, pathlib; from collector.clock import SystemClock; from collector.ledger.sqlite.store import Store;"
        "s = Store.open(pathlib.Path(sys.argv[1]), holder='test', clock=SystemClock());"
        "print({'alembic', 'sqlalchemy.dialects.postgresql'} & set(sys.modules)); s._close()"
    )
    for _ in ("a new file", "and once it is there"):
        done = subprocess.run(
            [sys.executable, "-c", opening, str(tmp_path / "ledger.db")], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "set()"


def test_the_file_is_as_it_was_measured_best(empty: Engine) -> None:
    with empty.begin() as conn:
        settings = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("page_size", "auto_vacuum", "journal_mode", "synchronous", "secure_delete")
        }
    assert settings == {
        "page_size": 8192,
        "auto_vacuum": 2,
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 0,
    }
    assert sqlite3.threadsafety == 3


def test_postgresql_takes_the_same_tables_and_statements() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        CreateTable(table).compile(dialect=dialect)
        for index in table.indexes:
            CreateIndex(index).compile(dialect=dialect)
    assert "GENERATED BY DEFAULT AS IDENTITY" in str(CreateTable(schema.event).compile(dialect=dialect))
    hot: list[ClauseElement] = [
        *(part for module in (doubts, jobs, claims, leases, lanes, run_rows, runs) for part in prepared(module)),
        ledger_statements._put("postgresql", schema.tally, (), tallies._COUNTS),
        ledger_statements._put("postgresql", schema.lane, ("last_seq",), ()),
        ledger_statements._put("postgresql", schema.job, ("run_key", "state"), ()),
        db_now(),
    ]
    texts = [str(statement.compile(dialect=dialect)) for statement in hot]
    assert sum("FOR UPDATE" in text for text in texts) == 3, (
        "the fence, the leases that are renewed along, and the lanes"
    )
    assert sum("FOR KEY SHARE" in text for text in texts) == 2, (
        "the sink of a settle, beside those of its other shards; of commits"
    )
    assert sum("ON CONFLICT" in text for text in texts) == 3
    assert "clock_timestamp" in texts[-1]


def prepared(module: object) -> list[ClauseElement]:
    return [value for name, value in vars(module).items() if name.isupper() and isinstance(value, ClauseElement)]
