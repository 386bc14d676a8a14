"""Which tables of a parsed query are sources and which are common table expressions, whatever the nesting.

A name in FROM is that of the innermost WITH that holds it and was written before; the names are compared without case,
as Spark does. The sources of an expression that is never used are left out.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from sqlglot import exp

from collector.lineage.sql.model import Catalog, Source, each_once
from collector.lineage.sql.parser import place_of

_LEAVES = (exp.Identifier, exp.Literal, exp.DataType)


@dataclass(frozen=True, slots=True)
class Binding:
    """`tables` say by the id of a node what the table is: a source or the expression that it refers to; those that
    read nothing known are missing. `used` are the ids of expressions that the query really reads. `repeated` are names
    of sources that it reads more than once, an expression that is referred to twice counting as two.
    """

    tables: dict[int, Source | exp.CTE]
    used: frozenset[int]
    sources: tuple[Source, ...]
    problems: tuple[str, ...]
    repeated: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Names:
    """The names that one WITH gives, as seen from a place where the first `count` of them exist."""

    known: dict[str, tuple[int, exp.CTE]]
    count: int
    outer: "_Names | None"

    def find(self, name: str) -> exp.CTE | None:
        names: _Names | None = self
        while names is not None:
            found = names.known.get(name)
            if found is not None and found[0] < names.count:
                return found[1]
            names = names.outer
        return None


class _At(NamedTuple):
    """A node on the way, the names seen from there, and the expression (by id, None for the query) that it is in."""

    node: exp.Expr
    names: _Names | None
    owner: int | None


class _Note(NamedTuple):
    """Where in the text, and what is read or wrong there."""

    start: int
    what: Source | str


@dataclass(slots=True)
class _Found:
    tables: dict[int, Source | exp.CTE] = field(default_factory=dict)
    refers: defaultdict[int | None, list[int]] = field(default_factory=lambda: defaultdict(list))
    notes: defaultdict[int | None, list[_Note]] = field(default_factory=lambda: defaultdict(list))


def bind(tree: exp.Query, catalog: Catalog) -> Binding:
    found = _Found()
    waiting = [_At(tree, None, None)]
    while waiting:
        at = waiting.pop()
        inner, below = _with(at)
        if isinstance(at.node, exp.Table):
            _table(at, catalog, found)
        elif isinstance(at.node, exp.Anonymous):
            _function(at, catalog, found)
        waiting += below
        waiting += [
            _At(child, inner, at.owner)
            for child in at.node.iter_expressions(reverse=True)
            if not (isinstance(child, exp.With) or _is_leaf(child))
        ]
    return _reached(found)


def _is_leaf(node: exp.Expr) -> bool:
    """Most nodes are names and literals, which hold no table."""
    return isinstance(node, _LEAVES) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Identifier))


def _with(at: _At) -> tuple[_Names | None, list[_At]]:
    """The names seen inside a node, and the expressions that it defines."""
    clause = at.node.args.get("with_")
    if not isinstance(clause, exp.With):
        return at.names, []
    ctes = [cte for cte in clause.expressions if isinstance(cte, exp.CTE)]
    known = {cte.alias.casefold(): (position, cte) for position, cte in enumerate(ctes)}
    last = len(ctes)
    below = [
        _At(cte.this, _Names(known, last if clause.recursive else position, at.names), id(cte))
        for position, cte in enumerate(ctes)
    ]
    return _Names(known, last, at.names), below


def _table(at: _At, catalog: Catalog, found: _Found) -> None:
    table = at.node
    if isinstance(table.this, exp.Func):
        if isinstance(table.this, exp.Anonymous):
            _note(at, table.this, catalog.function(table.this.name.lower(), _literals(table.this)), found)
        return
    parts = _parts(table) if isinstance(table, exp.Table) else ()
    if len(parts) == 1 and at.names is not None and (cte := at.names.find(parts[0].casefold())) is not None:
        found.tables[id(table)] = cte
        found.refers[at.owner].append(id(cte))
        return
    _note(at, table.this, catalog.table(parts), found)


def _parts(table: exp.Table) -> tuple[str, ...]:
    """The name as written; a part is empty where nothing is between two dots, or a parameter in the place of a name."""
    if table.args.get("db") == "":
        return (table.catalog, "", table.name)
    return tuple(part.name if isinstance(part, exp.Identifier) else "" for part in table.parts)


def _function(at: _At, catalog: Catalog, found: _Found) -> None:
    name = at.node.name.lower()
    if name in catalog.reading_functions and not isinstance(at.node.parent, exp.Table):
        _note(at, at.node, catalog.reading(name, _literals(at.node)), found)


def _note(at: _At, named: exp.Expr, answer: Source | str | None, found: _Found) -> None:
    if isinstance(answer, Source):
        found.tables[id(at.node)] = answer
    elif answer is not None:
        answer += place_of(named)
    if answer is not None:
        found.notes[at.owner].append(_Note(named.meta.get("start", 0), answer))


def _literals(function: exp.Expr) -> tuple[str | None, ...]:
    return tuple(
        argument.name
        if isinstance(argument, exp.Literal | exp.RawString)
        else str(argument.this).lower()
        if isinstance(argument, exp.Boolean)
        else None
        for argument in function.expressions
    )


def _reached(found: _Found) -> Binding:
    """Only what the query itself or an expression in use reads."""
    used = _used(found)
    notes = sorted((one for owner in used for one in found.notes[owner]), key=attrgetter("start"))
    answers = [one.what for one in notes]
    return Binding(
        found.tables,
        frozenset(owner for owner in used if owner is not None),
        each_once(answers, Source),
        each_once(answers, str),
        _repeated(found, used),
    )


def _repeated(found: _Found, used: dict[int | None, int]) -> frozenset[str]:
    times: Counter[str] = Counter()
    for owner, often in used.items():
        for one in found.notes[owner]:
            if isinstance(one.what, Source):
                times[one.what.name] += often
    return frozenset(name for name, often in times.items() if often > 1)


def _used(found: _Found) -> dict[int | None, int]:
    """The expressions that are read, None for the query itself, and how often: 1, or 2 for any more."""
    used: dict[int | None, int] = {None: 1}
    waiting: list[int | None] = [None]
    while waiting:
        owner = waiting.pop()
        for cte, times in Counter(found.refers[owner]).items():
            often = min(2, used.get(cte, 0) + times * used[owner])
            if often > used.get(cte, 0):
                used[cte] = often
                waiting.append(cte)
    return used
