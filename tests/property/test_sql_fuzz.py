"""SQL of any kind: reading it never raises, never takes more than its share of steps, and never reports what is not there."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from collector.lineage.sql import Limits, SqlLineage, read
from collector.lineage.sql.tokens import Sort, without_comments, words
from collector.platforms.cdf.sources import CdfCatalog

FOLDER = Path(__file__).parents[1] / "corpus" / "cdf_sql"
QUERIES: list[str] = [
    case["sql"] for file in sorted(FOLDER.glob("*.yaml")) for case in yaml.safe_load(file.read_text("utf-8"))
]
PIECES = sorted({word.text for query in QUERIES for word in words(query)} | set("()[]{}.,;:*'\"`\\-+/<>=!|&^%$#@~?\n"))
LIMITS = Limits(steps=200_000, seconds=20.0)

queries = st.sampled_from(QUERIES)
any_text = st.text(st.characters(), max_size=200)
pieces = st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join)


@st.composite
def broken(draw: st.DrawFn) -> str:
    """A good query with a piece cut out and another one put in."""
    query: str = draw(queries)
    start, end = sorted((draw(st.integers(0, len(query))), draw(st.integers(0, len(query)))))
    return query[:start] + draw(st.one_of(pieces, any_text)) + query[end:]


@st.composite
def repeated(draw: st.DrawFn) -> str:
    """The same few pieces over and over: what makes parsers slow."""
    some = draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4))
    return draw(pieces) + " " + " ".join(some * draw(st.integers(1, 400)))


def looked_at(text: str, limits: Limits = LIMITS) -> SqlLineage:
    found = read(text, CdfCatalog(), limits)
    sane(found)
    return found


def sane(found: SqlLineage) -> None:
    reads = found.reads or ()
    assert len({one.name for one in reads}) == len(reads)
    assert found.reads is not None or found.problems
    columns = {(one.name, column) for one in reads for column in one.columns}
    assert all((edge.source, edge.source_column) in columns for edge in found.edges)
    assert len({column.name.casefold() for column in found.columns}) == len(found.columns)
    assert len(found.problems) <= LIMITS.problems + 1


@settings(max_examples=400, deadline=None)
@given(st.one_of(any_text, pieces))
@example("select '\ud800'")
@example("\x00")
def test_any_text(text: str) -> None:
    looked_at(text)


@settings(max_examples=600, deadline=None)
@given(broken())
def test_broken_queries(text: str) -> None:
    looked_at(text)


@settings(max_examples=200, deadline=None)
@given(repeated())
@example("select cast(a as " + "array<" * 60 + "int" + ">" * 60 + ") from a.b")
@example("case when " * 400)
@example("select * from f(" * 300)
@example("(" * 2000)
@example("--\\\n" * 2000)
@example("/*" * 2000)
@example("`" * 2001)
@example("'\\" * 2001)
def test_repeated_pieces(text: str) -> None:
    looked_at(text)


def test_every_beginning_of_every_query() -> None:
    for query in QUERIES:
        for end in range(0, len(query), 7):
            looked_at(query[:end])


@settings(max_examples=200, deadline=None)
@given(queries, st.integers(0, 300))
def test_with_few_steps_the_tables_are_found_all_the_same(query: str, steps: int) -> None:
    """A scan may find more (what nobody uses) or find less by a name of one part, but it never finds nothing."""
    whole, hurried = looked_at(query), looked_at(query, Limits(steps=steps))
    assert {one.name for one in whole.reads or ()} <= {one.name for one in hurried.reads or ()}


@settings(max_examples=300, deadline=None)
@given(queries, st.randoms(use_true_random=False))
def test_comments_and_line_ends_change_nothing(query: str, random: Random) -> None:
    assume("'never" not in query)  # a quote that is never closed takes in what comes after it
    assume(
        not re.search(r"-name|\w\$?\{", query)
    )  # hyphens and placeholders are parts of names only where nothing is around
    noise: Sequence[str] = (
        " ",
        "\n",
        "/* from no.where */",
        "-- join no.where\n",
        "--- x \\\n join no.one\n",
        "\r\n\t",
    )
    spaced, before_it = "", 0
    for word in words(query):
        operator = word.sort is Sort.MARK and word.start == before_it  # `->` and `::` are one
        spaced += word.text if operator else f" {random.choice(noise)}{word.text}"
        before_it = word.start + len(word.text)
    before, after = read(query, CdfCatalog()), read(spaced, CdfCatalog())
    assert reduced(before) == reduced(after)


def reduced(found: SqlLineage) -> tuple[object, ...]:
    """Without places and spellings."""
    edges = {(edge.column, edge.source, edge.source_column, edge.subtype) for edge in found.edges}
    return found.reads, [column.name for column in found.columns], edges, len(found.problems)


@settings(max_examples=200, deadline=None)
@given(queries, st.sampled_from([str.upper, str.lower, str.swapcase]))
def test_keywords_have_no_case(query: str, change: Callable[[str], str]) -> None:
    """Names outside of quotes change with them: RAW keeps the case of names, so only the number of sources is compared."""
    text = query
    for word in words(query):
        if word.sort not in {"text", "quoted"} and len(changed := change(word.text)) == len(word.text):
            text = text[: word.start] + changed + text[word.start + len(changed) :]
    before, after = read(query, CdfCatalog()).reads, read(text, CdfCatalog()).reads
    assert (before is None) == (after is None)
    assert {one.name.lower() for one in before or ()} == {one.name.lower() for one in after or ()}


@settings(max_examples=300, deadline=None)
@given(st.one_of(any_text, pieces, broken()))
def test_text_without_comments_keeps_its_length_and_lines(text: str) -> None:
    plain = without_comments(text)
    assert len(plain) == len(text)
    assert plain.count("\n") == text.count("\n")
    assert [word.text for word in words(plain)] == [word.text for word in words(text)]
