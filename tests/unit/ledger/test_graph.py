"""Which jobs use which datasets, and the graph around one of them."""

import json
from pathlib import Path

import pytest
from sqlalchemy import insert

from collector.ledger import configured_sources, graph, jobs, migration, retention, schema
from collector.ledger.configured_sources import Configured
from collector.ledger.graph import Node
from collector.ledger.sqlite import file
from collector.model import Dataset, Definition
from tests.unit.ledger.ledgers import ALL, COMPLETE, HOUR, START, Ledger, a_job
from tests.unit.ledger.test_schema import upgraded_to


def job(name: str) -> Node:
    return Node(True, "source", name)


def data(name: str) -> Node:
    return Node(False, "db", name)


def defined(ledger: Ledger, name: str, reads: str, writes: str) -> None:
    ledger.happen(name, START, COMPLETE, job=a_job(name))
    sides = (tuple(Dataset("db", each) for each in side.split()) for side in (reads, writes))
    jobs.define(ledger.conn, ledger.source, {name: Definition(*sides)})


@pytest.fixture
def chain(ledger: Ledger) -> Ledger:
    """Raw -> load -> clean -> model -> view -> report, where a second job reads clean and a third writes it."""
    ledger.configure(a=ALL)
    for name, reads, writes in (
        ("load", "raw", "clean"),
        ("model", "clean side", "view"),
        ("report", "view", ""),
        ("other", "clean", "else"),
        ("also", "raw2", "clean"),
    ):
        defined(ledger, name, reads, writes)
    return ledger


def test_a_graph_goes_up_and_down_and_not_sideways(chain: Ledger) -> None:
    found = graph.around(chain.conn, data("view"), 6)
    assert found.depths == {
        data("view"): 0,
        job("model"): -1,
        data("clean"): -2,
        data("side"): -2,
        job("load"): -3,
        job("also"): -3,
        data("raw"): -4,
        data("raw2"): -4,
        job("report"): 1,
    }
    assert (job("model"), data("view")) in found.edges
    assert (data("view"), job("report")) in found.edges
    assert len(found.edges) == 8
    assert not found.is_cut


def test_a_graph_ends_at_its_depth_and_where_there_is_no_room(chain: Ledger) -> None:
    assert graph.around(chain.conn, job("model"), 1).depths.keys() == {
        job("model"),
        data("clean"),
        data("side"),
        data("view"),
    }
    found = graph.around(chain.conn, data("view"), 6, most=3)
    assert len(found.depths) == 3
    assert found.is_cut
    assert {node for edge in found.edges for node in edge} <= found.depths.keys()


def test_a_circle_ends(ledger: Ledger) -> None:
    ledger.configure(a=ALL)
    defined(ledger, "there", "a", "b")
    defined(ledger, "back", "b", "a")
    assert len(graph.around(ledger.conn, data("a"), 6).edges) == 4


def test_datasets_are_listed_by_name_and_chosen_by_words(chain: Ledger) -> None:
    rows = graph.datasets(chain.conn, None, 3)
    assert [(row.name, row.writers, row.readers) for row in rows] == [("clean", 2, 2), ("else", 1, 0), ("raw", 0, 1)]
    rest = graph.datasets(chain.conn, (rows[-1].namespace, rows[-1].name), 10)
    assert [row.name for row in rest] == ["raw2", "side", "view"]
    assert [row.name for row in graph.datasets(chain.conn, None, 10, "RAW")] == ["raw", "raw2"]
    assert graph.datasets(chain.conn, None, 10, "%") == []


def test_a_dataset_of_the_same_name_elsewhere_is_another(chain: Ledger) -> None:
    chain.happen("far", START, COMPLETE, job=a_job("far"))
    far = {space: Dataset(space, "view") for space in ("aa", "zz")}
    jobs.define(chain.conn, chain.source, {"far": Definition((far["aa"],), (far["zz"],))})
    assert set(graph.around(chain.conn, data("view"), 1).depths) == {data("view"), job("model"), job("report")}


def test_a_definition_that_changes_takes_the_former_uses_away(chain: Ledger) -> None:
    jobs.define(chain.conn, chain.source, {"load": Definition(None, (Dataset("db", "fresh"),))})
    assert [row.name for row in graph.datasets(chain.conn, None, 10, "fresh")] == ["fresh"]
    assert graph.around(chain.conn, job("load"), 1).depths.keys() == {job("load"), data("raw"), data("fresh")}


def test_jobs_and_datasets_are_found_by_name(chain: Ledger) -> None:
    defined(chain, "recipe/model", "", "model")
    assert graph.named(chain.conn, "model", 10) == [job("model"), job("recipe/model"), data("model")]
    assert graph.named(chain.conn, "db view", 10) == [data("view")]
    assert graph.has(chain.conn, job("model"))
    assert not graph.has(chain.conn, job("mode"))
    assert graph.has(chain.conn, data("view"))
    assert not graph.has(chain.conn, data("load"))


def test_jobs_that_expire_leave_nothing(chain: Ledger) -> None:
    assert retention.prune(chain.conn, chain.now + HOUR)["job"] == 5
    assert chain.rows("dataset_use") == 0


def test_a_job_of_the_same_name_at_another_source_keeps_no_uses(ledger: Ledger) -> None:
    numbers = configured_sources.sync_sources(ledger.conn, [Configured("source"), Configured("other")], ledger.now)
    defined(ledger, "load", "raw", "clean")
    other = {"source_id": numbers["other"], "job": "load", "namespace": "db", "is_output": False}
    ledger.conn.execute(insert(schema.dataset_use), {**other, "name": "lost"})
    graph.forget_lost(ledger.conn)
    assert [row.name for row in graph.datasets(ledger.conn, None, 10)] == ["clean", "raw"]


def test_uses_of_an_older_ledger_are_there_after_its_migration(tmp_path: Path) -> None:
    made = file.engine(file.connect_writer(tmp_path / "ledger.db"), writes=True)
    with made.begin() as conn:
        upgraded_to(conn, "0010")
        conn.exec_driver_sql("INSERT INTO source (name) VALUES ('source')")
        twice = json.dumps([{"namespace": "db", "name": "a"}, {"namespace": "db", "name": "a", "fields": []}])
        conn.exec_driver_sql(
            "INSERT INTO job (source_id, name, run_key, run_uuid, run_at, state, succeeded, failed, canceled,"
            " duration_ms_sum, updated_at, inputs, outputs) VALUES (1, 'load', 'k', 'u', 1, 'succeeded', 1, 0, 0, 1, 1, ?, ?)",
            (twice, None),
        )
        migration.migrate(conn, "ledger")
        assert [(row.name, row.readers) for row in graph.datasets(conn, None, 10)] == [("a", 1)]
    made.dispose()
