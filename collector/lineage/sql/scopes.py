"""What a name means at some place of a query."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import NamedTuple

from collector.lineage.sql.model import Subtype
from collector.lineage.sql.relations import Certainty, Column, Reads, Relation, done, together


class Aliases(Enum):
    """Where the names that a SELECT gives to its columns rank against those of its tables."""

    LAST = auto()
    OVER_UNCERTAIN = auto()
    FIRST = auto()


@dataclass(slots=True)
class Item:
    """One entry of FROM. `called` are the qualifiers it answers to, in lower case; `hidden` after a semi join."""

    called: frozenset[tuple[str, ...]]
    relation: Relation
    hidden: bool = False


class Meant(NamedTuple):
    column: Column | None
    certainty: Certainty
    nested: bool = False
    """The name goes on into a field of the column."""


_NOT_HERE = Meant(None, Certainty.NO)
_UNCLEAR = Meant(None, Certainty.SURE)


@dataclass(slots=True)
class Scope:
    """`merged` are columns that USING made one, `outer` the scope around a correlated sub-query."""

    reads: Reads
    outer: "Scope | None" = None
    items: list[Item] = field(default_factory=list)
    merged: dict[str, Column] = field(default_factory=dict)
    aliases: dict[str, Column] = field(default_factory=dict)
    seen: Aliases = Aliases.LAST
    natural: bool = False
    """A NATURAL JOIN joined columns that are not all known."""

    def meaning(self, parts: Sequence[str]) -> Meant:
        """What `a.b.c` refers to: from here outwards, and nothing where several things are possible."""
        here = self._here(parts)
        if here.certainty is Certainty.SURE or self.outer is None:
            return here
        outside = self.outer.meaning(parts)
        if here.certainty is Certainty.NO or (len(parts) > 1 and outside.certainty is Certainty.SURE):
            return outside
        return Meant(None, Certainty.MAYBE) if outside.certainty is Certainty.SURE else here

    def is_table(self, name: str) -> bool:
        return any((name.casefold(),) in item.called for item in self.items)

    def _here(self, parts: Sequence[str]) -> Meant:
        keys = _folded(parts)
        for length in range(min(3, len(parts) - 1), 0, -1):
            if called := self._called(keys[:length]):
                return self._in(called, parts[length], nested=len(parts) > length + 1)
        return self._unqualified(parts[0], nested=len(parts) > 1)

    def _in(self, items: Sequence[Item], name: str, *, nested: bool) -> Meant:
        if len(items) > 1:
            return _UNCLEAR
        return Meant(items[0].relation.column(name, self.reads), Certainty.SURE, nested)

    def _unqualified(self, name: str, *, nested: bool) -> Meant:
        key = name.casefold()
        alias = self.aliases.get(key)
        if alias is not None and self.seen is Aliases.FIRST:
            return Meant(alias, Certainty.SURE, nested)
        if key in self.merged:
            return Meant(self.merged[key], Certainty.SURE, nested)
        best, likely = self._likely(key)
        if alias is not None and self._ranks_above(best):
            return Meant(alias, Certainty.SURE, nested)
        if best is Certainty.NO:
            return _NOT_HERE
        if len(likely) > 1:
            return Meant(None, best)
        return Meant(likely[0].relation.column(name, self.reads), best, nested)

    def _likely(self, key: str) -> tuple[Certainty, list[Item]]:
        """The entries that have such a column, or may have one where none surely does."""
        self.reads.budget.spend(len(self.items))
        certain = {at: item.relation.has(key) for at, item in enumerate(self.items) if not item.hidden}
        best = max(certain.values(), default=Certainty.NO)
        return best, [self.items[at] for at, certainty in certain.items() if certainty is best]

    def _ranks_above(self, best: Certainty) -> bool:
        """Whether an alias is meant rather than what tables have with this certainty."""
        return best is Certainty.NO or (self.seen is Aliases.OVER_UNCERTAIN and best < Certainty.SURE)

    def star(self, qualifier: Sequence[str]) -> Relation:
        """`*` or `a.b.*`: all columns of all entries, those of USING once and first."""
        return self._entry(_folded(qualifier)) if qualifier else self._everything()

    def _everything(self) -> Relation:
        if not self.items:
            return Relation(blind=True)
        rest = [item.relation.without(self.merged.keys()) for item in self.items if not item.hidden]
        columns = [column for relation in rest for column in relation.columns]
        self.reads.budget.spend(len(columns))
        stars = tuple(one for relation in rest for one in relation.stars)
        blind = self.natural or any(relation.blind for relation in rest)
        return Relation((*self.merged.values(), *columns), stars, blind)

    def _entry(self, keys: tuple[str, ...]) -> Relation:
        """The one entry that answers to a qualifier."""
        called = self._called(keys)
        if len(called) != 1:
            return Relation(blind=True)
        relation = called[0].relation
        self.reads.budget.spend(len(relation.columns))
        return replace(relation, whole={})

    def _called(self, keys: tuple[str, ...]) -> list[Item]:
        return [item for item in self.items if keys in item.called and not item.hidden]

    def sides(self, name: str, right: Item) -> tuple[Column | None, Column | None]:
        """The columns that USING makes one: of the entries before `right`, and its own."""
        before = Scope(self.reads, items=[item for item in self.items if item is not right], merged=self.merged)
        return before.meaning([name]).column, right.relation.column(name, self.reads)

    def merge(self, name: str, sides: tuple[Column | None, Column | None], kind: str) -> None:
        """A column of USING: the left one, the right one, or (FULL) whichever is there."""
        chosen = sides[kind == "RIGHT"] or Column(name)
        if kind == "FULL":
            known = [done(Subtype.TRANSFORMATION, None, one.flows) for one in sides if one is not None]
            chosen = Column(name, together(known, self.reads))
        self.merged[name.casefold()] = Column(name, chosen.flows, chosen.type)


def _folded(parts: Sequence[str]) -> tuple[str, ...]:
    return tuple(part.casefold() for part in parts)
