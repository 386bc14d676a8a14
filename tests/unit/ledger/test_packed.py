"""Rows that SQLite returns as one value are those that it would return one by one."""

import sqlite3
from typing import Any

from sqlalchemy import Connection, insert, select

from collector.ledger import packed, schema
from tests.unit.ledger.ledgers import Ledger

_BODIES = (b"", b"{}", "\u00fc\u20ac".encode(), b"a\0b", b"\xff\xfe", b"x" * 3000, b"y" * 3000)
_EVENTS = select(schema.event.c.strand_id, schema.event.c.seq, schema.event.c.fault, schema.event.c.body)


def filled(ledger: Ledger) -> Connection:
    given = {"strand_id": 10**15, "run_id": 1, "kind": "START", "created_at": 1, "happened_at": 1}
    faults = (None, '"quoted", ü\n')
    rows = [{**given, "seq": n, "fault": faults[n % 2], "body": body} for n, body in enumerate(_BODIES)]
    ledger.conn.execute(insert(schema.event), rows)
    return ledger.conn


def one_by_one(conn: Connection) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in conn.execute(_EVENTS))


def test_they_are_the_same_on_both_databases(ledger: Ledger) -> None:
    conn = filled(ledger)
    found = packed.rows(conn, _EVENTS, {}, "body")
    assert sorted(tuple(row) for row in found) == one_by_one(conn)
    assert len(found) == len(_BODIES)


def test_without_a_row_there_is_none(ledger: Ledger) -> None:
    assert list(packed.rows(ledger.conn, _EVENTS, {}, "body")) == []
    assert list(packed.rows(ledger.conn, select(schema.lane.c.strand_id), {})) == []


def test_what_is_too_long_for_one_value_comes_row_by_row(sqlite_ledger: Ledger) -> None:
    conn = filled(sqlite_ledger)
    raw: Any = conn.connection.dbapi_connection
    raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5100)
    found = packed.rows(conn, _EVENTS, {}, "body")
    assert sorted(tuple(row) for row in found) == one_by_one(conn)
    assert max(len(row[3]) for row in found) == 3000
