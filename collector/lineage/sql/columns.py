"""The columns of a query's result, down to the columns of its sources.

Where a name could mean several things, or everything (`*` over a source whose columns are not known), it stays unknown.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from sqlglot import exp

from collector.lineage.sql.expressions import Expressions, bare, is_aggregate
from collector.lineage.sql.model import Catalog, Source, Subtype
from collector.lineage.sql.parser import Budget
from collector.lineage.sql.pivots import spread, turned
from collector.lineage.sql.relations import (
    Column,
    Flows,
    Reads,
    Relation,
    StarSource,
    by_name,
    done,
    narrowed,
    of_source,
    renamed,
    stacked,
    together,
)
from collector.lineage.sql.scopes import Aliases, Item, Scope
from collector.lineage.sql.sources import Binding

_BLIND = Relation(blind=True)
_SEVERAL_COLUMNS = (exp.Explode, exp.Posexplode, exp.Inline, exp.Stack, exp.QueryTransform)
"""Functions in SELECT that give columns whose number or names are not known without an alias."""


@dataclass(slots=True)
class Columns:
    """Evaluates the queries of one tree. `binding` says what its tables are."""

    text: str
    binding: Binding
    budget: Budget
    catalog: Catalog
    reads: Reads = field(init=False)
    _expressions: Expressions = field(init=False)
    _defined: dict[int, Relation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reads = Reads(self.budget)
        self._expressions = Expressions(self.text, self.reads, self.catalog, self.query)

    def query(self, node: exp.Expr, outer: Scope | None = None) -> Relation:
        """Any query as a relation. Raises `TooMuch`, and RecursionError for very deep ones."""
        self.budget.spend()
        self._define(node, outer)
        if isinstance(node, exp.Select):
            return self._select(node, outer)
        if isinstance(node, exp.SetOperation):
            relation = self._set_operation(node, outer)
        elif isinstance(node, exp.Subquery):
            relation = self._wrapped(node, outer)
        elif isinstance(node, exp.Values):
            relation = _values(node)
        else:
            return _BLIND
        scope = Scope(self.reads, outer, [Item(frozenset(), relation)])
        return replace(relation, whole=together([relation.whole, *self._sorting(node, scope)], self.reads))

    def _define(self, node: exp.Expr, outer: Scope | None) -> None:
        """The common table expressions in use, in their order: each needs only those before it."""
        clause = node.args.get("with_")
        for cte in clause.expressions if isinstance(clause, exp.With) else ():
            if id(cte) in self.binding.used and id(cte) not in self._defined:
                self._defined[id(cte)] = renamed(self.query(cte.this, outer), _listed(cte))

    def _wrapped(self, node: exp.Subquery, outer: Scope | None) -> Relation:
        """A query in parentheses, or joined tables in parentheses that share an alias."""
        if not _holds_tables(node):
            return self.query(node.this, outer)
        scope = Scope(self.reads, outer)
        whole = together(self._items(node.this, scope), self.reads)
        return replace(scope.star(()), whole=whole)

    def _set_operation(self, node: exp.SetOperation, outer: Scope | None) -> Relation:
        """A chain of a thousand unions is a thousand levels deep on its left, so it is walked, not descended."""
        chain: list[exp.SetOperation] = []
        left: exp.Expr = node
        while isinstance(left, exp.SetOperation) and (left is node or left.args.get("with_") is None):
            chain.append(left)
            left = left.this
        relation = self.query(left, outer)
        unions: list[Relation] = []
        for operation in reversed(chain):
            right = self.query(operation.expression, outer)
            if isinstance(operation, exp.Union) and not operation.args.get("by_name"):
                unions.append(right)
                continue
            relation, unions = stacked(relation, unions, self.reads), []
            combine = by_name if isinstance(operation, exp.Union) else narrowed
            relation = combine(relation, [right], self.reads)
        return stacked(relation, unions, self.reads)

    def _select(self, node: exp.Select, outer: Scope | None) -> Relation:
        scope = Scope(self.reads, outer)
        whole: list[Flows] = []
        if isinstance(source := node.args.get("from_"), exp.From):
            whole += self._items(source.this, scope)
        whole += self._joined(node, scope)
        windows = {window.name.casefold(): window for window in node.args.get("windows") or ()}
        relation = self._projected(node, scope, windows)
        scope.aliases = {column.name.casefold(): column for column in reversed(relation.columns) if column.name}
        whole += self._all(_below(node, "where"), scope, Subtype.FILTER)
        scope.seen = Aliases.OVER_UNCERTAIN
        whole += self._grouping(node, scope, relation)
        whole += self._all(_below(node, "having", "qualify"), scope, Subtype.FILTER)
        scope.seen = Aliases.FIRST
        whole += self._sorting(node, scope, relation)
        return replace(relation, whole=together(whole, self.reads))

    def _projected(self, node: exp.Select, scope: Scope, windows: dict[str, exp.Expr]) -> Relation:
        columns: list[Column] = []
        stars: list[StarSource] = []
        blind = False
        for item in node.expressions:
            self.budget.spend()
            if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
                star = self._star(item, scope, windows)
                columns += star.columns
                stars += star.stars
                blind = blind or star.blind
            elif isinstance(item, _SEVERAL_COLUMNS):
                self._expressions.flows(item, scope)  # notes what is read
                blind = True
            else:
                made = list(self._made(item, scope, windows))
                columns += made
                for column in made:
                    if column.name is not None:
                        scope.aliases.setdefault(column.name.casefold(), column)
        return Relation(tuple(columns), tuple(stars), blind)

    def _star(self, item: exp.Expr, scope: Scope, windows: dict[str, exp.Expr]) -> Relation:
        """`*` and `a.*`, with what Databricks' EXCEPT and REPLACE do to them."""
        qualifier = [part.name for part in item.parts[:-1]] if isinstance(item, exp.Column) else []
        star = item.this if isinstance(item, exp.Column) else item
        without = {one.name.casefold() for one in star.args.get("except_") or ()}
        new = _replacements(star)
        kept = scope.star(qualifier).without(without | {one.alias.casefold() for one in new})
        replaced = tuple(column for one in new for column in self._made(one, scope, windows))
        return Relation((*kept.columns, *replaced), kept.stars, kept.blind or bool(star.args.get("rename")))

    def _made(self, item: exp.Expr, scope: Scope, windows: dict[str, exp.Expr]) -> Iterator[Column]:
        flows = self._expressions.flows(item, scope, windows=windows)
        if isinstance(item, exp.Aliases):
            yield from self._several(item.this, [name.name for name in item.expressions], scope, flows)
        else:
            yield Column(_name(item), flows, self._type(item, scope))

    def _type(self, item: exp.Expr, scope: Scope) -> str | None:
        """The type that a cast gives, here or in a sub-query below."""
        node = bare(item)
        if isinstance(node, exp.Cast):
            return _written_type(node.to)
        if isinstance(node, exp.Column) and not isinstance(node.this, exp.Star):
            meant = scope.meaning([part.name for part in node.parts])
            return meant.column.type if meant.column is not None and not meant.nested else None
        return None

    def _items(self, node: exp.Expr, scope: Scope) -> list[Flows]:
        """Add what stands in FROM to the scope; the flows that decide on all of it."""
        if isinstance(node, exp.Subquery) and _holds_tables(node) and not node.alias:
            return self._items(node.this, scope) + self._joined(node, scope)
        relation = renamed(self._relation(node, scope), _listed(node))
        for pivot in node.args.get("pivots") or ():
            alone = Scope(self.reads, scope.outer, [Item(_called(node), relation)])
            relation = turned(pivot, relation, alone, self._expressions)
        scope.items.append(Item(_called(node) | _called_by_pivots(node), relation))
        return [relation.whole, *self._joined(node, scope)]

    def _relation(self, node: exp.Expr, scope: Scope) -> Relation:
        if isinstance(node, exp.Table):
            return self._table(node, scope)
        if isinstance(node, exp.Lateral):
            return self._lateral(node, scope)
        if isinstance(node, exp.Query | exp.Values):
            return self.query(node, scope.outer)
        return _BLIND

    def _table(self, node: exp.Table, scope: Scope) -> Relation:
        meant = self.binding.tables.get(id(node))
        if isinstance(meant, Source):
            return of_source(meant, self.reads)
        if meant is not None:
            return self._defined.get(id(meant), _BLIND)
        return self._generated(node.this, node, scope) if isinstance(node.this, exp.Func) else _BLIND

    def _lateral(self, node: exp.Lateral, scope: Scope) -> Relation:
        if isinstance(node.this, exp.Query):
            return self.query(node.this, scope)
        return self._generated(node.this, node, scope)

    def _generated(self, function: exp.Expr, node: exp.Expr, scope: Scope) -> Relation:
        """LATERAL VIEW and table functions."""
        flows = self._expressions.flows(function, scope, Subtype.TRANSFORMATION)
        columns = self._several(function, _listed(node), scope, flows)
        return Relation(columns, blind=not columns)

    def _several(self, function: exp.Expr, names: Sequence[str], scope: Scope, flows: Flows) -> tuple[Column, ...]:
        """Columns that one function makes: each comes from all arguments, but for `stack`, whose shape is known."""
        parts = spread(bare(function), len(names))
        if parts is None:
            return tuple(Column(name, flows) for name in names)
        return tuple(
            Column(name, together(self._all(part, scope, Subtype.TRANSFORMATION), self.reads))
            for name, part in zip(names, parts, strict=True)
        )

    def _joined(self, node: exp.Expr, scope: Scope) -> list[Flows]:
        """Everything that JOIN and LATERAL VIEW add, then the conditions, which may refer to all of it."""
        whole: list[Flows] = []
        joins = [join for join in node.args.get("joins") or () if isinstance(join, exp.Join)]
        conditions: list[exp.Expr] = []
        semi: list[Item] = []
        for join in joins:
            first = len(scope.items)
            whole += self._items(join.this, scope)
            whole += self._using(join, scope, scope.items[first:])
            conditions += [on] if isinstance(on := join.args.get("on"), exp.Expr) else []
            semi += scope.items[first:] if join.args.get("kind") in {"SEMI", "ANTI"} else []
        for lateral in node.args.get("laterals") or ():
            whole += self._items(lateral, scope)
        whole += self._all(conditions, scope, Subtype.JOIN)
        for item in semi:
            item.hidden = True
        return whole

    def _using(self, join: exp.Join, scope: Scope, added: Sequence[Item]) -> list[Flows]:
        names = [one.name for one in join.args.get("using") or ()]
        if join.args.get("method") == "NATURAL":
            names = _natural_names(scope, added)
        whole: list[Flows] = []
        for name in names if len(added) == 1 else ():
            sides = scope.sides(name, added[0])
            for column in filter(None, sides):
                self.reads.use(column.flows)
                whole.append(done(Subtype.JOIN, None, column.flows))
            if join.args.get("kind") not in {"SEMI", "ANTI"}:
                scope.merge(name, sides, str(join.args.get("side") or ""))
        return whole

    def _grouping(self, node: exp.Select, scope: Scope, relation: Relation) -> list[Flows]:
        group = node.args.get("group")
        if not isinstance(group, exp.Group):
            return []
        if group.args.get("all"):
            plain = [item for item in node.expressions if not any(map(is_aggregate, item.walk()))]
            return self._all((bare(item) for item in plain), scope, Subtype.GROUP_BY)
        keys = [
            key for name in ("expressions", "rollup", "cube", "grouping_sets") for key in group.args.get(name) or ()
        ]
        return self._by_place(keys, relation, Subtype.GROUP_BY) + self._all(keys, scope, Subtype.GROUP_BY)

    def _sorting(self, node: exp.Expr, scope: Scope, relation: Relation | None = None) -> list[Flows]:
        keys = [
            key.this if isinstance(key, exp.Ordered) else key
            for clause in _below(node, "order", "sort", "cluster")
            for key in clause.expressions
        ]
        relation = relation or scope.items[0].relation
        return self._by_place(keys, relation, Subtype.SORT) + self._all(keys, scope, Subtype.SORT)

    def _by_place(self, keys: Iterable[exp.Expr], relation: Relation, subtype: Subtype) -> list[Flows]:
        """`group by 1` is the first column, where no star stands in the way."""
        places = [int(key.name) for key in keys if isinstance(key, exp.Literal) and key.name.isdecimal()]
        columns = relation.columns if relation.closed else ()
        return [done(subtype, None, columns[at - 1].flows) for at in places if 0 < at <= len(columns)]

    def _all(self, nodes: Iterable[exp.Expr], scope: Scope, subtype: Subtype) -> list[Flows]:
        return [self._expressions.flows(node, scope, subtype) for node in nodes]


def _holds_tables(node: exp.Subquery) -> bool:
    """True of `(a join b ...)`, where the parentheses hold no query but what may stand in FROM."""
    held = node.this
    return isinstance(held, exp.Table) or (
        isinstance(held, exp.Subquery) and bool(held.alias or held.args.get("joins") or held.args.get("laterals"))
    )


def _below(node: exp.Expr, *clauses: str) -> list[exp.Expr]:
    return [clause for name in clauses if isinstance(clause := node.args.get(name), exp.Expr)]


def _natural_names(scope: Scope, added: Sequence[Item]) -> list[str]:
    """The columns that a NATURAL JOIN joins; none, which the scope notes, where not all columns are known."""
    if not all(item.relation.closed for item in scope.items):
        scope.natural = True
        return []
    before = [item.relation for item in scope.items if item not in added]
    return [name for name in _names(added) if any(one.has(name.casefold()) for one in before)]


def _replacements(star: exp.Expr) -> list[exp.Alias]:
    return [one for one in star.args.get("replace") or () if isinstance(one, exp.Alias)]


def _names(items: Iterable[Item]) -> list[str]:
    return [column.name for item in items for column in item.relation.columns if column.name is not None]


def _listed(node: exp.Expr) -> list[str]:
    """The column names behind an alias: `as t(a, b)`."""
    alias = node.args.get("alias")
    return [column.name for column in alias.args.get("columns") or ()] if isinstance(alias, exp.TableAlias) else []


def _called(node: exp.Expr) -> frozenset[tuple[str, ...]]:
    """The qualifiers that an entry of FROM answers to: its alias, else its name with and without what is before it."""
    if node.alias:
        return frozenset({(node.alias.casefold(),)})
    if not isinstance(node, exp.Table):
        return frozenset()
    if isinstance(node.this, exp.Func):
        return frozenset({(node.this.name.casefold(),)})
    parts = tuple(part.name.casefold() for part in node.parts)
    return frozenset(parts[at:] for at in range(len(parts)))


def _called_by_pivots(node: exp.Expr) -> frozenset[tuple[str, ...]]:
    return frozenset((pivot.alias.casefold(),) for pivot in node.args.get("pivots") or () if pivot.alias)


def _name(item: exp.Expr) -> str | None:
    """What Spark calls a column: its alias, the name it had, also under a cast or in parentheses, or its field of a struct."""
    if isinstance(item, exp.Alias):
        return item.alias
    node = bare(item)
    base = node = bare(node.this) if isinstance(node, exp.Cast) else node
    while isinstance(base, exp.Dot):
        base = bare(base.this)
    return node.name if isinstance(base, exp.Column) else None


def _written_type(kind: exp.DataType) -> str:
    """As Spark writes it."""
    is_plain = [value for value in kind.args.values() if value] == [kind.this]
    return _plain_type(kind.this) if is_plain and isinstance(kind.this, exp.DType) else kind.sql("spark").lower()


@cache
def _plain_type(kind: exp.DType) -> str:
    """One without parameters: sqlglot takes long to write the same few again and again."""
    return exp.DataType(this=kind).sql("spark").lower()


def _values(node: exp.Values) -> Relation:
    rows = node.expressions
    width = len(rows[0].expressions) if rows and isinstance(rows[0], exp.Tuple) else 1
    return Relation(tuple(Column(name) for name in _listed(node) or [f"col{at}" for at in range(1, width + 1)]))
