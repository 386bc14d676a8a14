"""PIVOT, UNPIVOT and `stack`: rows that become columns, and columns that become rows."""

from collections.abc import Iterable, Sequence

from sqlglot import exp

from collector.lineage.sql.expressions import Expressions, bare
from collector.lineage.sql.model import Subtype
from collector.lineage.sql.relations import Column, Relation, done, together
from collector.lineage.sql.scopes import Scope


def turned(pivot: exp.Pivot, relation: Relation, scope: Scope, expressions: Expressions) -> Relation:
    """`relation` after a PIVOT or UNPIVOT of it; `scope` is one that holds it alone. Blind where the text does not give
    the names of the new columns.
    """
    unknown = Relation(blind=True, whole=relation.whole)
    fields: list[exp.Expr] = pivot.args.get("fields") or []
    if len(fields) != 1 or not isinstance(field := fields[0], exp.In):
        return unknown
    turn = _lengthened if pivot.args.get("unpivot") else _widened
    return turn(pivot, field, relation, scope, expressions) or unknown


def spread(function: exp.Expr, count: int) -> list[Sequence[exp.Expr]] | None:
    """Which arguments of `stack(rows, ...)` each of its `count` columns comes from. None where that is not to be seen."""
    if not isinstance(function, exp.Stack) or not function.this.is_int:
        return None
    rows, given = int(function.this.name), function.expressions
    width = -(-len(given) // rows) if rows > 0 else 0
    return [given[at::width] for at in range(width)] if width == count else None


def _widened(
    pivot: exp.Pivot, field: exp.In, relation: Relation, scope: Scope, expressions: Expressions
) -> Relation | None:
    """A value of each aggregate for each of the listed values; rows are grouped by the columns that are not mentioned."""
    aggregates = pivot.expressions
    names = [one.name for one in pivot.args.get("columns") or ()]
    if len(names) != len(aggregates) * len(field.expressions):
        return None
    if len(aggregates) > 1 and not all(isinstance(one, exp.Alias) for one in aggregates):
        return None  # Spark makes up a name from the expression
    choosing = expressions.flows(field.this, scope, Subtype.CONDITIONAL)
    values = [together([expressions.flows(one, scope), choosing], scope.reads) for one in aggregates]
    kept = relation.without(_mentioned((*aggregates, field.this)))
    grouped = together(
        [relation.whole, *(done(Subtype.GROUP_BY, None, one.flows) for one in kept.columns)], scope.reads
    )
    new = (Column(name, values[at % len(values)]) for at, name in enumerate(names))
    return Relation((*kept.columns, *new), kept.stars, kept.blind, grouped)


def _lengthened(
    pivot: exp.Pivot, field: exp.In, relation: Relation, scope: Scope, expressions: Expressions
) -> Relation | None:
    """A row for each of the listed columns, or groups of them: one column with their name, the others with the values."""
    names = _listed(pivot.expressions[0])
    groups = [_listed(one.this if isinstance(one, exp.PivotAlias) else one) for one in field.expressions]
    if any(len(group) != len(names) for group in groups):
        return None
    kept = relation.without({column.name.casefold() for group in groups for column in group})
    new = [
        Column(name.name, together((expressions.flows(group[at], scope) for group in groups), scope.reads))
        for at, name in enumerate(names)
    ]
    return Relation((*kept.columns, Column(field.this.name), *new), kept.stars, kept.blind, relation.whole)


def _listed(node: exp.Expr) -> list[exp.Expr]:
    node = bare(node)
    return node.expressions if isinstance(node, exp.Tuple) else [node]


def _mentioned(nodes: Iterable[exp.Expr]) -> set[str]:
    """The names of columns in some expressions, in lower case."""
    return {column.name.casefold() for node in nodes for column in node.find_all(exp.Column)}
