"""The demo's scenario, without running it: what leads where, and that every job ends well at last."""

from pydantic import TypeAdapter

from collector.lineage.sql import read
from collector.platforms.cdf.sources import CdfCatalog
from config.aliases import DatasetAlias
from simulators import serve
from simulators.demo import scenario
from simulators.demo.chain import path, shown
from simulators.demo.scenario import ALIASES, Cast


def graph(*edges: tuple[str, str]) -> list[dict[str, object]]:
    nodes = dict.fromkeys(node for edge in edges for node in edge)
    return [{"id": node, "outEdges": [{"destination": to} for origin, to in edges if origin == node]} for node in nodes]


def test_a_path_follows_the_edges_in_their_direction_and_is_the_shortest() -> None:
    drawn = graph(("a", "b"), ("b", "c"), ("c", "d"), ("b", "d"), ("d", "a"))
    assert path(drawn, "a", "d") == ["a", "b", "d"]
    assert path(drawn, "d", "c") == ["d", "a", "b", "c"]
    assert path(drawn, "a", "a") == ["a"]
    assert path(graph(("a", "b")), "b", "a") == []
    assert path(graph(("a", "b")), "x", "b") == []


def test_a_chain_is_shown_a_node_a_line() -> None:
    assert shown(["dataset:s3://b:k", "job:cdf://h:j"]).splitlines() == [
        "dataset s3://b:k",
        "  -> job     cdf://h:j",
    ]


def test_the_aliases_are_a_valid_configuration() -> None:
    assert len(TypeAdapter(list[DatasetAlias]).validate_python(ALIASES)) == len(ALIASES)


def test_every_query_of_the_scenario_is_understood_to_its_columns() -> None:
    for transformation in Cast.made().cdf.transformations.values():
        found = read(transformation.query, CdfCatalog())
        assert (transformation.external_id, found.problems) == (transformation.external_id, ())
        assert found.reads
        assert {column.name for column in found.columns} == {edge.column for edge in found.edges} - {""}


def test_everything_runs_and_the_last_run_of_each_succeeds_so_that_the_graph_is_whole() -> None:
    """Marquez hides the edges of a Dataprep recipe whose last run wrote nothing."""
    cast = Cast.made()
    last_job = {name: job.ends for name, job in scenario._JOBS}
    assert set(last_job) == {each.external_id for each in cast.cdf.transformations.values()}
    last_group = {number: name for number, name, _ in scenario._GROUPS}
    assert set(last_group) == set(range(len(cast.dataprep.workspace.recipes)))
    assert set(last_group.values()) <= {"complete", "quick"}
    assert {number for number, _ in scenario._FILES} == set(range(len(cast.wetransform.transformations)))


def test_a_simulator_alone_has_the_same_definitions() -> None:
    cast = Cast.made()
    project = serve.make("cdf", 1)
    assert [each.external_id for each in project.transformations.values()] == [  # type: ignore[attr-defined]
        each.external_id for each in cast.cdf.transformations.values()
    ]
    account = serve.make("wetransform", 1)
    assert [each.key for each in account.transformations] == [  # type: ignore[attr-defined]
        each.key for each in cast.wetransform.transformations
    ]
    deployment = serve.make("dataprep", 1)
    assert deployment.workspace.recipes == cast.dataprep.workspace.recipes  # type: ignore[attr-defined]
