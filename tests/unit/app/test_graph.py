"""`graph`, on a real ledger."""

import json
from pathlib import Path

import pytest
from sqlalchemy import Connection

from collector.app import graph
from collector.errors import LineageError
from collector.ledger import jobs
from collector.ledger.graph import Graph, Node
from collector.model import Dataset, Definition
from tests.unit.app.test_explain import CONFIG
from tests.unit.ledger.ledgers import ALL, START, Ledger, a_job, in_ledger


def happened(conn: Connection) -> None:
    ledger = Ledger(conn)
    ledger.configure(marquez=ALL)
    for name, reads, writes in (("load", "raw", "clean"), ("model", "clean", "view"), ("recipe/load", "raw", "other")):
        ledger.happen(name, START, job=a_job(name))
        sides = (Dataset("db", reads),), (Dataset("db", writes),)
        jobs.define(conn, ledger.source, {name: Definition(*sides)})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.format(folder=tmp_path))
    in_ledger(tmp_path / "lineage.db", happened)
    return path


def test_a_graph_is_lines_in_a_pipe_and_json_for_scripts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert graph.graph(config, "db view", depth=2, form="tree") == 0
    assert capsys.readouterr().out.splitlines() == [
        "dataset db clean\tjob source model",
        "job source model\tdataset db view",
    ]
    assert graph.graph(config, "model", depth=1, form="json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [node["name"] for node in told["nodes"]] == ["clean", "model", "view"]
    assert told["edges"] == [[0, 1], [1, 2]]


def test_a_name_that_means_nothing_or_several_things_is_an_error(config: Path) -> None:
    with pytest.raises(LineageError, match="no job and no dataset 'nobody'"):
        graph.graph(config, "nobody", depth=2, form="tree")
    with pytest.raises(LineageError, match="job source load, job source recipe/load"):
        graph.graph(config, "load", depth=2, form="tree")


RAW, LOAD, CLEAN = Node(False, "db", "raw"), Node(True, "s", 'lo"ad\x1b'), Node(False, "db", "clean")
FOUND = Graph(CLEAN, {CLEAN: 0, LOAD: -1, RAW: -2}, [(LOAD, CLEAN), (RAW, LOAD), (CLEAN, LOAD)], is_cut=False)


def test_a_tree_ends_where_it_comes_back_to_what_was_shown() -> None:
    assert [*graph.tree(FOUND)] == [
        "dataset db clean",
        "made from:",
        '  └─ job s lo"ad ',
        "     ├─ dataset db clean (see above)",
        "     └─ dataset db raw",
        "used by:",
        '  └─ job s lo"ad ',
        "     └─ dataset db clean (see above)",
    ]


def test_dot_has_every_node_once_with_its_name_quoted() -> None:
    assert graph.dot(FOUND).splitlines() == [
        "digraph lineage {",
        "  rankdir=LR;",
        '  n0 [label="clean", tooltip="db", shape=box];',
        '  n1 [label="lo\\"ad ", tooltip="s", shape=ellipse];',
        '  n2 [label="raw", tooltip="db", shape=box];',
        "  n1 -> n0;",
        "  n2 -> n1;",
        "  n0 -> n1;",
        "}",
    ]


def test_mermaid_has_every_node_once_with_its_name_quoted() -> None:
    assert graph.mermaid(FOUND).splitlines() == [
        "flowchart LR",
        '  n0["clean"]',
        '  n1(["lo#34;ad "])',
        '  n2["raw"]',
        "  n1 --> n0",
        "  n2 --> n1",
        "  n0 --> n1",
    ]
