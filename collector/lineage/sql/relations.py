"""Relations: what a part of a query gives to the part around it, column by column, down to the sources."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import NamedTuple

from collector.lineage.sql.model import Source, Subtype
from collector.lineage.sql.parser import Budget


class Flow(NamedTuple):
    """A column of a source and what was done to it."""

    source: str
    column: str
    subtype: Subtype


Flows = Mapping[Flow, str | None]
"""Each with the text of the expression, None where a column only goes through."""


@dataclass(frozen=True, slots=True)
class Column:
    """`name` is None where Spark would make one up."""

    name: str | None
    flows: Flows = field(default_factory=dict)
    type: str | None = None


class Certainty(IntEnum):
    NO = 0
    MAYBE = 1
    SURE = 2


@dataclass(frozen=True, slots=True)
class StarSource:
    """A source all of whose columns go through, as by `*`, but for the `hidden` ones (in lower case)."""

    source: Source
    hidden: frozenset[str] = frozenset()

    def has(self, key: str) -> Certainty:
        if key in self.hidden:
            return Certainty.NO
        return Certainty.SURE if any(key == known.casefold() for known in self.source.columns) else Certainty.MAYBE


class Reads:
    """The columns that a query names, by source, each as it was first spelled: Spark ignores case."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._spelled: dict[str, dict[str, str]] = {}
        self._used: dict[str, dict[str, None]] = {}

    def flow(self, source: Source, name: str) -> Flow:
        known = {column.casefold(): column for column in source.columns}
        key = name.casefold()
        spelled = self._spelled.setdefault(source.name, {})
        return Flow(source.name, spelled.setdefault(key, known.get(key, name)), Subtype.IDENTITY)

    def use(self, flows: Iterable[Flow]) -> None:
        """Note columns that the query really depends on: a name is also looked up where it then means another."""
        for flow in flows:
            self._used.setdefault(flow.source, {})[flow.column] = None

    def columns(self, source: str) -> tuple[str, ...]:
        return tuple(self._used.get(source, ()))


@dataclass(frozen=True, slots=True)
class Relation:
    """`columns` are known one by one; those of `stars` come on top; `blind` says that there are others that
    nothing is known of. `whole` are the flows that decide on all columns (filters, joins, grouping).
    """

    columns: tuple[Column, ...] = ()
    stars: tuple[StarSource, ...] = ()
    blind: bool = False
    whole: Flows = field(default_factory=dict)
    _by_key: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_key: dict[str, Column] = {}
        for column in self.columns:
            if column.name is not None:
                by_key.setdefault(column.name.casefold(), column)
        object.__setattr__(self, "_by_key", by_key)

    @property
    def closed(self) -> bool:
        """True where all columns are known."""
        return not self.stars and not self.blind

    def has(self, key: str) -> Certainty:
        """`key` is a name in lower case."""
        if key in self._by_key:
            return Certainty.SURE
        return max((star.has(key) for star in self.stars), default=Certainty(self.blind))

    def without(self, keys: AbstractSet[str]) -> "Relation":
        """What stays of it; `keys` are names in lower case."""
        if not keys:
            return self
        columns = tuple(one for one in self.columns if one.name is None or one.name.casefold() not in keys)
        stars = tuple(StarSource(one.source, one.hidden.union(keys)) for one in self.stars)
        return replace(self, columns=columns, stars=stars)

    def column(self, name: str, reads: Reads) -> Column | None:
        """The column of that name; None where it is not known which it is."""
        key = name.casefold()
        if (column := self._by_key.get(key)) is not None:
            return column
        best = max((star.has(key) for star in self.stars), default=Certainty.NO)
        likely = [star for star in self.stars if star.has(key) is best]
        if best is Certainty.NO or len(likely) > 1 or (best is Certainty.MAYBE and self.blind):
            return None
        return Column(name, {reads.flow(likely[0].source, name): None})


def of_source(source: Source, reads: Reads) -> Relation:
    if not source.complete:
        return Relation(stars=(StarSource(source),))
    flows = [reads.flow(source, name) for name in source.columns]
    reads.use(flows)
    return Relation(tuple(Column(flow.column, {flow: None}) for flow in flows))


def done(subtype: Subtype, text: str | None, flows: Flows) -> dict[Flow, str | None]:
    """The flows after something was done to them; `text` says what, where it is more than a name."""
    made: dict[Flow, str | None] = {}
    for flow, before in flows.items():
        now = flow._replace(subtype=subtype.after(flow.subtype))
        made.setdefault(now, (text or before) if now.subtype.direct else None)
    return made


def together(parts: Iterable[Flows], reads: Reads) -> dict[Flow, str | None]:
    """All the flows, each once; the text of the first."""
    made: dict[Flow, str | None] = {}
    for part in parts:
        reads.budget.spend(len(part))
        for flow, text in part.items():
            made.setdefault(flow, text)
    return made


def renamed(relation: Relation, names: Sequence[str]) -> Relation:
    """With a list of column names behind an alias. Behind columns that are not all known, names are all there is."""
    if not names:
        return relation
    if relation.closed and len(relation.columns) == len(names):
        pairs = zip(relation.columns, names, strict=True)
        return replace(relation, columns=tuple(replace(column, name=name) for column, name in pairs))
    return Relation(tuple(Column(name) for name in names), whole=relation.whole)


def stacked(first: Relation, others: Sequence[Relation], reads: Reads) -> Relation:
    """A union: columns by their place, named as in the first. Of columns whose place is not known the first's stay."""
    whole = together([first.whole, *(other.whole for other in others)], reads)
    fitting = [other for other in others if other.closed and len(other.columns) == len(first.columns)]
    if not first.closed:
        fitting = []
    columns = tuple(
        _same_place([column, *(other.columns[at] for other in fitting)], reads)
        for at, column in enumerate(first.columns)
    )
    return replace(first, columns=columns, whole=whole)


def _same_place(columns: Sequence[Column], reads: Reads) -> Column:
    types = {column.type for column in columns}
    flows = together([column.flows for column in columns], reads)
    return Column(columns[0].name, flows, columns[0].type if len(types) == 1 else None)


def by_name(first: Relation, others: Sequence[Relation], reads: Reads) -> Relation:
    """A union of columns with equal names."""
    whole = together([first.whole, *(other.whole for other in others)], reads)
    if not all(one.closed for one in (first, *others)):
        return replace(first, whole=whole)
    named: dict[str, list[Column]] = {}
    for column in (column for one in (first, *others) for column in one.columns if column.name is not None):
        named.setdefault(column.name.casefold(), []).append(column)  # type: ignore[union-attr] # filtered above
    return Relation(tuple(_same_place(same, reads) for same in named.values()), whole=whole)


def narrowed(first: Relation, others: Sequence[Relation], reads: Reads) -> Relation:
    """INTERSECT and EXCEPT: the rows of the first, chosen by those of the others."""
    deciding = [done(Subtype.FILTER, None, column.flows) for other in others for column in other.columns]
    return replace(first, whole=together([first.whole, *(other.whole for other in others), *deciding], reads))
