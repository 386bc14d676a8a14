"""Which columns an expression depends on, and how."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sqlglot import exp

from collector.lineage.sql.model import Catalog, Subtype
from collector.lineage.sql.parser import TEXT
from collector.lineage.sql.relations import Flows, Reads, Relation, done, together
from collector.lineage.sql.scopes import Scope
from collector.redaction import capped, redacted_sql

LONGEST_TEXT = 120

_PICKING = (exp.Lag, exp.Lead, exp.First, exp.Last, exp.FirstValue, exp.LastValue, exp.NthValue)
"""Aggregates that over a window only pick a row."""
_AGGREGATES = frozenset(
    {
        *("count_min_sketch", "every", "histogram_numeric", "hll_sketch_agg", "hll_union_agg", "mean", "some", "std"),
        *("try_avg", "try_sum"),
    }
)
"""Aggregates of Spark that are plain functions to sqlglot."""
_LEAVES = (exp.Literal, exp.Identifier, exp.DataType, exp.Null, exp.Boolean, exp.Var)
# tuples, as `isinstance(node, A | B)` makes a union each time, which takes three times as long
_WRAPPERS = (exp.Alias, exp.Aliases, exp.Paren)
_CHOICES = (exp.If, exp.Nvl2)
_AGGREGATING = (exp.AggFunc, exp.Any)


@dataclass(slots=True)
class Expressions:
    """`query` evaluates a sub-query in a scope; `catalog` says what some functions do."""

    text: str
    reads: Reads
    catalog: Catalog
    query: Callable[[exp.Expr, Scope | None], Relation]

    def flows(
        self,
        node: exp.Expr,
        scope: Scope,
        subtype: Subtype = Subtype.IDENTITY,
        windows: Mapping[str, exp.Expr] | None = None,
    ) -> Flows:
        """How the columns of the sources reach the value of `node`; `windows` are those that WINDOW names."""
        text = None if isinstance(bare(node), exp.Column) or not subtype.direct else self.written(node)
        found: list[Flows] = []
        waiting: list[tuple[exp.Expr, Subtype]] = [(node, subtype)]
        while waiting:
            here, role = waiting.pop()
            self.reads.budget.spend()
            known = self._known(here, scope, role, text)
            if known is not None:
                found += known
                continue
            below = [*_operands(here, role), *_window(here, role, windows or {})]
            waiting += reversed([one for one in below if self._may_name_columns(one[0], here, scope)])
        return found[0] if len(found) == 1 else together(found, self.reads)

    def _known(self, node: exp.Expr, scope: Scope, subtype: Subtype, text: str | None) -> list[Flows] | None:
        """The flows of a node that names columns or holds a query; None for one whose parts are to be looked at."""
        if isinstance(node, exp.Column):
            return self._column(node, scope, subtype, text)
        if isinstance(node, exp.Star):
            return _all_of(scope.star(()), subtype, text)
        if isinstance(node, exp.Query):
            return self._sub_query(node, scope, subtype, text)
        if isinstance(node, exp.Exists) and isinstance(node.this, exp.Query):
            return self._existence(node.this, scope, subtype)
        if (hidden := self._left_out(node)) and any(isinstance(one, exp.Star) for one in node.expressions):
            return _all_of(scope.star(()).without(hidden), subtype, text)
        return None

    def written(self, node: exp.Expr) -> str | None:
        """The expression as in the query, on one line and not endlessly long."""
        if TEXT not in node.meta:
            return None
        start, end = node.meta[TEXT]
        if isinstance(node, exp.Alias):
            end = node.args["alias"].meta.get("start", end)
        said = " ".join(self.text[start : min(end, start + 4 * LONGEST_TEXT)].split())
        if isinstance(node, exp.Alias) and said[-3:].lower() == " as":
            said = said[:-3]
        return capped(redacted_sql(said), LONGEST_TEXT)

    def _column(self, node: exp.Column, scope: Scope, subtype: Subtype, text: str | None) -> list[Flows]:
        parts = [part.name for part in node.parts]
        if isinstance(node.this, exp.Star):
            return _all_of(scope.star(parts[:-1]), subtype, text)
        meant = scope.meaning(parts)
        if meant.column is None:
            return []
        self.reads.use(meant.column.flows)
        return [done(subtype.after(Subtype.TRANSFORMATION) if meant.nested else subtype, text, meant.column.flows)]

    def _sub_query(self, node: exp.Query, scope: Scope, subtype: Subtype, text: str | None) -> list[Flows]:
        """What it yields, and what it depends on: of one value, not of the whole result."""
        relation = self.query(node, scope)
        value = subtype.after(Subtype.TRANSFORMATION) if subtype.direct else subtype
        return [*(done(value, text, column.flows) for column in relation.columns), done(subtype, None, relation.whole)]

    def _existence(self, node: exp.Query, scope: Scope, subtype: Subtype) -> list[Flows]:
        return [done(subtype if not subtype.direct else Subtype.CONDITIONAL, None, self.query(node, scope).whole)]

    def _may_name_columns(self, node: exp.Expr, function: exp.Expr, scope: Scope) -> bool:
        return not (isinstance(node, _LEAVES) or self._is_table(node, function, scope))

    def _is_table(self, node: exp.Expr, function: exp.Expr, scope: Scope) -> bool:
        """`is_new('name', a)` may name a table where others name a column."""
        return (
            isinstance(function, exp.Anonymous)
            and function.name.lower() in self.catalog.table_arguments
            and isinstance(node, exp.Column)
            and len(node.parts) == 1
            and scope.is_table(node.name)
        )

    def _left_out(self, function: exp.Expr) -> frozenset[str]:
        """The columns, in lower case, that `to_metadata_except(array('a', 'b'), *)` leaves out of its star."""
        if not (isinstance(function, exp.Anonymous) and function.name.lower() in self.catalog.excluding_functions):
            return frozenset()
        names = function.expressions[0] if function.expressions else None
        written = names.expressions if isinstance(names, exp.Array) else ()
        return frozenset(one.name.casefold() for one in written if isinstance(one, exp.Literal))


def bare(node: exp.Expr) -> exp.Expr:
    """The expression without alias and parentheses."""
    while isinstance(node, _WRAPPERS):
        node = node.this
    return node


def is_aggregate(node: exp.Expr) -> bool:
    return isinstance(node, _AGGREGATING) or (isinstance(node, exp.Anonymous) and node.name.lower() in _AGGREGATES)


def _all_of(relation: Relation, subtype: Subtype, text: str | None) -> list[Flows]:
    """A star in the place of an argument: all columns that are known."""
    return [done(subtype.after(Subtype.TRANSFORMATION), text, column.flows) for column in relation.columns]


# one table of cases: the parts of each kind of expression, and what they do to its value
def _operands(node: exp.Expr, subtype: Subtype) -> Iterator[tuple[exp.Expr, Subtype]]:
    """What an expression is made of, and what each part does to the value if this is done with it (`subtype`)."""
    value = subtype.after(Subtype.TRANSFORMATION)
    choice = subtype if not subtype.direct else Subtype.CONDITIONAL
    if isinstance(node, _WRAPPERS):
        yield node.this, subtype
    elif isinstance(node, exp.Case):
        yield from _some(node, choice, "this")
        for branch in node.args.get("ifs") or ():
            yield from _some(branch, choice, "this")
            yield from _some(branch, value, "true")
        yield from _some(node, value, "default")
    elif isinstance(node, _CHOICES):
        yield from _some(node, choice, "this")
        yield from _some(node, value, "true", "false")
    elif isinstance(node, exp.Filter):
        yield from _some(node, subtype, "this")
        yield from _some(node, choice, "expression")
    elif isinstance(node, exp.Window):
        function = node.this.this if isinstance(node.this, exp.IgnoreNulls | exp.RespectNulls) else node.this
        if isinstance(function, _PICKING):
            yield from ((child, value) for child in function.iter_expressions())
        else:
            yield function, subtype
    elif isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
        return
    elif not isinstance(node, _LEAVES):
        role = subtype.after(Subtype.AGGREGATION) if is_aggregate(node) or isinstance(node, exp.WithinGroup) else value
        yield from ((child, role) for child in node.iter_expressions())


def _window(node: exp.Expr, subtype: Subtype, windows: Mapping[str, exp.Expr]) -> Iterator[tuple[exp.Expr, Subtype]]:
    """What decides on the rows that a window function sees."""
    role = subtype if not subtype.direct else Subtype.WINDOW
    while isinstance(node, exp.Window):
        yield from ((child, role) for child in node.args.get("partition_by") or ())
        yield from _some(node, role, "order", "spec")
        named = windows.get(node.alias.casefold()) if node.alias else None
        node, windows = named or exp.Null(), {}


def _some(node: exp.Expr, subtype: Subtype, *keys: str) -> Iterator[tuple[exp.Expr, Subtype]]:
    yield from ((child, subtype) for key in keys if isinstance(child := node.args.get(key), exp.Expr))
