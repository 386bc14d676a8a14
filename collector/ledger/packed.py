"""Rows of SQLite as one value, for queries of many short ones.

SQLite's module of Python lets go of the interpreter for each row that it looks for, and takes it again only once the threads that
compute meanwhile let go of it. So a claim of 400 rows beside a busy event loop waited 400 times, and made the loop wait.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Connection, LargeBinary, Select, Text, cast, func, null, select
from sqlalchemy.exc import DataError

Rows = Sequence[Sequence[Any]]


def rows(conn: Connection, query: Select[*tuple[Any, ...]], given: Mapping[str, Any], blob: str | None = None) -> Rows:
    """All rows of a query, in any order, whose columns have different names and are numbers, texts and, at most one, a `blob`."""
    if conn.dialect.name != "sqlite":
        return conn.execute(query, given).all()
    try:
        packed, blobs = conn.execute(_packed(query, blob), given).one()
    except DataError:  # together longer than one value may be, which is 1 GB
        return conn.execute(query, given).all()
    found: list[list[Any]] = orjson.loads(packed)
    if blob is not None:
        _cut(found, list(query.selected_columns.keys()).index(blob), blobs or b"")
    return found


@cache
def _packed(query: Select[*tuple[Any, ...]], blob: str | None) -> Select[str, bytes | None]:
    found = query.subquery()
    columns = [func.length(column) if column.name == blob else column for column in found.c]
    together = null() if blob is None else cast(func.group_concat(cast(found.c[blob], Text), ""), LargeBinary)
    return select(func.json_group_array(func.json_array(*columns)), together)


def _cut(found: list[list[Any]], place: int, blobs: bytes) -> None:
    """Put its part of all blobs where a row has the length of its own."""
    start = 0
    for row in found:
        end = start + row[place]
        row[place] = blobs[start:end]
        start = end
