"""One query read as far as it goes: parsed if possible, else scanned for its tables."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from sys import intern

from collector import names
from collector.lineage.sql.columns import Columns
from collector.lineage.sql.model import Catalog, Edge, Limits, Read, Source, SqlLineage
from collector.lineage.sql.parser import Budget, TooMuch, Unparsed, parse, place_at
from collector.lineage.sql.relations import Column, Relation
from collector.lineage.sql.sources import bind
from collector.lineage.sql.tokens import foreign, is_longer, scan, without_comments, words
from collector.model import Field


def read_query(text: str, catalog: Catalog, limits: Limits, stopped: Callable[[], bool]) -> SqlLineage:
    """See `collector.lineage.sql.read`."""
    if len(text) > limits.characters:
        return SqlLineage(
            None, problems=(f"the query has {len(text)} characters: more than {limits.characters} are not read",)
        )
    return _within(limits, _read(without_comments(text), catalog, limits, stopped))


def _read(text: str, catalog: Catalog, limits: Limits, stopped: Callable[[], bool]) -> SqlLineage:
    if is_longer(text, limits.tokens):
        return _scanned(text, catalog, f"the query has more than {limits.tokens} words, too many to be parsed")
    if (mark := foreign(text)) is not None:
        return _scanned(
            text, catalog, f"the query cannot be parsed{place_at(text, mark.start)}: {mark.text} is not SQL"
        )
    budget = Budget(limits.steps, limits.seconds, stopped)
    try:
        tree = parse(text, budget)
    except Unparsed as error:
        return _scanned(text, catalog, f"the query {error}")
    binding = bind(tree, catalog)
    columns = Columns(text, binding, budget, catalog)
    problems, relation = binding.problems, Relation(blind=True)
    try:
        relation = columns.query(tree)
    except TooMuch as error:
        problems = (*problems, f"the query {error} to find its columns")
    except RecursionError:
        problems = (*problems, "the query is nested too deeply to find its columns")
    reads = tuple(
        Read(name, _cleaned(columns.reads.columns(name)), repeated=name in binding.repeated)
        for name in _names(binding.sources)
    )
    return SqlLineage(
        reads or (None if binding.problems else ()),
        _fields(relation),
        tuple(islice(_edges(relation), limits.edges + 1)),
        problems,
    )


def _scanned(text: str, catalog: Catalog, cause: str) -> SqlLineage:
    """Only the tables, by their place in the text."""
    sources, problems = scan(list(words(text)), catalog)
    problem = f"{cause}; its tables are taken from the places behind FROM and JOIN, its columns are not known"
    return SqlLineage(tuple(map(Read, _names(sources))) or None, problems=(problem, *problems))


def _names(sources: Sequence[Source]) -> Iterable[str]:
    return dict.fromkeys(source.name for source in sources)


def _cleaned(columns: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(cleaned for column in columns if (cleaned := _clean(column))))


def _edges(relation: Relation) -> Iterator[Edge]:
    """Column by column, then those of the whole result."""
    for column in (*_named(relation), Column("", relation.whole)):
        for flow, text in column.flows.items():
            if source_column := _clean(flow.column):
                yield Edge(column.name or "", flow.source, source_column, flow.subtype, text)


def _fields(relation: Relation) -> tuple[Field, ...]:
    """None at all unless the columns are all known."""
    return tuple(Field(column.name or "", column.type) for column in _named(relation)) if relation.closed else ()


def _named(relation: Relation) -> list[Column]:
    """The columns with a name, each name once: Marquez refuses a schema that holds one twice."""
    named: dict[str, Column] = {}
    for column in relation.columns:
        if name := _clean(column.name or ""):
            named.setdefault(name.casefold(), Column(name, column.flows, column.type))
    return list(named.values())


def _clean(name: str) -> str:
    """Columns are called alike in many queries, of which thousands are in memory."""
    return intern(names.clean(name))


def _within(limits: Limits, found: SqlLineage) -> SqlLineage:
    """No more than is allowed of each kind, with a problem for what was cut off. Edges end at columns that are listed."""
    problems = list(found.problems)
    every = found.reads or ()
    if len(every) > limits.reads:
        problems.append(f"the query reads {len(every)} datasets: only the first {limits.reads} are reported")
    if max(len(found.columns), *(len(read.columns) for read in every), 0) > limits.columns:
        problems.append(f"the query has datasets of more than {limits.columns} columns: only the first are reported")
    if len(found.edges) > limits.edges:
        problems.append(f"the query has more than {limits.edges} column edges: only the first are reported")
    if len(problems) > limits.problems:
        problems[limits.problems :] = [f"and {len(problems) - limits.problems} more problems"]
    reads = tuple(replace(read, columns=read.columns[: limits.columns]) for read in every[: limits.reads])
    columns = found.columns[: limits.columns]
    return SqlLineage(
        None if found.reads is None else reads,
        columns,
        tuple(_between(reads, columns, found.edges[: limits.edges])),
        tuple(problems),
    )


def _between(reads: Iterable[Read], columns: Sequence[Field], edges: Iterable[Edge]) -> Iterator[Edge]:
    sources = {(read.name, column) for read in reads for column in read.columns}
    targets = {"", *(column.name for column in columns)}
    for edge in edges:
        if (edge.source, edge.source_column) in sources and (not columns or edge.column in targets):
            yield edge
