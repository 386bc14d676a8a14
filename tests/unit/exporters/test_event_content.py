"""What pages take from the events of a run."""

from typing import Any

import orjson
import pytest

from exporters.web.event_content import COLUMNS, content


def body(**parts: Any) -> bytes:
    return orjson.dumps({"eventType": "START", "job": {}, **parts})


def test_datasets_come_with_their_columns_and_what_these_are_made_of() -> None:
    lineage = {
        "fields": {
            "total": {"inputFields": [{"namespace": "gs://in", "name": "a.csv", "field": "amount"}]},
            "only_here": {"inputFields": []},
        }
    }
    output = {
        "namespace": "gs://out",
        "name": "b.csv",
        "facets": {"schema": {"fields": [{"name": "total", "type": "double"}]}, "columnLineage": lineage},
        "outputFacets": {"outputStatistics": {"rowCount": 3, "size": 99}},
    }
    found = content([body(outputs=[output])])
    [shown] = found["outputs"]
    assert (shown["namespace"], shown["name"], shown["rows"], shown["bytes"]) == ("gs://out", "b.csv", 3, 99)
    assert shown["columns"] == [
        {"name": "total", "type": "double", "from": [{"namespace": "gs://in", "name": "a.csv", "column": "amount"}]},
        {"name": "only_here", "type": None, "from": []},
    ]
    assert found["inputs"] is None


def test_the_newest_event_that_says_something_counts() -> None:
    def named(name: str) -> dict[str, str]:
        return {"namespace": "n", "name": name}

    sql = {"facets": {"sql": {"query": "SELECT 1", "dialect": "spark"}}}
    first, second = body(inputs=[named("old")], job=sql), body(inputs=[named("new")], outputs=[])
    found = content([first, second, body()])
    assert [each["name"] for each in found["inputs"]] == ["new"]
    assert (found["outputs"], found["sql"], found["dialect"]) == (None, "SELECT 1", "spark")


def test_very_wide_datasets_are_cut() -> None:
    fields = [{"name": f"c{number}"} for number in range(COLUMNS + 5)]
    [shown] = content([body(inputs=[{"namespace": "n", "name": "t", "facets": {"schema": {"fields": fields}}}])])[
        "inputs"
    ]
    assert (len(shown["columns"]), shown["more_columns"]) == (COLUMNS, 5)


@pytest.mark.parametrize(
    "odd",
    [
        b"{",
        b"[]",
        b'{"inputs": 1, "job": []}',
        b'{"inputs": [1, null], "job": {"facets": {"sql": {"query": 1}}}}',
        b'{"outputs": {"a": 1}, "job": {"facets": null}}',
    ],
)
def test_what_is_not_an_event_gives_nothing(odd: bytes) -> None:
    assert content([odd]) == {"inputs": None, "outputs": None, "sql": None, "dialect": None}


def test_facets_that_are_not_as_they_should_be_give_nothing() -> None:
    facets = {
        "schema": {"fields": [{"name": 1}, "x"]},
        "columnLineage": {"fields": {"a": {"inputFields": [{"name": 2}]}}},
    }
    [shown] = content([body(inputs=[{"facets": facets, "inputFacets": {"inputStatistics": {"rowCount": True}}}])])[
        "inputs"
    ]
    assert (shown["name"], shown["rows"]) == ("", None)
    assert shown["columns"] == [{"name": "a", "type": None, "from": []}]
