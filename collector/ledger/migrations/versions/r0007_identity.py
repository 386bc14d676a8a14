"""A source is identified by its account, and a run's UUID is unique."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

import sqlalchemy as sa
from alembic import op

from collector.logs import fields

revision = "0007"
down_revision = "0006"

log = logging.getLogger("lineage.ledger")

_RUN = sa.table(
    "run",
    *(sa.column(name) for name in ("id", "source_id", "key", "run_uuid", "ended_at", "poll_due_at", "detail")),
)
_WATCH = sa.table("watch", sa.column("run_id"))


def upgrade() -> None:
    # as a copy, which PostgreSQL does not need, and whose numbers would begin again there
    recreate: Literal["always", "never"] = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("source", recreate=recreate) as source:
        source.add_column(sa.Column("account", sa.Text))
        source.add_column(sa.Column("lookback_ms", sa.BigInteger))
        source.add_column(sa.Column("retired_at", sa.BigInteger))
    conn = op.get_bind()
    for life in _second_lives(conn):
        _close(conn, life)
    op.create_index("run_id", "run", ["run_uuid"], unique=True)


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")


def _second_lives(conn: sa.Connection) -> "Iterator[sa.Row[tuple[object, ...]]]":
    """All but the first of the runs that have one UUID: two sources watched their account."""
    twice = sa.select(_RUN.c.run_uuid).group_by(_RUN.c.run_uuid).having(sa.func.count() > 1)
    rows = sa.select(_RUN).where(_RUN.c.run_uuid.in_(twice)).order_by(_RUN.c.id)
    seen = set()
    for row in conn.execute(rows).all():
        if row.run_uuid in seen:
            yield row
        seen.add(row.run_uuid)


def _close(conn: sa.Connection, life: "sa.Row[tuple[object, ...]]") -> None:
    """Keep the row for its events and children, as an ended run, with a key and an id that no platform uses."""
    now = datetime.now(UTC)
    run_uuid = str(uuid5(NAMESPACE_URL, f"{life.run_uuid}/{life.id}"))
    key = f"{life.key}~{life.id}"
    values: dict[str, str | int | None] = {"key": key, "run_uuid": run_uuid, "poll_due_at": None}
    if life.ended_at is None:
        values["ended_at"] = int(now.timestamp() * 1000)
    conn.execute(sa.delete(_WATCH).where(_WATCH.c.run_id == life.id))
    conn.execute(sa.update(_RUN).where(_RUN.c.id == life.id).values(values | _detail(life, key, run_uuid, now)))
    details = fields(
        run_id=life.run_uuid, key=life.key, cause="two sources had this run; the first one continues with it"
    )
    log.warning("run.duplicate_closed", extra=details)


def _detail(life: "sa.Row[tuple[object, ...]]", key: str, run_uuid: str, now: datetime) -> dict[str, str]:
    try:
        kept = json.loads(str(life.detail))
        run = kept["run"]
        ended = run.get("ended_at") or now.isoformat()
        run.update(key=key, run_id=run_uuid, ended_at=ended)
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}  # it could not be read before either
    return {"detail": json.dumps(kept, ensure_ascii=False)}
