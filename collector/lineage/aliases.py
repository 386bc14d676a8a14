"""Other names for datasets, by configuration: the same table is one node, whichever platform reports it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from collector import names
from collector.model import ColumnEdge, Dataset

Name = tuple[str, str]
"""Namespace and name of a dataset."""
SYMLINK = "TABLE"
"""What kind of name the old one is, in the symlinks facet."""


@dataclass(frozen=True, slots=True)
class Alias:
    """Datasets that fit `namespace` and `name` get the other two instead.

    In what is matched a `*` stands for any text; the n-th `*` of a replacement is what the n-th one of its pattern
    stood for. A replacement of None leaves that half as it is.
    """

    namespace: str
    name: str
    new_namespace: str | None = None
    new_name: str | None = None

    def of(self, found: Name) -> Name | None:
        """The new name, None where this alias does not fit or would leave nothing of a name."""
        namespace, name = (fitted(*pair) for pair in zip((self.namespace, self.name), found, strict=True))
        if namespace is None or name is None:
            return None
        space, called = _filled(self.new_namespace, namespace, found[0]), _filled(self.new_name, name, found[1])
        return (space, names.cut(called)) if space.strip() and called.strip() else None


@dataclass(frozen=True, slots=True)
class Aliases:
    """The first alias that fits a dataset names it."""

    rules: tuple[Alias, ...] = ()
    _named: Callable[[Name], Name] = field(init=False, repr=False, compare=False)
    """The new name of a dataset, remembered for the names seen last."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_named", lru_cache(maxsize=8192)(self._first))

    def _first(self, old: Name) -> Name:
        return next((new for rule in self.rules if (new := rule.of(old)) is not None), old)

    def applied(self, found: Sequence[Dataset]) -> Sequence[Dataset]:
        """The datasets under their new names, with the old ones as symlinks; datasets that get the same name are merged."""
        if not self.rules:
            return found
        by_name: dict[Name, Dataset] = {}
        for dataset in map(self._renamed, found):
            name = dataset.namespace, dataset.name
            by_name[name] = _together(by_name[name], dataset) if name in by_name else dataset
        return tuple(by_name.values())

    def _renamed(self, dataset: Dataset) -> Dataset:
        old = dataset.namespace, dataset.name
        new = self._named(old)
        columns = tuple(dict.fromkeys(map(self._followed, dataset.columns)))
        if new == old:
            return replace(dataset, columns=columns)
        links = [(*old, SYMLINK), *(link for link in dataset.symlinks if link[:2] != new)]
        # the address is that of the old namespace
        uri = dataset.uri if new[0] == old[0] else None
        return replace(
            dataset, namespace=new[0], name=new[1], uri=uri, columns=columns, symlinks=tuple(dict.fromkeys(links))
        )

    def _followed(self, edge: ColumnEdge) -> ColumnEdge:
        namespace, name = self._named((edge.namespace, edge.name))
        return replace(edge, namespace=namespace, name=name)


def _together(one: Dataset, other: Dataset) -> Dataset:
    """Two datasets of one name: the facts of the first, the names, columns and counts of both."""
    return replace(
        one,
        fields=one.fields or other.fields,
        columns=tuple(dict.fromkeys((*one.columns, *other.columns))),
        symlinks=tuple(dict.fromkeys((*one.symlinks, *other.symlinks))),
        rows=_sum(one.rows, other.rows),
        bytes=_sum(one.bytes, other.bytes),
        files=_sum(one.files, other.files),
    )


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def fitted(pattern: str, text: str) -> tuple[str, ...] | None:
    """What the `*` of the pattern stand for, None where it does not fit."""
    found = _compiled(pattern).fullmatch(text)
    return None if found is None else found.groups()


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, pattern.split("*"))), re.DOTALL)


def _filled(replacement: str | None, stars: Sequence[str], old: str) -> str:
    if replacement is None:
        return old
    first, *rest = replacement.split("*")
    return first + "".join(star + part for star, part in zip(stars, rest, strict=False))
