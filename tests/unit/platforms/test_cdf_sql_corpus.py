"""The corpus in tests/corpus/cdf_sql: what queries of CDF transformations read, and which columns become which."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.lineage.sql import SqlLineage, read
from collector.platforms.cdf.sources import CdfCatalog

FOLDER = Path(__file__).parents[2] / "corpus" / "cdf_sql"
KEYS = {"name", "sql", "reads", "columns", "edges", "problem", "beyond"}
FEWEST_CASES = 100


def cases() -> list[dict[str, Any]]:
    return [case for file in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(file.read_text(encoding="utf-8"))]


CASES = cases()


def lineage(case: dict[str, Any]) -> SqlLineage:
    return read(case["sql"], CdfCatalog())


def tables(found: SqlLineage) -> set[str] | str:
    return "unknown" if found.reads is None else {one.name for one in found.reads}


def edges(found: SqlLineage) -> set[tuple[str, ...]]:
    return {(edge.column or "*", edge.source, edge.source_column, edge.subtype.value) for edge in found.edges}


def expected_tables(case: dict[str, Any]) -> set[str] | str:
    return case["reads"] if case["reads"] == "unknown" else set(case["reads"])


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_each_query(case: dict[str, Any]) -> None:
    found = lineage(case)
    assert tables(found) == expected_tables(case)
    assert [column.name for column in found.columns] == case.get("columns", [])
    assert edges(found) == {tuple(edge) for edge in case["edges"]}
    problems = " | ".join(found.problems)
    assert case["problem"] in problems if "problem" in case else not problems


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_columns_of_edges_are_columns_of_their_datasets(case: dict[str, Any]) -> None:
    """Marquez draws an edge only between columns that are in the schemas of both datasets."""
    found = lineage(case)
    read_columns = {one.name: one.columns for one in found.reads or ()}
    assert all(edge.source_column in read_columns[edge.source] for edge in found.edges)
    if found.columns:
        assert {edge.column for edge in found.edges} - {""} <= {column.name for column in found.columns}


@dataclass
class Score:
    found: int = 0
    true: int = 0
    both: int = 0

    def add(self, found: set[Any], true: set[Any]) -> None:
        self.found += len(found)
        self.true += len(true)
        self.both += len(found & true)

    @property
    def precision(self) -> float:
        return self.both / self.found

    @property
    def recall(self) -> float:
        return self.both / self.true

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.1%} ({self.both} of {self.found}), recall {self.recall:.1%} (of {self.true})"
        )


def expected_edges(case: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for edge in (*case["edges"], *case.get("beyond", [])):
        yield tuple(edge)


def test_precision_and_recall(capsys: pytest.CaptureFixture[str]) -> None:
    by_table, by_edge = Score(), Score()
    for case in CASES:
        found, true = tables(lineage(case)), expected_tables(case)
        by_table.add({found} if isinstance(found, str) else found, {true} if isinstance(true, str) else true)
        by_edge.add(edges(lineage(case)), set(expected_edges(case)))
    with capsys.disabled():
        print(f"\n{len(CASES)} queries of CDF\n  tables:  {by_table}\n  columns: {by_edge}")
    assert (by_table.precision, by_table.recall) == (1.0, 1.0)
    assert by_edge.precision == 1.0, "an edge that is not true is worse than one that is not known"
    assert by_edge.recall > 0.98


def test_the_corpus_is_well_formed() -> None:
    assert len(CASES) >= FEWEST_CASES
    assert all(case.keys() <= KEYS for case in CASES)
    assert Counter(case["name"] for case in CASES).most_common(1)[0][1] == 1
    assert len({case["sql"] for case in CASES}) == len(CASES)
