"""What was left out, stored so that it can be listed: one row per source, kind and subject, limited in number."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, tuple_

from collector.ledger import schema
from collector.ledger.schema import clean
from collector.ledger.statements import KEYS, put, rows_of
from collector.model import Skip

KEPT = 1000
"""Subjects per source; what comes after is only counted, in one row of kind `OVERFLOW`."""
OVERFLOW = "overflow"


@dataclass(frozen=True, slots=True)
class _Seen:
    cause: str
    count: int


_Key = tuple[str, str]


def note(conn: Connection, source_id: int, skips: Sequence[Skip], now_ms: int) -> None:
    """Count these, and keep the last cause of each."""
    seen = _counted(skips)
    if not seen:
        return
    known = _known(conn, source_id, seen)
    room = KEPT - _count(conn, source_id) if len(known) < len(seen) else 0
    new = [key for key in seen if key not in known]
    kept = known | set(new[: max(0, room)])
    rows = {key: one for key, one in seen.items() if key in kept}
    if left_out := sum(one.count for key, one in seen.items() if key not in kept):
        rows[OVERFLOW, "*"] = _Seen(
            f"more than {KEPT} subjects of this source are listed: the rest is counted", left_out
        )
    _write(conn, source_id, rows, now_ms)


def _counted(skips: Sequence[Skip]) -> dict[_Key, _Seen]:
    seen: dict[_Key, _Seen] = {}
    for skip in skips:
        key = (skip.kind.value, clean(skip.subject, 500))
        seen[key] = _Seen(clean(skip.cause), seen[key].count + 1 if key in seen else 1)
    return seen


def _known(conn: Connection, source_id: int, keys: dict[_Key, _Seen]) -> set[_Key]:
    table = schema.skip
    of_keys = table.c.source_id == source_id, tuple_(table.c.kind, table.c.subject).in_(KEYS)
    rows = rows_of(conn, select(table.c.kind, table.c.subject).where(*of_keys), keys)
    return {(kind, subject) for kind, subject in rows}


def _count(conn: Connection, source_id: int) -> int:
    table = schema.skip
    rows = select(func.count()).where(table.c.source_id == source_id, table.c.kind != OVERFLOW)
    return conn.scalar(rows) or 0


def _write(conn: Connection, source_id: int, rows: dict[_Key, _Seen], now_ms: int) -> None:
    values = [
        {
            "source_id": source_id,
            "kind": kind,
            "subject": subject,
            "cause": one.cause,
            "count": one.count,
            "first_at": now_ms,
            "last_at": now_ms,
        }
        for (kind, subject), one in sorted(rows.items())
    ]
    conn.execute(put(conn, schema.skip, ("cause", "last_at"), ("count",)), values)
