"""Small values that a source stores by key beside its cursor and that no poll returns again, such as the first name of a job."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, func, select

from collector.ledger import schema
from collector.ledger.schema import clean
from collector.ledger.statements import KEYS, put, rows_of

KEPT = 20_000
"""Keys per source; beyond that the ones noted first are forgotten."""


def read(conn: Connection, source_id: int) -> dict[str, str]:
    """All stored values, oldest first."""
    table = schema.memory
    rows = select(table.c.key, table.c.value).where(table.c.source_id == source_id)
    return dict(conn.execute(rows.order_by(table.c.noted_at, table.c.key)).all())


def note(conn: Connection, source_id: int, kept: Mapping[str, str], now_ms: int) -> None:
    """Store these too; only what is new or changed is written."""
    if not kept:
        return
    wanted = {clean(key, 500): clean(value) for key, value in kept.items()}
    known = _known(conn, source_id, wanted)
    changed = {key: value for key, value in wanted.items() if known.get(key) != value}
    if not changed:
        return
    rows = [
        {"source_id": source_id, "key": key, "value": value, "noted_at": now_ms}
        for key, value in sorted(changed.items())
    ]
    conn.execute(put(conn, schema.memory, ("value", "noted_at")), rows)
    if changed.keys() - known.keys():
        _forget_oldest(conn, source_id)


def _known(conn: Connection, source_id: int, keys: Iterable[str]) -> dict[str, str]:
    table = schema.memory
    stored = select(table.c.key, table.c.value).where(table.c.source_id == source_id, table.c.key.in_(KEYS))
    return dict(rows_of(conn, stored, sorted(keys)))


def _forget_oldest(conn: Connection, source_id: int) -> None:
    table = schema.memory
    of_source = table.c.source_id == source_id
    count = conn.scalar(select(func.count()).where(of_source)) or 0
    if count > KEPT:
        oldest = select(table.c.key).where(of_source).order_by(table.c.noted_at, table.c.key).limit(count - KEPT)
        conn.execute(delete(table).where(of_source, table.c.key.in_(oldest)))
