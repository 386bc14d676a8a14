"""The first ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _numbered() -> "sa.Column[int]":
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, sa.Identity(), primary_key=True)


def _part(name: str, kind: "type[sa.Text | sa.Integer | sa.BigInteger]") -> "sa.Column[object]":
    return sa.Column(name, kind, primary_key=True, autoincrement=False)


def _index(name: str, table: str, columns: list[str], where: str | None = None) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    _who()
    _what()
    _owed()
    _asked()
    _counted()


def downgrade() -> None:
    raise NotImplementedError("the ledger is never taken back to an older version")


def _who() -> None:
    op.create_table(
        "source",
        _numbered(),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("cursor", sa.Text),
        sa.Column("polled_at", sa.BigInteger),
        sa.Column("hinted_at", sa.BigInteger),
    )
    op.create_table(
        "sink",
        _numbered(),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("filter", sa.Text, nullable=False),
        sa.Column("since_event", sa.BigInteger, nullable=False),
        sa.Column("until_event", sa.BigInteger),
        sa.Column("unclean_at", sa.BigInteger),
        sa.Column("retired_at", sa.BigInteger),
    )
    op.create_table(
        "lease",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )


def _what() -> None:
    op.create_table(
        "run",
        _numbered(),
        sa.Column("source_id", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("run_uuid", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("strand_id", sa.BigInteger, nullable=False),
        sa.Column("parent_id", sa.BigInteger),
        sa.Column("depth", sa.Integer, nullable=False),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("raw_state", sa.Text),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("last_event_time", sa.BigInteger),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("poll_due_at", sa.BigInteger),
        sa.Column("misses", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("enrich_until", sa.BigInteger),
        sa.Column("abandoned_at", sa.BigInteger),
        sa.Column("detail", sa.Text, nullable=False),
        sa.UniqueConstraint("source_id", "key"),
        sqlite_autoincrement=True,
    )
    _index("run_open", "run", ["source_id", "state", "abandoned_at", "ended_at"], "ended_at IS NULL")
    _index("run_due", "run", ["source_id", "poll_due_at"], "poll_due_at IS NOT NULL")
    _index("run_child", "run", ["parent_id"], "parent_id IS NOT NULL")
    op.create_table(
        "event",
        _numbered(),
        sa.Column("strand_id", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("happened_at", sa.BigInteger, nullable=False),
        sa.Column("fault", sa.Text),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("strand_id", "seq"),
        sqlite_autoincrement=True,
    )


def _owed() -> None:
    op.create_table(
        "lane",
        _part("sink_id", sa.Integer),
        _part("strand_id", sa.BigInteger),
        sa.Column("source_id", sa.Integer, nullable=False),
        sa.Column("next_seq", sa.Integer, nullable=False),
        sa.Column("last_seq", sa.Integer, nullable=False),
        sa.Column("resume_seq", sa.Integer),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("cause", sa.Text),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 80},
    )
    _index("lane_due", "lane", ["sink_id", "due_at", "strand_id"])
    _index("lane_retry", "lane", ["sink_id", "since"], "attempts > 0")
    op.create_table(
        "parked",
        _part("sink_id", sa.Integer),
        _part("strand_id", sa.BigInteger),
        _part("seq", sa.Integer),
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("source_id", sa.Integer, nullable=False),
        sa.Column("parked_at", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("superseded_at", sa.BigInteger),
        sa.Column("retry_at", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "doubt",
        _part("sink_id", sa.Integer),
        _part("run_id", sa.BigInteger),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("check_at", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sqlite_with_rowid=False,
    )
    _index("doubt_due", "doubt", ["sink_id", "check_at"], "check_at IS NOT NULL")


def _asked() -> None:
    op.create_table(
        "request",
        _numbered(),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("done_at", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    _index("request_open", "request", ["target", "id"], "done_at IS NULL")


def _counted() -> None:
    op.create_table(
        "tally",
        _part("source_id", sa.Integer),
        _part("sink_id", sa.Integer),
        sa.Column("pending", sa.BigInteger, nullable=False),
        sa.Column("parked", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "job",
        _part("source_id", sa.Integer),
        _part("name", sa.Text),
        sa.Column("run_key", sa.Text, nullable=False),
        sa.Column("run_uuid", sa.Text, nullable=False),
        sa.Column("run_at", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("succeeded", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("canceled", sa.BigInteger, nullable=False),
        sa.Column("duration_ms_sum", sa.BigInteger, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "skip",
        _part("source_id", sa.Integer),
        _part("kind", sa.Text),
        _part("subject", sa.Text),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
