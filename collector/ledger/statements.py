"""Statements for many keys, which are executed in parts, and rows that are added or replaced."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import BindParameter, Connection, Executable, Insert, Table, bindparam
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

AT_ONCE = 500
"""Values in one IN list: the plan stays the same and both databases take it."""
KEYS: BindParameter[Any] = bindparam("keys", expanding=True)
"""Those of `rows_of` and `changed` in a statement: `column.in_(KEYS)`."""

T = TypeVar("T")


def chunks(values: Iterable[T], most: int = AT_ONCE) -> Iterator[Sequence[T]]:
    """The values in parts of `most`, for queries on many rows."""
    rest = iter(values)
    while chunk := list(islice(rest, most)):
        yield chunk


def rows_of(conn: Connection, statement: Executable, keys: Iterable[Any], **given: Any) -> Iterator[Any]:
    """The rows that a statement with `KEYS` finds of all these; `given` are the values of its other parameters."""
    for some in chunks(keys):
        yield from conn.execute(statement, {"keys": some, **given})


def changed(conn: Connection, statement: Executable, keys: Iterable[Any], **given: Any) -> int:
    """How many rows a statement with `KEYS` changed or removed of all these."""
    return sum(conn.execute(statement, {"keys": some, **given}).rowcount for some in chunks(keys))


def upsert(dialect: str, table: Table) -> "sqlite.Insert | postgresql.Insert":
    """INSERT with `on_conflict_do_update` and `on_conflict_do_nothing`. Slow to build, so reuse the result."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - 0.1 s and 5 MiB that a file does not need

        return postgresql.insert(table)
    return sqlite.insert(table)


def put(conn: Connection, table: Table, replaced: tuple[str, ...], added: tuple[str, ...] = ()) -> Insert:
    """INSERT that changes a row with the same key instead: some columns are `replaced`, to some is `added`."""
    return _put(conn.dialect.name, table, replaced, added)


@cache
def _put(dialect: str, table: Table, replaced: tuple[str, ...], added: tuple[str, ...]) -> Insert:
    statement = upsert(dialect, table)
    new = {name: statement.excluded[name] for name in replaced}
    more = {name: table.c[name] + statement.excluded[name] for name in added}
    key = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=key, set_={**new, **more})
