"""Statements for many keys, which are executed in parts, and rows that are added or replaced."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from sqlalchemy import BindParameter, Connection, Executable, Insert, Table, bindparam
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

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


def in_json(numbers: Iterable[int]) -> str:
    """For `listed`, in order."""
    return orjson.dumps(sorted(numbers)).decode()


class listed(FunctionElement[Any]):  # noqa: N801 - named as the function that it is in a statement
    """Whether a number is in a JSON array: one text and one statement, whatever the length, for less than a parameter each."""

    type = NullType()  # with Boolean SQLite is asked for `(…) = 1`, for which it uses no index
    inherit_cache = True


@compiles(listed)
def _listed_in_sqlite(element: listed, compiler: SQLCompiler, **kw: Any) -> str:
    number, array = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({number} IN (SELECT value FROM json_each({array})))"  # noqa: S608 - no values


@compiles(listed, "postgresql")
def _listed_in_postgres(element: listed, compiler: SQLCompiler, **kw: Any) -> str:
    number, array = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({number} IN (SELECT value::bigint FROM json_array_elements_text({array}::json)))"  # noqa: S608 - no values
