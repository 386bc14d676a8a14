"""What a source stores by key gets its own table; the names in CDF's cursors move there."""

import json
import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_MEMORY = sa.table("memory", *(sa.column(name) for name in ("source_id", "key", "value", "noted_at")))
_SOURCE = sa.table("source", sa.column("id"), sa.column("cursor"))


def upgrade() -> None:
    op.create_table(
        "memory",
        sa.Column("source_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("noted_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    conn = op.get_bind()
    for source_id, cursor in conn.execute(sa.select(_SOURCE.c.id, _SOURCE.c.cursor)).all():
        _move_names(conn, source_id, cursor)


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")


def _move_names(conn: sa.Connection, source_id: int, cursor: str | None) -> None:
    try:
        kept = json.loads(cursor or "null")
    except ValueError:
        return  # not a cursor with names
    names = kept.pop("names", None) if isinstance(kept, dict) else None
    if not isinstance(names, dict):
        return
    now = time.time_ns() // 1_000_000
    rows = [
        {"source_id": source_id, "key": f"name/{key}", "value": str(name), "noted_at": now}
        for key, name in names.items()
    ]
    if rows:
        conn.execute(sa.insert(_MEMORY), rows)
    conn.execute(sa.update(_SOURCE).where(_SOURCE.c.id == source_id).values(cursor=json.dumps(kept)))
