"""A tolerant scanner of SQL text: its words without comments, and the tables among them by their place alone.

For texts that are too long or too broken to be parsed, and to take out comments beforehand: Spark nests `/* */` and
continues `--` after a backslash at the end of the line.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import NamedTuple

from collector.lineage.sql.model import Catalog, Source, each_once

LONGEST_ARGUMENTS = 200
"""Words; the arguments of a function that go on beyond are not literals."""
_FOREIGN = frozenset("{}$#@?")
"""Marks that Spark SQL does not know outside quotes: placeholders of other tools, mostly."""
_NO_NAME = _FOREIGN | frozenset("%:<>[]")
"""Marks that begin something else than a table where one is awaited."""
_UNFILLED = "a placeholder in the place of a table; what it reads is not known"

_WORD = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--[^\\\r\n]*+(?:\\\r?\n?[^\\\r\n]*+)*+)
    | (?P<block>/\*)
    | (?P<text>[rR]?(?:'[^'\\]*+(?:\\.[^'\\]*+)*+(?:'|\\?\Z)|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)))
    | (?P<quoted>`[^`]*+(?:``[^`]*+)*+(?:`|\Z))
    | (?P<name>\w+)
    | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Sort(StrEnum):
    TEXT = "text"
    QUOTED = "quoted"
    NAME = "name"
    MARK = "mark"


class Word(NamedTuple):
    """`start` is an offset in the text; `text` as written, quotes and all."""

    sort: Sort
    text: str
    start: int

    @property
    def key(self) -> str:
        """In capitals if it may be a keyword, else as written."""
        return self.text.upper() if self.sort is Sort.NAME else self.text

    @property
    def named(self) -> str | None:
        """The identifier that it is."""
        if self.sort is Sort.QUOTED:
            return self.text[1:-1].replace("``", "`")
        return self.text if self.sort is Sort.NAME else None

    @property
    def literal(self) -> str | None:
        """The value of the literal that it is."""
        if self.sort is Sort.TEXT:
            raw = self.text[0] in "rR"
            inner = self.text[2:-1] if raw else self.text[1:-1]
            return inner if raw else _ESCAPE.sub(r"\1", inner)
        if self.sort is Sort.NAME and (self.text.isdecimal() or self.text.lower() in {"true", "false"}):
            return self.text.lower()
        return None


def words(text: str) -> Iterator[Word]:
    """All but spaces and comments. What is not closed goes on to the end."""
    for sort, start, end in _pieces(text):
        if sort not in {"space", "comment"}:
            yield Word(Sort(sort), text[start:end], start)


def is_longer(text: str, most: int) -> bool:
    """Whether it has more words than that."""
    return len(text) > most and next(islice(words(text), most, None), None) is not None


def foreign(text: str) -> Word | None:
    """The first mark that is not SQL. sqlglot takes it for a part of some other dialect, and what is beside it for a name."""
    if _FOREIGN.isdisjoint(text):
        return None
    return next((word for word in words(text) if word.sort is Sort.MARK and word.text in _FOREIGN), None)


def without_comments(text: str) -> str:
    """The same text with spaces in place of comments, so that every place in it stays where it was."""
    if "--" not in text and "/*" not in text:
        return text
    kept = (_blank(text[start:end]) if sort == "comment" else text[start:end] for sort, start, end in _pieces(text))
    return "".join(kept)


def _blank(comment: str) -> str:
    return "".join(c if c in "\r\n" else " " for c in comment)


def _pieces(text: str) -> Iterator[tuple[str, int, int]]:
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None or match.lastgroup is None:
            return
        sort, end = match.lastgroup, match.end()
        if sort == "block":
            sort, end = "comment", _end_of_block(text, end)
        yield sort, at, end
        at = end


def _end_of_block(text: str, at: int) -> int:
    depth = 1
    for edge in _BLOCK_EDGE.finditer(text, at):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


@dataclass(slots=True)
class _Level:
    """What is between one pair of parentheses, so far."""

    first: bool = True
    selects: bool = False
    in_from: bool = False
    awaits_table: bool = False


_FROM_IS_OVER = frozenset(
    {
        *("WHERE", "GROUP", "HAVING", "ORDER", "SORT", "CLUSTER", "DISTRIBUTE", "WINDOW", "LIMIT", "QUALIFY"),
        *("UNION", "INTERSECT", "EXCEPT", "MINUS"),
    }
)
_NO_TABLE = frozenset(["VALUES", "VIEW", "LATERAL"])


def scan(found: Sequence[Word], catalog: Catalog) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """Sources by their place behind FROM, JOIN and commas, and what is wrong with some, in the order of the text.

    One-part names are never looked at: they may be names that the query itself gave.
    """
    answers: list[Source | str | None] = []
    levels, at = [_Level()], 0
    while at < len(found):
        word, level = found[at], levels[-1]
        if level.awaits_table and _may_be_table(word):
            level.awaits_table = level.first = False
            answer, at = _table(found, at, catalog)
            answers.append(answer)
            continue
        if level.awaits_table and word.text in _NO_NAME:
            level.awaits_table = False
            answers.append(_UNFILLED)
        if word.key.lower() in catalog.reading_functions and (given := _arguments(found, at + 1)) is not None:
            answers.append(catalog.reading(word.key.lower(), given[0]))
        _step(levels, word, found[at - 1] if at else None)
        at += 1
    return each_once(answers, Source), each_once(answers, str)


def _may_be_table(word: Word) -> bool:
    return word.named is not None and word.key not in {"SELECT", "WITH", "FROM", *_NO_TABLE}


# one table of cases: what each word changes in the level that it stands in
def _step(levels: list[_Level], word: Word, before: Word | None) -> None:
    level, key = levels[-1], word.key
    if key == "(":
        levels.append(_Level(in_from=level.awaits_table, awaits_table=level.awaits_table))
        level.awaits_table = False
    elif key == ")":
        if len(levels) > 1:
            levels.pop()
    elif key == ",":
        level.awaits_table = level.in_from
    elif key == "SELECT":
        level.selects, level.in_from, level.awaits_table = True, False, False
    elif key == "JOIN" or _names_a_table(key, before) or (key == "FROM" and _opens(level, len(levels), before)):
        level.in_from = level.awaits_table = True
    elif key in _FROM_IS_OVER:
        level.in_from = level.awaits_table = False
    elif key in _NO_TABLE and key != "LATERAL":
        level.awaits_table = False
    level.first = False


def _names_a_table(key: str, before: Word | None) -> bool:
    """`table db.t` is a query, where one may begin."""
    return key == "TABLE" and (before is None or before.key in {"(", "UNION", "ALL", "EXCEPT", "INTERSECT", "MINUS"})


def _opens(level: _Level, depth: int, before: Word | None) -> bool:
    """Whether this FROM is a clause, not a part of `extract(day from x)` or `is distinct from x`."""
    if before is not None and before.key == "DISTINCT":
        return False
    return level.selects or level.first or depth == 1


def _table(found: Sequence[Word], at: int, catalog: Catalog) -> tuple[Source | str | None, int]:
    """What the name that begins here stands for, and where it ends."""
    name, at = _name(found, at)
    parts = [name]
    while at + 1 < len(found) and found[at].text == "." and found[at + 1].named is not None:
        name, at = _name(found, at + 1)
        parts.append(name)
    if _goes_on(found, at):
        return _UNFILLED, at
    if len(parts) > 1:
        return catalog.table(tuple(parts)), at
    if (given := _arguments(found, at)) is not None:
        return catalog.function(parts[0].lower(), given[0]), given[1]
    return None, at


def _name(found: Sequence[Word], at: int) -> tuple[str, int]:
    """The name that begins here, and where it ends. Spark refuses `a-b` without backticks, but reads it as a name."""
    parts, end = [found[at].named or ""], at + 1
    while len(parts) < LONGEST_ARGUMENTS and _hyphen_and_name(found, end):
        parts.append(found[end + 1].text)
        end += 2
    return "-".join(parts), end


def _hyphen_and_name(found: Sequence[Word], at: int) -> bool:
    return (
        at + 1 < len(found)
        and found[at].text == "-"
        and all(found[side].sort is Sort.NAME for side in (at - 1, at + 1))
        and _touches(found, at)
        and _touches(found, at + 1)
    )


def _touches(found: Sequence[Word], at: int) -> bool:
    """Whether nothing is between this word and the one before."""
    return 0 < at < len(found) and found[at - 1].start + len(found[at - 1].text) == found[at].start


def _goes_on(found: Sequence[Word], at: int) -> bool:
    """Whether the name that ends here is only a part of one, the rest being a placeholder."""
    after = at + 1 if at < len(found) and found[at].text == "." else at
    return after < len(found) and found[after].text in _NO_NAME and _touches(found, after)


def _arguments(found: Sequence[Word], at: int) -> tuple[tuple[str | None, ...], int] | None:
    """The literals between the parentheses that open here, and where they are over; None where none open."""
    if at >= len(found) or found[at].text != "(":
        return None
    depth, groups = 0, [[]]  # type: tuple[int, list[list[Word]]]
    for end, word in enumerate(found[at : at + LONGEST_ARGUMENTS], start=at + 1):
        depth += {"(": 1, ")": -1}.get(word.text, 0) if word.sort is Sort.MARK else 0
        if depth == 0:
            return _literals(groups), end
        if word.text == "," and depth == 1:
            groups.append([])
        elif end > at + 1:
            groups[-1].append(word)
    return (None,), at


def _literals(groups: Sequence[Sequence[Word]]) -> tuple[str | None, ...]:
    """Of each argument; `()` has none."""
    return tuple(_literal(group) for group in groups if group or len(groups) > 1)


def _literal(group: Sequence[Word]) -> str | None:
    return group[0].literal if len(group) == 1 else None
