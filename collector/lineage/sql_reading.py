"""One query read as far as it goes: parsed if possible, else scanned for its tables."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from collector import names
from collector.lineage.sql import Catalog, Edge, Limits, Read, Source, SqlLineage
from collector.lineage.sql_columns import Columns
from collector.lineage.sql_parsing import Budget, TooMuch, Unparsed, parse
from collector.lineage.sql_relations import Column, Relation
from collector.lineage.sql_sources import Bound, bind
from collector.lineage.sql_words import Word, scan, without_comments, words
from collector.model import Field


def read_query(text: str, catalog: Catalog, limits: Limits, stopped: Callable[[], bool]) -> SqlLineage:
    """See `collector.lineage.sql.read`."""
    if len(text) > limits.characters:
        return SqlLineage(None, problems=(f"has {len(text)} characters: more than {limits.characters} are not read",))
    text = without_comments(text)
    found = list(islice(words(text), limits.tokens + 1))
    if len(found) > limits.tokens:
        return scanned(words(text), catalog, limits, f"has more than {limits.tokens} words, too many to be parsed")
    budget = Budget(limits.steps, limits.seconds, stopped)
    try:
        tree = parse(text, budget)
    except Unparsed as error:
        return scanned(found, catalog, limits, str(error))
    bound = bind(tree, catalog)
    columns = Columns(text, bound, budget, catalog.table_arguments)
    try:
        relation = columns.query(tree)
    except TooMuch as error:
        return _without_columns(bound, limits, f"{error} to find its columns")
    except RecursionError:
        return _without_columns(bound, limits, "is nested too deeply to find its columns")
    return _complete(bound, columns, relation, limits)


def scanned(found: Iterable[Word], catalog: Catalog, limits: Limits, cause: str) -> SqlLineage:
    """Only the tables, by their place in the text."""
    sources, problems = scan(list(found), catalog)
    told = (f"{cause}; its tables are taken from the places behind FROM and JOIN, its columns are not known", *problems)
    return SqlLineage(_reads(sources) or None, problems=_capped(told, limits))


def _without_columns(bound: Bound, limits: Limits, cause: str) -> SqlLineage:
    reads = _reads(bound.sources) or (None if bound.problems else ())
    return SqlLineage(reads, problems=_capped((cause, *bound.problems), limits))


def _complete(bound: Bound, columns: Columns, relation: Relation, limits: Limits) -> SqlLineage:
    edges, cut = _edges(relation, limits)
    cuts = [f"column lineage is cut off after {len(edges)} edges"] if cut else []
    reads = tuple(
        Read(name, _clean(columns.reads.columns(name))) for name in dict.fromkeys(s.name for s in bound.sources)
    )
    if any(len(read.columns) > limits.columns for read in reads) or len(relation.columns) > limits.columns:
        cuts.append(f"of more than {limits.columns} columns of a dataset only the first are listed")
        reads = tuple(Read(read.name, read.columns[: limits.columns]) for read in reads)
    return SqlLineage(
        reads or (None if bound.problems else ()),
        _fields(relation)[: limits.columns],
        edges,
        _capped((*bound.problems, *cuts), limits),
    )


def _reads(sources: Sequence[Source]) -> tuple[Read, ...]:
    return tuple(Read(name) for name in dict.fromkeys(source.name for source in sources))


def _clean(columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(cleaned for column in columns if (cleaned := names.clean(column))))


def _edges(relation: Relation, limits: Limits) -> tuple[tuple[Edge, ...], bool]:
    """Of the whole result first, then column by column, and whether there would be more than allowed."""
    edges: list[Edge] = []
    for column in (Column("", relation.whole), *_named(relation)):
        made = [
            Edge(column.name or "", flow.source, source_column, flow.how, text)
            for flow, text in column.flows.items()
            if (source_column := names.clean(flow.column))
        ]
        if len(edges) + len(made) > limits.edges:
            return tuple(edges), True
        edges += made
    return tuple(edges), False


def _fields(relation: Relation) -> tuple[Field, ...]:
    """None at all unless the columns are all known."""
    return tuple(Field(column.name or "", column.type) for column in _named(relation)) if relation.closed else ()


def _named(relation: Relation) -> list[Column]:
    """The columns with a name, each name once: Marquez refuses a schema that holds one twice."""
    named: dict[str, Column] = {}
    for column in relation.columns:
        if name := names.clean(column.name or ""):
            named.setdefault(name.casefold(), Column(name, column.flows, column.type))
    return list(named.values())


def _capped(problems: Sequence[str], limits: Limits) -> tuple[str, ...]:
    if len(problems) <= limits.problems:
        return tuple(problems)
    return (*problems[: limits.problems], f"{len(problems) - limits.problems} more problems are not listed")
