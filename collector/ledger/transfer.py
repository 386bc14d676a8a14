"""All that a ledger holds written into an empty one, of the other kind or of the same, and compared afterwards.

Both connections are in a transaction that nobody else writes beside. Leases and replicas stay behind, for they belong to
processes; a lease that was not given back leaves its doubt: what its holder sent last is looked at again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, cast, delete, func, insert, select, text
from sqlalchemy.dialects.postgresql import REGCLASS

from collector.errors import LedgerError
from collector.ledger import schema, shard_count
from collector.ledger.leases import BARRED
from collector.ledger.schema import storable

Progress = Callable[[int, int], None]
"""Called with the number of rows copied, and of all rows."""

_AT_ONCE = 200
_TABLES = tuple(table for table in schema.metadata.sorted_tables if table not in {schema.lease, schema.replica})
_MODULUS = 1 << 128


@dataclass(frozen=True, slots=True)
class Content:
    """What a table holds: its rows, and a digest of them that does not depend on their order."""

    rows: int
    digest: str


Contents = dict[str, Content]


def is_empty(conn: Connection) -> bool:
    """Whether nothing was ever written to it by a service."""
    return not any(conn.execute(select(table).limit(1)).first() for table in _TABLES)


def copy(source: Connection, target: Connection, progress: Progress = lambda *_: None) -> Contents:
    """Copy every row and where the numbers go on. Raises `LedgerError` when what is there afterwards is not what was read."""
    total = sum(source.scalar(select(func.count()).select_from(table)) or 0 for table in _TABLES)
    done, read = 0, Contents()
    for table in _TABLES:
        digest = _Digest()
        for rows in _parts(source, table):
            target.execute(insert(table), rows)
            digest.add(rows)
            done += len(rows)
            progress(done, total)
        read[str(table.name)] = digest.content()
        if table.c.get("id") is not None and table.c.id.identity is not None:
            _continue_numbers(source, target, table)
    _copy_doubt(source, target)
    _compare(read, contents(target))
    return read


def contents(conn: Connection) -> Contents:
    """By name of the table."""
    found = Contents()
    for table in _TABLES:
        digest = _Digest()
        for rows in _parts(conn, table):
            digest.add(rows)
        found[str(table.name)] = digest.content()
    return found


class _Digest:
    def __init__(self) -> None:
        self._rows = self._sum = 0

    def add(self, rows: list[dict[str, Any]]) -> None:
        self._rows += len(rows)
        for row in rows:
            one = blake2b(repr(list(row.values())).encode(), digest_size=16)
            self._sum = (self._sum + int.from_bytes(one.digest())) % _MODULUS

    def content(self) -> Content:
        return Content(self._rows, f"{self._sum:032x}")


def _parts(conn: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    rows = conn.execute(select(table).execution_options(yield_per=_AT_ONCE)).mappings()
    for part in rows.partitions():
        yield [{name: _plain(value) for name, value in row.items()} for row in part]


def _plain(value: Any) -> Any:
    """A ledger of an earlier version may hold text that PostgreSQL refuses."""
    return storable(value) if isinstance(value, str) else value


def _continue_numbers(source: Connection, target: Connection, table: Table) -> None:
    """A number that was given once is not given again, though its row is gone."""
    last = max(_last_number(source, table), source.scalar(select(func.max(table.c.id))) or 0)
    if not last:
        return
    if target.dialect.name == "postgresql":
        target.execute(select(func.setval(_numbers(table), last)))
    elif _never_repeats(table):
        target.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table.name})
        row = {"name": table.name, "last": last}
        target.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), row)


def _last_number(conn: Connection, table: Table) -> int:
    if conn.dialect.name == "postgresql":
        return conn.scalar(select(func.pg_sequence_last_value(_numbers(table)))) or 0
    if not _never_repeats(table):
        return 0
    return conn.scalar(text("SELECT seq FROM sqlite_sequence WHERE name = :name"), {"name": table.name}) or 0


def _numbers(table: Table) -> ColumnElement[Any]:
    """Its sequence in PostgreSQL, which a migration may have given another name."""
    return cast(func.pg_get_serial_sequence(table.name, "id"), REGCLASS)


def _never_repeats(table: Table) -> bool:
    return bool(table.dialect_options["sqlite"]["autoincrement"])


def _copy_doubt(source: Connection, target: Connection) -> None:
    table = schema.lease
    kept = select(table).where(table.c.expires_at.between(1, BARRED - 1), table.c.name.contains(":"))
    rows = [{**row, "expires_at": 1} for row in source.execute(kept).mappings()]
    target.execute(delete(table))
    if rows:
        target.execute(insert(table), rows)
    shard_count.bar_older(target)


def _compare(read: Contents, written: Contents) -> None:
    if differ := [name for name in read if read[name] != written[name]]:
        raise LedgerError(f"the copy is not the same in {', '.join(differ)}; nothing was kept of it")
