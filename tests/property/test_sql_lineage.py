"""Queries made at random together with their expected lineage: tables and the columns that flow must come out exactly."""

from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.lineage.sql import read
from collector.platforms.cdf.sources import CdfCatalog

NAMES = ("x", "y", "z")
EXPRESSIONS = ("a", "B", "assets")
"""Names of common table expressions: few, so that they shadow each other."""

Columns = Mapping[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Made:
    """SQL and what it reads; `columns` with what flows into each, None for a table, whose columns are its own."""

    sql: str
    tables: frozenset[str]
    columns: Columns | None

    def sources(self, column: str) -> frozenset[tuple[str, str]]:
        if self.columns is None:
            return frozenset({(next(iter(self.tables)), column)})
        return self.columns[column]

    def names(self) -> tuple[str, ...]:
        return NAMES if self.columns is None else tuple(self.columns)


Seen = Mapping[str, Made]
_TABLES = {
    "db.t1": "raw/db/t1",
    "`d b`.`T 1`": "raw/d b/T 1",
    "_cdf.assets": "assets",
    "cdf_nodes('s', \"v\", '1')": "views/s/v/1",
}


@st.composite
def relations(draw: st.DrawFn, seen: Seen, depth: int) -> Made:
    kind = draw(st.sampled_from(["table", "known", "query"]))
    if kind == "known" and seen:
        name = draw(st.sampled_from(sorted(seen)))
        spelled = draw(st.sampled_from([name.upper(), name.lower(), f"`{name}`"]))
        return Made(spelled, seen[name].tables, seen[name].columns)
    if kind == "query" and depth > 0:
        inner = draw(queries(seen, depth - 1))
        return Made(f"({inner.sql})", inner.tables, inner.columns)
    table = draw(st.sampled_from(sorted(_TABLES)))
    return Made(table, frozenset({_TABLES[table]}), None)


@st.composite
def queries(draw: st.DrawFn, seen: Seen, depth: int) -> Made:
    """With or without WITH, of one SELECT or of two in a UNION."""
    seen, defined = dict(seen), []
    for name in draw(st.lists(st.sampled_from(EXPRESSIONS), max_size=2, unique=True)) if depth > 0 else ():
        body = draw(queries(seen, depth - 1))
        seen[name] = body
        defined.append(f"{name} as ({body.sql}) -- from no.where\n")
    first = draw(selects(seen, depth))
    if draw(st.booleans()) and depth > 0:
        first = draw(unions(first, seen, depth))
    clause = f"with {', '.join(defined)}" if defined else ""
    return Made(f"{clause} {first.sql}", first.tables, first.columns)


@st.composite
def unions(draw: st.DrawFn, first: Made, seen: Seen, depth: int) -> Made:
    """The second SELECT has as many columns, under other names."""
    assert first.columns is not None
    other = draw(selects(seen, depth - 1, width=len(first.columns)))
    assert other.columns is not None
    columns = {
        name: sources | others
        for (name, sources), others in zip(first.columns.items(), other.columns.values(), strict=True)
    }
    word = draw(st.sampled_from(["union", "union all", "UNION DISTINCT"]))
    return Made(f"{first.sql} {word} {other.sql}", first.tables | other.tables, columns)


@st.composite
def selects(draw: st.DrawFn, seen: Seen, depth: int, width: int | None = None) -> Made:
    items = draw(st.lists(relations(seen, depth), min_size=1, max_size=2))
    if (
        len(items) == 1
        and items[0].columns is not None
        and width in {None, len(items[0].columns)}
        and draw(st.booleans())
    ):
        return Made(f"select r0.* from {items[0].sql} r0", items[0].tables, items[0].columns)
    wanted = list(NAMES[: width or draw(st.integers(1, 3))])
    columns: dict[str, frozenset[tuple[str, str]]] = {}
    shown = []
    for name in draw(st.permutations(wanted)):
        picked = draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=2))
        terms = [(at, draw(st.sampled_from(items[at].names()))) for at in picked]
        columns[name] = frozenset().union(*(items[at].sources(column) for at, column in terms))
        text = " || ".join(f"r{at}.{column}" for at, column in terms)
        shown.append(f"{draw(st.sampled_from(['upper({})', '{}', 'coalesce({}, 1)'])).format(text)} as {name}")
    joined = draw(st.sampled_from([", ", " cross join ", " left join "]))
    source = joined.join(f"{item.sql} {draw(st.sampled_from(['as ', '']))}r{at}" for at, item in enumerate(items))
    if len(items) == 2 and joined == " left join ":
        source += f" on r0.{items[0].names()[0]} = r1.{items[1].names()[0]}"
    sql, tables = f"select {', '.join(shown)} from {source}", frozenset().union(*(item.tables for item in items))
    if depth > 0 and draw(st.booleans()):
        inner = draw(queries(seen, depth - 1))
        condition = draw(st.sampled_from(["exists ({})", "r0.x in ({})", "(select max(1) from ({}) q) > 0"]))
        sql, tables = f"{sql} where {condition.format(inner.sql)}", tables | inner.tables
    return Made(sql, tables, columns)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(queries({}, 3))
def test_tables_and_columns_come_out_exactly(made: Made) -> None:
    found = read(made.sql, CdfCatalog())
    assert found.problems == ()
    assert {one.name for one in found.reads or ()} == made.tables
    assert made.columns is not None
    assert [column.name for column in found.columns] == list(made.columns)
    flows: dict[str, set[tuple[str, str]]] = {name: set() for name in made.columns}
    for edge in found.edges:
        if edge.subtype.direct:
            flows[edge.column].add((edge.source, edge.source_column))
    assert flows == {name: set(sources) for name, sources in made.columns.items()}
