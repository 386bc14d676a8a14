"""What `check` says of the load, with and without a ledger."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text, update

from collector.app.check import Row, _all, _of_ledger, run
from collector.clock import SystemClock
from collector.errors import ConfigurationError
from collector.ledger import configured_sources, migration, schema, skips
from collector.ledger.configured_sources import Configured
from collector.ledger.postgres.database import Database
from collector.ledger.postgres.store import Store as PostgresStore
from collector.ledger.sqlite.store import Store
from collector.model import Skip, SkipKind
from config.settings import Settings
from simulators import configuration
from simulators.cdf import CdfSimulator
from simulators.server import Served
from simulators.wetransform import WetransformSimulator
from tests.deployment import now
from tests.servers.ports import free_port
from tests.servers.postgres import PASSWORD, PostgresServer
from tests.unit.ledger.ledgers import ALL, START, Ledger


async def loads(settings: Settings) -> list[Row]:
    return [row for row in await _all(settings, SystemClock()) if row["subject"] == "load"]


async def test_the_load_is_that_of_the_runs_in_the_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    async with Served(WetransformSimulator(seed=1, now=now)) as served:
        given = {"platform": "wetransform", "name": "source", "tenant": "acme", "token": "wetransform-token"}
        settings = Settings.model_validate(
            {
                "ledger": {"path": ledger},
                "sources": [given | {"base_url": served.url, "requests_per_minute": 2}],
                "sinks": [{"name": "file", "type": "file", "path": tmp_path / "events"}],
            }
        )
        [row] = await loads(settings)
        assert (row["part"], row["ok"]) == ("source source", True)
        assert row["detail"].startswith("0 open runs")

        def three_runs(conn: Connection) -> None:
            books = Ledger(conn)
            books.configure()
            for key in "abc":
                books.happen(key, START)

        store = Store.open(ledger, holder="test", clock=SystemClock())
        await store.write(three_runs)
        await store.close()
        [row] = await loads(settings)
        assert not row["ok"]
        assert row["detail"].startswith("3 open runs: 3 single reads every 60 s, 3.0 requests a minute; the limit is 2")
        assert "intervals.active_most to 90s" in row["remedy"]


@pytest.mark.parametrize(
    "given",
    [
        {"platform": "wetransform", "tenant": "acme", "token": "wetransform-token"},
        {"platform": "dataprep", "workspace": "1", "token": "dataprep-token"},
        {"platform": "cdf", "project": "plant-a"},
    ],
)
async def test_of_a_host_that_is_down_nothing_is_called_well(tmp_path: Path, given: dict[str, Any]) -> None:
    """But for the token of an identity provider elsewhere."""
    async with Served(CdfSimulator(seed=1, now=now)) as provider:
        down = f"http://127.0.0.1:{free_port()}"
        source = {**configuration.source("cdf", provider.url), **given} if given["platform"] == "cdf" else given
        settings = Settings.model_validate(
            {"ledger": {"path": tmp_path / "l.db"}, "sources": [{"name": "source", **source, "base_url": down}]}
        )
        rows = await _all(settings, SystemClock())
    assert rows
    assert [row["subject"] for row in rows if row["ok"]] == (["token"] if given["platform"] == "cdf" else [])
    assert all(row["remedy"] for row in rows if not row["ok"])


def on(ledger: Path) -> Settings:
    return with_ledger(path=ledger)


def with_ledger(**ledger: object) -> Settings:
    source = {"platform": "wetransform", "name": "source", "tenant": "acme", "token": "wetransform-token"}
    return Settings.model_validate({"ledger": ledger, "sources": [source]})


def made_newer(conn: Connection) -> None:
    conn.execute(text("UPDATE alembic_version SET version_num = '9999', compatible_from = '9999'"))


async def test_a_ledger_of_a_newer_version_is_found_without_asking_anybody(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    assert await _of_ledger(on(ledger)) == []
    store = Store.open(ledger, holder="test", clock=SystemClock())
    [row] = await _of_ledger(on(ledger))
    assert (row["part"], row["ok"]) == ("ledger", True)
    await store.write(made_newer)
    await store.close()
    [row] = await _of_ledger(on(ledger))
    assert not row["ok"]
    assert "has schema 9999, made by a newer version" in row["detail"]


async def test_a_ledger_of_a_newer_version_that_only_added_is_usable(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    store = Store.open(ledger, holder="test", clock=SystemClock())
    await store.write(lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    await store.close()
    [row] = await _of_ledger(on(ledger))
    assert (row["ok"], row["detail"]) == (True, "this version supports its schema 9999, which a newer version made")
    again = Store.open(ledger, holder="test", clock=SystemClock())
    assert await again.read(migration.revision) == "9999", "it is not taken back"
    await again.close()


async def test_a_ledger_that_the_next_start_migrates_is_no_fault(tmp_path: Path, postgres: PostgresServer) -> None:
    """As before each upgrade: the chart starts no pod unless `check --offline` ends with 0."""
    path, url = tmp_path / "ledger.db", postgres.url(postgres.new_database())
    database = Database(url, "lineage", lambda: PASSWORD)
    for settings, store in (
        (on(path), Store.open(path, holder="test", clock=SystemClock())),
        (with_ledger(url=url, password=PASSWORD), await asyncio.to_thread(PostgresStore.open, database)),
    ):
        await store.write(lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '0001'")))
        await store.close()
        [row] = await _of_ledger(settings)
        assert row["ok"], row
        assert (
            f"has schema 0001 and needs {schema.REVISIONS[-1]}: start the service, which migrates it" in row["detail"]
        )


async def test_a_sink_that_refuses_all_is_found_without_asking_anybody(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"

    def refused(conn: Connection) -> None:
        books = Ledger(conn)
        books.configure(a=ALL)
        for key in range(10):
            books.happen(str(key), START)
        books.park(cause="POST answered 400")

    store = Store.open(ledger, holder="test", clock=SystemClock())
    await store.write(refused)
    await store.close()
    _, row = await _of_ledger(on(ledger))
    assert (row["part"], row["ok"]) == ("sink a", False)
    assert row["detail"] == "it refused the last 10 events, which are parked: POST answered 400"


async def test_a_name_that_the_ledger_knows_with_another_account_is_found_without_asking_anybody(
    tmp_path: Path,
) -> None:
    ledger = tmp_path / "ledger.db"
    settings = on(ledger)

    def of(account: str | None) -> Callable[[Connection], object]:
        return lambda conn: configured_sources.sync_sources(conn, [Configured("source", account)], 0)

    store = Store.open(ledger, holder="test", clock=SystemClock())
    try:
        await store.write(of(settings.sources[0].account))
        assert [row["ok"] for row in await _of_ledger(settings)] == [True]
        await store.write(of(None))
        await store.write(lambda conn: conn.execute(update(schema.source).values(account="of-another")))
        _, row = await _of_ledger(settings)
    finally:
        await store.close()
    assert (row["part"], row["ok"]) == ("ledger", False)
    assert "source 'source' watches another account than the ledger knows" in row["detail"]
    assert "`run` refuses to start" in row["remedy"]


async def test_the_file_of_another_program_is_found_without_asking_anybody(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    with closing(sqlite3.connect(ledger)) as other:
        other.execute("CREATE TABLE songs (name TEXT)")
    [row] = await _of_ledger(on(ledger))
    assert not row["ok"]
    assert "is the SQLite file of another program" in row["detail"]


async def test_include_that_has_left_out_all_jobs_so_far_is_said(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    given = {
        "platform": "wetransform",
        "name": "source",
        "tenant": "acme",
        "token": "wetransform-token",
        "include": ["a*"],
    }
    settings = Settings.model_validate({"ledger": {"path": path}, "sources": [given]})

    def left_out(conn: Connection) -> None:
        Ledger(conn).configure()
        skips.note(conn, 1, [Skip(SkipKind.FILTERED, "some job", "left out by include and exclude")], 1)

    def ran(conn: Connection) -> None:
        books = Ledger(conn)
        books.configure()
        books.happen("a", START)

    store = Store.open(path, holder="test", clock=SystemClock())
    try:
        await store.write(left_out)
        [row] = [row for row in await _of_ledger(settings) if row["subject"] == "include"]
        assert (row["part"], row["ok"], row["remedy"] is None) == ("source source", False, False)
        await store.write(ran)
        assert [row for row in await _of_ledger(settings) if row["subject"] == "include"] == []
    finally:
        await store.close()


def _with(folder: Path, **keys: Any) -> Settings:
    source = {"platform": "wetransform", "name": "source", "tenant": "acme", "token": "wetransform-token"}
    return Settings.model_validate({"ledger": {"path": folder / "l.db"}, "sources": [source], **keys})


async def test_a_folder_that_run_would_not_create_fails_the_check(tmp_path: Path) -> None:
    far = tmp_path / "not" / "there" / "l.db"
    [row] = await _of_ledger(_with(tmp_path, ledger={"path": far}))
    assert (row["part"], row["ok"]) == ("ledger", False)
    assert row["detail"].startswith(f"cannot create the ledger {far}: neither its folder {far.parent} exists")
    assert await _of_ledger(_with(tmp_path, ledger={"path": tmp_path / "one" / "l.db"})) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [(Path.mkdir, "is a directory: set ledger.path"), (lambda path: path.write_text("notes" * 99), "not a ledger")],
)
async def test_what_is_not_a_ledger_fails_the_check(tmp_path: Path, make: Callable[[Path], object], words: str) -> None:
    make(tmp_path / "l.db")
    [row] = await _of_ledger(_with(tmp_path))
    assert (row["ok"], row["subject"]) == (False, str(tmp_path / "l.db"))
    assert words in row["detail"]


@pytest.mark.parametrize("path", ["not/there/x.sock", "a-file"])
def test_a_control_socket_that_cannot_be_fails_the_check(tmp_path: Path, path: str) -> None:
    (tmp_path / "a-file").write_text("notes")
    config = tmp_path / "config.yaml"
    source = "{platform: wetransform, name: a, tenant: acme, token: wetransform-token}"
    config.write_text(
        f"sources: [{source}]\ncontrol_socket: {tmp_path / path}\nledger: {{path: {tmp_path / 'l.db'}}}\n"
    )
    with pytest.raises(ConfigurationError, match=f"control_socket: .*{tmp_path / path}"):
        run(config, offline=True, as_json=True)
