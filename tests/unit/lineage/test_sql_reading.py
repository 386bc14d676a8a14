"""Queries read: limits, what a broken one still yields, and the finer points of names and columns."""

import logging
import sys
from subprocess import run

import pytest

from collector.lineage.sql import LIMITS, Limits, Read, Subtype, read
from collector.model import Field
from tests.unit.lineage.sql_catalog import PlainCatalog, edges, lineage, tables


def nested(depth: int) -> str:
    query = "select x from a.b"
    for level in range(depth):
        query = f"with c{level} as ({query}) select x from c{level}"
    return query


def chained(length: int) -> str:
    steps = "".join(f", c{at} as (select x, y + 1 as y from c{at - 1})" for at in range(1, length))
    return f"with c0 as (select x, y from a.b){steps} select * from c{length - 1}"


@pytest.mark.parametrize("query", ["select 1", "with a as (select * from x.y) select b from a"])
def test_nothing_is_wrong_with_a_good_query(query: str) -> None:
    assert lineage(query).problems == ()


def test_a_query_of_a_megabyte_gives_its_tables() -> None:
    query = (
        "select " + ", ".join(f"cast(`column {at}` as double) * {at} as c{at}" for at in range(22_000)) + " from a.b"
    )
    found = lineage(query)
    assert len(query) > 1_000_000
    assert (found.reads, found.columns, found.edges) == ((Read("a.b"),), (), ())
    assert "the query has more than 60000 words" in found.problems[0]


def test_a_megabyte_of_text_and_comments_is_no_obstacle() -> None:
    query = f"/* {'x' * 500_000} */ select '{'y' * 500_000}' as a, b from a.b -- {'z' * 500_000}"
    assert lineage(query).problems == ()
    assert [column.name for column in lineage(query).columns] == ["a", "b"]


def test_beyond_the_limit_of_characters_nothing_is_read() -> None:
    found = lineage("select a from x.y", Limits(characters=10))
    assert found.reads is None
    assert "17 characters" in found.problems[0]


def test_two_hundred_nested_expressions_give_their_tables() -> None:
    found = lineage(nested(200))
    assert found.reads == (Read("a.b"),)
    assert "nested too deeply" in found.problems[0]


def test_fifty_nested_expressions_are_read_whole() -> None:
    assert lineage(nested(50)).problems == ()
    assert edges(nested(50)) == {"x <- a.b.x IDENTITY"}


def test_hundreds_of_expressions_in_a_row_are_read_whole() -> None:
    assert edges(chained(300)) == {"x <- a.b.x IDENTITY", "y <- a.b.y TRANSFORMATION"}


def test_a_thousand_unions_are_read_whole() -> None:
    query = " union all ".join(f"select x from a.t{at}" for at in range(1000))
    assert len(edges(query)) == 1000
    assert lineage(query).problems == ()


def test_a_chain_of_ten_thousand_conditions_is_read_whole() -> None:
    query = "select x from a.b where " + " or ".join(f"y = {at}" for at in range(10_000))
    assert edges(query) == {"x <- a.b.x IDENTITY", "* <- a.b.y FILTER"}


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (Limits(tokens=20), "more than 20 words"),
        (Limits(steps=30), "more steps than are allowed to be parsed"),
        (Limits(seconds=-1.0), "s of processor time"),
    ],
)
def test_what_asks_for_too_much_is_scanned_for_its_tables(limits: Limits, problem: str) -> None:
    found = lineage(chained(300), limits)
    assert found.reads == (Read("a.b"),)
    assert problem in found.problems[0]


def test_tables_stay_when_columns_ask_for_too_much() -> None:
    query = "select " + ", ".join(f"c{at}" for at in range(100)) + " from " + ", ".join(f"a.t{at}" for at in range(100))
    found = lineage(query, Limits(steps=3000))
    assert len(found.reads or ()) == 100
    assert found.edges == ()
    assert found.problems == ("the query takes more steps than are allowed to find its columns",)


def test_reading_stops_when_asked() -> None:
    found = read(chained(300), PlainCatalog(), LIMITS, lambda: True)
    assert "takes longer than this program still runs" in found.problems[0]


def test_what_comes_out_is_limited_and_says_so() -> None:
    query = "select a, b, c, d from x.one cross join x.two where a > 1"
    found = lineage("select a, b, c, d from x.one where e > 1", Limits(columns=2, edges=3))
    assert found.reads == (Read("x.one", ("a", "b")),)
    assert found.columns == (Field("a"), Field("b"))
    assert {edge.source_column for edge in found.edges} == {"a", "b"}
    assert len(found.problems) == 2
    assert [one.name for one in lineage(query, Limits(reads=1)).reads or ()] == ["x.one"]
    many = lineage("select 1 from one, two, three, four", Limits(problems=2)).problems
    assert many[2:] == ("and 2 more problems",)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("", "holds no statement"),
        (";;", "holds no statement"),
        ("select a from x.y; drop table x.y", "holds 2 statements"),
        ("drop table x.y", "a statement of the kind DROP"),
        ("explain select a from x.y", "a statement of the kind COMMAND"),
        ("select a\nfrom x.y where where", "at line 2, column"),
        ("select a from x.y where b = 'open", "a quote is never closed"),
        ("select a from x.y\nwhere `b = 1", "a quote is never closed"),
    ],
)
def test_what_cannot_be_parsed_is_reported_with_its_place(query: str, problem: str) -> None:
    assert problem in lineage(query).problems[0]


def test_problems_do_not_repeat_what_the_query_holds(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        for query in (
            "select 'planted' 1 from planted2",
            "explain select 'planted'",
            "select 1 from 'planted'",
            "select * from odd('planted')",
            "'planted",
        ):
            assert "planted'" not in " ".join(lineage(query).problems)
    assert "planted" not in caplog.text


@pytest.mark.parametrize("name", ["select", "drop", "values", "order", "on", "Join"])
def test_words_of_sql_are_names_beside_a_dot(name: str) -> None:
    assert tables(f"select t.{name} from db.{name} t where t.x = .5") == [f"db.{name}"]
    assert tables(f"select 1 from {name}.t") == [f"{name}.t"]


def test_columns_of_a_source_that_is_known_whole() -> None:
    found = lineage("select *, x.* from x.full x")
    assert [column.name for column in found.columns] == ["a", "b"]
    assert found.reads == (Read("x.full", ("a", "b")),)


def test_a_column_that_only_one_source_surely_has() -> None:
    assert edges("select a from x.part, x.other") == {"a <- x.part.a IDENTITY"}
    assert edges("select z from x.part, x.full") == {"z <- x.part.z IDENTITY"}
    assert edges("select z from x.part, x.other") == set()


def test_an_alias_is_the_only_qualifier() -> None:
    assert edges("select other.c from x.other t") == {"c <- x.other.other TRANSFORMATION"}, "a field of a struct"
    assert edges("select x.other.c, other.d from x.other") == {"c <- x.other.c IDENTITY", "d <- x.other.d IDENTITY"}


def test_correlated_names_are_looked_up_inside_out() -> None:
    query = "select (select max(i.v) from x.inner_one i where i.k = o.k and own = 1) as m from x.outer_one o"
    assert edges(query) == {
        "m <- x.inner_one.v AGGREGATION",
        "m <- x.inner_one.k FILTER",
        "m <- x.outer_one.k FILTER",
        "m <- x.inner_one.own FILTER",
    }
    sure_outside = "select a from (select a from x.t) o where exists (select 1 from x.u where a = 1)"
    assert edges(sure_outside) == {"a <- x.t.a IDENTITY"}, "the inner table may have a column a as well"


def test_the_arguments_of_some_functions_may_be_tables() -> None:
    assert edges("select 1 as one from x.t t where changed('n', t)") == set()
    assert edges("select 1 as one from x.t u where changed('n', t)") == {"* <- x.t.t FILTER"}


def test_earlier_columns_of_a_select_where_no_table_has_the_name() -> None:
    assert edges("select a + 1 as c, c * 2 as d from x.full") == {
        "c <- x.full.a TRANSFORMATION",
        "d <- x.full.a TRANSFORMATION",
    }


def test_names_for_columns_whose_order_is_not_known() -> None:
    found = lineage("select k from x.t as r(k, l)")
    assert ([column.name for column in found.columns], found.edges) == (["k"], ())


def test_star_without_some_columns() -> None:
    query = "select * except (b) from (select a, b, c from x.t)"
    assert [column.name for column in lineage(query).columns] == ["a", "c"]
    assert edges("select b from (select * except (b) from x.t)") == set()


def test_what_two_levels_leave_out_stays_out() -> None:
    inner = "select * except (b) from (select * except (c) from x.t)"
    assert edges(f"select b, c, d from ({inner})") == {"d <- x.t.d IDENTITY"}


def test_a_table_within_the_definition_of_its_own_name_is_the_one_outside() -> None:
    inner = "with t as (select a from t) select a from t"
    assert edges(f"with t as (select a from x.full) select a from ({inner})") == {"a <- x.full.a IDENTITY"}
    assert lineage(inner).problems != ()


def test_a_function_that_leaves_columns_out_of_its_star() -> None:
    rows = "(select a, b, c from x.t)"
    assert edges(f"select all_but(array('B', 'c'), *) as m from {rows}") == {"m <- x.t.a TRANSFORMATION"}
    assert len(edges(f"select all_but(array(), *) as m from {rows}")) == 3
    assert len(edges(f"select other(array('b'), *) as m from {rows}")) == 3


def test_a_star_as_an_argument_stands_for_the_columns_that_are_known() -> None:
    assert edges("select to_json(struct(*)) as j from (select a, t.* from x.t)") == {"j <- x.t.a TRANSFORMATION"}
    assert edges("select count(*) as n, count(t.*) as m from x.t") == set()


def test_a_union_by_name() -> None:
    query = "select a, b from x.t union by name select b, a from x.u"
    assert edges(query) == {f"{name} <- x.{table}.{name} IDENTITY" for name in "ab" for table in "tu"}


def test_only_casts_give_types() -> None:
    query = (
        "with c as (select cast(a as decimal(10,2)) as a, b, d + 1 as d from x.t) select a, b, d, date(e) as e from c"
    )
    assert [column.type for column in lineage(query).columns] == ["decimal(10, 2)", None, None, "date"]
    assert lineage("select int(a) as a from x.t union select a from x.u").columns == (Field("a"),)


def test_equal_names_of_columns_are_reported_once() -> None:
    found = lineage("select t.a, u.A, 1 + 1 from x.t t, x.u u")
    assert found.columns == (Field("a"),)
    assert {edge.source for edge in found.edges} == {"x.t"}


def test_edges_have_the_expression_as_written() -> None:
    query = "select a, concat( b,\n  'x' ) as c, password = 'secret' as p from x.t"
    texts = {edge.column: edge.text for edge in lineage(query).edges}
    assert texts == {"a": None, "c": "concat( b, 'x' )", "p": "password = '***'"}
    through = lineage("with w as (select upper(a) as b from x.t) select b as c from w").edges
    assert [edge.text for edge in through] == ["upper(a)"]
    long = lineage(f"select concat(a, '{'y' * 5000}') as b from x.t").edges[0].text
    assert long is not None
    assert len(long) == 120


def test_control_characters_in_names_go() -> None:
    found = lineage("select `a\x00b` as `c\x07d`, `\x01` from x.t")
    assert found.columns == (Field("cd"),)
    assert [(edge.column, edge.source_column) for edge in found.edges] == [("cd", "ab")]


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (Subtype.IDENTITY, Subtype.IDENTITY, Subtype.IDENTITY),
        (Subtype.IDENTITY, Subtype.AGGREGATION, Subtype.AGGREGATION),
        (Subtype.TRANSFORMATION, Subtype.AGGREGATION, Subtype.AGGREGATION),
        (Subtype.AGGREGATION, Subtype.TRANSFORMATION, Subtype.AGGREGATION),
        (Subtype.TRANSFORMATION, Subtype.WINDOW, Subtype.WINDOW),
        (Subtype.FILTER, Subtype.AGGREGATION, Subtype.FILTER),
        (Subtype.JOIN, Subtype.CONDITIONAL, Subtype.JOIN),
    ],
)
def test_what_one_step_after_another_amounts_to(outer: Subtype, inner: Subtype, expected: Subtype) -> None:
    assert outer.after(inner) is expected


def test_the_parser_is_imported_with_the_first_query() -> None:
    code = (
        "import sys, collector.lineage.sql_worker, collector.platforms.cdf.adapter;"
        "assert 'sqlglot' not in sys.modules;"
        "from collector.lineage.sql import read; from collector.platforms.cdf.sources import CdfCatalog;"
        "read('select 1', CdfCatalog()); assert 'sqlglot' in sys.modules"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
